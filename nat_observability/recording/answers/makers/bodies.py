"""Answers of models as their servers send them: the bodies of Bedrock's InvokeModel, watsonx's, Hugging Face's."""

from __future__ import annotations

from typing import Any

import msgspec

from nat_observability.recording.answers.draft import Draft
from nat_observability.recording.answers.fields import (
    MAX_CHOICES,
    count_of,
    field,
    is_given,
    length_of,
    path,
    some_items,
    text_of,
)

METRICS = "amazon-bedrock-invocationMetrics"
_LONGEST_TEXT = 64 * 1024  # characters; what is decoded is decoded on the caller's thread
_LONGEST = 256 * 1024  # bytes
_COUNTS_BESIDE = ('TokenCount"', 'token_count"', 'generated_tokens"')
_COUNTS = ('"usage', 'eval_count"', *_COUNTS_BESIDE)
_HEADERS = {
    "inputTokens": "x-amzn-bedrock-input-token-count",
    "outputTokens": "x-amzn-bedrock-output-token-count",
    "cacheReadInputTokens": "x-amzn-bedrock-cache-read-input-token-count",
    "cacheWriteInputTokens": "x-amzn-bedrock-cache-write-input-token-count",
}


def decoded(answer: object) -> object:
    """Return the object that a body is the JSON of, bytes or text; or the answer as it was given."""
    kind: Any = type(answer)
    if kind is bytes or kind is bytearray or kind is str:
        body: Any = answer
        first = body[:1]
        if first in (b"{", b"[", "{", "[") and len(body) <= _LONGEST:
            try:
                return msgspec.json.decode(body)
            except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
                pass
    return answer


def is_told(text: str) -> bool:
    """Whether a text may be a server's body, and not JSON that a model was asked for: servers count tokens."""
    return text[:1] in ("{", "[") and len(text) <= _LONGEST_TEXT and any(map(text.__contains__, _COUNTS))


def is_counted(text: str) -> bool:
    """Whether a text has the counts of a body that has few other signs."""
    return any(map(text.__contains__, _COUNTS_BESIDE))


def unwrapped(event: object) -> object:
    """Return the body in an event of InvokeModelWithResponseStream, or the event as it was given."""
    if type(event) is not dict or len(event) > 2:
        return event
    held = field(event.get("chunk"), "bytes")
    return event if held is None else decoded(held)


def read(draft: Draft, answer: object) -> bool:
    """Read a body into the draft; False if it is none of these."""
    return _read_titan(draft, answer) or _read_one_text(draft, answer) or _read_list(draft, answer)


def read_event(draft: Draft, event: object) -> bool:
    """Read a piece of a streamed body into the draft; False if it is none of these."""
    if _MARKS.isdisjoint(event if type(event) is dict else ()):
        return False
    texts = [
        text for name in ("outputText", "generation", "completion") if (text := text_of(field(event, name)))
    ]
    metrics = field(event, METRICS)
    outputs = some_items(field(event, "outputs"), MAX_CHOICES) or ()
    if (
        not texts
        and not outputs
        and field(event, "outputText", "generation", "completion") is None
        and metrics is None
    ):
        return False
    draft.expects_finish = True
    draft.provider = draft.provider or "aws.bedrock"
    message = draft.message()
    for text in texts:
        message.text("text", text, "content")
    for at, output in enumerate(outputs):
        draft.message(at).text("text", field(output, "text"), "content")
        _end(draft, at, field(output, "stop_reason"))
    _end(draft, 0, field(event, "stop_reason", "completionReason"))
    # A later piece may leave out what an earlier one has counted.
    for what, names in (
        ("prompt", ("prompt_token_count", "inputTextTokenCount")),
        ("completion", ("generation_token_count", "totalOutputTextTokenCount")),
    ):
        if (count := field(event, *names)) is not None:
            draft.memory[what] = count
    _count(draft, draft.memory.get("prompt"), draft.memory.get("completion"))
    draft.used(metrics)
    return True


_MARKS = frozenset({"outputText", "generation", "completion", "outputs", METRICS})


def _end(draft: Draft, at: int, reason: object) -> None:
    text = text_of(reason)
    if text:
        draft.message(at).finish_reason = text


def _count(draft: Draft, prompt: object, completion: object) -> None:
    """Set the counts that stand among the other fields of a body, if there are any."""
    if prompt is not None or completion is not None:
        draft.used(
            {
                name: count
                for name, count in (("prompt_tokens", prompt), ("completion_tokens", completion))
                if count is not None
            }
        )


