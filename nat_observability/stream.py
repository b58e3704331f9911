"""EventStream: the synchronous fan-out of one run's steps; it never awaits and never buffers."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import ClassVar, Protocol, TypeVar

from nat_observability.events import IntermediateStep, Span
from nat_observability.foreign_errors import locate, reraise_signal
from nat_observability.logs import RepeatedEvent, get_logger
from nat_observability.system.fork_hooks import at_fork
from nat_observability.system.weak_registry import WeakRegistry

Subscriber = Callable[[IntermediateStep], object]

ItemT = TypeVar("ItemT")

_log_failure, _log_late = RepeatedEvent(), RepeatedEvent()

# One for all streams: it is held for an addition, and a run that has one of its own pays for making it. Reentrant: the
# garbage collector may close a generator, and with it a step, while it is held.
_counting = threading.RLock()


def _renew() -> None:
    """In a forked child: replace the lock, which a thread of the parent may have held."""
    global _counting
    _counting = threading.RLock()


at_fork(after_in_child=_renew)


class OpenStep(Protocol):
    """A step of this process that has begun."""

    @property
    def step_id(self) -> str | None: ...

    def enclose_in(self, parent_id: str | None) -> None:
        """Name another parent, while it begins."""
        ...

    def started(self) -> IntermediateStep:
        """Return its START."""
        ...


class SpanTaker(Protocol):
    """
    Takes a step of this process as a whole, instead of its START and its END.

    All takers share one span, and the run need not build the START and the END for them.
    """

    def begun(self, step: OpenStep) -> object: ...

    def finished(self, span: Span) -> object: ...


class Tally:
    """
    Counts without a lock, which would take longer than all the rest of a step that is not recorded.

    Attributes:
        add: Counts one, from any thread.
    """

    __slots__ = ("_reads", "add")

    def __init__(self) -> None:
        self.add = itertools.count().__next__  # atomic
        self._reads = 0

    @property
    def value(self) -> int:
        """The number that was counted."""
        with _counting:
            # A look counts too.
            number = self.add() - self._reads
            self._reads += 1
            return number


class StepCounter(Protocol):
    """
    Counts the steps of this process, and looks at none of them.

    Attributes:
        pass_over: Called instead for the beginning of a step that no subscriber of the run looks at.
        passed_over: Likewise for its end.
    """

    pass_over: Callable[[], object]
    passed_over: Callable[[], object]

    def step_began(self) -> object: ...

    def step_ended(self) -> object: ...


class Audience:
    """
    The subscribers at one moment.

    Attributes:
        everyone: All of them.
        steps: Those that take START and END.
        begun: On-start callbacks of the others, called with a step when it begins.
        finished: On-end callbacks of the others, called with its span when it ends.
        counters: Those that only count steps.
        listens: Whether any of them looks at what a step holds.
        heeds: Whether a step has to begin and to end for them. If not, `step` only calls `pass_over`.
        pass_over: Counts the beginning of such a step.
        passed_over: Counts its end.
        usual: Whether some listen, and none only counts: one look then tells `step` that there is nothing else to do.
    """

    # Reading a slot takes a tenth of the time of a named tuple's field.
    __slots__ = (
        "begun",
        "counters",
        "everyone",
        "finished",
        "heeds",
        "listens",
        "pass_over",
        "passed_over",
        "steps",
        "usual",
    )

    begun: tuple[Callable[[OpenStep], object], ...]
    counters: tuple[StepCounter, ...]
    everyone: tuple[Subscriber, ...]
    finished: tuple[Callable[[Span], object], ...]
    heeds: bool
    listens: bool
    pass_over: Callable[[], object]
    passed_over: Callable[[], object]
    steps: tuple[Subscriber, ...]
    usual: bool

    def __init__(self, subscribed: Collection[_Subscribed]) -> None:
        if len(subscribed) == 1:
            # As below, in a third of the time: nearly every run has one subscriber.
            [(subscriber, taker, counter)] = subscribed
            self.everyone = (subscriber,)
            if counter is not None:
                self.steps, self.begun, self.finished, self.counters = (), (), (), (counter,)
            elif taker is None:
                self.steps, self.begun, self.finished, self.counters = self.everyone, (), (), ()
            else:
                self.steps, self.begun, self.finished, self.counters = (
                    (),
                    (taker.begun,),
                    (taker.finished,),
                    (),
                )
            self.usual = self.listens = self.heeds = counter is None
            self.pass_over = nothing if counter is None else counter.pass_over
            self.passed_over = nothing if counter is None else counter.passed_over
            return
        takers = [taker for _, taker, _ in subscribed if taker is not None]
        self.counters = tuple([counter for _, _, counter in subscribed if counter is not None])
        self.everyone = tuple([subscriber for subscriber, _, _ in subscribed])
        self.steps = tuple(
            [subscriber for subscriber, taker, counter in subscribed if taker is None and counter is None]
        )
        self.begun = tuple([taker.begun for taker in takers])
        self.finished = tuple([taker.finished for taker in takers])
        self.listens = len(self.counters) < len(subscribed)
        self.heeds = self.listens
        self.usual = self.listens and not self.counters
        self.pass_over = partial(_call_each, [counter.pass_over for counter in self.counters])
        self.passed_over = partial(_call_each, [counter.passed_over for counter in self.counters])


def nothing() -> None:
    """Do nothing, where there is nothing to count."""


def _call_each(functions: Iterable[Callable[[], object]]) -> None:
    for function in functions:
        function()


_Subscribed = tuple[Subscriber, SpanTaker | None, StepCounter | None]


class EventStream:
    """
    Hands each published step to every subscriber, on the thread that published it, in the order of subscription.

    Subscribing and unsubscribing are safe from any thread and while others publish: a publication goes to the
    subscribers of the moment when it began.

    Attributes:
        kept: The current subscribers, in a list that every change replaces; it holds None until `gathered` fills it.
        subscribed: The streams that were subscribed to since a leak check set this; None if no leak check is active.
    """

    __slots__ = ("__weakref__", "_attended", "_by_key", "_passed_over", "_served", "_unheard", "kept")
    subscribed: ClassVar[WeakRegistry[EventStream] | None] = None

    def __init__(self) -> None:
        self._by_key: dict[object, _Subscribed] = {}
        self.kept: list[Audience | None] = [None]
        self._attended = False
        self._served = False
        self._passed_over: Tally | None = None
        self._unheard = 0

    def subscribe(
        self,
        key: object,
        subscriber: Subscriber,
        taker: SpanTaker | None = None,
        counter: StepCounter | None = None,
    ) -> None:
        """
        Hand every step from now on to `subscriber`, which must not block, until `key` is unsubscribed.

        Args:
            taker: Gets the steps of this process as a whole. Everything else that is published, chunks included, still
                goes to `subscriber`.
            counter: Told of the steps of this process instead of `subscriber`; likewise. If no subscriber looks at
                them, nothing of them is captured.
        """
        self._by_key[key] = subscriber, taker, counter
        self._served = True
        self.kept = [None]
        if EventStream.subscribed is not None:
            EventStream.subscribed.add(self)

    def unsubscribe(self, key: object) -> None:
        """Hand no further step to the subscriber of this key; does nothing if there is none."""
        self._by_key.pop(key, None)
        self.kept = [None]

    @property
    def listeners(self) -> int:
        """The number of subscribers."""
        return len(self._by_key)

    @property
    def keys(self) -> tuple[object, ...]:
        """The keys of the subscribers."""
        return tuple(self._by_key)

    @property
    def unheard(self) -> int:
        """Steps that were recorded with no subscriber, START and END, for example after the run had ended."""
        passed_over = self._passed_over
        return self._unheard + (passed_over.value if passed_over is not None else 0)

    def publish(self, step: IntermediateStep) -> None:
        """Hand `step` to every subscriber. What one of them raises reaches neither the others nor the caller."""
        everyone = (self.kept[0] or self.gathered()).everyone
        if everyone:
            hand(everyone, step)
        else:
            self.note_unheard()

    def note_unheard(self) -> None:
        """Count a step with no subscriber."""
        with _counting:
            self._unheard += 1

    def attend(self) -> None:
        """Note that a run has begun with this stream: a step without a subscriber need not begin."""
        self._attended = True
        self.kept = [None]

    def gathered(self) -> Audience:
        """Return the current subscribers."""
        # Without a lock, which would cost more than all the rest: a subscriber that is added meanwhile, too late for
        # this list, has replaced the list by then, and this one is no longer used.
        kept = self.kept
        kept[0] = audience = Audience(list(self._by_key.values()))
        if not audience.everyone:
            # Outside a manager's run, `step` still has an id, which calls to other services name.
            audience.heeds = not self._attended
            if self._attended and self._served:
                _report_late()
            if self._passed_over is None:
                self._passed_over = Tally()
            audience.pass_over = audience.passed_over = self._passed_over.add
        return audience


def hand(receivers: Iterable[Callable[[ItemT], object]], item: ItemT) -> None:
    """Hand `item` to each receiver. What one of them raises reaches neither the others nor the caller."""
    left = iter(receivers)
    for receive in left:
        try:
            receive(item)
        except BaseException as error:  # noqa: BLE001  foreign code: exporters guard themselves, others may not
            try:
                report(receive, error)
            except BaseException:
                # A signal has interrupted that one. The others get the item before it reaches the program.
                hand(left, item)
                raise


def _report_late() -> None:
    """Log that a run's step, or the end of one, came after the run: its exporters no longer take it."""
    suppressed = _log_late.due()
    if suppressed is not None:
        get_logger().warning(
            "step_after_run",
            suppressed=suppressed,
            cure="Await the run's tasks and join its threads before its block ends.",
        )


def report(subscriber: Callable[..., object], error: BaseException) -> None:
    """
    Log what a subscriber raised. Each of a run's steps may fail in the same way, so the line is rate-limited.

    A signal that interrupted the subscriber still reaches the program.
    """
    reraise_signal(error)
    suppressed = _log_failure.due()
    if suppressed is not None:
        # Not its repr, which may be the application's and may raise.
        name = getattr(type(getattr(subscriber, "__self__", subscriber)), "__qualname__", "?")
        get_logger().warning("subscriber_failed", subscriber=name, error=locate(error), suppressed=suppressed)
