"""G5, G20: under changing faults ledger and log agree, to the item; `make soak` does it for minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.agreement import Agreement


@pytest.mark.may_block  # a figure is read from /proc
@pytest.mark.timeout(120)
@pytest.mark.parametrize("seconds", [2.0, pytest.param(40.0, marks=pytest.mark.slow)])
async def test_g5_g20_ledger_and_log_agree_under_changing_faults(seconds: float, tmp_path: Path) -> None:
    """Back ends, processors, spools and runtimes fail in changing ways, and nothing has grown by the end."""
    agreement = Agreement(7, tmp_path)
    await agreement.run(seconds)
    agreement.check()
    if seconds > 10:
        agreement.check_flat()
    assert agreement.runs
    assert len(agreement.said) == len(agreement.exporters)
