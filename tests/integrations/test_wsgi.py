"""WSGI: a run for each request, with Flask and with a bare application."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import flask
import pytest
from dependency_injector import providers
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client

from nat_observability import ContextState, Span, SpanExporter, outgoing_headers, step
from nat_observability.containers import ObservabilityContainer
from nat_observability.errors import MissingContainerError
from nat_observability.integrations import ProcessScope
from nat_observability.integrations.flask import instrument
from nat_observability.integrations.wsgi import RequestMiddleware
from nat_observability.settings import ObservabilitySettings

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADERS = {
    "traceparent": f"00-{TRACE}-{SPAN}-01",
    "tracestate": "v=1",
    "baggage": "tenant=acme,user.id=u-1,foreign=1",
}


def flask_app() -> flask.Flask:
    app = flask.Flask(__name__)

    @app.route("/items/<int:item>", methods=["GET", "POST"])
    def items(item: int) -> dict[str, str]:
        with step("tool", "work"):
            return outgoing_headers()

    @app.get("/stream")
    def stream() -> Any:
        def chunks() -> Iterator[str]:
            with step("tool", "in the body"):
                yield "a"
            yield "b"

        return flask.Response(chunks())

    @app.get("/boom")
    def boom() -> str:
        raise RuntimeError("boom")

    @app.get("/unavailable")
    def unavailable() -> tuple[str, int]:
        return "", 503

    return app


def record(use: Callable[[Any], None], app: flask.Flask, **options: Any) -> list[Any]:
    """Use an application's test client while the exporters are open; return the spans."""
    spans: list[Any] = []
    settings = ObservabilitySettings(propagate_tags=("tenant",))
    container = ObservabilityContainer(settings=providers.Object(settings))
    container.exporters.override(providers.Object({"kept": SpanExporter(spans.extend)}))
    instrument(app, container, **options)
    with ProcessScope(container, "test"):
        use(app.test_client())
    assert ContextState.current() is None
    return spans


def roots(spans: list[Any]) -> list[tuple[str, int, str | None]]:
    """Return name, status and error of each request."""
    found: list[tuple[str, int, str | None]] = []
    for span in spans:
        if span.kind == "WORKFLOW":
            metadata = json.loads(bytes(span.metadata or b""))
            error = None if span.error is None else span.error.type.rpartition(".")[2]
            found.append((span.name, metadata["http.response.status_code"], error))
    return found


def test_flask() -> None:
    """Names are rules, bodies belong to the run, and what a caller makes up is in no name."""

    def use(client: Any) -> None:
        sent = client.get("/items/3", headers=HEADERS, buffered=True).get_json()
        assert sent["traceparent"].startswith(f"00-{TRACE}-")
        assert sent["tracestate"] == "v=1"
        assert sent["baggage"] == "foreign=1,user.id=u-1,tenant=acme"
        assert client.get("/stream", buffered=True).data == b"ab"
        client.get("/nowhere/at/all", buffered=True)
        client.open("/items/3", method="INVENTED", buffered=True)
        client.get("/boom", buffered=True)
        client.get("/unavailable", buffered=True)

    spans = record(use, flask_app())
    assert roots(spans) == [
        ("GET /items/<int:item>", 200, None),
        ("GET /stream", 200, None),
        ("GET", 404, None),
        ("HTTP", 405, None),
        ("GET /boom", 500, "RuntimeError"),
        ("GET /unavailable", 503, "ServerStatusError"),
    ]
    first: Span = next(span for span in spans if span.name == "GET /items/<int:item>")
    assert (first.run.trace_id, first.parent_id, first.run.user_id) == (TRACE, SPAN, "u-1")
    assert dict(first.run.tags) == {"tenant": "acme"}
    body = next(span for span in spans if span.name == "in the body")
    assert body.run.run_id == next(span for span in spans if span.name == "GET /stream").run.run_id


