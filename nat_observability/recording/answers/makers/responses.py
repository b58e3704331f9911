"""OpenAI's Responses API: an answer is a list of items, and a stream is of events about them."""

from __future__ import annotations

from typing import Any

from nat_observability.recording.answers.citations import add_citation
from nat_observability.recording.answers.draft import Draft, Message
from nat_observability.recording.answers.fields import field, items, path, some_items, text_of
from nat_observability.recording.answers.parts import add_block, add_media

_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_TEXT_DELTAS = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "refusal",
    "response.reasoning_text.delta": "reasoning",
    "response.reasoning_summary_text.delta": "reasoning",
    "response.audio.transcript.delta": "text",
}
_ARGUMENT_DELTAS = frozenset(
    {"response.function_call_arguments.delta", "response.custom_tool_call_input.delta"}
)


def read(draft: Draft, answer: object) -> bool:
    """Read an answer into the draft; False if it is none."""
    output = some_items(field(answer, "output"))
    if output is None:
        return False
    is_known = text_of(field(answer, "object")) == "response" or any(
        text_of(field(item, "type")) in ("message", "function_call", "reasoning") for item in output[:8]
    )
    if not is_known:
        return False
    _read_head(draft, answer)
    message = draft.message()
    for at, item in enumerate(output):
        _read_item(message, item, at)
    _finish(message, answer)
    return True


def read_event(draft: Draft, event: object) -> bool:
    """Read one event of a stream into the draft; False if it is none."""
    kind = text_of(field(event, "type"))
    if kind == "raw_response_event":  # of the Agents SDK, around the event
        event = field(event, "data")
        kind = text_of(field(event, "type"))
    if kind is None or not (kind.startswith("response.") or kind == "error"):
        return False
    draft.expects_finish = True
    message = draft.message()
    response = field(event, "response")
    if kind in _ENDS and response is not None:
        if items(field(response, "output")):
            # The whole answer comes once more at the end.
            draft.clear()
            read(draft, response)
        else:
            _read_head(draft, response)
            _finish(message, response)
    elif response is not None:
        _read_head(draft, response)
    elif kind in _TEXT_DELTAS:
        message.text(_TEXT_DELTAS[kind], field(event, "delta"), _key(event))
    elif kind == "response.output_text.annotation.added":
        add_citation(message, field(event, "annotation"), _key(event))
    elif kind in _ARGUMENT_DELTAS:
        message.tool(_key(event), None, None, field(event, "delta"))
    elif kind == "response.output_item.added":
        item = field(event, "item")
        if text_of(field(item, "type")) in ("function_call", "custom_tool_call"):
            message.tool(_key(event), field(item, "call_id", "id"), field(item, "name"), None)
    elif kind == "response.output_item.done":
        item = field(event, "item")
        if text_of(field(item, "type")) not in ("message", "function_call", "custom_tool_call", "reasoning"):
            _read_item(message, item, field(event, "output_index"))
    return True


def _key(event: object) -> tuple[Any, ...]:
    at = field(event, "content_index", "summary_index")
    return field(event, "output_index"), at if type(at) is int else 0


def _read_head(draft: Draft, answer: object) -> None:
    draft.head(field(answer, "id"), field(answer, "model"))
    draft.provider = draft.provider or "openai"
    draft.used(field(answer, "usage"))
    draft.attribute("openai.response.service_tier", text_of(field(answer, "service_tier")))
    draft.attribute("gen_ai.conversation.id", text_of(path(answer, "conversation", "id")))


def _finish(message: Message, answer: object) -> None:
    # This API has no finish reasons: what the status means.
    status = text_of(field(answer, "status"))
    if status == "incomplete":
        message.finish_reason = text_of(path(answer, "incomplete_details", "reason")) or status
    elif status in ("failed", "cancelled"):
        message.finish_reason = "error"
        error = field(answer, "error")
        if error is not None:
            message.raw({"type": "error", "code": field(error, "code"), "message": field(error, "message")})
    elif status == "completed" or status is None:
        message.finish_reason = "tool_calls" if message.has_tool_calls else "stop"


def _read_item(message: Message, item: object, at: object) -> None:
    kind = text_of(field(item, "type")) or ""
    if kind == "message":
        role = text_of(field(item, "role"))
        if role:
            message.role = role
        for index, block in enumerate(message.items(field(item, "content"))):
            add_block(message, block, (at, index))
    elif kind in ("function_call", "custom_tool_call"):
        message.tool(
            (at, 0), field(item, "call_id", "id"), field(item, "name"), field(item, "arguments", "input")
        )
    elif kind == "reasoning":
        pieces = message.items(field(item, "content")) or message.items(field(item, "summary"))
        for index, piece in enumerate(pieces):
            message.text("reasoning", field(piece, "text"), (at, index))
    elif kind == "image_generation_call":
        add_media(message, "image", {"data": field(item, "result")}, (at, 0))
    elif kind.endswith("_call"):
        name = text_of(field(item, "name")) or kind.removesuffix("_call")
        call_id = text_of(field(item, "id", "call_id"))
        call = {"type": "server_tool_call", "id": call_id, "name": name, "server_tool_call": item}
        message.raw(call, (at, 0))
    else:
        add_block(message, item, (at, 0))
