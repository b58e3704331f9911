"""OpenAI's chat completions, which Mistral, LiteLLM, Groq, DeepSeek and most servers of open models answer in too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nat_observability.recording.answers.answer import Answer, finish_word, provider_of_module
from nat_observability.recording.answers.citations import add_citations
from nat_observability.recording.answers.draft import MAX_NAME, Draft, Message
from nat_observability.recording.answers.fields import (
    MAX_CHOICES,
    field,
    fields_of,
    first_of,
    is_given,
    json_or_text,
    module_of,
    path,
    reader,
    some_items,
    text_of,
)
from nat_observability.recording.answers.parts import add_content, add_media, add_tool_call, add_tool_calls
from nat_observability.recording.answers.usage import token_usage

# Events of OpenAI's helper, `client.chat.completions.stream()`, that say once more what its chunks say.
_DERIVED = ("content.", "refusal.", "tool_calls.", "logprobs.")


_FEW = 32  # calls of tools in one answer
# What a message has beside a text and calls of tools, or instead of them.
_UNUSUAL = ("reasoning_content", "reasoning", "refusal", "function_call", "audio", "images", "annotations")
_CITATIONS = ("search_results", "citations")  # of Perplexity's answers and xAI's: the first says more


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
        draft.provider = draft.provider or ("openai" if get("model_id") is None else "ibm.watsonx.ai")
    for at, choice in enumerate(choices):
        of_choice = reader(choice)
        index = of_choice("index")
        _read_choice(draft.message(index if type(index) is int else at), of_choice)
    if choices and (cited := first_of(get, *_CITATIONS)) is not None:
        add_citations(draft.message(), cited)
    return True


def read_usual(answer: object) -> Answer | None:
    """
    Return a whole answer that has one message, of text and calls of tools; None of any other.

    It says the same as `read`, which is for everything, in a third of the time.
    """
    held = fields_of(answer)
    choices = None if held is None else held.get("choices")
    if held is None or type(choices) is not list or len(choices) != 1:
        return None
    choice = fields_of(choices[0])
    said = None if choice is None else fields_of(choice.get("message"))
    module = module_of(answer)
    usage, reason = held.get("usage"), None if choice is None else choice.get("finish_reason")
    if said is None or usage is None or type(reason) is not str or module.startswith("litellm"):
        return None
    response_id, model, kind = held.get("id"), held.get("model"), held.get("object")
    role, content, calls = said.get("role"), said.get("content"), said.get("tool_calls")
    if not (type(response_id) is type(model) is type(kind) is type(role) is str):
        return None
    if not (reason and 0 < len(response_id) <= MAX_NAME and 0 < len(model) <= MAX_NAME and role):
        return None
    for name in _UNUSUAL:
        if (found := said.get(name)) is not None and not (type(found) is list and not found):
            return None
    if (
        held.get("model_id") is not None
        or held.get("citations") is not None
        or held.get("search_results") is not None
    ):
        return None
    parts: list[dict[str, Any]] = []
    if content is not None:
        if type(content) is not str:
            return None
        if content:
            parts.append({"type": "text", "content": content})
    if calls is not None:
        made = _usual_calls(calls)
        if made is None:
            return None
        parts += made
    attributes: dict[str, Any] = {}
    for name in ("service_tier", "system_fingerprint"):
        if text := text_of(held.get(name)):
            attributes[f"openai.response.{name}"] = text
    provider = provider_of_module(module)
    if provider is None and kind.startswith(("chat.completion", "text_completion")):
        provider = "openai"
    return Answer(
        response_id,
        model,
        provider,
        (reason,),
        ({"role": role, "parts": parts, "finish_reason": finish_word(reason)},),
        tuple([part for part in parts if part["type"] == "tool_call"]),
        None,
        token_usage(usage),
        attributes,
    )


def _usual_calls(calls: object) -> list[dict[str, Any]] | None:
    if type(calls) is not list or len(calls) > _FEW:
        return None
    made: list[dict[str, Any]] = []
    for call in calls:
        of_call = fields_of(call)
        function = None if of_call is None else fields_of(of_call.get("function"))
        if of_call is None or function is None or of_call.get("index") is not None:
            return None
        call_id, name, arguments = of_call.get("id"), function.get("name"), function.get("arguments")
        if not (type(call_id) is type(name) is type(arguments) is str):
            return None
        if (
            not (0 < len(call_id) <= MAX_NAME and 0 < len(name) <= MAX_NAME)
            or of_call.get("call_id") is not None
        ):
            return None
        made.append({"type": "tool_call", "id": call_id, "name": name, "arguments": json_or_text(arguments)})
    return made


def _read_choice(message: Message, get: Callable[[str], Any]) -> None:
    reason = text_of(get("finish_reason")) or text_of(get("stop_reason"))
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
    if (cited := get("annotations")) is not None:
        add_citations(message, cited)
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
