"""Row and report(): how a benchmark prints what it measured, as a table and as JSON."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median, quantiles


@dataclass(frozen=True)
class Row:
    """
    One measurement beside another of the same process and moment.

    `beside` names the peer or the floor, `theirs` is its figure in the same unit, `bar` what the ratio is to reach
    in words, `ratio` ours to theirs, the smaller the better, unless the unit is a rate. `spread` and `their_spread` are
    the smallest and the largest figure of the rounds, `ratios` the quartiles of the rounds' ratios. `unredacted` is our
    figure without redaction, `key` the row's place in the tables of the pages.
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
    ratios: tuple[float, float] | None = None
    unredacted: float | None = None
    key: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours to theirs."""
        return None if not self.theirs else self.ours / self.theirs

    def under(self, key: str, unredacted: Sequence[float] = ()) -> Row:
        """Return the row with its place in the tables of the pages, and what ours took without redaction."""
        return replace(self, key=key, unredacted=median(unredacted) if unredacted else None)


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
    *,
    more: float = 0.0,
    enough: float = 0.0,
) -> Row:
    """
    Return a row of medians with their spread.

    Args:
        name: As the table has it.
        unit: Of the figures.
        ours: Of each round.
        peer: What it stands beside.
        theirs: Of each round.
        ratio: It holds if ours is at most that many times theirs; None if there is no bar.
        more: And not more than that above it.
        enough: With which it holds in any case.
    """
    mine, other = median(ours), median(theirs)
    bar = "" if ratio is None else f"at most {ratio:.3g}x"
    if more:
        bar = f"at most {more:g} {unit} more"
    if enough:
        bar += f", or {enough:g} {unit}"
    quartiles = quantiles([a / b for a, b in zip(ours, theirs, strict=False) if b] or [0.0, 0.0], n=4)
    return Row(
        name,
        unit,
        mine,
        peer,
        other,
        bar,
        None if ratio is None else mine <= max(ratio * other + more, enough),
        (min(ours), max(ours)),
        (min(theirs), max(theirs)),
        (quartiles[0], quartiles[2]),
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
