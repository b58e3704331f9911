"""ResultConsole: where the command prints; tables are plain lines unless a terminal shows them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDEST = 60  # columns to which the lines of a table are aligned; a longer cell moves what comes after it

_MOST_WRAPPED = 50_000  # characters of a table


class ResultConsole(Console):
    """
    A console whose tables have no width if they are to be whole and there is no terminal, or if they are very long.

    Rich would align every line to the longest cell, which is as long as what was recorded.

    Args:
        whole: Whether nothing is cut.
        options: As of `Console`.
    """

    def __init__(self, *, whole: bool, **options: Any) -> None:
        super().__init__(**options)
        self._whole = whole

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as `Console.print`."""
        if (
            len(objects) == 1
            and isinstance(objects[0], Table)
            and self._whole
            and not self._wraps(objects[0])
        ):
            self.file.writelines(f"{line}\n" for line in plain_lines(objects[0]))
            return
        super().print(*objects, **options)

    def _wraps(self, table: Table) -> bool:
        """Whether to wrap the cells of a table; a terminal does it by itself, and Rich takes seconds for a megabyte."""
        if not self.is_terminal:
            return False
        return sum(len(_text(cell)) for column in table.columns for cell in column.cells) <= _MOST_WRAPPED

    def on_broken_pipe(self) -> None:
        """Leave it to the command, which ends well: the reader has seen enough."""
        raise BrokenPipeError


def plain_lines(table: Table) -> Iterator[str]:
    """Yield the lines of a table whose cells are text, without styles and with nothing cut."""
    columns = [[_text(cell) for cell in column.cells] for column in table.columns]
    if table.show_header:
        for column, cells in zip(table.columns, columns, strict=True):
            cells.insert(0, _text(column.header))
    rows = [[cell.split("\n") for cell in row] for row in zip(*columns, strict=True)]
    widths = [
        min(_WIDEST, max((cell_len(line) for row in rows for line in row[number]), default=0))
        for number in range(len(columns))
    ]
    right = [column.justify == "right" for column in table.columns]
    for row in rows:
        for line in zip_longest(*row, fillvalue=""):
            padded = (
                _aligned(cell, width, right=is_right)
                for cell, width, is_right in zip(line, widths, right, strict=True)
            )
            yield "  ".join(padded).rstrip()


def _text(cell: object) -> str:
    return cell.plain if isinstance(cell, Text) else str(cell)


def _aligned(text: str, width: int, *, right: bool) -> str:
    blanks = " " * max(0, width - cell_len(text))
    return blanks + text if right else text + blanks
