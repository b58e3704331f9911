"""MemorySink: keeps the newest items in memory, for tests and notebooks."""

from __future__ import annotations

import threading
from collections import deque

from nat_observability.events import IntermediateStep, Item, Span
from nat_observability.sinks.protocol import Batch


class MemorySink:
    """
    Keeps the newest `limit` delivered items; older ones are dropped.

    Its items survive `close` and another `open`; only `clear` empties it. Any thread may read and clear it, even while
    a delivery writes to it.
    """

    def __init__(self, limit: int = 10_000) -> None:
        if limit < 1:
            raise ValueError(f"limit is a positive number of items, not {limit!r}. The default is 10000.")
        self._items: deque[Item] = deque(maxlen=limit)
        # Held for every access: a reader that copies the items must not meet an append by the delivery thread in the
        # middle ("deque mutated during iteration"). The GIL alone would prevent that, if there is one.
        self._lock = threading.Lock()

    @property
    def items(self) -> list[Item]:
        """The items, oldest first, as a new list."""
        with self._lock:
            return list(self._items)

    @property
    def spans(self) -> list[Span]:
        """The spans among `items`."""
        return [item for item in self.items if isinstance(item, Span)]

    @property
    def steps(self) -> list[IntermediateStep]:
        """The steps among `items`."""
        return [item for item in self.items if isinstance(item, IntermediateStep)]

    def clear(self) -> None:
        """Drop all items."""
        with self._lock:
            self._items.clear()

    async def open(self) -> None:
        """Keep the items: nothing has to be opened."""

    async def write(self, batch: Batch) -> None:
        """Keep the batch, and drop the oldest items beyond `limit`."""
        with self._lock:
            self._items.extend(batch)

    async def close(self) -> None:
        """Keep the items: nothing has to be closed."""
