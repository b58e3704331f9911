"""A real Arize Phoenix shows what was recorded: names, kinds, parents, tokens and sessions, read back over its API."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nat_observability import (
    ContextState,
    ExporterManager,
    LedgerSnapshot,
    ObservabilityRuntime,
    Span,
    SpanExporter,
    Status,
    StepKind,
    TokenUsage,
    step,
)
from nat_observability.cli.replay.event_file import EventFile
from nat_observability.cli.replay.replay import RecordedState
from nat_observability.sinks.memory import MemorySink
from nat_observability.sinks.otlp.http import OtlpHttpSink
from nat_observability.sinks.otlp.presets import phoenix
from tests.advice_run import advise
from tests.page_picture import skip_without_browser, take_picture
from tests.phoenix_server import Phoenix, program, running_phoenix

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

_DATA = Path(__file__).parent / "data"
_STORED_WITHIN = 60.0  # it stores what it has taken some seconds later


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phoenix]:
    """A server of this module's own."""
    command = program()
    if command is None:
        pytest.skip("Phoenix is not installed in .venv-phoenix. Cure: make .venv-phoenix/.installed")
    with running_phoenix(command, tmp_path_factory.mktemp("phoenix")) as running:
        yield running


def _sink(server: Phoenix, project: str) -> OtlpHttpSink:
    target = phoenix(server.url, project=project)
    return OtlpHttpSink(
        target.endpoint, headers=target.headers, resource=target.resource, dialect="openinference"
    )


class Sent:
    """Exporters of spans to a project of a server, and to memory, with what was recorded."""

    def __init__(self, server: Phoenix, project: str) -> None:
        sink = _sink(server, project)
        self._memory = MemorySink()
        self.exporters = {"phoenix": SpanExporter(sink), "memory": SpanExporter(self._memory)}
        self.manager = ExporterManager()
        for name, exporter in self.exporters.items():
            self.manager.add_exporter(name, exporter, required=True)

    @property
    def ledger(self) -> LedgerSnapshot:
        return self.exporters["phoenix"].delivery.health().ledger

    @property
    def spans(self) -> list[Span]:
        return self._memory.spans


def stored(server: Phoenix, project: str, count: int) -> list[dict[str, Any]]:
    """Wait until a project has that many spans, and return them."""
    deadline = time.monotonic() + _STORED_WITHIN
    while len(shown := server.spans(project)) < count:
        assert time.monotonic() < deadline, f"{len(shown)} of {count} spans are stored"
        # Each look costs the server much more than one at a condition in memory.
        time.sleep(0.25)
    return shown


async def replay_all(sent: Sent, path: Path) -> None:
    """Replay every run of a recorded file, one after the other."""
    with EventFile(path) as file:
        await asyncio.to_thread(file.index)
        async with ObservabilityRuntime(sent.exporters):
            for recorded in file.runs:
                state = RecordedState(recorded)
                async with sent.manager.get().start(state):
                    at = 0
                    while at < len(recorded):
                        steps = await asyncio.to_thread(file.steps, recorded, at, state.run)
                        for each in steps:
                            state.last_ns = max(state.last_ns, each.time_ns)
                            state.stream.publish(each)
                        at += len(steps)


def tokens(attributes: dict[str, Any]) -> tuple[int, ...]:
    """Return the tokens that Phoenix has for a span, in the order of `TokenUsage`; 0 if it has none."""
    names = (
        "prompt",
        "completion",
        "prompt_details.cache_read",
        "completion_details.reasoning",
        "total",
    )
    return tuple(attributes.get(f"llm.token_count.{name}", 0) for name in names)


def test_phoenix_shows_recorded_runs_as_they_were(server: Phoenix) -> None:
    """Every span of recorded runs is there once, with its name, kind, parent, times, tokens and session."""
    expected = json.loads((_DATA / "expected_a.json").read_text())
    sent = Sent(server, "replayed")
    asyncio.run(replay_all(sent, _DATA / expected["sidecar"]))
    count = expected["spans"]
    assert sent.ledger == LedgerSnapshot(count, count)
    shown = stored(server, "replayed", count)

    # The ids of the recording are UUIDs: each span carries its own as an attribute.
    by_id = {each["attributes"]["nat.span.id"]: each for each in shown}
    assert len(shown) == len(by_id) == count
    recorded = {span.span_id: span for span in sent.spans}
    assert by_id.keys() == recorded.keys()
    for span_id, span in recorded.items():
        each = by_id[span_id]
        attributes = each["attributes"]
        assert each["name"] == span.name
        assert each["span_kind"] == (
            span.kind.value if span.kind in (StepKind.LLM, StepKind.TOOL) else "CHAIN"
        )
        assert each["status_code"] == ("UNSET" if span.status is Status.OK else "ERROR")
        assert each["context"]["trace_id"] == span.run.trace_id
        assert attributes["nat.workflow.run_id"] == span.run.run_id
        assert attributes.get("session.id") == span.run.conversation_id
        assert tokens(attributes) == msgspec.structs.astuple(span.usage or TokenUsage())[:5]
        if span.parent_id in by_id:
            assert each["parent_id"] == by_id[span.parent_id]["context"]["span_id"]
        else:
            assert (each["parent_id"] is None) == (span.parent_id is None)

    # What the recording's own description says, which does not come from this library.
    kinds = Counter(each["attributes"]["nat.span.kind"] for each in shown)
    assert kinds == expected["spans_by_category"]
    assert len({each["attributes"]["nat.workflow.run_id"] for each in shown}) == expected["runs"]
    assert len(server.sessions("replayed")) == expected["distinct_conversation_ids"]
    of_models = [tokens(each["attributes"]) for each in shown if each["span_kind"] == "LLM"]
    totals = expected["token_usage_of_llm_ends"]
    assert tuple(map(sum, zip(*of_models, strict=True))) == tuple(
        totals[name] for name in TokenUsage.__struct_fields__[:5]
    )


