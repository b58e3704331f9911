"""Processor: changes an item, or drops it, between the queue and the spool."""

from __future__ import annotations

from collections.abc import Callable

from nat_observability.events import Item

Processor = Callable[[Item], Item | None]
"""
Takes an item and returns the one that goes on, or None to drop it.

It is called on the delivery thread, once per item, and must not block. Ids and times must stay as they are. If it
raises, the item is dropped. The processors of this package also have a `name`, under which their drops are counted.
"""
