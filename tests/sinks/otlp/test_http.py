"""OtlpHttpSink: against a real collector, and against a receiver that misbehaves."""

from __future__ import annotations

import asyncio
import base64
import gzip
import logging
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme
from faulty.core import FaultyProxy  # type: ignore[import-untyped]
from faulty.middlewares import BaseMiddleware, DropMiddleware, ThrottleMiddleware  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import SecretStr

from nat_observability.errors import (
    BatchTooLargeError,
    PermanentWriteError,
    RefusedForNowError,
    RetryableWriteError,
    SinkError,
)
from nat_observability.events import ErrorDetails, Run, Span, Status, StepKind, TokenUsage
from nat_observability.sinks.otlp.http import OtlpHttpSink
from nat_observability.sinks.otlp.presets import langfuse, phoenix
from nat_observability.sinks.otlp.span_encoder import SLICE_SPANS, encode
from nat_observability.sinks.protocol import Sink
from nat_observability.testing import until
from tests.otlp_receiver import Answer, Hang, OtlpReceiver, Raw, Reset, partial, refuse
from tests.processes import run_program
from tests.rotel import running_rotel
from tests.sinks.builders import make_span, make_step
from tests.sinks.otlp.test_responses import SECRETS_AT_A_CUT

SECRET = "sk-very-secret-0123456789"
RESOURCE = {"service.name": "checkout"}


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as receiver:
        yield receiver


@asynccontextmanager
async def opened(endpoint: str = "", **options: Any) -> AsyncIterator[OtlpHttpSink]:
    # Certificates are read when it is made.
    sink = await asyncio.to_thread(OtlpHttpSink, endpoint, **options)
    await sink.open()
    try:
        yield sink
    finally:
        await sink.close()


def varied_spans() -> list[Span]:
    """Spans that use every field of a span, of three runs."""
    runs = [Run(f"run-{number}", f"{number:032x}", "chat", "user", "agent", "f" * 16) for number in (1, 2, 3)]
    usage = TokenUsage(10, 20, 3, 4, 30)
    error = ErrorDetails("KeyError", "no such city", "Traceback ...")
    spans = []
    for run in runs:
        root = make_span(run=run, kind=StepKind.WORKFLOW, name="agent", parent_id=run.parent_span_id)
        spans += [
            root,
            make_span(
                run=run, kind=StepKind.LLM, usage=usage, parent_id=root.span_id, first_chunk_ns=root.end_ns
            ),
            make_span(run=run, kind=StepKind.TOOL, status=Status.ERROR, error=error, parent_id=root.span_id),
            make_span(run=run, status=Status.INCOMPLETE, parent_id=root.span_id),
            make_span(
                run=run, input=msgspec.Raw(b'{"city":"Z\xc3\xbcrich"}'), output="x" * 1000, tags=("a", "b")
            ),
        ]
    return spans


def arrived(received: OtlpReceiver, sent: list[Span]) -> None:
    """Assert that what arrived is what was sent, span by span and byte by byte."""
    (resource_spans,) = ExportTraceServiceRequest.FromString(encode(sent, RESOURCE)).resource_spans
    (scope_spans,) = resource_spans.scope_spans
    spans = received.wait_for_spans(len(sent))
    by_id = {span.span_id: span for span in spans}
    assert len(spans) == len(by_id) == len(sent)
    for span in scope_spans.spans:
        assert by_id[span.span_id] == span
    for request in received.requests:
        for resource in request.resources:
            assert resource.attributes == resource_spans.resource.attributes


def test_is_a_sink() -> None:
    """A delivery takes it as a sink in asynchronous form, without a worker thread."""
    assert isinstance(OtlpHttpSink(), Sink)


@pytest.mark.parametrize(
    ("compression", "encoding"), [("gzip", "protobuf"), ("none", "protobuf"), ("gzip", "json")]
)
async def test_a_collector_takes_and_forwards_every_span(
    receiver: OtlpReceiver, tmp_path: Path, compression: str, encoding: str
) -> None:
    """What a real collector understood and sent on is what was recorded."""
    spans = varied_spans() + [make_span(output="y" * number) for number in range(3 * SLICE_SPANS)]
    with running_rotel(receiver.url, tmp_path) as collector:
        options = {"compression": compression, "encoding": encoding}
        async with opened(collector.http, resource=RESOURCE, **options) as sink:
            assert await sink.write(spans) == 0
        arrived(receiver, spans)