async def run_an_agent(sent: Sent) -> ContextState:
    """Record a run with a model call, a tool that fails, and a step in a worker thread."""
    state = ContextState(conversation_id="conversation-7", user_id="ada", workflow_name="answer")

    def look_up() -> None:
        with step("function", "look up", input={"query": "Zürich ☃"}):
            pass

    async with ObservabilityRuntime(sent.exporters), sent.manager.start(state):
        with step("workflow", "answer", input="Where is my parcel?") as workflow:
            with step("llm", "some-model", input=[{"role": "user", "content": "hi"}]) as model:
                model.usage = {"prompt_tokens": 11, "completion_tokens": 5, "cached_tokens": 3}
                model.output = "calling a tool"
            with (
                pytest.raises(ValueError, match="no such parcel"),
                step("tool", "track", input={"parcel": 1}),
            ):
                raise ValueError("no such parcel")
            await asyncio.to_thread(look_up)
            workflow.output = "I do not know."
    return state


def test_phoenix_shows_a_run_of_steps_with_its_error_and_session(server: Phoenix) -> None:
    """Ids arrive unchanged, a failed tool is an error with its exception, and the session has the run's tokens."""
    sent = Sent(server, "recorded")
    state = asyncio.run(run_an_agent(sent))
    assert sent.ledger == LedgerSnapshot(4, 4)
    shown = {each["name"]: each for each in stored(server, "recorded", 4)}

    recorded = {span.name: span for span in sent.spans}
    assert {name: each["context"]["span_id"] for name, each in shown.items()} == {
        name: span.span_id for name, span in recorded.items()
    }
    assert {each["context"]["trace_id"] for each in shown.values()} == {state.run.trace_id}
    root = shown["answer"]
    assert root["parent_id"] is None
    assert {each["parent_id"] for name, each in shown.items() if name != "answer"} == {
        root["context"]["span_id"]
    }
    assert {name: each["span_kind"] for name, each in shown.items()} == {
        "answer": "CHAIN",
        "some-model": "LLM",
        "track": "TOOL",
        "look up": "CHAIN",
    }
    assert root["attributes"]["input.value"] == "Where is my parcel?"
    assert root["attributes"]["output.value"] == "I do not know."
    assert json.loads(shown["look up"]["attributes"]["input.value"]) == {"query": "Zürich ☃"}
    assert tokens(shown["some-model"]["attributes"]) == (11, 5, 3, 0, 16)

    failed = shown["track"]
    assert (failed["status_code"], failed["status_message"]) == ("ERROR", "no such parcel")
    [event] = failed["events"]
    assert event["name"] == "exception"
    assert event["attributes"]["exception.type"] == "ValueError"
    assert {each["status_code"] for name, each in shown.items() if name != "track"} == {"UNSET"}

    [session] = server.sessions("recorded")
    assert session["session_id"] == "conversation-7"
    assert {each["attributes"]["user.id"] for each in shown.values()} == {"ada"}


def test_phoenix_shows_chat_tools_documents_cost_and_annotations(server: Phoenix) -> None:
    """As its own instrumentations have them: kinds, messages, tools, documents, session, user, tokens, cost, tags."""
    asyncio.run(advise(_sink(server, "advice")))
    shown = {each["name"]: each for each in stored(server, "advice", 5)}
    assert {name: each["span_kind"] for name, each in shown.items()} == {
        "advice": "CHAIN",
        "adviser": "AGENT",
        "docs": "RETRIEVER",
        "gpt-5": "LLM",
        "weather": "TOOL",
    }
    assert {
        "llm.input_messages.0.message.role": "system",
        "llm.input_messages.1.message.content": "Will it rain?",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "weather",
        "llm.model_name": "gpt-5-2025",
        "llm.provider": "openai",
        "llm.cost.total": 0.0004,
        "llm.finish_reason": "tool_calls",
    }.items() <= shown["gpt-5"]["attributes"].items()
    assert tokens(shown["gpt-5"]["attributes"]) == (100, 50, 30, 0, 150)
    assert shown["docs"]["attributes"]["retrieval.documents.0.document.content"] == "Paris is wet."
    assert shown["weather"]["attributes"]["tool.parameters.city"] == "Paris"
    root = shown["advice"]["attributes"]
    assert (root["tag.tags"], root["metadata.plan"], root["nat.tag.tenant"]) == (["paris"], "pro", "acme")
    agent = shown["adviser"]["attributes"]
    assert (agent["annotations.0.annotation.name"], agent["annotations.0.annotation.score"]) == (
        "relevance",
        0.9,
    )
    assert {each["attributes"]["session.id"] for each in shown.values()} == {"conversation-7"}


def test_a_picture_of_phoenix(server: Phoenix) -> None:
    """What a person sees: chat, tool calls and documents. The pictures are in `build/pictures`."""
    skip_without_browser()
    trace_id = asyncio.run(advise(_sink(server, "pictured")))
    stored(server, "pictured", 5)
    page = f"{server.url}/redirects/traces/{trace_id}"
    chat = take_picture(page, "phoenix-chat", {"click": "gpt-5"}, {"wait": "Will it rain?"})
    assert {"system", "Be brief.", "Will it rain?", "1 tool call", "Tool Call: call-1", "View Session"} <= {
        *chat
    }
    documents = take_picture(page, "phoenix-documents", {"click": "docs"}, {"wait": "Paris is wet."})
    assert {"retriever", "Documents", "document 1", "score 0.50", "Paris is wet."} <= {*documents}
