"""gRPC servers of grpcio, both kinds, with real channels: each call is a run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from nat_observability import ContextState, step
from nat_observability.errors import MissingContainerError
from nat_observability.events import Span, Status
from nat_observability.integrations import ProcessScope
from nat_observability.integrations.clients.grpc import aio_interceptors as client_interceptors
from nat_observability.integrations.grpc import aio_interceptors, interceptors
from nat_observability.settings import ObservabilitySettings
from nat_observability.testing import until
from tests.integrations.grpc_core import grpc_core as grpc_core  # for each test here
from tests.integrations.workers import Observed, observed

NOT_FOUND, INTERNAL = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INTERNAL


class Shop:
    """A service of a synchronous server."""

    def brew(self, request: bytes, context: Any) -> bytes:
        with step("tool", "kettle", input=request.decode()):
            return request.upper()

    def pour(self, request: bytes, context: Any) -> Iterator[bytes]:
        for number in range(3):
            with step("tool", "cup"):
                yield b"%d" % number

    def collect(self, requests: Any, context: Any) -> bytes:
        return b"".join(requests)

    def chat(self, requests: Any, context: Any) -> Iterator[bytes]:
        for request in requests:
            yield request.upper()

    def fail(self, request: bytes, context: Any) -> bytes:
        if request == b"missing":
            context.abort(NOT_FOUND, "no such tea")
        if request == b"broken":
            context.abort(INTERNAL, "the kettle leaks")
        if request == b"quiet":
            context.set_code(INTERNAL)
            context.set_details("no water")
            return b""
        raise LookupError("no tea")

    def hang(self, request: bytes, context: Any) -> Iterator[bytes]:
        while context.is_active():
            yield b"."


class AioShop:
    """The same of an asynchronous one."""

    async def brew(self, request: bytes, context: Any) -> bytes:
        with step("tool", "kettle", input=request.decode()):
            return request.upper()

    async def pour(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for number in range(3):
            with step("tool", "cup"):
                yield b"%d" % number

    async def collect(self, requests: Any, context: Any) -> bytes:
        return b"".join([each async for each in requests])

    async def chat(self, requests: Any, context: Any) -> None:  # the other way: it writes its answers
        async for request in requests:
            await context.write(request.upper())

    async def fail(self, request: bytes, context: Any) -> bytes:
        if request == b"missing":
            await context.abort(NOT_FOUND, "no such tea")
        if request == b"broken":
            await context.abort(INTERNAL, "the kettle leaks")
        if request == b"quiet":
            context.set_code(INTERNAL)
            context.set_details("no water")
            return b""
        raise LookupError("no tea")

    async def hang(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"."
        await asyncio.Event().wait()


class MixedShop(AioShop):
    """An asynchronous server, which calls functions like these in threads."""

    brew = Shop.brew  # type: ignore[assignment]
    pour = Shop.pour  # type: ignore[assignment]
    fail = Shop.fail  # type: ignore[assignment]


def handlers(shop: Any) -> Any:
    """The shop's methods, under their names as gRPC has them."""
    return grpc.method_handlers_generic_handler(
        "tea.Shop",
        {
            "Brew": grpc.unary_unary_rpc_method_handler(shop.brew),
            "Pour": grpc.unary_stream_rpc_method_handler(shop.pour),
            "Collect": grpc.stream_unary_rpc_method_handler(shop.collect),
            "Chat": grpc.stream_stream_rpc_method_handler(shop.chat),
            "Fail": grpc.unary_unary_rpc_method_handler(shop.fail),
            "Hang": grpc.unary_stream_rpc_method_handler(shop.hang),
        },
    )


@asynccontextmanager
async def serving(shop: Any, worker: Observed, **options: Any) -> AsyncIterator[Any]:
    """Serve the shop on a free port; gives a channel whose calls carry the headers of the run they are made in."""
    async with ProcessScope(worker.container, "the test"):
        server: Any
        if isinstance(shop, Shop):
            pool = ThreadPoolExecutor(4, thread_name_prefix="asyncio_grpc")
            server = grpc.server(pool, interceptors=interceptors(worker.container, **options))
        else:
            server = grpc.aio.server(interceptors=aio_interceptors(worker.container, **options))
        server.add_generic_rpc_handlers((handlers(shop),))
        port = server.add_insecure_port("127.0.0.1:0")
        starting = server.start()
        if starting is not None:
            await starting
        try:
            target = f"127.0.0.1:{port}"
            async with grpc.aio.insecure_channel(target, interceptors=client_interceptors()) as channel:
                yield channel
        finally:
            stopping = server.stop(1)
            if isinstance(shop, Shop):
                await asyncio.to_thread(stopping.wait, 5)
                await asyncio.to_thread(pool.shutdown)
            else:
                await stopping


@pytest.fixture(params=[Shop, AioShop, MixedShop])
def shop(request: pytest.FixtureRequest) -> Any:
    return request.param()


async def requests() -> AsyncIterator[bytes]:
    for each in (b"a", b"b"):
        yield each


def metadata(span: Span) -> dict[str, Any]:
    """The attributes of a span."""
    found: dict[str, Any] = json.loads(bytes(span.attributes or b"{}"))
    return found


