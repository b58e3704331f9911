"""G1, G4, G5, G15, G20: random programs with threads and handles refused, sinks that block, and children."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.processes import run_program


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "size",
    [
        (6, 10),
        pytest.param((100, 25), marks=pytest.mark.slow),
        pytest.param((15, 25, "children"), marks=pytest.mark.slow),
    ],
    ids=["few", "many", "with children"],
)
def test_random_programs_with_real_threads(size: tuple[Any, ...], tmp_path: Path) -> None:
    """Runs begin, work and end; ledgers add up; what was recorded is delivered, or counted with a reason."""
    run_program(
        """
        import warnings
        warnings.filterwarnings("ignore", "This process", DeprecationWarning)  # of 3.12, about forks
        from tests.faults import threads_model
        threads_model.main()
        """,
        tmp_path,
        *size,
        timeout=550,
        measured=False,
    )


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_g6_children_of_every_start_method_deliver(tmp_path: Path) -> None:
    """Of the same program, which the methods have to import."""
    run_program(
        """
        from tests.faults import threads_model
        threads_model.children_of_every_method()
        """,
        tmp_path,
        timeout=150,
        measured=False,
    )
