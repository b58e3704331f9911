"""What back ends answer: any bytes are read, or reported as unreadable."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from nat_observability.sinks.otlp.options import SecretHeaders
from nat_observability.sinks.otlp.responses import (
    PartialSuccess,
    failure_message,
    partial_success,
    readable,
    retry_after,
    retry_info,
)
from nat_observability.sinks.otlp.wire_format import length_delimited, varint

NOW = 1_700_000_000.0

SECRETS_AT_A_CUT = [
    ("x" * 280, "sk-" + "0123456789" * 6),
    ("the key is", "eyJ" + "abcdefghij" * 40),
    ("the key is", "eyJ" + "abcdefghij" * 150),
    ("x" * 294, "sk-" + "0123456789" * 6),
    (" " * 1190, "sk-" + "0123456789" * 6),
]
"""Texts and what follows them: a secret at the point where a long answer is cut."""


@given(rejected=st.integers(0, 2**63 - 1), message=st.text("abc é", max_size=50))
def test_a_partial_success_is_read(rejected: int, message: str) -> None:
    """As opentelemetry-proto writes it."""
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = rejected
    response.partial_success.error_message = message
    assert partial_success(response.SerializeToString(), hide=str) == PartialSuccess(
        rejected, " ".join(message.split())
    )


@given(
    body=st.binary(max_size=60),
    content_type=st.sampled_from(["", "application/json", "application/x-protobuf"]),
)
def test_any_bytes_are_an_answer_or_none(body: bytes, content_type: str) -> None:
    """Only a ValueError is raised for bytes that are not an answer, and the reason for a failure is always text."""
    with contextlib.suppress(ValueError):
        assert partial_success(body, content_type, hide=str).rejected >= 0
    message = failure_message(body, content_type, hide=str)
    assert message.isprintable()
    assert len(message) <= 301
    retry_info(body)


@given(st.text())
def test_any_text_is_a_retry_after_or_none(value: str) -> None:
    """A wait is between nothing and an hour."""
    wait = retry_after(value, value, NOW)
    assert wait is None or 0 <= wait <= 3600


def test_a_date_is_relative_to_the_servers_clock() -> None:
    """If its clock is an hour off, the wait is still the one that it means."""
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
    """Seconds and nanoseconds; an hour at most, and None if it is not a RetryInfo."""
    assert retry_info(status) == wait


def test_a_strangers_text_is_one_short_line() -> None:
    """No line breaks, no escape sequences, and never endless."""
    assert readable(" a\r\n b\x1b[31m\x00c\u202e ", str) == "a b [31m c"
    assert readable("x" * 1000, str) == "x" * 300 + "…"


@given(
    before=st.text("ab \n\x00", max_size=1500),
    secret=st.text("0123456789-._\t ", min_size=6, max_size=1500)
    .map(str.strip)
    .filter(lambda it: len(it) > 5),
    after=st.text("ab \n", max_size=20),
)
def test_no_beginning_of_a_secret_is_readable(before: str, secret: str, after: str) -> None:
    """Wherever the text is cut; a secret may have spaces, which change if the text is made into one line."""
    shown = readable(f"{before}{secret}{after}", SecretHeaders({"x-key": secret}, ()).hide)
    assert len(shown) <= 301
    assert secret[:6] not in shown


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(b"<p>the key sk-<0123456789>abcdef is</p>", "text/html"), (b'"sk-<0123456789>abcdef"', "text/plain")],
)
def test_a_secret_is_hidden_before_the_marks_of_a_page_are_taken_out(body: bytes, content_type: str) -> None:
    """Without what looks like a tag in it, the rest of a secret would not be recognised."""
    hide = SecretHeaders({"x-key": "sk-<0123456789>abcdef"}, ()).hide
    message = failure_message(body, content_type, hide=hide)
    assert "***" in message
    assert "abcdef" not in message


def test_what_is_wrong_with_an_answer_holds_no_secret() -> None:
    """Python quotes what is not a number."""
    hide = SecretHeaders({"x-key": "sk-0123456789"}, ()).hide
    body = b'{"partialSuccess": {"rejectedSpans": "sk-0123456789"}}'
    with pytest.raises(ValueError, match="rejectedSpans is not a number") as caught:
        partial_success(body, "application/json", hide=hide)
    assert "0123456789" not in str(caught.value)


def test_a_secret_that_holds_another_is_hidden_whole() -> None:
    """In whatever order the headers are."""
    hide = SecretHeaders({"x-a": "0123456789", "x-b": "0123456789abcdef"}, ()).hide
    assert hide("neither 0123456789abcdef nor 0123456789") == "neither *** nor ***"


def test_a_secret_is_hidden_as_one_line() -> None:
    """As what was answered is shown: its spaces may have become others."""
    query = "key=gh%0A%09ij%20kl"
    headers = SecretHeaders({"x-key": "ab  cd\tef"}, (), url=f"https://collector.example/?{query}")
    assert readable("neither ab  cd\tef nor\ngh\n\tij kl", headers.hide) == "neither *** nor ***"


def test_the_beginning_of_a_secret_at_the_end_is_hidden() -> None:
    """From six characters on: a cut may have taken the rest."""
    hide = SecretHeaders({"x-key": "0123456789"}, ()).hide
    assert hide("it is 012345678") == "it is ***"
    assert hide("it is 012345") == "it is ***"
    assert hide("it is 01234") == "it is 01234"
    assert readable(" " * 1194 + "0123456789", hide) == "***"
