"""What attributes of OpenInference, OpenTelemetry GenAI and OpenLLMetry make of a step, and what other spans leave."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import TraceState

from nat_observability import SpanKind, StepKind, TokenUsage
from nat_observability.dialects.opentelemetry_spans import mapped
from nat_observability.events import SpanOrigin
from nat_observability.integrations.opentelemetry import unfollow_steps
from nat_observability.integrations.opentelemetry.span_processor import StepSpanProcessor
from nat_observability.testing import NodeEvent, NodeLink, recorded_run


def plain(value: Any) -> Any:
    """Return text as it is and JSON decoded."""
    return json.loads(bytes(value)) if isinstance(value, msgspec.Raw) else value


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"openinference.span.kind": "LLM"}, StepKind.LLM),
        ({"openinference.span.kind": "TOOL"}, StepKind.TOOL),
        ({"openinference.span.kind": "CHAIN"}, StepKind.CHAIN),
        ({"openinference.span.kind": "AGENT"}, StepKind.AGENT),
        ({"openinference.span.kind": "RETRIEVER"}, StepKind.RETRIEVER),
        ({"openinference.span.kind": "EMBEDDING"}, StepKind.EMBEDDING),
        ({"openinference.span.kind": "UNKNOWN"}, StepKind.SPAN),
        ({"gen_ai.operation.name": "chat"}, StepKind.LLM),
        ({"gen_ai.operation.name": "text_completion"}, StepKind.LLM),
        ({"gen_ai.operation.name": "execute_tool"}, StepKind.TOOL),
        ({"gen_ai.operation.name": "invoke_agent"}, StepKind.AGENT),
        ({"gen_ai.operation.name": "embeddings"}, StepKind.EMBEDDING),
        ({"gen_ai.operation.name": "retrieval"}, StepKind.RETRIEVER),
        ({"gen_ai.operation.name": "search_memory"}, StepKind.RETRIEVER),
        ({"gen_ai.operation.name": "plan"}, StepKind.TASK),
        ({"llm.request.type": "rerank"}, StepKind.RERANKER),
        ({"gen_ai.operation.name": "invoke_workflow"}, StepKind.WORKFLOW),
        ({"traceloop.span.kind": "workflow"}, StepKind.WORKFLOW),
        ({"traceloop.span.kind": "task"}, StepKind.TASK),
        ({"traceloop.span.kind": "agent"}, StepKind.AGENT),
        ({"traceloop.span.kind": "tool"}, StepKind.TOOL),
        ({"llm.request.type": "chat"}, StepKind.LLM),
        ({"traceloop.span.kind": "unknown", "llm.request.type": "completion"}, StepKind.LLM),
        ({"openinference.span.kind": "UNKNOWN", "gen_ai.operation.name": "chat"}, StepKind.LLM),
        ({"langfuse.observation.type": "generation"}, StepKind.LLM),
        ({"langfuse.observation.type": "retriever"}, StepKind.RETRIEVER),
        ({"langfuse.observation.type": "span"}, StepKind.SPAN),
        ({"langsmith.span.kind": "prompt"}, StepKind.PROMPT),
        ({"mlflow.spanType": '"CHAT_MODEL"'}, StepKind.LLM),
        ({"mlflow.spanType": "RERANKER"}, StepKind.RERANKER),
        ({"ai.operationId": "ai.streamText"}, StepKind.CHAIN),
        ({"ai.operationId": "ai.streamText.doStream"}, StepKind.LLM),
        ({"ai.operationId": "ai.embedMany.doEmbed"}, StepKind.EMBEDDING),
        ({"ai.operationId": "ai.toolCall", "ai.toolCall.name": "t"}, StepKind.TOOL),
        ({"gen_ai.system": "openai", "gen_ai.request.model": "m"}, StepKind.LLM),
        ({"gen_ai.tool.name": "t", "gen_ai.tool.call.id": "1"}, StepKind.TOOL),
        ({"gen_ai.operation.name": "image_generation", "gen_ai.request.model": "m"}, StepKind.SPAN),
        ({"gen_ai.operation.name": 7}, StepKind.SPAN),
        ({"http.request.method": "GET"}, StepKind.SPAN),
        ({}, StepKind.SPAN),
    ],
)
def test_kinds(attributes: dict[str, Any], kind: StepKind) -> None:
    """Each convention's kinds have one of ours; what none of them names is a span."""
    assert mapped(attributes).kind is kind


