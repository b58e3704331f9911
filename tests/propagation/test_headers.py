"""Propagation in headers: what is read of them, and what is written into them."""

from __future__ import annotations

from typing import Any

import pytest
from dependency_injector import providers
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from nat_observability import (
    BaseExporter,
    ContextState,
    ExporterManager,
    LedgerSnapshot,
    ObservabilityRuntime,
    Sampling,
    SpanExporter,
    outgoing_headers,
    step,
)
from nat_observability.containers import ObservabilityContainer
from nat_observability.integrations import RunScope, run_scope
from nat_observability.integrations.shared.headers import write_headers
from nat_observability.propagation.baggage import parse_baggage
from nat_observability.propagation.headers import read_headers
from nat_observability.settings import ObservabilitySettings
from nat_observability.testing import CapturingExporter

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


# Tags, tracestate and the baggage of others


def sent_by(state: ContextState, **headers: str) -> dict[str, str]:
    """Return what a run writes into headers."""
    write_headers(headers, state)
    return headers


def test_propagated_tags_travel() -> None:
    """Those that are named, and no others; the receiver makes tags of those that it names."""
    state = ContextState(tags={"tenant": "acme, inc", "plan": "gold", "secret": "s"})
    state.propagated_tags = ("tenant", "plan", "missing")
    headers = sent_by(state, baggage="plan=theirs,x=1")
    assert headers["baggage"] == "x=1,plan=gold,tenant=acme%2C%20inc"
    incoming = read_headers(headers)
    received = ContextState(**incoming.arguments(["tenant", "x"]))
    assert received.run.tags == (("tenant", "acme, inc"), ("x", "1"))
    assert "tags" not in incoming.arguments()


@given(st.text(min_size=1), st.text(max_size=256))
def test_a_tag_of_any_characters_comes_through(name: str, value: str) -> None:
    """The name and the value are those that the receiver gets, unless they are not text at all."""
    state = ContextState(tags={name: value})
    [(name, value)] = state.run.tags
    state.propagated_tags = (name,)
    headers = sent_by(state)
    assert all(each.isascii() and each.isprintable() for each in headers.values())
    if name not in ("session.id", "user.id") and len(value) <= 256 and len(headers["baggage"]) < 4000:
        assert ContextState(**read_headers(headers).arguments([name])).run.tags == ((name, value),)


def test_what_the_caller_has_sent_along_is_passed_on() -> None:
    """A service in the middle neither reads nor drops the members of others, and their tracestate."""
    caller = {
        "traceparent": TRACEPARENT,
        "tracestate": "vendor=a:b,other@sys=1",
        "baggage": "a=1;p=2, session.id=c-1,b=%C3%A4",
    }
    state = ContextState(**read_headers(caller).arguments())
    assert state.run.conversation_id == "c-1"
    assert sent_by(state) == {
        "traceparent": state.traceparent,
        "tracestate": "vendor=a:b,other@sys=1",
        "baggage": "a=1;p=2,b=%C3%A4,session.id=c-1",
    }
    # What the headers have already is the application's, and newer.
    assert sent_by(state, Baggage="b=new", TraceState="old=1")["baggage"] == "b=new,a=1;p=2,session.id=c-1"
    assert outgoing_headers(state) == sent_by(state)
    with state.attach(), step("tool", "call") as calling:
        assert outgoing_headers()["traceparent"] == f"00-{TRACE}-{calling.step_id}-01"
    assert outgoing_headers() == {}


def test_a_tracestate_that_is_not_text_is_ignored() -> None:
    """As a `traceparent` that is not is: the application goes on."""
    state = ContextState(traceparent=TRACEPARENT, tracestate=5)  # type: ignore[arg-type]
    assert (state.tracestate, state.traceparent[:36]) == (None, TRACEPARENT[:36])


