"""Row and report(): how a benchmark prints what it measured, as a table and as JSON."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median


@dataclass(frozen=True)
class Row:
    """
    One measurement beside another of the same process and moment.

    `beside` names the peer or the floor, `theirs` is its figure in the same unit, `bar` what the ratio is to reach
    in words, `ratio` ours to theirs, the smaller the better, unless the unit is a rate. `spread` and `their_spread` are
    the smallest and the largest figure of the rounds.
    """

    name: str
    unit: str
    ours: float
    beside: str
    theirs: float | None
    bar: str
    holds: bool | None
    spread: tuple[float, float] | None = None
    their_spread: tuple[float, float] | None = None

    @property
    def ratio(self) -> float | None:
        """Ours to theirs."""
        return None if not self.theirs else self.ours / self.theirs


def at_most(name: str, unit: str, ours: float, beside: str, theirs: float, ratio: float) -> Row:
    """Return a row that holds if ours is at most `ratio` times theirs."""
    return Row(name, unit, ours, beside, theirs, f"at most {ratio:g}x", ours <= ratio * theirs)


def at_least(name: str, unit: str, ours: float, beside: str, theirs: float, ratio: float) -> Row:
    """Return a row that holds if ours is at least `ratio` times theirs."""
    return Row(name, unit, ours, beside, theirs, f"at least {ratio:g}x", ours >= ratio * theirs)


def of_rounds(
    name: str,
    unit: str,
    ours: Sequence[float],
    peer: str,
    theirs: Sequence[float],
    ratio: float | None = None,
) -> Row:
    """Return a row of medians with their spread, which holds if ours is at most `ratio` times theirs."""
    mine, other = median(ours), median(theirs)
    return Row(
        name,
        unit,
        mine,
        peer,
        other,
        "" if ratio is None else f"at most {ratio:.3g}x",
        None if ratio is None else mine <= ratio * other,
        (min(ours), max(ours)),
        (min(theirs), max(theirs)),
    )


def beside(name: str, unit: str, ours: float, peer: str, theirs: float | None) -> Row:
    """Return a row without a bar; `theirs` is None if the peer is not installed."""
    return Row(name, unit, ours, peer, theirs, "", None)


def missing(name: str, unit: str, ours: float, peer: str, bar: str) -> Row:
    """Return a row whose bar cannot be checked, because the peer is not installed."""
    return Row(name, unit, ours, peer, None, bar, None)


def report(description: str, measure: Callable[[], Sequence[Row]]) -> int:
    """Measure, print a table, write `--json FILE` if asked to; return 1 if a bar does not hold."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", metavar="FILE", help="write the rows there too")
    arguments = parser.parse_args()
    rows = measure()
    print(f"{description}\nPython {platform.python_version()} on {platform.machine()}\n")
    table = [("what", "ours", "beside", "theirs", "unit", "ratio", "bar", "holds"), *map(_cells, rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump([asdict(row) | {"ratio": row.ratio} for row in rows], file, indent=1)
    sys.stdout.flush()
    return 1 if any(row.holds is False for row in rows) else 0


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        _figure(row.ours, row.spread),
        row.beside,
        _figure(row.theirs, row.their_spread),
        row.unit,
        "" if row.ratio is None else f"{row.ratio:.2f}x",
        row.bar,
        "" if row.holds is None else "yes" if row.holds else "NO",
    )


def _figure(value: float | None, spread: tuple[float, float] | None = None) -> str:
    if value is None:
        return "missing"
    figure = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return figure if spread is None else f"{figure} ({_figure(spread[0])} to {_figure(spread[1])})"
