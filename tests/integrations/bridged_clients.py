"""Scenarios of bridged spans: clients of models, each of its maker's own or of a gateway."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from tests.integrations.bridged_scenarios import Scenarios
from tests.integrations.bridged_server import ASKED, TOOL


async def litellm_calls(url: str) -> None:
    """A call, one with a tool, and one that fails."""
    import litellm

    own: dict[str, Any] = {"api_base": f"{url}/v1", "api_key": "none", "messages": ASKED, "num_retries": 0}
    await litellm.acompletion(model="openai/tea-model", temperature=0.2, **own)
    await litellm.acompletion(model="openai/tea-model", tools=[TOOL], **own)
    with suppress(litellm.NotFoundError):
        await litellm.acompletion(model="openai/broken", **own)


async def google_genai_calls(url: str) -> None:
    """A call, and one with a configuration."""
    from google import genai
    from google.genai import types

    client = genai.Client(api_key="none", http_options=types.HttpOptions(base_url=url))
    await client.aio.models.generate_content(model="gemini-tea", contents="Which tea?")
    configured = types.GenerateContentConfig(temperature=0.2, system_instruction="Be brief.")
    await asyncio.to_thread(
        client.models.generate_content, model="gemini-tea", contents="Which tea?", config=configured
    )


async def mistral_calls(url: str) -> None:
    """A call, one with a tool, and one that fails."""
    from mistralai.client import Mistral, errors

    asked: Any = [{"role": "user", "content": "Which tea?"}]
    tool: Any = TOOL
    async with Mistral(api_key="none", server_url=url) as client:
        await client.chat.complete_async(model="tea-model", messages=asked, temperature=0.2)
        await client.chat.complete_async(model="tea-model", messages=asked, tools=[tool])
        with suppress(errors.MistralError):
            await client.chat.complete_async(model="broken", messages=asked)


async def groq_calls(url: str) -> None:
    """A call, one with a tool, and one that fails."""
    import groq

    async with groq.AsyncGroq(base_url=url, api_key="none", max_retries=0) as client:
        asked: Any = ASKED
        tool: Any = TOOL
        await client.chat.completions.create(model="tea-model", messages=asked, temperature=0.2)
        await client.chat.completions.create(model="tea-model", messages=asked, tools=[tool])
        with suppress(groq.NotFoundError):
            await client.chat.completions.create(model="broken", messages=asked)


async def bedrock_calls(url: str) -> None:
    """A conversation."""
    import boto3

    client: Any = boto3.client(
        "bedrock-runtime",
        endpoint_url=url,
        region_name="eu-west-1",
        aws_access_key_id="none",
        aws_secret_access_key="none",
    )
    asked = [{"role": "user", "content": [{"text": "Which tea?"}]}]
    configured = {"temperature": 0.2, "maxTokens": 9}
    await asyncio.to_thread(
        client.converse,
        modelId="anthropic.tea-v1:0",
        messages=asked,
        system=[{"text": "Be brief."}],
        inferenceConfig=configured,
    )


async def ollama_calls(url: str) -> None:
    """A call, and one that fails."""
    import ollama

    client = ollama.AsyncClient(host=url)
    await client.chat(model="tea-model", messages=ASKED)
    with suppress(ollama.ResponseError):
        await client.chat(model="broken", messages=ASKED)


async def cohere_calls(url: str) -> None:
    """A call."""
    import cohere

    client: Any = cohere.ClientV2(api_key="none", base_url=url)
    await asyncio.to_thread(
        client.chat, model="command-tea", messages=[{"role": "user", "content": "Which tea?"}]
    )


async def portkey_calls(url: str) -> None:
    """A call, and one with a tool."""
    from portkey_ai import Portkey

    client: Any = Portkey(base_url=f"{url}/v1", api_key="none", virtual_key="none")
    await asyncio.to_thread(client.chat.completions.create, model="tea-model", messages=ASKED)
    await asyncio.to_thread(client.chat.completions.create, model="tea-model", messages=ASKED, tools=[TOOL])


SCENARIOS: Scenarios = {
    "openinference-bedrock": (
        bedrock_calls,
        "openinference.instrumentation.bedrock",
        ("BedrockInstrumentor",),
    ),
    "openinference-google-genai": (
        google_genai_calls,
        "openinference.instrumentation.google_genai",
        ("GoogleGenAIInstrumentor",),
    ),
    "openinference-groq": (groq_calls, "openinference.instrumentation.groq", ("GroqInstrumentor",)),
    "openinference-litellm": (
        litellm_calls,
        "openinference.instrumentation.litellm",
        ("LiteLLMInstrumentor",),
    ),
    "openinference-mistralai": (
        mistral_calls,
        "openinference.instrumentation.mistralai",
        ("MistralAIInstrumentor",),
    ),
    "openinference-portkey": (
        portkey_calls,
        "openinference.instrumentation.portkey",
        ("PortkeyInstrumentor",),
    ),
    "openllmetry-bedrock": (
        bedrock_calls,
        "opentelemetry.instrumentation.bedrock",
        ("BedrockInstrumentor",),
    ),
    "openllmetry-cohere": (cohere_calls, "opentelemetry.instrumentation.cohere", ("CohereInstrumentor",)),
    "openllmetry-groq": (groq_calls, "opentelemetry.instrumentation.groq", ("GroqInstrumentor",)),
    "openllmetry-ollama": (ollama_calls, "opentelemetry.instrumentation.ollama", ("OllamaInstrumentor",)),
    "opentelemetry-google-genai": (
        google_genai_calls,
        "opentelemetry.instrumentation.google_genai",
        ("GoogleGenAiSdkInstrumentor",),
    ),
}
"""By name."""