async def test_a_collector_that_takes_no_more_asks_for_halves(receiver: OtlpReceiver, tmp_path: Path) -> None:
    """Its answer to a body above its limit makes the delivery halve the batch."""
    with running_rotel(receiver.url, tmp_path) as collector:
        async with opened(collector.http) as sink:
            with pytest.raises(BatchTooLargeError, match="413"):
                await sink.write([make_span(output="x" * 15_000_000) for _ in range(2)])


@pytest.mark.parametrize(
    ("option", "path", "wanted"),
    [
        ("endpoint", "", "/v1/traces"),
        ("endpoint", "/", "/v1/traces"),
        ("endpoint", "/api/otel", "/api/otel/v1/traces"),
        ("endpoint", "/api/otel/", "/api/otel/v1/traces"),
        ("endpoint", "/v1/traces", "/v1/traces"),
        ("endpoint", "/api?tenant=a", "/api/v1/traces?tenant=a"),
        ("traces_endpoint", "", "/"),
        ("traces_endpoint", "/spans", "/spans"),
        ("traces_endpoint", "/spans/?tenant=a%20b", "/spans/?tenant=a%20b"),
    ],
)
async def test_the_address_follows_the_exporter_specification(
    receiver: OtlpReceiver, option: str, path: str, wanted: str
) -> None:
    """`v1/traces` is added to the address for all signals; the one for traces is taken as it is."""
    address: dict[str, Any] = {option: receiver.url + path}
    async with opened(**address) as sink:
        await sink.write([make_span()])
    assert receiver.requests[0].path == wanted


async def test_a_request_says_what_it_holds(receiver: OtlpReceiver) -> None:
    """Type, encoding, length and the headers that were given are sent; the body is one gzip stream."""
    async with opened(
        receiver.url, headers={"Authorization": SecretStr(f"Bearer {SECRET}"), "x-a": " b "}
    ) as sink:
        await sink.write([make_span()])
    (request,) = receiver.requests
    sent = {
        name: request.headers[name] for name in ("content-type", "content-encoding", "authorization", "x-a")
    }
    assert sent == {
        "content-type": "application/x-protobuf",
        "content-encoding": "gzip",
        "authorization": f"Bearer {SECRET}",
        "x-a": "b",
    }
    assert request.headers["user-agent"].startswith("nat-observability/")
    assert 0 < request.size < len(request.body)


async def test_without_compression_the_body_is_plain(receiver: OtlpReceiver) -> None:
    """Then nothing says that it is encoded."""
    async with opened(receiver.url, compression="none") as sink:
        await sink.write([make_span()])
    (request,) = receiver.requests
    assert "content-encoding" not in request.headers
    assert request.size == len(request.body)


async def test_a_large_body_has_a_length_too(receiver: OtlpReceiver) -> None:
    """It is sent in pieces, but not in chunked encoding, which some back ends do not take."""
    batch = [make_span(output="x" * 1_000_000) for _ in range(3)]
    async with opened(receiver.url, compression="none") as sink:
        await sink.write(batch)
    (request,) = receiver.requests
    assert request.size == len(request.body) > 3_000_000
    assert "transfer-encoding" not in request.headers
    assert len(receiver.spans) == 3


