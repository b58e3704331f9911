"""The examples of web services, each under a real server, with a real client."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from nat_observability.store import Store
from tests.integrations.asgi_servers import ROOT, running_server

EXAMPLES = ROOT / "examples" / "web"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("example", "names"),
    [
        ("fastapi_service", {"GET /ask/{topic}", "small-model"}),
        ("starlette_service", {"GET /ask/{topic}", "search"}),
        ("litestar_service", {"GET /ask/{topic}", "search"}),
        ("django_service", {"GET /ask/<topic>", "search"}),
        ("quart_service", {"GET /ask/<topic>", "search", "remember"}),
    ],
)
def test_example_serves_and_records(example: str, names: set[str], tmp_path: Path) -> None:
    """As its first line says to start it; what it was asked is in the store when it has ended."""
    if example == "django_service":
        pytest.importorskip("django", reason="There is no Django here. Cure: pip install django")
    server = "hypercorn" if example == "quart_service" else "uvicorn"
    options = ["--bind=127.0.0.1:{port}"] if server == "hypercorn" else ["--port={port}"]
    with running_server([server, f"{example}:app", *options], tmp_path, folder=EXAMPLES) as running:
        with urllib.request.urlopen(f"{running.address}/ask/tea", timeout=10.0) as response:
            assert response.read() == b"green tea"
        running.stop()
        with Store(running.store) as store:
            (run,) = store.runs()
            assert {span.name for span in store.spans(run.run.run_id)} == names


def test_every_example_is_tested() -> None:
    """None is forgotten above."""
    assert len(list(EXAMPLES.glob("*.py"))) == 5
