"""genai_payload(): an input or output in the GenAI conventions' own attributes: messages, arguments, queries."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from nat_observability.events import Captured, Span, Status, StepKind

Side = Literal["input", "output"]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

_CONVERSING = frozenset({StepKind.LLM, StepKind.AGENT, StepKind.WORKFLOW})
_MOST_BYTES = 256 * 1024  # of JSON that is looked at; what is larger is one text
_ROLE = {"input": "user", "output": "assistant"}


def genai_payload(span: Span, side: Side, value: Captured) -> tuple[str, str] | None:
    """
    Return the attribute for an input or output, and its value; None if the conventions have none for it.

    The conventions' messages, arguments and results are JSON as text, which every back end reads. What is not messages
    already becomes the text of one.
    """
    kind = span.kind
    if kind in _CONVERSING:
        return f"gen_ai.{side}.messages", _messages(span, side, value)
    if kind is StepKind.TOOL:
        return f"gen_ai.tool.call.{'arguments' if side == 'input' else 'result'}", _as_text(value)
    if kind is StepKind.RETRIEVER and side == "input" and isinstance(value, str):
        return "gen_ai.retrieval.query.text", value
    return None


def _messages(span: Span, side: Side, value: Captured) -> str:
    text = _as_text(value)
    if not isinstance(value, str) and text[:1] in ("[", "{") and len(text) <= _MOST_BYTES:
        if text.startswith('[{"role":') and '"parts":[' in text and '"content":"' not in text[:24]:
            return text  # the conventions' messages, as a step records a model's answer
        try:
            found = _decode(text)
        except (msgspec.DecodeError, RecursionError):
            found = None
        if isinstance(found, dict):
            found = found["messages"] if isinstance(found.get("messages"), list) else [found]
        if isinstance(found, list) and found and all(map(_is_message, found)):
            return _encode([_message(span, side, each) for each in found]).decode()
    single: dict[str, Any] = {"role": _ROLE[side], "parts": [{"type": "text", "content": text}]}
    return _encode([_finished(span, single) if side == "output" else single]).decode()


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str)


def _message(span: Span, side: Side, message: dict[str, Any]) -> dict[str, Any]:
    parts = message.get("parts")
    if not isinstance(parts, list):
        parts = _parts(message)
    found: dict[str, Any] = {"role": message["role"], "parts": parts}
    if isinstance(name := message.get("name"), str):
        found["name"] = name
    if isinstance(reason := message.get("finish_reason"), str):
        found["finish_reason"] = reason
    return _finished(span, found) if side == "output" else found


def _finished(span: Span, message: dict[str, Any]) -> dict[str, Any]:
    # The conventions' schema requires it of an output.
    return {"finish_reason": "stop" if span.status is Status.OK else "error"} | message


def _parts(message: dict[str, Any]) -> list[Any]:
    content, call_id = message.get("content"), message.get("tool_call_id")
    if isinstance(call_id, str):
        return [{"type": "tool_call_response", "id": call_id, "response": content}]
    parts: list[Any] = []
    if isinstance(content, str):
        parts.append({"type": "text", "content": content})
    elif isinstance(content, list):
        parts += [_part(each) for each in content]
    elif content is not None:
        parts.append({"type": "text", "content": _encode(content).decode()})
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        if isinstance(call, dict):
            function = call.get("function")
            named = function if isinstance(function, dict) else call
            parts.append(
                {
                    "type": "tool_call",
                    "id": call.get("id"),
                    "name": named.get("name") if isinstance(named.get("name"), str) else "",
                    "arguments": _arguments(named.get("arguments")),
                }
            )
    return parts


def _part(part: Any) -> Any:
    if isinstance(part, str):
        return {"type": "text", "content": part}
    if isinstance(part, dict):
        if isinstance(text := part.get("text"), str) and part.get("type", "text") in _TEXTS:
            return {"type": "text", "content": text}
        return part if isinstance(part.get("type"), str) else {"type": "unknown", "content": part}
    return {"type": "unknown", "content": part}


_TEXTS = frozenset({"text", "input_text", "output_text"})


def _arguments(arguments: Any) -> Any:
    if isinstance(arguments, str) and arguments[:1] in ("{", "["):
        try:
            return _decode(arguments)
        except (msgspec.DecodeError, RecursionError):
            return arguments
    return arguments


def _as_text(value: Captured) -> str:
    return str(bytes(value), "utf-8") if isinstance(value, msgspec.Raw) else value or ""
