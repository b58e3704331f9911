"""
An agent of LangChain and the OpenAI client, as other people instrument them, against a server of its own.

A program for the environment that `make .venv-instrumentations/.installed` builds; its first argument chooses the
instrumentations. It prints the run's spans, and the `traceparent` of each request, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import openai
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from openinference.instrumentation.langchain import LangChainInstrumentor
from openinference.instrumentation.openai import OpenAIInstrumentor
from opentelemetry.instrumentation.openai import OpenAIInstrumentor as OpenLLMetryInstrumentor
from opentelemetry.sdk.trace import TracerProvider

from nat_observability import ContextState, ExporterManager, SpanExporter, step
from nat_observability.integrations.opentelemetry.span_processor import StepSpanProcessor

INSTRUMENTORS = {
    "openinference": (OpenAIInstrumentor, LangChainInstrumentor),
    "openllmetry": (OpenLLMetryInstrumentor,),
}
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


class Model(BaseHTTPRequestHandler):
    """Speaks as much of the chat completions API as the client needs, with and without streaming."""

    protocol_version = "HTTP/1.1"
    headers_seen: list[str | None] = []  # noqa: RUF012

    def do_POST(self) -> None:
        self.headers_seen.append(self.headers.get("traceparent"))
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        answer: dict[str, Any] = {"id": "c-1", "created": 1, "model": "tea-model-2"}
        if asked["model"] == "broken":
            self._send(404, "application/json", json.dumps({"error": {"message": "no such model"}}))
        elif asked.get("stream"):
            pieces: list[dict[str, Any]] = [
                {"choices": [{"index": 0, "delta": {"role": "assistant", "content": text}}]}
                for text in ("green", " tea")
            ]
            pieces.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            pieces.append({"choices": [], "usage": USAGE})
            lines = [
                f"data: {json.dumps(answer | {'object': 'chat.completion.chunk'} | each)}\n\n"
                for each in pieces
            ]
            self._send(200, "text/event-stream", "".join(lines) + "data: [DONE]\n\n")
        else:
            choice = {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "green tea"},
            }
            answer |= {"object": "chat.completion", "choices": [choice], "usage": USAGE}
            self._send(200, "application/json", json.dumps(answer))

    def _send(self, status: int, kind: str, body: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing."""


@tool
def brew(leaf: str) -> str:
    """Brew a leaf."""
    return f"hot {leaf}"


async def agent(client: openai.AsyncOpenAI) -> None:
    """A chain of a model call and a tool, a streaming call, and one that fails."""
    asked = [{"role": "user", "content": "which tea?"}]

    async def ask(_: str) -> str:
        answer = await client.chat.completions.create(model="tea-model", messages=asked)
        return str(answer.choices[0].message.content)

    with step("task", "chain") as current:
        current.output = await (RunnableLambda(ask) | brew).ainvoke("which tea?")
    with step("task", "stream"):
        stream = await client.chat.completions.create(
            model="tea-model", messages=asked, stream=True, stream_options={"include_usage": True}
        )
        async for _ in stream:
            pass
    with step("task", "failing"), suppress(openai.NotFoundError):
        await client.chat.completions.create(model="broken", messages=asked)


async def main(chosen: str) -> None:
    """Instrument, run the agent, print what was recorded."""
    provider = TracerProvider()
    provider.add_span_processor(StepSpanProcessor())
    for instrumentor in INSTRUMENTORS[chosen]:
        instrumentor().instrument(tracer_provider=provider)
    spans: list[Any] = []
    manager = ExporterManager.from_exporters({"spans": SpanExporter(spans.extend, flush="delivered")})
    with ThreadingHTTPServer(("127.0.0.1", 0), Model) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        async with (
            openai.AsyncOpenAI(
                api_key="none", base_url=f"http://127.0.0.1:{server.server_port}/v1", max_retries=0
            ) as client,
            manager.start(ContextState()),
        ):
            await agent(client)
        server.shutdown()
        serving.join()
    sys.stdout.buffer.write(msgspec.json.encode({"spans": spans, "traceparents": Model.headers_seen}))


asyncio.run(main(sys.argv[1]))
