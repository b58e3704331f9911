"""read_answer() and AnswerJoiner: the answer of any maker's model, whole or streamed, as one `Answer`."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import msgspec

from nat_observability.foreign_errors import reraise_signal
from nat_observability.recording.answers.answer import Answer, provider_name, provider_of_module
from nat_observability.recording.answers.draft import Draft
from nat_observability.recording.answers.fields import field, module_of, text_of
from nat_observability.recording.answers.makers import (
    anthropic,
    bedrock,
    bodies,
    chat_completions,
    cohere,
    gemini,
    langchain,
    ollama,
    responses,
    vectors,
    wrappers,
)
from nat_observability.recording.answers.parts import add_tool_call

_Read = Callable[[Draft, object], bool]

# In this order: a shape that another one contains comes after it.
_WHOLE: tuple[_Read, ...] = (
    chat_completions.read,
    responses.read,
    langchain.read,
    anthropic.read,
    gemini.read,
    bedrock.read,
    ollama.read,
    cohere.read,
    bodies.read_call,
    wrappers.read,
    gemini.read_embeddings,
    cohere.read_embeddings,
    vectors.read_moderation,
    vectors.read_ranking,
    vectors.read_embeddings,
    vectors.read_images,
    bodies.read,
    wrappers.read_text,
)
# Those that know an answer by more than a text or a list in it.
_SIGNED: tuple[_Read, ...] = (
    chat_completions.read,
    responses.read,
    anthropic.read,
    gemini.read,
    bedrock.read,
    ollama.read,
    cohere.read,
)
_PIECES: tuple[_Read, ...] = (
    chat_completions.read,
    responses.read_event,
    anthropic.read_event,
    langchain.read,
    gemini.read,
    cohere.read_event,
    bedrock.read_event,
    ollama.read,
    bodies.read_event,
)


def read_answer(answer: object) -> Answer | None:
    """
    Return what a model's answer says, whichever maker's it is; None if it is not understood. Never raises.

    It is known by its shape: no client is imported, and none of its methods is called. What is read is bounded, as a
    capture is.
    """
    if module_of(answer) == "unittest.mock":
        return None  # it has every field of every maker
    answer = _of_json(answer)
    # What a framework wraps around an answer says less than the answer.
    held = _inner(answer)
    if held is None and (found := _usual(answer)) is not None:
        return found
    draft = None if held is None else _read(held)
    draft = draft or _read(answer)
    return None if draft is None else _answer(draft)


def _of_json(answer: object) -> object:
    """Return what a body is the JSON of; of a text only if that is an answer: models are asked for JSON too."""
    if type(answer) is not str:
        return bodies.decoded(answer)
    if not bodies.is_told(answer):
        return answer
    found = bodies.decoded(answer)
    among = (*_SIGNED, bodies.read) if bodies.is_counted(answer) else _SIGNED
    return answer if found is answer or _read(found, among) is None else found


def _read(answer: object, among: tuple[_Read, ...] = ()) -> Draft | None:
    draft = Draft()
    if type(answer) is str:
        return draft if wrappers.read_text(draft, answer) else None
    draft.provider = provider_of_module(module_of(answer))
    for read in among or _WHOLE:
        try:
            if read(draft, answer):
                break
        except BaseException as error:  # noqa: BLE001  foreign code: whatever the client's object does
            reraise_signal(error)
            draft = Draft()
    else:
        return None
    draft.provider = None if draft.provider is None else provider_name(draft.provider)
    return draft


def _answer(draft: Draft) -> Answer | None:
    try:
        return draft.answer()
    except BaseException as error:  # noqa: BLE001  foreign code: the parts may be the client's own objects
        reraise_signal(error)
        return None


def _usual(answer: object) -> Answer | None:
    try:
        return chat_completions.read_usual(answer)
    except BaseException as error:  # noqa: BLE001  foreign code
        reraise_signal(error)
        return None


def _inner(answer: object) -> object:
    try:
        return wrappers.inner(answer)
    except BaseException as error:  # noqa: BLE001  foreign code
        reraise_signal(error)
        return None


def read_tool_call(call: object) -> dict[str, Any]:
    """Return the id, the name and the arguments of a call of a tool that a model has asked for. Never raises."""
    draft = Draft()
    try:
        inner = field(call, "functionCall", "function_call")  # in a part of Gemini's
        call = call if inner is None else inner
        used = field(call, "toolUse")  # Bedrock's
        if used is not None:
            draft.message().tool(0, field(used, "toolUseId"), field(used, "name"), field(used, "input"))
        else:
            add_tool_call(draft.message(), call, 0)
    except BaseException as error:  # noqa: BLE001  foreign code
        reraise_signal(error)
    calls = draft.answer().tool_calls
    return calls[0] if calls else {}


class AnswerJoiner:
    """
    Joins the chunks or events of one model's stream into one answer.

    It knows the maker by the first chunk that it understands. What it keeps is bounded, however long the stream is.
    One thread at a time; it never raises.

    Attributes:
        understood: Chunks that were.
    """

    __slots__ = ("_draft", "_read", "understood")

    def __init__(self) -> None:
        self._draft = Draft(streamed=True)
        self._read: _Read | None = None
        self.understood = 0

    def add(self, chunk: object) -> str | None:
        """Take the next chunk; return the text that it adds, which may be empty; None if it is not understood."""
        self._draft.next_chunk()
        if (text := text_of(chunk)) is not None and self._read is None:
            self._draft.message().text("text", text)
            self.understood += 1
            return text
        if module_of(chunk).startswith("llama_index"):
            chunk = field(chunk, "raw") or chunk
        chunk = bodies.unwrapped(chunk)
        for read in _PIECES if self._read is None else (self._read,):
            try:
                if read(self._draft, chunk):
                    if self._read is None:
                        self._read = read
                        self._draft.provider = provider_of_module(module_of(chunk)) or self._draft.provider
                    self.understood += 1
                    return "".join(self._draft.delta)
            except BaseException as error:  # noqa: BLE001  foreign code: whatever the client's object does
                reraise_signal(error)
        return None

    def answer(self) -> Answer | None:
        """Return what the chunks so far say, None if none of them was understood."""
        if not self.understood:
            return None
        if self._draft.provider is not None:
            self._draft.provider = provider_name(self._draft.provider)
        return _answer(self._draft)


def read_output(output: object) -> Answer | None:
    """Return what an output says if it is a model's answer with a usage or an id; of most others by their type."""
    kind = type(output)
    try:
        if kind in _PLAIN or kind in _no_answers or (kind is dict and _SIGNS.isdisjoint(output)):  # type: ignore[arg-type]
            return None
        found = read_answer(output)
        if found is not None and (found.usage is not None or found.response_id is not None):
            return found
        _note_other(_no_answers, output)
    except BaseException as error:  # noqa: BLE001  foreign code: a metaclass of the application's
        reraise_signal(error)
    return None