async def test_connections_are_reused(receiver: OtlpReceiver) -> None:
    """One connection serves batch after batch, refused ones too."""
    async with opened(receiver.url) as sink:
        for number in range(6):
            if number == 3:
                receiver.behave(refuse(503, "later"))
                with pytest.raises(RetryableWriteError):
                    await sink.write([make_span()])
            else:
                await sink.write([make_span()])
    assert (len(receiver.requests), receiver.connections) == (6, 1)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (429, RetryableWriteError),
        (502, RetryableWriteError),
        (503, RetryableWriteError),
        (504, RetryableWriteError),
        (413, BatchTooLargeError),
        *[(status, PermanentWriteError) for status in (400, 415, 422)],
        *[(status, RefusedForNowError) for status in (301, 307, 308, 401, 403, 404, 405, 408, 499, 500, 501)],
    ],
)
async def test_statuses_are_read_as_the_specification_says(
    receiver: OtlpReceiver, status: int, error: type[Exception]
) -> None:
    """429, 502, 503 and 504 are retryable and no others, few are final; the reason is part of the error."""
    receiver.behave(refuse(status, "because\nof \x1b[31mthis"))
    async with opened(receiver.url) as sink:
        with pytest.raises(
            error, match=rf"127.0.0.1:\d+/v1/traces answered {status}.*: because of \[31mthis\."
        ) as caught:
            await sink.write([make_span()])
        assert type(caught.value) is error
        assert await sink.write([make_span()]) == 0


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_any_success_is_one(receiver: OtlpReceiver, status: int) -> None:
    """Some back ends answer 202 or 204."""
    receiver.behave(Answer(status))
    async with opened(receiver.url) as sink:
        assert await sink.write([make_span()]) == 0


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("7", 7, 7),
        ("0", 0, 0),
        (100, 60, 101),
        (-100, 0, 0),
        ("86400", 3600, 3600),
        ("Wed, 21 Oct 2099 07:28:00 GMT", 3600, 3600),
    ],
)
async def test_retry_after_is_passed_on(
    receiver: OtlpReceiver, value: str | int, least: float, most: float
) -> None:
    """As seconds or as a date, here so many seconds from now; and an hour at most."""
    text = formatdate(time.time() + value, usegmt=True) if isinstance(value, int) else value
    receiver.behave(refuse(429, retry_after=text))
    async with opened(receiver.url) as sink:
        with pytest.raises(RetryableWriteError) as caught:
            await sink.write([make_span()])
    assert caught.value.retry_after is not None
    assert least <= caught.value.retry_after <= most


@pytest.mark.parametrize(
    "value", ["", "soon", "-5", "nan", "inf", "1e5", "Wed, 99 Oct 2099 07:28:00 GMT", "9" * 400]
)
async def test_a_retry_after_that_says_nothing_is_none(receiver: OtlpReceiver, value: str) -> None:
    """Then the delivery's own backoff holds."""
    receiver.behave(refuse(503, retry_after=value))
    async with opened(receiver.url) as sink:
        with pytest.raises(RetryableWriteError) as caught:
            await sink.write([make_span()])
    assert caught.value.retry_after is None


