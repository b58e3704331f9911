"""span_attributes(): the names that the two conventions give to what a span holds."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nat_observability.dialects.span_attributes import span_attributes
from nat_observability.events import ErrorDetails, Run, Span, Status, StepKind, TokenUsage

RUN = Run("run-1", "0" * 32)


def make_span(**fields: Any) -> Span:
    defaults: dict[str, Any] = {
        "run": RUN,
        "kind": StepKind.FUNCTION,
        "name": "lookup",
        "span_id": "0" * 16,
        "parent_id": None,
        "start_ns": 1_000_000_000,
        "end_ns": 3_000_000_000,
        "status": Status.OK,
    }
    return Span(**defaults | fields)


def test_a_bare_span_has_its_kind_and_its_run() -> None:
    """Nothing is made up about a span that holds nothing."""
    assert span_attributes(make_span()) == {
        "openinference.span.kind": "CHAIN",
        "nat.span.kind": "FUNCTION",
        "nat.workflow.run_id": "run-1",
    }


def test_a_model_call_has_both_vocabularies() -> None:
    """A model call carries its model, payload, tokens and streaming in both conventions at once."""
    span = make_span(
        run=Run("run-1", "0" * 32, "conv-1", "user-1", "assistant"),
        kind=StepKind.LLM,
        name="gpt-4",
        input=msgspec.Raw('{"city":"Zürich"}'.encode()),
        output="sunny",
        metadata=msgspec.Raw(b'{"a":1}'),
        tags=("x", "y"),
        usage=TokenUsage(10, 20, 3, 4, 30),
        chunks=5,
        first_chunk_ns=1_500_000_000,
    )
    assert span_attributes(span) == {
        "openinference.span.kind": "LLM",
        "nat.span.kind": "LLM",
        "nat.workflow.run_id": "run-1",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4",
        "gen_ai.request.stream": True,
        "gen_ai.response.time_to_first_chunk": 0.5,
        "gen_ai.conversation.id": "conv-1",
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 3,
        "gen_ai.usage.reasoning.output_tokens": 4,
        "llm.model_name": "gpt-4",
        "llm.token_count.prompt": 10,
        "llm.token_count.completion": 20,
        "llm.token_count.total": 30,
        "llm.token_count.prompt_details.cache_read": 3,
        "llm.token_count.completion_details.reasoning": 4,
        "session.id": "conv-1",
        "user.id": "user-1",
        "input.value": '{"city":"Zürich"}',
        "input.mime_type": "application/json",
        "output.value": "sunny",
        "output.mime_type": "text/plain",
        "metadata": '{"a":1}',
        "tag.tags": ("x", "y"),
    }


def test_a_span_has_the_tags_of_its_run() -> None:
    """Each tag is an attribute under a name of its own, which no attribute of the conventions has."""
    run = Run("run-1", "0" * 32, tags=(("gen_ai.operation.name", "mine"), ("tenant", "acme")))
    attributes = span_attributes(make_span(run=run, kind=StepKind.TOOL))
    assert attributes["nat.tag.tenant"] == "acme"
    assert attributes["nat.tag.gen_ai.operation.name"] == "mine"
    assert attributes["gen_ai.operation.name"] == "execute_tool"


def test_a_tool_has_its_name() -> None:
    """A tool is named in both conventions."""
    attributes = span_attributes(make_span(kind=StepKind.TOOL, name="search"))
    assert attributes["openinference.span.kind"] == "TOOL"
    assert attributes["gen_ai.operation.name"] == "execute_tool"
    assert attributes["gen_ai.tool.name"] == attributes["tool.name"] == "search"


@pytest.mark.parametrize(("workflow_name", "name"), [("assistant", "assistant"), (None, "lookup")])
def test_a_workflow_has_its_name(workflow_name: str | None, name: str) -> None:
    """A workflow goes by the name that its run gives it, else by its step's."""
    run = Run("run-1", "0" * 32, workflow_name=workflow_name)
    attributes = span_attributes(make_span(run=run, kind=StepKind.WORKFLOW))
    assert attributes["gen_ai.operation.name"] == "invoke_workflow"
    assert attributes["gen_ai.agent.name"] == attributes["gen_ai.workflow.name"] == name


