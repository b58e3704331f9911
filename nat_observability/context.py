"""ContextState: the state of one run, ours or adopted from another framework, and which one is current."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import Any, Protocol, cast

from nat_observability.errors import UnknownContextStateError
from nat_observability.events import Run
from nat_observability.propagation.baggage import header_of
from nat_observability.propagation.headers import inject_headers
from nat_observability.propagation.ids import new_run_id, new_span_id
from nat_observability.propagation.traceparent import defined_flags, is_trace_id, parse_traceparent
from nat_observability.propagation.tracestate import passed_on
from nat_observability.recording import bridge
from nat_observability.recording.capture import capture_label
from nat_observability.recording.enclosing_step import Scope, enclosing
from nat_observability.stream import EventStream

# By the full name of the framework's class: the module and the name of the function that adopts its objects. Named
# and not imported, because the core imports no framework; the first such object imports the integration.
_ADAPTERS = {"nat.builder.context.ContextState": ("nat_observability.integrations.nat", "adopt")}
# By the package in which a framework's exporters are: the module and the class of its context state.
_STATES = {"nat": ("nat.builder.context", "ContextState")}


class CurrentScope(Scope, Protocol):
    """What the ContextVar holds: a run, or a step."""

    @property
    def _state(self) -> ContextState | None: ...  # None for a step that has not begun


CLOCK_JUMP_NS = 1_000_000_000
"""How far the wall clock may be ahead of a run's before a step makes the run's follow."""

current: ContextVar[CurrentScope | None] = ContextVar("nat_observability_current", default=None)


def current_scope() -> CurrentScope | None:
    """Return the innermost run or step around the calling code."""
    head = current.get()
    state = head._state if head is not None else None
    if head is None or state is None:
        return head
    return enclosing(head, state.generator_steps, sys._getframe(1))


class ContextState:
    """
    The state of one run: its ids and its stream of steps.

    Args:
        run_id: Unique name of the run; a random UUID by default.
        trace_id: 32 lower-case hex digits; by default that of `traceparent`, else a new one.
        conversation_id: What several runs of one conversation or session share.
        user_id: On whose behalf the run works.
        workflow_name: What is run.
        traceparent: W3C header of the caller, whose trace this run continues. A malformed one starts a new trace.
        tags: Names and values that every step and span of the run carries along: the tenant, the route, the plan.
        tracestate: W3C header of the caller, which is passed on to those whom this run calls. Without a valid
            `traceparent`, or malformed, it is ignored.
        baggage: W3C header of the caller, or names and values, which is passed on too.

    Attributes:
        failed: Whether the run has failed; the manager sets it if the run's block raises. An integration sets it before
            the block ends if a failure is not an exception there: a response with the status 500, for example.
        step_id: What a step at the top of the run has for a parent: the caller's span, if there is one.
        clock_offset_ns: Nanoseconds from `time.perf_counter_ns()` to the epoch. It grows when a step finds the wall
            clock more than `CLOCK_JUMP_NS` ahead, because that was set or the machine has slept, and never shrinks.
        tracestate: What is passed on of the caller's; None if there is nothing.
        carried_baggage: The same of its baggage, as a header; empty if there is nothing.
        propagated_tags: Names of the tags that travel to those whom the run calls; the manager sets them.
        sampled: Whether any exporter takes the run; None as long as no exporter has decided.
        generator_steps: The open steps that were opened in generators' frames, outermost first; kept by `step`.

    Raises:
        TypeError: `tags` is not a mapping, or `baggage` neither text nor a mapping.
        ValueError: `trace_id` is not 32 lower-case hex digits, or all zero.
    """

    __slots__ = (
        "_flags",
        "_span_id",
        "carried_baggage",
        "clock_offset_ns",
        "failed",
        "generator_steps",
        "propagated_tags",
        "run",
        "sampled",
        "step_id",
        "stream",
        "tracestate",
    )

    _parent = _previous = _generator = None  # as a Scope: nothing is around a run
    _closed = False

    def __init__(
        self,
        *,
        run_id: str | None = None,
        trace_id: str | None = None,
        conversation_id: str | None = None,
        user_id: str | None = None,
        workflow_name: str | None = None,
        traceparent: str | None = None,
        tags: Mapping[str, str] | None = None,
        tracestate: str | None = None,
        baggage: str | Mapping[str, str] | None = None,
    ) -> None:
        if bridge.installed is not None and trace_id is None and traceparent is None:
            traceparent = bridge.installed.traceparent()
        parent_span_id, self._flags = None, "01"
        if trace_id is not None and not is_trace_id(trace_id):
            raise ValueError(
                "trace_id is 32 lower-case hex digits, not all zero (W3C Trace Context, section 3.2.2.3)."
            )
        if traceparent is not None and (link := parse_traceparent(traceparent)) is not None:
            linked_trace, linked_span, flags = link
            if trace_id is None or trace_id == linked_trace:
                trace_id, parent_span_id = linked_trace, linked_span
                self._flags = defined_flags(flags)
        self.tracestate = (
            passed_on([tracestate]) if tracestate is not None and parent_span_id is not None else None
        )
        self.carried_baggage = "" if not baggage else _carried(baggage)
        self.propagated_tags: Collection[str] = ()
        self.sampled: bool | None = None
        self.run = Run(
            new_run_id() if run_id is None or run_id == "" else capture_label(run_id),
            trace_id or new_span_id() + new_span_id(),
            conversation_id if conversation_id is None else capture_label(conversation_id),
            user_id if user_id is None else capture_label(user_id),
            workflow_name if workflow_name is None else capture_label(workflow_name),
            parent_span_id,
            () if tags is None else _run_tags(tags),
        )
        self.stream = EventStream()
        self.failed = False
        self._span_id = self.step_id = parent_span_id
        self.clock_offset_ns = time.time_ns() - time.perf_counter_ns()
        self.generator_steps: dict[FrameType, list[CurrentScope]] = {}

    @classmethod
    def current(cls) -> ContextState | None:
        """Return the state of the run that the calling code belongs to, None outside every run."""
        scope = current.get()
        return scope._state if scope is not None else None

    @property
    def _state(self) -> ContextState:
        return self

    @property
    def caller_sampled(self) -> bool | None:
        """Whether the caller records the trace that this run continues, by its `traceparent`; None without a caller."""
        return None if self.run.parent_span_id is None else bool(int(self._flags, 16) & 1)

    @property
    def traceparent(self) -> str:
        """
        The W3C header for calls to other services: this run's trace, the step that runs now as the parent.

        Its flag says whether the run is sampled: whether an exporter takes it, or, if none has decided, what the caller
        said.
        """
        scope = current.get()
        span_id = scope.step_id if scope is not None and scope._state is self else None
        flags, sampled = self._flags, self.sampled
        if sampled is not None:
            flags = f"{int(flags, 16) & 0xFE | sampled:02x}"
        return f"00-{self.run.trace_id}-{span_id or self.span_id}-{flags}"

    @property
    def span_id(self) -> str:
        """What a call to another service has for a parent at the top of the run: the caller's span, or a new id."""
        if self._span_id is None:
            self._span_id = new_span_id()
        return self._span_id

    @property
    def trace_flags(self) -> int:
        """The W3C trace flags in `traceparent`."""
        flags = int(self._flags, 16)
        return flags if self.sampled is None else flags & 0xFE | self.sampled

    def now_ns(self) -> int:
        """Return nanoseconds since the epoch by a clock that never goes back during the run."""
        return time.perf_counter_ns() + self.clock_offset_ns

    def follow_wall_clock(self) -> int:
        """Move the clock of the run forward to the wall clock, never back; return what `now_ns` does."""
        now_ns = time.perf_counter_ns()
        self.clock_offset_ns = max(self.clock_offset_ns, time.time_ns() - now_ns)
        return now_ns + self.clock_offset_ns

    @contextmanager
    def attach(self) -> Iterator[ContextState]:
        """Make this the current run for a block, in a thread of your own for example, without any exporter."""
        previous = enter_run(self)
        try:
            yield self
        finally:
            leave_run(self, previous)

    def __repr__(self) -> str:
        return f"ContextState(run_id={self.run.run_id!r}, trace_id={self.run.trace_id!r})"


