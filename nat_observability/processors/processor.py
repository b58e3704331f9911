"""Processor: changes an item, or drops it, before it is queued; and what one may offer beside that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from nat_observability.events import Item

Processor = Callable[[Item], Item | None]
"""
Takes an item and returns the one that goes on, or None to drop it.

It is called on the delivery thread, once per item, and must not block. Ids and times must stay as they are. If it
raises, the item is dropped. The processors of this package also have a `name`, under which their drops are counted.
"""


@runtime_checkable
class LooksAhead(Protocol):
    """A processor that sees several items before it gets each of them, because one look takes less time."""

    def look_ahead(self, items: Sequence[Item]) -> int:
        """See as many of the items that come next as it likes; return how many. From the same thread."""


@runtime_checkable
class LeavesLight(Protocol):
    """
    A processor that returns light items as they are, so that it need not be called for them.

    Attributes:
        leaves_up_to: The most bytes of everything recorded in such an item, one for each character at least.
    """

    @property
    def leaves_up_to(self) -> int: ...


def name_of(processor: object) -> str:
    """
    Return the name by which a processor is counted: its own, or that of its function or class.

    Raises:
        TypeError: It cannot be called, or is a class.
    """
    if isinstance(processor, type) or not callable(processor):
        shown = processor.__name__ if isinstance(processor, type) else f"a {type(processor).__name__}"
        raise TypeError(
            f"A processor is a function of an item, or an object that can be called like one, and {shown} is not."
        )
    own = getattr(processor, "name", None)
    return own if isinstance(own, str) else getattr(processor, "__name__", type(processor).__name__)
