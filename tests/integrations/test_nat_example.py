"""The example of the NeMo Agent Toolkit runs as it is, and the toolkit is imported by nobody who does not use it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("nat.builder", reason="the NeMo Agent Toolkit is installed apart. Cure: make test-nat")

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(60)


def run(arguments: list[str], folder: Path) -> str:
    """Run Python in an empty folder, and return what it printed."""
    ran = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=45,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_example_shows_both_runs(tmp_path: Path) -> None:
    """The run that went well and the one that failed are in the store, nested, with the error."""
    shown = run([str(ROOT / "examples" / "nat" / "workflow.py")], tmp_path)
    assert shown.splitlines() == [
        "Lisbon: sunny",
        "no city named Atlantis",
        "WORKFLOW answer: ok",
        "  FUNCTION <workflow>: ok",
        "    FUNCTION weather: ok",
        "      TOOL forecast: ok",
        "WORKFLOW answer: no city named Atlantis",
        "  FUNCTION <workflow>: no city named Atlantis",
        "    FUNCTION weather: no city named Atlantis",
        "      TOOL forecast: ok",
    ]


@pytest.mark.parametrize("module", ["exporter_manager", "integrations.nat"])
def test_importing_imports_no_toolkit(module: str, tmp_path: Path) -> None:
    """Neither the core nor the integration imports the toolkit where it is installed and not used."""
    code = (
        f"import nat_observability.{module}, sys; print([n for n in sys.modules if n.split('.')[0] == 'nat'])"
    )
    assert run(["-c", code], tmp_path).strip() == "[]"