@pytest.mark.parametrize("kind", StepKind)
def test_each_kind_has_a_kind_of_openinference(kind: StepKind) -> None:
    """OpenInference requires its kind on every span; ours is added if it has no word for it."""
    attributes = span_attributes(make_span(kind=kind))
    words = [
        "AGENT",
        "CHAIN",
        "EMBEDDING",
        "EVALUATOR",
        "GUARDRAIL",
        "LLM",
        "PROMPT",
        "RERANKER",
        "RETRIEVER",
        "TOOL",
    ]
    expected = kind.value if kind.value in words else "CHAIN"
    assert attributes["openinference.span.kind"] == expected
    assert attributes["nat.span.kind"] == kind.value


def test_counts_of_zero_are_left_out_if_models_may_not_count() -> None:
    """Tokens in and out are always given, cached and reasoning tokens only if there were any."""
    attributes = span_attributes(make_span(kind=StepKind.LLM, usage=TokenUsage()))
    assert attributes["gen_ai.usage.input_tokens"] == attributes["llm.token_count.prompt"] == 0
    assert not [name for name in attributes if "cache" in name or "reasoning" in name]


def test_an_empty_value_is_a_value() -> None:
    """An empty text was recorded as such, unlike nothing."""
    attributes = span_attributes(make_span(input="", output=msgspec.Raw(b"null")))
    assert (attributes["input.value"], attributes["output.value"]) == ("", "null")


def test_an_exception_is_described() -> None:
    """A span that an exception ended has its class under both names, its message and its traceback."""
    error = ErrorDetails("ValueError", "no such city", "Traceback ...")
    attributes = span_attributes(make_span(status=Status.ERROR, error=error))
    assert attributes["error.type"] == attributes["exception.type"] == "ValueError"
    assert attributes["exception.message"] == "no such city"
    assert attributes["exception.stacktrace"] == "Traceback ..."


def test_an_exception_without_traceback_has_none() -> None:
    """What was not recorded is not there, rather than empty."""
    attributes = span_attributes(make_span(status=Status.ERROR, error=ErrorDetails("ValueError", "no")))
    assert "exception.stacktrace" not in attributes


@pytest.mark.parametrize(
    ("status", "error_type"), [(Status.INCOMPLETE, "incomplete"), (Status.ERROR, "_OTHER")]
)
def test_a_span_that_failed_without_an_exception_says_so(status: Status, error_type: str) -> None:
    """`error.type` is there for every span that did not end well, and for no other."""
    assert span_attributes(make_span(status=status))["error.type"] == error_type
    assert "error.type" not in span_attributes(make_span())


def test_values_are_of_plain_types() -> None:
    """What encodes the attributes may compare types exactly: no value is of a subclass such as StepKind."""
    span = make_span(kind=StepKind.LLM, usage=TokenUsage(1, 2), error=ErrorDetails("E", "m"), tags=("a",))
    assert {type(value) for value in span_attributes(span).values()} <= {str, int, float, bool, tuple}


def test_the_dict_is_the_callers_own() -> None:
    """A caller may add to it."""
    span = make_span()
    span_attributes(span)["service.name"] = "mine"
    assert "service.name" not in span_attributes(span)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (StepKind.AGENT, {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "x"}),
        (
            StepKind.EMBEDDING,
            {
                "gen_ai.operation.name": "embeddings",
                "gen_ai.request.model": "x",
                "embedding.model_name": "x",
            },
        ),
        (StepKind.RETRIEVER, {"gen_ai.operation.name": "retrieval"}),
        (StepKind.RERANKER, {"reranker.model_name": "x"}),
    ],
)
def test_kinds_have_the_operations_of_the_conventions(kind: StepKind, expected: dict[str, str]) -> None:
    """Agents, embeddings and retrievals have one; a reranker has its model's name in OpenInference."""
    assert expected.items() <= span_attributes(make_span(kind=kind, name="x")).items()


def test_the_applications_attribute_wins() -> None:
    """An attribute that the application set replaces one of the same name that is derived from the span."""
    own = {
        "gen_ai.request.model": "mine",
        "openinference.span.kind": "AGENT",
        "session.id": 7,
        "a.b": [1, 2.5],
    }
    span = make_span(kind=StepKind.LLM, name="theirs", attributes=msgspec.Raw(msgspec.json.encode(own)))
    attributes = span_attributes(span)
    assert own.items() <= attributes.items()
    assert attributes["llm.model_name"] == "theirs"
