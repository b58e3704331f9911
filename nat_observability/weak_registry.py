"""WeakRegistry: the live objects of one kind, found without keeping them alive."""

from __future__ import annotations

from typing import Generic, TypeVar
from weakref import ref

ObjectT = TypeVar("ObjectT")


class WeakRegistry(Generic[ObjectT]):
    """
    Knows the objects that were added to it for as long as somebody else keeps them.

    Any thread may add one while another looks, for which a `weakref.WeakSet` raises.
    """

    def __init__(self) -> None:
        self._references: set[ref[ObjectT]] = set()

    def add(self, one: ObjectT) -> None:
        """Know this object too, which must be hashed by its identity."""
        self._references.add(ref(one, self._references.discard))

    def all(self) -> list[ObjectT]:
        """Return those that there are now."""
        # A copy of a set is made in one go, and looks at no element.
        return [one for reference in self._references.copy() if (one := reference()) is not None]
