"""What every test of the command starts with: no variables of ours, and no configuration of structlog afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def clean_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The command configures structlog, which belongs to the process; the settings read its environment."""
    for name in os.environ:
        if name.upper().startswith(("NAT_OBSERVABILITY_", "OTEL_")):
            monkeypatch.delenv(name)
    yield
    structlog.reset_defaults()
