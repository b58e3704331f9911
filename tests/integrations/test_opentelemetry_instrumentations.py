"""Instrumentations of other people's, as they are: what they record appears in the run, and httpx hands our ids on."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider

from nat_observability import ContextState, ExporterManager, Span, SpanExporter, SpanKind, StepKind, step
from nat_observability.integrations.opentelemetry import follow_steps, unfollow_steps
from nat_observability.integrations.opentelemetry.span_processor import StepSpanProcessor

ENVIRONMENT = Path(__file__).parents[2] / ".venv-instrumentations"


class Service:
    """A service that is called over HTTP, and the `traceparent` of each call."""

    def __init__(self) -> None:
        seen: list[str | None] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append(self.headers.get("traceparent"))
                self.send_response(503 if self.path == "/down" else 200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Nothing."""

        self.seen = seen
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def service() -> Iterator[Service]:
    """A service that is up."""
    made = Service()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def provider() -> Iterator[TracerProvider]:
    """A provider without a processor, and an httpx that is instrumented with it."""
    made = TracerProvider(shutdown_on_exit=False)
    HTTPXClientInstrumentor().instrument(tracer_provider=made)
    yield made
    HTTPXClientInstrumentor().uninstrument()
    unfollow_steps()
    made.shutdown()


async def test_httpx_hands_on_the_runs_trace(service: Service, provider: TracerProvider) -> None:
    """The called service gets our trace id and, as its parent, the request, which is a step below ours."""
    provider.add_span_processor(StepSpanProcessor())
    spans: list[Any] = []
    manager = ExporterManager.from_exporters({"spans": SpanExporter(spans.extend, flush="delivered")})
    state = ContextState()
    async with manager.start(state), httpx.AsyncClient() as client:
        async with step("tool", "ask") as asking:
            await client.get(f"{service.url}/up")
        with step("tool", "other"):
            await asyncio.gather(*(client.get(f"{service.url}/down") for _ in range(2)))
    requests = [span for span in spans if span.kind is StepKind.SPAN]
    assert [span.name for span in requests] == ["GET"] * 3
    assert set(service.seen) == {f"00-{state.run.trace_id}-{span.span_id}-01" for span in requests}
    assert requests[0].parent_id == asking.step_id
    assert {span.parent_id for span in requests[1:]} == {_named(spans, "other").span_id}
    assert [span.error and span.error.type for span in requests] == [None, "503", "503"]
    assert requests[0].span_kind is SpanKind.CLIENT


async def test_httpx_hands_on_the_steps_id_if_nothing_is_recorded(service: Service) -> None:
    """With the API alone, and no provider of an SDK, the called service's parent is our step."""
    HTTPXClientInstrumentor().instrument()
    follow_steps()
    state = ContextState()
    try:
        with state.attach(), httpx.Client() as client, step("tool", "ask") as asking:
            await asyncio.to_thread(client.get, service.url)
    finally:
        HTTPXClientInstrumentor().uninstrument()
        unfollow_steps()
    assert service.seen == [f"00-{state.run.trace_id}-{asking.step_id}-01"]


def _named(spans: list[Span], name: str) -> Span:
    (found,) = [span for span in spans if span.name == name]
    return found


def instrumented_agent(instrumentations: str) -> dict[str, Any]:
    """Run the agent in an environment that has what it needs."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.is_file():
        pytest.skip(f"There is no {ENVIRONMENT.name}. Cure: make {ENVIRONMENT.name}/.installed")
    ran = subprocess.run(
        [python, Path(__file__).with_name("instrumented_agent.py"), instrumentations],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    result: dict[str, Any] = json.loads(ran.stdout)
    return result


def shape(spans: list[dict[str, Any]]) -> list[tuple[str, str, str | None]]:
    """Return kind, name and parent's name of each span, in the order of their starts."""
    names = {span["span_id"]: span["name"] for span in spans}
    return [
        (span["kind"], span["name"], names.get(span.get("parent_id")))
        for span in sorted(spans, key=lambda span: span["start_ns"])
    ]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_langchain_and_openai_as_openinference_records_them() -> None:
    """
    Chains, tools and model calls are under our steps, with kinds, inputs, outputs, usage and errors.

    OpenInference's LangChain instrumentation makes none of its spans the current one, so what is called inside a
    chain is beside it.
    """
    ran = instrumented_agent("openinference")
    assert shape(ran["spans"]) == [
        ("TASK", "chain", None),
        ("CHAIN", "RunnableSequence", "chain"),
        ("CHAIN", "ask", "RunnableSequence"),
        ("LLM", "ChatCompletion", "chain"),
        ("TOOL", "brew", "RunnableSequence"),
        ("TASK", "stream", None),
        ("LLM", "ChatCompletion", "stream"),
        ("TASK", "failing", None),
        ("LLM", "ChatCompletion", "failing"),
    ]
    models = [span for span in ran["spans"] if span["kind"] == "LLM"]
    assert [span["status"] for span in models] == ["ok", "ok", "error"]
    assert [span["input"]["messages"][0]["content"] for span in models] == ["which tea?"] * 3
    assert models[0]["output"]["choices"][0]["message"]["content"] == "green tea"
    assert [span["usage"]["total_tokens"] for span in models[:2]] == [10, 10]
    assert models[2]["error"]["type"] == "openai.NotFoundError"
    assert "no such model" in models[2]["error"]["message"]
    (tool,) = [span for span in ran["spans"] if span["kind"] == "TOOL"]
    assert (tool["input"], tool["output"]) == ("green tea", "hot green tea")


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_openai_as_openllmetry_records_it() -> None:
    """The same for OpenLLMetry, which hands our trace on to the server too."""
    ran = instrumented_agent("openllmetry")
    assert shape(ran["spans"]) == [
        ("TASK", "chain", None),
        ("LLM", "openai.chat", "chain"),
        ("TASK", "stream", None),
        ("LLM", "openai.chat", "stream"),
        ("TASK", "failing", None),
        ("LLM", "openai.chat", "failing"),
    ]
    models = [span for span in ran["spans"] if span["kind"] == "LLM"]
    assert [span["input"][0]["parts"][0]["content"] for span in models] == ["which tea?"] * 3
    assert [span["output"][0]["parts"][0]["content"] for span in models[:2]] == ["green tea"] * 2
    assert [span["usage"]["total_tokens"] for span in models[:2]] == [10, 10]
    assert models[2]["error"]["type"] == "openai.NotFoundError"
    assert ran["traceparents"] == [f"00-{span['run']['trace_id']}-{span['span_id']}-01" for span in models]
