"""
The toolkit's own tests of observability with our manager in place of theirs; what became of each file, as JSON.

A program for the environment that `make test-nat` builds; its arguments are a checkout of the toolkit and a new folder.
Where a test expects a text in the log or of an error, it expects ours.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

MANAGER = "packages/nvidia_nat_core/tests/nat/observability/test_exporter_manager.py"
FOLDERS = (
    "packages/nvidia_nat_a365/tests/telemetry",
    "packages/nvidia_nat_core/tests/nat/observability",
    "packages/nvidia_nat_data_flywheel/tests/observability",
    "packages/nvidia_nat_opentelemetry/tests/observability",
    "packages/nvidia_nat_phoenix/tests",
)
TEXTS = {
    "already registered. Overwriting": "exporter_replaced",
    "doesn't support isolation": "exporter_isolation_unsupported",
    "Failed to run exporter": "exporter_start_failed",
    "did not shut down in time": "exporter_abandoned",
    "Cannot remove exporter 'nonexistent' because it is not registered": "No exporter named 'nonexistent'",
    "Cannot get exporter 'nonexistent' because it is not registered": "No exporter named 'nonexistent'",
}
"""What the toolkit says, and what we say."""


class Outcomes:
    """
    Counts tests by file.

    Attributes:
        files: How many have passed, and the names of the others.
    """

    def __init__(self) -> None:
        self.files: dict[str, tuple[list[str], list[str]]] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Take the outcome of a test's call, or of what failed around it."""
        path, _, name = report.nodeid.partition("::")
        passed, others = self.files.setdefault(path, ([], []))
        if report.when == "call" and report.passed:
            passed.append(name)
        elif not report.passed and name not in others:
            others.append(name)

    def pytest_collectreport(self, report: Any) -> None:
        """Take a file that cannot be imported."""
        if report.failed:
            self.files.setdefault(report.nodeid, ([], []))[1].append("the file")


def main(checkout: Path, folder: Path) -> None:
    """Copy the tests, run them, and print what became of them."""
    for each in FOLDERS:
        shutil.copytree(checkout / each, folder / each)
    manager = folder / MANAGER
    text = manager.read_text("utf-8")
    for theirs, ours in TEXTS.items():
        assert theirs in text, theirs
        text = text.replace(theirs, ours)
    manager.write_text(text, "utf-8")

    import nat.observability.exporter_manager

    from nat_observability import ExporterManager

    nat.observability.exporter_manager.ExporterManager = ExporterManager
    # The fixtures of some tests are in a package of the toolkit that few have installed.
    fixtures = checkout / "packages" / "nvidia_nat_test" / "src"
    sys.path.append(str(fixtures))
    nat.__path__.append(str(fixtures / "nat"))
    more = ["-p", "nat.test.plugin"] if find_spec("nat.test.plugin") else []
    outcomes = Outcomes()
    os.chdir(folder)
    Path("pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n", "utf-8")
    options = [
        "-q",
        "--continue-on-collection-errors",
        "-p",
        "no:cacheprovider",
        "-W",
        "ignore",
        "--import-mode",
        "importlib",
        "-c",
        "pytest.ini",
    ]
    sys.stdout, out = sys.stderr, sys.stdout
    pytest.main([*options, *more, *FOLDERS], plugins=[outcomes])
    sys.stdout = out
    sys.stdout.write(
        json.dumps({path: [len(passed), others] for path, (passed, others) in outcomes.files.items()}) + "\n"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
