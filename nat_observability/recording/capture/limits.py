"""limits: how many values one capture may visit and how many bytes it may keep, in the whole process."""

from __future__ import annotations

from typing import Final

MAX_NODES: Final = 100_000
"""Most values that one capture visits, unless the settings say otherwise."""
MAX_BYTES: Final = 1024 * 1024
"""Most bytes that one capture keeps, unless the settings say otherwise."""
LEAST_NODES: Final = 1_000
LEAST_BYTES: Final = 16 * 1024
"""The least that may be set; text of so many characters is kept in any case."""


class Limits:
    """
    The bounds of a capture. A value is captured once for all exporters, so there is one for the process.

    Attributes:
        nodes: Values that one capture visits at most.
        size: Bytes that one capture keeps at most.
        reserved_nodes: Of the nodes, those for the values behind one that would take everything.
        reserved_size: Of the bytes, those for them.
        walked_nodes: Of the nodes, those for a value that is not plain data; finding that out has taken the others.
    """

    __slots__ = ("nodes", "reserved_nodes", "reserved_size", "size", "walked_nodes")

    def __init__(self) -> None:
        self.set(MAX_NODES, MAX_BYTES)

    def set(self, nodes: int, size: int) -> None:
        self.nodes, self.reserved_nodes, self.walked_nodes = nodes, nodes // 10, nodes * 2 // 3
        self.size, self.reserved_size = size, size // 16


limits: Final = Limits()


def set_limits(nodes: int, size: int) -> None:
    """Bound the captures of this process from now on. In any thread; a capture that is under way may use either."""
    limits.set(max(LEAST_NODES, nodes), max(LEAST_BYTES, size))
