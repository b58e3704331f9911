"""WeakRegistry: the live objects of one kind, found without keeping them alive."""

from __future__ import annotations

from typing import Generic, TypeVar
from weakref import ref

ObjectT = TypeVar("ObjectT")


class WeakRegistry(Generic[ObjectT]):
    """
    Knows the objects added to it for as long as something else keeps them alive.

    Any thread may add one while another iterates; a `weakref.WeakSet` would raise then.
    """

    def __init__(self) -> None:
        self._references: set[ref[ObjectT]] = set()

    def add(self, one: ObjectT) -> None:
        """Add an object, which must be hashed by its identity."""
        self._references.add(ref(one, self._references.discard))

    def all(self) -> list[ObjectT]:
        """Return the live objects."""
        # Copying a set is atomic, and calls nothing on its elements.
        return [one for reference in self._references.copy() if (one := reference()) is not None]
