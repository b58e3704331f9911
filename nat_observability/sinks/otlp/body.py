"""BodyMaker: a batch as the body of an OTLP request, made without holding the interpreter lock for long."""

from __future__ import annotations

import asyncio
import importlib
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from nat_observability.dialects.vocabulary import DEFAULT_DIALECT, Dialects, vocabulary
from nat_observability.errors import PermanentWriteError
from nat_observability.events import Span
from nat_observability.resource import Resource
from nat_observability.sinks.otlp.json import json_request
from nat_observability.sinks.otlp.span_encoder import SLICE_BYTES, SLICE_SPANS, SpanEncoder
from nat_observability.sinks.protocol import Batch

Compression = Literal["gzip", "none"]
Encoding = Literal["protobuf", "json"]

_GZIP = 31  # the window size of zlib, 15, and 16 for a gzip header and trailer
_GIVE_WAY = 50e-6


class BodyMaker:
    """
    Encodes batches for one resource, and compresses them if asked to.

    Args:
        compression: "gzip" is level 1 of isal, or of zlib if isal is not installed.
        encoding: "protobuf" or "json", the two that OTLP has.
        dialect: The names of dialects, with commas between them.
        schema_url: Of the resource.

    Raises:
        ValueError: `compression` is neither, or `encoding`; or a dialect does not exist.
    """

    def __init__(
        self,
        resource: Resource | None,
        compression: Compression,
        encoding: Encoding = "protobuf",
        dialect: Dialects = DEFAULT_DIALECT,
        schema_url: str | None = None,
    ) -> None:
        check_compression(compression)
        if encoding not in ("protobuf", "json"):
            raise ValueError(f"encoding is 'protobuf' or 'json', not {encoding!r}.")
        self._as_json = encoding == "json"
        self._encoder = SpanEncoder(resource or {}, vocabulary(dialect), schema_url)
        self._new_compressor = _compressor() if compression == "gzip" else None

    async def make(self, batch: Batch) -> bytes:
        """
        Return the body; a batch of more than one stretch is made on a thread of its own.

        Raises:
            PermanentWriteError: The batch holds something other than spans.
        """
        spans = [item for item in batch if isinstance(item, Span)]
        if len(spans) < len(batch):
            cure = "Set the exporter to record spans."
            raise PermanentWriteError(f"OTLP carries spans, and the batch holds steps. {cure}")
        if len(spans) <= SLICE_SPANS and sum(map(_payload_size, spans)) <= SLICE_BYTES:
            return self._make(spans, None)
        return await asyncio.get_running_loop().run_in_executor(None, self._make, spans, _give_way)

    def _make(self, spans: Sequence[Span], between: Callable[[], object] | None) -> bytes:
        pieces = self._encoder.encode_in_slices(spans, between)
        if self._as_json:
            pieces = [json_request(b"".join(pieces), between)]
        if self._new_compressor is None:
            return b"".join(pieces)
        # Each call compresses without the interpreter lock.
        compressor = self._new_compressor()
        return b"".join([*map(compressor.compress, pieces), compressor.flush()])


def check_compression(compression: Compression) -> None:
    """Raise a ValueError if OTLP does not know this compression."""
    if compression not in ("gzip", "none"):
        raise ValueError(f"compression is 'gzip' or 'none', not {compression!r}.")


def _give_way() -> None:
    # Releasing the lock is not enough: unless this thread is off the processor long enough for another one to wake up,
    # it takes the lock again first, and the waiting thread starts over. With asyncio.sleep(0) here, an application's
    # loop was seen to wait for seconds.
    time.sleep(_GIVE_WAY)


def _payload_size(span: Span) -> int:
    # A processor may have put anything there; the encoder can deal with it.
    values = (span.input, span.output, span.metadata)
    return sum(len(value) for value in values if isinstance(value, str | msgspec.Raw))


def _compressor() -> Callable[[], Any]:
    try:
        # By name: type checkers must not look for it either, because it is not a dependency.
        library = importlib.import_module("isal.isal_zlib")
    except ImportError:
        library = zlib
    return lambda: library.compressobj(1, zlib.DEFLATED, _GZIP)
