"""Cohere's chats, of both versions of its API, and the events of their streams."""

from __future__ import annotations

from nat_observability.recording.answers.citations import add_citation, add_citations
from nat_observability.recording.answers.draft import Draft
from nat_observability.recording.answers.fields import field, items, length_of, path, some_items, text_of
from nat_observability.recording.answers.parts import add_content, add_tool_call, add_tool_calls

_EVENTS = frozenset(
    {
        "message-start",
        "message-end",
        "content-start",
        "content-delta",
        "content-end",
        "tool-plan-delta",
        "tool-call-start",
        "tool-call-delta",
        "tool-call-end",
        "citation-start",
        "citation-end",
    }
)
_TYPES = ("float_", "float", "int8", "uint8", "binary", "ubinary", "base64")


def read(draft: Draft, answer: object) -> bool:
    """Read an answer into the draft; False if it is none."""
    reason = text_of(field(answer, "finish_reason"))
    said, text = field(answer, "message"), text_of(field(answer, "text"))
    if reason is not None and said is not None and field(said, "role") is not None:
        draft.head(field(answer, "id"), None)
        draft.used(field(answer, "usage"))
    elif text is not None and field(answer, "generation_id", "response_id") is not None:
        draft.head(field(answer, "response_id", "generation_id"), None)
        draft.used(field(answer, "meta"))
    else:
        return False
    draft.provider = draft.provider or "cohere"
    message = draft.message()
    message.finish_reason = reason
    message.text("text", text, "content")
    message.text("reasoning", field(said, "tool_plan"), "tool_plan")
    add_content(message, field(said, "content"))
    add_citations(message, field(said, "citations") or field(answer, "citations"))
    add_tool_calls(message, field(said, "tool_calls") or field(answer, "tool_calls"))
    return True


def read_event(draft: Draft, event: object) -> bool:
    """Read one event of a stream into the draft; False if it is none."""
    kind = text_of(field(event, "type"))
    if kind not in _EVENTS:
        return False
    draft.expects_finish = True
    draft.provider = draft.provider or "cohere"
    message = draft.message()
    index, delta = field(event, "index"), field(event, "delta")
    said = field(delta, "message")
    if kind == "message-start":
        draft.head(field(event, "id"), None)
        message.role = text_of(field(said, "role")) or message.role
    elif kind in ("content-start", "content-delta"):
        content = field(said, "content")
        message.text("text", field(content, "text"), ("content", index))
        message.text("reasoning", field(content, "thinking"), ("content", index))
    elif kind == "tool-plan-delta":
        message.text("reasoning", field(said, "tool_plan"), "tool_plan")
    elif kind in ("tool-call-start", "tool-call-delta"):
        add_tool_call(message, field(said, "tool_calls"), ("call", index))
    elif kind == "citation-start":
        add_citation(
            message,
            field(said, "citations"),
            ("content", field(field(said, "citations"), "content_index") or 0),
        )
    elif kind == "message-end":
        message.finish_reason = text_of(field(delta, "finish_reason"))
        draft.used(field(delta, "usage"))
    return True


def read_embeddings(draft: Draft, answer: object) -> bool:
    """Read embeddings into the draft; False if these are none."""
    found = field(answer, "embeddings")
    if field(answer, "response_type", "meta") is None or found is None:
        return False
    vectors = found if some_items(found, 1) is not None else field(found, *_TYPES)
    first = items(vectors, 1)
    draft.provider = draft.provider or "cohere"
    draft.head(field(answer, "id"), None)
    draft.vectors(length_of(vectors), length_of(first[0]) if first else 0)
    draft.used(path(answer, "meta"))
    return True
