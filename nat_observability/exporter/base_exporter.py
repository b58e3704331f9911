"""BaseExporter: one named destination, and Subscription: one run's part in it."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import lru_cache
from types import MemberDescriptorType, TracebackType
from typing import Self

from nat_observability.adopted import run_state
from nat_observability.context import ContextState
from nat_observability.delivery.delivery import Delivery
from nat_observability.delivery.ledger import LedgerSnapshot
from nat_observability.errors import EXITS, describe, locate
from nat_observability.events import IntermediateStep, Run
from nat_observability.logs import get_logger
from nat_observability.stream import EventStream


class Subscription:
    """
    One run's part in an exporter, from `begin` to `end`; everything mutable of the run is here.

    As an async context manager it does both.
    """

    __slots__ = ("_exporter", "_state")

    def __init__(self, exporter: BaseExporter, state: ContextState) -> None:
        self._exporter = exporter
        self._state = state

    def begin(self) -> Awaitable[None] | None:
        """Take steps from now on; return what to wait for until the destination is open, None where it is."""
        state = self._state
        self._exporter.subscriptions[state] = self
        self.listen(state.stream)
        return None

    def listen(self, stream: EventStream) -> None:
        """Subscribe to a run's stream, under this object as the key."""
        stream.subscribe(self, self.handle)

    def end(self) -> Awaitable[None] | None:
        """Take no more steps; return what to wait for until this run's items are settled, None where nothing is."""
        state = self._state
        state.stream.unsubscribe(self)
        self._exporter.subscriptions.pop(state, None)
        return None

    def settled(self) -> Awaitable[None] | None:
        """Return what to wait for until nothing that this run has recorded is pending, None where nothing is."""
        return None

    async def __aenter__(self) -> Self:
        if (opening := self.begin()) is not None:
            try:
                await opening
            except BaseException:
                self.end()
                raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if (settling := self.end()) is not None:
            await settling

    def handle(self, step: IntermediateStep) -> None:
        """Take one step, on the thread that recorded it."""
        raise NotImplementedError

    @property
    def ledger(self) -> LedgerSnapshot:
        """What became of this run's items."""
        raise NotImplementedError

    @property
    def oddities(self) -> dict[str, int]:
        """What was odd about this run's steps, counted by name; empty where all was well."""
        return {}

    @property
    def error(self) -> BaseException | None:
        """The first error of this run, which was logged; later ones are only counted."""
        return None

    @property
    def problem(self) -> str | None:
        """That error in one line."""
        return None if self.error is None else describe(self.error)


class ExportSubscription(Subscription):
    """Calls the exporter's `export` for each step. A step is delivered when `export` has returned."""

    __slots__ = ("_counted", "_error", "_failed", "_lock")

    def __init__(self, exporter: BaseExporter, state: ContextState) -> None:
        self._exporter = exporter  # not by super().__init__: one of these is made for each exporter and run
        self._state = state
        # Reentrant: the garbage collector may close a step while somebody asks for the counts.
        self._lock = threading.RLock()
        self._counted = self._failed = 0
        self._error: BaseException | None = None

    def handle(self, step: IntermediateStep) -> None:
        failure: BaseException | None = None
        try:
            self._exporter.export(step)
        except EXITS:
            raise
        except BaseException as error:  # noqa: BLE001  foreign code: no exporter error reaches the workflow
            failure = error
        # Several threads may record at once.
        with self._lock:
            self._counted += 1
            if failure is None:
                return
            self._failed += 1
            if self._error is not None:
                return
            self._error = failure
        get_logger().warning(
            "export_failed",
            exporter=self._exporter.name,
            workflow_run_id=self._state.run.run_id,
            error=locate(failure),
        )

    @property
    def ledger(self) -> LedgerSnapshot:
        with self._lock:
            return LedgerSnapshot(self._counted, self._counted - self._failed, self._failed)

    @property
    def error(self) -> BaseException | None:
        return self._error

    @property
    def problem(self) -> str | None:
        return None if self.error is None else locate(self.error)


