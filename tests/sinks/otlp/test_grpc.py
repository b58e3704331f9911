"""OtlpGrpcSink: against a real collector, and against a server that fails in every way of gRPC."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from pydantic import SecretStr

from nat_observability.errors import (
    BatchTooLargeError,
    PermanentWriteError,
    RefusedForNowError,
    RetryableWriteError,
    SinkError,
)
from nat_observability.sinks.otlp.grpc import OtlpGrpcSink
from nat_observability.sinks.otlp.span_encoder import SLICE_SPANS
from nat_observability.sinks.protocol import Sink
from tests.otlp_receiver import OtlpReceiver
from tests.processes import run_program
from tests.rotel import running_rotel
from tests.sinks.builders import make_span, make_step
from tests.sinks.otlp.test_http import RESOURCE, arrived, varied_spans
from tests.sinks.otlp.test_responses import SECRETS_AT_A_CUT, delay, status_with
from tests.thorough import examples

SECRET = "sk-very-secret-0123456789"
_FORKS = examples(4, thoroughly=10)
_EXPORT = "Export"
_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"

Answer = Callable[[grpc.ServicerContext], bytes]


def accept(context: grpc.ServicerContext) -> bytes:
    return b""


def slowly(context: grpc.ServicerContext) -> bytes:
    time.sleep(0.1)
    return b""


def fail(code: grpc.StatusCode, details: str = "", status: bytes | None = None) -> Answer:
    def answer(context: grpc.ServicerContext) -> bytes:
        if status is not None:
            context.set_trailing_metadata((("grpc-status-details-bin", status),))
        context.abort(code, details)

    return answer


def reject(count: int, message: str) -> Answer:
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = count
    response.partial_success.error_message = message
    return lambda _: response.SerializeToString()


class GrpcReceiver:
    """A server that keeps what it accepts and answers as the test sets it."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.answers: list[Answer] = []
        self.answer: Answer = accept
        self.metadata: list[dict[str, str | bytes]] = []
        self.spans: list[Span] = []
        self.end = threading.Event()

    def export(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.metadata.append(dict(context.invocation_metadata()))
        answer = (self.answers.pop(0) if self.answers else self.answer)(context)
        message = ExportTraceServiceRequest.FromString(request)
        self.spans += [
            span
            for resource_spans in message.resource_spans
            for scope_spans in resource_spans.scope_spans
            for span in scope_spans.spans
        ]
        return answer

    def hang(self, context: grpc.ServicerContext) -> bytes:
        self.end.wait()
        return b""


@contextmanager
def running_receiver(credentials: grpc.ServerCredentials | None = None) -> Iterator[GrpcReceiver]:
    pool = ThreadPoolExecutor(8)
    server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
    port = (
        server.add_secure_port("127.0.0.1:0", credentials)
        if credentials
        else server.add_insecure_port("127.0.0.1:0")
    )
    receiver = GrpcReceiver(port)
    handler: Any = grpc.unary_unary_rpc_method_handler(receiver.export)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_SERVICE, {_EXPORT: handler})])
    server.start()
    try:
        yield receiver
    finally:
        receiver.end.set()
        server.stop(None).wait()
        server.wait_for_termination()
        pool.shutdown()


@pytest.fixture
def receiver() -> Iterator[GrpcReceiver]:
    with running_receiver() as receiver:
        yield receiver


@asynccontextmanager
async def opened(endpoint: str, **options: Any) -> AsyncIterator[OtlpGrpcSink]:
    # Certificates are read when it is made.
    sink = await asyncio.to_thread(OtlpGrpcSink, endpoint, **options)
    await sink.open()
    try:
        yield sink
    finally:
        await sink.close()


def test_is_a_sink() -> None:
    """A delivery takes it as a sink in asynchronous form, without a worker thread."""
    assert isinstance(OtlpGrpcSink(), Sink)


@pytest.mark.parametrize("compression", ["gzip", "none"])
async def test_a_collector_takes_and_forwards_every_span(tmp_path: Path, compression: str) -> None:
    """What a real collector understood and sent on is what was recorded."""
    spans = varied_spans() + [make_span(output="y" * 10 * number) for number in range(5 * SLICE_SPANS)]
    with OtlpReceiver() as forwarded, running_rotel(forwarded.url, tmp_path) as collector:
        async with opened(collector.grpc, resource=RESOURCE, compression=compression) as sink:
            assert await sink.write(spans) == 0
        arrived(forwarded, spans)