async def test_a_call_is_a_run_in_its_callers_trace(shop: Any) -> None:
    """Of each of the four kinds: with the caller's conversation, user and tags, and below its step."""
    worker = observed(ObservabilitySettings(propagate_tags=["tenant"]))
    async with serving(shop, worker) as channel:
        state = ContextState(conversation_id="c-1", user_id="ü/1", tags={"tenant": "acme"})
        state.propagated_tags = ["tenant"]
        with state.attach(), step("tool", "order") as ordering:
            assert await channel.unary_unary("/tea.Shop/Brew")(b"tea") == b"TEA"
            assert [each async for each in channel.unary_stream("/tea.Shop/Pour")(b"")] == [b"0", b"1", b"2"]
            assert await channel.stream_unary("/tea.Shop/Collect")(requests()) == b"ab"
            assert [each async for each in channel.stream_stream("/tea.Shop/Chat")(requests())] == [
                b"A",
                b"B",
            ]
    roots = [worker.span(f"tea.Shop/{name}") for name in ("Brew", "Pour", "Collect", "Chat")]
    for root in roots:
        assert (root.parent_id, root.run.trace_id) == (ordering.step_id, state.run.trace_id)
        assert (root.run.conversation_id, root.run.user_id) == ("c-1", "ü/1")
        assert root.run.tags == (("tenant", "acme"),)
        assert root.status is Status.OK
        assert (
            metadata(root).items()
            >= {"rpc.system": "grpc", "rpc.service": "tea.Shop", "rpc.grpc.status_code": 0}.items()
        )
    assert (worker.span("kettle").parent_id, worker.span("kettle").run) == (roots[0].span_id, roots[0].run)
    assert {cup.parent_id for cup in worker.spans("cup")} == {roots[1].span_id}
    assert len({root.run.run_id for root in roots}) == 4


async def code_of(call: Any) -> grpc.StatusCode | None:
    """Return the code of a call that fails. The error is not kept: its traceback keeps the channel's thread alive."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return None


@pytest.mark.observability_may_leak("threads")  # of grpcio: what pytest keeps of its log holds the channel
async def test_codes(shop: Any) -> None:
    """What the caller did wrong is not the service's error; the code is recorded in any case."""
    codes: list[grpc.StatusCode | None] = []
    worker = observed()
    async with serving(shop, worker) as channel:
        failing = channel.unary_unary("/tea.Shop/Fail")
        codes += [await code_of(failing(each)) for each in (b"missing", b"broken", b"quiet", b"boom")]
        codes.append(await code_of(channel.unary_unary("/tea.Shop/Invented")(b"")))
    assert codes == [NOT_FOUND, INTERNAL, INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNIMPLEMENTED]
    assert {span.name for span in worker.spans()} == {"tea.Shop/Fail"}
    spans = sorted(worker.spans(), key=lambda span: span.start_ns)
    assert [metadata(span)["rpc.grpc.status_code"] for span in spans] == [5, 13, 13, 2]
    errors = [
        f"{span.error.type}: {span.error.message}".rpartition(".")[2] if span.error else None
        for span in spans
    ]
    assert errors == [
        None,
        "RpcFailedError: INTERNAL: the kettle leaks",
        "RpcFailedError: INTERNAL: no water",
        "LookupError: no tea",
    ]


async def test_a_caller_that_leaves_ends_the_run(shop: Any) -> None:
    """In the middle of a stream."""
    worker = observed()
    async with serving(shop, worker) as channel:
        call = channel.unary_stream("/tea.Shop/Hang")(b"")
        assert await call.read() == b"."
        call.cancel()
        await until(lambda: worker.spans("tea.Shop/Hang"))
    span = worker.span("tea.Shop/Hang")
    assert span.error is not None
    assert span.error.type.rpartition(".")[2] in ("CancelledError", "ClientDisconnectedError")
    assert metadata(span)["rpc.grpc.status_code"] == 1
    assert worker.container.runtime_object().health().live_managers == 0


async def test_excluded_and_distrusted(shop: Any) -> None:
    """Calls without a run; metadata that nobody believes, and malformed one."""
    worker = observed()
    state = ContextState(user_id="u-1")
    async with serving(
        shop, worker, excluded=("/tea.Shop/Coll*", "/tea.Shop/Pour"), trusted=False
    ) as channel:
        with state.attach():
            assert await channel.stream_unary("/tea.Shop/Collect")(requests()) == b"ab"
            assert [each async for each in channel.unary_stream("/tea.Shop/Pour")(b"")]
            assert await channel.unary_unary("/tea.Shop/Brew")(b"tea") == b"TEA"
    brewed = worker.span("tea.Shop/Brew")
    assert (brewed.parent_id, brewed.run.user_id) == (None, None)
    assert {span.name for span in worker.spans()} == {"tea.Shop/Brew", "kettle"}
    worker = observed()
    async with serving(shop, worker) as channel:
        sent = (("traceparent", "00-zz-01"), ("baggage", "=;"), ("x-bin", b"\xff"))
        assert await channel.unary_unary("/tea.Shop/Brew")(b"tea", metadata=sent) == b"TEA"
    assert worker.span("tea.Shop/Brew").parent_id is None


@pytest.mark.parametrize("given", [None, object()])
@pytest.mark.parametrize("make", [interceptors, aio_interceptors])
def test_something_that_is_not_a_container_is_refused(make: Any, given: Any) -> None:
    """When the server is made."""
    with pytest.raises(MissingContainerError, match=r"interceptors\(\) needs an ObservabilityContainer"):
        make(given)
