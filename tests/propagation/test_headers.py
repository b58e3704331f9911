"""Propagation in headers: what is read of them, and what is written into them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat_observability import ContextState, step
from nat_observability.integrations.headers import write_headers
from nat_observability.propagation.headers import parse_baggage, read_headers

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"


def test_ids_come_from_traceparent_and_baggage() -> None:
    """The arguments of a ContextState, by the names that OpenTelemetry and OpenInference have for them."""
    incoming = read_headers(
        {"traceparent": TRACEPARENT, "baggage": "session.id=c-1,user.id=u%201;p=1,other=x"}
    )
    assert incoming.ids == {"traceparent": TRACEPARENT, "conversation_id": "c-1", "user_id": "u 1"}


def test_pairs_of_bytes_are_read_as_text_is() -> None:
    """As ASGI has headers; several of baggage are one list."""
    pairs = [
        (b"host", b"x"),
        (b"Traceparent", TRACEPARENT.encode()),
        (b"baggage", b"session.id=c-1"),
        (b"baggage", b"user.id=u-1"),
    ]
    ids = {"traceparent": TRACEPARENT, "conversation_id": "c-1", "user_id": "u-1"}
    assert read_headers(pairs).ids == ids


@pytest.mark.parametrize(
    "headers", [None, {}, [], {"traceparent": 7, "baggage": None}, {7: "x"}, {"baggage": ""}]
)
def test_headers_that_are_missing_or_no_text_say_nothing(headers: dict[str, object] | None) -> None:
    """Nothing of it fails, and nothing is known."""
    assert read_headers(headers).ids == {}


def test_two_traceparents_are_none() -> None:
    """Neither of two can be trusted: a new trace starts."""
    pairs = [("traceparent", TRACEPARENT), ("traceparent", TRACEPARENT.replace("b7", "c7"))]
    assert read_headers(pairs).traceparent is None


@pytest.mark.parametrize(
    ("header", "values"),
    [
        ("a=1", {"a": "1"}),
        (" a = 1 , b = 2 ;p;q=3", {"a": "1", "b": "2"}),
        ("a=1,a=2", {"a": "2"}),
        ("a=b=c", {"a": "b=c"}),
        ("a=%C3%A4%zz%FF", {"a": "ä%zz\N{REPLACEMENT CHARACTER}"}),
        ("a,=1,,;,b=", {"b": ""}),
        ("a=1," + "b=" + 9000 * "x", {"a": "1"}),
    ],
)
def test_baggage_is_read_member_by_member(header: str, values: dict[str, str]) -> None:
    """What is malformed or too long is left out, the rest is not."""
    assert parse_baggage(header) == values


@given(st.dictionaries(st.one_of(st.text(), st.binary()), st.one_of(st.text(), st.binary(), st.none())))
def test_no_header_raises(headers: dict[object, object]) -> None:
    """Whatever a sender writes, a state can be made of it."""
    ContextState(**read_headers({**headers, "baggage": headers.get("baggage", b"\xff")}).ids)


@given(st.text(), st.text())
def test_what_is_written_is_read(conversation_id: str, user_id: str) -> None:
    """Ids of any characters come through, and the receiver is in the sender's trace."""
    sent = ContextState(conversation_id=conversation_id, user_id=user_id)
    headers: dict[str, str] = {}
    write_headers(headers, sent)
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    received = ContextState(**read_headers(headers).ids)
    assert received.run.trace_id == sent.run.trace_id
    assert (received.run.conversation_id or "") == (sent.run.conversation_id or "")
    assert (received.run.user_id or "") == (sent.run.user_id or "")


def test_the_step_that_sends_is_the_parent() -> None:
    """What the receiver does is below it."""
    headers: dict[str, str] = {}
    with ContextState().attach(), step("tool", "send") as sending:
        write_headers(headers)
    assert ContextState(**read_headers(headers).ids).run.parent_span_id == sending.step_id


def test_what_others_have_written_stays() -> None:
    """Their baggage, with its properties, and their other headers; an older trace and our own ids do not."""
    headers = {"Traceparent": TRACEPARENT, "Baggage": "a=1;p=2,session.id=old", "x": "y"}
    state = ContextState(conversation_id="new")
    write_headers(headers, state)
    assert headers == {
        "x": "y",
        "traceparent": state.traceparent,
        "baggage": "a=1;p=2,session.id=new",
    }


def test_outside_every_run_nothing_is_written() -> None:
    """No trace could be continued."""
    headers: dict[str, str] = {}
    write_headers(headers)
    assert headers == {}