async def test_rejected_spans_are_returned_and_logged_once(
    receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    """The number goes to the ledger; the back end's words go to the log, not for every batch, and without secrets."""
    receiver.behaviour = partial(2, f"2 spans are too old\nfor {SECRET}")
    async with opened(receiver.url, headers={"x-key": SECRET}) as sink:
        assert [await sink.write([make_span() for _ in range(5)]) for _ in range(3)] == [2, 2, 2]
    (line,) = [record.message for record in caplog.records if "otlp_partial_success" in record.message]
    assert "rejected=2" in line
    assert "2 spans are too old for ***" in line


async def test_no_more_is_rejected_than_was_sent(receiver: OtlpReceiver) -> None:
    """A back end that cannot count does not upset the ledger."""
    receiver.behave(partial(99, ""), partial(-1, ""))
    async with opened(receiver.url) as sink:
        assert await sink.write([make_span()]) == 1
        assert await sink.write([make_span()]) == 0


async def test_an_answer_in_json_is_read(receiver: OtlpReceiver) -> None:
    """Some back ends answer in JSON whatever they were sent."""
    receiver.behave(
        Answer(
            body=b'{"partialSuccess":{"rejectedSpans":"2"}}', headers={"content-type": "application/json"}
        ),
        Answer(body=b"{}", headers={"content-type": "application/json"}),
        Answer(400, b'{"code":3,"message":"no"}', headers={"content-type": "application/json"}),
    )
    async with opened(receiver.url) as sink:
        assert await sink.write([make_span() for _ in range(5)]) == 2
        assert await sink.write([make_span()]) == 0
        with pytest.raises(PermanentWriteError, match=r"answered 400 Bad Request: no\."):
            await sink.write([make_span()])


@pytest.mark.parametrize(
    "answer",
    [
        Answer(body=b"garbage"),
        Answer(body=b"\x0a\xff"),
        Answer(body=b"x" * 1_000_000),
        Answer(body=b"no gzip", headers={"content-encoding": "gzip"}),
        Answer(body=gzip.compress(b"x" * 10_000_000), headers={"content-encoding": "gzip"}),
        Answer(body=b"[]", headers={"content-type": "application/json"}),
        Raw(body=b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"),
    ],
)
async def test_a_success_that_cannot_be_read_is_one(
    receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture, answer: Answer
) -> None:
    """The spans were accepted: sending them again would duplicate them. It is logged, once."""
    receiver.behave(answer, answer)
    async with opened(receiver.url, timeout=5) as sink:
        assert await sink.write([make_span()]) == 0
        assert await sink.write([make_span()]) == 0
    assert len([record for record in caplog.records if "otlp_answer_not_understood" in record.message]) == 1


async def test_a_web_page_is_not_a_success(receiver: OtlpReceiver) -> None:
    """An endpoint that answers everything with a page has taken no span, whatever its status says."""
    receiver.behave(
        Answer(body=b"<html>Welcome</html>", headers={"content-type": "text/html; charset=utf-8"})
    )
    async with opened(receiver.url) as sink:
        with pytest.raises(
            PermanentWriteError, match=r"with a web page, so it takes no spans\. Check the endpoint\."
        ):
            await sink.write([make_span()])


async def test_a_web_page_is_shown_as_text(receiver: OtlpReceiver) -> None:
    """What a gateway in between says is readable, and not endless."""
    page = b"<html><h1>502  Bad\n Gateway</h1>" + b"very " * 1000 + b"</html>"
    receiver.behave(Answer(502, page, headers={"content-type": "text/html"}))
    async with opened(receiver.url) as sink:
        with pytest.raises(RetryableWriteError, match="502 Bad Gateway: 502 Bad Gateway very very") as caught:
            await sink.write([make_span()])
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (Hang(), r"did not answer within 0\.3 s"),
        (Answer(delay=5), r"did not answer within 0\.3 s"),
        (Reset(), "closed without an answer|reset"),
        (Raw(), "closed without an answer"),
        (Raw(body=b"HTTP/1."), "closed without an answer"),
        (Raw(body=b"garbage\r\n\r\n"), "no valid answer"),
    ],
)
async def test_no_answer_is_retryable(receiver: OtlpReceiver, answer: Answer, problem: str) -> None:
    """A hang, a reset and a broken answer may be better the next time; and then they are."""
    receiver.behave(answer)
    async with opened(receiver.url, timeout=0.3) as sink:
        with pytest.raises(RetryableWriteError, match=problem):
            await sink.write([make_span()])
        assert await sink.write([make_span()]) == 0


async def test_a_back_end_may_be_down_and_come_back() -> None:
    """The sink opens without it, and reaches it as soon as it is there; and there again."""
    receiver = OtlpReceiver()
    with receiver:
        pass
    async with opened(receiver.url) as sink:
        for _ in range(2):
            with pytest.raises(RetryableWriteError, match=r"^http://127\.0\.0\.1:\d+/v1/traces: "):
                await sink.write([make_span()])
            with receiver:
                assert await sink.write([make_span()]) == 0
    assert len(receiver.spans) == 2


async def test_a_host_that_does_not_exist_is_retryable() -> None:
    """A name server may be down for a while."""
    async with opened("http://nowhere.invalid") as sink:
        with pytest.raises(RetryableWriteError, match=r"http://nowhere\.invalid/v1/traces: Cannot connect"):
            await sink.write([make_span()])


