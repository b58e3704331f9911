"""message_of(): a message of a model's client in the form of the GenAI conventions: a role and parts."""

# docs/gen-ai/gen-ai-input-messages.json of the conventions. Clients' forms: OpenAI's chats and Responses API,
# Anthropic's messages, Google's contents, Bedrock's Converse.

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

Part = dict[str, Any]

# Items of a list of messages that have a type in place of a role: who says it.
_ITEMS = {
    "custom_tool_call": "assistant",
    "custom_tool_call_output": "tool",
    "function_call": "assistant",
    "function_call_output": "tool",
    "reasoning": "assistant",
}
_BODIES = ("parts", "content", "tool_calls", "function_call", "tool_call_id", "refusal", "reasoning_content")
_READ = frozenset({"role", *_BODIES})
_NOTHING: tuple[Any, ...] = (None, "", [], {})
_TEXTS = frozenset({"text", "input_text", "output_text", "summary_text"})
_MEDIA = {
    "audio": "audio",
    "audio_url": "audio",
    "document": "document",
    "file": "document",
    "image": "image",
    "image_url": "image",
    "input_audio": "audio",
    "input_file": "document",
    "input_image": "image",
    "video": "video",
    "video_url": "video",
}
_INNER = ("source", "s3Location")
_PLACES = ("source", "image_url", "input_audio", "audio_url", "video_url")
_URLS = ("url", "uri", "file_uri", "fileUri", "file_url", "image_url")
_MIMES = ("mime_type", "media_type", "mimeType")
_DATA = ("data", "file_data", "bytes")
# MIME types of formats that are not their modality and their name.
_FORMATS = {
    "csv": "text/csv",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "flv": "video/x-flv",
    "html": "text/html",
    "jpg": "image/jpeg",
    "md": "text/markdown",
    "mkv": "video/x-matroska",
    "mov": "video/quicktime",
    "mpg": "video/mpeg",
    "pdf": "application/pdf",
    "three_gp": "video/3gpp",
    "txt": "text/plain",
    "wmv": "video/x-ms-wmv",
    "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


def message_of(value: Any) -> dict[str, Any] | None:
    """Return a message with its role and its parts, and what else it has; None if it is not a message."""
    if not isinstance(value, dict):
        return None
    role, kind = value.get("role"), value.get("type")
    if not isinstance(role, str):
        said_by = _ITEMS.get(kind) if isinstance(kind, str) else None
        return None if said_by is None else {"role": said_by, "parts": [part_of(value)]}
    # A role alone is any application's word.
    if not any(name in value for name in _BODIES):
        return None
    odd: Part = {}
    message = {"role": role, "parts": _parts(value, odd)}
    if not value.keys() <= _READ:
        message |= {
            name: each
            for name, each in value.items()
            if name not in _READ and each not in _NOTHING and (name != "type" or each != "message")
        }
    return _with(message, odd) if odd else message


def item_of(value: Any) -> dict[str, Any] | None:
    """Return an item of a history that only its type names as a message with that part; None if it has no type."""
    if not isinstance(value, dict) or not isinstance(kind := value.get("type"), str):
        return None
    role = value.get("role")
    if not isinstance(role, str):
        role = "tool" if kind.endswith("_output") else "assistant"
    return {"role": role, "parts": [part_of(value)]}


def _parts(message: dict[str, Any], odd: Part) -> list[Part]:
    """Return the parts of a message; what has one of their names and cannot be one goes to `odd`."""
    listed = message.get("parts")
    if listed is None:
        return _body(message, odd)
    parts = [part_of(each) for each in (listed if isinstance(listed, list) else [listed])]
    # A message that has both forms has often the same twice.
    return parts + [each for each in _body(message, odd) if each not in parts]


def _body(message: dict[str, Any], odd: Part) -> list[Part]:
    parts: list[Part] = []
    if reasoning := message.get("reasoning_content"):
        if isinstance(reasoning, str):
            parts.append({"type": "reasoning", "content": reasoning})
        else:
            odd["reasoning_content"] = reasoning
    content = message.get("content")
    if (call_id := message.get("tool_call_id")) is not None and type(call_id) not in (str, int):
        odd["tool_call_id"], call_id = call_id, None
    if call_id is not None:
        answer = {"type": "tool_call_response", "id": str(call_id), "response": content}
        parts.append(answer | _failure(message))
    elif isinstance(content, str):
        parts.append({"type": "text", "content": content})
    elif isinstance(content, list):
        parts += [part_of(each) for each in content]
    elif content is not None:
        parts.append(_as_text(content))
    if refusal := message.get("refusal"):
        if isinstance(refusal, str):
            parts.append({"type": "refusal", "content": refusal})
        else:
            odd["refusal"] = refusal
    for name in ("tool_calls", "function_call"):
        if calls := message.get(name):
            parts += [_called(each) for each in (calls if isinstance(calls, list) else [calls])]
    return parts


def _called(call: Any) -> Part:
    if not isinstance(call, dict):
        return {"type": "unknown", "content": call}
    return _call(call) if "function" in call or "name" in call or "custom" in call else part_of(call)


def part_of(part: Any) -> Part:
    """Return a part of a message's content as one of the conventions; what is not known keeps its own form."""
    if isinstance(part, str):
        return {"type": "text", "content": part}
    if not isinstance(part, dict):
        return {"type": "unknown", "content": part}
    kind = part.get("type")
    if isinstance(kind, str):
        return _typed(kind, part)
    for name, read in _UNTYPED.items():
        if name in part and (found := read(part, part[name])) is not None:
            return _with(found, _rest(part, name))
    return {"type": "unknown", "content": part}


def _typed(kind: str, part: Part) -> Part:
    if kind in _TEXTS:
        text = part.get("text")
        return _text(part, text) if isinstance(text, str) else part
    if kind in _MEDIA:
        return _medium(_MEDIA[kind], part) or part
    if kind == "thinking" or (kind == "reasoning" and not isinstance(part.get("content"), str)):
        return _reasoning(part)
    if kind in ("tool_use", "function_call", "custom_tool_call"):
        return _call(part)
    if kind in ("tool_result", "function_call_output", "custom_tool_call_output"):
        return _response(part)
    return part


def _as_text(content: Any) -> Part:
    try:
        return {"type": "text", "content": _encode(content).decode()}
    except (ValueError, OverflowError, RecursionError):  # a lone surrogate, an integer of more than 64 bits
        return {"type": "unknown", "content": content}


def _text(part: Part, text: str) -> Part:
    kind = "reasoning" if part.get("thought") is True else "text"
    return _with({"type": kind, "content": text}, _rest(part, "text"))


def _reasoning(part: Part) -> Part:
    name = next((name for name in ("thinking", "text", "content", "summary") if part.get(name)), "")
    held = part.get(name, "")
    pieces = held if isinstance(held, list) else [held]
    texts = [piece.get("text") if isinstance(piece, dict) else piece for piece in pieces]
    content = "\n".join(text for text in texts if isinstance(text, str))
    whole = all(
        isinstance(text, str) and (isinstance(piece, str) or piece.keys() <= {"type", "text"})
        for text, piece in zip(texts, pieces, strict=True)
    )
    return _with({"type": "reasoning", "content": content}, _rest(part, name if whole else ""))


def _bedrock_reasoning(held: Part) -> Part:
    text = held.get("reasoningText")
    return (
        _with(_reasoning(text), _rest(held, "reasoningText")) if isinstance(text, dict) else _reasoning(held)
    )


def _call(call: Part) -> Part:
    inner = "function" if isinstance(call.get("function"), dict) else "custom"
    named = call.get(inner)
    if not isinstance(named, dict):
        inner, named = "", call
    name = named.get("name")
    arguments = next((each for each in ("arguments", "input", "args") if each in named), "")
    id_name, call_id = _id(call, ("call_id", "id", "toolUseId"))
    found = {
        "type": "tool_call",
        "id": call_id,
        "name": name if isinstance(name, str) else "",
        "arguments": _arguments(named.get(arguments)),
    }
    read = ("name" if isinstance(name, str) else "", arguments)
    if not inner:
        return _with(found, _rest(call, *read, id_name))
    if len(named) == 2 and len(call) == 3 and arguments and found["name"] and id_name and "type" in call:
        return found  # as nearly all are
    return _with(found, _rest(named, *read), _rest(call, inner, id_name))


def _response(part: Part) -> Part:
    answered = next((name for name in ("content", "output", "response") if part.get(name) is not None), "")
    id_name, call_id = _id(part, ("tool_use_id", "call_id", "toolUseId", "id", "name"))
    found = {"type": "tool_call_response", "id": call_id, "response": part.get(answered)}
    return _with(found, _failure(part), _rest(part, answered, id_name))


def _failure(answer: Part) -> Part:
    failed = answer.get("is_error") is True or answer.get("status") in ("error", "failed")
    return {"is_error": True} if failed else {}


def _medium(modality: str, part: Part, held: Any = None) -> Part | None:
    """Return an image, a sound or a document by its address, its id or its data; None if it has none of them."""
    if "modality" in part:
        return None  # the conventions' own
    # What was read of each of the objects that are one in another.
    layers: list[tuple[Part, list[str]]] = []
    if held is None:
        places = (*_PLACES, part["type"]) if isinstance(part.get("type"), str) else _PLACES
        place = next((name for name in places if isinstance(part.get(name), (str, dict))), "")
        held = part.get(place, part)
        if held is not part:
            layers.append((part, [place]))
    if isinstance(held, dict):
        layers.append((held, []))
        while inner := next((name for name in _INNER if isinstance(layers[-1][0].get(name), dict)), None):
            layers[-1][1].append(inner)
            layers.append((layers[-1][0][inner], []))
    found = _placed(modality, held if isinstance(held, str) else None, layers)
    return None if found is None else _with(found, *(_rest(layer, *read) for layer, read in layers))


def _placed(modality: str, where: str | None, layers: list[tuple[Part, list[str]]]) -> Part | None:
    source, read = layers[-1] if layers else ({}, [])
    name = ""
    if where is None:
        name, where = _first(source, _URLS)
    data_name, data = _first(source, _DATA)
    if source.get("type") == "text" and data is not None:
        read.append(data_name)
        return {"type": "text", "content": data}
    if where is None and data is not None and data.startswith("data:"):
        name, where = data_name, data
    file_name, file_id = _first(source, ("file_id",))
    mime = _mime(modality, layers)
    found: Part = {"modality": modality} | ({"mime_type": mime} if mime else {})
    if where is not None:
        read.append(name)
        head, comma, content = where.partition(",")
        if not head.startswith("data:") or not comma or not head.endswith(";base64"):
            return {"type": "uri", **found, "uri": where}
        own = head[5:-7]
        found = {"type": "blob", "modality": modality} | ({"mime_type": mime or own} if mime or own else {})
        return _with(found | {"content": content}, {"mime_type": own} if own else {})
    if file_id is not None:
        read.append(file_name)
        return {"type": "file", **found, "file_id": file_id}
    read.append(data_name)
    return None if data is None else {"type": "blob", **found, "content": data}


def _mime(modality: str, layers: list[tuple[Part, list[str]]]) -> str | None:
    for layer, read in reversed(layers):
        name, mime = _first(layer, _MIMES)
        if mime:
            read.append(name)
            return mime
    for layer, read in reversed(layers):
        encoding = layer.get("format")
        if isinstance(encoding, str) and encoding:
            known = encoding if "/" in encoding else _FORMATS.get(encoding)
            if known is None and modality != "document":
                known = f"{modality}/{encoding}"
            if known is not None:
                read.append("format")
            return known
    return None


def _by_mime(part: Part, held: Any) -> Part | None:
    if not isinstance(held, dict):
        return None
    kind = (_first(held, _MIMES)[1] or "").partition("/")[0]
    return _medium(kind if kind in ("image", "audio", "video") else "document", part, held)


def _inside(read: Callable[[Part], Part]) -> Callable[[Part, Any], Part | None]:
    return lambda _, held: read(held) if isinstance(held, dict) else None


# Parts that are named by what they hold: Google's and Bedrock's.
_UNTYPED: Mapping[str, Callable[[Part, Any], Part | None]] = {
    "text": lambda part, held: (
        _text({"thought": part.get("thought")}, held) if isinstance(held, str) else None
    ),
    "function_call": _inside(_call),
    "functionCall": _inside(_call),
    "toolUse": _inside(_call),
    "function_response": _inside(_response),
    "functionResponse": _inside(_response),
    "toolResult": _inside(_response),
    "inline_data": _by_mime,
    "inlineData": _by_mime,
    "file_data": _by_mime,
    "fileData": _by_mime,
    "image": lambda part, held: _medium("image", part, held),
    "document": lambda part, held: _medium("document", part, held),
    "video": lambda part, held: _medium("video", part, held),
    "reasoningContent": _inside(_bedrock_reasoning),
}


def _rest(part: Part, *read: str) -> Part:
    """Return what a part has beside what was read; the conventions allow more. `read` are names in it, or empty."""
    if len(part) - ("type" in part) == len(read) and "" not in read:
        return {}  # the names that were read are all there are
    return {
        name: part[name]
        for name in part
        if name not in read and name != "type" and part[name] not in _NOTHING
    }


def _with(found: Part, *rests: Part) -> Part:
    """Add what else there is to a part; what has the name of something else in it goes under `beside`."""
    clashes: list[Part] = []
    for rest in rests:
        if rest:
            clash = {name: each for name, each in rest.items() if name in found and found[name] != each}
            if clash:
                clashes.append(clash)
            found = found | {name: each for name, each in rest.items() if name not in found}
    if clashes:
        beside = [*clashes, found["beside"]] if "beside" in found else clashes
        found["beside"] = beside if len(beside) > 1 else beside[0]
    return found


def _first(held: Part, names: tuple[str, ...]) -> tuple[str, str | None]:
    """Return the first of these names that has a text, and the text."""
    for name in names:
        if name in held and isinstance(found := held[name], str):
            return name, found
    return "", None


def _id(held: Part, names: tuple[str, ...]) -> tuple[str, str | None]:
    """Return the first of these names that has an id, and the id as a text."""
    for name in names:
        if name in held and type(found := held[name]) in (str, int):
            return name, str(found)
    return "", None


def _arguments(arguments: Any) -> Any:
    if isinstance(arguments, str) and arguments[:1] in ("{", "["):
        try:
            return _decode(arguments)
        except (msgspec.DecodeError, RecursionError):
            return arguments
    return arguments
