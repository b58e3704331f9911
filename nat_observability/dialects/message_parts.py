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
_ITEMS = {"function_call": "assistant", "function_call_output": "tool", "reasoning": "assistant"}
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
_PLACES = ("source", "image_url", "input_audio", "audio_url", "video_url")
_URLS = ("url", "uri", "file_uri", "fileUri", "file_url", "image_url")
_MIMES = ("mime_type", "media_type", "mimeType")
_DATA = ("data", "file_data", "bytes")


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
    rest = {name: each for name, each in value.items() if name not in _READ and each not in _NOTHING}
    if kind == "message":
        del rest["type"]
    return {"role": role, "parts": _parts(value)} | rest


def _parts(message: dict[str, Any]) -> list[Part]:
    listed = message.get("parts")
    if isinstance(listed, list):
        return [part_of(each) for each in listed]
    content, call_id = message.get("content"), message.get("tool_call_id")
    if isinstance(call_id, str):
        return [{"type": "tool_call_response", "id": call_id, "response": content}]
    parts: list[Part] = []
    if isinstance(reasoning := message.get("reasoning_content"), str) and reasoning:
        parts.append({"type": "reasoning", "content": reasoning})
    if isinstance(content, str):
        parts.append({"type": "text", "content": content})
    elif isinstance(content, list):
        parts += [part_of(each) for each in content]
    elif content is not None:
        parts.append(_as_text(content))
    if isinstance(refusal := message.get("refusal"), str) and refusal:
        parts.append({"type": "refusal", "content": refusal})
    calls = message.get("tool_calls")
    calls = calls if isinstance(calls, list) else []
    if isinstance(call := message.get("function_call"), dict):
        calls = [*calls, call]
    return parts + [_call(each) for each in calls if isinstance(each, dict)]


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
            return found
    return {"type": "unknown", "content": part}


def _typed(kind: str, part: Part) -> Part:
    if kind in _TEXTS:
        text = part.get("text")
        return _text(part, text) if isinstance(text, str) else part
    if kind in _MEDIA:
        return _medium(_MEDIA[kind], part) or part
    if kind == "thinking" or (kind == "reasoning" and not isinstance(part.get("content"), str)):
        return _reasoning(part)
    if kind in ("tool_use", "function_call"):
        return _call(part)
    if kind in ("tool_result", "function_call_output"):
        return _response(part)
    return part


def _as_text(content: Any) -> Part:
    try:
        return {"type": "text", "content": _encode(content).decode()}
    except (ValueError, OverflowError, RecursionError):  # a lone surrogate, an integer of more than 64 bits
        return {"type": "unknown", "content": content}


def _text(part: Part, text: str) -> Part:
    kind = "reasoning" if part.get("thought") is True else "text"
    return {"type": kind, "content": text} | _rest(part, "text")


def _reasoning(part: Part) -> Part:
    held = next((part[name] for name in ("thinking", "text", "summary", "content") if part.get(name)), "")
    pieces = held if isinstance(held, list) else [held]
    texts = [piece.get("text") if isinstance(piece, dict) else piece for piece in pieces]
    content = "\n".join(text for text in texts if isinstance(text, str))
    return {"type": "reasoning", "content": content} | _rest(part, "thinking", "text", "summary", "content")


def _bedrock_reasoning(held: Part) -> Part:
    text = held.get("reasoningText")
    return _reasoning(text if isinstance(text, dict) else held)


def _call(call: Part) -> Part:
    function = call.get("function")
    named = function if isinstance(function, dict) else call
    name = named.get("name")
    arguments = next((named[each] for each in ("arguments", "input", "args") if each in named), None)
    return {
        "type": "tool_call",
        "id": _first(call, ("call_id", "id", "toolUseId")),
        "name": name if isinstance(name, str) else "",
        "arguments": _arguments(arguments),
    }


def _response(part: Part) -> Part:
    answered = next(
        (part[name] for name in ("content", "output", "response") if part.get(name) is not None), None
    )
    call_id = _first(part, ("tool_use_id", "call_id", "toolUseId", "id", "name"))
    failed = {"is_error": True} if part.get("is_error") is True else {}
    return {"type": "tool_call_response", "id": call_id, "response": answered} | failed


def _medium(modality: str, part: Part, held: Any = None) -> Part | None:
    """Return an image, a sound or a document by its address, its id or its data; None if it has none of them."""
    if "modality" in part:
        return None  # the conventions' own
    places = (*_PLACES, part["type"]) if isinstance(part.get("type"), str) else _PLACES
    if held is None:
        held = next((part[name] for name in places if part.get(name) is not None), part)
    source = held if isinstance(held, dict) else part
    if isinstance(inner := source.get("source"), dict):
        source = inner
    where = held if isinstance(held, str) else _first(source, _URLS)
    data, file_id = _first(source, _DATA), _first(source, ("file_id",))
    mime = _first(source, _MIMES)
    if mime is None and modality == "audio" and isinstance(encoding := source.get("format"), str):
        mime = f"audio/{encoding}"
    if source.get("type") == "text" and data is not None:
        return {"type": "text", "content": data}
    if where is None and data is not None and data.startswith("data:"):
        where = data
    if where is not None and where.startswith("data:"):
        head, _, data = where.partition(",")
        where, mime = None, mime or head[5:].partition(";")[0]
    found: Part = {"modality": modality} | ({"mime_type": mime} if mime else {})
    if where is not None:
        return {"type": "uri", **found, "uri": where}
    if file_id is not None:
        return {"type": "file", **found, "file_id": file_id}
    return None if data is None else {"type": "blob", **found, "content": data}


def _by_mime(part: Part, held: Any) -> Part | None:
    if not isinstance(held, dict):
        return None
    kind = (_first(held, _MIMES) or "").partition("/")[0]
    return _medium(kind if kind in ("image", "audio", "video") else "document", part, held)


def _inside(read: Callable[[Part], Part]) -> Callable[[Part, Any], Part | None]:
    return lambda _, held: read(held) if isinstance(held, dict) else None


# Parts that are named by what they hold: Google's and Bedrock's.
_UNTYPED: Mapping[str, Callable[[Part, Any], Part | None]] = {
    "text": lambda part, held: _text(part, held) if isinstance(held, str) else None,
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
    """Return what a part has beside what was read; the conventions allow more."""
    return {name: each for name, each in part.items() if name not in ("type", *read) and each not in _NOTHING}


def _first(held: Part, names: tuple[str, ...]) -> str | None:
    return next((held[name] for name in names if isinstance(held.get(name), str)), None)


def _arguments(arguments: Any) -> Any:
    if isinstance(arguments, str) and arguments[:1] in ("{", "["):
        try:
            return _decode(arguments)
        except (msgspec.DecodeError, RecursionError):
            return arguments
    return arguments
