"""Copy: a copy of the project in which one module is changed, and a process that runs tests there."""

from __future__ import annotations

import enum
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

# Copied: what the tests read.
_PARTS = (
    "nat_observability",
    "containers",
    "pytest_nat_observability",
    "tests",
    "examples",
    "benchmarks",
    "docs",
    "README.md",
    "CHANGELOG.md",
    "Makefile",
    "pyproject.toml",
    "settings.example.env",
)


class Verdict(enum.Enum):
    """What became of a mutant."""

    KILLED = enum.auto()
    TIMED_OUT = enum.auto()
    SURVIVED = enum.auto()
    EXPLAINED = enum.auto()


class Copy:
    """A copy of the project with a test process of its own. A context manager: it removes both."""

    def __init__(self, root: Path, name: str) -> None:
        self.path = self.parent(root) / name
        self._root = root
        self._changes = 0
        for part in _PARTS:
            source, target = root / part, self.path / part
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        self._process = self._started()

    @staticmethod
    def parent(root: Path) -> Path:
        """Return where the copies of a project are."""
        return root / "build" / "mutants" / "copies"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        shutil.rmtree(self.path)

    @contextmanager
    def changed(self, path: Path, source: str) -> Iterator[None]:
        """Have another source in one file."""
        target = self.path / path
        original = target.read_text()
        try:
            self._write(target, source)
            yield
        finally:
            self._write(target, original)

    def verdict(self, tests: Sequence[str], *, seconds: float) -> Verdict:
        """Run tests until one fails. They get ten times the seconds that they need, and then some."""
        code = self.run(["-x", *tests], timeout=30 + 10 * seconds)
        if code is None:
            return Verdict.TIMED_OUT
        return Verdict.SURVIVED if code == 0 else Verdict.KILLED

    def run(self, arguments: Sequence[str], *, timeout: float) -> int | None:
        """Run pytest here and return its exit code; None if it took too long."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"arguments": list(arguments), "timeout": timeout}) + "\n")
        self._process.stdin.flush()
        code = json.loads(self._process.stdout.readline())
        assert code is None or isinstance(code, int)
        return code

    def _write(self, target: Path, source: str) -> None:
        # A time of its own for each: two sources of one size within a second would share their bytecode.
        target.write_text(source)
        self._changes += 1
        os.utime(target, (1_000_000_000 + self._changes,) * 2)

    def _started(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self._root / ".venv" / "bin" / "python", self.path / "tests" / "mutation" / "worker.py"],
            cwd=self.path,
            # Before the installed package, which is the original.
            env={**os.environ, "PYTHONPATH": str(self.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
