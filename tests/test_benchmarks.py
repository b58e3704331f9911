"""`make bench` runs every benchmark, judges each row as it says, and the pages quote what was measured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

import benchmarks.__main__
from benchmarks.__main__ import SCRIPTS
from benchmarks.bars import BARS, BESIDE
from benchmarks.default_contenders import work_of
from benchmarks.growth import bend
from benchmarks.pages import PAGES, RESULTS, headlines, main_table, other_table, rewritten, unexplained
from benchmarks.payloads import Message, Payloads
from benchmarks.profile import APART
from benchmarks.report import Row, missing, of_rounds
from benchmarks.results import Result, Saved, merged, read
from tests.processes import run_program

ROOT = Path(benchmarks.__main__.__file__).parents[1]
MACHINE = {"cores": 2, "python": "3.11", "architecture": "any", "versions": {"peer": "1"}}


class Counting:
    """A recorder that counts what it is given."""

    def __init__(self) -> None:
        self.recorded = 0

    async def steps(self, payloads: Sequence[tuple[Any, Any]]) -> None:
        self.recorded += len(payloads)

    async def runs(self, payloads: Sequence[Sequence[tuple[Any, Any]]]) -> None:
        self.recorded += sum(map(len, payloads))

    async def root(self) -> None:
        self.recorded += 1

    async def agent(self, turns: Sequence[Message]) -> None:
        self.recorded += len(turns)

    async def flush(self) -> None:
        pass


def results_of(*rows: Row) -> list[Result]:
    """Return what is made of one row of each of several runs."""
    return merged("script", [[asdict(row) | {"ratio": row.ratio}] for row in rows])


def row(ours: float, theirs: float, **options: Any) -> Row:
    """Return a row of three equal rounds, with a bar of half the peer's time."""
    return of_rounds(
        "work", "µs", [ours] * 3, "peer", [theirs] * 3, options.pop("ratio", 0.5), **options
    ).under("bare", [ours / 2])


@pytest.mark.slow
def test_a_step_passes_no_more_files_than_it_did() -> None:
    """What a reader opens to follow a step to its back end; OpenTelemetry is loaded, or it would be looked for."""
    printed = run_program("import opentelemetry.metrics\nfrom benchmarks.hops import main; main()").stdout
    counted = dict(re.findall(r"one step to (\w+), at most \d+ files: (\d+) files", printed))
    sqlite_again, otlp_again = re.findall(r"another one like it: (\d+) files", printed)
    assert int(counted["SQLite"]) <= 12, printed
    assert int(counted["OTLP"]) <= 14, printed
    assert int(sqlite_again) <= 12, printed
    assert int(otlp_again) <= 13, printed


def test_each_module_that_measures_is_run() -> None:
    """None is forgotten, and none starts all the others again."""
    folder = ROOT / "benchmarks"
    measuring = {path.stem for path in folder.glob("*.py") if "\ndef measure() -> " in path.read_text()}
    assert sorted(SCRIPTS) == sorted(measuring)


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        ([row(1, 3), row(1, 3.1), row(1, 3.2)], "held"),
        ([row(2, 3), row(2, 3.1), row(2, 3.2)], "missed"),
        ([row(1, 3), row(1, 3), row(2, 3)], "no verdict: noisy"),
        ([of_rounds("work", "µs", [1.0, 2.0, 4.0, 8.0], "peer", [9.0] * 4, 0.5)], "no verdict: noisy"),
        ([missing("work", "µs", 1, "peer", "at most 0.5x")], "no verdict: peer missing"),
        ([Row("work", "ms", 5.0, "peer", 4.0, "at most 5 ms", None)], "no verdict: noisy"),
        ([row(9, 3, ratio=None)], ""),
        ([row(3.4, 3, ratio=1.0, more=0.5)], "held"),
        ([row(3.6, 3, ratio=1.0, more=0.5)], "missed"),
        ([row(1.7, 1, ratio=1.2, enough=1.7)], "held"),
    ],
)
def test_a_row_is_judged_by_its_bar_unless_the_runs_differ(rows: list[Row], verdict: str) -> None:
    """A spread of ratios above a fifth, or a missing peer, is said instead of a verdict."""
    (result,) = results_of(*rows)
    assert result.verdict == verdict


