"""EventStream: the synchronous fan-out of one run's steps; it never awaits and never buffers."""

from __future__ import annotations

import threading
from collections.abc import Callable

from nat_observability.errors import describe
from nat_observability.events import IntermediateStep
from nat_observability.logs import RepeatedEvent, get_logger

Subscriber = Callable[[IntermediateStep], object]

_log_failure = RepeatedEvent()


class EventStream:
    """
    Hands each published step to every subscriber, on the thread that published it, in the order of subscription.

    Subscribing and unsubscribing are safe from any thread and while others publish: a publication goes to those
    who were subscribed when it began.

    Attributes:
        unheard: Steps that were published while nobody was subscribed, for example after the run had ended.
    """

    __slots__ = ("_by_key", "_lock", "_subscribers", "unheard")

    def __init__(self) -> None:
        # Reentrant: the garbage collector may close a generator, and with it a step, while the lock is held.
        self._lock = threading.RLock()
        self._by_key: dict[object, Subscriber] = {}
        self._subscribers: tuple[Subscriber, ...] | None = ()
        self.unheard = 0

    def subscribe(self, key: object, subscriber: Subscriber) -> None:
        """Hand every step from now on to `subscriber`, which must not block, until `key` is unsubscribed."""
        with self._lock:
            self._by_key[key] = subscriber
            self._subscribers = None

    def unsubscribe(self, key: object) -> None:
        """Hand no further step to the subscriber of this key; nothing happens where there is none."""
        with self._lock:
            self._by_key.pop(key, None)
            self._subscribers = None

    @property
    def listeners(self) -> int:
        """How many are subscribed."""
        return len(self._by_key)

    def publish(self, step: IntermediateStep) -> None:
        """Hand `step` to every subscriber. What one of them raises reaches neither the others nor the caller."""
        subscribers = self._subscribers
        if subscribers is None:
            with self._lock:
                # Built under the lock: a subscriber added meanwhile by another thread must not be overwritten.
                subscribers = self._subscribers = tuple(self._by_key.values())
        if not subscribers:
            with self._lock:
                self.unheard += 1
            return
        for subscriber in subscribers:
            try:
                subscriber(step)
            except Exception as error:  # noqa: BLE001  foreign code: exporters guard themselves, others may not
                _report(subscriber, error)


def _report(subscriber: Subscriber, error: Exception) -> None:
    # Each of a run's steps may fail in the same way: one line now and then says so.
    suppressed = _log_failure.due()
    if suppressed is not None:
        # Not its repr, which may be the application's and may raise.
        name = getattr(type(getattr(subscriber, "__self__", subscriber)), "__qualname__", "?")
        get_logger().warning(
            "subscriber_failed", subscriber=name, error=describe(error), suppressed=suppressed
        )
