"""`make coverage`: a file that hides behind a good total is named."""

from __future__ import annotations

from tests.coverage_bars import too_low


def test_each_file_below_the_bar_is_named_the_lowest_first() -> None:
    """A file at the bar is good, one below it is not, whatever the others are."""
    covered = {"good.py": 100.0, "bar.py": 85.0, "low.py": 84.96, "lowest.py": 10.0}
    report = {"files": {name: {"summary": {"percent_covered": each}} for name, each in covered.items()}}
    assert too_low(report) == ["10.0% lowest.py", "85.0% low.py"]
