"""What LangSmith and Langfuse make of a run of ours, by the rules of ingestion that their makers publish."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import msgspec
import pytest

from nat_observability.events import Span, StepKind
from nat_observability.settings.presets import PRESETS
from nat_observability.sinks import MemorySink
from tests.advice_run import advise
from tests.dialects.test_vocabulary import sent

Attributes = dict[str, Any]

# langchain-ai/docs, src/langsmith/trace-with-opentelemetry.mdx: "Supported OpenTelemetry attribute and event mapping",
# as of November 2026. Of several attributes for one field the first that is there counts here.
LANGSMITH = {
    "inputs": ("gen_ai.input.messages", "input.value"),
    "outputs": ("gen_ai.output.messages", "output.value"),
    "model": ("gen_ai.response.model", "gen_ai.request.model"),
    "temperature": ("gen_ai.request.temperature",),
    "provider": ("gen_ai.system", "llm.system", "llm.provider"),
    "input_tokens": ("gen_ai.usage.input_tokens", "llm.token_count.prompt"),
    "output_tokens": ("gen_ai.usage.output_tokens", "llm.token_count.completion"),
    "metadata": ("metadata",),
}
LANGSMITH_OPERATIONS = {"chat": "llm", "completion": "llm", "embedding": "embedding"}
LANGSMITH_KINDS = {"LLM": "llm", "CHAIN": "chain", "AGENT": "chain", "TOOL": "tool", "RETRIEVER": "retriever"}
LANGSMITH_DOCUMENT = re.compile(r"retrieval\.documents\.(\d+)\.document\.content")

# langfuse/langfuse, packages/shared/src/server/otel/ObservationTypeMapper.ts, the mapping of priority 1.
LANGFUSE_TYPES = {
    "span", "generation", "event", "embedding", "agent", "tool", "chain", "retriever", "guardrail", "evaluator",
}  # fmt: skip


@pytest.fixture(scope="module")
def spans() -> dict[str, Span]:
    """The run of the tests with real back ends, by name."""
    sink = MemorySink()
    asyncio.run(advise(sink))
    return {span.name: span for span in sink.spans}


def langsmith(attributes: Attributes) -> dict[str, Any]:
    """Return the fields of LangSmith's run."""
    found: dict[str, Any] = {
        field: next((attributes[name] for name in names if name in attributes), None)
        for field, names in LANGSMITH.items()
    }
    if "gen_ai.tool.name" in attributes:
        found["type"] = "tool"
    else:
        found["type"] = LANGSMITH_OPERATIONS.get(
            attributes.get("gen_ai.operation.name", ""),
            LANGSMITH_KINDS.get(attributes.get("openinference.span.kind", ""), "chain"),
        )
    found["documents"] = [attributes[name] for name in attributes if LANGSMITH_DOCUMENT.fullmatch(name)]
    return {field: value for field, value in found.items() if value not in (None, [])}


def test_langsmith_reads_what_its_preset_sends(spans: dict[str, Span]) -> None:
    """Types, messages, documents, parameters, tokens and metadata, each in its field."""
    runs = {name: langsmith(sent(span, PRESETS["langsmith"].dialect)[1]) for name, span in spans.items()}
    assert {name: run["type"] for name, run in runs.items()} == {
        "advice": "chain",
        "adviser": "chain",
        "docs": "retriever",
        "gpt-5": "llm",
        "weather": "tool",
    }
    assert runs["docs"]["documents"] == ["Paris is wet."]
    assert json.loads(runs["advice"]["metadata"]) == {"plan": "pro"}
    call = runs["gpt-5"]
    assert [message["role"] for message in json.loads(call["inputs"])] == ["system", "user"]
    assert json.loads(call["outputs"])[0]["parts"][0]["name"] == "weather"
    assert (call["model"], call["provider"], call["temperature"]) == ("gpt-5-2025", "openai", 0.2)
    assert (call["input_tokens"], call["output_tokens"]) == (100, 50)
    for name in ("advice", "adviser"):
        assert "Will it rain in Paris?" in runs[name]["inputs"]
        assert "Take an umbrella." in runs[name]["outputs"]
    assert "rain Paris" in runs["docs"]["inputs"]
    assert json.loads(runs["weather"]["inputs"]) == {"city": "Paris"}


@pytest.mark.parametrize("kind", StepKind)
def test_langfuse_knows_every_type(kind: StepKind, spans: dict[str, Span]) -> None:
    """The first of its rules decides, so that nothing is guessed from other attributes."""
    span = msgspec.structs.replace(spans["docs"], kind=kind)
    assert sent(span, "langfuse,genai")[1]["langfuse.observation.type"] in LANGFUSE_TYPES
