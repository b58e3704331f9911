"""RunContext: one run of a manager, from the start of its exporters to their stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from types import MappingProxyType, TracebackType
from typing import Any, Generic, TypeVar

from nat_observability.context import AdoptedState, ContextState, enter_run, leave_run, run_state
from nat_observability.errors import ExporterEndedEarlyError, ExporterStartError, ManagerRunningError
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter.span_exporter import SpanExporter
from nat_observability.exporter.step_exporter import StepExporter
from nat_observability.foreign_errors import describe, reraise_signal
from nat_observability.logs import get_logger
from nat_observability.recording.stray_steps import (
    report_unrecorded_run,
    run_closed,
    run_opened,
)
from nat_observability.run.exporter_record import ExporterRecord, log_ends
from nat_observability.run.foreign_readiness import Readiness
from nat_observability.run.isolation import isolate, traits
from nat_observability.run.lifecycle import INTERRUPTIONS, Lifecycle, runs_in
from nat_observability.run.report import FlushReceipt, ManagerReport
from nat_observability.run.run_slot import RunSlot
from nat_observability.run.span_group import MemberSubscription, SpanGroup
from nat_observability.system import clock

ManagerT = TypeVar("ManagerT")

_NONE: Mapping[str, SpanExporter] = MappingProxyType({})
_PATIENCE = 1.0  # seconds in which a disk has usually written what a run's end waits for
_log = get_logger()


class RunContext(Generic[ManagerT]):
    """
    The context manager that `ExporterManager.start` returns: one run, from its exporters' start to their stop.

    Args:
        manager: The manager that the block gets.
        slot: The manager's place for one run at a time.
        run_exporter: Runs one exporter in a task of its own.
        given: The context state of the run; None for a new one, and exporters that are used as they are.

    Attributes:
        group: The exporters that take part as one; None if there are none.
        state: The run's.
    """

    __slots__ = (
        "_adopted",
        "_began_at",
        "_feeds",
        "_given",
        "_lifecycle",
        "_loop",
        "_manager",
        "_members",
        "_previous",
        "_run_exporter",
        "_slot",
        "_started_s",
        "_stopped_s",
        "_talkative",
        "group",
        "isolated_exporters",
        "registry",
        "state",
    )

    def __init__(
        self,
        manager: ManagerT,
        slot: RunSlot[RunContext[Any]],
        run_exporter: Callable[[str, BaseExporter], Coroutine[Any, Any, None]],
        given: ContextState | None,
    ) -> None:
        self._run_exporter: Callable[[str, BaseExporter], Coroutine[Any, Any, None]] | None = run_exporter
        self._manager: ManagerT | None = manager
        self._slot: RunSlot[RunContext[Any]] | None = slot
        self._given = given
        self._adopted: AdoptedState | None = None
        self._started_s: float | None = None
        self._stopped_s: float | None = None
        self._talkative = False  # whether its start and its end are logged
        self._members = _NONE  # those of the group that have no record of their own
        self._lifecycle: Lifecycle | None = None
        self.group: SpanGroup | None = None
        self.isolated_exporters: dict[str, BaseExporter] = {}

    @property
    def lifecycle(self) -> Lifecycle:
        """The exporters that take part one by one. Made on first use: hardly any run needs it."""
        if self._lifecycle is None:
            self._lifecycle = Lifecycle({}, self._loop, self._began_at)
            if self._stopped_s is not None:
                self._lifecycle.ending_at = self._began_at
        return self._lifecycle

    @property
    def isolated(self) -> bool:
        """Whether the exporters are isolated instances, and not the registered ones."""
        return self._given is not None

    async def __aenter__(self) -> ManagerT:
        slot, manager = self._slot, self._manager
        if slot is None or manager is None:
            raise RuntimeError("This run has ended. Call start() again for another one.")
        if slot.running:
            raise ManagerRunningError
        if not slot.take_at_once():
            slot.renew_lock()
            await slot.take()
        try:
            if slot.running:
                raise ManagerRunningError
            self._prepare(slot)
            try:
                self._begin(slot)
                if self._lifecycle is not None:
                    await self._lifecycle.started(slot.options.start_timeout)
                self._started(slot)
            except BaseException as error:
                slot.running = False
                interruption = await self._end(slot, hurried=not isinstance(error, ExporterStartError))
                leave_run(self.state, self._previous)
                if interruption is not None and isinstance(error, ExporterStartError):
                    raise interruption from error
                raise
        finally:
            slot.give_back()
        return manager

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is not None and not isinstance(exc, GeneratorExit):
            self.state.failed = True
        if self._adopted is not None:
            self._adopted.ended(exc)
        leave_run(self.state, self._previous)
        await self.stop()

    async def stop(self) -> None:
        """Stop this run's exporters; see `ExporterManager.stop`."""
        slot = self._slot
        if slot is None:
            return
        if self._lifecycle is not None:
            # A stop during the start does not wait for those that have not started.
            self._lifecycle.give_up_starting()
        if not slot.take_at_once():
            await slot.take()
        try:
            if self._slot is None or slot.run is not self:
                return  # another task stopped it while this one waited
            slot.running = False
            interruption = await self._end(slot)
        finally:
            slot.give_back()
        if interruption is not None:
            raise interruption

    def tasks(self) -> dict[str, asyncio.Task[None]]:
        """Return the tasks of the exporters that have not ended, by name; see `ExporterManager._tasks`."""
        slot = self._slot
        tasks: dict[str, asyncio.Task[None]] = {}
        if slot is None:
            return tasks
        self.single_out()
        lifecycle = self.lifecycle
        for name, record in lifecycle.records.items():
            task = record.task
            if record.ended_at is not None:
                continue
            if task is None and lifecycle.is_in_its_loop:
                task = self._begin_task(name, record.exporter)
            if task is not None:
                tasks[name] = task
        return tasks

    async def clean_up(self, record: ExporterRecord) -> None:
        """Stop an isolated instance of this run, once; what it raises is in the record."""
        exporter = record.exporter
        # An exporter that could not isolate itself is used by other runs too.
        own = self.isolated and self.registry.get(record.name) is not exporter
        if own and not record.cleaned_up and traits(type(exporter)).stops:
            record.cleaned_up = True
            try:
                await exporter.stop()
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # noqa: BLE001  foreign code may raise anything
                record.fail(error)
                reraise_signal(error)

    def single_out(self) -> None:
        """Give each member of the group a record of its own: its task, or its isolated instance, is asked for."""
        group, members = self.group, self._members
        if group is None or not members:
            return
        self._members = _NONE
        for name, exporter in members.items():
            instance = exporter
            if self._given is not None:
                instance = exporter.create_isolated_instance(self.state)
                self.isolated_exporters[name] = instance
            subscription = MemberSubscription(exporter, self.state, group)
            # Code that looks up a subscription finds it here, as if each exporter had its own.
            instance.subscriptions[self.state] = subscription
            self.lifecycle.add_running(name, instance, subscription)

    async def run_exporter(self, name: str, exporter: BaseExporter) -> None:
        """Run one exporter in its own task: start it, report it as ready, wait for the shutdown, stop it."""
        lifecycle = self.lifecycle
        record = lifecycle.records[name]
        try:
            known = traits(type(exporter))
            if (subscription := record.subscription) is not None:
                # It was begun when the run began, and has to wait for something, or its task was asked for.
                try:
                    if record.opening is not None:
                        await lifecycle.opened(record, record.opening)
                    await lifecycle.shutdown.future()
                finally:
                    settling = subscription.end()
                if settling is not None:
                    await settling
                return
            readiness = None if known.ours else Readiness(lifecycle, record)
            try:
                async with exporter.start():
                    if readiness is None:
                        record.subscription = exporter.subscriptions.get(self.state)
                        lifecycle.ready(record)
                    else:
                        await readiness.wait()
                    await lifecycle.shutdown.wait()
                    await self.clean_up(record)
            finally:
                if readiness is not None:
                    await readiness.close()
                # If its start failed or was cancelled, this was not reached above; otherwise it does nothing.
                await self.clean_up(record)
        except asyncio.CancelledError as error:
            record.fail(error)
            raise
        except BaseException as error:  # noqa: BLE001  foreign code: an exporter may raise anything
            record.fail(error)
            reraise_signal(error)
        finally:
            lifecycle.ended(record)

    async def flush(self, timeout: float) -> FlushReceipt:
        """Write everything that the run has recorded; see `ExporterManager.flush`."""
        lifecycle, group = self._lifecycle, self.group
        subscriptions = {} if lifecycle is None else lifecycle.subscriptions()
        settling = [subscription.settled() for subscription in subscriptions.values()]
        if group is not None:
            settling += [group.settled(member.delivery) for member in self._members.values()]
        waiting = [asyncio.ensure_future(each) for each in settling if each is not None]
        if waiting:
            try:
                await clock.wait(waiting, timeout)
            finally:
                for future in waiting:
                    future.cancel()
        ledgers = {name: subscription.ledger for name, subscription in subscriptions.items()}
        if group is not None:
            ledgers |= {name: group.ledger_of(each.delivery) for name, each in self._members.items()}
        return FlushReceipt(not any(ledger.pending for ledger in ledgers.values()), ledgers)

    def _prepare(self, slot: RunSlot[RunContext[Any]]) -> None:
        """Do what may fail before there is anything to undo, and mark the manager as running."""
        given = self._given
        if given is None:
            state = ContextState()
        elif type(given) is ContextState:
            state = given
        else:
            state = run_state(given)
            self._adopted = state if isinstance(state, AdoptedState) else None
        members = slot.options.members.members_of(slot.registry)
        self._loop, self._began_at = asyncio.get_running_loop(), clock.perf_counter()
        registry = members.others
        if members.index.selects:
            registry = members.index.taking_part(state.run, registry)
        if registry:
            exporters = registry
            if given is not None:
                exporters = self.isolated_exporters = isolate(registry, state, given)
            self._lifecycle = Lifecycle(exporters, self._loop, self._began_at)
        self.state, self.registry, self._feeds = state, registry, members.feeds
        if members.exporters:
            self.group = SpanGroup(state, members)
            self._members = members.exporters
            state.sampled = True
        state.stream.attend()
        if slot.options.propagate_tags:
            state.propagated_tags = slot.options.propagate_tags
        self._previous = enter_run(state)
        slot.run = self
        slot.running = True
        if self.group is not None or self._lifecycle is not None:
            run_opened(id(self))
        elif slot.registry or slot.options.observer is None:  # else the runtime has said so
            report_unrecorded_run(state.run.run_id, has_exporters=bool(slot.registry))
            if slot.options.observer is not None:
                slot.options.observer.run_left_out(state.run.run_id)

    def _begin(self, slot: RunSlot[RunContext[Any]]) -> None:
        # The run is current by now: what an exporter starts belongs to it, and an exporter that is not bound to a
        # ContextState looks up the current one.
        if (observer := slot.options.observer) is not None:
            observer.run_started()
        if self.group is not None:
            self.group.begin()
        if (lifecycle := self._lifecycle) is None:
            return
        for name, record in lifecycle.records.items():
            if not (traits(type(record.exporter)).plain and lifecycle.begin_here(record, self.state)):
                self._begin_task(name, record.exporter)
        if not self.state.sampled and not all(
            isinstance(record.exporter, StepExporter) for record in lifecycle.records.values()
        ):
            self.state.sampled = True  # the others take every run

    def _begin_task(self, name: str, exporter: BaseExporter) -> asyncio.Task[None] | None:
        if self._run_exporter is None:
            return None
        return self.lifecycle.begin(name, self._run_exporter(name, exporter))

    def _started(self, slot: RunSlot[RunContext[Any]]) -> None:
        """Log which exporters have started. Raises an ExporterStartError if a required one has not."""
        lifecycle, group, required = self._lifecycle, self.group, slot.options.required
        began_at = self._began_at
        self._started_s = clock.perf_counter() - began_at
        talkative = self._talkative = _log.is_enabled_for("info")
        if not (talkative or required or (lifecycle is not None and lifecycle.troubled)):
            return
        run_id = self.state.run.run_id
        missing: dict[str, BaseException] = {}
        for name, record in () if lifecycle is None else lifecycle.records.items():
            if record.ready_at is not None and record.error is None:
                if talkative:
                    duration = record.ready_at - began_at
                    _log.info("exporter_started", exporter=name, workflow_run_id=run_id, duration_s=duration)
                continue
            record.ready_at = None  # an exporter that was ready, and then failed to start, never took part
            error = record.fail(ExporterEndedEarlyError(name))
            _log.error("exporter_start_failed", exporter=name, workflow_run_id=run_id, error=describe(error))
            if name in required:
                missing[name] = error
        if group is not None:
            if talkative:
                for name in self._members:
                    _log.info("exporter_started", exporter=name, workflow_run_id=run_id, duration_s=0.0)
            for name in required & self._members.keys():
                if (problem := self._members[name].delivery.not_open) is not None:
                    missing[name] = problem
        if missing:
            raise ExporterStartError(missing)
        if talkative:
            _log.info("manager_started", workflow_run_id=run_id, duration_s=self._started_s)

    async def _end(self, slot: RunSlot[RunContext[Any]], *, hurried: bool = False) -> BaseException | None:
        interruption: BaseException | None = None
        run_closed(id(self))
        for feed in self._feeds:
            feed.ended(self)
        began: float | None = None
        if (group := self.group) is not None:
            group.end()
            if group.members.waiting:
                began = self._now()
                interruption = await self._wait_for(group, slot.options.shutdown_timeout, hurried=hurried)
        if (lifecycle := self._lifecycle) is not None:
            if (now := self._now()) is not None:
                began = now if began is None else began
                hurried = hurried or interruption is not None
                later = await lifecycle.stopped(slot.options.shutdown_timeout, began, hurried=hurried)
                interruption = interruption or later
            else:
                # The loop has ended without cancelling it, and the garbage collector is destroying the coroutine.
                lifecycle.dropped()
            self.isolated_exporters = {}
        ended = None if began is None else self._now()
        self._stopped_s = 0.0 if began is None or ended is None else ended - began
        if (observer := slot.options.observer) is not None:
            observer.run_ended()
        if self._talkative or (lifecycle is not None and lifecycle.troubled):
            run_id = self.state.run.run_id
            records = () if lifecycle is None else lifecycle.records.values()
            log_ends(run_id, records, self._members, self._stopped_s)
        # The manager keeps its last run for the report: letting go of the manager here spares each finished run from
        # being a reference cycle, which only the garbage collector could free.
        self._manager = self._slot = self._run_exporter = None
        return interruption

    def _now(self) -> float | None:
        """Return the time by the clock of the run's event loop; None if the calling code does not run in it."""
        return clock.clock_of(self._loop)() if runs_in(self._loop) else None

    async def _wait_for(self, group: SpanGroup, timeout: float, *, hurried: bool) -> BaseException | None:
        """
        Wait for what the run's end has to, if there are no other exporters; return what interrupted the caller.

        What takes longer, or is interrupted, goes on with a record of each exporter.
        """
        interruption: BaseException | None = None
        if self._lifecycle is None and self._now() is not None and not hurried:
            try:
                if await group.wait_for_end(self._loop, min(_PATIENCE, timeout / 2)):
                    return None
            except INTERRUPTIONS as error:
                interruption = error
        self.single_out()
        return interruption

    def report(self, *, running: bool) -> ManagerReport:
        """Return the run's report as of now."""
        lifecycle, run, unheard = self._lifecycle, self.state.run, self.state.stream.unheard
        exporters = {} if lifecycle is None else lifecycle.reports()
        if self.group is not None:
            exporters |= self.group.reports(self._members, self._stopped_s)
        ids = run.run_id, run.trace_id
        return ManagerReport(running, *ids, self._started_s, self._stopped_s, unheard, exporters)
