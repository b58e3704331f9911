"""`make test-repeated`: goes on after a failure, and says which tests failed and how often."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]

# One of them fails in the first run only.
_TESTS = """
from pathlib import Path

def test_good():
    pass

def test_flaky():
    been_here = Path(__file__).with_name("been_here")
    if not been_here.exists():
        been_here.touch()
        raise AssertionError
"""


def _repeated(times: int, tests: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.repeated",
            "--times",
            str(times),
            "--",
            "-p",
            "no:cacheprovider",
            tests,
        ],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_a_flaky_test_is_named_with_how_often_it_failed(tmp_path: Path) -> None:
    """A failure does not end the series: each run has its line, and the failed tests are counted at the end."""
    tests = tmp_path / "test_some.py"
    tests.write_text(_TESTS)
    ended = _repeated(2, tests)
    assert ended.returncode == 1
    first, failed, second, total, counted = (
        line.partition(" in ")[0].strip() for line in ended.stdout.splitlines()
    )
    assert (first, second) == ("run 1: 1 passed, 1 failed", "run 2: 2 passed, 0 failed")
    assert failed.endswith("::test_flaky")
    assert total == "2 of 2 runs, 1 with failures."
    assert counted == f"1 x {failed}"


@pytest.mark.timeout(60)
def test_runs_that_do_not_begin_are_bad(tmp_path: Path) -> None:
    """If pytest cannot collect anything, the run says so and the series fails."""
    ended = _repeated(1, tmp_path / "missing.py")
    assert ended.returncode == 1
    assert "run 1: 0 passed, 0 failed, pytest ended with 4" in ended.stdout
    assert "missing.py" in ended.stderr
