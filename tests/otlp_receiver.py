"""OtlpReceiver: a server for OTLP over HTTP that keeps what it receives, and misbehaves on request."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from nat_observability.sinks.otlp.wire_format import length_delimited

PROTOBUF = "application/x-protobuf"


@dataclass(frozen=True)
class Received:
    """One request as it came: `body` is what it held after decompression, `size` what came over the wire."""

    path: str
    headers: Mapping[str, str]
    size: int
    body: bytes
    spans: tuple[Span, ...]
    resources: tuple[Resource, ...]


@dataclass(frozen=True)
class Answer:
    """
    What the receiver does with one request.

    Args:
        status: The status of the answer.
        body: Its body; without one, what OTLP says for that status.
        headers: Its headers.
        delay: Seconds before it.
        keep: Whether the spans count as received; by default only if the status is a success.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    keep: bool | None = None

    @property
    def keeps(self) -> bool:
        """Whether the spans count as received."""
        return 200 <= self.status < 300 if self.keep is None else self.keep

    async def send(self, request: web.Request) -> web.StreamResponse:
        """Answer."""
        await asyncio.sleep(self.delay)
        headers = {"content-type": PROTOBUF, **self.headers}
        return web.Response(status=self.status, body=self.body, headers=headers)


def partial(rejected: int, message: str) -> Answer:
    """Accept, but report that number of spans as rejected, and why."""
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = rejected
    response.partial_success.error_message = message
    return Answer(body=response.SerializeToString())


def refuse(status: int, message: str = "", **headers: str) -> Answer:
    """Refuse with a google.rpc.Status, as the specification wants it; `retry_after` stands for `Retry-After`."""
    body = length_delimited(2, message.encode()) if message else b""
    return Answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


@dataclass(frozen=True)
class Hang(Answer):
    """Read the request, and never answer."""

    keep: bool | None = False

    async def send(self, request: web.Request) -> web.StreamResponse:
        """Wait until the client goes away or the receiver is stopped."""
        await asyncio.Event().wait()
        raise AssertionError


@dataclass(frozen=True)
class Reset(Answer):
    """Read the request, and reset the connection (RST)."""

    keep: bool | None = False

    async def send(self, request: web.Request) -> web.StreamResponse:
        """Reset."""
        assert request.transport is not None
        request.transport.abort()
        return web.Response()


@dataclass(frozen=True)
class Raw(Answer):
    """Write these bytes instead of an answer, and close the connection: a truncated answer, or garbage."""

    keep: bool | None = False

    async def send(self, request: web.Request) -> web.StreamResponse:
        """Write them."""
        assert request.transport is not None
        assert isinstance(request.transport, asyncio.WriteTransport)
        request.transport.write(self.body)
        request.transport.close()
        return web.Response()


ACCEPT = Answer()


