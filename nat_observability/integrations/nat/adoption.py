"""adopt(): a run of the reference toolkit as one of ours, NatState."""

from __future__ import annotations

import importlib.metadata
from typing import cast

import msgspec

from nat_observability.context import AdoptedState
from nat_observability.errors import UnsupportedVersionError
from nat_observability.integrations.nat.adopted_runs import adopted_runs
from nat_observability.integrations.nat.stream import NatStream
from nat_observability.integrations.nat.toolkit_state import ToolkitState
from nat_observability.recording.capture import capture_label
from nat_observability.sinks.otlp.span_message import span_id_bytes

PACKAGE = "nvidia-nat-core"
SUPPORTED = ">=1.5,<2"
"""Versions of the toolkit that this integration works with."""

_NEEDED = tuple(name for name in vars(ToolkitState) if not name.startswith("_"))


def adopt(foreign: object) -> AdoptedState:
    """
    Return the run of the toolkit that the calling context is in; each time the same one, while it lasts.

    Raises:
        UnsupportedVersionError: The toolkit's version has another context state.
    """
    if missing := [name for name in _NEEDED if not hasattr(foreign, name)]:
        raise UnsupportedVersionError(PACKAGE, _version(), SUPPORTED, missing)
    toolkit = cast(ToolkitState, foreign)
    return adopted_runs.get_or_adopt(toolkit.event_stream.get(), lambda: NatState(toolkit))


class NatState(AdoptedState):
    """
    One run of the toolkit, under the ids that it has there.

    The steps that the toolkit pushes come to our exporters, and those that `step` records go to the toolkit's
    subscribers too; each nests in the other.
    """

    __slots__ = ("__weakref__",)

    stream: NatStream

    def __init__(self, toolkit: ToolkitState) -> None:
        run_id, conversation_id = toolkit.workflow_run_id.get(), toolkit.conversation_id.get()
        super().__init__(
            run_id=None if run_id is None else capture_label(run_id),
            trace_id=_trace_id(toolkit.workflow_trace_id.get()),
            conversation_id=conversation_id,
            user_id=toolkit.user_id.get(),
        )
        if parent_id := toolkit.workflow_parent_id.get():
            self.run = msgspec.structs.replace(self.run, parent_span_id=capture_label(parent_id))
        self.stream = NatStream(self, toolkit)

    @property
    def step_id(self) -> str | None:
        """
        The toolkit's step that is open here, under the 16 hex digits that OTLP exporters give it.

        It encloses a step of ours that no other step of ours does.
        """
        enclosing = self.stream.enclosing()
        return None if enclosing is None else span_id_bytes(enclosing).hex()

    @step_id.setter
    def step_id(self, caller: str | None) -> None:
        """Nothing: what encloses a step is the toolkit's to say, from step to step."""

    @property
    def traceparent(self) -> str:
        """The W3C header, with the step that runs now as the parent, be it ours or the toolkit's."""
        version, trace_id, step_id, flags = super().traceparent.split("-")
        step_id = span_id_bytes(self.stream.innermost(step_id)).hex()
        return f"{version}-{trace_id}-{step_id}-{flags}"

    def ended(self, error: BaseException | None) -> None:
        """End what the toolkit has left open where the run's end tells how it ended: see `NatStream.end_workflow`."""
        self.stream.end_workflow(error)
        self.stream.let_go()


def _trace_id(number: object) -> str | None:
    return f"{number:032x}" if isinstance(number, int) and 0 < number < 1 << 128 else None


def _version() -> str:
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return "of an unknown version"
