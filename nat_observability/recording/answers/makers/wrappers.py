"""What frameworks wrap around a model's answer: LlamaIndex, Instructor, Pydantic AI."""

from __future__ import annotations

from typing import Any

from nat_observability.recording.answers.answer import provider_of_module
from nat_observability.recording.answers.draft import Draft
from nat_observability.recording.answers.fields import field, is_model, items, module_of, some_items, text_of
from nat_observability.recording.answers.makers import chat_completions
from nat_observability.recording.answers.parts import add_media

_OF_PYDANTIC_AI = frozenset(
    {"text", "thinking", "tool-call", "builtin-tool-call", "builtin-tool-return", "file"}
)


def inner(answer: Any) -> Any:
    """Return the maker's answer that an object keeps, None if it keeps none."""
    module = module_of(answer)
    if module.startswith("llama_index"):
        return field(answer, "raw")
    kind: Any = type(answer)
    if kind is dict or module == "builtins":
        return None
    if is_model(kind):
        return answer.__dict__.get("_raw_response")
    try:
        # Instructor's, on a model of the application's. Not by its attributes: a stand-in has all of them.
        held = object.__getattribute__(answer, "_raw_response")
    except Exception:  # noqa: BLE001  there is none
        return None
    return held


def read(draft: Draft, answer: object) -> bool:
    """Read what LlamaIndex and Pydantic AI have made of an answer; False if it is neither's."""
    if module_of(answer).startswith("llama_index"):
        said, text = field(answer, "message"), text_of(field(answer, "text"))
        if said is not None:
            blocks = field(said, "blocks")
            text = field(said, "content") if blocks is None else None
            message = draft.message()
            message.role = text_of(field(said, "role")) or message.role
            for at, block in enumerate(items(blocks)):
                kind = text_of(field(block, "block_type"))
                if kind == "image":
                    add_media(message, "image", block, at)
                else:
                    message.text(
                        "reasoning" if kind == "thinking" else "text", field(block, "text", "content"), at
                    )
            message.text("text", text, "content")
            return True
        if text is not None:
            draft.message().text("text", text, "content")
            return True
        return False
    parts = some_items(field(answer, "parts"))
    kinds = {text_of(field(part, "part_kind")) for part in parts or ()}
    if not parts or not kinds <= _OF_PYDANTIC_AI:
        return False
    draft.head(field(answer, "provider_response_id", "vendor_id"), field(answer, "model_name"))
    draft.provider = text_of(field(answer, "provider_name")) or draft.provider
    draft.used(field(answer, "usage"))
    message = draft.message()
    message.finish_reason = text_of(field(answer, "finish_reason"))
    for at, part in enumerate(parts):
        kind = text_of(field(part, "part_kind"))
        if kind in ("text", "thinking"):
            message.text("reasoning" if kind == "thinking" else "text", field(part, "content"), at)
        elif kind == "tool-call":
            message.tool(at, field(part, "tool_call_id"), field(part, "tool_name"), field(part, "args"))
        else:
            message.raw({"type": str(kind).replace("-", "_"), "content": part}, at)
    return True


def read_text(draft: Draft, answer: object) -> bool:
    """Read a text, a transcription, or a message on its own; False if it is none of these."""
    text = text_of(answer)
    if text is not None:
        draft.message().text("text", text, "content")
        return True
    if chat_completions.read_bare(draft, answer):
        return True
    text = text_of(field(answer, "text"))
    if text is None or (field(answer, "usage") is None and provider_of_module(module_of(answer)) is None):
        return False
    draft.used(field(answer, "usage"))  # a transcription
    draft.message().text("text", text, "content")
    return True