def test_below_a_mount() -> None:
    """A dispatcher's prefix and the server's are in the name, one from a header is not; a request has one run."""
    inner = flask_app()
    spans: list[Any] = []
    container = ObservabilityContainer()
    container.exporters.override(providers.Object({"kept": SpanExporter(spans.extend)}))
    instrument(inner, container)
    inner.wsgi_app = ProxyFix(inner.wsgi_app, x_prefix=1)  # type: ignore[method-assign]
    app = RequestMiddleware(DispatcherMiddleware(flask.Flask("outer"), {"/api": inner}), container)
    with ProcessScope(container, "test"):
        client = Client(app)
        client.get("/api/items/3", buffered=True)
        client.get("/api/items/3", base_url="http://localhost/root", buffered=True)
        client.get("/api/items/3", headers={"X-Forwarded-Prefix": "/invented"}, buffered=True)
        client.get("/elsewhere", buffered=True)
    assert [name for name, _, _ in roots(spans)] == [
        "GET /api/items/<int:item>",
        "GET /root/api/items/<int:item>",
        "GET /items/<int:item>",
        "GET",
    ]


def test_headers_of_strangers() -> None:
    """They choose neither trace nor user, and nothing of theirs goes on."""

    def use(client: Any) -> None:
        assert client.get("/items/3", headers=HEADERS, buffered=True).get_json().keys() == {"traceparent"}

    [root] = [span for span in record(use, flask_app(), trusted=False) if span.kind == "WORKFLOW"]
    assert root.run.trace_id != TRACE
    assert root.run.user_id is None


def test_an_application_that_raises_and_a_client_that_leaves() -> None:
    """The exception goes to the server unchanged; a body that is closed before its end is an error of the run."""
    app = flask_app()
    app.testing = True

    def use(client: Any) -> None:
        with pytest.raises(RuntimeError, match="boom"):
            client.get("/boom")
        response = client.get("/stream", buffered=False)
        next(response.response)
        response.close()

    assert roots(record(use, app)) == [
        ("GET /boom", 500, "RuntimeError"),
        ("GET /stream", 200, "ClientDisconnectedError"),
    ]


@pytest.mark.parametrize("has_close", [False, True])
@pytest.mark.parametrize("read", ["whole", "part", "nothing"])
def test_a_response_that_is_never_closed(has_close: bool, read: str) -> None:
    """Its run ends with its last part if there is nothing to close, and otherwise when the server drops it."""
    spans: list[Any] = []
    container = ObservabilityContainer()
    container.exporters.override(providers.Object({"kept": SpanExporter(spans.extend)}))

    def app(environ: Any, start_response: Any) -> Any:
        def parts() -> Iterator[bytes]:
            yield b"a"
            yield b"b"

        start_response("200 OK", [])
        return parts() if has_close else [b"a", b"b"]

    wrapped = RequestMiddleware(app, container)
    with ProcessScope(container, "test"):
        body = wrapped({"REQUEST_METHOD": "GET"}, lambda *_: None)
        if read == "whole":
            assert list(body) == [b"a", b"b"]
        elif read == "part":
            assert next(iter(body)) == b"a"
        ended = ContextState.current() is None
        assert ended == (read == "whole" and not has_close)
        del body
        assert ContextState.current() is None
    assert roots(spans) == [("GET", 200, None if read == "whole" else "ClientDisconnectedError")]


def test_what_a_close_records_belongs_to_the_request() -> None:
    """Also if the body was read to its end before."""
    app = flask_app()

    def at_the_end() -> None:
        with step("tool", "afterwards"):
            pass

    @app.after_request
    def closing(response: flask.Response) -> flask.Response:
        response.call_on_close(at_the_end)
        return response

    spans = record(lambda client: client.get("/items/3", buffered=True), app)
    [root] = [span for span in spans if span.kind == "WORKFLOW"]
    [own] = [span for span in spans if span.name == "afterwards"]
    assert (own.parent_id, own.run.run_id) == (root.span_id, root.run.run_id)


def test_without_a_container() -> None:
    """It is refused when it is made."""
    with pytest.raises(MissingContainerError):
        RequestMiddleware(flask_app().wsgi_app, object())  # type: ignore[arg-type]
