"""Processor: what changes an item, or drops it, between the queue and the spool."""

from __future__ import annotations

from collections.abc import Callable

from nat_observability.events import Item

Processor = Callable[[Item], Item | None]
"""
Takes an item and returns the one that goes on, or None to drop it.

It is called on the delivery thread, once for each item, and must not wait for anything. Ids and times stay as they
are. Where it raises, the item is dropped. Those of this package have a `name` besides, by which they are counted.
"""
