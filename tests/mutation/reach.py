"""Reach: which tests execute which line, and how long each takes."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coverage import CoverageData

# The tests that may see a mutant: the rest of the suite is about other modules.
_TESTS = (
    "tests/delivery/**/test_*.py",
    "tests/processors/test_*.py",
    "tests/processors/redaction/test_*.py",
    "tests/exporter/test_*.py",
    "tests/run/test_*.py",
    "tests/spool/test_*.py",
    "tests/test_exporter_manager_*.py",
    "tests/test_logs.py",
    "tests/test_metrics.py",
    "tests/test_reference_interface.py",
    "tests/test_runtime.py",
)
# They run the package in processes of their own, so no trace shows which test reached which line.
_LEFT_OUT = (
    "tests/delivery/test_crash.py",
    "tests/delivery/test_outage.py",
    "tests/spool/test_crash.py",
)
# Of the tests that reach a line, the quickest that take no longer than this together, and at least some.
_SECONDS = 30.0
_AT_LEAST = 5


@dataclass(frozen=True)
class Tests:
    """The tests for one line, in the order in which they run."""

    names: Sequence[str]
    seconds: float

    def __bool__(self) -> bool:
        return bool(self.names)


class Reach:
    """What was measured: the tests of every line, and the seconds of every test."""

    def __init__(self, root: Path, data: CoverageData, seconds: dict[str, float]) -> None:
        self._root = root
        self._data = data
        self._seconds = seconds
        self._lines: dict[Path, dict[int, list[str]]] = {}

    @classmethod
    def measured(cls, root: Path, *, jobs: int) -> Reach:
        """
        Return what the tests reach, measured again if a source or a test has changed.

        Raises:
            SystemExit: The tests cannot be run.
        """
        kept = root / "build" / "mutants"
        kept.mkdir(parents=True, exist_ok=True)
        digest, measured = kept / "digest", kept / "coverage"
        if not digest.exists() or digest.read_text() != _digest(root):
            print("Measuring which tests reach which line, once for these sources.", flush=True)
            _measure(root, kept, jobs)
            digest.write_text(_digest(root))
        data = CoverageData(str(measured))
        data.read()
        return cls(root, data, json.loads((kept / "seconds.json").read_text()))

    def tests_of(self, path: Path, source: str, line: int) -> Tests:
        """Return the tests that reach a statement, the quickest first, its module's own before all others."""
        lines = self._of_file(path)
        around = _statement(source, line)
        names = {name for each in around for name in lines.get(each, ())}
        if not names:
            # Executed by the import alone, or by nothing: any test of the module may see it.
            names = (
                {name for found in lines.values() for name in found} if _is_imported(source, line) else set()
            )
        return self._quickest(names, own=f"test_{path.stem}")

    def _quickest(self, names: set[str], *, own: str) -> Tests:
        chosen: list[str] = []
        seconds = 0.0
        passed = names & self._seconds.keys()
        for name in sorted(passed, key=lambda each: (own not in each, self._seconds[each], each)):
            taken = self._seconds[name]
            if seconds + taken <= _SECONDS or len(chosen) < _AT_LEAST:
                chosen.append(name)
                seconds += taken
        return Tests(chosen, seconds)

    def _of_file(self, path: Path) -> dict[int, list[str]]:
        if path not in self._lines:
            contexts = self._data.contexts_by_lineno(str(self._root / path))
            self._lines[path] = {
                line: [name.rpartition("|")[0] for name in names if "|" in name]
                for line, names in contexts.items()
            }
        return self._lines[path]


def _measure(root: Path, kept: Path, jobs: int) -> None:
    config, measured = kept / "settings.ini", kept / "coverage"
    config.write_text(f"[run]\nsource_pkgs = nat_observability\ndata_file = {measured}\nparallel = true\n")
    tests = [
        str(path.relative_to(root))
        for pattern in _TESTS
        for path in sorted(root.glob(pattern))
        if str(path.relative_to(root)) not in _LEFT_OUT
    ]
    ended = subprocess.run(
        [
            root / ".venv/bin/python",
            "-m",
            "pytest",
            "-q",
            "-n",
            str(jobs),
            "-m",
            "not slow",
            "-p",
            "tests.mutation.durations",
            f"--cov-config={config}",
            "--cov",
            "--cov-context=test",
            "--cov-report=",
            "--tb=no",
            *tests,
        ],
        cwd=root,
        env={**os.environ, "MUTANTS_SECONDS": str(kept / "seconds.json")},
        check=False,
    )
    if ended.returncode == 1:
        print("What fails without a mutant says nothing about mutants: it is left out.", file=sys.stderr)
    elif ended.returncode:
        sys.exit("The tests cannot be run. Cure: make test")


def _digest(root: Path) -> str:
    content = hashlib.sha256()
    for folder in ("nat_observability", "tests"):
        for path in sorted((root / folder).rglob("*.py")):
            if path.parent != Path(__file__).parent:
                content.update(path.read_bytes())
    return content.hexdigest()


def _statement(source: str, line: int) -> range:
    """Return the lines of the smallest statement at a line, of its head only if it has a body."""
    found = range(line, line + 1)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or node.lineno):
            body = getattr(node, "body", None)
            end = body[0].lineno - 1 if body else node.end_lineno or node.lineno
            if line <= max(end, node.lineno):
                found = range(node.lineno, max(end, node.lineno) + 1)
    return found


def _is_imported(source: str, line: int) -> bool:
    """Whether a line is executed when the module is imported."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return not any(
        isinstance(node, functions) and node.body[0].lineno <= line <= (node.end_lineno or node.lineno)
        for node in ast.walk(ast.parse(source))
    )
