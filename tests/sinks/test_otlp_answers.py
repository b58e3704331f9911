"""What back ends answer: whatever the bytes are, they are read or said not to be readable."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from nat_observability.sinks.otlp_answers import (
    PartialSuccess,
    failure_message,
    partial_success,
    readable,
    retry_after,
    retry_info,
)
from nat_observability.sinks.otlp_wire import length_delimited, varint

NOW = 1_700_000_000.0


@given(rejected=st.integers(0, 2**63 - 1), message=st.text("abc é", max_size=50))
def test_a_partial_success_is_read(rejected: int, message: str) -> None:
    """As opentelemetry-proto writes it."""
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = rejected
    response.partial_success.error_message = message
    assert partial_success(response.SerializeToString()) == PartialSuccess(
        rejected, " ".join(message.split())
    )


@given(
    body=st.binary(max_size=60),
    content_type=st.sampled_from(["", "application/json", "application/x-protobuf"]),
)
def test_any_bytes_are_an_answer_or_none(body: bytes, content_type: str) -> None:
    """Nothing but a ValueError is raised for bytes that are no answer, and the reason of a failure is always text."""
    with contextlib.suppress(ValueError):
        assert partial_success(body, content_type).rejected >= 0
    message = failure_message(body, content_type)
    assert message.isprintable()
    assert len(message) <= 301
    retry_info(body)


@given(st.text())
def test_any_text_is_a_retry_after_or_none(value: str) -> None:
    """A wait is between nothing and an hour."""
    wait = retry_after(value, value, NOW)
    assert wait is None or 0 <= wait <= 3600


def test_a_date_is_relative_to_the_servers_clock() -> None:
    """Where its clock is an hour off, the wait is still the one that it means."""
    date, later = "Wed, 15 Nov 2023 10:00:00 GMT", "Wed, 15 Nov 2023 10:00:30 GMT"
    assert retry_after(later, date, NOW) == 30.0
    assert retry_after(later, None, NOW) == 3600.0
    assert retry_after(date, later, NOW) == 0.0


def status_with(*details: bytes) -> bytes:
    """A google.rpc.Status with these details, each a google.protobuf.Any."""
    return (
        b"\x08\x0e" + length_delimited(2, b"later") + b"".join(length_delimited(3, each) for each in details)
    )


def detail(kind: str, content: bytes) -> bytes:
    return length_delimited(1, f"type.googleapis.com/google.rpc.{kind}".encode()) + length_delimited(
        2, content
    )


def delay(seconds: int, nanoseconds: int = 0) -> bytes:
    duration = b"\x08" + varint(seconds % 2**64) + b"\x10" + varint(nanoseconds % 2**64)
    return detail("RetryInfo", length_delimited(1, duration))


@pytest.mark.parametrize(
    ("status", "wait"),
    [
        (status_with(delay(7, 500_000_000)), 7.5),
        (status_with(detail("BadRequest", b""), delay(3)), 3.0),
        (status_with(delay(0)), 0.0),
        (status_with(detail("RetryInfo", b"")), 0.0),
        (status_with(delay(-5)), 0.0),
        (status_with(delay(10**9)), 3600.0),
        (status_with(), None),
        (status_with(detail("BadRequest", b"\x08\x01")), None),
        (b"", None),
        (b"garbage", None),
    ],
)
def test_a_retry_info_is_read(status: bytes, wait: float | None) -> None:
    """Seconds and nanoseconds; an hour at most, and nothing where it is none."""
    assert retry_info(status) == wait


def test_a_strangers_text_is_one_short_line() -> None:
    """No line breaks, no escape sequences, no end without end."""
    assert readable(" a\r\n b\x1b[31m\x00c\u202e ") == "a b [31m c"
    assert readable("x" * 1000) == "x" * 300 + "…"
