"""B3: the headers of Zipkin's tracers, one (`b3`) or several (`X-B3-…`), read and written as trace context."""

from __future__ import annotations

import re
from collections.abc import Mapping

B3 = "b3"
TRACE_ID, SPAN_ID = "x-b3-traceid", "x-b3-spanid"
SAMPLED, FLAGS, PARENT_SPAN_ID = "x-b3-sampled", "x-b3-flags", "x-b3-parentspanid"
MULTIPLE = (TRACE_ID, SPAN_ID, SAMPLED, FLAGS, PARENT_SPAN_ID)

# https://github.com/openzipkin/b3-propagation: hexadecimal in lower case; readers accept both cases.
_TRACE = re.compile(r"(?:[0-9a-f]{16}){1,2}", re.ASCII | re.IGNORECASE)
_SPAN = re.compile(r"[0-9a-f]{16}", re.ASCII | re.IGNORECASE)
_STATES = {"1": "01", "true": "01", "d": "01", "0": "00", "false": "00"}
_DEFERRED = "01"


def read_single(header: str) -> str | None:
    """
    Return the `traceparent` that a `b3` header stands for; None if it is malformed, or has a decision alone.

    A trace id of 64 bits is padded with zeros at its left, as the specification of OpenTelemetry's B3 propagator
    demands. A decision that is left to the receiver counts as sampled: `traceparent` has no third state.
    """
    trace_id, _, rest = header.strip().partition("-")
    span_id, _, rest = rest.partition("-")
    state, _, parent_id = rest.partition("-")
    if parent_id and not _SPAN.fullmatch(parent_id):
        return None
    return _traceparent(trace_id, span_id, state)


def read_multiple(headers: Mapping[str, str]) -> str | None:
    """Return the `traceparent` that several headers stand for, by their names in lower case, as `read_single` does."""
    state = "d" if headers.get(FLAGS, "").strip() == "1" else headers.get(SAMPLED, "")
    return _traceparent(headers.get(TRACE_ID, ""), headers.get(SPAN_ID, ""), state)


def write_single(trace_id: str, span_id: str, sampled: bool) -> dict[str, str]:
    """Return the `b3` header of a trace; the parent's id, which is optional, is left out."""
    return {B3: f"{trace_id}-{span_id}-{sampled:d}"}


def write_multiple(trace_id: str, span_id: str, sampled: bool) -> dict[str, str]:
    """Return the `X-B3-…` headers of a trace."""
    return {TRACE_ID: trace_id, SPAN_ID: span_id, SAMPLED: f"{sampled:d}"}


def _traceparent(trace_id: str, span_id: str, state: str) -> str | None:
    trace_id, span_id, state = trace_id.strip().lower(), span_id.strip().lower(), state.strip().lower()
    if not (_TRACE.fullmatch(trace_id) and _SPAN.fullmatch(span_id)):
        return None
    if not (int(trace_id, 16) and int(span_id, 16)):
        return None
    flags = _STATES.get(state) if state else _DEFERRED
    return None if flags is None else f"00-{trace_id.zfill(32)}-{span_id}-{flags}"
