"""MetricsSink: finished spans as the GenAI conventions' metrics, through the metrics API of OpenTelemetry."""

# https://github.com/open-telemetry/semantic-conventions-genai, docs/gen-ai/gen-ai-metrics.md. The time per token has no
# convention for clients; its instrument is ours.

from __future__ import annotations

from typing import Any

from nat_observability.dialects.genai import PROVIDER, SCHEMA_URL, maker_of
from nat_observability.dialects.vocabulary import decoded_attributes
from nat_observability.errors import MissingExtraError, SinkError
from nat_observability.events import Span, Status, StepKind
from nat_observability.sinks.protocol import Batch

_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_AGENTS = tuple(round(0.1 * 2**power, 1) for power in range(13))
_WORKFLOWS = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)
_FIRST = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_EACH = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_TOKENS = tuple(float(4**power) for power in range(14))

_DURATION, _USAGE = "gen_ai.client.operation.duration", "gen_ai.client.token.usage"
_FIRST_CHUNK, _PER_CHUNK = (
    "gen_ai.client.operation.time_to_first_chunk",
    "gen_ai.client.operation.time_per_output_chunk",
)
_PER_TOKEN = "nat.client.time_per_output_token"
_HISTOGRAMS = {
    _DURATION: ("s", "GenAI operation duration.", _SECONDS),
    _USAGE: ("{token}", "Number of input and output tokens used.", _TOKENS),
    _FIRST_CHUNK: ("s", "Time to receive the first chunk.", _FIRST),
    _PER_CHUNK: ("s", "Time per output chunk after the first one: the mean of a call.", _EACH),
    _PER_TOKEN: ("s", "Time per output token after the first chunk: the mean of a call.", _EACH),
    "gen_ai.execute_tool.duration": ("s", "Duration of a tool's execution.", _SECONDS),
    "gen_ai.invoke_agent.duration": ("s", "Duration of an agent's invocation.", _AGENTS),
    "gen_ai.workflow.duration": ("s", "Duration of a workflow.", _WORKFLOWS),
}
# What a kind of step is called, which attribute has its name, and which histogram its duration.
_KINDS = {
    StepKind.LLM: ("chat", "gen_ai.request.model", _DURATION),
    StepKind.EMBEDDING: ("embeddings", "gen_ai.request.model", _DURATION),
    StepKind.RETRIEVER: ("retrieval", None, _DURATION),
    StepKind.TOOL: ("execute_tool", "gen_ai.tool.name", "gen_ai.execute_tool.duration"),
    StepKind.AGENT: ("invoke_agent", "gen_ai.agent.name", "gen_ai.invoke_agent.duration"),
    StepKind.WORKFLOW: ("invoke_workflow", "gen_ai.workflow.name", "gen_ai.workflow.duration"),
}
_MODEL_CALLS = frozenset({StepKind.LLM, StepKind.EMBEDDING})


class MetricsSink:
    """
    Records the durations of model calls, retrievals, tools, agents and workflows, tokens, and times of streams.

    An exporter with this sink and without sampling sees every run, also those that the sampling of others leaves out.
    It sends nothing: what is recorded goes where the application's meter provider sends it.

    Args:
        meter_provider: Of the application; by default the global one, which may be set until the first span.

    Raises:
        MissingExtraError: opentelemetry-api is not installed.
    """

    def __init__(self, meter_provider: Any = None) -> None:
        try:
            from opentelemetry import metrics
        except ImportError:
            raise MissingExtraError("MetricsSink", "opentelemetry") from None
        self._metrics, self._provider = metrics, meter_provider
        self._histograms: dict[str, Any] = {}

    def open(self) -> None:
        """Make the instruments; a second call finds them made."""
        if self._histograms:
            return
        provider = self._provider if self._provider is not None else self._metrics.get_meter_provider()
        meter = provider.get_meter("nat_observability", schema_url=SCHEMA_URL)
        for name, (unit, description, boundaries) in _HISTOGRAMS.items():
            self._histograms[name] = meter.create_histogram(
                name, unit, description, explicit_bucket_boundaries_advisory=boundaries
            )

    def write(self, batch: Batch) -> None:
        """
        Record the spans of the batch.

        Raises:
            SinkError: The batch holds something other than spans.
        """
        for span in batch:
            if not isinstance(span, Span):
                raise SinkError(
                    "metrics", "measures spans, and was given steps", "Set the exporter to record spans."
                )
            if (known := _KINDS.get(span.kind)) is not None:
                self._record(span, *known)

    def close(self) -> None:
        """Nothing is left to write."""

    def _record(self, span: Span, operation: str, named: str | None, histogram: str) -> None:
        own = decoded_attributes(span.attributes)
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": _text(own, "gen_ai.operation.name") or operation
        }
        if named is not None:
            name = span.run.workflow_name if span.kind is StepKind.WORKFLOW else None
            attributes[named] = _text(own, named, "llm.model_name", "tool.name") or name or span.name
        if span.kind in _MODEL_CALLS:
            attributes[PROVIDER] = _text(own, PROVIDER, "llm.provider") or maker_of(
                attributes["gen_ai.request.model"]
            )
            if (answered := _text(own, "gen_ai.response.model")) is not None:
                attributes["gen_ai.response.model"] = answered
        self._count_tokens(span, attributes)
        if span.status is not Status.OK:
            error = "incomplete" if span.status is Status.INCOMPLETE else "_OTHER"
            attributes["error.type"] = span.error.type if span.error is not None else error
        seconds = (span.end_ns - span.start_ns) / 1e9
        self._histograms[histogram].record(seconds, attributes)
        first = span.first_chunk_ns
        if first is not None and span.kind is StepKind.LLM:
            self._histograms[_FIRST_CHUNK].record(max(first - span.start_ns, 0) / 1e9, attributes)
            rest = max(span.end_ns - first, 0) / 1e9
            if span.chunks > 1:
                self._histograms[_PER_CHUNK].record(rest / (span.chunks - 1), attributes)
            if span.usage is not None and span.usage.completion_tokens > 1:
                self._histograms[_PER_TOKEN].record(rest / (span.usage.completion_tokens - 1), attributes)

    def _count_tokens(self, span: Span, attributes: dict[str, Any]) -> None:
        if span.usage is None or span.kind not in _MODEL_CALLS:
            return
        counts = {"input": span.usage.prompt_tokens}
        if span.kind is StepKind.LLM:
            counts["output"] = span.usage.completion_tokens
        for kind, count in counts.items():
            self._histograms[_USAGE].record(count, {**attributes, "gen_ai.token.type": kind})


def _text(own: dict[str, Any], *names: str) -> str | None:
    return next((own[name] for name in names if isinstance(own.get(name), str) and own[name]), None)
