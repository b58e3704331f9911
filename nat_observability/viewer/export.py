"""Exports: a run's spans as JSON or OTLP JSON, and runs as one HTML file that needs no network."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nat_observability.viewer.runs import one_run
from nat_observability.viewer.spans import PARTS, list_spans, one_part, one_span
from nat_observability.viewer.store_file import Reader, StoreFile

FORMATS = {
    "otlp.json": "application/json",
    "json": "application/json",
    "html": "text/html; charset=utf-8",
}
"""The content type of each export, by the end of its name."""

_OTHERS = re.compile("[^ -~]+")
_PAGE = Path(__file__).parent / "page"
_MOST_SPANS = 100_000
_MOST_CONTENT = 4_000_000  # bytes of one part; more is cut, and the page says so
_MOST_BYTES = 200_000_000


def file_name(run_id: str, suffix: str) -> str:
    """Return a name for a run's export that any file system takes."""
    return f"run-{re.sub(r'[^A-Za-z0-9_.-]+', '-', run_id)[:60]}.{suffix}"


async def pieces(store: StoreFile, run_id: str, suffix: str) -> AsyncIterator[bytes]:
    """Yield an export. Spans are read some at a time, so that neither memory nor a transaction grows with the run."""
    if suffix == "otlp.json":
        # It knows how spans are captured, and that takes as long to import as all the rest of the server.
        from nat_observability.viewer import otlp_json

        async for piece in otlp_json.pieces(store, run_id):
            yield piece
        return
    written = html_pieces(store, [run_id]) if suffix == "html" else _json(store, run_id)
    while True:
        following = await store.read(lambda _: next(written, None))
        if following is None:
            return
        yield following


def html_pieces(store: StoreFile, run_ids: Sequence[str]) -> Iterator[bytes]:
    """Yield a page that shows these runs, the first of them at once, and needs no other file and no network."""
    before, after = _around()
    yield before + b'{"runs":['
    for at, run_id in enumerate(run_ids):
        if at:
            yield b","
        yield from map(_inert, _json(store, run_id))
    yield b"]}" + after


def _json(store: StoreFile, run_id: str) -> Iterator[bytes]:
    run = store.read_here(lambda reader: one_run(reader, run_id))
    columns = store.read_here(lambda reader: list_spans(reader, run_id, 0, _MOST_SPANS, whole=True), 60.0)
    yield b'{"format":1,"run":' + msgspec.json.encode(run) + b',"spans":' + msgspec.json.encode(columns)
    yield b',"content":{'
    written = 0
    for at, span_id in enumerate(columns["id"] if columns else []):
        if written > _MOST_BYTES:
            yield b'},"content_of":' + msgspec.json.encode(at) + b"}"
            return
        span = store.read_here(functools.partial(_whole_span, run_id=run_id, span_id=span_id), 20.0)
        if span is not None:
            piece = (
                (b"," if written else b"") + msgspec.json.encode(span_id) + b":" + msgspec.json.encode(span)
            )
            written += len(piece)
            yield piece
    yield b"}}"


def _inert(piece: bytes) -> bytes:
    """Return JSON that means the same, ends no element, and turns no text of an editor or terminal."""
    text = piece.replace(b"<", b"\\u003c").decode()
    return (text if text.isprintable() else _OTHERS.sub(_escaped, text)).encode()


def _escaped(found: re.Match[str]) -> str:
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in found[0])


def _whole_span(reader: Reader, run_id: str, span_id: str) -> dict[str, Any] | None:
    span = one_span(reader, run_id, span_id)
    if span is None:
        return None
    for name in PARTS:
        part = span["parts"].get(name)
        texts = [part["text"]] if part else []
        while part is not None and part["next"] is not None and part["next"] < _MOST_CONTENT:
            piece = one_part(reader, run_id, span_id, name, part["next"])
            if piece is None:
                break
            texts.append(piece["text"])
            part["next"] = piece["next"]
        if part is not None:
            part["text"] = "".join(texts)
    return span


def _around() -> tuple[bytes, bytes]:
    """Return the page before and after the data."""
    script, style = (_PAGE / "offline.js").read_bytes(), (_PAGE / "app.css").read_bytes()
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; base-uri 'none'; "
        "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    before = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Run</title><style>'
    ).encode()
    before += style + b'</style></head><body><div id="app"></div><script type="application/json" id="data">'
    return before, b"</script><script>" + script + b"</script></body></html>\n"


def _digest(content: bytes) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}"