@pytest.mark.parametrize(
    ("attributes", "recorded", "result"),
    [
        ({"input.value": "text", "output.value": "more"}, "text", "more"),
        ({"input.value": '{"a": 1}', "input.mime_type": "application/json"}, {"a": 1}, None),
        ({"input.value": '{"a": 1}', "input.mime_type": "text/plain"}, '{"a": 1}', None),
        ({"input.value": '{"a": ', "input.mime_type": "application/json"}, '{"a": ', None),
        ({"gen_ai.input.messages": '[{"role": "user"}]'}, [{"role": "user"}], None),
        ({"gen_ai.tool.call.arguments": '{"q": 1}', "gen_ai.tool.call.result": "r"}, {"q": 1}, "r"),
        ({"traceloop.entity.input": '{"q": 1}', "traceloop.entity.output": "[2]"}, {"q": 1}, [2]),
        (
            {
                "llm.input_messages.1.message.content": "b",
                "llm.input_messages.0.message.role": "user",
                "llm.input_messages.0.message.content": "a",
                "llm.output_messages.0.message.content": "c",
            },
            [{"role": "user", "content": "a"}, {"content": "b"}],
            [{"content": "c"}],
        ),
        (
            {"gen_ai.prompt.0.content": "a", "gen_ai.prompt.x": "b", "gen_ai.completion.10.content": "c"},
            [{"content": "a"}],
            [{"content": "c"}],
        ),
        ({"input.value": "first", "llm.input_messages.0.message.content": "same"}, "first", None),
        ({"langfuse.observation.input": '{"q": 1}', "langfuse.observation.output": "r"}, {"q": 1}, "r"),
        ({"mlflow.spanInputs": '{"q": 1}', "mlflow.spanOutputs": '"r"'}, {"q": 1}, "r"),
        ({"ai.prompt.messages": '[{"role": "user"}]', "ai.response.text": "r"}, [{"role": "user"}], "r"),
        ({"ai.toolCall.args": '{"q": 1}', "ai.toolCall.result": "[2]"}, {"q": 1}, [2]),
        ({"gcp.vertex.agent.llm_request": '{"q": 1}', "gcp.vertex.agent.llm_response": "{}"}, {"q": 1}, {}),
        ({"tool_arguments": '{"q": 1}', "tool_response": "r"}, {"q": 1}, "r"),
        ({"request_data": '{"q": 1}', "response_data": '{"r": 2}'}, {"q": 1}, {"r": 2}),
        ({"gen_ai.retrieval.query.text": "q", "gen_ai.retrieval.documents": "[1]"}, "q", [1]),
        ({"input.value": 7}, 7, None),
        ({"input.value": "7"}, "7", None),
    ],
)
def test_inputs_and_outputs(attributes: dict[str, Any], recorded: Any, result: Any) -> None:
    """JSON is decoded, text stays as it is, and messages that came in pieces are put together again."""
    seen = mapped({"openinference.span.kind": "LLM", **attributes})
    assert plain(seen.input) == recorded
    assert plain(seen.output) == result


@pytest.mark.parametrize(
    "counts",
    [
        {
            "llm.token_count.prompt": 7,
            "llm.token_count.completion": 3,
            "llm.token_count.total": 10,
            "llm.token_count.prompt_details.cache_read": 2,
            "llm.token_count.completion_details.reasoning": 1,
        },
        {
            "gen_ai.usage.input_tokens": 7,
            "gen_ai.usage.output_tokens": 3,
            "gen_ai.usage.cache_read.input_tokens": 2,
            "gen_ai.usage.reasoning.output_tokens": 1,
        },
        {
            "gen_ai.usage.prompt_tokens": 7,
            "gen_ai.usage.completion_tokens": 3,
            "llm.usage.total_tokens": 10,
            "gen_ai.usage.cache_read_input_tokens": 2,
            "gen_ai.usage.reasoning_tokens": 1,
        },
    ],
)
def test_usage(counts: dict[str, int]) -> None:
    """Of a model call it is the step's; an agent's is the sum of its calls, and not counted again."""
    model = mapped({"gen_ai.operation.name": "chat", **counts})
    assert model.usage == TokenUsage(7, 3, 2, 1, 10)
    agent = mapped({"gen_ai.operation.name": "invoke_agent", **counts})
    assert agent.usage is None


