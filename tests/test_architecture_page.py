"""docs/architecture.md: its tree of modules is that of the code, and what it names exists."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from tests.module_tree import PAGE, ROOT, first_sentence, printed, tree

TEXT = PAGE.read_text()


def section(heading: str) -> str:
    """Return the part of the page below one heading."""
    return TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def test_the_tree_is_that_of_the_code() -> None:
    """After moving a module, or changing its first sentence, run `python -m tests.module_tree`."""
    assert printed() == tree()


def test_every_module_says_what_it_is() -> None:
    """Each begins with one sentence, which the tree prints."""
    for path in sorted((ROOT / "nat_observability").rglob("*.py")):
        assert first_sentence(path).endswith("."), path


def test_every_module_and_package_has_a_row() -> None:
    """The packages of the layers are those of the page, no more and no fewer."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    layers = [
        module
        for layer in project["tool"]["importlinter"]["contracts"][0]["layers"]
        for module in re.findall(r"\w+", layer)
    ]
    named = re.findall(r"`(\w+)`", section("Packages").replace("pyproject.toml", ""))
    assert set(layers) <= set(named)
    rows = re.findall(r"^\| `(\w+)` \|", section("Packages"), re.MULTILINE)
    assert rows == [layer for layer in layers if layer in rows]


def test_modules_that_moved_are_where_the_page_says() -> None:
    """Each at the right of the table exists."""
    moved = re.findall(r"^\| `([\w.]+)` \| `(.+)` \|$", section("Where modules went"), re.MULTILINE)
    assert len(moved) > 60
    for _, now in moved:
        for module in now.split("` and `"):
            path = Path(ROOT, "nat_observability", *module.split("."))
            assert path.with_suffix(".py").exists() or (path / "__init__.py").exists(), module


def test_the_page_is_linked() -> None:
    """From the README, the index and CONTRIBUTING."""
    for page, link in (
        ("README.md", "docs/architecture.md"),
        ("docs/index.md", "architecture.md"),
        ("CONTRIBUTING.md", "docs/architecture.md"),
    ):
        assert f"({link})" in (ROOT / page).read_text(), page
