"""OpenAI's chat completions, which Mistral, LiteLLM, Groq, DeepSeek and most servers of open models answer in too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nat_observability.recording.answers.draft import Draft, Message
from nat_observability.recording.answers.fields import (
    MAX_CHOICES,
    field,
    is_given,
    module_of,
    path,
    reader,
    some_items,
    text_of,
)
from nat_observability.recording.answers.parts import add_content, add_media, add_tool_call, add_tool_calls

# Events of OpenAI's helper, `client.chat.completions.stream()`, that say once more what its chunks say.
_DERIVED = ("content.", "refusal.", "tool_calls.", "logprobs.")


def read(draft: Draft, answer: object) -> bool:
    """Read an answer, or one chunk of a stream, into the draft; False if it is neither."""
    module = module_of(answer)
    get = reader(answer)
    choices = some_items(get("choices"), MAX_CHOICES)
    if choices is None and draft.streamed:
        kind = text_of(get("type")) or ""
        if draft.has_messages and kind.startswith(_DERIVED):
            return True
        inside = get("chunk") if kind == "chunk" else get("data")
        if inside is not None:
            # Mistral's events, and those of OpenAI's helper, around a chunk
            answer, get = inside, reader(inside)
            choices = some_items(get("choices"), MAX_CHOICES)
    if choices is None:
        return False
    if draft.streamed and any(field(choice, "message") is not None for choice in choices):
        return False  # a whole answer
    kind = text_of(get("object")) or ""
    draft.expects_finish = draft.streamed
    draft.head(get("id"), get("model"))
    usage = get("usage")
    draft.used(get("x_groq") if usage is None else usage)
    draft.attribute("openai.response.service_tier", text_of(get("service_tier")))
    draft.attribute("openai.response.system_fingerprint", text_of(get("system_fingerprint")))
    if module.startswith("litellm"):
        draft.provider = text_of(path(answer, "_hidden_params", "custom_llm_provider"))
    elif kind.startswith(("chat.completion", "text_completion")):
        draft.provider = draft.provider or "openai"
    for at, choice in enumerate(choices):
        of_choice = reader(choice)
        index = of_choice("index")
        _read_choice(draft.message(index if type(index) is int else at), of_choice)
    return True


def _read_choice(message: Message, get: Callable[[str], Any]) -> None:
    reason = text_of(get("finish_reason"))
    if reason:
        message.finish_reason = reason
    said = get("message")
    if said is None:
        said = get("delta")
    if said is None:
        message.text("text", get("text"), "content")
        return
    read_message(message, said)


def read_message(message: Message, said: object) -> None:
    """Read a message, or a piece of one."""
    get = reader(said)
    role = text_of(get("role"))
    if role:
        message.role = role
    reasoning = get("reasoning_content")
    if reasoning is None:
        reasoning = get("reasoning")
    if reasoning is not None:
        message.text("reasoning", reasoning, "reasoning")
    if (content := get("content")) is not None:
        add_content(message, content)
    if (refusal := get("refusal")) is not None:
        message.text("refusal", refusal, "refusal")
    if (calls := get("tool_calls")) is not None:
        add_tool_calls(message, calls)
    if is_given(called := get("function_call")):
        add_tool_call(message, called, "function_call")
    if (audio := get("audio")) is not None:
        message.text("text", field(audio, "transcript"), "transcript")
        if field(audio, "data") is not None:
            add_media(message, "audio", audio, "audio")
    if (images := get("images")) is not None:
        for at, image in enumerate(message.items(images)):
            add_media(message, "image", image, ("image", at))


def read_bare(draft: Draft, answer: object) -> bool:
    """Read a message that is alone, without the answer that it was in; False if it is none."""
    role = text_of(field(answer, "role"))
    if role is None:
        return False
    parts = some_items(field(answer, "parts"))
    if parts is not None and all(type(part) is dict for part in parts):
        # It is in the words of the conventions already.
        message = draft.message()
        message.role = role
        message.finish_reason = text_of(field(answer, "finish_reason"))
        for part in parts:
            message.raw(dict(part))
        return True
    if field(answer, "content", "tool_calls", "refusal", "function_call") is None:
        return False
    read_message(draft.message(), answer)
    return True