async def test_a_redirect_is_not_followed(receiver: OtlpReceiver) -> None:
    """It would take the headers to a destination that they are not meant for."""
    with OtlpReceiver() as other:
        receiver.behave(Answer(307, headers={"location": f"{other.url}/v1/traces"}))
        async with opened(receiver.url, headers={"x-key": SECRET}) as sink:
            with pytest.raises(
                PermanentWriteError, match="Set the address that it redirects to as the endpoint"
            ):
                await sink.write([make_span()])
        assert other.requests == []


@contextmanager
def faulty_network(port: int, rule: BaseMiddleware) -> Iterator[str]:
    """A network with `rule` before the port, on a thread of its own; yields the address to use instead."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = free.getsockname()[1]
    proxy = FaultyProxy("127.0.0.1", listen, "127.0.0.1", port)
    proxy.add_egress_rule(rule)

    async def serve() -> None:
        async with proxy:
            started.set_result(None)
            await asyncio.wrap_future(done)
            # Otherwise Python 3.11 reports each connection that is cancelled as an error.
            await until(lambda: not proxy.stats.active_connections)

    started: Future[None] = Future()
    done: Future[None] = Future()
    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        started.result(5.0)
        yield f"http://127.0.0.1:{listen}"
    finally:
        done.set_result(None)
        thread.join()


async def test_a_slow_network_loses_nothing(receiver: OtlpReceiver) -> None:
    """A request that trickles in arrives whole."""
    batch = [make_span() for _ in range(SLICE_SPANS)]
    with faulty_network(receiver.port, ThrottleMiddleware(20_000, 100)) as address:
        async with opened(address) as sink:
            assert await sink.write(batch) == 0
    assert [span.span_id.hex() for span in receiver.spans] == [span.span_id for span in batch]


async def test_a_network_that_swallows_everything_times_out(receiver: OtlpReceiver) -> None:
    """Packets that are dropped look like a back end that hangs."""
    with faulty_network(receiver.port, DropMiddleware(1.0)) as address:
        async with opened(address, timeout=0.3) as sink:
            with pytest.raises(RetryableWriteError, match=r"did not answer within 0\.3 s"):
                await sink.write([make_span()])


async def test_a_cancelled_write_leaves_nothing_behind(receiver: OtlpReceiver) -> None:
    """The delivery's own timeout cancels it; the sink remains usable."""
    receiver.behave(Hang())
    async with opened(receiver.url) as sink:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await sink.write([make_span()])
        assert await sink.write([make_span()]) == 0


async def test_a_payload_of_any_type_is_sent(receiver: OtlpReceiver) -> None:
    """A processor that puts something odd into a span loses neither it nor its batch."""
    odd: Any = {"city": 1.5}
    async with opened(receiver.url) as sink:
        assert (
            await sink.write([make_span(), make_span(input=[1.5]), make_span(metadata=odd, output=1.5)]) == 0
        )
    assert len(receiver.spans) == 3


async def test_steps_are_refused() -> None:
    """OTLP carries spans; a step would be lost silently."""
    async with opened("http://127.0.0.1:1") as sink:
        with pytest.raises(
            PermanentWriteError, match=r"the batch holds steps\. Set the exporter to record spans"
        ):
            await sink.write([make_span(), make_step()])


async def test_a_sink_that_is_not_open_says_so(receiver: OtlpReceiver) -> None:
    """Before `open` and after `close`; closing twice does nothing, and it may be opened again."""
    sink = OtlpHttpSink(receiver.url)
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


# G14: secrets stay secret.


