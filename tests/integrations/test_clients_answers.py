"""Answers as objects of the classes of eight clients: what a step records of them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venv-clients"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_clients_objects_are_read_as_their_recorded_answers() -> None:
    """What the ordinary tests read of recorded dicts, a step records of the real classes."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.is_file():
        pytest.skip(f"There is no {ENVIRONMENT.name}. Cure: make {ENVIRONMENT.name}/.installed")
    ran = subprocess.run(
        [python, Path(__file__).with_name("clients_answers.py")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout.splitlines()[-1])
    cases = sum(
        len(json.loads(path.read_text())) for path in (ROOT / "tests" / "data" / "answers").glob("*.json")
    )
    assert result == {"read": cases, "different": []}
