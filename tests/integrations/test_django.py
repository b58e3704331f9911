"""Django under WSGI and ASGI: a run for each request, with the names of its routes and the errors it answers for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from dependency_injector import providers

pytest.importorskip("django", reason="There is no Django here. Cure: pip install django")

import httpx
from django.conf import settings as django_settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import include, path, re_path
from werkzeug.test import Client

from nat_observability import ContextState, SpanExporter, outgoing_headers, step
from nat_observability.containers import ObservabilityContainer
from nat_observability.errors import MissingContainerError
from nat_observability.integrations import ProcessScope
from nat_observability.integrations.django import instrument

TRACE = "0af7651916cd43dd8448eb211c80319c"
HEADERS = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "baggage": "user.id=u-1"}
PATHS = (
    "/api/items/3/",
    "/stream/",
    "/old/12/",
    "/nowhere/at/all",
    "/boom/",
    "/async/boom/",
    "/unavailable/",
)


def items(request: Any, item: int) -> JsonResponse:
    with step("tool", "work", input=item):
        return JsonResponse(outgoing_headers())


def stream(request: Any) -> StreamingHttpResponse:
    async def asynchronous() -> Any:
        with step("tool", "in the body"):
            yield b"a"
        yield b"b"

    def chunks() -> Iterator[bytes]:
        with step("tool", "in the body"):
            yield b"a"
        yield b"b"

    return StreamingHttpResponse(asynchronous() if hasattr(request, "scope") else chunks())


def boom(request: Any) -> HttpResponse:
    raise RuntimeError("boom")


async def async_boom(request: Any) -> HttpResponse:
    raise LookupError("boom")


urlpatterns = [
    path("api/", include([path("items/<int:item>/", items)])),
    path("stream/", stream),
    re_path(r"^old/(?P<number>[0-9]+)/$", lambda request, number: HttpResponse(number)),
    path("boom/", boom),
    path("async/boom/", async_boom),
    path("unavailable/", lambda request: HttpResponse(status=503)),
]

if not django_settings.configured:
    django_settings.configure(
        SECRET_KEY="-", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, LOGGING_CONFIG=None, MIDDLEWARE=[]
    )

EXPECTED = [
    ("GET /api/items/<int:item>/", 200, None),
    ("GET /stream/", 200, None),
    ("GET /old/(?P<number>[0-9]+)/$", 200, None),
    ("GET", 404, None),
    ("GET /boom/", 500, "RuntimeError"),
    ("GET /async/boom/", 500, "LookupError"),
    ("GET /unavailable/", 503, "ServerStatusError"),
]


def kept() -> tuple[ObservabilityContainer, list[Any]]:
    """Return a container whose one exporter keeps the spans, and those."""
    spans: list[Any] = []
    container = ObservabilityContainer()
    container.exporters.override(providers.Object({"kept": SpanExporter(spans.extend)}))
    return container, spans


def check(spans: list[Any]) -> None:
    """The requests have their names, their outcomes and their steps, and the first its caller's trace."""
    roots = [span for span in spans if span.kind == "WORKFLOW"]
    found = []
    for span in roots:
        metadata = json.loads(bytes(span.metadata))
        error = None if span.error is None else span.error.type.rpartition(".")[2]
        found.append((span.name, metadata["http.response.status_code"], error))
    assert found == EXPECTED
    assert (roots[0].run.trace_id, roots[0].run.user_id) == (TRACE, "u-1")
    of = {span.name: span.run.run_id for span in spans}
    assert of["work"] == of["GET /api/items/<int:item>/"]
    assert of["in the body"] == of["GET /stream/"]


@pytest.mark.observability_may_leak("threads")
def test_wsgi() -> None:
    """Views and bodies are in the request's run; below a mount its prefix is in the name."""
    container, spans = kept()
    client = Client(instrument(get_wsgi_application(), container))
    with ProcessScope(container, "test"):
        sent = json.loads(client.get(PATHS[0], headers=HEADERS, buffered=True).text)
        assert sent["traceparent"][3:35] == TRACE
        for each in PATHS[1:]:
            client.get(each, buffered=True)
    assert ContextState.current() is None
    check(spans)
    del spans[:]
    with ProcessScope(container, "test"):
        client.get("/stream/", base_url="http://localhost/root", buffered=True)
    assert [span.name for span in spans if span.kind == "WORKFLOW"] == ["GET /root/stream/"]


@pytest.mark.observability_may_leak("threads")
async def test_asgi() -> None:
    """Synchronous and asynchronous views alike, whose exceptions Django answers for."""
    container, spans = kept()
    app = instrument(get_asgi_application(), container, health="/health")
    async with ProcessScope(container, "test"):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            sent = (await client.get(PATHS[0], headers=HEADERS)).json()
            assert sent["traceparent"][3:35] == TRACE
            for each in PATHS[1:]:
                await client.get(each)
            assert (await client.get("/health/live")).status_code == 200
    check(spans)


def test_without_a_container() -> None:
    """It is refused when it is made."""
    with pytest.raises(MissingContainerError):
        instrument(get_wsgi_application(), object())
