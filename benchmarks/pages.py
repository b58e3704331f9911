"""Writes the figures of `results/results.json` into the pages that quote them: `python -m benchmarks.pages`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.bars import BARS, BESIDE, Bar
from benchmarks.growth import KEY, bend
from benchmarks.results import Result, Saved, read

_ROOT = Path(__file__).parents[1]
RESULTS = _ROOT / "benchmarks" / "results"
PAGES = ("README.md", "docs/performance.md", "benchmarks/README.md")
_HEADLINES = ("bare", "text", "history", "run", "agent", "root-1", "web-1", "start")


def scales_of(results: Sequence[Result]) -> dict[str, dict[int, float]]:
    """Return the cost of one by size, of everything that grows."""
    scales: dict[str, dict[int, float]] = {}
    for each in results:
        if each.key == KEY:
            name, _, size = each.name.rpartition(": ")
            scales.setdefault(name, {})[int(size.replace(",", ""))] = each.ours
    return scales


def main_table(saved: Saved) -> list[str]:
    """Return the table of the bars, what is missing, and what explains each missed one."""
    lines = [
        "| work | here | without redaction | beside | ratio (spread) | bar | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for bar in BARS:
        rows = [each for each in saved.results if each.key == bar.key]
        if not rows:
            lines.append(f"| {bar.title} | | | | | | not measured |")
        for place, row in enumerate(rows):
            lines.append(
                f"| {bar.title if not place else ''} | {_figure(row.ours, row.unit)} "
                f"| {'' if row.unredacted is None else _figure(row.unredacted, row.unit)} "
                f"| {row.beside}, {_figure(row.theirs, row.unit)} | {_ratio(row)} | {row.bar} | {_verdict(row)} |"
            )
    return lines + _reasons(BARS, saved)


def unexplained(saved: Saved) -> list[str]:
    """Return the names of the rows that miss their bars and have no explanation."""
    explained = {bar.key for bar in (*BARS, *BESIDE) if bar.explained}
    return [row.name for row in saved.results if row.verdict == "missed" and row.key not in explained]


def _reasons(bars: Sequence[Bar], saved: Saved) -> list[str]:
    """Return what explains each missed bar, under a heading; nothing if none is."""
    missed = {row.key for row in saved.results if row.verdict == "missed"}
    notes: list[str] = []
    for bar in bars:
        if bar.key in missed:
            notes += ["", f"**{bar.title}**: {bar.explained}{_shares(saved.profiles.get(bar.key))}"]
    return ["", "#### Why a bar is missed", *notes] if notes else []


def works(_: Saved) -> list[str]:
    """Return what each side does, row by row; rows of one work together."""
    titles: dict[str, list[str]] = {}
    for bar in BARS:
        if bar.work != "the same":
            titles.setdefault(bar.work, []).append(bar.title)
    lines = ["| work | what each side does |", "|---|---|"]
    return lines + [f"| {'<br>'.join(each)} | {work} |" for work, each in titles.items()]


def headlines(saved: Saved) -> list[str]:
    """Return the few rows of the first page."""
    lines = ["| work, CPU | here | beside | |", "|---|---|---|---|"]
    named: dict[str, Bar] = {bar.key: bar for bar in BARS}
    for key in _HEADLINES:
        for row in saved.results:
            if row.key == key and row.bar and row.theirs is not None:
                theirs = f"{row.beside}, {_figure(row.theirs, row.unit)}"
                here = _figure(row.ours, row.unit)
                lines += [f"| {named[key].title} | {here} | {theirs} | {_words(row)} |"]
    return lines


def growth_table(saved: Saved) -> list[str]:
    """Return the cost of one by size, and from where on it is not linear any more."""
    units = {each.name.rpartition(": ")[0]: each.unit for each in saved.results if each.key == KEY}
    lines = ["| what grows | cost of one | not linear any more |", "|---|---|---|"]
    for name, figures in scales_of(saved.results).items():
        found = bend(figures)
        costs = ", ".join(f"{size:,}: {_number(figure)}" for size, figure in figures.items())
        until = "not in what was tried" if found is None else f"at {found:,}"
        lines.append(f"| {name} | {units[name]}: {costs} | {until} |")
    return lines


def other_table(saved: Saved) -> list[str]:
    """Return every other row, with or without a bar."""
    keys = {bar.key for bar in BARS} | {KEY}
    lines = ["| work | here | beside | ratio (spread) | bar | verdict |", "|---|---|---|---|---|---|"]
    for each in saved.results:
        if each.key not in keys:
            theirs = f"{each.beside}, {_figure(each.theirs, each.unit)}" if each.beside else ""
            lines.append(
                f"| {each.name} | {_figure(each.ours, each.unit)} | {theirs} | {_ratio(each)} | {each.bar} "
                f"| {_verdict(each)} |"
            )
    return lines + _reasons(BESIDE, saved)


def measured_on(saved: Saved) -> list[str]:
    """Return the machine, the versions, and which peers are missing."""
    machine = saved.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    runs = max((each.runs for each in saved.results), default=0)
    missing = sorted({each.beside for each in saved.results if each.theirs is None and each.beside})
    sentence = f" Not installed, and so left out: {', '.join(missing)}." if missing else ""
    return [
        f"Medians of {runs} run{'s' if runs != 1 else ''} on {machine['cores']} cores, Python {machine['python']}, "
        f"{machine['architecture']}, {versions}.{sentence}"
    ]


def rewritten(page: str, saved: Saved) -> str:
    """
    Return a page with its figures between its markers replaced.

    Raises:
        ValueError: A marker has no known name.
    """
    parts: dict[str, Callable[[Saved], list[str]]] = {
        "headlines": headlines,
        "bars": main_table,
        "growth": growth_table,
        "others": other_table,
        "measured-on": measured_on,
        "works": works,
    }

    def replaced(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in parts:
            raise ValueError(f"There is no part {name!r}. There are: {', '.join(parts)}")
        return f"<!-- figures: {name} -->\n" + "\n".join(parts[name](saved)) + "\n<!-- end -->"

    return re.sub(r"<!-- figures: (?P<name>[\w-]+) -->\n.*?<!-- end -->", replaced, page, flags=re.DOTALL)


def main() -> int:
    """Rewrite every page; return 1 if a row misses its bar and nothing explains it."""
    saved = read(RESULTS)
    for name in PAGES:
        path = _ROOT / name
        path.write_text(rewritten(path.read_text(), saved))
    for name in (bare := unexplained(saved)):
        print(f"{name} misses its bar. Say in benchmarks/bars.py what a profile shows, and what would help.")
    return 1 if bare else 0


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2g}" if abs(value) < 10 else f"{value:.0f}"


def _figure(value: float | None, unit: str) -> str:
    return "missing" if value is None else f"{_number(value)} {unit}"


def _verdict(row: Result) -> str:
    return "**missed**, explained below" if row.verdict == "missed" else row.verdict


def _ratio(row: Result) -> str:
    if row.ratio is None:
        return ""
    spread = " (once)" if row.least is None or row.most is None else f" ({row.least:.2f} to {row.most:.2f})"
    return f"{row.ratio:.2f}x{spread}"


def _words(row: Result) -> str:
    if row.theirs is None or not row.ours:
        return ""
    times = row.theirs / row.ours
    return f"{times:.1f}x less" if times >= 1.05 else f"{1 / times:.1f}x as much"


def _shares(parts: dict[str, float] | None) -> str:
    if not parts:
        return ""
    largest = ", ".join(f"{part} {share:.0%}" for part, share in parts.items() if share >= 0.03)
    return f" Of the CPU time by the profile: {largest}."


if __name__ == "__main__":
    sys.exit(main())