@pytest.mark.parametrize(
    ("kind", "counts"),
    [
        (
            {"ai.operationId": "ai.generateText.doGenerate"},
            {
                "ai.usage.promptTokens": 7,
                "ai.usage.completionTokens": 3,
                "ai.usage.cachedInputTokens": 2,
                "ai.usage.reasoningTokens": 1,
            },
        ),
        (
            {"langfuse.observation.type": "generation"},
            {
                "langfuse.observation.usage_details": '{"input": 5, "input_cached_tokens": 2, "output": 2,'
                ' "output_reasoning_tokens": 1, "total": 10}'
            },
        ),
        (
            {"mlflow.spanType": '"LLM"'},
            {
                "mlflow.chat.tokenUsage": '{"input_tokens": 7, "output_tokens": 3, "total_tokens": 10,'
                ' "cache_read_input_tokens": 2, "reasoning_tokens": 1}'
            },
        ),
    ],
)
def test_usage_of_other_makers(kind: dict[str, str], counts: dict[str, Any]) -> None:
    """In attributes of their own, or in an object, where Langfuse counts each token once."""
    assert mapped({**kind, **counts}).usage == TokenUsage(7, 3, 2, 1, 10)


@pytest.mark.parametrize("odd", ["", "{", "[1]", '{"input": "7"}', '{"input": true}', 5, ("a",), "null"])
def test_usage_that_is_none(odd: Any) -> None:
    """An object that holds no count is none."""
    details = {"langfuse.observation.usage_details": odd}
    assert mapped({"langfuse.observation.type": "generation", **details}).usage is None


@pytest.mark.parametrize(
    ("kind", "attributes", "given", "result"),
    [
        (
            "RETRIEVER",
            {
                "retrieval.documents.1.document.content": "b",
                "retrieval.documents.0.document.content": "a",
                "retrieval.documents.0.document.score": 0.5,
            },
            None,
            [{"content": "a", "score": 0.5}, {"content": "b"}],
        ),
        (
            "RERANKER",
            {
                "reranker.input_documents.0.document.id": "1",
                "reranker.output_documents.0.document.id": "2",
            },
            [{"id": "1"}],
            [{"id": "2"}],
        ),
        ("EMBEDDING", {"embedding.embeddings.0.embedding.text": "t"}, [{"text": "t"}], None),
    ],
)
def test_documents(kind: str, attributes: dict[str, Any], given: Any, result: Any) -> None:
    """Those in numbered attributes are put together again, as messages are."""
    seen = mapped({"openinference.span.kind": kind, **attributes})
    assert (plain(seen.input), plain(seen.output)) == (given, result)


@pytest.mark.parametrize(
    ("session", "user"),
    [
        ("session.id", "user.id"),
        ("gen_ai.conversation.id", "enduser.id"),
        ("langfuse.session.id", "langfuse.user.id"),
        ("traceloop.association.properties.session_id", "traceloop.association.properties.user_id"),
    ],
)
def test_conversation_and_user(session: str, user: str) -> None:
    """By the names that each convention has for them; what is no text is neither."""
    seen = mapped({session: "s" * 300, user: "u"})
    assert (seen.conversation_id, seen.user_id) == ("s" * 256, "u")
    seen = mapped({session: 5, user: ""})
    assert (seen.conversation_id, seen.user_id) == (None, None)


@pytest.mark.parametrize("written", ["cache_creation", "cache_write"])
def test_tokens_by_what_they_are_of(written: str) -> None:
    """As the GenAI conventions count them; they have renamed those that were written to a cache."""
    counts = {
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
        f"gen_ai.usage.{written}.input_tokens": 1,
        "gen_ai.usage.audio.input_tokens": 2,
        "gen_ai.usage.image.input_tokens": 4,
        "gen_ai.usage.audio.output_tokens": 3,
    }
    usage = mapped({"gen_ai.operation.name": "chat", **counts}).usage
    assert usage == TokenUsage(
        7,
        3,
        0,
        0,
        10,
        cache_write_tokens=1,
        audio_input_tokens=2,
        audio_output_tokens=3,
        image_input_tokens=4,
    )


def test_tags_and_metadata() -> None:
    """Tags have a field, and what the instrumentation calls metadata is JSON again, if it is an object."""
    seen = mapped({"tag.tags": ("x", "y"), "metadata": '{"k": [1]}', "http.request.method": "GET"})
    assert seen.tags == ("x", "y")
    assert plain(seen.metadata) == {"k": [1]}
    assert mapped({"tag.tags": "one"}).tags == ("one",)
    assert mapped({"tag.tags": 5}).tags == ()
    assert mapped({"langsmith.span.tags": "x, y,"}).tags == ("x", "y")
    assert mapped({"langfuse.trace.tags": ["x"]}).tags == mapped({"logfire.tags": ("x",)}).tags == ("x",)
    assert plain(mapped({"langfuse.observation.metadata": '{"k": 1}'}).metadata) == {"k": 1}
    for odd in ("[1]", "{", "text", 5, ("a",)):
        assert mapped({"metadata": odd}).metadata is None


