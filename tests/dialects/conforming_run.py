"""
A run with every kind of step, checked by pytest-genai-semconv; what it finds, as JSON.

A program for the environment that `make .venv-semconv/.installed` builds.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pytest_genai_semconv import GenAISpanComplianceError, assert_genai_span_compliant

from nat_observability import ContextState, ExporterManager, Span, SpanExporter, StepKind, step
from nat_observability.dialects.vocabulary import vocabulary
from nat_observability.sinks import MemorySink
from nat_observability.sinks.otlp.span_encoder import SpanEncoder

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.integrations.otlp_comparison import of_otlp

ASKED = [{"role": "user", "content": "Will it rain?"}]
COMPLETION = {
    "id": "c-1",
    "object": "chat.completion",
    "model": "gpt-5-2025",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "It will."}},
    ],
    "usage": {
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 2},
    },
}
CLAUDE = {
    "id": "m-1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "content": [{"type": "text", "text": "It will."}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 7, "output_tokens": 3, "cache_read_input_tokens": 2},
}


def record() -> None:
    """Record every kind bare, and what an application records of each."""
    for kind in StepKind:
        with step(
            kind, "gpt-5" if kind in (StepKind.LLM, StepKind.EMBEDDING) else "a step", input="in"
        ) as bare:
            bare.output = "out"
    with step("workflow", "advice") as workflow, step("agent", "adviser") as agent:
        workflow.output = agent.output = "Take one."
        with step("llm", "gpt-5", provider="openai", input=ASKED) as call:
            call.request(temperature=0, max_tokens=9, stop="x", top_k=3, seed=1, tools=[{"name": "w"}], n=2)
            call.response(COMPLETION)
        with step("llm", "claude-sonnet-4-5", input=ASKED) as call:
            call.request(thinking={"type": "enabled"}, stop_sequences=["a"])
            call.response(CLAUDE)
        with step("llm", "gpt-5", provider="azure", input=ASKED) as call:
            for text in ("It ", "will."):
                call.chunk(text)
        with step("tool", "weather", input={"city": "Paris"}) as tool:
            tool.tool_call("call-1", {"city": "Paris"})
            tool.output = {"rain": True}
        with step("retriever", "docs", input="rain") as found:
            found.documents([{"id": "1", "content": "rain", "score": 0.5}])
        with step("embedding", "text-embedding-3-small", input=["rain"]) as vectors:
            vectors.request(dimensions=3, encoding_format="float")
            vectors.output = [[0.1, 0.2, 0.3]]
        with step("evaluator", "relevance") as evaluator:
            evaluator.score("relevance", 0.9, "good", "It is.")
        try:
            with step("llm", "gemini-2.5-pro"):
                raise TimeoutError("late")
        except TimeoutError:
            pass


def findings(spans: list[Span], dialect: str) -> dict[str, list[str]]:
    """Return what is found, by the name of the span."""
    found: dict[str, list[str]] = {}
    for seen in of_otlp(SpanEncoder({}, vocabulary(dialect)).encode(spans), ours_too=True).values():
        span = SimpleNamespace(
            name=seen.name, kind=SimpleNamespace(name=seen.kind), attributes=dict(seen.attributes)
        )
        try:
            assert_genai_span_compliant(span)
        except GenAISpanComplianceError as error:
            found[seen.name] = error.violations
        if seen.status[0] not in ("UNSET", "ERROR"):
            found.setdefault(seen.name, []).append(f"status {seen.status}")
    return found


async def main() -> dict[str, Any]:
    """Run, check, return."""
    sink = MemorySink(1000)
    manager = ExporterManager.from_exporters({"spans": SpanExporter(sink, flush="delivered")})
    async with manager.start(ContextState(conversation_id="c", user_id="u")):
        record()
    spans = [item for item in sink.items if isinstance(item, Span)]
    return {
        "findings": findings(spans, "genai"),
        "kinds": len({span.kind for span in spans}),
        "spans": len(spans),
        "without_a_provider": findings(spans, "openinference"),
    }


if __name__ == "__main__":
    import asyncio

    sys.stdout.write(json.dumps(asyncio.run(main())))
