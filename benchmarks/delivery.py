"""
Spans from record to wire, beside the OpenTelemetry SDK and fastotel doing the same, to the same receiver.

Each compresses as it does by default, which no setting of the SDK's changes: this library at level 1, the SDK with the
standard library's level 9. The rows without compression leave that difference out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks import otlp_encoding
from benchmarks.contenders import FASTOTEL, LANGFUSE, OURS, SDK, Contender, Measured, installed
from benchmarks.receiver import Receiver, Taken, running_receiver
from benchmarks.report import Row, at_least, at_most, beside, missing, report
from benchmarks.timing import rounds
from benchmarks.workload import STEPS
from nat_observability.sinks.otlp.body import Compression

WAVE = 100
"""Runs that are recorded and then flushed, so that no queue of the default sizes overflows."""
WAVES = rounds(12)
LONG = 100
"""Spans of a long run: what its start and end cost is not seen any more."""
BURST = 1000
BURSTS = rounds(5)


def spans_of(taken: Taken) -> list[Any]:
    """Return the spans in what a receiver took."""
    requests = map(ExportTraceServiceRequest.FromString, taken.bodies)
    return [
        span
        for request in requests
        for resource_spans in request.resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    ]


def content(span: Any) -> tuple[str, bool, dict[str, str]]:
    """Return what a span says, but for ids and times."""
    attributes = {each.key: each.value.string_value for each in span.attributes}
    return span.name, bool(span.parent_span_id), attributes | {"nat.workflow.run_id": ""}


def check_equal_content(receiver: Receiver, contenders: list[str]) -> None:
    """Raise if one contender's spans differ from another's, or do not have eight attributes."""
    said = {}
    for contender in contenders:
        with Contender(contender, receiver.endpoint) as process:
            process.record(1)
        said[contender] = sorted(
            map(content, spans_of(receiver.take())), key=lambda each: each[2]["metadata"]
        )
        assert len(said[contender]) == STEPS, f"{contender} lost spans"
        assert all(len(attributes) == 8 for _, _, attributes in said[contender]), contender
        assert said[contender] == said[contenders[0]], f"{contender} says something else"


class Figures:
    """What was measured of one contender, the medians of all tries."""

    def __init__(self) -> None:
        self._tries: list[Measured] = []
        self._wire_bytes: list[float] = []

    def add(self, measured: Measured, taken: Taken) -> None:
        """Note one try; raise if spans were lost."""
        arrived = len(spans_of(taken))
        assert arrived == measured.spans, f"{arrived} of {measured.spans} spans arrived"
        self._tries.append(measured)
        self._wire_bytes.append(taken.wire_bytes / arrived)

    @property
    def cpu(self) -> float:
        """CPU time, µs a span."""
        return median(each.cpu_s / each.spans for each in self._tries) * 1e6

    @property
    def rate(self) -> float:
        """Spans/s."""
        return median(each.spans / each.wall_s for each in self._tries)

    @property
    def peak(self) -> float:
        """Growth of the peak resident memory, MB: the largest."""
        return max(each.peak_bytes for each in self._tries) / 1e6

    @property
    def wire(self) -> float:
        """Bytes a span."""
        return median(self._wire_bytes)


def in_turns(
    receiver: Receiver,
    contenders: list[str],
    tries: int,
    runs: int,
    *,
    queue: int = 2048,
    compression: Compression = "gzip",
    steps: int = STEPS,
) -> dict[str, Figures]:
    """Measure every contender several times, in short turns, so that all meet the same machine."""
    figures = {contender: Figures() for contender in contenders}
    with ExitStack() as stack:
        processes = {
            contender: stack.enter_context(
                Contender(contender, receiver.endpoint, queue=queue, compression=compression, steps=steps)
            )
            for contender in contenders
        }
        for process in processes.values():
            process.record(runs)  # to warm up
        receiver.take()
        for _ in range(tries):
            for contender, process in processes.items():
                measured = process.record(runs)
                figures[contender].add(measured, receiver.take())
    return figures


def rows_of(
    figures: dict[str, Figures],
    name: str,
    unit: str,
    figure: Callable[[Figures], float],
    judge: Callable[..., Row] | None = None,
    ratio: float = 1.0,
) -> list[Row]:
    """Return a row beside each peer; `judge` and `ratio` are the bar beside the SDK, and fastotel is to be behind."""
    ours = figure(figures[OURS])
    rows: list[Row] = []
    for peer, bar in ((SDK, ratio), (FASTOTEL, 1.0)):
        theirs = figure(figures[peer]) if peer in figures else None
        if judge is None:
            rows.append(beside(name, unit, ours, peer, theirs))
        elif theirs is None:
            rows.append(missing(name, unit, ours, peer, f"{bar:g}x"))
        else:
            rows.append(judge(name, unit, ours, peer, theirs, bar))
    return rows


def measure() -> list[Row]:
    """Measure everything."""
    contenders = [each for each in (OURS, SDK, FASTOTEL) if installed(each)]
    with running_receiver() as receiver:
        check_equal_content(receiver, contenders)
        # Langfuse's client gives its spans attributes of its own: it is measured, not compared by content.
        others = [LANGFUSE] if installed(LANGFUSE) else []
        waves = in_turns(receiver, contenders + others, WAVES, WAVE)
        long = in_turns(receiver, contenders, WAVES, WAVE * STEPS // LONG, steps=LONG)
        plain = in_turns(receiver, contenders, WAVES, WAVE, compression="none")
        burst = in_turns(receiver, contenders, BURSTS, BURST, queue=BURST * STEPS)
    return [
        *rows_of(
            waves, f"record to wire, CPU, runs of {STEPS}", "µs a span", lambda each: each.cpu, at_most, 0.2
        ),
        beside(
            f"record to wire, CPU, runs of {STEPS}, its own attributes",
            "µs a span",
            waves[OURS].cpu,
            LANGFUSE,
            waves[LANGFUSE].cpu if LANGFUSE in waves else None,
        ),
        *rows_of(long, f"the same, runs of {LONG}", "µs a span", lambda each: each.cpu, at_most, 0.2),
        *rows_of(plain, f"the same, runs of {STEPS}, not compressed", "µs a span", lambda each: each.cpu),
        otlp_encoding.measure()[0],
        *rows_of(burst, "sustained", "spans/s", lambda each: each.rate, at_least, 1.0),
        *rows_of(waves, "on the wire", "bytes a span", lambda each: each.wire),
        *rows_of(waves, f"peak memory, {WAVE * STEPS:,} spans at once", "MB", lambda each: each.peak),
        *rows_of(burst, f"peak memory, {BURST * STEPS:,} spans at once", "MB", lambda each: each.peak),
    ]


if __name__ == "__main__":
    sys.exit(
        report("Spans from record to wire: 8 attributes each, gzip, batches of 512, equal content", measure)
    )