def _note_other(others: weakref.WeakSet[type], value: object) -> None:
    kind = type(value)
    if (
        kind not in (dict, tuple)
        and provider_of_module(module_of(value)) is None
        and len(others) < _MAX_OTHERS
    ):
        others.add(kind)


_PLAIN = frozenset(
    {msgspec.Raw, str, bytes, bytearray, int, float, bool, complex, type(None), list, set, frozenset}
)
_MARKS = frozenset(
    {"candidates", "choices", "chunk", "data", "done", "event", "type", "usageMetadata", *bedrock.EVENTS}
)
# Fields of which an answer as a dict has at least one.
_SIGNS = frozenset(
    {"generations", "id", "kwargs", "meta", "prompt_eval_count", "raw", "responseId", "response_id", "usage"}
    | {"ResponseMetadata", "usageMetadata", "usage_metadata"}
    | {"generation_token_count", "inputTextTokenCount", "input_token_count", "model_id", "predictions"}
)
_no_chunks: weakref.WeakSet[type] = weakref.WeakSet()
_no_answers: weakref.WeakSet[type] = weakref.WeakSet()
_MAX_OTHERS = 10_000


def is_chunk(value: object) -> bool:
    """Return whether a value is a chunk or an event of a model's stream; of most others it knows so by their type."""
    kind = type(value)
    try:
        if kind in _PLAIN or text_of(value) is not None or (kind is dict and _MARKS.isdisjoint(value)):  # type: ignore[arg-type]
            return False
        if kind in _no_chunks:
            return False
        if AnswerJoiner().add(value) is not None:
            return True
        _note_other(_no_chunks, value)
    except BaseException as error:  # noqa: BLE001  foreign code: a metaclass of the application's
        reraise_signal(error)
    return False
