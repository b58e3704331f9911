"""ExporterManager: starts and stops the exporters of one run; the reference interface."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self

import msgspec

from nat_observability.adopted import AdoptedState, run_state
from nat_observability.context import ContextState, enter_run, leave_run
from nat_observability.errors import (
    ExporterEndedEarlyError,
    ExporterStartError,
    InvalidExporterError,
    InvalidExporterNameError,
    InvalidTimeoutError,
    ManagerRunningError,
    UnknownExporterError,
    describe,
)
from nat_observability.events import Run
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.lifecycle import Lifecycle, Readiness, Record
from nat_observability.logs import get_logger
from nat_observability.participants import isolate, taking_part, traits
from nat_observability.reports import ExporterState, FlushReceipt, ManagerReport

# Held for the moment in which a registry is replaced; registries themselves never change, so reading needs no lock.
_registering = threading.Lock()

_log = get_logger()
_STOPPED, _FAILED, _ABANDONED = ExporterState.STOPPED, ExporterState.FAILED, ExporterState.ABANDONED


class RunObserver(Protocol):
    """Is told of each run's beginning and end; the runtime is one."""

    def run_started(self) -> None: ...

    def run_ended(self) -> None: ...


class ManagerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the managers of one process have in common, but for their exporters. Timeouts are in seconds."""

    shutdown_timeout: float = 120
    start_timeout: float = 10.0
    required: frozenset[str] = frozenset()
    observer: RunObserver | None = None


class ExporterManager:
    """
    Manages the lifecycle of the exporters of one workflow run.

    Exporters are added and removed by name; `start` starts all of them concurrently, and at the end of its block
    stops them. Each is in a task of its own, but for those that wait for nothing, which need none. What is added
    after `start` takes part in the next run. Each run has a manager of its own: `get` copies one, sharing its registry
    until either side changes it. A manager may be started again, in another event loop too.

    Args:
        shutdown_timeout: Most seconds for all exporters together to stop; what is stuck then is abandoned.
        start_timeout: Most seconds for all exporters together to start; what is not ready then is left out.

    Raises:
        InvalidTimeoutError: A timeout is not a positive, finite number.
    """

    def __init__(self, shutdown_timeout: float = 120, *, start_timeout: float = 10.0) -> None:
        options = ManagerOptions(
            shutdown_timeout=positive_seconds("shutdown_timeout", shutdown_timeout),
            start_timeout=positive_seconds("start_timeout", start_timeout),
        )
        self._set_up({}, options)

    def _set_up(self, registry: dict[str, BaseExporter], options: ManagerOptions) -> None:
        self._exporter_registry = registry
        self._is_registry_shared = False
        self._lent_registry: dict[str, BaseExporter] | None = None
        self._options = options
        self._shutdown_timeout = options.shutdown_timeout
        self._running = False
        self._lock = asyncio.Lock()
        self._active_isolated_exporters: dict[str, BaseExporter] = {}
        self._run: RunContext | None = None

    @property
    def _tasks(self) -> dict[str, asyncio.Task[None]]:
        """
        The task of each exporter that runs, by name.

        One that only subscribes needs none, and gets one when this is asked for, in the event loop of the run.
        """
        return self._run.tasks() if self._run is not None else {}

    @property
    def _shutdown_event(self) -> asyncio.Event:
        """What is set when the exporters of the current run, or of the last one, are to stop."""
        return self._run.lifecycle.shutdown if self._run is not None else asyncio.Event()

    @classmethod
    def with_options(cls, exporters: dict[str, BaseExporter], options: ManagerOptions) -> Self:
        """Return a manager on a registry that others use too; either side's changes stay its own."""
        manager = cls.__new__(cls)
        manager._set_up(exporters, options)
        manager._is_registry_shared = True
        return manager

    @classmethod
    def _create_with_shared_registry(
        cls, shutdown_timeout: float, shared_registry: dict[str, BaseExporter]
    ) -> Self:
        return cls.with_options(
            shared_registry,
            ManagerOptions(shutdown_timeout=positive_seconds("shutdown_timeout", shutdown_timeout)),
        )

    @staticmethod
    def from_exporters(
        exporters: Mapping[str, BaseExporter], shutdown_timeout: float = 120
    ) -> ExporterManager:
        """Return a manager with these exporters, by name."""
        manager = ExporterManager(shutdown_timeout)
        for name, exporter in exporters.items():
            manager.add_exporter(name, exporter)
        return manager

    def get(self) -> Self:
        """Return a manager of the same configuration, for another run; what either changes later stays its own."""
        self._lent_registry = self._exporter_registry
        return self.with_options(self._exporter_registry, self._options)

    def _ensure_registry_owned(self) -> None:
        """Make the registry our own, if other managers use it too (copy-on-write); for subclasses that change it."""
        with _registering:
            if self._is_registry_shared or self._lent_registry is self._exporter_registry:
                self._exporter_registry = dict(self._exporter_registry)
                self._is_registry_shared = False

    def add_exporter(self, name: str, exporter: BaseExporter, *, required: bool = False) -> None:
        """
        Add an exporter, for the next `start`. One of that name is replaced, with a warning.

        Args:
            name: Unique, not empty.
            exporter: A `BaseExporter`, or an object with the `start`, `stop` and `wait_ready` of one.
            required: Whether a run must not begin without it.

        Raises:
            InvalidExporterNameError: The name is empty or no string.
            InvalidExporterError: The object is not an exporter.
        """
        check_exporter(name, exporter)
        with _registering:
            replaced = name in self._exporter_registry
            self._exporter_registry = {**self._exporter_registry, name: exporter}
            self._is_registry_shared = False
            self._require(name, required)
        if replaced:
            _log.warning("exporter_replaced", exporter=name)

    def _require(self, name: str, required: bool) -> None:
        names = self._options.required
        if required is not (name in names):
            self._options = msgspec.structs.replace(
                self._options, required=names | {name} if required else names - {name}
            )

    def remove_exporter(self, name: str) -> None:
        """
        Remove an exporter, from the next `start` on.

        Raises:
            UnknownExporterError: A ValueError; there is none of that name.
        """
        with _registering:
            registry = dict(self._exporter_registry)
            if registry.pop(name, None) is None:
                raise UnknownExporterError(name, registry)
            self._exporter_registry = registry
            self._is_registry_shared = False
            self._require(name, False)

    def get_exporter(self, name: str) -> BaseExporter:
        """
        Return the exporter of that name.

        Raises:
            UnknownExporterError: A ValueError; there is none.
        """
        try:
            return self._exporter_registry[name]
        except KeyError:
            raise UnknownExporterError(name, self._exporter_registry) from None

    async def get_all_exporters(self) -> dict[str, BaseExporter]:
        """Return all exporters by name, in a dict of the caller's own."""
        return dict(self._exporter_registry)

    def create_isolated_exporters(self, context_state: ContextState | None = None) -> dict[str, BaseExporter]:
        """
        Return an isolated instance of every exporter, by name, bound to `context_state` or to a new one.

        Without a context state, exporters of the reference toolkit are bound to its current one, as they are there.
        An exporter that cannot isolate itself is returned as it is, with a warning; so is one whose
        `create_isolated_instance` raises.

        Raises:
            UnknownContextStateError: A TypeError; as `start` does.
        """
        state = ContextState() if context_state is None else run_state(context_state)
        return isolate(self._exporter_registry, state, context_state)

    @property
    def options(self) -> ManagerOptions:
        """The timeouts, the names of the required exporters, and the observer."""
        return self._options

    def taking_part(self, run: Run) -> dict[str, BaseExporter]:
        """Return the exporters that a run is for, by name, in a dict that is not to be changed."""
        return taking_part(self._exporter_registry, run)

    def start(self, context_state: ContextState | None = None) -> RunContext:
        """
        Return an async context manager that starts every exporter, yields this manager, and stops them.

        Inside its block the run is current: what `step` records reaches the exporters. With a context state the
        exporters are isolated instances; without one a new state is made and the exporters are used as they are.
        An exporter that does not start is logged, reported and left out. The block's own exception leaves
        unchanged, and what an exporter raises never does.

        The context state may be that of the reference toolkit: its own exporters are then isolated with it, and
        ours with the run that it stands for.

        Raises, on entering:
            UnknownContextStateError: A TypeError; `context_state` is nothing of the kind.
            ManagerRunningError: A RuntimeError; this manager runs already.
            ExporterStartError: A required exporter did not start; those that had started were stopped.
        """
        return RunContext(self, context_state)

    async def stop(self) -> None:
        """
        Stop every running exporter, all within the shutdown timeout; nothing happens where the manager is not running.
        For any task of the event loop in which the manager was started.

        What has not stopped by then is cancelled, and what then still goes on is abandoned, named in a warning and
        in the report. Whatever interrupts the caller, a cancellation say, shortens the wait and is raised when the
        stop is done.
        """
        if self._run is not None:
            await self._run.stop()

    async def flush(self, timeout: float = 30.0) -> FlushReceipt:
        """
        Have everything written that the current run, or the last one, has recorded; wait for no other run.

        Args:
            timeout: Most seconds for all exporters together.

        Returns:
            What became of this run's items. Steps that are still open are not part of it.

        Raises:
            InvalidTimeoutError: `timeout` is not a positive, finite number.
        """
        positive_seconds("timeout", timeout)
        subscriptions = self._run.lifecycle.subscriptions() if self._run is not None else {}
        waiting = [
            asyncio.ensure_future(settled)
            for subscription in subscriptions.values()
            if (settled := subscription.settled()) is not None
        ]
        if waiting:
            try:
                await asyncio.wait(waiting, timeout=timeout)
            finally:
                for future in waiting:
                    future.cancel()
        ledgers = {name: subscription.ledger for name, subscription in subscriptions.items()}
        return FlushReceipt(not any(ledger.pending for ledger in ledgers.values()), ledgers)

    async def _run_exporter(self, name: str, exporter: BaseExporter) -> None:
        """Run one exporter in its own task: start it, say that it is ready, wait for the shutdown, stop it."""
        run = self._run
        if run is None:
            raise RuntimeError("The manager has no run. _run_exporter belongs to start().")
        lifecycle = run.lifecycle
        record = lifecycle.records[name]
        try:
            known = traits(type(exporter))
            if (subscription := record.subscription) is not None:
                # It was begun when the run began, and has to wait for something, or somebody asked for its task.
                try:
                    if (opening := record.opening) is not None:
                        record.opening = None
                        try:
                            await opening
                        except Exception as error:  # noqa: BLE001  foreign code: opening a sink may raise anything
                            lifecycle.left_out(record, error)
                        else:
                            lifecycle.ready(record)
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
                        record.subscription = exporter.subscriptions.get(run.state)
                        lifecycle.ready(record)
                    else:
                        await readiness.wait()
                    await lifecycle.shutdown.wait()
                    await run.clean_up(record)
            finally:
                if readiness is not None:
                    await readiness.close()
                # Where its start failed or was cancelled it did not come to this above; otherwise nothing happens.
                await run.clean_up(record)
        except asyncio.CancelledError as error:
            record.fail(error)
            raise
        except Exception as error:  # noqa: BLE001  foreign code: an exporter may raise anything
            record.fail(error)
        finally:
            lifecycle.ended(record)

    async def _cleanup_single_exporter(self, name: str, exporter: BaseExporter) -> None:
        """Stop one isolated instance of the current run, once; what it raises is reported, and logged when it ends."""
        run = self._run
        record = run.lifecycle.records.get(name) if run is not None else None
        if run is not None and record is not None and record.exporter is exporter:
            await run.clean_up(record)

    async def _cleanup_isolated_exporters(self) -> None:
        """Stop every isolated instance of the current run now, concurrently, and not again at the run's end."""
        isolated, self._active_isolated_exporters = self._active_isolated_exporters, {}
        await asyncio.gather(
            *(self._cleanup_single_exporter(name, exporter) for name, exporter in isolated.items())
        )

    @property
    def report(self) -> ManagerReport:
        """What the exporters of the current run did so far, or those of the last one; may be asked at any moment."""
        return ManagerReport(running=False) if self._run is None else self._run.report(running=self._running)


