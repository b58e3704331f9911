"""LangChain's messages, chunks of messages, and results."""

from __future__ import annotations

from nat_observability.events import TokenUsage
from nat_observability.recording.answers.draft import Draft, Message
from nat_observability.recording.answers.fields import MAX_CHOICES, field, path, some_items, text_of
from nat_observability.recording.answers.parts import add_block, add_content, add_tool_call
from nat_observability.recording.answers.usage import joined_usage, token_usage

_TYPES = frozenset({"ai", "AIMessageChunk"})
_CHUNK_EVENTS = frozenset({"on_chat_model_stream", "on_llm_stream"})
_CALLS = frozenset({"tool_use", "tool_call", "tool_call_chunk", "function_call", "input_json_delta"})


def read(draft: Draft, answer: object) -> bool:
    """Read a message, a chunk of one, or a result with generations into the draft; False if it is none."""
    if type(answer) is tuple and len(answer) == 2:
        answer = answer[0]  # LangGraph's streams give each chunk with its metadata
    elif text_of(field(answer, "event")) in _CHUNK_EVENTS:
        answer = path(answer, "data", "chunk")
    generations = some_items(field(answer, "generations"), MAX_CHOICES)
    if generations is not None:
        return _read_result(draft, answer, generations)
    message = field(answer, "message")  # of a generation
    if message is not None and _is_message(message):
        answer = message
    elif field(answer, "lc") is not None and (kept := field(answer, "kwargs")) is not None:
        answer = kept
    elif (raw := field(answer, "raw")) is not None and _is_message(raw):
        answer = raw  # of with_structured_output(include_raw=True)
    if not _is_message(answer) or (draft.streamed and text_of(field(answer, "type")) != "AIMessageChunk"):
        return False
    _read_message(draft, draft.message(), answer)
    draft.usage = _joined(draft, answer)
    return True


def _is_message(value: object) -> bool:
    return text_of(field(value, "type")) in _TYPES and field(value, "content", "tool_calls") is not None


def _joined(draft: Draft, answer: object) -> TokenUsage | None:
    usage = field(answer, "usage_metadata")
    if usage is None:
        if draft.usage is not None:
            return draft.usage
        usage = field(field(answer, "response_metadata"), "token_usage", "usage")
    if usage is None:
        return draft.usage
    # The usages of a stream's chunks add up to that of the message.
    return joined_usage(draft.usage, token_usage(usage))


def _read_result(draft: Draft, answer: object, generations: list[object]) -> bool:
    output = field(answer, "llm_output")
    draft.head(field(answer, "id"), None)
    draft.head(field(output, "id"), field(output, "model_name", "model"))
    usage: TokenUsage | None = None
    at = 0
    for of_prompt in generations:
        each_of_prompt = draft.some_items(of_prompt)
        for each in [of_prompt] if each_of_prompt is None else each_of_prompt:
            message, said = draft.message(at), field(each, "message")
            at += 1
            if said is not None and _is_message(said):
                _read_message(draft, message, said)
                if (counted := field(said, "usage_metadata")) is not None:
                    usage = joined_usage(usage, token_usage(counted))
            else:
                message.text("text", field(each, "text"), "content")
            about = field(each, "generation_info")
            # Cohere's generations have it themselves.
            reason = text_of(field(each if about is None else about, "finish_reason", "stop_reason"))
            message.finish_reason = message.finish_reason or reason
    draft.used(field(output, "token_usage", "usage"))
    draft.usage = draft.usage or usage
    return True


def _read_message(draft: Draft, message: Message, answer: object) -> None:
    about, more = field(answer, "response_metadata"), field(answer, "additional_kwargs")
    message_id = text_of(field(answer, "id")) or ""
    # LangChain gives a message an id of its own if the model gave none.
    own = message_id.startswith(("run-", "run--", "lc_"))
    draft.head(
        field(about, "id") or (None if own else message_id), field(about, "model_name", "model", "model_id")
    )
    draft.provider = text_of(field(about, "model_provider", "ls_provider")) or draft.provider
    draft.attribute("openai.response.system_fingerprint", text_of(field(about, "system_fingerprint")))
    draft.attribute("openai.response.service_tier", text_of(field(about, "service_tier")))
    reason = text_of(field(about, "finish_reason", "stop_reason", "done_reason", "stopReason"))
    if reason:
        message.finish_reason = reason
    message.text("reasoning", field(more, "reasoning_content", "reasoning"), "reasoning")
    pieces, calls = (
        message.items(field(answer, "tool_call_chunks")),
        message.items(field(answer, "tool_calls")),
    )
    content = field(answer, "content")
    blocks = message.some_items(content)
    if blocks is None:
        add_content(message, content)
    else:
        for at, block in enumerate(blocks):
            if text_of(field(block, "type")) in _CALLS and (pieces or calls):
                continue  # again below, in LangChain's own form
            index = field(block, "index")
            add_block(message, block, ("content", index if type(index) in (int, str) else at))
    message.text("refusal", field(more, "refusal"), "refusal")
    for at, call in enumerate(pieces or calls):
        index = field(call, "index")
        add_tool_call(message, call, ("call", at if index is None else index))
    for at, call in enumerate(() if pieces else message.items(field(answer, "invalid_tool_calls"))):
        message.tool(("invalid", at), field(call, "id"), field(call, "name"), field(call, "args"))