async def test_secrets_are_in_no_error_and_no_repr(
    receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even if the back end quotes them; nor in what an error refers to, which tracebacks print."""
    caplog.set_level(logging.DEBUG)
    pair = base64.b64encode(f"pk-public:{SECRET}".encode()).decode()
    quoted = f"the key '{SECRET}' of '{pair}' is unknown"
    receiver.behave(
        refuse(401, quoted), refuse(503, quoted), partial(1, quoted), Raw(body=b"garbage\r\n\r\n"), Reset()
    )
    sink = OtlpHttpSink(
        f"{receiver.url}/?key={SECRET}",
        headers={"authorization": f"Basic {pair}", "x-key": SecretStr(SECRET)},
    )
    seen = [repr(sink), sink.where]
    await sink.open()
    for error in (PermanentWriteError, RetryableWriteError, None, RetryableWriteError, RetryableWriteError):
        if error is None:
            await sink.write([make_span()])
            continue
        with pytest.raises(error) as caught:
            await sink.write([make_span()])
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
        seen.append(repr(caught.value))
    await sink.close()
    seen += [record.message for record in caplog.records]
    assert sum("***" in text for text in seen) == 3
    for text in seen:
        assert SECRET not in text
        assert pair not in text


@pytest.mark.parametrize(("before", "secret"), SECRETS_AT_A_CUT)
async def test_no_part_of_a_secret_is_left_by_a_cut(
    receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture, before: str, secret: str
) -> None:
    """A long answer is cut; the beginning of a key that the cut goes through is not shown either."""
    quoted = f"{before} {secret} {'y' * 2000}"
    json = {"content-type": "application/json"}
    receiver.behave(
        refuse(401, quoted),
        Answer(401, msgspec.json.encode({"message": quoted}), json),
        Answer(502, f"<p>{quoted}</p>".encode(), {"content-type": "text/html"}),
        Answer(503, quoted.encode(), {"content-type": "text/plain"}),
        partial(1, quoted),
    )
    seen = []
    async with opened(receiver.url, headers={"authorization": f"Bearer {secret}"}) as sink:
        for _ in range(4):
            with pytest.raises((PermanentWriteError, RetryableWriteError)) as caught:
                await sink.write([make_span()])
            seen.append(str(caught.value))
        assert await sink.write([make_span()]) == 1
    seen += [record.message for record in caplog.records if "otlp_partial_success" in record.message]
    assert len(seen) == 5
    for text in seen:
        assert secret[:6] not in text
        assert len(text) < 600


# TLS.


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


def server_context(authority: trustme.CA, *, client: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    if client:
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


async def test_a_private_authority_is_trusted(authority: trustme.CA, ca_file: Path) -> None:
    """With `ca_file` the connection is made; without it, or with another one, it is not."""
    with OtlpReceiver(tls=server_context(authority)) as receiver:
        async with opened(receiver.url, ca_file=ca_file) as sink:
            assert await sink.write([make_span()]) == 0
        async with opened(receiver.url) as sink:
            with pytest.raises(RetryableWriteError, match="CERTIFICATE_VERIFY_FAILED"):
                await sink.write([make_span()])
    assert len(receiver.spans) == 1


async def test_a_client_certificate_is_shown(authority: trustme.CA, ca_file: Path, tmp_path: Path) -> None:
    """In two files or in one; a server that asks for one refuses clients without it."""
    leaf = authority.issue_cert("client.example")
    certificate, key, both = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "both.pem"
    leaf.cert_chain_pems[0].write_to_path(certificate)
    leaf.private_key_pem.write_to_path(key)
    leaf.private_key_and_cert_chain_pem.write_to_path(both)
    with OtlpReceiver(tls=server_context(authority, client=True)) as receiver:
        for options in ({"client_certificate": certificate, "client_key": key}, {"client_certificate": both}):
            async with opened(receiver.url, ca_file=ca_file, **options) as sink:
                assert await sink.write([make_span()]) == 0
        async with opened(receiver.url, ca_file=ca_file) as sink:
            with pytest.raises(RetryableWriteError):
                await sink.write([make_span()])
    assert len(receiver.spans) == 2


# Proxies.


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch, receiver: OtlpReceiver) -> OtlpReceiver:
    """The receiver as the proxy that the environment names, with credentials."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HTTP_PROXY", f"http://user:pass%40word@127.0.0.1:{receiver.port}")
    return receiver


async def test_a_proxy_is_taken_from_the_environment(proxy: OtlpReceiver) -> None:
    """With its credentials; the request names the back end that it is for."""
    async with opened("http://collector.invalid:4318") as sink:
        assert await sink.write([make_span()]) == 0
    (request,) = proxy.requests
    assert request.headers["host"] == "collector.invalid:4318"
    assert request.headers["proxy-authorization"] == f"Basic {base64.b64encode(b'user:pass@word').decode()}"