_VALUES = st.one_of(
    st.text(), st.integers(), st.floats(), st.booleans(), st.lists(st.text()), st.binary(), st.none()
)
_KEYS = st.sampled_from(
    [
        "openinference.span.kind",
        "gen_ai.operation.name",
        "llm.model_name",
        "llm.invocation_parameters",
        "input.value",
        "input.mime_type",
        "output.value",
        "llm.input_messages.0.message.content",
        "llm.input_messages.9999999999.x",
        "gen_ai.prompt.",
        "llm.token_count.prompt",
        "tag.tags",
        "langfuse.observation.usage_details",
        "mlflow.spanInputs",
        "retrieval.documents.0.document.content",
        "langsmith.span.tags",
        "session.id",
        "other",
    ]
)


@given(st.dictionaries(_KEYS, _VALUES), st.sampled_from(["LLM", "TOOL", "CHAIN"]))
def test_no_attribute_is_too_odd(attributes: dict[str, Any], kind: str) -> None:
    """Whatever an instrumentation sets, there is a step, and it can be written."""
    seen = mapped({"openinference.span.kind": kind, **attributes})
    assert isinstance(seen.kind, StepKind)
    msgspec.json.encode(seen)


class Tracing:
    """A tracer, and the ENDs of the steps that its spans have become."""

    def __init__(self) -> None:
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(StepSpanProcessor())
        self.tracer = self.provider.get_tracer("a library")


@pytest.fixture
def tracing() -> Iterator[Tracing]:
    """A tracer whose spans are steps."""
    made = Tracing()
    yield made
    unfollow_steps()
    made.provider.shutdown()


async def test_an_exception_is_the_steps_error(tracing: Tracing) -> None:
    """With its type, message and traceback."""
    async with recorded_run() as exporter:
        with pytest.raises(LookupError), tracing.tracer.start_as_current_span("a"):
            raise LookupError("no tea")
    end = exporter.steps[-1]
    assert end.error is not None
    assert (end.error.type, end.error.message) == ("LookupError", "no tea")
    assert "no tea" in str(end.error.traceback)


async def test_an_exception_that_was_handled_is_an_event(tracing: Tracing) -> None:
    """A span whose status is not an error has not failed."""
    async with recorded_run() as exporter:
        with tracing.tracer.start_as_current_span("a") as span:
            span.record_exception(LookupError("no tea"))
    end = exporter.steps[-1]
    assert end.error is None
    (event,) = end.events
    assert event.name == "exception"
    assert plain(event.attributes)["exception.message"] == "no tea"


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"error.type": "timeout", "http.response.status_code": 504}, "timeout"),
        ({"http.response.status_code": 503}, "503"),
        ({"http.status_code": 500}, "500"),
        ({}, "_OTHER"),
    ],
)
async def test_a_status_without_an_exception(tracing: Tracing, attributes: Any, kind: str) -> None:
    """The type is `error.type` or the status code, the message the status's description."""
    async with recorded_run() as exporter:
        with tracing.tracer.start_as_current_span("a", attributes=attributes) as span:
            span.set_status(trace.StatusCode.ERROR, "went wrong")
    error = exporter.steps[-1].error
    assert error is not None
    assert (error.type, error.message, error.traceback) == (kind, "went wrong", None)


async def test_what_an_instrumentation_sets_late_counts(tracing: Tracing) -> None:
    """LangChain's sets kind, name and input when the span ends: the END has them, and so has the finished span."""
    async with recorded_run() as exporter:
        with tracing.tracer.start_as_current_span("early") as span:
            span.update_name("late")
            span.set_attributes({"openinference.span.kind": "TOOL", "input.value": "in"})
    start, end = exporter.steps
    assert (start.kind, start.name, start.input) == (StepKind.SPAN, "early", None)
    assert (end.kind, end.name, end.input) == (StepKind.TOOL, "late", "in")