class BaseExporter(ABC):
    """
    One named destination of steps. `export` is the one method to write.

    One instance serves the whole process. For each run the manager asks it for an isolated instance, which shares
    everything that `__init__` made (clients, connections, lists) and is bound to the run's own ContextState;
    several runs may also use the instance itself at the same time. State of one run belongs into a dict keyed by
    `event.run.run_id`, or into a `Subscription` of one's own (override `subscription`).

    An exporter that needs the application's event loop, for a task of its own, overrides `start`.
    """

    delivery: Delivery | None = None
    """What the runtime opens when the process starts and closes when it ends; None where there is nothing to open."""

    select: Callable[[Run], bool] | None = None
    """
    Which runs it takes part in, by their ids; None for all. A manager asks once, when the run starts.

    Set it on the instance. A run that it does not take part in costs it nothing, and its report does not name it. One
    whose `select` raises takes no part either: what is meant for one tenant must not reach another by an error.
    """

    def __init__(self, context_state: ContextState | None = None) -> None:
        self._context_state = context_state
        self._is_isolated_instance = False
        self.subscriptions: dict[ContextState, Subscription] = {}

    @abstractmethod
    def export(self, event: IntermediateStep) -> None:
        """
        Take one step.

        Called on the thread that recorded the step, while the workflow waits: it must be cheap, and may be called
        from several threads at once. What it raises is counted and logged once a run, and goes no further.
        """

    @property
    def name(self) -> str:
        """The class's name, marked where this is an isolated instance."""
        return f"{type(self).__name__} (isolated)" if self._is_isolated_instance else type(self).__name__

    @property
    def is_isolated_instance(self) -> bool:
        """Whether this instance belongs to one run."""
        return self._is_isolated_instance

    def start(self) -> AbstractAsyncContextManager[object]:
        """
        Return the context manager that is entered when a run starts and left when it ends.

        Where it is overridden, a task of the exporter's own does so in each run. An instance that is bound to no
        ContextState takes part in the run that is current.

        Raises:
            RuntimeError: It is bound to none, and no run is current.
        """
        state = self._context_state or ContextState.current()
        if state is None:
            raise RuntimeError(
                f"{self.name} has no run to export. Start it through ExporterManager.start(), "
                "or create an isolated instance with a ContextState."
            )
        return self.subscription(state)

    def subscription(self, state: ContextState) -> Subscription:
        """Return a new, not yet entered subscription for one run."""
        return ExportSubscription(self, state)

    async def stop(self) -> None:
        """End every subscription of this instance now."""
        for subscription in list(self.subscriptions.values()):
            if (settling := subscription.end()) is not None:
                await settling

    async def wait_ready(self) -> None:
        """Return when steps are taken, which is so as soon as what `start` returns was entered."""
        pause = 0.0
        while not self.subscriptions:
            await asyncio.sleep(pause)
            pause = min(2 * pause + 0.001, 0.1)

    def create_isolated_instance(self, context_state: ContextState) -> Self:
        """
        Return an instance for one run: a new object with the same attributes and no subscription.

        The context state may be the reference toolkit's, so that its manager can start this exporter too.

        Raises:
            UnknownContextStateError: A TypeError; it is neither ours nor that of a supported framework.
        """
        state = context_state if type(context_state) is ContextState else run_state(context_state)
        instance = object.__new__(type(self))
        instance.__dict__ = {
            **self.__dict__,
            "_context_state": state,
            "_is_isolated_instance": True,
            "subscriptions": {},
        }
        for slot in slots(type(self)):
            if hasattr(self, slot):
                setattr(instance, slot, getattr(self, slot))
        return instance


@lru_cache(maxsize=256)
def slots(kind: type) -> tuple[str, ...]:
    """Return the names of the attributes that the instances of a class keep outside their `__dict__`."""
    return tuple(
        name
        for each in kind.__mro__
        for name, member in vars(each).items()
        if isinstance(member, MemberDescriptorType)
    )
