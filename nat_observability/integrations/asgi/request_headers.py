"""RequestHeaders: what a request's headers say about its future run."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from nat_observability.integrations.asgi.types import Scope
from nat_observability.propagation.formats import is_w3c
from nat_observability.propagation.headers import read_headers
from nat_observability.propagation.traceparent import parse_traceparent

_CONVERSATION, _TRACE = b"conversation-id", b"workflow-trace-id"
_PARENT_ID, _PARENT_NAME = b"workflow-parent-id", b"workflow-parent-name"
# The last four are those of the reference toolkit.
_OTHERS = frozenset((b"baggage", b"tracestate", _CONVERSATION, _TRACE, _PARENT_ID, _PARENT_NAME))
_READ = _OTHERS | {b"traceparent"}
_NONE: Mapping[str, str] = MappingProxyType({})

_SPAN_ID = re.compile(r"(?!0{16})[0-9a-f]{16}", re.ASCII)
_MAX_ID = 256  # characters: every span of the run carries the id, and the caller may choose it


class RequestHeaders(NamedTuple):
    """`ids` are arguments of `ContextState`, `metadata` belongs to the root step."""

    ids: dict[str, Any]
    baggage: Mapping[str, str]
    metadata: Mapping[str, str]


def header(scope: Scope, name: str) -> str | None:
    """Return the value of a request's header, the last one if there are several; None if it has none."""
    wanted = name.lower().encode("latin-1")
    return next((_text(value) for each, value in reversed(list(scope["headers"])) if each == wanted), None)


def read_request(scope: Scope) -> RequestHeaders | None:
    """
    Read the headers of a request, or of a websocket's handshake; None if none of them is of interest.

    `traceparent`, `tracestate` and `baggage` are read as everywhere. `conversation-id` takes precedence over `baggage`.
    Of the reference toolkit's headers, `workflow-trace-id` counts without a valid `traceparent`; with it, a
    `workflow-parent-id` of 16 hex digits is the caller's span. Any other parent goes into the metadata, with its name.
    An id longer than 256 characters is ignored.
    """
    headers = scope["headers"]
    found: dict[bytes, bytes] = dict(headers)
    traceparent = found.get(b"traceparent")
    if not is_w3c():
        pass  # what is of interest is for `read_headers` to say
    elif traceparent is None:
        if _READ.isdisjoint(found):
            return None
    elif _OTHERS.isdisjoint(found) and len(found) == len(headers):
        # The usual headers between services, without a search for further ones.
        return RequestHeaders({"traceparent": traceparent.decode("latin-1")}, _NONE, _NONE)
    incoming = read_headers(headers)
    ids: dict[str, Any] = {}
    metadata: dict[str, str] = {}
    ids.update({name: value for name, value in incoming.ids.items() if len(str(value)) <= _MAX_ID})
    if incoming.tracestate is not None:
        ids["tracestate"] = incoming.tracestate
    if incoming.baggage_header:
        ids["baggage"] = incoming.baggage_header
    for name, key in (
        (_CONVERSATION, "conversation_id"),
        (_PARENT_ID, "workflow.parent_id"),
        (_PARENT_NAME, "workflow.parent_name"),
    ):
        text = _text(found.get(name, b""))
        if text and len(text) <= _MAX_ID:
            (ids if name == _CONVERSATION else metadata)[key] = text
    valid = "traceparent" in ids and parse_traceparent(ids["traceparent"]) is not None
    if not valid and (trace_id := _trace_id(found.get(_TRACE))) is not None:
        parent = metadata.get("workflow.parent_id", "").lower()
        if _SPAN_ID.fullmatch(parent):
            ids["traceparent"] = f"00-{trace_id}-{parent}-01"
        else:
            ids["trace_id"] = trace_id
    return RequestHeaders(ids, incoming.baggage, metadata)


def _trace_id(header: bytes | None) -> str | None:
    """Return the 32 hex digits of a UUID, as the reference toolkit writes a trace's id."""
    if header is None:
        return None
    try:
        found = uuid.UUID(_text(header))
    except ValueError:
        return None
    return found.hex if found.int else None


def _text(value: object) -> str:
    return value.decode("latin-1").strip() if isinstance(value, bytes) else ""
