"""Every promise is carried by tests: G1 to G17 and G20, by their names or by what their module says of itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

_TESTS = Path(__file__).parent
_CONCEPTS = _TESTS.parent / "docs" / "concepts.md"
_IN_A_NAME = re.compile(r"(?<![a-z])g([0-9]{1,2})(?![0-9])")
_IN_A_DEFINITION = re.compile(rf"def test_\w*{_IN_A_NAME.pattern}")
_IN_A_SENTENCE = re.compile(r"\bG([0-9]{1,2})\b")

PROMISES = (*range(1, 18), 20)


def carriers() -> dict[int, list[str]]:
    """Return the tests that carry each promise, as `file::test`."""
    found: dict[int, list[str]] = {number: [] for number in PROMISES}
    for path in sorted(_TESTS.rglob("test_*.py")):
        source = path.read_text()
        if not (_IN_A_DEFINITION.search(source) or _IN_A_SENTENCE.search(source[:400])):
            continue  # which is quicker than parsing it
        module = ast.parse(source)
        of_all = _IN_A_SENTENCE.findall((ast.get_docstring(module) or "").partition("\n")[0])
        for name in _tests_of(module):
            for number in {int(each) for each in (*of_all, *_IN_A_NAME.findall(name))}:
                found[number].append(f"{path.relative_to(_TESTS)}::{name}")
    return found


def _tests_of(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.name


def test_every_promise_has_tests() -> None:
    """The number of promises without a test is zero. With `-s` it lists them."""
    found = carriers()
    for number, tests in found.items():
        print(f"G{number}: {len(tests)} tests, {', '.join(tests[:3])}{', ...' if tests[3:] else ''}")
    assert [number for number, tests in found.items() if not tests] == []


def test_every_promise_is_documented() -> None:
    """The documentation lists the same promises, by the same numbers."""
    assert {int(number) for number in _IN_A_SENTENCE.findall(_CONCEPTS.read_text())} == set(PROMISES)
