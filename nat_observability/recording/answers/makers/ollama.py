"""Ollama's chats and generations; a chunk of a stream is an answer."""

from __future__ import annotations

from nat_observability.recording.answers.draft import Draft
from nat_observability.recording.answers.fields import field, length_of, some_items, text_of
from nat_observability.recording.answers.parts import add_tool_calls


def read(draft: Draft, answer: object) -> bool:
    """Read an answer, or one chunk of a stream, into the draft; False if it is neither."""
    done = field(answer, "done")
    said, text = field(answer, "message"), text_of(field(answer, "response"))
    vectors = some_items(field(answer, "embeddings"), 1)
    if (
        vectors is not None
        and text_of(field(answer, "model"))
        and field(answer, "total_duration") is not None
    ):
        _read_head(draft, answer)
        draft.vectors(length_of(field(answer, "embeddings")), length_of(vectors[0] if vectors else None))
        return True
    if type(done) is not bool or (said is None and text is None):
        return False
    _read_head(draft, answer)
    draft.expects_finish = draft.streamed
    message = draft.message()
    reason = text_of(field(answer, "done_reason"))
    if reason or done:
        message.finish_reason = reason or "stop"
    if said is None:
        message.text("reasoning", field(answer, "thinking"), "thinking")
        message.text("text", text, "content")
        return True
    message.role = text_of(field(said, "role")) or message.role
    message.text("reasoning", field(said, "thinking"), "thinking")
    message.text("text", field(said, "content"), "content")
    if draft.streamed:
        # A chunk has whole calls, and no index.
        for call in message.items(field(said, "tool_calls")):
            function = field(call, "function")
            message.tool(object(), field(call, "id"), field(function, "name"), field(function, "arguments"))
    else:
        add_tool_calls(message, field(said, "tool_calls"))
    return True


def _read_head(draft: Draft, answer: object) -> None:
    draft.provider = draft.provider or "ollama"
    draft.head(None, field(answer, "model"))
    if field(answer, "prompt_eval_count", "eval_count") is not None:
        draft.used(answer)