def test_a_missed_bar_is_explained_and_a_held_one_is_not() -> None:
    """With the shares of a profile; a row that was not measured stays in the table and says so."""
    profiles = {"bare": {"recording": 0.6, "run": 0.4}}
    held = "\n".join(main_table(Saved(MACHINE, results_of(row(1, 3)), {})))
    missed = "\n".join(main_table(Saved(MACHINE, results_of(row(2, 3)), profiles)))
    assert "| bare step, drained | 2 µs | 1 µs | peer, 3 µs | 0.67x (0.67 to 0.67) | at most 0.5x |" in missed
    assert "recording 60%, run 40%" in missed
    assert "Why a bar is missed" in missed
    assert "Why a bar is missed" not in held
    assert held.count("not measured") == len(BARS) - 1


def test_every_missed_bar_is_explained() -> None:
    """One that nobody has looked into is named, and fails the command that writes the pages."""
    assert unexplained(read(RESULTS)) == []
    unknown = results_of(replace(row(2, 3), key="", name="a new row"))
    assert unexplained(Saved(MACHINE, unknown, {})) == ["a new row"]
    beside = "\n".join(other_table(Saved(MACHINE, results_of(replace(row(2, 3), key="joined")), {})))
    assert "| **missed**, explained below |" in beside
    assert "Why a bar is missed" in beside


def test_a_row_that_was_measured_once_shows_no_spread() -> None:
    """A spread of nothing would look like a quiet machine."""
    once = Row("work", "µs", 1.0, "peer", 3.0, "at most 0.5x", True)
    assert "| 0.33x (once) |" in "\n".join(other_table(Saved(MACHINE, results_of(once), {})))


def test_the_first_page_says_what_is_slower_too() -> None:
    """Its rows are those of the main table, whichever way they went."""
    assert "0.67" not in "\n".join(headlines(Saved(MACHINE, results_of(row(3, 2)), {})))
    assert "| 1.5x as much |" in "\n".join(headlines(Saved(MACHINE, results_of(row(3, 2)), {})))
    assert "| 3.0x less |" in "\n".join(headlines(Saved(MACHINE, results_of(row(1, 3)), {})))


@pytest.mark.parametrize("name", PAGES)
def test_only_what_is_between_its_markers_changes_in_a_page(name: str) -> None:
    """Writing the same figures twice changes nothing."""
    page = (ROOT / name).read_text()
    saved = Saved(MACHINE, results_of(row(1, 3)), {})
    once = rewritten(page, saved)
    assert rewritten(once, saved) == once
    assert once.count("<!-- figures: ") == page.count("<!-- figures: ") > 0
    assert once.partition("<!-- figures: ")[0] == page.partition("<!-- figures: ")[0]


def test_an_unknown_part_of_a_page_is_named() -> None:
    """A mistyped marker does not leave old figures in a page."""
    with pytest.raises(ValueError, match="no part 'bar'"):
        rewritten("<!-- figures: bar -->\n<!-- end -->", Saved(MACHINE, [], {}))


async def test_every_row_that_is_profiled_has_a_work_that_records() -> None:
    """A key in the table that no contender knows would end the whole run at its last step."""
    for bar in (*BARS, *BESIDE):
        if isinstance(bar.profile, str):
            assert bar.profile.partition(":")[0] in APART
        elif bar.profile is not None:
            recorder = Counting()
            work, size = bar.profile[1], bar.profile[1].partition(":")[2]
            await work_of(work, int(size or 1), Payloads(), recorder)()
            assert recorder.recorded, bar.key
    assert len({bar.key for bar in (*BARS, *BESIDE)}) == len(BARS) + len(BESIDE)


def test_growth_is_linear_until_one_costs_half_as_much_again() -> None:
    """Compared with the cheapest of the smaller sizes, not with the first, which carries what is fixed."""
    assert bend({1: 10.0, 10: 4.0, 100: 4.1, 1000: 6.2}) == 1000
    assert bend({1: 10.0, 10: 4.0, 100: 5.9}) is None
