"""Google's Gemini, from any of its clients or as plain JSON; a chunk of a stream is an answer."""

from __future__ import annotations

from typing import Any

from nat_observability.recording.answers.citations import add_grounding
from nat_observability.recording.answers.draft import Draft, Message
from nat_observability.recording.answers.fields import (
    MAX_CHOICES,
    count_of,
    field,
    length_of,
    path,
    some_items,
    text_of,
)
from nat_observability.recording.answers.parts import size_of


def read(draft: Draft, answer: object) -> bool:
    """Read an answer, or one chunk of a stream, into the draft; False if it is neither."""
    candidates = some_items(field(answer, "candidates"), MAX_CHOICES)
    feedback = field(answer, "prompt_feedback", "promptFeedback")
    usage = field(answer, "usage_metadata", "usageMetadata")
    if candidates is None:
        # A prompt that was blocked has none; nor has the last chunk, which has the usage.
        blocked = text_of(field(feedback, "block_reason", "blockReason"))
        is_known = text_of(field(answer, "model_version", "modelVersion")) is not None
        if blocked is None and not is_known:
            return False
    draft.expects_finish = draft.streamed
    draft.head(field(answer, "response_id", "responseId"), field(answer, "model_version", "modelVersion"))
    draft.provider = draft.provider or "gcp.gen_ai"
    draft.used(usage)
    for at, candidate in enumerate(candidates or ()):
        index = field(candidate, "index")
        message = draft.message(index if type(index) is int else at)
        reason = text_of(field(candidate, "finish_reason", "finishReason"))
        if reason and reason != "FINISH_REASON_UNSPECIFIED":
            message.finish_reason = reason
        for part in message.items(path(candidate, "content", "parts")):
            _read_part(message, part, None if draft.streamed else object())
        add_grounding(draft, message, candidate)
    reason = text_of(field(feedback, "block_reason", "blockReason"))
    if reason and not candidates:
        message = draft.message()
        message.finish_reason = message.finish_reason or reason
        message.text(
            "refusal", text_of(field(feedback, "block_reason_message", "blockReasonMessage")) or reason
        )
    return True


def _read_part(message: Message, part: object, key: object) -> None:
    call = field(part, "function_call", "functionCall")
    data = field(part, "inline_data", "inlineData")
    file = field(part, "file_data", "fileData")
    if call is not None and text_of(field(call, "name")):
        message.tool(object(), field(call, "id"), field(call, "name"), field(call, "args"))
    elif data is not None and field(data, "data") is not None:
        blob = {"type": "blob", **_kind(data), "content": size_of(field(data, "data"))}
        message.raw(blob)
    elif file is not None and field(file, "file_uri", "fileUri"):
        message.raw({"type": "uri", **_kind(file), "uri": text_of(field(file, "file_uri", "fileUri"))})
    elif (code := field(part, "executable_code", "executableCode")) is not None and field(code, "code"):
        run = {
            "type": "code_execution",
            "language": text_of(field(code, "language")),
            "code": field(code, "code"),
        }
        message.raw({"type": "server_tool_call", "name": "code_execution", "server_tool_call": run})
    elif (result := field(part, "code_execution_result", "codeExecutionResult")) is not None and (
        text_of(field(result, "outcome"))
    ):
        ran = {
            "type": "code_execution",
            "outcome": text_of(field(result, "outcome")),
            "output": field(result, "output"),
        }
        message.raw({"type": "server_tool_call_response", "server_tool_call_response": ran})
    elif (text := text_of(field(part, "text"))) is not None:
        message.text("reasoning" if field(part, "thought") is True else "text", text, key)


def _kind(data: object) -> dict[str, Any]:
    mime = text_of(field(data, "mime_type", "mimeType")) or ""
    modality = mime.partition("/")[0]
    known = modality if modality in ("image", "audio", "video") else "document"
    return {"modality": known} | ({"mime_type": mime} if mime else {})


def read_embeddings(draft: Draft, answer: object) -> bool:
    """Read embeddings into the draft; False if these are none."""
    found = some_items(field(answer, "embeddings"))
    first: Any = found[0] if found else field(answer, "embedding")
    values = some_items(field(first, "values"), 1)
    if values is None:
        return False
    draft.provider = draft.provider or "gcp.gen_ai"
    count = length_of(field(answer, "embeddings")) if found else 1
    draft.vectors(count, length_of(field(first, "values")))
    draft.used(field(answer, "usage_metadata", "usageMetadata"))
    counts = [count_of(field(path(each, "statistics"), "token_count", "tokenCount")) for each in found or ()]
    if draft.usage is None and any(counts):
        draft.used({"total_tokens": sum(filter(None, counts))}, only_input=True)
    return True
