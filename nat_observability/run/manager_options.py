"""ManagerOptions: what the managers of one process have in common, such as timeouts and required exporters."""

from __future__ import annotations

from typing import Protocol

import msgspec

from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.run.span_group import MembersCache


class RunObserver(Protocol):
    """Is called when a run begins or ends, or no exporter selects it, and for a manager's exporters: the runtime."""

    def run_started(self) -> None: ...

    def run_left_out(self, run_id: str) -> None: ...

    def run_ended(self) -> None: ...

    def registry_for(self, registry: dict[str, BaseExporter]) -> dict[str, BaseExporter]: ...


class ManagerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the managers of one process have in common, but for their exporters. Timeouts are in seconds.

    `propagate_tags` are the names of the tags that travel in the baggage of messages and requests, both ways.
    """

    shutdown_timeout: float = 120
    start_timeout: float = 10.0
    required: frozenset[str] = frozenset()
    observer: RunObserver | None = None
    propagate_tags: tuple[str, ...] = ()
    members: MembersCache = msgspec.field(default_factory=MembersCache)
