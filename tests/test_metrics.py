"""The exporters' own figures as OpenTelemetry metrics."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from nat_observability import (
    ContextState,
    ExporterManager,
    ObservabilityRuntime,
    SpanExporter,
    step,
)
from nat_observability.errors import PermanentWriteError
from nat_observability.sinks.protocol import Batch
from tests.processes import run_program


@pytest.fixture(scope="module")
def reader() -> InMemoryMetricReader:
    """The process's one meter provider, which OpenTelemetry does not allow to be replaced."""
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    return reader


async def _ignore(batch: Batch) -> None:
    pass


def points(reader: InMemoryMetricReader, exporter: str) -> dict[tuple[str, str], Any]:
    """Return the data points of one exporter by name of the instrument and error type."""
    data = reader.get_metrics_data()
    assert data is not None
    return {
        (metric.name, str(point.attributes.get("error.type", ""))): getattr(point, "value", point)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
        if point.attributes is not None
        and point.attributes["otel.component.name"] == f"nat_observability/{exporter}"
    }


async def test_two_runtimes_in_one_process_are_both_measured(reader: InMemoryMetricReader) -> None:
    """The exporters of a second container appear beside those of the first."""
    first, second = {"a": SpanExporter(_ignore, name="first")}, {"b": SpanExporter(_ignore, name="second")}
    async with ObservabilityRuntime(first), ObservabilityRuntime(second):
        for exporters in (first, second):
            async with ExporterManager.from_exporters(exporters).start(ContextState()) as manager:
                with step("tool", "a"):
                    pass
                await manager.flush()
        for exporters in (first, second):
            seen = points(reader, next(iter(exporters.values())).name)
            assert seen["otel.sdk.processor.span.processed", ""] == 1


async def test_g16_metrics_tell_what_was_exported_and_what_failed(reader: InMemoryMetricReader) -> None:
    """Delivered and rejected spans, the queue and the batch's duration appear under the conventions' names."""

    async def rejects_one(batch: Batch) -> int:
        return 1

    exporters = {"measured": SpanExporter(rejects_one, name="measured")}
    async with (
        ObservabilityRuntime(exporters),
        ExporterManager.from_exporters(exporters).start(ContextState()) as manager,
    ):
        for _ in range(3):
            with step("tool", "a"):
                pass
        assert (await manager.flush()).complete
        seen = points(reader, "measured")
    assert seen["otel.sdk.exporter.span.exported", ""] == 2
    assert seen["otel.sdk.exporter.span.exported", "rejected"] == 1
    assert seen["otel.sdk.processor.span.processed", ""] == 3
    assert seen["otel.sdk.processor.span.queue.size", ""] == 0
    assert seen["otel.sdk.processor.span.queue.capacity", ""] == 8192
    assert seen["otel.sdk.exporter.span.inflight", ""] == 0
    assert seen["otel.sdk.exporter.operation.duration", ""].count == 1
    assert seen["nat_observability.exporter.breaker.open", ""] == 0


async def test_g16_the_duration_of_a_failed_batch_names_the_error(reader: InMemoryMetricReader) -> None:
    """As the convention says: `error.type` is the class of what the back end's refusal raised."""

    async def refuse(batch: Batch) -> None:
        raise PermanentWriteError("no")

    exporters = {"refused": SpanExporter(refuse, name="refused")}
    async with (
        ObservabilityRuntime(exporters),
        ExporterManager.from_exporters(exporters).start(ContextState()) as manager,
    ):
        with step("tool", "a"):
            pass
        await manager.flush()
        seen = points(reader, "refused")
    assert seen["otel.sdk.exporter.operation.duration", "PermanentWriteError"].count == 1
    assert ("otel.sdk.exporter.operation.duration", "") not in seen


def test_g16_metrics_that_are_loaded_later_measure_the_next_batch() -> None:
    """An application that sets its meter provider after the exporters were opened sees what they do from then on."""
    run_program(
        """
        import asyncio, sys
        from nat_observability import ContextState, ExporterManager, ObservabilityRuntime, SpanExporter, step

        async def ignore(batch):
            pass

        async def main():
            exporters = {"late": SpanExporter(ignore, name="late")}
            async with ObservabilityRuntime(exporters):
                reader = None
                for _ in range(3):
                    async with ExporterManager.from_exporters(exporters).start(ContextState()) as manager:
                        with step("tool", "a"):
                            pass
                        await manager.flush()
                    if reader is None:
                        assert "opentelemetry.metrics" not in sys.modules, "it was loaded before"
                        from opentelemetry import metrics
                        from opentelemetry.sdk.metrics import MeterProvider
                        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
                        reader = InMemoryMetricReader()
                        metrics.set_meter_provider(MeterProvider([reader]))
                [of_resource] = reader.get_metrics_data().resource_metrics
                durations = [
                    point.count
                    for scope in of_resource.scope_metrics
                    for metric in scope.metrics
                    if metric.name == "otel.sdk.exporter.operation.duration"
                    for point in metric.data.data_points
                ]
                assert durations == [2], durations

        asyncio.run(main())
        """,
        fresh=True,
    )