def _read_titan(draft: Draft, answer: object) -> bool:
    prompt = field(answer, "inputTextTokenCount")
    results = some_items(field(answer, "results"), MAX_CHOICES)
    if not results or text_of(field(results[0], "outputText")) is None:
        return False
    draft.provider = draft.provider or "aws.bedrock"
    completion = 0
    for at, result in enumerate(results):
        draft.message(at).text("text", field(result, "outputText"), "content")
        _end(draft, at, field(result, "completionReason"))
        completion += count_of(field(result, "tokenCount")) or 0
    _count(draft, prompt, completion)
    return True


def _read_one_text(draft: Draft, answer: object) -> bool:
    """Read a body with one text: Llama's, Claude's before there were messages, Hugging Face's."""
    reason = field(answer, "stop_reason", "finish_reason")
    details = field(answer, "details")
    if (text := text_of(field(answer, "generation"))) is not None and field(
        answer, "generation_token_count"
    ) is not None:
        draft.provider = draft.provider or "aws.bedrock"
        _count(draft, field(answer, "prompt_token_count"), field(answer, "generation_token_count"))
    elif (text := text_of(field(answer, "completion"))) is not None and reason is not None:
        draft.provider = draft.provider or "anthropic"
        draft.head(field(answer, "id"), field(answer, "model"))
    elif (text := text_of(field(answer, "generated_text"))) is not None:
        reason = field(details, "finish_reason")
        _count(draft, _prefilled(details), field(details, "generated_tokens"))
    else:
        return False
    draft.message().text("text", text, "content")
    _end(draft, 0, reason)
    return True


def _prefilled(details: object) -> int | None:
    """Return how many tokens a prompt had, of which Hugging Face's server lists each, if it is asked to."""
    prefill = field(details, "prefill")
    return length_of(prefill) or None


def _read_list(draft: Draft, answer: object) -> bool:
    """Read a body with a list of texts: watsonx's, Mistral's and AI21's on Bedrock, Vertex's predictions."""
    listed = some_items(answer, MAX_CHOICES)
    if listed is not None:
        if not listed or text_of(field(listed[0], "generated_text")) is None:
            return False
        for at, each in enumerate(listed):
            _add_text(draft, at, each, "generated_text")
        return True
    for name, text_name in _LISTS:
        found = some_items(field(answer, name), MAX_CHOICES)
        if not found or text_of(_inner(found[0], text_name)) is None:
            continue
        prompt = completion = None
        for at, each in enumerate(found):
            _add_text(draft, at, each, text_name)
            prompt = _sum(prompt, field(each, "input_token_count"))
            completion = _sum(completion, field(each, "generated_token_count"))
        if name == "results":
            draft.provider = draft.provider or "ibm.watsonx.ai"
        elif name in ("outputs", "completions") and draft.provider is None:
            draft.provider = "aws.bedrock"
        draft.head(field(answer, "id"), field(answer, "model_id", "model"))
        _count(draft, prompt, completion)
        used = path(answer, "metadata", "tokenMetadata")
        _count(
            draft,
            path(used, "inputTokenCount", "totalTokens"),
            path(used, "outputTokenCount", "totalTokens"),
        )
        return True
    return False


_LISTS = (
    ("results", "generated_text"),
    ("generations", "text"),
    ("outputs", "text"),
    ("completions", "text"),
    ("predictions", "content"),
)


def _inner(item: object, name: str) -> object:
    """Return the text of an item of such a list; AI21's has it one level deeper."""
    found = field(item, name)
    return path(item, "data", name) if found is None else found


def _add_text(draft: Draft, at: int, item: object, name: str) -> None:
    draft.message(at).text("text", _inner(item, name), "content")
    reason = field(item, "stop_reason", "finish_reason", "finishReason")
    _end(draft, at, reason if text_of(reason) is not None else field(reason, "reason"))


def _sum(first: int | None, second: object) -> int | None:
    count = count_of(second)
    return first if count is None else (first or 0) + count


def read_call(draft: Draft, answer: object) -> bool:
    """Read what Bedrock's client returns around a body that the application reads itself: the id and the usage."""
    about = field(answer, "ResponseMetadata")
    if about is None or type(answer) is not dict or not is_given(field(answer, "body")):
        return False
    headers = field(about, "HTTPHeaders")
    counts: dict[str, object] = {}
    for name, header in _HEADERS.items():
        text = text_of(field(headers, header))
        if text is not None and text.isdecimal() and len(text) < 20:
            counts[name] = int(text)
    draft.provider = draft.provider or "aws.bedrock"
    draft.head(field(about, "RequestId"), None)
    if counts:
        draft.used(counts)
    return True
