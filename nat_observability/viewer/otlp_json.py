"""A run as an ExportTraceServiceRequest in OTLP's JSON encoding, written batch by batch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from nat_observability.sinks.otlp.json import json_request
from nat_observability.sinks.otlp.span_encoder import encode
from nat_observability.store import Store
from nat_observability.viewer.store_file import Reader, StoreFile

_AT_ONCE = 200
_RESOURCE = {"service.name": "nat-observability"}
_BEFORE, _AFTER = b'{"resourceSpans":[', b"]}"


async def pieces(store: StoreFile, run_id: str) -> AsyncIterator[bytes]:
    """
    Yield the request in pieces, one for some spans.

    Raises:
        SinkError: The store, or a span in it, cannot be read.
    """
    ids = await store.read(lambda reader: _ids(reader, run_id), 20.0)
    yield _BEFORE
    separator = b""
    for some in _batched(ids):
        encoded = await asyncio.to_thread(_encoded, store.path, run_id, some)
        if encoded:
            yield separator + encoded
            separator = b","
    yield _AFTER


def _encoded(path: str, run_id: str, span_ids: tuple[str, ...]) -> bytes:
    """Return the spans as what a request holds between its brackets."""
    with Store(path) as store:
        found = (store.span(run_id, span_id) for span_id in span_ids)
        # A step that is still open has no end yet, and is no span.
        spans = [node.span for node in found if node is not None and not node.running]
    if not spans:
        return b""
    return json_request(encode(spans, _RESOURCE)).removeprefix(_BEFORE).removesuffix(_AFTER)


def _ids(reader: Reader, run_id: str) -> list[str]:
    return [
        span_id
        for (span_id,) in reader.rows("SELECT span_id FROM spans WHERE run_id = ? ORDER BY start_ns", run_id)
    ]


def _batched(ids: list[str]) -> list[tuple[str, ...]]:
    return [tuple(ids[at : at + _AT_ONCE]) for at in range(0, len(ids), _AT_ONCE)]
