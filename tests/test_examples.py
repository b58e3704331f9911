"""The examples, and the one in the README, run as they are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

# Each starts an interpreter or two, which import everything anew.
pytestmark = pytest.mark.timeout(90)

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(arguments: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python in an empty folder, as a user would to try something out."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(example: Path, tmp_path: Path) -> None:
    """Each file in examples/ runs without an error and without a warning."""
    result = run(["-W", "error", str(example)], tmp_path)
    assert result.returncode == 0, result.stderr
    if example.stem == "quickstart":  # what it records appears on the terminal
        assert "search" in result.stderr + result.stdout


def test_the_example_of_the_readme_prints_its_step(tmp_path: Path) -> None:
    """The first Python block of the README, pasted into a file, and nothing else: no variable, no warning."""
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    (tmp_path / "first.py").write_text(block[1])
    result = run(["-W", "error", "first.py"], tmp_path)
    assert (result.returncode, len((result.stdout + result.stderr).splitlines())) == (0, 1), result.stderr
    assert re.search(r" TOOL +search .* ok", result.stdout + result.stderr)
    configured = run(
        ["-W", "error", "first.py"],
        tmp_path,
        NAT_OBSERVABILITY_EXPORTERS__MAIN__TYPE="file",
        NAT_OBSERVABILITY_EXPORTERS__MAIN__PATH=str(tmp_path / "spans.jsonl"),
    )
    assert configured.returncode == 0, configured.stderr
    assert "green" in (tmp_path / "spans.jsonl").read_text()