@pytest.mark.parametrize(
    ("tracestate", "passed"),
    [
        ("a=1", "a=1"),
        (" a=1 ,, b=2 ", "a=1,b=2"),
        ("0tenant@vendor=x", "0tenant@vendor=x"),
        ("", None),
        ("A=1", None),
        ("a", None),
        ("a=", None),
        ("a=1,b=3,a=2", "a=1,b=3"),
        ("a=1,a=", None),
        ("a@b=1,@b=2", None),
        ("a" * 256 + "=1", "a" * 256 + "=1"),
        ("a" * 257 + "=1", None),
        (f"{'t' * 241}@{'s' * 14}=1", f"{'t' * 241}@{'s' * 14}=1"),
        (f"{'t' * 241}@{'s' * 15}=1", None),
        (",".join(f"k{n:02}{'k' * 253}={'v' * 256}" for n in range(32)), None),
        ("a=b=c", None),
        ("a=\n", None),
        ("a=\xe4", None),
        (",".join(f"k{n}=v" for n in range(33)), None),
        (",".join([f"k{n:02}={'v' * 20}" for n in range(15)] + [f"long={'x' * 200}"]), ...),
        (",".join(f"k{n:02}={'v' * 20}" for n in range(32)), ...),
    ],
)
def test_a_tracestate_is_passed_on_if_it_is_one(tracestate: str, passed: object) -> None:
    """A malformed one is discarded as a whole; of one that is too long, whole members are."""
    state = ContextState(traceparent=TRACEPARENT, tracestate=tracestate)
    if passed is ...:
        members = tracestate.split(",")
        assert state.tracestate is not None
        assert 300 < len(state.tracestate) <= 512
        assert set(state.tracestate.split(",")) < set(members)
        assert "long=" not in state.tracestate
        assert state.tracestate.startswith("k00=")
    else:
        assert state.tracestate == passed
    # It belongs to the trace that it came with.
    assert ContextState(tracestate="a=1").tracestate is None
    assert ContextState(traceparent="00-broken", tracestate="a=1").tracestate is None


def test_baggage_stays_within_its_limits() -> None:
    """Of 100 KB the first 8192 bytes are read, ours come first when it is written, and a line says what is left out."""
    incoming = {"traceparent": TRACEPARENT, "baggage": ",".join(f"k{n}={'x' * 90}" for n in range(1000))}
    with capture_logs() as lines:
        read = read_headers(incoming)
        state = ContextState(**read.arguments(), conversation_id="c" * 300, tags={"tenant": "t" * 200})
        state.propagated_tags = ("tenant",)
        headers = sent_by(state)
        huge = ContextState(conversation_id="c" * 100_000, user_id="u-1")
        assert parse_baggage(sent_by(huge)["baggage"]) == {"user.id": "u-1"}
    members = headers["baggage"].split(",")
    assert 4096 < len(headers["baggage"]) <= 8192
    assert len(members) == 64
    assert {"session.id", "tenant", "k0"} <= {member.partition("=")[0] for member in members}
    cut = [line for line in lines if line["event"] == "baggage_cut"]
    assert len(cut) <= 1  # repeated ones are summarised, those of other tests too
    for line in cut:
        assert line["log_level"] == "warning"
        assert line["bytes"] > 8192


def test_a_baggage_that_no_header_may_hold_is_not_written() -> None:
    """A line break, or another character that could begin a header of its own, goes no further."""
    state = ContextState(baggage="a=1\r\nx-admin: yes,b=2,c=\xe4,d,=e, f = 1 ;p")
    assert sent_by(state)["baggage"] == "b=2,f = 1 ;p"
    given = ContextState(baggage={"a b": "x\r\ny", "ä": "1"})
    assert sent_by(given)["baggage"] == "a%20b=x%0D%0Ay,%C3%A4=1"
    with pytest.raises(TypeError, match="baggage is a header or a mapping"):
        ContextState(baggage=5)  # type: ignore[arg-type]


async def flag_of(*exporters: BaseExporter, **ids: Any) -> str:
    """Return the flags that go out of a run of these exporters."""
    manager = ExporterManager.from_exporters({str(n): each for n, each in enumerate(exporters)})
    async with manager.start(ContextState(**ids)):
        return outgoing_headers()["traceparent"][-2:]


