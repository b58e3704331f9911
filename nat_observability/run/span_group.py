"""SpanGroup: the span exporters that take every run, handled as one subscriber."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context
from functools import lru_cache, partial

from nat_observability.context import ContextState
from nat_observability.delivery import state as delivery_state
from nat_observability.delivery.delivery import Delivery, route_to
from nat_observability.delivery.lease import Lease, Route
from nat_observability.delivery.ledger import LedgerSnapshot, total
from nat_observability.delivery.sending.periodic_work import RunFeed
from nat_observability.delivery.state import all_of
from nat_observability.events import Span
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter.span_exporter import SpanExporter
from nat_observability.exporter.span_joiner import SpanJoiner
from nat_observability.exporter.step_exporter import StepExporter
from nat_observability.exporter.subscription import Subscription
from nat_observability.logs import RepeatedEvent, get_logger
from nat_observability.run.report import ExporterReport, ExporterState
from nat_observability.run.selection_index import SelectionIndex, SelectionIndexCache
from nat_observability.run.shutdown_event import finish
from nat_observability.system import clock

_log = get_logger()
_shared = RepeatedEvent()
_STOPPED = ExporterState.STOPPED

# What a subclass may change and still be a member: its construction, and attributes of its own.
_DECISIVE = (
    "create_isolated_instance",
    "export",
    "select",
    "start",
    "stop",
    "subscription",
    "wait_ready",
)


@lru_cache(maxsize=256)
def can_join(kind: type) -> bool:
    """Whether the exporters of a class add nothing of their own to a run."""
    return issubclass(kind, SpanExporter) and all(
        getattr(kind, name) is getattr(SpanExporter, name) for name in _DECISIVE
    )


class Members:
    """
    The exporters of a registry that take part as a group, and the ways to their deliveries.

    Attributes:
        exporters: By name.
        index: Those that take part in some runs only.
        others: The exporters that take part in every run and are not members.
        feeds: Where a run's end is noted, for sinks that are told of it.
        routes: One for each pipeline of processors.
        shown: Those of the feeds that belong to the members, and are shown their open steps.
        waiting: Those that the end of a run waits for.
    """

    __slots__ = ("chunk_bytes", "exporters", "feeds", "index", "others", "routes", "shown", "waiting")

    def __init__(self, index: SelectionIndex) -> None:
        self.index = index
        self.exporters: dict[str, SpanExporter] = {}
        self.others: dict[str, BaseExporter] = {}
        for name, exporter in index.everywhere.items():
            if can_join(type(exporter)) and isinstance(exporter, SpanExporter) and _takes_every_run(exporter):
                self.exporters[name] = exporter
            else:
                self.others[name] = exporter
        by_intake: dict[int, list[Delivery]] = {}
        for exporter in self.exporters.values():
            same = by_intake.setdefault(id(exporter.delivery.intake), [])
            if exporter.delivery not in same:
                same.append(exporter.delivery)
        self.routes: tuple[Route, ...] = tuple(route_to(each) for each in by_intake.values())
        deliveries = [exporter.delivery for exporter in self.exporters.values()]
        self.shown = _feeds(deliveries)
        self.feeds = _feeds(
            [each.delivery for each in index.everywhere.values() if isinstance(each, StepExporter)]
        )
        self.chunk_bytes = min((each.limits.chunk_bytes for each in deliveries), default=0)
        self.waiting = tuple(
            each
            for each in self.exporters.values()
            if each.delivery.limits.spool != "off" or each.flush == "delivered"
        )


def _feeds(deliveries: list[Delivery]) -> tuple[RunFeed, ...]:
    return tuple({id(feed): feed for each in deliveries if (feed := each.feed) is not None}.values())


class MembersCache:
    """The members of the last registry looked up: managers of one factory share it, run after run."""

    __slots__ = ("_indexes", "_last")

    def __init__(self) -> None:
        self._indexes = SelectionIndexCache()
        self._last: tuple[SelectionIndex, int, Members] | None = None

    def index_of(self, registry: dict[str, BaseExporter]) -> SelectionIndex:
        """Return the exporters of a registry, which never changes, by what they select."""
        return self._indexes.index_of(registry)

    def members_of(self, registry: dict[str, BaseExporter]) -> Members:
        """Return the members among the exporters of a registry, which never changes."""
        index = self._indexes.index_of(registry)
        last, changes = self._last, delivery_state.changes
        if last is not None and last[0] is index and last[1] == changes:
            return last[2]
        members = Members(index)
        self._last = index, changes, members
        return members


def _takes_every_run(exporter: SpanExporter) -> bool:
    return (
        exporter.sampling is None
        and exporter.delivery.limits.run_bytes is None
        and exporter.delivery.is_kept_open
        and not exporter.is_isolated_instance
    )


class SpanGroup:
    """
    One run's part in all of them: a span is joined once, and handed over once for each pipeline of processors.

    Attributes:
        members: The exporters, and where their items go.
        ended: Whether no further step is taken.
    """

    __slots__ = ("_former", "_joiner", "_leases", "_state", "ended", "members")

    def __init__(self, state: ContextState, members: Members) -> None:
        self.members = members
        self.ended = False
        self._state = state
        run_id = state.run.run_id
        routes = members.routes
        if len(routes) == 1:  # as below, in two thirds of the time
            self._leases: tuple[Lease, ...] = (Lease(routes[0], None, None, run_id),)
        else:
            self._leases = tuple([Lease(route, None, None, run_id) for route in routes])
        self._former: tuple[Lease, ...] = ()  # from before a member left
        self._joiner = SpanJoiner(state, _accept_by(self._leases), members.chunk_bytes)

    def begin(self) -> None:
        """Take steps from now on."""
        stream = self._state.stream
        if stream.listeners:
            self._note_others(stream.keys)
        stream.subscribe(self, self._joiner.handle, self._joiner)
        for feed in self.members.shown:
            feed.begun(self._joiner)

    def _note_others(self, subscribers: Iterable[object]) -> None:
        """Log that a run with the same state and the same exporters is open: each gets the steps of both."""
        routes = {id(route) for route in self.members.routes}
        for each in subscribers:
            if isinstance(each, SpanGroup) and not routes.isdisjoint(map(id, each.members.routes)):
                if (suppressed := _shared.due()) is not None:
                    _log.warning(
                        "context_state_shared",
                        workflow_run_id=self._state.run.run_id,
                        suppressed=suppressed,
                        cure="Make a ContextState for each run: with providers.Factory, not providers.Singleton.",
                    )
                return

    def end(self) -> None:
        """Take no more steps, and hand over what is open."""
        self._state.stream.unsubscribe(self)
        self.ended = True
        self._joiner.hand_over()

    def leave(self, delivery: Delivery) -> None:
        """Hand no further span to one member's delivery, but what is open now."""
        accounting = delivery.accounting
        if not any(accounting in lease.route.destinations for lease in self._leases):
            return
        last = Lease(accounting.route, run_id=self._state.run.run_id)
        for span in self._joiner.unfinished():
            last.accept(span)
        kept: list[Lease] = []
        for lease in self._leases:
            left = [each for each in lease.route.destinations if each is not accounting]
            if len(left) == len(lease.route.destinations):
                kept.append(lease)
            elif left:
                kept.append(Lease(Route(left, lease.route.inlet), run_id=lease.run_id))
                for each in left:
                    each.routes.add(kept[-1].route)
        self._former = (*self._former, last, *(lease for lease in self._leases if lease not in kept))
        self._leases = tuple(kept)
        self._joiner.accept = _accept_by(self._leases)

    @property
    def oddities(self) -> dict[str, int]:
        """Oddities of the run's steps, counted by name."""
        return self._joiner.oddities

    def leases_of(self, delivery: Delivery) -> list[Lease]:
        """Return the leases that lead to a member's delivery, among others."""
        accounting = delivery.accounting
        return [lease for lease in (*self._former, *self._leases) if accounting in lease.route.destinations]

    def ledger_of(self, delivery: Delivery) -> LedgerSnapshot:
        """Return the outcome of the run's items in a member's delivery."""
        return total(lease.ledger_of(delivery.accounting) for lease in self.leases_of(delivery))

    def reports(self, members: Mapping[str, SpanExporter], stop_s: float | None) -> dict[str, ExporterReport]:
        """Return the reports of members by name; `stop_s` is what the run's end has taken, in seconds."""
        state, stopped_s = (ExporterState.RUNNING, None) if stop_s is None else (_STOPPED, stop_s)
        return {
            name: ExporterReport(state, 0.0, stopped_s, self.ledger_of(each.delivery), None, self.oddities)
            for name, each in members.items()
        }

    def settled(self, delivery: Delivery) -> Awaitable[None]:
        """Return a future that is done when nothing of the run is pending in a member's delivery."""
        return asyncio.wrap_future(
            all_of([lease.settled_in(delivery.accounting) for lease in self.leases_of(delivery)])
        )

    def room(self, delivery: Delivery) -> Awaitable[None] | None:
        """Return what a run's end waits for if a member's delivery spools; None if there is nothing to wait for."""
        waiting = self._room(delivery)
        return None if waiting is None else asyncio.wrap_future(waiting)

    def _room(self, delivery: Delivery) -> Future[None] | None:
        spool = delivery.limits.spool
        if spool == "always":
            return all_of([lease.saved_in(delivery.accounting) for lease in self.leases_of(delivery)])
        return delivery.accounting.room() if spool == "spill" else None

    async def wait_for_end(self, loop: asyncio.AbstractEventLoop, timeout: float) -> bool:
        """
        Wait until all that the run's end waits for is done; return whether it is.

        For all members at once and without a task for each of them, which would take most of the time of a run that
        only waits for the disk.

        Args:
            loop: The running one.
            timeout: Seconds at most.
        """
        waiting: list[Future[None]] = []
        for each in self.members.waiting:
            if each.flush == "delivered":
                waiting += [
                    lease.settled_in(each.delivery.accounting) for lease in self.leases_of(each.delivery)
                ]
            elif (room := self._room(each.delivery)) is not None:
                waiting.append(room)
        whole = all_of(waiting)
        if whole.done():
            return True
        waiter: asyncio.Future[None] = loop.create_future()

        def wake(_: Future[None]) -> None:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(finish, waiter)

        whole.add_done_callback(wake)
        # In a context of its own: a timer that was cancelled stays in the loop until its time, and with it the run.
        timer = clock.call_after(loop, timeout, finish, waiter, context=Context())
        try:
            await waiter
        finally:
            timer.cancel()
        return whole.done()


