"""The GenAI conventions, as pytest-genai-semconv checks them: no finding for any kind of step."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

ENVIRONMENT = Path(__file__).parents[2] / ".venv-semconv"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_every_kind_of_step_conforms() -> None:
    """With DIALECT=genai, recorded and encoded as an application does it; decoded as spans of the SDK."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.is_file():
        pytest.skip(f"There is no {ENVIRONMENT.name}. Cure: make {ENVIRONMENT.name}/.installed")
    ran = subprocess.run(
        [python, Path(__file__).with_name("conforming_run.py")], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)
    assert result["findings"] == {}
    assert result["kinds"] == 16
    assert result["spans"] >= 24
    # A checker that finds nothing anywhere proves nothing.
    assert result["without_a_provider"]
