"""The list of mutants that make no difference is about the code as it is, and says why."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]
_EXPLAINED = tomllib.loads((_ROOT / "tests" / "mutation" / "explained.toml").read_text())


@pytest.mark.parametrize(
    "entry", _EXPLAINED.get("mutant", []), ids=lambda entry: f"{entry['module']}: {entry['mutant']}"
)
def test_each_explained_mutant_is_of_a_line_that_exists(entry: dict[str, str]) -> None:
    """An explanation whose line has changed is looked at again: the mutant may make a difference now."""
    source = (_ROOT / "nat_observability" / entry["module"]).read_text()
    lines = [line.strip() for line in source.splitlines()]
    assert entry["line"] in lines or entry["line"] in " ".join(lines)
    assert entry["mutant"] != entry["line"]
    assert entry["why"].strip().endswith(".")