def _accept_by(leases: tuple[Lease, ...]) -> Callable[[Span], object]:
    # Not a method of the group: that would make each run a reference cycle, which only the garbage collector frees.
    return leases[0].accept if len(leases) == 1 else partial(_accept_all, leases)


def _accept_all(leases: tuple[Lease, ...], span: Span) -> None:
    for lease in leases:
        lease.accept(span)


class MemberSubscription(Subscription):
    """One member's part in the group, as a subscription of its own."""

    __slots__ = ("_group", "_member")

    def __init__(self, exporter: SpanExporter, state: ContextState, group: SpanGroup) -> None:
        super().__init__(exporter, state)
        self._member = exporter
        self._group = group

    def begin(self) -> Awaitable[None] | None:
        return None  # the group has begun

    def end(self) -> Awaitable[None] | None:
        delivery = self._member.delivery
        if not self._group.ended:
            self._group.leave(delivery)
        if self._member.flush == "delivered":
            return self._group.settled(delivery)
        return self._group.room(delivery)

    def settled(self) -> Awaitable[None] | None:
        return self._group.settled(self._member.delivery)

    @property
    def ledger(self) -> LedgerSnapshot:
        return self._group.ledger_of(self._member.delivery)

    @property
    def oddities(self) -> dict[str, int]:
        return self._group.oddities
