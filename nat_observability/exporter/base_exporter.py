"""BaseExporter: one named destination of steps, and the class that users subclass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import lru_cache
from types import MemberDescriptorType
from typing import Self

from nat_observability.context import ContextState, run_state
from nat_observability.delivery.delivery import Delivery
from nat_observability.events import IntermediateStep, Run
from nat_observability.exporter.selection import Select, note_change, selection_of
from nat_observability.exporter.subscription import ExportSubscription, Subscription
from nat_observability.system.clock import sleep


class BaseExporter(ABC):
    """
    One named destination of steps. `export` is the one method to write.

    One instance serves the whole process. For each run the manager asks it for an isolated instance, which shares
    everything that `__init__` made (clients, connections, lists) and is bound to the run's own ContextState;
    several runs may also use the instance itself at the same time. State of one run belongs in a dict keyed by
    `event.run.run_id`, or in a `Subscription` of one's own (override `subscription`).

    An exporter that needs the application's event loop, for a task of its own, overrides `start`.
    """

    delivery: Delivery | None = None
    """What the runtime opens when the process starts and closes when it ends; None if there is nothing to open."""

    _select: Callable[[Run], bool] | None = None

    @property
    def select(self) -> Callable[[Run], bool] | None:
        """
        Which runs it takes part in, by their ids and tags; None for all.

        Set it on the instance, to a mapping (`{"tenant": "acme"}`, `{"user_id": ["u1", "u2"]}`; see `Selection`), by
        which a run finds its exporters among thousands, or to a function, which a manager asks once, when the run
        starts. A run that it does not take part in costs it nothing, and its report does not name it. One whose
        `select` raises takes no part either: what is meant for one tenant must not reach another by an error.

        Raises:
            InvalidSelectionError: On setting: it is neither a mapping that can be used nor a function.
        """
        return self._select

    @select.setter
    def select(self, select: Select | None) -> None:
        self._select = selection_of(select)
        note_change()

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
        """The class's name, marked if this is an isolated instance."""
        return f"{type(self).__name__} (isolated)" if self._is_isolated_instance else type(self).__name__

    @property
    def is_isolated_instance(self) -> bool:
        """Whether this instance belongs to one run."""
        return self._is_isolated_instance

    def start(self) -> AbstractAsyncContextManager[object]:
        """
        Return the context manager that is entered when a run starts and left when it ends.

        If it is overridden, each run enters it in a task of the exporter's own. An instance that is not bound to a
        ContextState takes part in the current run.

        Raises:
            RuntimeError: It is not bound to a ContextState, and no run is current.
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
        """Return when steps are taken: as soon as the context manager from `start` was entered."""
        pause = 0.0
        while not self.subscriptions:
            await sleep(pause)
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
