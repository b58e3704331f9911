"""Fixtures of the tests of recording."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nat_observability import ContextState
from nat_observability.testing import CapturingExporter


@pytest.fixture
def run() -> Iterator[CapturingExporter]:
    """A run is current."""
    exporter, state = CapturingExporter(), ContextState()
    state.stream.subscribe("test", exporter.export)
    with state.attach():
        yield exporter
    state.stream.unsubscribe("test")
