"""add_content(), add_tool_calls(): the blocks of a message's content, which most makers share, as its parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nat_observability.recording.answers.citations import add_citations
from nat_observability.recording.answers.draft import Message
from nat_observability.recording.answers.fields import field, first_of, is_given, reader, text_of, type_name

_TEXTS = frozenset({"text", "output_text", "input_text", "text_delta"})
_REASONING = frozenset({"thinking", "reasoning", "thinking_delta", "reasoning_content"})
_CALLS = frozenset({"tool_use", "tool_call", "tool-call", "function_call", "function", "input_json_delta"})
_SERVER_CALLS = frozenset({"server_tool_use", "mcp_tool_use", "server_tool_call"})
_MEDIA = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "audio": "audio",
    "input_audio": "audio",
    "audio_url": "audio",
    "video": "video",
    "document": "document",
    "file": "document",
}

_LONGEST_HEAD = 100  # characters of a data URL, in which its type stands


def add_content(message: Message, content: object, key: object = "content") -> None:
    """
    Add a message's content: a text, or a list of blocks.

    Args:
        key: What a stream's pieces of the same part share.
    """
    if (text := text_of(content)) is not None:
        message.text("text", text, key)
        return
    if not is_given(content):
        return
    blocks = message.some_items(content)
    if blocks is None:
        add_block(message, content, key)
        return
    for at, block in enumerate(blocks):
        index = field(block, "index")
        add_block(message, block, (key, index if type(index) in (int, str) else at))


def add_block(message: Message, block: object, key: object) -> None:
    """Add one block of a content, whose `type` says what it is."""
    if (text := text_of(block)) is not None:
        message.text("text", text, key)
        return
    kind = text_of(field(block, "type")) or ""
    if kind in _TEXTS or (not kind and text_of(field(block, "text")) is not None):
        message.text("text", field(block, "text"), key)
        cited = field(block, "citations", "annotations")
        if cited is not None:
            add_citations(message, cited, key)
    elif kind == "refusal":
        message.text("refusal", field(block, "refusal"), key)
    elif kind in _REASONING:
        _add_reasoning(message, block, key)
    elif kind == "redacted_thinking":
        part = message.part("reasoning", key)
        if part is not None:
            part.fields["redacted"] = True
    elif kind in _CALLS:
        add_tool_call(message, block, key)
    elif kind in _SERVER_CALLS:
        name = text_of(field(block, "name")) or ""
        call: dict[str, Any] = {"type": "server_tool_call", "id": text_of(field(block, "id")), "name": name}
        message.raw(call | {"server_tool_call": {"type": name, "input": field(block, "input", "args")}}, key)
    elif kind.endswith(("tool_result", "server_tool_result", "tool_call_response")):
        message.raw(
            {
                "type": "server_tool_call_response",
                "id": text_of(field(block, "tool_use_id", "tool_call_id", "id")),
                "server_tool_call_response": {
                    "type": kind,
                    "content": field(block, "content", "output", "result"),
                },
            },
            key,
        )
    elif kind in _MEDIA:
        add_media(message, _MEDIA[kind], block, key)
    elif type(block) is dict and kind:
        message.raw(dict(block), key)
    else:
        message.raw({"type": kind or type_name(block), "content": block}, key)


def _add_reasoning(message: Message, block: object, key: object) -> None:
    held = field(block, "thinking", "reasoning", "text", "content", "reasoning_content")
    pieces = (
        [held]
        if text_of(held) is not None
        else [*message.items(held), *message.items(field(block, "summary"))]
    )
    for at, piece in enumerate(pieces):
        text = text_of(piece) if text_of(piece) is not None else field(piece, "text")
        message.text("reasoning", text, key if len(pieces) == 1 else (key, at))


def add_media(message: Message, modality: str, block: object, key: object) -> None:
    """Add an image, a sound or a document: where it is, or how large. Its bytes are not recorded."""
    source = field(block, "source", "image_url", "input_audio", "audio", "file", "image")
    source = block if source is None else source
    where = text_of(source) or text_of(field(source, "url", "uri", "file_uri"))
    mime = text_of(field(source, "mime_type", "media_type", "mimeType")) or text_of(field(block, "mime_type"))
    if not mime and where and where[:5] == "data:":
        mime = where[5:_LONGEST_HEAD].partition(",")[0].partition(";")[0]
    part: dict[str, Any] = {"modality": modality}
    if mime:
        part["mime_type"] = mime
    if where and where[:5] != "data:":
        message.raw({"type": "uri", **part, "uri": where}, key)
    elif file_id := text_of(field(source, "file_id", "id")) if field(source, "data") is None else None:
        message.raw({"type": "file", **part, "file_id": file_id}, key)
    else:
        data = where or field(source, "data", "b64_json", "base64", "bytes")
        message.raw({"type": "blob", **part, "content": size_of(data)}, key)


def size_of(data: object) -> str:
    """Return how many bytes data has: bytes, or text in base64."""
    if isinstance(data, (bytes, bytearray, memoryview)):
        return f"<{len(data)} bytes>"
    text = text_of(data) or ""
    if text[:5] == "data:":
        text = text[text.find(",") + 1 :]
    return f"<{len(text) * 3 // 4 - text[-2:].count('=')} bytes>"


def add_tool_calls(message: Message, calls: object) -> None:
    """Add the calls of tools that a message has beside its content."""
    for at, call in enumerate(message.items(calls)):
        of_call = reader(call)
        index = of_call("index")
        _add_call(message, of_call, ("call", index if type(index) is int else at))


def add_tool_call(message: Message, call: object, key: object) -> None:
    """Add a call of a tool, or a piece of it: OpenAI's with a `function` in it, or one with its own name."""
    _add_call(message, reader(call), key)


def _add_call(message: Message, of_call: Callable[[str], Any], key: object) -> None:
    function = first_of(of_call, "function", "custom")
    of_function = of_call if function is None else reader(function)
    arguments = first_of(of_function, "arguments", "args", "input", "parameters", "partial_json")
    call_id = first_of(of_call, "call_id", "id", "tool_call_id", "tool_use_id")
    message.tool(key, call_id, first_of(of_function, "name", "tool_name"), arguments)
