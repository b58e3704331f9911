"""HandOver: what it does when something is refused, full, late, or slow."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, TraceFlags
from structlog.testing import capture_logs

from nat_observability import DeliveryLimits, SpanExporter
from nat_observability.integrations.opentelemetry import hand_over
from nat_observability.integrations.opentelemetry.hand_over import HandOver
from nat_observability.sinks import MemorySink


def span(number: int) -> ReadableSpan:
    context = SpanContext(0xAB, number + 1, False, TraceFlags(1))
    return ReadableSpan(f"s{number}", context, start_time=1, end_time=2)


@contextmanager
def handing_over(exporter: SpanExporter) -> Iterator[HandOver]:
    """A hand-over to one exporter, closed in the end."""
    way = HandOver({exporter.name: exporter})
    try:
        yield way
    finally:
        way.close(5.0)


@contextmanager
def no_thread_to_be_had() -> Iterator[None]:
    """The system refuses the hand-over its thread, and no other."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "nat-observability-sdk-spans":
            raise RuntimeError("can't start new thread")
        start(thread)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        yield


class Gate:
    """A sink's `write` that waits until it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.names: list[str] = []

    def __call__(self, spans: Any) -> None:
        self.opened.wait(20)
        self.names += [each.name for each in spans]


def test_what_no_thread_takes_waits_for_a_flush() -> None:
    """The system refuses a thread: the caller never sees it, and no span is lost."""
    sink = MemorySink(10)
    with handing_over(SpanExporter(sink, name="memory")) as way:
        with no_thread_to_be_had():
            way.take(span(0))
            way.take(span(1))
        assert way.flush(10)
        assert [each.name for each in sink.spans] == ["s0", "s1"]
        way.take(span(2))  # there is a thread again
        assert way.flush(10)
        assert [each.name for each in sink.spans] == ["s0", "s1", "s2"]


def test_what_finds_the_queue_full_is_counted_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once by the flush that follows, with its number; later spans are delivered."""
    monkeypatch.setattr(hand_over, "_MOST_WAITING", 3)
    sink = MemorySink(10)
    exporter = SpanExporter(sink, name="memory")
    with handing_over(exporter) as way:
        with capture_logs() as lines:
            with no_thread_to_be_had():
                for number in range(5):
                    way.take(span(number))
            assert not way.flush(10)
        assert [each.name for each in sink.spans] == ["s0", "s1", "s2"]
        dropped = [line["dropped"] for line in lines if line["event"] == "delivery_dropped"]
        assert dropped == [{"queue_full": 2}]
        way.take(span(5))
        assert way.flush(10)
    assert exporter.delivery.health().ledger.dropped == {"queue_full": 2}


def test_a_flush_knows_of_spans_whose_leases_it_no_longer_holds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """More than it keeps are in the spool: it answers False until the back end has every one of them."""
    monkeypatch.setattr(hand_over, "_MOST_SAVING", 2)
    write = Gate()
    limits = DeliveryLimits(spool="always", spool_path=tmp_path, batch_items=1)
    exporter = SpanExporter(write, name="slow", limits=limits)
    with handing_over(exporter) as way:
        for number in range(6):
            way.take(span(number))
        assert not way.flush(0.01)
        write.opened.set()
        assert way.flush(10)
        assert way.flush(10)
    assert write.names == [f"s{number}" for number in range(6)]


def test_the_end_of_a_root_span_never_blocks_an_event_loop(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With `spool=always` it waits until the disk has it, unless a loop runs on its thread."""
    waits: list[float | None] = []

    class SeenWaiting(Future[None]):
        def result(self, timeout: float | None = None) -> None:
            waits.append(timeout)
            super().result(timeout)

    monkeypatch.setattr(hand_over, "Future", SeenWaiting)
    sink = MemorySink(10)
    limits = DeliveryLimits(spool="always", spool_path=tmp_path)
    with handing_over(SpanExporter(sink, name="memory", limits=limits)) as way:

        async def end() -> None:
            way.take(span(0))

        asyncio.run(end())
        in_the_loop = len(waits)
        way.take(span(1))
        assert way.flush(10)
    assert (in_the_loop, len(waits)) == (0, 1)
    assert [each.name for each in sink.spans] == ["s0", "s1"]


def test_a_close_gives_up_a_back_end_that_hangs() -> None:
    """Within its time, with what was lost in the ledger."""
    write = Gate()
    exporter = SpanExporter(write, name="slow")
    way = HandOver({"slow": exporter})
    way.take(span(0))
    way.close(0.3)
    way.close(0.3)  # nothing is left to close
    try:
        assert exporter.delivery.health().ledger.pending == 0
        assert exporter.delivery.health().ledger.delivered == 0
    finally:
        write.opened.set()


def test_a_close_leaves_open_what_others_hold() -> None:
    """A delivery that a run or a runtime holds too is closed by them."""
    sink = MemorySink(10)
    exporter = SpanExporter(sink, name="memory")
    way = HandOver({"memory": exporter})
    lease = exporter.delivery.lease()
    way.take(span(0))
    way.close(5)
    try:
        assert exporter.delivery.health().state == "open"
    finally:
        lease.release()
    assert exporter.delivery.closed().result(10) is None
    assert [each.name for each in sink.spans] == ["s0"]
