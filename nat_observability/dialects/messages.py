"""genai_payload(): an input or output in the GenAI conventions' own attributes: messages, arguments, queries."""

from __future__ import annotations

from collections.abc import Mapping
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
    Return a message, a list of them or an object that has such a list as the conventions' messages, or None.

    What such an object has beside the list goes with the first message, as `beside_messages`.
    """
    beside: dict[str, Any] = {}
    if isinstance(value, dict):
        if isinstance(listed := value.get("messages"), list):
            beside = {name: each for name, each in value.items() if name != "messages"}
            value = listed
        else:
            value = [value]
    if not isinstance(value, list) or not value:
        return None
    read = [message_of(each) for each in value]
    if not any(read):
        return None
    # An item that is not known leaves the others of a history what they are.
    found = [message for each, known in zip(value, read, strict=True) if (message := known or item_of(each))]
    if len(found) < len(value):
        return None
    if beside:
        found[0]["beside_messages"] = beside
    return found


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
