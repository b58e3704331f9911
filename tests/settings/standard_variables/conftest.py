"""What the tests of standard variables share: an environment without any of them."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from nat_observability.propagation.formats import DEFAULT, use_propagators
from nat_observability.settings.standard_variables.makers import IGNORED, MAKER_VARIABLES

SetThem = Callable[..., None]

_MAKERS = {
    *(name for rows in MAKER_VARIABLES.values() for row in rows for name in row.names),
    *(name for names in IGNORED.values() for name in names),
    "DD_SITE",
}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts without any variable of ours, of OpenTelemetry or of a maker."""
    for name in os.environ:
        if name.upper().startswith(("NAT_OBSERVABILITY_", "OTEL_")) or name.upper() in _MAKERS:
            monkeypatch.delenv(name)


@pytest.fixture
def set_them(monkeypatch: pytest.MonkeyPatch) -> SetThem:
    """Sets variables by their whole names."""

    def set_each(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_each


@pytest.fixture(autouse=True)
def default_formats() -> object:
    """A test that builds exporters leaves the process's formats as they were."""
    yield
    use_propagators(DEFAULT)
    return None
