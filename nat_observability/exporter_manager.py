"""ExporterManager: starts and stops the exporters of one run; the reference interface."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Mapping
from functools import lru_cache
from inspect import iscoroutinefunction
from typing import Any, Self

import msgspec

# Imported before any run, though nothing here calls them: a process that is forked while another thread imports them
# could never do so itself.
import nat_observability.recording.bound_context
import nat_observability.recording.step  # noqa: F401
from nat_observability.context import ContextState, run_state
from nat_observability.errors import (
    InvalidExporterError,
    InvalidExporterNameError,
    InvalidTimeoutError,
    UnknownExporterError,
)
from nat_observability.events import Run
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter.shared_sinks import warn_if_shared
from nat_observability.exporter.step_exporter import StepExporter
from nat_observability.logs import get_logger
from nat_observability.run.isolation import isolate
from nat_observability.run.manager_options import ManagerOptions
from nat_observability.run.report import FlushReceipt, ManagerReport
from nat_observability.run.run_context import RunContext
from nat_observability.run.run_slot import RunSlot

# Held for the moment in which a registry is replaced; registries themselves never change, so reading needs no lock.
_registering = threading.Lock()

_log = get_logger()


class ExporterManager:
    """
    Manages the lifecycle of the exporters of one workflow run.

    Exporters are added and removed by name; `start` starts all of them concurrently, and at the end of its block
    stops them. Each runs in a task of its own, except those that wait for nothing, which need none. What is added
    after `start` takes part in the next run. Each run has a manager of its own: `get` copies one, sharing its registry
    until either side changes it. A manager may be started again, in another event loop too.

    Args:
        shutdown_timeout: Most seconds for all exporters together to stop; those still stuck are abandoned.
        start_timeout: Most seconds for all exporters together to start; those not ready by then are left out.

    Raises:
        InvalidTimeoutError: A timeout is not a positive, finite number.
    """

    def __init__(self, shutdown_timeout: float = 120, *, start_timeout: float = 10.0) -> None:
        options = ManagerOptions(
            shutdown_timeout=positive_seconds("shutdown_timeout", shutdown_timeout),
            start_timeout=positive_seconds("start_timeout", start_timeout),
        )
        self._slot: RunSlot[RunContext[Any]] = RunSlot({}, options)

    _is_registry_shared = False
    _lent_registry: dict[str, BaseExporter] | None = None

    @property
    def _exporter_registry(self) -> dict[str, BaseExporter]:
        """The exporters by name. The dict is replaced, never changed."""
        return self._slot.registry

    @_exporter_registry.setter
    def _exporter_registry(self, registry: dict[str, BaseExporter]) -> None:
        self._slot.registry = registry

    @property
    def _shutdown_timeout(self) -> float:
        """Most seconds for all exporters together to stop."""
        return self._slot.options.shutdown_timeout

    @property
    def _running(self) -> bool:
        """Whether a run has started and has not begun to stop."""
        return self._slot.running

    @property
    def _lock(self) -> asyncio.Lock:
        """Held while a run starts or stops."""
        return self._slot.lock

    @property
    def _active_isolated_exporters(self) -> dict[str, BaseExporter]:
        """The isolated instances of the current run, by name; those not needed so far are made now."""
        run = self._slot.run
        if run is None:
            return {}
        if self._slot.running:
            run.single_out()
        return run.isolated_exporters

    @property
    def _tasks(self) -> dict[str, asyncio.Task[None]]:
        """
        The task of each exporter that runs, by name.

        One that only subscribes needs none, and gets one when this is asked for, in the event loop of the run.
        """
        run = self._slot.run
        return run.tasks() if run is not None else {}

    @property
    def _shutdown_event(self) -> asyncio.Event:
        """Set when the exporters of the current run, or of the last one, are to stop."""
        run = self._slot.run
        return run.lifecycle.shutdown if run is not None else asyncio.Event()

    @classmethod
    def with_options(cls, exporters: dict[str, BaseExporter], options: ManagerOptions) -> Self:
        """
        Return a manager on a shared registry; either side's changes stay its own.

        What was added to the runtime of that registry since, or removed from it, is taken into account.
        """
        if (observer := options.observer) is not None:
            exporters = observer.registry_for(exporters)
        manager = cls.__new__(cls)
        manager._slot = RunSlot(exporters, options)
        manager._is_registry_shared = True
        return manager

    @classmethod
    def _on(cls, registry: dict[str, BaseExporter], options: ManagerOptions) -> Self:
        manager = cls.__new__(cls)
        manager._slot = RunSlot(registry, options)
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
        """Return a manager of the same configuration, for another run; later changes on either side stay its own."""
        self._lent_registry = self._slot.registry
        return self._on(self._slot.registry, self._slot.options)

    def _ensure_registry_owned(self) -> None:
        """Make the registry our own, if other managers use it too (copy-on-write); for subclasses that change it."""
        with _registering:
            if self._is_registry_shared or self._lent_registry is self._slot.registry:
                self._slot.registry = dict(self._slot.registry)
                self._is_registry_shared = False

    def add_exporter(self, name: str, exporter: BaseExporter, *, required: bool = False) -> None:
        """
        Add an exporter, for the next `start`. One of that name is replaced, with a warning; under a second name, of
        which a warning is logged too, it gets everything twice.

        Args:
            name: Unique, not empty.
            exporter: A `BaseExporter`, or an object with the `start`, `stop` and `wait_ready` of one.
            required: Whether a run must not begin without it.

        Raises:
            InvalidExporterNameError: The name is empty or not a string.
            InvalidExporterError: The object is not an exporter.
        """
        check_exporter(name, exporter)
        with _registering:
            replaced = name in self._slot.registry
            twice = next(
                (other for other, each in self._slot.registry.items() if each is exporter and other != name),
                None,
            )
            self._slot.registry = {**self._slot.registry, name: exporter}
            self._is_registry_shared = False
            self._require(name, required)
        if replaced:
            _log.warning("exporter_replaced", exporter=name)
        if twice is not None:
            _log.warning("exporter_registered_twice", exporter=name, other=twice)
        else:
            warn_if_shared(name, exporter, self._slot.registry)

    def _require(self, name: str, required: bool) -> None:
        options = self._slot.options
        if required is not (name in options.required):
            names = options.required | {name} if required else options.required - {name}
            self._slot.options = msgspec.structs.replace(options, required=names)

    def remove_exporter(self, name: str) -> None:
        """
        Remove an exporter, from the next `start` on.

        Raises:
            UnknownExporterError: A ValueError; no exporter has that name.
        """
        with _registering:
            registry = dict(self._slot.registry)
            if registry.pop(name, None) is None:
                raise UnknownExporterError(name, registry)
            self._slot.registry = registry
            self._is_registry_shared = False
            self._require(name, False)

    def get_exporter(self, name: str) -> BaseExporter:
        """
        Return the exporter of that name.

        Raises:
            UnknownExporterError: A ValueError; no exporter has that name.
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
        return isolate(self._slot.registry, state, context_state)

    @property
    def options(self) -> ManagerOptions:
        """The timeouts, the names of the required exporters, and the observer."""
        return self._slot.options

    def taking_part(self, run: Run) -> dict[str, BaseExporter]:
        """Return the exporters that a run uses, by name."""
        return self._slot.options.members.index_of(self._slot.registry).taking_part(run)

    def start(self, context_state: ContextState | None = None) -> RunContext[Self]:
        """
        Return an async context manager that starts every exporter, yields this manager, and stops them.

        Inside its block the run is current: what `step` records reaches the exporters. With a context state the
        exporters are isolated instances; without one a new state is made and the exporters are used as they are.
        An exporter that does not start is logged, reported and left out. The block's own exception propagates
        unchanged; an exporter's never does.

        The context state may be that of the reference toolkit: its own exporters are then isolated with it, and
        ours with the run that it stands for.

        Raises, on entering:
            UnknownContextStateError: A TypeError; `context_state` is not a known kind of context state.
            ManagerRunningError: A RuntimeError; this manager runs already.
            ExporterStartError: A required exporter did not start; those that had started were stopped.
        """
        return RunContext(self, self._slot, self._run_exporter, context_state)

    async def stop(self) -> None:
        """
        Stop every running exporter, all within the shutdown timeout; does nothing if the manager is not running.
        For any task of the event loop in which the manager was started.

        An exporter that has not stopped by then is cancelled; if it still goes on, it is abandoned and named in a
        warning and in the report. An interruption of the caller, such as a cancellation, shortens the wait and is
        raised when the stop is done.
        """
        if self._slot.run is not None:
            await self._slot.run.stop()

    async def flush(self, timeout: float = 30.0) -> FlushReceipt:
        """
        Write everything that the current run, or the last one, has recorded; wait for no other run.

        Args:
            timeout: Most seconds for all exporters together.

        Returns:
            The outcome of this run's items, without steps that are still open.

        Raises:
            InvalidTimeoutError: `timeout` is not a positive, finite number.
        """
        positive_seconds("timeout", timeout)
        run = self._slot.run
        return FlushReceipt(complete=True, exporters={}) if run is None else await run.flush(timeout)

    async def _run_exporter(self, name: str, exporter: BaseExporter) -> None:
        """Run one exporter in its own task: start it, report it as ready, wait for the shutdown, stop it."""
        run = self._slot.run
        if run is None:
            raise RuntimeError("The manager has no run. _run_exporter belongs to start().")
        await run.run_exporter(name, exporter)

    async def _cleanup_single_exporter(self, name: str, exporter: BaseExporter) -> None:
        """Stop one isolated instance of the current run, once; what it raises is reported, and logged when it ends."""
        run = self._slot.run
        if run is not None and self._slot.running:
            run.single_out()
        record = run.lifecycle.records.get(name) if run is not None else None
        if run is not None and record is not None and record.exporter is exporter:
            await run.clean_up(record)

    async def _cleanup_isolated_exporters(self) -> None:
        """Stop every isolated instance of the current run now, concurrently, and not again at the run's end."""
        isolated, run = self._active_isolated_exporters, self._slot.run
        if run is not None:
            run.isolated_exporters = {}
        await asyncio.gather(
            *(self._cleanup_single_exporter(name, exporter) for name, exporter in isolated.items())
        )

    @property
    def report(self) -> ManagerReport:
        """What the exporters of the current or last run have done so far; may be read at any moment."""
        run = self._slot.run
        return ManagerReport(running=False) if run is None else run.report(running=self._slot.running)


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
    Check an exporter before it is registered.

    A name with which no variable, metric or template can be named is logged.

    Raises:
        InvalidExporterNameError: The name is empty or not a string.
        InvalidExporterError: The object lacks a method of an exporter, was not initialised, or its `export` is a
            coroutine function, which no run waits for.
    """
    if not isinstance(name, str) or not name.strip():
        raise InvalidExporterNameError(name)
    if InvalidExporterNameError.unusable.search(name):
        _warn_of_name(name)
    needed = ("start", "stop", "wait_ready")
    missing = (
        needed
        if isinstance(exporter, type)
        else [each for each in needed if not callable(getattr(exporter, each, None))]
    )
    if missing:
        raise InvalidExporterError(name, exporter, missing)
    if isinstance(exporter, BaseExporter):
        if isinstance(exporter, StepExporter) and getattr(exporter, "delivery", None) is None:
            problem = "whose __init__ does not call that of its base class"
            raise InvalidExporterError(
                name, exporter, (), problem, "Call super().__init__(sink) in it, first."
            )
        if _exports_in_coroutine(type(exporter)):
            problem, cure = (
                "whose export() is a coroutine function, which no run waits for",
                "Write `def export`",
            )
            raise InvalidExporterError(
                name, exporter, (), problem, f"{cure}, or for what needs I/O a sink: SpanExporter(sink)."
            )


@lru_cache(maxsize=256)  # once for each name, not for each manager
def _warn_of_name(name: str) -> None:
    _log.warning(
        "exporter_name_unusable",
        exporter=name,
        cure="Variables and templates cannot name it: use letters, digits and - . _",
    )


@lru_cache(maxsize=256)
def _exports_in_coroutine(kind: type[BaseExporter]) -> bool:
    return iscoroutinefunction(getattr(kind, "export", None))  # a test's stand-in has none in its class
