"""Parts of answers: media by where they are or how large, reasoning, and how the Responses API says that it ended."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from nat_observability import step
from nat_observability.testing import recorded_run

IMAGE = base64.b64encode(b"x" * 100).decode()
BLOB = {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "<100 bytes>"}
URI = {"type": "uri", "modality": "image", "uri": "https://maker.example/a.png"}
TEXT = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "part"}]}


def chat(*content: object) -> dict[str, Any]:
    """Return a chat completion with this content."""
    message = {"role": "assistant", "content": list(content)}
    return {
        "object": "chat.completion",
        "model": "m",
        "choices": [{"message": message, "finish_reason": "stop"}],
    }


def message(*content: object) -> dict[str, Any]:
    """Return a message of Anthropic's with this content."""
    head = {"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"}
    return {**head, "content": list(content), "usage": {"input_tokens": 1, "output_tokens": 2}}


def generated(*parts: object) -> dict[str, Any]:
    """Return an answer of Google's with these parts."""
    content = {"role": "model", "parts": list(parts)}
    return {"candidates": [{"content": content, "finishReason": "STOP"}], "modelVersion": "m"}


def response(*output: object, **more: object) -> dict[str, Any]:
    """Return an answer of OpenAI's Responses API."""
    return {
        "id": "r",
        "object": "response",
        "model": "m",
        "status": "completed",
        "output": list(output),
        **more,
    }


async def answered(answer: object) -> dict[str, Any]:
    """Return the message that is recorded of an answer."""
    async with recorded_run() as run:
        with step("llm", "m") as call:
            call.response(answer)
    [node] = run.tree
    assert isinstance(node.output, list)
    [recorded] = node.output
    assert isinstance(recorded, dict)
    return recorded


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        (
            message(
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": IMAGE}}
            ),
            BLOB,
        ),
        (message({"type": "image", "source": {"type": "url", "url": URI["uri"]}}), URI),
        (
            message({"type": "document", "source": {"type": "file", "file_id": "file_1"}}),
            {"type": "file", "modality": "document", "file_id": "file_1"},
        ),
        (chat({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{IMAGE}"}}), BLOB),
        (chat({"type": "image_url", "image_url": {"url": URI["uri"]}}), URI),
        (generated({"inlineData": {"mimeType": "image/png", "data": IMAGE}}), BLOB),
        (
            generated({"fileData": {"mimeType": "image/png", "fileUri": "gs://bucket/a"}}),
            {"type": "uri", "modality": "image", "mime_type": "image/png", "uri": "gs://bucket/a"},
        ),
        (
            response({"type": "image_generation_call", "id": "i", "result": IMAGE}),
            {"type": "blob", "modality": "image", "content": "<100 bytes>"},
        ),
        (message({"type": "novel_block", "a": 1}), {"type": "novel_block", "a": 1}),
    ],
)
async def test_media_are_recorded_without_their_bytes(answer: object, part: dict[str, object]) -> None:
    """By their place or size, with their kind; a block that nobody knows as it is."""
    assert (await answered(answer))["parts"] == [part]


async def test_reasoning_is_kept_apart() -> None:
    """What a maker hides of it is there, without text."""
    answer = message({"type": "thinking", "thinking": "hm"}, {"type": "redacted_thinking", "data": "xx"})
    assert (await answered(answer))["parts"] == [
        {"type": "reasoning", "content": "hm"},
        {"type": "reasoning", "content": "", "redacted": True},
    ]


@pytest.mark.parametrize(
    ("more", "reason", "parts"),
    [
        ({}, "stop", []),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length", []),
        ({"status": "cancelled"}, "error", []),
        (
            {"status": "failed", "error": {"code": "server_error", "message": "It broke."}},
            "error",
            [{"type": "error", "code": "server_error", "message": "It broke."}],
        ),
    ],
)
async def test_a_status_is_a_finish_reason(
    more: dict[str, Any], reason: str, parts: list[dict[str, Any]]
) -> None:
    """The Responses API has no other, and says in it why it failed."""
    recorded = await answered(response(TEXT, **more))
    assert recorded["finish_reason"] == reason
    assert recorded["parts"] == [{"type": "text", "content": "part"}, *parts]