class RunContext:
    """The context manager that `ExporterManager.start` returns: one run, from its exporters' start to their stop."""

    __slots__ = (
        "_adopted",
        "_given",
        "_manager",
        "_previous",
        "_started_s",
        "_stopped_s",
        "lifecycle",
        "registry",
        "state",
    )

    def __init__(self, manager: ExporterManager, state: ContextState | None) -> None:
        self._manager: ExporterManager | None = manager
        self._given = state
        self._adopted: AdoptedState | None = None
        self._started_s: float | None = None
        self._stopped_s: float | None = None

    @property
    def isolated(self) -> bool:
        """Whether the exporters are isolated instances, and not the registered ones."""
        return self._given is not None

    async def __aenter__(self) -> ExporterManager:
        manager = self._manager
        if manager is None:
            raise RuntimeError("This run has ended. Call start() again for another one.")
        if manager._running:
            raise ManagerRunningError
        if not manager._lock.locked():
            # A lock that was once waited for belongs to its event loop for good, a manager does not.
            manager._lock = asyncio.Lock()
        # Not `async with`: its two coroutines cost more than the lock.
        lock = manager._lock
        await lock.acquire()
        try:
            if manager._running:
                raise ManagerRunningError
            self._prepare(manager)
            try:
                self._begin(manager)
                await self._start(manager)
            except BaseException as error:
                manager._running = False
                interruption = await self._end(manager, hurried=not isinstance(error, ExporterStartError))
                leave_run(self.state, self._previous)
                if interruption is not None and isinstance(error, ExporterStartError):
                    raise interruption from error
                raise
        finally:
            lock.release()
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
        manager = self._manager
        if manager is None:
            return
        # Whoever stops it while it starts does not wait for those that have not started.
        self.lifecycle.give_up_starting()
        lock = manager._lock
        await lock.acquire()
        try:
            if self._manager is None or manager._run is not self:
                return  # another task stopped it while this one waited
            manager._running = False
            interruption = await self._end(manager)
        finally:
            lock.release()
        if interruption is not None:
            raise interruption

    def tasks(self) -> dict[str, asyncio.Task[None]]:
        """Return the tasks of the exporters that have not ended, by name; see `ExporterManager._tasks`."""
        manager, lifecycle = self._manager, self.lifecycle
        tasks: dict[str, asyncio.Task[None]] = {}
        if manager is None:
            return tasks
        for name, record in lifecycle.records.items():
            task = record.task
            if record.ended_at is not None:
                continue
            if task is None and lifecycle.is_in_its_loop:
                task = lifecycle.begin(name, manager._run_exporter(name, record.exporter))
            if task is not None:
                tasks[name] = task
        return tasks

    async def clean_up(self, record: Record) -> None:
        """Stop an isolated instance of this run, once; what it raises is in the record."""
        exporter = record.exporter
        # What could not isolate itself is other runs' too.
        own = self.isolated and self.registry.get(record.name) is not exporter
        if own and not record.cleaned_up and traits(type(exporter)).stops:
            record.cleaned_up = True
            try:
                await exporter.stop()
            except Exception as error:  # noqa: BLE001  foreign code
                record.fail(error)

    def _prepare(self, manager: ExporterManager) -> None:
        """Do what may fail before there is anything to undo, and say that the manager runs."""
        given = self._given
        if given is None:
            state = ContextState()
        elif type(given) is ContextState:
            state = given
        else:
            state = run_state(given)
            self._adopted = state if isinstance(state, AdoptedState) else None
        registry = exporters = taking_part(manager._exporter_registry, state.run)
        if given is not None:
            exporters = manager._active_isolated_exporters = isolate(registry, state, given)
        self.state, self.registry = state, registry
        self.lifecycle = Lifecycle(exporters)
        self._previous = enter_run(state)
        manager._run = self
        manager._running = True

    def _begin(self, manager: ExporterManager) -> None:
        # The run is current by now: what an exporter starts belongs to it, and an exporter that is bound to no
        # ContextState asks for the current one.
        lifecycle = self.lifecycle
        if (observer := manager._options.observer) is not None:
            observer.run_started()
        for name, record in lifecycle.records.items():
            if not (traits(type(record.exporter)).plain and lifecycle.begin_here(record, self.state)):
                lifecycle.begin(name, manager._run_exporter(name, record.exporter))

    async def _start(self, manager: ExporterManager) -> None:
        lifecycle, run_id = self.lifecycle, self.state.run.run_id
        await lifecycle.started(manager._options.start_timeout)
        self._started_s = time.perf_counter() - lifecycle.began_at
        talkative = _log.is_enabled_for("info")
        missing: dict[str, BaseException] = {}
        for name, record in lifecycle.records.items() if talkative or lifecycle.troubled else ():
            if record.ready_at is not None and record.error is None:
                if talkative:
                    duration = record.ready_at - lifecycle.began_at
                    _log.info("exporter_started", exporter=name, workflow_run_id=run_id, duration_s=duration)
                continue
            record.ready_at = None  # one that said it was ready, and then failed to start, never took part
            error = record.fail(ExporterEndedEarlyError(name))
            _log.error("exporter_start_failed", exporter=name, workflow_run_id=run_id, error=describe(error))
            if name in manager._options.required:
                missing[name] = error
        if missing:
            raise ExporterStartError(missing)
        if talkative:
            _log.info("manager_started", workflow_run_id=run_id, duration_s=self._started_s)

    async def _end(self, manager: ExporterManager, *, hurried: bool = False) -> BaseException | None:
        lifecycle, run_id = self.lifecycle, self.state.run.run_id
        interruption: BaseException | None = None
        if lifecycle.is_in_its_loop:
            clock = asyncio.get_running_loop().time
            began = clock()
            interruption = await lifecycle.stopped(manager._shutdown_timeout, hurried=hurried)
            self._stopped_s = clock() - began
        else:
            # Its loop has ended without cancelling it, and the garbage collector destroys the coroutine.
            lifecycle.dropped()
            self._stopped_s = 0.0
        manager._active_isolated_exporters = {}
        if (observer := manager._options.observer) is not None:
            observer.run_ended()
        talkative = _log.is_enabled_for("info")
        for name, record in lifecycle.records.items() if talkative or lifecycle.troubled else ():
            if record.state is _ABANDONED:
                _log.warning(
                    "exporter_abandoned", exporter=name, workflow_run_id=run_id, error=record.problem
                )
            elif record.state is _FAILED and record.ready_at is not None:
                _log.warning(
                    "exporter_stop_failed", exporter=name, workflow_run_id=run_id, error=record.problem
                )
            elif record.state is _STOPPED and talkative:
                _log.info("exporter_stopped", exporter=name, workflow_run_id=run_id)
        if talkative:
            _log.info("manager_stopped", workflow_run_id=run_id, duration_s=self._stopped_s)
        # The manager keeps its last run for the report: letting go of the manager here spares each finished run from
        # being a reference cycle, which only the garbage collector could free.
        self._manager = None
        return interruption

    def report(self, *, running: bool) -> ManagerReport:
        """Return what is known of the run now."""
        lifecycle, run = self.lifecycle, self.state.run
        return ManagerReport(
            running,
            run.run_id,
            run.trace_id,
            self._started_s,
            self._stopped_s,
            self.state.stream.unheard,
            {
                name: record.report(lifecycle.began_at, lifecycle.ending_at)
                for name, record in lifecycle.records.items()
            },
        )


def positive_seconds(setting: str, value: object) -> float:
    """
    Return `value`, a timeout in seconds.

    Raises:
        InvalidTimeoutError: It is not a positive, finite number.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= sys.float_info.max:
        return value
    raise InvalidTimeoutError(setting, value)


def check_exporter(name: object, exporter: object) -> None:
    """
    Check what is about to be registered.

    Raises:
        InvalidExporterNameError: The name is empty or no string.
        InvalidExporterError: The object lacks a method of an exporter.
    """
    if not isinstance(name, str) or not name.strip():
        raise InvalidExporterNameError(name)
    needed = ("start", "stop", "wait_ready")
    missing = (
        needed
        if isinstance(exporter, type)
        else [each for each in needed if not callable(getattr(exporter, each, None))]
    )
    if missing:
        raise InvalidExporterError(name, exporter, missing)
