"""The tree of modules with their first sentences, as docs/architecture.md prints it: `python -m tests.module_tree`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
_PRINTED = re.compile(r"(?<=\n## Modules\n).*?```\n(.*?)```\n", re.DOTALL)
_COLUMN = 34


@cache
def first_sentence(path: Path) -> str:
    """Return the first paragraph of a module's docstring, on one line."""
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(docstring.partition("\n\n")[0].split())


def lines(folder: Path, indent: str = "") -> Iterator[str]:
    """Yield a line for a package, its modules and its packages, in this order."""
    yield f"{indent}{folder.name}/".ljust(_COLUMN) + first_sentence(folder / "__init__.py")
    inner = f"{indent}  "
    for path in sorted(folder.glob("*.py")):
        if path.name != "__init__.py":
            yield f"{inner}{path.name}".ljust(_COLUMN) + first_sentence(path)
    for path in sorted(folder.iterdir()):
        if (path / "__init__.py").exists():
            yield from lines(path, inner)


def tree() -> str:
    """Return the tree as the page is to have it."""
    folders = (ROOT / "nat_observability", ROOT / "pytest_nat_observability")
    return "".join(f"{line}\n" for folder in folders for line in lines(folder))


def printed() -> str:
    """Return the tree as the page has it."""
    found = _PRINTED.search(PAGE.read_text())
    assert found is not None
    return found[1]


def write() -> None:
    """Bring the page up to date."""
    text = PAGE.read_text()
    found = _PRINTED.search(text)
    assert found is not None
    PAGE.write_text(text[: found.start(1)] + tree() + text[found.end(1) :])


if __name__ == "__main__":
    write()