def enter_run(state: ContextState) -> CurrentScope | None:
    """Make `state` current in the calling context; return what was current before, for `leave_run`."""
    previous = current.get()
    current.set(state)
    if bridge.installed is not None:
        bridge.installed.on_run_enter(state)
    return previous


def leave_run(state: ContextState, previous: CurrentScope | None) -> None:
    """Make `previous` current again, if the calling context is still inside `state`."""
    # A run may be left in another context than it was entered in (a generator fixture, a task that finishes the
    # work of another): that context never saw the run, and a ContextVar token would raise there.
    scope = current.get()
    if scope is not None and scope._state is state:
        current.set(previous)
        if bridge.installed is not None:
            bridge.installed.on_run_exit(state)


class Inside:
    """
    Makes a scope, or what is open inside it, current while a generator runs, and only then.

    It is entered each time the generator runs.
    """

    __slots__ = ("_inside", "_outside")

    def __init__(self, scope: CurrentScope) -> None:
        self._inside: CurrentScope | None = scope
        self._outside: CurrentScope | None = None

    def __enter__(self) -> None:
        self._outside = current.get()
        current.set(self._inside)

    def __exit__(self, *exc_info: object) -> None:
        self._inside = current.get()
        current.set(self._outside)


def outgoing_headers(state: ContextState | None = None) -> dict[str, str]:
    """
    Return the headers that a call to another service carries: `traceparent`, `tracestate` and `baggage`.

    The receiver continues the trace below the step that runs now, and knows conversation, user and propagated tags.
    Outside a run there are none. It never raises.

    Args:
        state: The run that calls; the current one by default.
    """
    headers: dict[str, str] = {}
    state = state or ContextState.current()
    if state is not None:
        inject_headers(headers, state)
    return headers


