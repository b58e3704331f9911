"""replay(): the runs of a recorded event stream, each through its own manager, many at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator

import msgspec

from nat_observability.cli.replay.event_file import EventFile, RecordedRun
from nat_observability.cli.replay.pace import Pace
from nat_observability.cli.replay.span_counts import RunCounts, SpanCounts
from nat_observability.cli.session import Session
from nat_observability.context import ContextState
from nat_observability.events import Boundary
from nat_observability.exporter.span_exporter import SpanExporter
from nat_observability.runtime import ObservabilityRuntime

_COUNTER = "REPLAY"  # the settings' names are in lower case


class Replayed(msgspec.Struct, frozen=True):
    """
    What a replay did.

    `counts` come from the spans that went through an exporter of the same kind as the configured ones; `steps` is the
    number of lines published; `spans` the number of spans that this exporter received, repeated ones included;
    `accepted` what each configured exporter received, by the runs' own ledgers; `oddities` what was odd.
    """

    steps: int
    spans: int
    accepted: dict[str, int]
    counts: RunCounts
    oddities: dict[str, int]


class RecordedState(ContextState):
    """The state of a replayed run: its clock is that of the recording, and stands at the last step."""

    __slots__ = ("last_ns",)

    def __init__(self, recorded: RecordedRun) -> None:
        try:
            super().__init__(run_id=recorded.run_id, trace_id=recorded.trace_id)
        except ValueError:  # not a W3C trace id: the run gets a new one
            super().__init__(run_id=recorded.run_id)
        self.run = msgspec.structs.replace(
            self.run,
            conversation_id=recorded.conversation_id,
            workflow_name=recorded.name,
            parent_span_id=recorded.parent_span_id,
        )
        self.last_ns = 0

    def now_ns(self) -> int:
        return self.last_ns


async def replay(
    file: EventFile,
    session: Session,
    *,
    concurrency: int = 50,
    advance: Callable[[int], object] = lambda _: None,
) -> Replayed:
    """
    Publish every step of an indexed file in the stream of its run, and return what went through.

    Each run has a `ContextState` with the recorded ids, and a manager with the session's exporters. The steps of a run
    keep their order. If an exporter falls behind, the replay waits, so that no queue overflows.

    Args:
        file: An open and indexed file.
        session: An open session; when the caller closes it, what is queued is delivered.
        concurrency: The number of runs replayed at once.
        advance: Called with the number of steps published since the last call.
    """
    return await _Replay(file, session, advance).run(concurrency)


class _Replay:
    def __init__(self, file: EventFile, session: Session, advance: Callable[[int], object]) -> None:
        self._file = file
        self._session = session
        self._advance = advance
        self._counts = SpanCounts()
        # The end of a run waits until its spans are counted.
        self._counter = SpanExporter(self._counts.take, name=_COUNTER, flush="delivered")
        self._pace = Pace([*session.deliveries.values(), self._counter.delivery])
        self._steps = 0
        self._accepted: Counter[str] = Counter()
        self._oddities: Counter[str] = Counter()

    async def run(self, concurrency: int) -> Replayed:
        left = iter(self._file.runs)
        try:
            async with ObservabilityRuntime({_COUNTER: self._counter}), asyncio.TaskGroup() as group:
                for _ in range(min(concurrency, len(self._file.runs))):
                    group.create_task(self._work(left))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None  # the first one is why the others were cancelled
        spans = self._accepted.pop(_COUNTER, 0)
        return Replayed(
            self._steps,
            spans,
            dict(self._accepted),
            self._counts.counts(),
            dict(sorted(self._oddities.items())),
        )

    async def _work(self, left: Iterator[RecordedRun]) -> None:
        # All workers share one iterator: each takes the next run when it has finished one.
        for recorded in left:
            state = RecordedState(recorded)
            manager = self._session.manager()
            manager.add_exporter(_COUNTER, self._counter, required=True)
            unended: set[str] = set()
            try:
                async with manager.start(state):
                    await self._publish(recorded, state, unended)
                    # Each becomes a span when the run ends, all at the same moment.
                    await self._pace.reserve(len(unended))
            finally:
                self._pace.release(len(unended))
            self._counts.finish(state.run)
            for name, report in manager.report.exporters.items():
                if report.ledger is not None:
                    self._accepted[name] += report.ledger.accepted
                if name == _COUNTER:
                    self._oddities.update(report.oddities)

    async def _publish(self, recorded: RecordedRun, state: RecordedState, unended: set[str]) -> None:
        published = 0
        while published < len(recorded):
            steps = await asyncio.to_thread(self._file.steps, recorded, published, state.run)
            for step in steps:
                await self._pace.keep()
                state.last_ns = max(state.last_ns, step.time_ns)
                state.stream.publish(step)
                if step.boundary is Boundary.START:
                    unended.add(step.step_id)
                elif step.boundary is Boundary.END:
                    unended.discard(step.step_id)
            published += len(steps)
            self._steps += len(steps)
            self._advance(len(steps))
