"""BodyMaker: the body is the same whichever way it was made, and a loop is not held up by a large one."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from nat_observability.events import Span
from nat_observability.sinks.otlp.body import BodyMaker, Compression
from nat_observability.sinks.otlp.span_encoder import SLICE_BYTES, SLICE_SPANS, encode
from tests.processes import run_program
from tests.sinks.builders import make_span

RESOURCE = {"service.name": "checkout"}


class Turns:
    """How often the loop has come round."""

    count = 0

    async def take(self) -> None:
        while True:
            await asyncio.sleep(0)
            self.count += 1


@asynccontextmanager
async def counted_turns() -> AsyncIterator[Turns]:
    turns = Turns()
    task = asyncio.create_task(turns.take())
    try:
        yield turns
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("compression", ["gzip", "none"])
@pytest.mark.parametrize("size", [1, SLICE_SPANS, SLICE_SPANS + 1, 10 * SLICE_SPANS])
async def test_the_body_is_the_request(size: int, compression: Compression) -> None:
    """Made in one stretch or in several, compressed or not."""
    batch = [make_span(output=str(number)) for number in range(size)]
    body = await BodyMaker(RESOURCE, compression).make(batch)
    assert (gzip.decompress(body) if compression == "gzip" else body) == encode(batch, RESOURCE)


@pytest.mark.parametrize(
    "batch",
    [
        [make_span(output=str(number)) for number in range(100 * SLICE_SPANS)],
        [make_span(output="x" * SLICE_BYTES) for _ in range(20)],
    ],
    ids=["many", "large"],
)
async def test_the_loop_goes_on_while_a_batch_is_made(batch: list[Span]) -> None:
    """Many spans, or large ones, are encoded and compressed on another thread: other exporters are not held up."""
    maker = BodyMaker(RESOURCE, "gzip")
    async with counted_turns() as turns:
        await maker.make(batch)
        assert turns.count > 20


async def test_a_small_batch_takes_no_thread() -> None:
    """A thread would cost more than the work."""
    maker = BodyMaker(RESOURCE, "gzip")
    async with counted_turns() as turns:
        await maker.make([make_span() for _ in range(SLICE_SPANS)])
        assert turns.count == 0


def test_without_isal_zlib_compresses() -> None:
    """isal is a faster way to the same, not a dependency."""
    run_program(
        """
        import asyncio, gzip, sys
        sys.modules["isal"] = None
        from nat_observability.sinks.otlp.body import BodyMaker
        from nat_observability.sinks.otlp.span_encoder import encode
        from tests.sinks.builders import make_span

        batch = [make_span()]
        assert gzip.decompress(asyncio.run(BodyMaker({}, "gzip").make(batch))) == encode(batch, {})
        """
    )
