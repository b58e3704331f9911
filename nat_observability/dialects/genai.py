"""GENAI: a span in the words of the OpenTelemetry GenAI conventions."""

# https://github.com/open-telemetry/semantic-conventions-genai: docs/gen-ai/gen-ai-spans.md (inference, embeddings,
# retrievals, execute_tool), gen-ai-agent-spans.md (invoke_agent, invoke_workflow) and gen-ai-events.md.

from __future__ import annotations

import re
from typing import Final

from nat_observability.dialects.dialect import Attributes, Dialect
from nat_observability.events import Span, StepKind

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/gen-ai/1.42.0"
"""The schema of the conventions that this table follows."""

PROVIDER: Final = "gen_ai.provider.name"
UNKNOWN_PROVIDER: Final = "_OTHER"

DATA_SOURCE: Final = "gen_ai.data_source.id"
"""What names the span of a retrieval, if it was recorded."""

MODEL_CALLS: Final = (StepKind.LLM, StepKind.EMBEDDING)
"""The kinds of steps that have a provider."""

# The attribute "SHOULD be set based on the instrumentation's best knowledge and may differ from the actual upstream
# provider": who makes a model, if nothing else was recorded.
_MAKERS = tuple(
    (re.compile(expression, re.IGNORECASE), provider)
    for expression, provider in (
        (
            r"(us\.|eu\.|apac\.|global\.)?(anthropic|amazon|meta|cohere|mistral|ai21|stability)\.",
            "aws.bedrock",
        ),
        (r"azure[/_]", "azure.ai.openai"),
        (r"groq/", "groq"),
        (r"vertex_ai/", "gcp.vertex_ai"),
        (
            r"(.*/)?(gpt|chatgpt|o[1-9](-|$)|text-embedding-(3|ada)|davinci|codex|omni-|computer-use)",
            "openai",
        ),
        (r"(.*/)?claude", "anthropic"),
        (r"(.*/)?(gemini|gemma|text-embedding-0|palm|imagen|veo)", "gcp.gen_ai"),
        (r"(.*/)?(command|embed-|rerank-|c4ai)", "cohere"),
        (r"(.*/)?(mistral|mixtral|codestral|ministral|magistral|pixtral|devstral|open-mi)", "mistral_ai"),
        (r"(.*/)?deepseek", "deepseek"),
        (r"(.*/)?grok", "x_ai"),
        (r"(.*/)?(kimi|moonshot)", "moonshot_ai"),
        (r"(.*/)?sonar", "perplexity"),
        (r"(.*/)?granite", "ibm.watsonx.ai"),
    )
)


def maker_of(model: str) -> str:
    """Return the provider that a model's name suggests, `_OTHER` if it suggests none."""
    return next((provider for name, provider in _MAKERS if name.match(model)), UNKNOWN_PROVIDER)


def _outcome(span: Span) -> Attributes:
    if span.first_chunk_ns is None or span.kind is not StepKind.LLM:
        return {}
    return {
        "gen_ai.request.stream": True,
        "gen_ai.response.time_to_first_chunk": (span.first_chunk_ns - span.start_ns) / 1e9,
    }


GENAI = Dialect(
    name="genai",
    prefixes=("gen_ai.",),
    kinds={
        kind: {"gen_ai.operation.name": operation}
        for kind, operation in (
            (StepKind.LLM, "chat"),
            (StepKind.EMBEDDING, "embeddings"),
            (StepKind.RETRIEVER, "retrieval"),
            (StepKind.TOOL, "execute_tool"),
            (StepKind.AGENT, "invoke_agent"),
            (StepKind.WORKFLOW, "invoke_workflow"),
        )
    },
    named={
        StepKind.LLM: ("gen_ai.request.model",),
        StepKind.EMBEDDING: ("gen_ai.request.model",),
        StepKind.TOOL: ("gen_ai.tool.name",),
        StepKind.AGENT: ("gen_ai.agent.name",),
        # The second is the conventions' name, the first that of their version 1.41.
        StepKind.WORKFLOW: ("gen_ai.agent.name", "gen_ai.workflow.name"),
    },
    span_names={
        StepKind.LLM: "chat",
        StepKind.EMBEDDING: "embeddings",
        StepKind.RETRIEVER: "retrieval",
        StepKind.TOOL: "execute_tool",
        StepKind.AGENT: "invoke_agent",
        StepKind.WORKFLOW: "invoke_workflow",
    },
    # The second is one of the general conventions.
    run={"conversation_id": "gen_ai.conversation.id", "user_id": "user.id"},
    usage={
        "prompt_tokens": "gen_ai.usage.input_tokens",
        "completion_tokens": "gen_ai.usage.output_tokens",
        "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
        "cache_write_tokens": "gen_ai.usage.cache_creation.input_tokens",
        "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
        "audio_input_tokens": "gen_ai.usage.audio.input_tokens",
        "audio_output_tokens": "gen_ai.usage.audio.output_tokens",
        "image_input_tokens": "gen_ai.usage.image.input_tokens",
    },
    cost={"total": "gen_ai.usage.cost"},
    of_outcome=_outcome,
)
"""The table. Cost has no convention; `gen_ai.usage.cost` is what Langfuse and others read."""

PART_OF_A_WORKFLOW: Final = {
    **dict.fromkeys(StepKind, "invoke_workflow"),
    StepKind.RERANKER: "retrieval",
}
"""The operations of kinds of steps that the conventions do not have, for a back end that reads no other dialect."""
