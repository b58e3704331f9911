"""ExporterTemplate: makes exporters that are alike, such as those of tenants."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

import msgspec

from nat_observability.delivery.delivery import Delivery
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.delivery.pipeline.intake import Intake
from nat_observability.delivery.threads.thread_group import DeliveryThreadGroup
from nat_observability.errors import InvalidExporterNameError
from nat_observability.exporter.sampling import Sampling
from nat_observability.exporter.selection import Select
from nat_observability.exporter.span_exporter import SpanExporter
from nat_observability.exporter.step_exporter import Flush, StepExporter
from nat_observability.sinks.protocol import BatchFunction, BlockingSink, Sink

if TYPE_CHECKING:
    from nat_observability.processors.processor import Processor

# Sinks and spools are made of names: neither may lead out of its directory, or stand for another name.
_UNSAFE = re.compile(r"[/\\*?\[\]\x00-\x1f\x7f]|^\.{1,2}$|^~")


class ExporterTemplate:
    """
    Makes exporters that differ in their name, their sink and what they select, such as those of tenants.

    They share at most `threads` threads, and the processing of each item. Everything else, such as queue, counts, retry
    and circuit breaker, is each exporter's own.

    Args:
        sink: Makes the sink of one exporter from its name.
        record: What the exporters get: finished spans, or steps as they are.
        limits: Bounds of each exporter's queue and batches. Below `spool_path` each has a directory of its own.
        flush: What a run's end waits for.
        processors: Applied to each item, in this order.
        sampling: Which runs they get; every one by default.
        threads: Most threads for all of them together, from 2 to 16.

    Raises:
        TypeError: A processor cannot be called.
        ValueError: `threads` is out of its range.
    """

    def __init__(
        self,
        sink: Callable[[str], Sink | BlockingSink | BatchFunction],
        *,
        record: Literal["spans", "steps"] = "spans",
        limits: DeliveryLimits | None = None,
        flush: Flush = "handed_over",
        processors: Iterable[Processor] = (),
        sampling: Sampling | None = None,
        threads: int = 16,
    ) -> None:
        self._sink = sink
        self._kind = SpanExporter if record == "spans" else StepExporter
        self._limits = limits or DeliveryLimits()
        self._flush: Flush = flush
        self._sampling = sampling
        self._threads = DeliveryThreadGroup(threads, "nat-observability-tenants")
        processors = tuple(processors)
        self._intake = Intake("template", processors, self._threads) if processors else None

    def exporter(self, name: str, select: Select | None = None) -> StepExporter:
        """
        Return one more exporter, for `ObservabilityRuntime.add_exporter` for example.

        Args:
            name: For the sink, logs and reports: the tenant's, for example. Not a path and not a pattern.
            select: Which runs it takes part in; by default those whose tag `tenant` is the name.

        Raises:
            InvalidExporterNameError: `name` is empty, a path or a pattern.
            InvalidSelectionError: `select` cannot be used.
            TypeError: What `sink` has returned is not a sink.
        """
        if _is_unsafe(name):
            raise InvalidExporterNameError(name)
        limits = self._limits
        if limits.spool_path is not None:
            limits = msgspec.structs.replace(limits, spool_path=limits.spool_path / quote(name, safe=" "))
        delivery = Delivery(
            name,
            self._sink(name),
            limits=limits,
            loop_source=self._threads,
            processors=self._intake if self._intake is not None else (),
        )
        return self._kind(
            delivery,
            flush=self._flush,
            sampling=self._sampling,
            select={"tenant": name} if select is None else select,
        )


def _is_unsafe(name: object) -> bool:
    return not isinstance(name, str) or not name.strip() or _UNSAFE.search(name) is not None