async def test_what_a_span_says_is_the_steps(tracing: Tracing) -> None:
    """Its attributes with their types, events, links, kind and description, whatever else is read from them."""
    state = TraceState([("vendor", "x")])
    other = trace.SpanContext(7, 8, is_remote=True, trace_flags=trace.TraceFlags(1), trace_state=state)
    attributes: dict[str, Any] = {"a.b": 1, "c": 2.5, "d": True, "e": ("x", "y"), "input.value": "in"}
    async with recorded_run() as exporter:
        with tracing.tracer.start_as_current_span(
            "GET",
            kind=trace.SpanKind.PRODUCER,
            links=[trace.Link(other, {"why": "retry"})],
            attributes=attributes,
        ) as span:
            span.add_event("retry", {"attempt": 2}, timestamp=5)
            span.set_status(trace.StatusCode.ERROR, "went wrong")
    end = exporter.steps[-1]
    assert (end.name, end.origin) == ("GET", SpanOrigin("a library"))
    node = exporter.tree.one(name="GET")
    assert node.attributes == {**attributes, "e": ["x", "y"]}
    assert node.events == [NodeEvent("retry", {"attempt": 2}, 5)]
    assert node.links == [NodeLink(f"{7:032x}", f"{8:016x}", {"why": "retry"}, "vendor=x")]
    assert exporter.steps[-1].links[0].trace_flags == 1
    assert (node.span_kind, node.status_message) == (SpanKind.PRODUCER, "went wrong")


async def test_content_in_events(tracing: Tracing) -> None:
    """The first GenAI conventions had prompt and completion in events: they are input and output."""
    async with recorded_run() as exporter:
        with tracing.tracer.start_as_current_span("a") as span:
            span.add_event("gen_ai.content.prompt", {"gen_ai.prompt": '[{"role": "user"}]'})
            span.add_event("gen_ai.content.completion", {"gen_ai.completion": "tea"})
    end = exporter.steps[-1]
    assert (plain(end.input), end.output) == ([{"role": "user"}], "tea")


@pytest.mark.parametrize(
    ("events", "given", "result"),
    [
        (
            [
                ("gen_ai.system.message", {"gen_ai.event.content": '{"content": "be brief"}'}),
                (
                    "gen_ai.user.message",
                    {"gen_ai.system": "openai", "gen_ai.event.content": '{"content": "q"}'},
                ),
                (
                    "gen_ai.choice",
                    {
                        "gen_ai.event.content": '{"message": {"content": "r"}, "finish_reason": "stop", "index": 0}'
                    },
                ),
            ],
            [{"role": "system", "content": "be brief"}, {"role": "user", "content": "q"}],
            [{"role": "assistant", "content": "r", "finish_reason": "stop", "index": 0}],
        ),
        (
            [
                ("gen_ai.user.message", {"content": '[{"text": "q"}]'}),
                ("gen_ai.tool.message", {"role": "tool", "content": "x", "id": "1"}),
                ("gen_ai.choice", {"message": '[{"text": "r"}]', "finish_reason": "end_turn"}),
            ],
            [
                {"role": "user", "content": [{"text": "q"}]},
                {"role": "tool", "content": "x", "id": "1"},
            ],
            [{"role": "assistant", "finish_reason": "end_turn", "content": [{"text": "r"}]}],
        ),
        (
            [
                (
                    "gen_ai.client.inference.operation.details",
                    {"gen_ai.input.messages": "[1]", "gen_ai.output.messages": "[2]"},
                )
            ],
            [1],
            [2],
        ),
        ([("gen_ai.user.message", {"gen_ai.event.content": "q"})], [{"role": "user", "content": "q"}], None),
    ],
)
async def test_messages_in_events(tracing: Tracing, events: Any, given: Any, result: Any) -> None:
    """One event for each message, or one with all of them, as versions of the GenAI conventions had it."""
    async with recorded_run() as exporter:
        with tracing.tracer.start_as_current_span("a") as span:
            span.set_attribute("gen_ai.operation.name", "chat")
            for name, attributes in events:
                span.add_event(name, attributes)
    end = exporter.steps[-1]
    assert (plain(end.input), plain(end.output)) == (given, result)


async def test_what_is_not_utf8_is_still_written(tracing: Tracing) -> None:
    """A lone surrogate in a name, an attribute or a description is escaped."""
    async with recorded_run() as exporter:
        with tracing.tracer.start_as_current_span("a\ud800", attributes={"input.value": "b\ud800"}) as span:
            span.set_status(trace.StatusCode.ERROR, "c\ud800")
    for each in exporter.steps:
        assert msgspec.json.encode(each)
