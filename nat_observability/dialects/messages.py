"""genai_payload(): an input or output in the GenAI conventions' own attributes: messages, arguments, queries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from nat_observability.dialects.message_parts import item_of, message_of
from nat_observability.events import Captured, Span, Status, StepKind

Side = Literal["input", "output"]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

SPOKEN: Final[Mapping[Side, Mapping[StepKind, str]]] = {
    "input": {
        **dict.fromkeys((StepKind.LLM, StepKind.AGENT, StepKind.WORKFLOW), "gen_ai.input.messages"),
        StepKind.TOOL: "gen_ai.tool.call.arguments",
        StepKind.RETRIEVER: "gen_ai.retrieval.query.text",
    },
    "output": {
        **dict.fromkeys((StepKind.LLM, StepKind.AGENT, StepKind.WORKFLOW), "gen_ai.output.messages"),
        StepKind.TOOL: "gen_ai.tool.call.result",
    },
}
"""The attributes of the conventions for inputs and outputs, by the kind of the step."""

_CONVERSING = frozenset({StepKind.LLM, StepKind.AGENT, StepKind.WORKFLOW})
_MOST_BYTES = 256 * 1024  # of JSON that is looked at; what is larger is one text
_BETWEEN = b',"parts":[{"type":"text","content":'
_BEFORE: dict[Side, bytes] = {
    "input": b'[{"role":"user"' + _BETWEEN,
    "output": b'[{"role":"assistant"' + _BETWEEN,
}
_INPUT_END = b"}]}"
# The conventions' schema requires a reason of each output message.
_FINISHED = {Status.OK: "stop", Status.ERROR: "error", Status.INCOMPLETE: "error"}
_ENDS = {status: b'}],"finish_reason":"%b"}' % word.encode() for status, word in _FINISHED.items()}

_decode_plain = msgspec.json.Decoder(list[dict[str, str]]).decode
_split = msgspec.json.Decoder(list[msgspec.Raw]).decode
_split_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

_HISTORY = 4  # objects one after the other; fewer are converted at once
_converted_before: dict[bytes, tuple[bytes, bool]] = {}
_MOST_REMEMBERED = 512
_LONGEST_REMEMBERED = 2048  # bytes of a message


# The conventions' own messages: with parts of known types, and nothing that only clients' messages have. Of what a part
# holds only what decides is read: a text is copied for each field.
class _Text(msgspec.Struct, tag="text", gc=False):
    text: UnsetType = UNSET


class _Reasoning(msgspec.Struct, tag="reasoning", gc=False):
    content: str


class _Call(msgspec.Struct, tag="tool_call", gc=False):
    pass


class _Response(msgspec.Struct, tag="tool_call_response", gc=False):
    pass


class _Blob(msgspec.Struct, tag="blob", gc=False):
    pass


class _Uri(msgspec.Struct, tag="uri", gc=False):
    pass


class _File(msgspec.Struct, tag="file", gc=False):
    modality: str


class _Input(msgspec.Struct, gc=False):
    role: str
    parts: list[_Text | _Reasoning | _Call | _Response | _Blob | _Uri | _File]
    content: UnsetType = UNSET
    tool_calls: UnsetType = UNSET
    function_call: UnsetType = UNSET
    tool_call_id: UnsetType = UNSET
    refusal: UnsetType = UNSET
    reasoning_content: UnsetType = UNSET


class _Output(_Input, gc=False, kw_only=True):
    finish_reason: str


_CONVENTIONAL = {
    "input": msgspec.json.Decoder(list[_Input]).decode,
    "output": msgspec.json.Decoder(list[_Output]).decode,
}


def genai_payload(span: Span, side: Side, value: Captured) -> bytes:
    """
    Return an input or output as the attribute in `SPOKEN` has it: messages, arguments and results are JSON as text.

    What is not messages already becomes the text of one.
    """
    if span.kind not in _CONVERSING:
        data = bytes(value) if isinstance(value, msgspec.Raw) else (value or "").encode()
        if not data.isascii():
            str(data, "utf-8")  # raises if it is not UTF-8
        return data
    end = _INPUT_END if side == "input" else _ENDS[span.status]
    if type(value) is str:
        return _BEFORE[side] + _encode(value) + end + b"]"
    data = bytes(value)  # type: ignore[arg-type]
    if (single := _single(data)) is not None:
        role, text = single
        if not data.isascii():
            str(data, "utf-8")
        return role + _BETWEEN + text[:-2] + end + b"]"
    if data[:1] in (b"[", b"{") and len(data) <= _MOST_BYTES:
        start = data[:64]
        if b'"parts":[{"type":' in start and _conventional(side, data):
            if not data.isascii():
                str(data, "utf-8")
            return data  # as a step records a model's answer
        # A list of objects in a message, or anything but a text at the end, is more than messages with a text each.
        plain = data.endswith(b'"}]') and b'":[{' not in start
        found = _plain(data, end) if plain else None
        found = found or _converted(span, side, data)
        if found is not None:
            return found
    return _BEFORE[side] + _encode(str(data, "utf-8")) + end + b"]"


def single_message(data: bytes) -> tuple[str, bytes] | None:
    """Return the role and the text of JSON that is one message with a text and no escapes; None if it is another."""
    single = _single(data)
    if single is None:
        return None
    role, text = single
    return role[10:-1].decode(), text[1:-3]


def _single(data: bytes) -> tuple[bytes, bytes] | None:
    """Return such JSON up to the role, and from the text on, with what is around them."""
    # Eight quotation marks are those of two names and two texts.
    if (
        data.count(b'"') == 8
        and data.startswith(b'[{"role":"')
        and data.endswith(b'"}]')
        and b"\\" not in data
    ):
        role, between, text = data.partition(b',"content":')
        if between and text[:1] == b'"':
            return role, text
    return None


def _conventional(side: Side, data: bytes) -> bool:
    try:
        return bool(_CONVENTIONAL[side](data))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


def _plain(data: bytes, end: bytes) -> bytes | None:
    """Return messages with a role and a text each, which most are; None if it is anything else."""
    try:
        messages = _decode_plain(data)
        if not messages or max(map(len, messages)) > 2:
            return None
        # Written by hand: objects for each message would keep the garbage collector busy.
        return (
            b"["
            + b",".join(
                [
                    b'{"role":' + _encode(each["role"]) + _BETWEEN + _encode(each["content"]) + end
                    for each in messages
                ]
            )
            + b"]"
        )
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError):
        return None


def _converted(span: Span, side: Side, data: bytes) -> bytes | None:
    """Return messages of another form; None if it is not messages."""
    try:
        if side == "input" and data.count(b"},{") >= _HISTORY:
            return _converted_history(data)
        messages = messages_of(_decode(data))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if messages is None:
        return None
    if side == "output":
        reason = _FINISHED[span.status]
        messages = [{"finish_reason": reason} | message for message in messages]
    return _encode(messages)


def _converted_history(data: bytes) -> bytes | None:
    """Return what `messages_of` makes of it, message by message, most of which are known from the call before."""
    beside: dict[str, msgspec.Raw] = {}
    if data[:1] == b"{":
        beside = _split_object(data)
        listed = beside.pop("messages", None)
        if listed is None or bytes(listed)[:1] != b"[":
            messages = messages_of(_decode(data))
            return None if messages is None else _encode(messages)
        data = bytes(listed)
    encoded: list[bytes] = []
    are_messages = False
    for item in _split(data):
        key = bytes(item)
        converted = _converted_before.get(key) or _converted_message(key)
        if converted is None:
            return None
        encoded.append(converted[0])
        are_messages = are_messages or converted[1]
    if not are_messages:
        return None
    if beside:
        first = _decode(encoded[0]) | {"beside_messages": _decode(_encode(beside))}
        encoded[0] = _encode(first)
    return b"[" + b",".join(encoded) + b"]"


def _converted_message(data: bytes) -> tuple[bytes, bool] | None:
    """Return a message of another form, and whether it is one by itself; None if it is not a message."""
    value = _decode(data)
    message = message_of(value)
    found = message or item_of(value)
    if found is None:
        return None
    converted = _encode(found), message is not None
    if len(data) <= _LONGEST_REMEMBERED:
        if len(_converted_before) >= _MOST_REMEMBERED:
            # Cheaper than counting uses: what recurs is back after one history.
            _converted_before.clear()
        _converted_before[data] = converted
    return converted


def messages_of(value: Any) -> list[dict[str, Any]] | None:
    """
    Return a message, a list of them, or a client's request or response that holds them, as the conventions' messages.

    None if it is none of these. What a request or response has beside them goes with the first message, as
    `beside_messages`.
    """
    for listed, beside in _listings(value):
        read = [message_of(each) for each in listed]
        if not any(read):
            continue
        # An item that is not known leaves the others of a history what they are.
        found = [m for each, known in zip(listed, read, strict=True) if (m := known or item_of(each))]
        if len(found) == len(listed):
            if beside:
                found[0]["beside_messages"] = beside
            return found
    return None


def listed_messages(value: Any) -> list[Any]:
    """Return the messages that a payload has, in their own form, with whatever is listed among them; or none."""
    if isinstance(value, list):
        return value
    for listed, _ in _listings(value):
        if any(message_of(each) for each in listed):
            return listed
    return []


def _listings(value: Any) -> Iterator[tuple[list[Any], dict[str, Any]]]:
    """Yield the lists in a payload that may be messages, and what is beside each."""
    if isinstance(value, list):
        yield value, {}
    elif isinstance(value, dict):
        # Before what a message may have itself, such as `input` or `message`.
        yield from _held("messages", _list, value)
        yield [value], {}
        for name, read in _LISTS.items():
            yield from _held(name, read, value)


def _held(
    name: str, read: Callable[[Any], list[Any]], value: dict[str, Any]
) -> Iterator[tuple[list[Any], dict[str, Any]]]:
    if name in value and (listed := read(value[name])):
        yield listed, {other: each for other, each in value.items() if other != name}


def _list(held: Any) -> list[Any]:
    return held if isinstance(held, list) else []


def _one(held: Any) -> list[Any]:
    return [held] if isinstance(held, dict) else []


def _output(held: Any) -> list[Any]:
    return _one(held.get("message")) if isinstance(held, dict) and len(held) == 1 else _list(held)


def _choices(inner: str) -> Callable[[Any], list[Any]]:
    def read(held: Any) -> list[Any]:
        # What a choice has beside its message, such as the reason of its end, is the message's.
        return [
            {name: each for name, each in choice.items() if name != inner} | choice[inner]
            if isinstance(choice, dict) and isinstance(choice.get(inner), dict)
            else choice
            for choice in _list(held)
        ]

    return read


# Where requests and responses have their messages, if not in `messages`: OpenAI's chats and Responses API, Google's,
# Bedrock's, Ollama's and Cohere's.
_LISTS: Mapping[str, Callable[[Any], list[Any]]] = {
    "input": _list,
    "contents": _list,
    "choices": _choices("message"),
    "candidates": _choices("content"),
    "output": _output,
    "message": _one,
}


def conventional(value: Any) -> Any:
    """Return messages that were recorded as an attribute in the conventions' form, as far as they are known."""
    if isinstance(value, str):
        # Of the conventions' own JSON there is nothing to convert.
        return value if value[:1] in ("[", "{") else [_said(value)]
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return [_said(*value)]
    return messages_of(value) or value


def _said(*texts: str) -> dict[str, Any]:
    return {"role": "user", "parts": [{"type": "text", "content": text} for text in texts]}


def conventional_documents(value: Any) -> Any:
    """Return documents with ids that are texts, as the conventions' schema wants them."""
    if not isinstance(value, list):
        return value
    return [
        each | {"id": str(each["id"])} if isinstance(each, dict) and type(each.get("id")) is int else each
        for each in value
    ]
