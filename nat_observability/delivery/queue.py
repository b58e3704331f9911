"""BoundedQueue: entries in order, bounded in number and in bytes, with a policy for when it is full."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from nat_observability.delivery.limits import QueuePolicy
from nat_observability.delivery.loss_reasons import NamedDropReason
from nat_observability.events import Item, Span

BARE_ITEM = 640 + 3 * 49
"""Bytes of an item with its ids and its entry, and of the heads of name, input and output: sys.getsizeof("") each."""

_BARE_PART = 200  # an event or a link


class Entry(Protocol):
    """What a queue holds."""

    size: int


EntryT = TypeVar("EntryT", bound=Entry)


def weigh(item: Item) -> int:
    """Return about how many bytes of memory an item holds: `BARE_ITEM`, and one or more for each character in it."""
    # Written out, because it is called for each item while the workflow waits.
    size, name, given, result = BARE_ITEM, item.name, item.input, item.output
    size += len(name) if type(name) is str and name.isascii() else sys.getsizeof(name)
    if given is not None:
        size += len(given) if type(given) is not str or given.isascii() else sys.getsizeof(given)
    if result is not None:
        size += len(result) if type(result) is not str or result.isascii() else sys.getsizeof(result)
    if item.metadata is not None:
        size += len(item.metadata)
    if item.status_message is not None:
        size += sys.getsizeof(item.status_message)
    if not isinstance(item, Span) and (chunk := item.chunk) is not None:
        size += sys.getsizeof(chunk) if type(chunk) is str else len(chunk)
    if item.tags:
        size += sum(map(sys.getsizeof, item.tags))
    if item.error is not None:
        size += sys.getsizeof(item.error.message) + sys.getsizeof(item.error.traceback)
    if item.attributes is not None:
        size += len(item.attributes)
        if item.origin is not None:  # hardly ever without attributes
            scope = item.origin.scope_attributes
            size += _BARE_PART + (0 if scope is None else len(scope))
    if item.events or item.links:
        size += _weigh_parts(item)
    return size


def _weigh_parts(item: Item) -> int:
    """Return about how many bytes of memory the events and links of an item hold."""
    size = 0
    for event in item.events:
        size += _BARE_PART + len(event.name) + (0 if event.attributes is None else len(event.attributes))
    for link in item.links:
        size += _BARE_PART + len(link.trace_state or "")
        size += 0 if link.attributes is None else len(link.attributes)
    return size


class BoundedQueue(Generic[EntryT]):
    """
    Entries in the order in which they came. Not synchronized: the delivery holds its lock around every call.

    The lock is reentrant: at any call in here the garbage collector may close a step, and `put` is called once more, in
    the middle. Hence no count is read before a call and written after it.

    What was taken still counts against the limit in bytes until it is released, because it is still in memory.

    Args:
        max_items: Most entries that wait, without those that were taken.
        max_bytes: Most bytes of all entries that wait or were taken and not yet released.
        policy: What happens to an entry that does not fit.

    Attributes:
        items: Entries that wait.
        queued_bytes: Of what waits.
        held_bytes: Of that and of what was taken and not yet released.
    """

    __slots__ = (
        "_entries",
        "_max_bytes",
        "_max_items",
        "_policy",
        "held_bytes",
        "items",
        "queued_bytes",
    )

    def __init__(self, max_items: int, max_bytes: int, policy: QueuePolicy) -> None:
        self._entries: deque[EntryT] = deque()
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._policy = policy
        # Counted, not computed: put() runs for each item while the workflow waits.
        self.items = self.queued_bytes = self.held_bytes = 0

    def rebound(self, max_items: int, max_bytes: int, policy: QueuePolicy) -> None:
        """Set other bounds and another policy, for entries put from now on."""
        self._max_items, self._max_bytes, self._policy = max_items, max_bytes, policy

    def __len__(self) -> int:
        return self.items

    def put(self, entry: EntryT) -> list[tuple[EntryT, NamedDropReason]] | None:
        """Add `entry`. Returns what had to be dropped for it, with the reason: itself or older ones; else None."""
        size = entry.size
        if self.items >= self._max_items or self.held_bytes + size > self._max_bytes:
            return self._put_full(entry)
        self._entries.append(entry)
        self.items += 1
        self.held_bytes += size
        self.queued_bytes += size
        return None

    def put_all(self, entries: Sequence[EntryT], size: int) -> bool:
        """Add entries of `size` bytes together, if all of them fit; return whether they did, and otherwise add none."""
        if self.items + len(entries) > self._max_items or self.held_bytes + size > self._max_bytes:
            return False
        self._entries.extend(entries)
        self.items += len(entries)
        self.held_bytes += size
        self.queued_bytes += size
        return True

    def _put_full(self, entry: EntryT) -> list[tuple[EntryT, NamedDropReason]]:
        if entry.size > self._max_bytes:
            return [(entry, "too_large")]
        taken_bytes = self.held_bytes - self.queued_bytes
        if self._policy == "drop_newest" or taken_bytes + entry.size > self._max_bytes:
            return [(entry, "queue_full")]
        dropped: list[tuple[EntryT, NamedDropReason]] = []
        while self.items >= self._max_items or self.held_bytes + entry.size > self._max_bytes:
            oldest = self._entries.popleft()
            self.items -= 1
            self.queued_bytes -= oldest.size
            self.held_bytes -= oldest.size
            dropped.append((oldest, "queue_full"))
        self._entries.append(entry)
        self.items += 1
        self.queued_bytes += entry.size
        self.held_bytes += entry.size
        return dropped

    def take(self, max_items: int, max_bytes: int) -> list[EntryT]:
        """Remove and return the oldest entries: at most so many, and so many bytes, but always one if there is one."""
        entries = self._entries
        if self.items <= max_items and self.queued_bytes <= max_bytes:
            return self.take_all()
        batch: list[EntryT] = []
        size = 0
        while entries and len(batch) < max_items and (not batch or size + entries[0].size <= max_bytes):
            entry = entries.popleft()
            size += entry.size
            batch.append(entry)
        self.items -= len(batch)
        self.queued_bytes -= size
        return batch

    def take_all(self) -> list[EntryT]:
        """Remove and return every entry."""
        empty: deque[EntryT] = deque()
        # Nothing is called until both have been exchanged.
        entries = self._entries
        self._entries = empty
        self.items = self.queued_bytes = 0
        return list(entries)

    def put_back(self, batch: Iterable[EntryT]) -> None:
        """Let entries that were taken, and not released, be the next ones to be taken."""
        for entry in reversed(list(batch)):
            self._entries.appendleft(entry)
            self.items += 1
            self.queued_bytes += entry.size

    def release(self, batch: Iterable[EntryT]) -> None:
        """Count entries that were taken as no longer in memory."""
        freed = sum([entry.size for entry in batch])
        self.held_bytes -= freed

    @property
    def waiting(self) -> list[EntryT]:
        """What waits, oldest first, in a list of the caller's own."""
        return list(self._entries)
