"""Servers for the programs that compare bridged spans: models, a cache, and the receiver of spans."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import StreamRequestHandler
from typing import Any

from tests.integrations.otlp_comparison import Seen, of_otlp

TOOL = {"type": "function", "function": {"name": "brew", "parameters": {"type": "object", "properties": {}}}}
ASKED: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which tea? \u00fc"}]


class Server(BaseHTTPRequestHandler):
    """Models of several makers, and the receiver of spans."""

    protocol_version = "HTTP/1.1"
    received: dict[str, list[bytes]] = {}  # noqa: RUF012

    def do_GET(self) -> None:
        self._send(404 if "missing" in self.path else 200, b"{}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path.endswith("/v1/traces"):
            self.received.setdefault(self.path.split("/")[1], []).append(body)
            self._send(200, b"", "application/x-protobuf")
            return
        asked = json.loads(body)
        answer = _answer(self.path, asked)
        status = 404 if asked.get("model") == "broken" else 200
        if status == 404:
            answer = {"type": "error", "error": {"type": "not_found_error", "message": "no such model"}}
        self._send(status, json.dumps(answer).encode())

    def _send(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing."""


def _answer(path: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Answer as the maker does whose path it is."""
    spoken = {"role": "assistant", "content": "green tea"}
    if "generateContent" in path:
        content = {"role": "model", "parts": [{"text": "green tea"}]}
        used = {"promptTokenCount": 7, "candidatesTokenCount": 3, "totalTokenCount": 10}
        return {"candidates": [{"content": content, "finishReason": "STOP"}], "usageMetadata": used}
    if path.endswith("/converse"):
        message = {"role": "assistant", "content": [{"text": "green tea"}]}
        counts = {"inputTokens": 7, "outputTokens": 3, "totalTokens": 10}
        return {"output": {"message": message}, "stopReason": "end_turn", "usage": counts}
    if path.endswith("/api/chat"):
        ended = {"done": True, "done_reason": "stop", "prompt_eval_count": 7, "eval_count": 3}
        return {"model": "tea-model", "created_at": "2026-01-01T00:00:00Z", "message": spoken, **ended}
    if path.endswith("/v2/chat"):
        parts = [{"type": "text", "text": "green tea"}]
        billed = {"tokens": {"input_tokens": 7, "output_tokens": 3}}
        message = {"role": "assistant", "content": parts}
        return {"id": "c-1", "finish_reason": "COMPLETE", "message": message, "usage": billed}
    return _message() if "messages" in path else _completion(asked)


def _completion(asked: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "green tea"}
    calls = asked.get("tools") and not any(each["role"] == "tool" for each in asked["messages"])
    if calls:
        name = asked["tools"][0]["function"]["name"]
        call = {
            "id": "call-1",
            "type": "function",
            "function": {"name": name, "arguments": '{"leaf":"green"}'},
        }
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
    usage = {
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    choice = {"index": 0, "finish_reason": "tool_calls" if calls else "stop", "message": message}
    return {
        "id": "c-1",
        "object": "chat.completion",
        "created": 1,
        "model": "tea-model-2",
        "choices": [choice],
        "usage": usage,
    }


def _message() -> dict[str, Any]:
    return {
        "id": "m-1",
        "type": "message",
        "role": "assistant",
        "model": "claude-tea",
        "content": [{"type": "text", "text": "green tea"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 7, "output_tokens": 3, "cache_read_input_tokens": 2},
    }


class Cache(StreamRequestHandler):
    """Answers every command of Redis."""

    def handle(self) -> None:
        while (head := self.rfile.readline()).startswith(b"*"):
            words = []
            for _ in range(int(head[1:])):
                length = int(self.rfile.readline()[1:])
                words.append(self.rfile.read(length + 2)[:-2])
            self.wfile.write(b"-ERR wrong type\r\n" if b"broken" in words else b"+OK\r\n")


@contextmanager
def serving() -> Iterator[str]:
    """Serve models and the receiver while the block runs."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def received(by: str) -> dict[bytes, Seen]:
    """Return the spans that came one way."""
    found: dict[bytes, Seen] = {}
    for request in Server.received.get(by, ()):
        found |= of_otlp(request)
    return found