async def test_a_collector_that_takes_no_more_asks_for_halves(tmp_path: Path) -> None:
    """Its answer to a message above its limit, which is that of a retryable failure, makes the delivery halve it."""
    with OtlpReceiver() as forwarded, running_rotel(forwarded.url, tmp_path) as collector:
        async with opened(collector.grpc) as sink:
            with pytest.raises(BatchTooLargeError, match=r"OUT_OF_RANGE: .*too large.* Lower batch_bytes\."):
                await sink.write([make_span(output="x" * 5_000_000)])


async def test_a_call_carries_the_headers(receiver: GrpcReceiver) -> None:
    """As metadata, in lower case; and it says who calls."""
    async with opened(receiver.url, headers={"Authorization": SecretStr(f"Bearer {SECRET}")}) as sink:
        assert await sink.write([make_span()]) == 0
    (metadata,) = receiver.metadata
    assert metadata["authorization"] == f"Bearer {SECRET}"
    assert str(metadata["user-agent"]).startswith("nat-observability/")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("CANCELLED", RetryableWriteError),
        ("UNKNOWN", RefusedForNowError),
        ("INVALID_ARGUMENT", PermanentWriteError),
        ("DEADLINE_EXCEEDED", RetryableWriteError),
        ("NOT_FOUND", RefusedForNowError),
        ("ALREADY_EXISTS", PermanentWriteError),
        ("PERMISSION_DENIED", RefusedForNowError),
        ("UNAUTHENTICATED", RefusedForNowError),
        ("RESOURCE_EXHAUSTED", RefusedForNowError),
        ("FAILED_PRECONDITION", PermanentWriteError),
        ("ABORTED", RetryableWriteError),
        ("OUT_OF_RANGE", RetryableWriteError),
        ("UNIMPLEMENTED", RefusedForNowError),
        ("INTERNAL", RefusedForNowError),
        ("UNAVAILABLE", RetryableWriteError),
        ("DATA_LOSS", RetryableWriteError),
    ],
)
async def test_codes_are_read_as_the_specification_says(
    receiver: GrpcReceiver, code: str, error: type[Exception]
) -> None:
    """Its table of codes, all of them; the reason is part of the error, as one line."""
    receiver.answers.append(fail(grpc.StatusCode[code], "because\nof \x1b[31mthis"))
    async with opened(receiver.url) as sink:
        with pytest.raises(
            error, match=rf"^http://127\.0\.0\.1:\d+: {code}: because of \[31mthis\."
        ) as caught:
            await sink.write([make_span()])
        assert type(caught.value) is error
        assert await sink.write([make_span()]) == 0


@pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "UNAVAILABLE"])
async def test_a_retry_info_is_honoured(receiver: GrpcReceiver, code: str) -> None:
    """It says how long to wait, and that an exhausted resource recovers."""
    receiver.answers.append(fail(grpc.StatusCode[code], "later", status_with(delay(7, 500_000_000))))
    async with opened(receiver.url) as sink:
        with pytest.raises(RetryableWriteError) as caught:
            await sink.write([make_span()])
    assert caught.value.retry_after == 7.5


async def test_status_details_that_cannot_be_read_say_nothing(receiver: GrpcReceiver) -> None:
    """Then the code alone counts."""
    receiver.answers.append(fail(grpc.StatusCode.UNAVAILABLE, "later", b"garbage"))
    async with opened(receiver.url) as sink:
        with pytest.raises(RetryableWriteError) as caught:
            await sink.write([make_span()])
    assert caught.value.retry_after is None


@pytest.mark.parametrize(
    ("code", "details"),
    [
        ("RESOURCE_EXHAUSTED", "grpc: received message larger than max (5000009 vs. 4194304)"),
        ("RESOURCE_EXHAUSTED", "Received message larger than max (5000009 vs. 4194304)"),
        ("RESOURCE_EXHAUSTED", "gRPC message exceeds maximum size 4194304: 5000009"),
        (
            "OUT_OF_RANGE",
            "Error, decoded message length too large: found 5000009 bytes, the limit is: 4194304",
        ),
    ],
)
async def test_a_message_that_is_too_large_is_halved(receiver: GrpcReceiver, code: str, details: str) -> None:
    """gRPC has no code for it: what its implementations in Go, C++, Java and Rust say is recognised."""
    receiver.answers.append(fail(grpc.StatusCode[code], details))
    async with opened(receiver.url) as sink:
        with pytest.raises(BatchTooLargeError):
            await sink.write([make_span()])


