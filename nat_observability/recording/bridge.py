"""TracerBridge: keeps another tracer's idea of what is current in step with ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import FrameType
from typing import Protocol

from nat_observability.events import Run
from nat_observability.recording.enclosing_step import Scope
from nat_observability.stream import EventStream


class TracedRun(Scope, Protocol):
    """A run, as a bridge sees it: a `ContextState`."""

    run: Run
    stream: EventStream

    @property
    def span_id(self) -> str: ...
    @property
    def trace_flags(self) -> int: ...
    @property
    def generator_steps(self) -> Mapping[FrameType, Sequence[Scope]]: ...
    def now_ns(self) -> int: ...


class TracerBridge(Protocol):
    """
    Another tracing system, which is notified of each run and step that becomes current. No method may raise.

    The methods are called on the thread, and in the context, of the code that enters a run or a step, or leaves it.
    """

    def traceparent(self) -> str | None:
        """Return the W3C header of the other tracer's current span, which a run without a caller continues."""
        ...

    def innermost(self, run: TracedRun, scope: Scope) -> Scope:
        """Return the parent of a step that begins here: `scope`, or a span of the other tracer's inside it."""
        ...

    def on_run_enter(self, run: TracedRun) -> None:
        """Handle that a run has become current."""
        ...

    def on_run_exit(self, run: TracedRun) -> None:
        """Handle that a run, entered in this context, is no longer current."""
        ...

    def on_step_enter(self, run: TracedRun, step: Scope) -> None:
        """Handle that a step has become current."""
        ...

    def on_step_exit(self, run: TracedRun, step: Scope, *, in_generator: bool) -> None:
        """
        Handle that a step, entered in this context, is no longer current.

        Args:
            in_generator: Whether it was opened in a generator's own frame, which may run again in another context.
        """
        ...

    def around_generator(
        self, run: TracedRun, step: Scope, running: AbstractContextManager[None]
    ) -> AbstractContextManager[None]:
        """Return `running`, entered each time a decorated generator runs, with the other tracer's part around it."""
        ...


installed: TracerBridge | None = None


def install(bridge: TracerBridge | None) -> None:
    """Make `bridge` the process's only one from now on; None removes it."""
    global installed
    installed = bridge
