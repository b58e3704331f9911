"""OpenAI's chat completions, which Mistral, LiteLLM, Groq, DeepSeek and most servers of open models answer in too."""

from __future__ import annotations

from nat_observability.recording.answers.draft import Draft, Message
from nat_observability.recording.answers.fields import (
    MAX_CHOICES,
    field,
    module_of,
    path,
    some_items,
    text_of,
)
from nat_observability.recording.answers.parts import add_content, add_media, add_tool_call, add_tool_calls


def read(draft: Draft, answer: object) -> bool:
    """Read an answer, or one chunk of a stream, into the draft; False if it is neither."""
    module = module_of(answer)
    choices = some_items(field(answer, "choices"), MAX_CHOICES)
    if choices is None and draft.streamed and (inside := field(answer, "data")) is not None:
        answer, choices = (
            inside,
            some_items(field(inside, "choices"), MAX_CHOICES),
        )  # Mistral's events, around a chunk
    if choices is None:
        return False
    if draft.streamed and any(field(choice, "message") is not None for choice in choices):
        return False  # a whole answer
    kind = text_of(field(answer, "object")) or ""
    draft.expects_finish = draft.streamed
    draft.head(field(answer, "id"), field(answer, "model"))
    draft.used(field(answer, "usage", "x_groq"))
    draft.attribute("openai.response.service_tier", text_of(field(answer, "service_tier")))
    draft.attribute("openai.response.system_fingerprint", text_of(field(answer, "system_fingerprint")))
    if module.startswith("litellm"):
        draft.provider = text_of(path(answer, "_hidden_params", "custom_llm_provider"))
    elif kind.startswith(("chat.completion", "text_completion")):
        draft.provider = draft.provider or "openai"
    for at, choice in enumerate(choices):
        index = field(choice, "index")
        _read_choice(draft.message(index if type(index) is int else at), choice)
    return True


def _read_choice(message: Message, choice: object) -> None:
    reason = text_of(field(choice, "finish_reason"))
    if reason:
        message.finish_reason = reason
    said = field(choice, "message", "delta")
    if said is None:
        message.text("text", field(choice, "text"), "content")
        return
    read_message(message, said)


def read_message(message: Message, said: object) -> None:
    """Read a message, or a piece of one."""
    role = text_of(field(said, "role"))
    if role:
        message.role = role
    message.text("reasoning", field(said, "reasoning_content", "reasoning"), "reasoning")
    add_content(message, field(said, "content"))
    message.text("refusal", field(said, "refusal"), "refusal")
    add_tool_calls(message, field(said, "tool_calls"))
    called = field(said, "function_call")
    if called is not None:
        add_tool_call(message, called, "function_call")
    audio = field(said, "audio")
    if audio is not None:
        message.text("text", field(audio, "transcript"), "transcript")
        if field(audio, "data") is not None:
            add_media(message, "audio", audio, "audio")
    for at, image in enumerate(message.items(field(said, "images"))):
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