async def test_the_servers_own_limit_is_recognised(receiver: GrpcReceiver) -> None:
    """Of 4 MiB, in the implementation that Python has."""
    async with opened(receiver.url) as sink:
        with pytest.raises(BatchTooLargeError, match="larger than max"):
            await sink.write([make_span(output="x" * 5_000_000)])


async def test_rejected_spans_are_returned_and_logged_once(
    receiver: GrpcReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    """The number goes to the ledger; the back end's words go to the log, without secrets."""
    receiver.answers += [reject(2, f"too old for {SECRET}"), reject(3, "too old"), reject(0, "")]
    async with opened(receiver.url, headers={"x-key": SECRET}) as sink:
        assert [await sink.write([make_span() for _ in range(5)]) for _ in range(3)] == [2, 3, 0]
    (line,) = [record.message for record in caplog.records if "otlp_partial_success" in record.message]
    assert "rejected=2" in line
    assert "too old for ***" in line


@pytest.mark.parametrize(("before", "secret"), SECRETS_AT_A_CUT)
async def test_no_part_of_a_secret_is_left_by_a_cut(
    receiver: GrpcReceiver, caplog: pytest.LogCaptureFixture, before: str, secret: str
) -> None:
    """A long answer is cut; the beginning of a key that the cut goes through is not shown either."""
    quoted = f"{before} {secret} {'y' * 2000}"
    receiver.answers += [fail(grpc.StatusCode.UNAUTHENTICATED, quoted), reject(1, quoted)]
    async with opened(receiver.url, headers={"authorization": f"Bearer {secret}"}) as sink:
        with pytest.raises(PermanentWriteError) as caught:
            await sink.write([make_span()])
        assert await sink.write([make_span()]) == 1
    (line,) = [record.message for record in caplog.records if "otlp_partial_success" in record.message]
    for text in (str(caught.value), line):
        assert secret[:6] not in text
        assert len(text) < 600


async def test_a_server_that_hangs_times_out(receiver: GrpcReceiver) -> None:
    """After `timeout` seconds; the next call may succeed."""
    receiver.answers.append(receiver.hang)
    async with opened(receiver.url, timeout=0.3) as sink:
        with pytest.raises(RetryableWriteError, match="DEADLINE_EXCEEDED"):
            await sink.write([make_span()])
        assert await sink.write([make_span()]) == 0


async def test_a_cancelled_write_leaves_nothing_behind(receiver: GrpcReceiver) -> None:
    """The delivery's own timeout cancels the call; the sink remains usable."""
    receiver.answers.append(receiver.hang)
    async with opened(receiver.url) as sink:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await sink.write([make_span()])
        assert await sink.write([make_span()]) == 0


async def test_a_server_that_is_down_or_speaks_http_is_retryable() -> None:
    """It may come up later; and the message says what was there instead."""
    async with opened("http://127.0.0.1:1", headers={"x-key": SECRET}) as sink:
        with pytest.raises(RetryableWriteError, match=r"UNAVAILABLE: .*Connection refused") as caught:
            await sink.write([make_span()])
        assert SECRET not in repr(caught.value) + repr(sink)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None


async def test_steps_are_refused(receiver: GrpcReceiver) -> None:
    """OTLP carries spans; a step would be lost silently."""
    async with opened(receiver.url) as sink:
        with pytest.raises(PermanentWriteError, match="the batch holds steps"):
            await sink.write([make_step()])


async def test_a_sink_that_is_not_open_says_so(receiver: GrpcReceiver) -> None:
    """Before `open` and after `close`; closing twice does nothing, and it may be opened again."""
    sink = OtlpGrpcSink(receiver.url)
    await sink.close()
    with pytest.raises(SinkError, match=r"is not open\. Call open\(\) before write\(\)\."):
        await sink.write([make_span()])
    for _ in range(2):
        await sink.open()
        await sink.write([make_span()])
        await sink.close()
        await sink.close()
    with pytest.raises(SinkError):
        await sink.write([make_span()])
    assert len(receiver.spans) == 2


async def test_private_certificates(tmp_path: Path) -> None:
    """A server with a certificate from its own authority, which asks for the client's."""
    authority = trustme.CA()
    server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("client.example")
    ca, certificate, key, both = (tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem", "both.pem"))
    authority.cert_pem.write_to_path(ca)
    client.cert_chain_pems[0].write_to_path(certificate)
    client.private_key_pem.write_to_path(key)
    client.private_key_and_cert_chain_pem.write_to_path(both)
    credentials = grpc.ssl_server_credentials(
        [(server.private_key_pem.bytes(), server.cert_chain_pems[0].bytes())],
        authority.cert_pem.bytes(),
        require_client_auth=True,
    )
    with running_receiver(credentials) as receiver:
        url = receiver.url.replace("http:", "https:")
        for options in ({"client_certificate": certificate, "client_key": key}, {"client_certificate": both}):
            async with opened(url, ca_file=ca, **options) as sink:
                assert await sink.write([make_span()]) == 0
        for options in ({"ca_file": ca}, {"client_certificate": both}):
            async with opened(url, timeout=3, **options) as sink:
                with pytest.raises(RetryableWriteError, match="UNAVAILABLE"):
                    await sink.write([make_span()])
    assert len(receiver.spans) == 2


def test_g16_an_export_is_not_observed(receiver: GrpcReceiver) -> None:
    """If the application has gRPC instrumented, its own calls are traced, and those of the delivery are not."""
    run_program(
        """
        import sys
        import grpc
        from opentelemetry import trace
        from opentelemetry.instrumentation.grpc import GrpcInstrumentorClient
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from nat_observability.delivery.delivery import Delivery
        from nat_observability.sinks.otlp.grpc import OtlpGrpcSink
        from tests.sinks.builders import make_span

        traced, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(traced))
        trace.set_tracer_provider(provider)
        GrpcInstrumentorClient().instrument()
        with provider.get_tracer("application").start_as_current_span("request"):
            delivery = Delivery("main", OtlpGrpcSink(sys.argv[1]))
            lease = delivery.lease()
            lease.accept(make_span())
            lease.settled().result(10)
            assert lease.ledger.delivered == 1, lease.ledger
            with grpc.insecure_channel(sys.argv[1].removeprefix("http://")) as channel:
                channel.unary_unary(sys.argv[2])(b"")
        names = [span.name for span in traced.get_finished_spans()]
        assert names == [sys.argv[2], "request"], names
        lease.release()
        """,
        receiver.url,
        f"/{_SERVICE}/{_EXPORT}",
    )
    assert len(receiver.spans) == 1


# Exit and fork (G6, G15).


def test_a_program_that_just_ends_delivers(receiver: GrpcReceiver) -> None:
    """At interpreter exit calls are still made, even if Python starts no more threads."""
    run_program(
        """
        import sys
        from nat_observability.delivery.delivery import Delivery
        from nat_observability.sinks.otlp.grpc import OtlpGrpcSink
        from tests.sinks.builders import make_span

        delivery = Delivery("main", OtlpGrpcSink(sys.argv[1]))
        lease = delivery.lease()
        for _ in range(300):
            lease.accept(make_span(output="x" * 2000))
        """,
        receiver.url.replace("127.0.0.1", "localhost"),
    )
    assert len(receiver.spans) == 300


def test_forked_children_and_their_parent_write_on(receiver: GrpcReceiver) -> None:
    """Forks while a call is under way: every child ends well, and every batch of the parent arrives."""
    receiver.answer = slowly
    run_program(
        """
        import os, sys, time
        from nat_observability.delivery.delivery import Delivery
        from nat_observability.delivery.limits import DeliveryLimits
        from nat_observability.sinks.otlp.grpc import OtlpGrpcSink
        from tests.sinks.builders import make_span

        delivery = Delivery(
            "main", OtlpGrpcSink(sys.argv[1], timeout=3), limits=DeliveryLimits(retry_initial=0.01)
        )
        def span():
            return make_span(span_id=os.urandom(8).hex())
        def write(lease):
            lease.accept(span())
            lease.settled().result(10)
            assert not lease.ledger.failed, (lease.ledger, delivery.health())
        held = delivery.lease()
        write(held)
        for _ in range(int(sys.argv[2])):
            held.accept(span())
            settled = held.settled()
            while not delivery.health().in_flight:
                time.sleep(0.001)
            time.sleep(0.02)
            child = os.fork()
            if not child:
                lease = delivery.lease()
                write(lease)
                lease.release()
                sys.exit(0)
            settled.result(10)
            assert os.waitpid(child, 0)[1] == 0
        """,
        receiver.url,
        _FORKS,
    )
    assert len({span.span_id for span in receiver.spans}) == 1 + 2 * _FORKS
