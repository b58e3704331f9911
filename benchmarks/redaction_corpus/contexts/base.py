"""Context: a place in which a secret is given under a name, and the spellings and quotations that places need."""

from __future__ import annotations

import csv
import html
import io
import json
import shlex
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Render = Callable[[str, str], Any]
"""Takes the spelled name and the value, and returns a text or JSON data."""


@dataclass(frozen=True, slots=True)
class Context:
    """
    A place in which a secret is given.

    Attributes:
        name: Its own name.
        group: What its recall is counted under.
        spell: Spells the name, which it gets in snake case.
        render: Makes the text or the data.
        blanks: Whether a value may have blanks in it.
        lines: Whether a value may have line ends in it.
        tells: Whether it says itself that a value is a password: then only passwords are tried.
        encode: How the value is written there, besides the usual quotations.
    """

    name: str
    group: str
    spell: Callable[[str], str]
    render: Render
    blanks: bool = True
    lines: bool = False
    tells: bool = False
    encode: Callable[[str], str] | None = None

    def takes(self, value: str) -> bool:
        """Say whether people write such a value there."""
        if "\n" in value and not self.lines:
            return False
        return self.blanks or " " not in value


def snake(name: str) -> str:
    return name


def upper(name: str) -> str:
    return name.upper()


def kebab(name: str) -> str:
    return name.replace("_", "-")


def header(name: str) -> str:
    return "-".join(part.capitalize() for part in name.split("_"))


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def pascal(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def words(name: str) -> str:
    return name.replace("_", " ")


def title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def compact(value: Any) -> str:
    """JSON without blanks."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def dumped(value: Any) -> str:
    """JSON as Python writes it."""
    return json.dumps(value, ensure_ascii=False)


def double(value: str) -> str:
    """In double quotes, as most languages write it."""
    return dumped(value)


def single(value: str) -> str:
    """In single quotes, with backslashes."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


def doubled(value: str) -> str:
    """In single quotes, which are doubled inside, as in SQL and YAML."""
    return "'" + value.replace("'", "''") + "'"


def shell(value: str) -> str:
    return shlex.quote(value)


def markup(value: str) -> str:
    return html.escape(value)


def url(value: str) -> str:
    return urllib.parse.quote(value, safe="")


def row(*cells: str, delimiter: str = ",", quoting: int = csv.QUOTE_MINIMAL) -> str:
    """A line of a CSV file, without its end."""
    written = io.StringIO()
    csv.writer(written, delimiter=delimiter, quoting=quoting, lineterminator="").writerow(cells)  # type: ignore[arg-type]
    return written.getvalue()


def columns(head: tuple[str, ...], *rows: tuple[str, ...], border: str = "|", edge: str = "+") -> str:
    """A table as databases print it, with its columns as wide as they need."""
    widths = [max(len(line[at]) for line in (head, *rows)) for at in range(len(head))]

    def line(cells: tuple[str, ...]) -> str:
        filled = f" {border} ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        return f"{border} {filled} {border}"

    rule = edge + edge.join("-" * (width + 2) for width in widths) + edge
    return "\n".join((rule, line(head), rule, *map(line, rows), rule))
