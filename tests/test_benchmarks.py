"""`make bench` runs every benchmark once."""

from __future__ import annotations

from pathlib import Path

import benchmarks.__main__
from benchmarks.__main__ import SCRIPTS


def test_each_module_that_measures_is_run() -> None:
    """None is forgotten, and none starts all the others again."""
    folder = Path(benchmarks.__main__.__file__).parent
    measuring = {path.stem for path in folder.glob("*.py") if "\ndef measure() -> " in path.read_text()}
    assert sorted(SCRIPTS) == sorted(measuring)