async def test_the_sampled_flag_says_what_was_decided() -> None:
    """It is set if any exporter takes the run; if none has decided, the caller's goes on."""
    none, every = Sampling(0), Sampling(1)

    def exporter(sampling: Sampling | None, **more: Any) -> SpanExporter:
        return SpanExporter(lambda batch: None, sampling=sampling, **more)

    caller = {flag: f"00-{TRACE}-{SPAN}-{flag}" for flag in ("00", "01", "02")}
    assert await flag_of() == "01"
    assert await flag_of(traceparent=caller["00"]) == "00"
    assert await flag_of(exporter(none)) == "00"
    assert await flag_of(exporter(none), traceparent=caller["01"]) == "00"
    assert await flag_of(exporter(every), traceparent=caller["02"]) == "03"
    assert await flag_of(exporter(every), exporter(none)) == "01"
    assert await flag_of(exporter(none), exporter(None)) == "01"
    assert await flag_of(exporter(none), CapturingExporter()) == "01"
    assert await flag_of(exporter(none), exporter(every, select={"user_id": "other"})) == "00"
    assert await flag_of(exporter(None), traceparent=caller["00"]) == "01"
    assert await flag_of(CapturingExporter(), traceparent=caller["00"]) == "01"
    assert await flag_of(CapturingExporter(), traceparent=caller["02"]) == "03"
    parent_based = Sampling(1, parent_based=True)
    assert await flag_of(exporter(parent_based), traceparent=caller["00"]) == "00"
    kept_open = exporter(None)
    async with ObservabilityRuntime({"a": kept_open}):
        assert await flag_of(kept_open, exporter(none), traceparent=caller["00"]) == "01"


async def test_the_caller_of_a_run_is_asked_by_its_own_flag() -> None:
    """What one exporter decides does not change what another one that follows the caller sees."""
    state = ContextState(traceparent=f"00-{TRACE}-{SPAN}-00")
    first = SpanExporter(lambda batch: None, sampling=Sampling(1))
    second = SpanExporter(lambda batch: None, sampling=Sampling(1, parent_based=True))
    async with ExporterManager.from_exporters({"a": first, "b": second}).start(state) as manager:
        with step("tool", "a"):
            pass
    assert manager.report.exporters["b"].ledger == LedgerSnapshot(accepted=1, dropped={"sampled_out": 1})


def scope_of(**more: Any) -> RunScope:
    """Return the scope of a message of a service that propagates the same tags as this one."""
    container = ObservabilityContainer(
        settings=providers.Object(ObservabilitySettings(propagate_tags=("tenant", "plan")))
    )
    headers = {"traceparent": TRACEPARENT, "tracestate": "v=1", "baggage": "tenant=acme,plan=free,other=1"}
    return run_scope(container, headers=headers, **more)


WITH_TAGS = {"tags": {"plan": "gold", "own": "x"}}


def check_sent(scope: RunScope, sent: dict[str, str]) -> None:
    """Check what goes in and out of a scope with those tags."""
    assert dict(scope.state.run.tags) == {"tenant": "acme", "plan": "gold", "own": "x"}
    assert sent["baggage"] == "other=1,plan=gold,tenant=acme"
    assert (sent["tracestate"], sent["traceparent"][:35]) == ("v=1", TRACEPARENT[:35])


async def test_a_run_scope_goes_both_ways() -> None:
    """Tags that the setting names come in and go out; what the caller gives wins."""
    async with scope_of(**WITH_TAGS) as scope:
        check_sent(scope, outgoing_headers())
    assert dict(scope_of(tags=None).state.run.tags) == {"tenant": "acme", "plan": "free"}
    assert dict(scope_of().state.run.tags) == {"tenant": "acme", "plan": "free"}


def test_a_run_scope_without_a_loop_goes_both_ways() -> None:
    """The same, with the exporters on a background thread."""
    with scope_of(**WITH_TAGS) as scope:
        check_sent(scope, outgoing_headers())


def test_what_is_not_headers_is_ignored() -> None:
    """A text, a number, a mapping that cannot be read, and a member that is not a pair, beside those that are."""

    class Closed(dict[str, str]):
        def items(self) -> Any:
            raise RuntimeError("the request is closed")

    for junk in ("traceparent", 5, [5], [("a", "b", "c")], Closed(a="b")):
        given_headers: Any = junk
        assert read_headers(given_headers).traceparent is None
    found = f"00-{'a' * 32}-{'b' * 16}-01"
    mixed: Any = [None, "junk", ("traceparent", found)]
    assert read_headers(mixed).traceparent == found
