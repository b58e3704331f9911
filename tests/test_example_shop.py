"""The example shop: in one process with overrides, and as two servers and a worker that are stopped under load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dependency_injector import providers
from fastapi.testclient import TestClient

from examples.shop.containers import ShopContainer
from examples.shop.settings import ShopSettings
from examples.shop.shop import make_app, make_broker
from nat_observability.testing import CapturingExporter

# Opening the shop makes its paths absolute, once.
pytestmark = pytest.mark.may_block


class LocalSuppliers:
    """Suppliers that are in the process."""

    async def price(self, tea: str) -> str:
        return f"{len(tea)} coins"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[tuple[TestClient, CapturingExporter]]:
    """A client of a shop whose suppliers and exporters are overridden; everything else is real."""
    container, captured = ShopContainer(), CapturingExporter()
    container.settings.shop.override(providers.Object(ShopSettings(database=tmp_path / "shop.sqlite3")))
    container.gateways.suppliers.override(providers.Object(LocalSuppliers()))
    container.observability.exporters.override(providers.Object({"captured": captured}))
    with TestClient(make_app(container, make_broker(container))) as client:
        yield client, captured


def test_an_order_is_one_trace(shop: tuple[TestClient, CapturingExporter]) -> None:
    """The request, its work, its background task, and the run of the worker, with the tenant."""
    client, captured = shop
    assert client.post("/orders/75", headers={"x-tenant": "acme"}).json() == "green for 5 coins"
    tree = captured.tree
    request, delivery = tree.one("workflow", "POST /orders/{degrees}"), tree.one("task", "deliver")
    tree.one("retriever", "choose", inside=request)
    tree.one("tool", "price", inside=request)
    tree.one("tool", "remember", under=request)
    tree.one("tool", "carry", under=delivery)
    assert request.run.run_id != delivery.run.run_id
    assert request.run.trace_id == delivery.run.trace_id
    assert {node.run_tags["tenant"] for node in (request, delivery)} == {"acme"}


def test_streams_and_websockets(shop: tuple[TestClient, CapturingExporter]) -> None:
    """A stream is recorded word by word; a websocket is one run with a step for each question."""
    client, captured = shop
    assert client.get("/teas/green").text == "green is warm"
    with client.websocket_connect("/counter", headers={"x-tenant": "globex"}) as websocket:
        for degrees in (75, 100):
            websocket.send_text(str(degrees))
            assert websocket.receive_text().endswith("coins")
    tree = captured.tree
    assert tree.one("llm", "house-model", under="workflow").output == "green is warm"
    questions = tree.expect("task", "question", under=("workflow", "WEBSOCKET /counter"), times=2)
    for question in questions:
        assert tree.one("workflow", "order", under=question).run_tags == {"tenant": "globex"}
