"""A pytest plugin that writes how long each test took that passed, for the choice of the quickest."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path

import pytest


class _Durations:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[report.nodeid] += report.duration
        if not report.passed:
            self._failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        passed = {name: seconds for name, seconds in self._seconds.items() if name not in self._failed}
        self._path.write_text(json.dumps(passed))


def pytest_configure(config: pytest.Config) -> None:
    """Collect where the tests are counted: in the process that was called, not in its workers."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Durations(Path(os.environ["MUTANTS_SECONDS"])))
