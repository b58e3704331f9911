"""Answer: a model's answer, of any maker, with finish reasons and providers under the conventions' names."""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from nat_observability.events import TokenUsage

# OpenTelemetry GenAI, docs/gen-ai/gen-ai-output-messages.json: FinishReason.
_REASONS = {
    "content_filter": "content_filter",
    "content_filtered": "content_filter",
    "refusal": "content_filter",
    "safety": "content_filter",
    "blocklist": "content_filter",
    "prohibited_content": "content_filter",
    "recitation": "content_filter",
    "spii": "content_filter",
    "image_safety": "content_filter",
    "guardrail_intervened": "content_filter",
    "error_toxic": "content_filter",
    "toxic": "content_filter",
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_length": "length",
    "error_limit": "length",
    "model_context_window_exceeded": "length",
    "stop": "stop",
    "finish": "stop",  # Titan's
    "endoftext": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "complete": "stop",
    "completed": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "tool_call": "tool_call",
    "tool_calls": "tool_call",
    "tool_use": "tool_call",
    "function_call": "tool_call",
    "error": "error",
    "failed": "error",
    "cancelled": "error",
    "malformed_function_call": "error",
}

# The same, docs/registry/attributes/gen-ai.md: gen_ai.provider.name. By other names that are common for them.
_PROVIDERS = {
    "amazon": "aws.bedrock",
    "amazon_bedrock": "aws.bedrock",
    "aws": "aws.bedrock",
    "aws_bedrock": "aws.bedrock",
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "azure_ai_inference": "azure.ai.inference",
    "azure_ai_openai": "azure.ai.openai",
    "azure_openai": "azure.ai.openai",
    "azureopenai": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "claude": "anthropic",
    "cohere_chat": "cohere",
    "gcp": "gcp.gen_ai",
    "gcp_gemini": "gcp.gemini",
    "gcp_gen_ai": "gcp.gen_ai",
    "gcp_vertex_ai": "gcp.vertex_ai",
    "gemini": "gcp.gemini",
    "google": "gcp.gen_ai",
    "google_ai_studio": "gcp.gemini",
    "google_genai": "gcp.gen_ai",
    "google_gla": "gcp.gemini",
    "google_vertex": "gcp.vertex_ai",
    "google_vertex_ai": "gcp.vertex_ai",
    "google_vertexai": "gcp.vertex_ai",
    "grok": "x_ai",
    "ibm": "ibm.watsonx.ai",
    "ibm_watsonx_ai": "ibm.watsonx.ai",
    "kimi": "moonshot_ai",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "moonshot": "moonshot_ai",
    "moonshotai": "moonshot_ai",
    "vertex": "gcp.vertex_ai",
    "vertex_ai": "gcp.vertex_ai",
    "vertexai": "gcp.vertex_ai",
    "vertex_ai_beta": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "x_ai": "x_ai",
    "xai": "x_ai",
}

# By the package of the answer's class. A shape that several makers share is told apart by nothing else.
_PACKAGES = {
    "anthropic": "anthropic",
    "boto3": "aws.bedrock",
    "cohere": "cohere",
    "google.ai": "gcp.gemini",
    "google.genai": "gcp.gen_ai",
    "google.generativeai": "gcp.gemini",
    "google.cloud.aiplatform": "gcp.vertex_ai",
    "google.cloud.aiplatform_v1": "gcp.vertex_ai",
    "google.cloud.aiplatform_v1beta1": "gcp.vertex_ai",
    "groq": "groq",
    "mistralai": "mistral_ai",
    "ollama": "ollama",
    "openai": "openai",
    "vertexai": "gcp.vertex_ai",
}


_WELL_KNOWN = frozenset(_PROVIDERS.values()) | frozenset(_PACKAGES.values())


class Answer(msgspec.Struct, frozen=True, gc=False):
    """
    What a model's answer says.

    Attributes:
        provider: Under its well-known name in the conventions, None if nothing shows it.
        finish_reasons: One for each message, as the model gave it.
        messages: As the conventions' `gen_ai.output.messages`: role, parts, finish reason.
        tool_calls: The parts of the messages that are calls of tools.
        output: Instead of messages, for what is none: the shape of embeddings, the verdict of a moderation.
        attributes: What else there is, under conventional names.
    """

    response_id: str | None = None
    model: str | None = None
    provider: str | None = None
    finish_reasons: tuple[str, ...] = ()
    messages: tuple[dict[str, Any], ...] = ()
    tool_calls: tuple[dict[str, Any], ...] = ()
    output: Any = None
    usage: TokenUsage | None = None
    attributes: dict[str, Any] = {}


def finish_word(reason: str) -> str:
    """Return the conventions' word for a finish reason, or the reason."""
    found = _REASONS.get(reason)
    if found is None:
        found = _REASONS.get(reason.lower().removeprefix("finish_reason_"), reason)
    return found


def provider_name(provider: str) -> str:
    """Return the well-known name of a provider, or the one that was given."""
    if provider in _WELL_KNOWN:
        return provider
    return _PROVIDERS.get(
        provider.strip().lower().replace("-", "_").replace(" ", "_").replace(".", "_"), provider
    )


@functools.lru_cache(maxsize=256)
def provider_of_module(module: str) -> str | None:
    """Return the provider whose client has this module, None if no provider's client has it."""
    parts = module.split(".")
    for length in (3, 2, 1):
        if (found := _PACKAGES.get(".".join(parts[:length]))) is not None:
            return found
    return None
