"""A real MLflow shows what was recorded: types, chat, tools, session, user and tokens, read back over its API."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from nat_observability.builders import build_exporters
from nat_observability.exporter.span_exporter import SpanExporter
from nat_observability.settings import ObservabilitySettings
from nat_observability.sinks.otlp.http import OtlpHttpSink
from tests.advice_run import advise
from tests.mlflow_server import ENVIRONMENT, Mlflow, running_mlflow
from tests.page_picture import skip_without_browser, take_picture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

_STORED_WITHIN = 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    """A server of this module's own."""
    if not (ENVIRONMENT / "bin" / "mlflow").is_file():
        pytest.skip(
            f"MLflow is not installed in {ENVIRONMENT.name}. Cure: make {ENVIRONMENT.name}/.installed"
        )
    with running_mlflow(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


def sent(server: Mlflow, experiment: str) -> tuple[str, list[Any]]:
    """Send a run with the dialect that exporters of type mlflow have; return its trace id and its spans."""
    settings = ObservabilitySettings(
        exporters={"main": {"type": "mlflow", "endpoint": server.url, "project": experiment}}
    )
    (own,) = settings.exporters.values()
    (exporter,) = build_exporters(settings).values()
    assert isinstance(exporter, SpanExporter)
    sink = OtlpHttpSink(
        server.url,
        headers={"x-mlflow-experiment-id": experiment},
        dialect=own.dialect,  # type: ignore[union-attr]
    )
    trace_id = asyncio.run(advise(sink))
    deadline = time.monotonic() + _STORED_WITHIN
    while len(spans := server.trace(trace_id)["spans"]) < 5:
        assert time.monotonic() < deadline, f"{len(spans)} of 5 spans are stored"
        time.sleep(0.25)
    return trace_id, spans


def test_a_picture_of_mlflow(server: Mlflow) -> None:
    """What a person sees: chat, tool calls and documents. The pictures are in `build/pictures`."""
    skip_without_browser()
    experiment = server.experiment("pictured")
    trace_id, _ = sent(server, experiment)
    page = f"{server.url}/#/experiments/{experiment}/traces?selectedEvaluationId=tr-{trace_id}"
    chat = take_picture(page, "mlflow-chat", {"click": "chat gpt-5"}, {"wait": "Be brief."})
    assert {"System", "Be brief.", "User", "Will it rain?", "Assistant", "Tool calls", "weather"} <= {*chat}
    steps = (
        {"click": "retrieval docs"},
        {"wait": "rain Paris"},
        {"click": "Attributes"},
        {"wait": "Paris is wet."},
    )
    documents = "\n".join(take_picture(page, "mlflow-documents", *steps))
    assert "retrieval docs" in documents
    assert "gen_ai.retrieval.documents" in documents


def test_mlflow_shows_chat_tools_session_user_and_tokens(server: Mlflow) -> None:
    """With the dialect that exporters of type mlflow have."""
    experiment = server.experiment("advice")
    _, spans = sent(server, experiment)
    shown = {
        span["name"]: {key: json.loads(each) for key, each in span["attributes"].items()} for span in spans
    }
    assert {name: each["mlflow.spanType"] for name, each in shown.items()} == {
        "invoke_workflow advice": "CHAIN",
        "invoke_agent adviser": "AGENT",
        "retrieval docs": "RETRIEVER",
        "chat gpt-5": "LLM",
        "execute_tool weather": "TOOL",
    }
    chat = shown["chat gpt-5"]
    assert [each["role"] for each in chat["mlflow.spanInputs"]] == ["system", "user"]
    assert chat["mlflow.spanOutputs"][0]["parts"][0]["name"] == "weather"
    assert chat["mlflow.chat.tools"][0]["name"] == "weather"
    assert (chat["mlflow.llm.model"], chat["mlflow.llm.provider"]) == ("gpt-5-2025", "openai")
    assert chat["gen_ai.usage.cost"] == 0.0004
    assert shown["execute_tool weather"]["mlflow.spanInputs"] == {"city": "Paris"}
    assert shown["retrieval docs"]["gen_ai.retrieval.documents"][0]["content"] == "Paris is wet."
    trace = server.newest(experiment)["trace_metadata"]
    assert (trace["mlflow.trace.session"], trace["mlflow.trace.user"]) == ("conversation-7", "ada")
    usage = json.loads(trace["mlflow.trace.tokenUsage"])
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (100, 50, 150)
