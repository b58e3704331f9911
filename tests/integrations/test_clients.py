"""Hooks for clients, each against a real local server: what it gets continues the trace of the run that calls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import grpc
import grpc.aio
import httpx
import pytest
from aiohttp import web

from nat_observability import ContextState, step
from nat_observability.integrations.clients import aiohttp as aiohttp_hooks
from nat_observability.integrations.clients import grpc as grpc_hooks
from nat_observability.integrations.clients import httpx as httpx_hooks
from nat_observability.propagation.formats import formats
from tests.integrations.grpc_core import grpc_core as grpc_core  # for each test here

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def state() -> ContextState:
    """Return a run that has everything that travels."""
    state = ContextState(
        traceparent=f"00-{TRACE}-{SPAN}-01",
        tracestate="v=1",
        baggage="foreign=1;p",
        conversation_id="c-1",
        tags={"tenant": "acme"},
    )
    state.propagated_tags = ("tenant",)
    return state


def wanted(calling: step, before: str = "") -> dict[str, str]:
    """Return the headers that a call inside a step carries."""
    return {
        "traceparent": f"00-{TRACE}-{calling.step_id}-01",
        "tracestate": "v=1",
        "baggage": f"{before}foreign=1;p,session.id=c-1,tenant=acme",
    }


async def _answer(request: web.Request) -> web.StreamResponse:
    if request.path == "/redirect":
        raise web.HTTPFound("/there")
    return web.json_response(
        {name: request.headers.getall(name) for name in formats().read if name in request.headers}
    )


@pytest.fixture
async def address() -> AsyncIterator[str]:
    """A server that answers with the headers that it got."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", _answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def got(answer: dict[str, list[str]]) -> dict[str, str]:
    """Return the headers of an answer, none of which was there twice."""
    assert all(len(values) == 1 for values in answer.values())
    return {name: values[0] for name, values in answer.items()}


async def in_a_thread(call: Callable[[], Any]) -> Any:
    """Call what blocks, in the context of the caller."""
    return await asyncio.to_thread(call)


async def test_httpx(address: str) -> None:
    """Both clients, with redirects, the application's own hooks and headers; and outside a run nothing."""
    seen: list[str] = []

    async def own(request: httpx.Request) -> None:
        seen.append(request.url.path)

    async with httpx.AsyncClient(event_hooks={"request": [own]}, follow_redirects=True) as client:
        httpx_hooks.instrument(client)
        httpx_hooks.instrument(client)
        assert got((await client.get(f"{address}/outside")).json()) == {}
        with state().attach(), step("tool", "call") as calling:
            assert got((await client.get(address)).json()) == wanted(calling)
            assert got((await client.get(f"{address}/redirect")).json()) == wanted(calling)
            given = {"Baggage": "mine=2,tenant=old", "TraceParent": "00-old", "TRACESTATE": "old=1"}
            assert got((await client.post(address, headers=given)).json()) == wanted(calling, "mine=2,")
    assert seen == ["/outside", "/", "/redirect", "/there", "/"]

    def blocking() -> None:
        with httpx.Client(event_hooks={"request": [httpx_hooks.add_headers]}) as client:
            with step("tool", "call") as calling:
                assert got(client.get(address).json()) == wanted(calling)
            httpx_hooks.instrument(client)
            assert client.event_hooks["request"] == [httpx_hooks.add_headers]

    with state().attach():
        await in_a_thread(blocking)


async def test_aiohttp(address: str) -> None:
    """A session, with redirects and the application's own headers; and outside a run nothing."""
    async with aiohttp.ClientSession(trace_configs=[aiohttp_hooks.trace_config()]) as session:

        async def headers(path: str = "/", **given: str) -> dict[str, str]:
            async with session.get(address + path, headers=given) as response:
                return got(await response.json())

        assert await headers() == {}
        with state().attach(), step("tool", "call") as calling:
            assert await headers() == wanted(calling)
            assert await headers("/redirect") == wanted(calling)
            given = {"Baggage": "mine=2,tenant=old", "TraceParent": "00-old"}
            assert await headers(**given) == wanted(calling, "mine=2,")
            assert given == {"Baggage": "mine=2,tenant=old", "TraceParent": "00-old"}


