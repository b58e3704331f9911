"""For users of the NeMo Agent Toolkit: the example runs as it is, and the migration page names everything."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import pytest

pytest.importorskip("nat.builder", reason="the NeMo Agent Toolkit is installed apart. Cure: make test-nat")

import nat.observability

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the packages that the toolkit imports
    pytest.mark.timeout(60),
]


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
    """Neither the core nor the integration imports the toolkit if it is installed but not used."""
    code = (
        f"import nat_observability.{module}, sys; print([n for n in sys.modules if n.split('.')[0] == 'nat'])"
    )
    assert run(["-c", code], tmp_path).strip() == "[]"


def named_in_the_toolkit() -> set[str]:
    """Return the public classes and functions of the toolkit's observability, and its options in a configuration."""
    names: set[str] = set()
    for found in pkgutil.walk_packages(nat.observability.__path__, "nat.observability."):
        module = importlib.import_module(found.name)
        for name, each in vars(module).items():
            if getattr(each, "__module__", None) != found.name or not isinstance(each, type | FunctionType):
                continue
            if (
                name.startswith("_")
                or "[" in name
                or (isinstance(each, FunctionType) and "_telemetry_" in name)
            ):
                continue
            names.add(name)
            names.update(getattr(each, "model_fields", {}))
    return names - {"console_logging_method", "file_logging_method", "type"}


def test_the_migration_page_names_everything() -> None:
    """Each class, function and option of the toolkit's observability package is in docs/migration.md."""
    page = set(re.findall(r"\w+", (ROOT / "docs" / "migration.md").read_text()))
    assert not {name for name in named_in_the_toolkit() if name not in page}
