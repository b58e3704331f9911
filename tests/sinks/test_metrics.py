"""MetricsSink: the GenAI conventions' metrics of finished spans, read by OpenTelemetry's own SDK."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from nat_observability import (
    ContextState,
    ErrorDetails,
    ExporterManager,
    Sampling,
    Span,
    SpanExporter,
    Status,
    StepKind,
    TokenUsage,
    step,
)
from nat_observability.builders import build_exporters
from nat_observability.dialects.genai import SCHEMA_URL
from nat_observability.errors import SinkError
from nat_observability.settings import MetricsExporterSettings, ObservabilitySettings
from nat_observability.sinks import MemorySink
from nat_observability.sinks.metrics import MetricsSink
from tests.sinks.builders import make_span, make_step

Points = dict[str, list[tuple[dict[str, Any], int, float]]]


class Measured:
    """A sink, and what was measured."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)
        self.sink = MetricsSink(self.provider)

    @property
    def points(self) -> Points:
        """By name: the attributes, count and sum of each point."""
        data = self.reader.get_metrics_data()
        assert data is not None
        (resource,) = data.resource_metrics
        (scope,) = resource.scope_metrics
        assert scope.schema_url == SCHEMA_URL
        return {
            metric.name: [
                (dict(point.attributes or {}), point.count, point.sum)  # type: ignore[union-attr]
                for point in metric.data.data_points
            ]
            for metric in scope.metrics
        }

    def of(self, *spans: Span) -> Points:
        """Measure these spans."""
        self.sink.open()
        self.sink.write(spans)
        return self.points


@pytest.fixture
def measured() -> Any:
    """A meter provider of the test's own."""
    made = Measured()
    yield made
    made.provider.shutdown()


def test_a_model_call(measured: Measured) -> None:
    """Its duration, its tokens by type, and the times of its stream."""
    own = msgspec.Raw(b'{"gen_ai.response.model":"gpt-5-2025","gen_ai.provider.name":"azure.ai.openai"}')
    span = make_span(
        kind=StepKind.LLM,
        name="gpt-5",
        start_ns=1_000_000_000,
        end_ns=4_000_000_000,
        first_chunk_ns=2_000_000_000,
        chunks=5,
        usage=TokenUsage(100, 21, 0, 0, 121),
        attributes=own,
    )
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-5",
        "gen_ai.response.model": "gpt-5-2025",
        "gen_ai.provider.name": "azure.ai.openai",
    }
    assert measured.of(span) == {
        "gen_ai.client.operation.duration": [(attributes, 1, 3.0)],
        "gen_ai.client.token.usage": [
            ({**attributes, "gen_ai.token.type": "input"}, 1, 100),
            ({**attributes, "gen_ai.token.type": "output"}, 1, 21),
        ],
        "gen_ai.client.operation.time_to_first_chunk": [(attributes, 1, 1.0)],
        "gen_ai.client.operation.time_per_output_chunk": [(attributes, 1, 0.5)],
        "nat.client.time_per_output_token": [(attributes, 1, 0.1)],
    }


@pytest.mark.parametrize(
    ("kind", "metric", "named"),
    [
        (StepKind.TOOL, "gen_ai.execute_tool.duration", "gen_ai.tool.name"),
        (StepKind.AGENT, "gen_ai.invoke_agent.duration", "gen_ai.agent.name"),
        (StepKind.WORKFLOW, "gen_ai.workflow.duration", "gen_ai.workflow.name"),
        (StepKind.EMBEDDING, "gen_ai.client.operation.duration", "gen_ai.request.model"),
    ],
)
def test_other_operations(measured: Measured, kind: StepKind, metric: str, named: str) -> None:
    """Each in a histogram of its own, with its error if it failed."""
    failed = make_span(kind=kind, name="x", status=Status.ERROR, error=ErrorDetails("TimeoutError", "late"))
    name = "workflow-1" if kind is StepKind.WORKFLOW else "x"
    points = measured.of(failed, make_span(kind=kind, name="x", status=Status.INCOMPLETE))[metric]
    assert [(each[named], each["error.type"]) for each, _, _ in points] == [
        (name, "TimeoutError"),
        (name, "incomplete"),
    ]


def test_steps_without_an_operation_are_not_measured(measured: Measured) -> None:
    """Nor is a step, which is refused."""
    measured.sink.open()
    measured.sink.write([make_span(kind=StepKind.TASK)])
    assert measured.reader.get_metrics_data() is None
    with pytest.raises(SinkError, match="record spans"):
        measured.sink.write([make_step()])


async def test_runs_that_sampling_leaves_out_are_measured(measured: Measured) -> None:
    """Beside an exporter that takes none of them."""
    memory = MemorySink()
    manager = ExporterManager.from_exporters(
        {
            "sampled": SpanExporter(memory, sampling=Sampling(0.0)),
            "metrics": SpanExporter(measured.sink, flush="delivered"),
        }
    )
    async with manager.start(ContextState()):
        with step("llm", "gpt-5") as call:
            call.usage = {"prompt_tokens": 7, "completion_tokens": 3}
    assert memory.items == []
    assert [each[2] for each in measured.points["gen_ai.client.token.usage"]] == [7, 3]


def test_the_type_metrics_takes_every_run_without_its_content() -> None:
    """And searches no content for secrets."""
    own = MetricsExporterSettings(sampling_ratio=0.0)
    (exporter,) = build_exporters(ObservabilitySettings(exporters={"m": own})).values()
    assert isinstance(exporter, SpanExporter)
    assert exporter.sampling is None
    assert (own.redact, own.capture_inputs, own.capture_outputs) == (False, False, False)
