"""Propagators: which headers are read and written; B3 in both forms, as its specification has it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat_observability import ContextState, outgoing_headers
from nat_observability.builders import build_exporters
from nat_observability.integrations.asgi.request_headers import read_request
from nat_observability.propagation.b3 import read_multiple, read_single
from nat_observability.propagation.formats import DEFAULT, formats, is_w3c, use_propagators
from nat_observability.propagation.headers import read_headers
from nat_observability.propagation.traceparent import parse_traceparent
from nat_observability.settings import ObservabilitySettings

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SHORT = "00000000000000008448eb211c80319c"
B3 = f"{TRACE}-{SPAN}-1"
MULTIPLE = {"X-B3-TraceId": TRACE, "X-B3-SpanId": SPAN, "X-B3-Sampled": "1"}


@pytest.fixture(autouse=True)
def default_formats() -> Iterator[None]:
    """Each test leaves the process as it was."""
    yield
    use_propagators(DEFAULT)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (f"{TRACE}-{SPAN}-1", f"00-{TRACE}-{SPAN}-01"),
        (f"{TRACE}-{SPAN}-0", f"00-{TRACE}-{SPAN}-00"),
        (f"{TRACE}-{SPAN}-d", f"00-{TRACE}-{SPAN}-01"),
        (f"{TRACE}-{SPAN}-1-05e3ac9a4f6e3b90", f"00-{TRACE}-{SPAN}-01"),
        (f"{TRACE}-{SPAN}", f"00-{TRACE}-{SPAN}-01"),
        (f"{TRACE.upper()}-{SPAN.upper()}-1", f"00-{TRACE}-{SPAN}-01"),
        (f"{TRACE[16:]}-{SPAN}-1", f"00-{SHORT}-{SPAN}-01"),
        ("0", None),
        ("", None),
        (f"{TRACE}", None),
        (f"{TRACE[1:]}-{SPAN}-1", None),
        (f"{TRACE}-{SPAN[1:]}-1", None),
        (f"{'0' * 32}-{SPAN}-1", None),
        (f"{TRACE}-{'0' * 16}-1", None),
        (f"{TRACE}-{SPAN}-x", None),
        (f"{TRACE}-{SPAN}-1-short", None),
    ],
)
def test_the_single_header(header: str, expected: str | None) -> None:
    """Ids of 64 bits are padded; a malformed one is as good as none."""
    assert read_single(header) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-sampled": "1"}, f"00-{TRACE}-{SPAN}-01"),
        ({"x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-sampled": "true"}, f"00-{TRACE}-{SPAN}-01"),
        ({"x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-sampled": "0"}, f"00-{TRACE}-{SPAN}-00"),
        (
            {"x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-sampled": "0", "x-b3-flags": "1"},
            f"00-{TRACE}-{SPAN}-01",
        ),
        ({"x-b3-traceid": TRACE[16:], "x-b3-spanid": SPAN}, f"00-{SHORT}-{SPAN}-01"),
        ({"x-b3-traceid": TRACE}, None),
        ({"x-b3-sampled": "0"}, None),
    ],
)
def test_several_headers(headers: dict[str, str], expected: str | None) -> None:
    """The debug flag counts as sampled."""
    assert read_multiple(headers) == expected


@given(st.text(max_size=80), st.dictionaries(st.sampled_from(["x-b3-traceid", "x-b3-spanid"]), st.text()))
def test_any_text_is_a_trace_or_none(single: str, several: dict[str, str]) -> None:
    """What comes out is a valid traceparent."""
    for found in (read_single(single), read_multiple(several)):
        assert found is None or parse_traceparent(found) is not None


@pytest.mark.parametrize("propagator", ["b3", "b3multi"])
def test_both_forms_are_read_whichever_is_written(propagator: str) -> None:
    """As the specification of OpenTelemetry demands; the single header takes precedence."""
    use_propagators([propagator])
    assert read_headers({"b3": B3}).traceparent == f"00-{TRACE}-{SPAN}-01"
    assert read_headers(MULTIPLE).traceparent == f"00-{TRACE}-{SPAN}-01"
    other = {**MULTIPLE, "b3": f"{TRACE[16:]}-{SPAN}-0"}
    assert read_headers(other).traceparent == f"00-{SHORT}-{SPAN}-00"
    assert read_headers({**MULTIPLE, "b3": "nonsense"}).traceparent == f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("propagators", "expected"),
    [
        (["tracecontext", "baggage"], {"traceparent", "tracestate", "baggage"}),
        (["b3"], {"b3"}),
        (["b3multi"], {"x-b3-traceid", "x-b3-spanid", "x-b3-sampled"}),
        (["b3", "baggage", "tracecontext"], {"b3", "baggage", "traceparent", "tracestate"}),
        (["baggage"], {"baggage"}),
        (["none"], set()),
    ],
)
def test_only_what_is_configured_is_written(propagators: list[str], expected: set[str]) -> None:
    """And other headers of a request stay as they are."""
    use_propagators(propagators)
    state = ContextState(traceparent=f"00-{TRACE}-{SPAN}-01", tracestate="a=1", user_id="u")
    assert set(outgoing_headers(state)) == expected


def test_what_is_written_is_read_again() -> None:
    """One service's outgoing headers are the next one's incoming ones, in each format."""
    state = ContextState(traceparent=f"00-{TRACE}-{SPAN}-00")
    for propagators in (["b3"], ["b3multi"], ["tracecontext"]):
        use_propagators(propagators)
        found = parse_traceparent(read_headers(outgoing_headers(state)).traceparent)
        sent = parse_traceparent(state.traceparent)
        assert found is not None
        assert sent is not None
        assert (found[0], found[1]) == (sent[0], sent[1])


@pytest.mark.parametrize(
    ("order", "counts"), [(["tracecontext", "b3"], TRACE), (["b3", "tracecontext"], "ab" * 16)]
)
def test_of_several_the_last_one_counts(order: list[str], counts: str) -> None:
    """As a composite propagator runs them; one whose headers are malformed finds nothing."""
    use_propagators(order)
    both = {"traceparent": f"00-{'ab' * 16}-{SPAN}-01", "tracestate": "a=1", "b3": B3}
    incoming = read_headers(both)
    assert (incoming.traceparent or "").split("-")[1] == counts
    assert incoming.tracestate == ("a=1" if counts != TRACE else None)
    assert (read_headers({**both, "b3": "x"}).traceparent or "").split("-")[1] == "ab" * 16
    assert (read_headers({**both, "traceparent": "x"}).traceparent or "").split("-")[1] == TRACE


def test_a_request_of_a_service_with_b3_continues_the_trace() -> None:
    """In ASGI's headers too; without the propagator its headers are those of others."""
    pairs = [(name.lower().encode(), value.encode()) for name, value in MULTIPLE.items()]
    scope = {"type": "http", "headers": pairs}
    assert read_request(scope) is None
    use_propagators(["b3multi"])
    request = read_request(scope)
    assert request is not None
    assert request.ids["traceparent"] == f"00-{TRACE}-{SPAN}-01"
    use_propagators(["none"])
    request = read_request({"type": "http", "headers": [(b"traceparent", f"00-{TRACE}-{SPAN}-01".encode())]})
    assert request is None or "traceparent" not in request.ids


def test_settings_choose_them() -> None:
    """For the process, when its exporters are built."""
    build_exporters(ObservabilitySettings(propagators=("b3", "baggage"), exporters={}))
    assert formats().propagators == ("b3", "baggage")
    assert not is_w3c()
