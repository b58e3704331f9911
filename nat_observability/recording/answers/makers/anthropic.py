"""Anthropic's messages, and the events of their streams."""

from __future__ import annotations

from nat_observability.recording.answers.citations import add_citation
from nat_observability.recording.answers.draft import Draft
from nat_observability.recording.answers.fields import field, path, some_items, text_of
from nat_observability.recording.answers.parts import add_block, add_content

_COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cache_creation",
    "output_tokens_details",
)
_EVENTS = frozenset(
    {
        "message_start",
        "message_delta",
        "message_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
    }
)


def read(draft: Draft, answer: object) -> bool:
    """Read an answer into the draft; False if it is none."""
    content = some_items(field(answer, "content"))
    if content is None or text_of(field(answer, "role")) is None:
        return False
    if text_of(field(answer, "type")) != "message" and field(answer, "stop_reason") is None:
        return False
    _read_head(draft, answer)
    draft.used(field(answer, "usage"))
    message = draft.message()
    message.role = text_of(field(answer, "role")) or message.role
    message.finish_reason = text_of(field(answer, "stop_reason"))
    add_content(message, field(answer, "content"))
    return True


def read_event(draft: Draft, event: object) -> bool:
    """Read one event of a stream into the draft; False if it is none."""
    kind = text_of(field(event, "type"))
    if kind not in _EVENTS:
        # The client's own stream repeats pieces in events for convenience: "text", "input_json", "thinking".
        return bool(draft.memory) and kind is not None
    draft.expects_finish = True
    message = draft.message()
    key = "content", field(event, "index")
    if kind == "message_start":
        started = field(event, "message")
        _read_head(draft, started)
        _read_usage(draft, field(started, "usage"))
    elif kind == "message_delta":
        message.finish_reason = text_of(path(event, "delta", "stop_reason")) or message.finish_reason
        _read_usage(draft, field(event, "usage"))
    elif kind == "content_block_start":
        block = field(event, "content_block")
        block_kind = text_of(field(block, "type")) or ""
        if block_kind == "tool_use":
            # Its input is empty here, and follows in pieces.
            message.tool(key, field(block, "id"), field(block, "name"), None)
        elif block_kind not in ("text", "thinking") or field(block, "text", "thinking"):
            add_block(message, block, key)
    elif kind == "content_block_delta":
        delta = field(event, "delta")
        delta_kind = text_of(field(delta, "type"))
        if delta_kind == "text_delta":
            message.text("text", field(delta, "text"), key)
        elif delta_kind == "citations_delta":
            add_citation(message, field(delta, "citation"), key)
        elif delta_kind == "thinking_delta":
            message.text("reasoning", field(delta, "thinking"), key)
        elif delta_kind == "input_json_delta":
            message.tool(key, None, None, field(delta, "partial_json"))
    return True


def _read_head(draft: Draft, answer: object) -> None:
    draft.head(field(answer, "id"), field(answer, "model"))
    draft.provider = draft.provider or "anthropic"


def _read_usage(draft: Draft, usage: object) -> None:
    # The counts are cumulative, and an event may leave out what has not changed.
    for name in _COUNTS:
        if (count := field(usage, name)) is not None:
            draft.memory[name] = count
    if draft.memory:
        draft.used(draft.memory)