async def test_no_proxy_is_honoured(proxy: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """What NO_PROXY names is reached directly."""
    monkeypatch.setenv("NO_PROXY", "localhost,.invalid")
    async with opened("http://collector.invalid:4318") as sink:
        with pytest.raises(RetryableWriteError, match="Cannot connect"):
            await sink.write([make_span()])
    assert proxy.requests == []


@pytest.mark.parametrize("address", ["socks5://user:secret@127.0.0.1:1080", "http://user:secret@:99999"])
async def test_an_invalid_proxy_is_an_error_at_start(
    proxy: OtlpReceiver, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """It names the variable and the cure, and not the password."""
    monkeypatch.setenv("HTTP_PROXY", address)
    with pytest.raises(
        SinkError, match=r"HTTP_PROXY: .* Correct it, or name this host in NO_PROXY\."
    ) as caught:
        await OtlpHttpSink("http://collector.invalid").open()
    assert "secret" not in str(caught.value)


# Presets.


async def test_phoenix_needs_an_address_and_a_key(receiver: OtlpReceiver) -> None:
    """The key is a bearer token, the project an attribute of the resource."""
    target = phoenix(receiver.url, SecretStr(SECRET), project="demo")
    async with opened(target.endpoint, headers=target.headers, resource=target.resource) as sink:
        await sink.write([make_span()])
    (request,) = receiver.requests
    assert request.path == "/v1/traces"
    assert request.headers["authorization"] == f"Bearer {SECRET}"
    attributes = {each.key: each.value.string_value for each in request.resources[0].attributes}
    assert attributes["openinference.project.name"] == "demo"
    assert SECRET not in repr(target)


async def test_langfuse_needs_two_keys(receiver: OtlpReceiver) -> None:
    """They are Basic authentication, on the path of its OTLP endpoint."""
    target = langfuse("pk-lf-1", SECRET, receiver.url + "/")
    async with opened(target.endpoint, headers=target.headers) as sink:
        await sink.write([make_span()])
    (request,) = receiver.requests
    assert request.path == "/api/public/otel/v1/traces"
    assert (
        request.headers["authorization"] == f"Basic {base64.b64encode(f'pk-lf-1:{SECRET}'.encode()).decode()}"
    )
    assert request.headers["x-langfuse-ingestion-version"] == "4"
    assert SECRET not in repr(target)


# Exit and fork (G6, G15).


def test_a_program_that_just_ends_delivers(receiver: OtlpReceiver) -> None:
    """At interpreter exit names are still resolved, and large batches encoded."""
    run_program(
        """
        import sys
        from nat_observability.delivery.delivery import Delivery
        from nat_observability.sinks.otlp.http import OtlpHttpSink
        from tests.sinks.builders import make_span

        delivery = Delivery("main", OtlpHttpSink(sys.argv[1]))
        lease = delivery.lease()
        for _ in range(300):
            lease.accept(make_span(output="x" * 2000))
        """,
        receiver.url.replace("127.0.0.1", "localhost"),
    )
    assert len(receiver.wait_for_spans(300)) == 300


def test_a_forked_child_has_connections_of_its_own(receiver: OtlpReceiver) -> None:
    """Parent and child write on, each over its own connection."""
    run_program(
        """
        import os, sys
        from nat_observability.delivery.delivery import Delivery
        from nat_observability.sinks.otlp.http import OtlpHttpSink
        from tests.sinks.builders import make_span

        delivery = Delivery("main", OtlpHttpSink(sys.argv[1]))
        def write():
            lease = delivery.lease()
            lease.accept(make_span())
            lease.settled().result(10)
            assert lease.ledger.delivered == 1, lease.ledger
            return lease
        held = write()
        child = os.fork()
        write()
        if child:
            assert os.waitpid(child, 0)[1] == 0
            write()
        """,
        receiver.url,
    )
    assert len(receiver.wait_for_spans(4)) == 4
    assert receiver.connections >= 2
