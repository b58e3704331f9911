"""The documentation knows every event that the code logs as a warning or an error, and every metric."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args

from nat_observability.delivery.loss_reasons import FailureReason, NamedDropReason

_ROOT = Path(__file__).parent.parent
_CONCEPTS = (_ROOT / "docs" / "concepts.md").read_text()
_OPERATIONS = (_ROOT / "docs" / "operations.md").read_text()
_LEVELS = ("warning", "error", "exception")
_CALL = re.compile(rf"\.({'|'.join(_LEVELS)})\(")
_LOGGER = re.compile(r"\b_?log(ger)?\b|get_logger\(\)")
_BOUND = {"self._logger": {"exporter"}, "logger": {"exporter"}}  # what the spool's logger adds to every line


def calls() -> Iterator[ast.Call]:
    """Every call of the package's logger at one of these levels."""
    for path in (_ROOT / "nat_observability").rglob("*.py"):
        source = path.read_text()
        if not _CALL.search(source):  # which is quicker than parsing it
            continue
        for node in ast.walk(ast.parse(source)):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in _LEVELS
                and _LOGGER.search(ast.unparse(node.func.value))
            ):
                yield node


@cache
def logged() -> dict[tuple[str, str], set[str]]:
    """The keys of each event that the code can log, by event and level."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for call in calls():
        assert isinstance(call.func, ast.Attribute)
        event = ast.literal_eval(call.args[0])
        found[event, call.func.attr] |= {
            *(key.arg or "" for key in call.keywords),
            *_BOUND.get(ast.unparse(call.func.value), ()),
        }
    return found


def rows(heading: str, page: str = _CONCEPTS) -> list[list[str]]:
    """The cells of the tables in one section of a page, without their heads."""
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    body = re.sub(r"^\|.*\n\|---.*\n", "", section, flags=re.MULTILINE)
    lines = [line for line in body.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_warning_is_documented_with_its_keys() -> None:
    """The page lists every event to alert on, with its level and its keys; and none that does not exist."""
    assert len(logged()) > 20
    documented = {
        (event.strip("`"), level): set(re.findall(r"`(\w+)`", keys)) for event, level, keys, _ in rows("Logs")
    }
    assert documented == logged()


def test_the_runbook_has_every_warning_and_every_reason() -> None:
    """Each once, with what it means and what to do."""
    events = [event.strip("`") for event, _, _ in rows("Warnings and errors", _OPERATIONS)]
    assert sorted(events) == sorted({event for event, _ in logged()})
    reasons = [reason.strip("`") for reason, _, _ in rows("What is missing, and why", _OPERATIONS)]
    named = {*get_args(FailureReason), *get_args(NamedDropReason)}
    assert sorted(reasons) == sorted({*named, "processor_failed:<name>", "filtered:<name>"})


def test_every_metric_is_documented() -> None:
    """By the names that the code gives them."""
    source = (_ROOT / "nat_observability" / "metrics.py").read_text()
    names = set(re.findall(r'"((?:otel\.sdk|nat_observability)\.[a-z_.]+)"', source))
    assert len(names) == 7
    assert {row[0].strip("`") for row in rows("Metrics")} == names