class AdoptedState(ContextState):
    """
    The state of a run whose ids and steps come from another framework.

    An integration derives from it; the core knows no more of the framework than this.
    """

    __slots__ = ()

    def ended(self, error: BaseException | None) -> None:
        """
        End what the framework leaves open; the exporters still take steps.

        Never raises.

        Args:
            error: What the run's block raised, None if it raised nothing.
        """


class _Adapter(Protocol):
    def __call__(self, foreign: object) -> AdoptedState: ...


def run_state(given: object) -> ContextState:
    """
    Return the run that a context state stands for: itself, if it is ours.

    Another framework's context state gives the same run each time, as long as that run lasts. A test's stand-in for
    either (`Mock(spec=ContextState)`) has no run, and gives a new one.

    Raises:
        UnknownContextStateError: A TypeError; no supported framework has such a context state.
        UnsupportedVersionError: It comes from an unsupported version of its framework.
    """
    # A stand-in's `__class__` says what it stands for; so does that of a proxy of a run, which has the run.
    stands_for = given.__class__
    if issubclass(stands_for, ContextState):
        state = cast(ContextState, given)
        return state if type(given) is stands_for or type(state.run) is Run else ContextState()
    found = _adapter(stands_for)
    if found is None:
        raise UnknownContextStateError(given, _ADAPTERS)
    if type(given) is not stands_for:
        return ContextState()
    module, function = found
    return cast(_Adapter, getattr(importlib.import_module(module), function))(given)


def framework_state(kind: type) -> Any:
    """Return the current context state of the framework that an exporter's class belongs to, None if there is none."""
    for each in kind.__mro__:
        if (found := _STATES.get(each.__module__.partition(".")[0])) is not None:
            module, name = found
            return getattr(importlib.import_module(module), name).get()
    return None


def _adapter(kind: type) -> tuple[str, str] | None:
    for each in kind.__mro__:
        if (found := _ADAPTERS.get(f"{each.__module__}.{each.__qualname__}")) is not None:
            return found
    return None


def _carried(baggage: str | Mapping[str, str]) -> str:
    if isinstance(baggage, str):
        return baggage
    if not isinstance(baggage, Mapping):
        raise TypeError(f"baggage is a header or a mapping, not of type {type(baggage).__name__}.")
    return header_of({capture_label(name): capture_label(value) for name, value in baggage.items()})


def _run_tags(tags: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    if not isinstance(tags, Mapping):
        raise TypeError(f"tags is a mapping of names to values, not of type {type(tags).__name__}.")
    return tuple(sorted({capture_label(name): capture_label(value) for name, value in tags.items()}.items()))
