"""linked(): the span that something passed for a link names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import msgspec

from nat_observability.events import SpanLink
from nat_observability.foreign_errors import reraise_signal
from nat_observability.propagation.traceparent import parse_traceparent
from nat_observability.recording.capture import capture_label
from nat_observability.recording.details.attributes import report_problem

_Found = tuple[tuple[str, str, str], str | None, object, bool | None]


def linked(target: object, attributes: object, tracestate: object) -> _Found | None:
    """
    Return the ids and flags, the trace state and the attributes of a link, and whether its span is another process's.

    None if it names no span. Text may come from anywhere, so that it is not known whose span it names.
    """
    is_remote: bool | None = None
    try:
        if isinstance(target, tuple) and len(target) == 2 and attributes is None:
            target, attributes = target
        if isinstance(target, SpanLink):
            attributes = _decoded(target.attributes) if attributes is None else attributes
            ids = (target.trace_id, target.span_id, f"{target.trace_flags & 0xFF:02x}")
            return _checked(ids, tracestate or target.trace_state, attributes, target.is_remote)
        if isinstance(target, Mapping):  # headers
            is_remote = True
            tracestate = tracestate or target.get("tracestate")
            target = target.get("traceparent")
        elif not isinstance(target, str):
            other = getattr(target, "traceparent", None)
            if other is None:
                return _opentelemetry_link(target, attributes, tracestate)
            target = other
        if (ids_found := parse_traceparent(target)) is not None:
            return ids_found, _text(tracestate), attributes, is_remote
    except BaseException as error:  # noqa: BLE001  foreign code: whatever was passed for a link
        reraise_signal(error)
    return None


def _opentelemetry_link(target: Any, attributes: object, tracestate: object) -> _Found | None:
    """Return the same of a `Link` or a `SpanContext` of OpenTelemetry, which is not imported here."""
    context = getattr(target, "context", target)
    attributes = getattr(target, "attributes", None) if attributes is None else attributes
    state = context.trace_state.to_header() if getattr(context, "trace_state", None) else None
    ids = (f"{context.trace_id:032x}", f"{context.span_id:016x}", f"{int(context.trace_flags) & 0xFF:02x}")
    return _checked(ids, tracestate or state, attributes, getattr(context, "is_remote", None))


def _checked(
    ids: tuple[str, str, str], tracestate: object, attributes: object, is_remote: bool | None
) -> _Found | None:
    known = parse_traceparent(f"00-{'-'.join(ids)}")
    return None if known is None else (known, _text(tracestate), attributes, is_remote)


def _text(tracestate: object) -> str | None:
    return None if tracestate is None or tracestate == "" else capture_label(tracestate)


def _decoded(attributes: msgspec.Raw | None) -> object:
    return None if attributes is None else msgspec.json.decode(attributes)


def several_links(links: object, most: int) -> object:
    """Return the links that a step begins with in a tuple: a decorator needs them for each call."""
    if links is None or type(links) is tuple:
        return links
    try:
        if isinstance(links, str | SpanLink | Mapping) or not isinstance(links, Iterable):
            return (links,)
        # A list is taken whole, so that the links that go over the limit can be counted.
        return tuple(links) if type(links) is list else tuple(islice(links, most + 1))
    except BaseException as error:  # noqa: BLE001  foreign code: an iterable of the application's
        reraise_signal(error)
        report_problem("links were an iterable that cannot be read, and were dropped")
        return None