class OtlpReceiver:
    """
    A receiver on the loopback interface, on a thread of its own, as a context manager.

    It may be used from any thread, and stopped and started again on the same port within the block: an outage.

    Args:
        port: The port; 0 takes a free one.
        tls: A server context, for https.
        behaviour: What it does with a request that `behave` has prepared nothing for.
    """

    def __init__(
        self, *, port: int = 0, tls: ssl.SSLContext | None = None, behaviour: Answer = ACCEPT
    ) -> None:
        self.port = port
        self.behaviour = behaviour
        self._tls = tls
        self._changed = threading.Condition()
        self._prepared: deque[Answer] = deque()
        self._requests: list[Received] = []
        self._kept: list[Span] = []
        self._connections: set[object] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """The address to give to a sink as its endpoint."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[Received]:
        """Every request so far, refused ones too."""
        with self._changed:
            return list(self._requests)

    @property
    def spans(self) -> list[Span]:
        """Every span so far of the requests that were accepted, in order."""
        with self._changed:
            return list(self._kept)

    def take(self) -> list[Span]:
        """Return every span so far of the requests that were accepted, and forget them, and the requests."""
        with self._changed:
            spans, self._kept, self._requests = self._kept, [], []
        return spans

    @property
    def connections(self) -> int:
        """How many connections have been opened so far."""
        return len(self._connections)

    def behave(self, *answers: Answer) -> None:
        """Prepare what happens with the next requests, one each; afterwards `behaviour` holds again."""
        with self._changed:
            self._prepared.extend(answers)

    def wait_for(self, condition: Callable[[OtlpReceiver], bool], timeout: float = 10.0) -> None:
        """Wait until `condition` holds; it is asked whenever a request has come."""
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self), timeout):
                raise TimeoutError(
                    f"{len(self._requests)} requests and {len(self._kept)} spans after {timeout:g} s"
                )

    def wait_for_spans(self, count: int, timeout: float = 10.0) -> list[Span]:
        """Wait until at least that many spans were accepted, and return them."""
        self.wait_for(lambda _: len(self._kept) >= count, timeout)
        return self.spans

    def start(self) -> None:
        """Begin to listen."""
        ready = threading.Event()
        failures: list[OSError] = []

        def run() -> None:
            loop = self._loop = asyncio.new_event_loop()
            try:
                loop.run_until_complete(self._listen())
            except OSError as error:
                failures.append(error)
                loop.close()
                return
            finally:
                ready.set()
            loop.run_forever()
            loop.run_until_complete(self._end())
            loop.close()

        self._thread = threading.Thread(target=run, name="otlp-receiver", daemon=True)
        self._thread.start()
        ready.wait()
        if failures:
            raise failures[0]

    def stop(self) -> None:
        """Close the port and every connection, as if the process had died; what was received stays."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop = self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def _listen(self) -> None:
        application = web.Application(client_max_size=64 * 2**20, middlewares=[self._count])
        application.router.add_post("/{path:.*}", self._take)
        # A request that hangs is cancelled soon; 0 would wait for it forever.
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.01)
        await self._runner.setup()
        # The port is bound again right after connections to it were open.
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _end(self) -> None:
        assert self._runner is not None
        assert self._runner.server is not None
        for connection in list(self._runner.server.connections):
            if connection.transport is not None:
                connection.transport.abort()
        await self._runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    @web.middleware
    async def _count(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self._connections.add(request.protocol)
        return await handler(request)

    async def _take(self, request: web.Request) -> web.StreamResponse:
        assert isinstance(request.transport, asyncio.Transport)
        body = await request.read()
        in_json = request.content_type == "application/json"
        message = request_from_json(body) if in_json else ExportTraceServiceRequest.FromString(body)
        received = Received(
            request.path_qs,
            {name.lower(): value for name, value in request.headers.items()},
            int(request.headers.get("content-length", -1)),
            body,
            tuple(
                span
                for resource_spans in message.resource_spans
                for scope_spans in resource_spans.scope_spans
                for span in scope_spans.spans
            ),
            tuple(resource_spans.resource for resource_spans in message.resource_spans),
        )
        with self._changed:
            answer = self._prepared.popleft() if self._prepared else self.behaviour
            self._requests.append(received)
            if answer.keeps:
                self._kept.extend(received.spans)
            self._changed.notify_all()
        return await answer.send(request)


def request_from_json(line: bytes) -> ExportTraceServiceRequest:
    """Return the request that a line of OTLP as JSON stands for."""
    message = ExportTraceServiceRequest()
    ParseDict(_with_base64_ids(json.loads(line)), message)
    return message


_IDS = frozenset({"traceId", "spanId", "parentSpanId"})


def _with_base64_ids(value: Any) -> Any:
    # OTLP has ids in hexadecimal, against the mapping of protobuf that every decoder implements.
    if isinstance(value, dict):
        return {
            # URL-safe: a future Python refuses the other two characters, which protobuf's decoder still lets through.
            key: base64.urlsafe_b64encode(bytes.fromhex(inner)).decode()
            if key in _IDS
            else inner.replace("+", "-").replace("/", "_")
            if key == "bytesValue"
            else _with_base64_ids(inner)
            for key, inner in value.items()
        }
    return [_with_base64_ids(each) for each in value] if isinstance(value, list) else value