async def test_requests(address: str) -> None:
    """A session, with redirects, a request that is sent twice, and outside a run nothing."""
    requests = pytest.importorskip("requests")
    from nat_observability.integrations.clients import requests as requests_hooks

    def blocking() -> None:
        with requests.Session() as session:
            requests_hooks.instrument(session)
            requests_hooks.instrument(session)
            prepared = session.prepare_request(
                requests.Request("GET", address, headers={"Baggage": "mine=2"})
            )
            for _ in range(2):
                with step("tool", "call") as calling:
                    assert got(session.send(prepared).json()) == wanted(calling, "mine=2,")
                    assert got(session.get(f"{address}/redirect").json()) == wanted(calling)
            assert dict(prepared.headers)["Baggage"] == "mine=2"
            assert "traceparent" not in prepared.headers

    def outside() -> None:
        with requests.Session() as session:
            session.mount("http://", requests_hooks.PropagatingAdapter(session.get_adapter(address)))
            assert got(session.get(address).json()) == {}

    with state().attach():
        await in_a_thread(blocking)
    await in_a_thread(outside)


# gRPC


class _Service(grpc.GenericRpcHandler):
    """Answers each kind of call with the metadata that it got."""

    def service(self, details: Any) -> Any:
        def answer(context: Any) -> bytes:
            found = [(key, value) for key, value in context.invocation_metadata() if key in formats().read]
            return json.dumps(found).encode()

        async def one(request: Any, context: Any) -> bytes:
            if hasattr(request, "__aiter__"):
                async for _ in request:
                    pass
            return answer(context)

        async def many(request: Any, context: Any) -> AsyncIterator[bytes]:
            yield await one(request, context)

        handlers: dict[str, Any] = {
            "/s/uu": grpc.unary_unary_rpc_method_handler(one),
            "/s/us": grpc.unary_stream_rpc_method_handler(many),
            "/s/su": grpc.stream_unary_rpc_method_handler(one),
            "/s/ss": grpc.stream_stream_rpc_method_handler(many),
        }
        return handlers[details.method]


@asynccontextmanager
async def grpc_server() -> AsyncIterator[str]:
    """Run a gRPC server; give its address."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([_Service()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def metadata(answer: bytes) -> dict[str, str]:
    """Return what a server got, no key twice."""
    pairs = [tuple(pair) for pair in json.loads(answer)]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def requests_of(kind: str) -> Any:
    return iter([b"a", b"b"]) if kind[0] == "s" else b"a"


def multicallable(channel: Any, kind: str) -> Any:
    """Return what makes a call of a kind: unary or streamed on either side."""
    names = {"u": "unary", "s": "stream"}
    return getattr(channel, f"{names[kind[0]]}_{names[kind[1]]}")(f"/s/{kind}")


KINDS = ("uu", "us", "su", "ss")
GIVEN = (("x", "1"), ("baggage", "mine=2"), ("traceparent", "old"))


async def test_grpc_aio() -> None:
    """Each of the four kinds of calls, with metadata of the application's own; and outside a run nothing."""
    async with (
        grpc_server() as target,
        grpc.aio.insecure_channel(target, interceptors=grpc_hooks.aio_interceptors()) as channel,
    ):

        async def call(kind: str, given: Any = None) -> dict[str, str]:
            made = multicallable(channel, kind)(requests_of(kind), metadata=given)
            if kind[1] == "u":
                return metadata(await made)
            [answer] = [each async for each in made]
            return metadata(answer)

        for kind in KINDS:
            assert await call(kind) == {}
            with state().attach(), step("tool", "call") as calling:
                assert await call(kind) == wanted(calling)
                assert await call(kind, GIVEN) == wanted(calling, "mine=2,")


async def test_grpc() -> None:
    """The same with a channel that blocks."""
    async with grpc_server() as target:

        def blocking() -> None:
            with grpc.insecure_channel(target) as plain:
                channel = grpc.intercept_channel(plain, *grpc_hooks.interceptors())

                def call(kind: str, given: Any = None) -> dict[str, str]:
                    made = multicallable(channel, kind)(requests_of(kind), metadata=given)
                    [answer] = [made] if kind[1] == "u" else list(made)
                    return metadata(answer)

                for kind in KINDS:
                    assert call(kind) == {}
                    with state().attach(), step("tool", "call") as calling:
                        assert call(kind) == wanted(calling)
                        assert call(kind, GIVEN) == wanted(calling, "mine=2,")

        await in_a_thread(blocking)
