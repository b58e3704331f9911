"""response(), request(), documents(), tool_call(), score() and chunk() on a step: what a span has of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import MagicMock, Mock

import pytest
from structlog.testing import capture_logs

from nat_observability import TokenUsage, step
from nat_observability.recording.answers import provider_name
from nat_observability.testing import StepNode, recorded_run

CHAT: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-5-2025-08-07",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "content": "Let me see.",
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
                    }
                ],
            },
        }
    ],
    "usage": {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29},
}
MESSAGES = [
    {
        "role": "assistant",
        "parts": [
            {"type": "text", "content": "Let me see."},
            {"type": "tool_call", "id": "call_1", "name": "weather", "arguments": {"city": "Rome"}},
        ],
        "finish_reason": "tool_call",
    }
]


async def recorded(record: Callable[[step], object], kind: str = "llm", **arguments: Any) -> StepNode:
    """The step in which this was recorded."""
    async with recorded_run() as run:
        with step(kind, "gpt-5", **arguments) as current:
            record(current)
    [node] = run.tree
    return node


# -- Answers ----------------------------------------------------------------------------------------------------------


async def test_a_response_is_output_usage_and_attributes() -> None:
    """In the words of the GenAI conventions."""
    node = await recorded(lambda call: call.response(CHAT), provider="OpenAI")
    assert node.output == MESSAGES
    assert node.usage == TokenUsage(20, 9, total_tokens=29)
    assert node.attributes == {
        "gen_ai.provider.name": "OpenAI",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "gpt-5-2025-08-07",
        "gen_ai.response.finish_reasons": ["tool_calls"],
    }


async def test_what_the_application_has_set_is_kept() -> None:
    """Output, usage and provider, whether they were set before or as arguments."""

    def record(call: step) -> None:
        call.output, call.usage = "mine", TokenUsage(1, 2)
        call.response(CHAT)

    node = await recorded(record, attributes={"gen_ai.provider.name": "my.proxy"})
    assert (node.output, node.usage) == ("mine", TokenUsage(1, 2, total_tokens=3))
    assert node.attributes["gen_ai.provider.name"] == "my.proxy"


async def test_a_response_is_recorded_as_it_was() -> None:
    """What the application does to the answer afterwards changes nothing."""
    answer = json.loads(json.dumps(CHAT))
    arguments: dict[str, Any] = {"city": "Rome"}
    answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] = arguments

    def record(call: step) -> None:
        call.response(answer)
        arguments["city"] = "Oslo"
        answer["choices"].clear()

    assert (await recorded(record)).output == MESSAGES


async def test_an_answer_that_a_decorated_function_returns_is_read() -> None:
    """Its usage and its ids; the output is recorded as it was returned."""

    @step("llm", "gpt-5")
    def ask() -> dict[str, Any]:
        return CHAT

    @step("llm", "gpt-5")
    def remember() -> dict[str, Any]:
        return {"rows": 3}

    async with recorded_run() as run:
        ask()
        remember()
        with step("tool", "ask") as current:
            current.output = CHAT
    first, second, tool = run.tree
    assert (first.output, first.usage) == (CHAT, TokenUsage(20, 9, total_tokens=29))
    assert first.attributes["gen_ai.response.id"] == "chatcmpl-1"
    assert (second.output, second.usage, second.attributes) == ({"rows": 3}, None, {})
    assert (tool.output, tool.usage, tool.attributes) == (CHAT, None, {})


class Wrapped(NamedTuple):
    choices: list[Any]


@pytest.mark.parametrize(
    ("answer", "output"),
    [
        ("plain text", [{"role": "assistant", "parts": [{"type": "text", "content": "plain text"}]}]),
        (
            {"role": "assistant", "content": "Hi."},
            [{"role": "assistant", "parts": [{"type": "text", "content": "Hi."}]}],
        ),
        (MESSAGES[0], MESSAGES),
        (Wrapped([]), None),
        ([[0.5, 0.25], [0.0, 1.0]], {"count": 2, "dimensions": 2}),
        ([0.5, 0.25, 1.0], {"count": 1, "dimensions": 3}),
    ],
)
async def test_plain_answers(answer: object, output: object) -> None:
    """A text, a message alone, one in the words of the conventions, bare vectors."""
    assert (await recorded(lambda call: call.response(answer))).output == output


class Unknown:
    def __repr__(self) -> str:
        return "<unknown>"


class Raising:
    def __getattr__(self, name: str) -> object:
        raise SystemExit(name)


@pytest.mark.parametrize(
    "answer", [Unknown(), Raising(), Mock(), MagicMock(), {"a": 1}, [], (1, 2), 3, {"choices": 1}]
)
async def test_an_answer_that_is_not_understood_is_recorded_as_it_is(answer: object) -> None:
    """It is never silently empty, and nothing raises."""
    node = await recorded(lambda call: call.response(answer))
    assert node.output is not None
    assert (node.usage, node.attributes) == (None, {})


async def test_an_answer_that_is_not_understood_is_logged_once() -> None:
    """By the name of its type."""

    class NeverSeen:
        pass

    with capture_logs() as lines:
        for _ in range(2):
            await recorded(lambda call: call.response(NeverSeen()))
    [line] = [line for line in lines if line["event"] == "answer_not_understood"]
    assert (line["what"], line["log_level"]) == ("answer", "warning")
    assert line["type"].endswith("NeverSeen")


async def test_none_of_it_outlives_its_bounds() -> None:
    """A long answer is cut, with its size, as any other output."""
    answer = {"role": "assistant", "content": "word " * 1_000_000}
    node = await recorded(lambda call: call.response(answer))
    [part] = node.output[0]["parts"]
    assert len(part["content"]) <= 1024 * 1024 + 20
    assert part["content"].endswith("[cut:5000000]")


def test_outside_a_run_nothing_is_read() -> None:
    """Nothing looks at the answer."""

    class Unreadable:
        def __getattr__(self, name: str) -> object:
            raise AssertionError(name)

    with step("llm", "gpt-5", provider="openai") as call:
        call.request(temperature=Unreadable())
        call.response(Unreadable())
        call.documents([Unreadable()])
        call.tool_call(Unreadable())
        call.score("relevance", 1.0)
        call.chunk(Unreadable())
    assert call.output is None


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("openai", "openai"),
        ("azure", "azure.ai.openai"),
        ("Azure-OpenAI", "azure.ai.openai"),
        ("bedrock", "aws.bedrock"),
        ("bedrock_converse", "aws.bedrock"),
        ("gemini", "gcp.gemini"),
        ("google-vertex", "gcp.vertex_ai"),
        ("google_genai", "gcp.gen_ai"),
        ("gcp.vertex_ai", "gcp.vertex_ai"),
        ("mistralai", "mistral_ai"),
        ("xai", "x_ai"),
        ("watsonx", "ibm.watsonx.ai"),
        ("my own", "my own"),
    ],
)
def test_providers_have_their_well_known_names(given: str, name: str) -> None:
    """Those of the conventions; any other is kept as it is."""
    assert provider_name(given) == name


async def test_the_provider_of_a_decorated_function() -> None:
    """Each call has it, beside the attributes of the decorator."""

    @step("llm", "gpt-5", provider="azure", attributes={"tier": 1})
    def ask() -> str:
        return "Hi."

    async with recorded_run() as run:
        ask()
        ask()
    assert [node.attributes for node in run.tree] == [
        {"gen_ai.provider.name": "azure.ai.openai", "tier": 1}
    ] * 2


# -- Requests ---------------------------------------------------------------------------------------------------------


async def test_parameters_have_the_names_of_the_conventions() -> None:
    """Whichever maker's names they are given under; None and a client's mark for "not given" are left out."""

    class NotGiven:
        pass

    def record(call: step) -> None:
        call.request(
            temperature=0.5,
            top_p=0.9,
            top_k=40,
            max_output_tokens=100,
            stop="END",
            seed=7,
            frequency_penalty=0.1,
            presence_penalty=-0.1,
            n=2,
            reasoning={"effort": "low"},
            response_format={"type": "json_schema", "json_schema": {}},
            service_tier="flex",
            logit_bias={"50256": -100},
            user=None,
            timeout=NotGiven(),
            stream=True,
        )

    assert (await recorded(record)).attributes == {
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.top_k": 40,
        "gen_ai.request.max_tokens": 100,
        "gen_ai.request.stop_sequences": ["END"],
        "gen_ai.request.seed": 7,
        "gen_ai.request.frequency_penalty": 0.1,
        "gen_ai.request.presence_penalty": -0.1,
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.reasoning.level": "low",
        "gen_ai.output.type": "json",
        "openai.request.service_tier": "flex",
        "gen_ai.request.logit_bias": {"50256": -100},
        "gen_ai.request.stream": True,
    }


@pytest.mark.parametrize(
    "parameters",
    [
        {"config": SimpleNamespace(temperature=0.5, max_output_tokens=9, stop_sequences=["END"])},
        {"inferenceConfig": {"temperature": 0.5, "maxTokens": 9, "stopSequences": ["END"]}},
        {"options": {"temperature": 0.5, "num_predict": 9, "stop": ["END"]}},
    ],
)
async def test_parameters_inside_another(parameters: dict[str, Any]) -> None:
    """As Google, Bedrock and Ollama take them."""
    assert (await recorded(lambda call: call.request(**parameters))).attributes == {
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.stop_sequences": ["END"],
    }


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "name": "weather", "description": "The weather.", "parameters": SCHEMA}
_TOLD = {"name": "weather", "description": "The weather."}


def weather(city: str) -> str:
    """The weather."""
    return city


@pytest.mark.parametrize(
    ("tools", "definition"),
    [
        ([{"type": "function", "function": {**_TOLD, "parameters": SCHEMA}}], TOOL),
        ([TOOL], TOOL),
        ([{**_TOLD, "input_schema": SCHEMA}], TOOL),
        ({"tools": [{"toolSpec": {**_TOLD, "inputSchema": {"json": SCHEMA}}}]}, TOOL),
        ([{"functionDeclarations": [{**_TOLD, "parameters": SCHEMA}]}], TOOL),
        ([SimpleNamespace(function_declarations=[SimpleNamespace(**_TOLD, parameters=SCHEMA)])], TOOL),
        ([weather], {"type": "function", **_TOLD}),
        (
            [{"type": "web_search_20250305", "name": "web_search"}],
            {"type": "web_search_20250305", "name": "web_search"},
        ),
    ],
)
async def test_tools_are_definitions(tools: object, definition: object) -> None:
    """Of any maker's form, and a function by its name and what it says of itself."""
    node = await recorded(lambda call: call.request(tools=tools))
    assert node.attributes == {"gen_ai.tool.definitions": [definition]}


async def test_messages_are_recorded_once() -> None:
    """Not again, if they are the input of the step; instructions are beside them in any case."""
    messages = [{"role": "user", "content": "Hi."}]
    instructed = {"gen_ai.system_instructions": [{"type": "text", "content": "Be kind."}]}
    with_input = await recorded(
        lambda call: call.request(messages=messages, system="Be kind."), input=messages
    )
    assert with_input.attributes == instructed
    without = await recorded(lambda call: call.request(messages=messages, system="Be kind."))
    assert without.attributes == instructed | {"gen_ai.input.messages": messages}


# -- Documents, calls of tools, scores --------------------------------------------------------------------------------


@dataclass
class Document:
    """As LangChain's."""

    page_content: str
    metadata: dict[str, Any] = field(default_factory=dict)
    id: str | None = None


@dataclass
class Node:
    """As LlamaIndex's."""

    text: str
    id_: str
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass
class NodeWithScore:
    """As LlamaIndex's."""

    node: Node
    score: float | None


WHOLE = {"id": "d1", "score": 0.5, "content": "Rain.", "metadata": {"page": 3}}


@pytest.mark.parametrize(
    ("found", "document"),
    [
        ([Document("Rain.", {"page": 3}, "d1")], {k: v for k, v in WHOLE.items() if k != "score"}),
        ([(Document("Rain.", {"page": 3}, "d1"), 0.5)], WHOLE),
        ([(0.5, Document("Rain.", {"page": 3}, "d1"))], WHOLE),
        ([NodeWithScore(Node("Rain.", "d1", {"page": 3}), 0.5)], WHOLE),
        (SimpleNamespace(source_nodes=[NodeWithScore(Node("Rain.", "d1", {"page": 3}), 0.5)]), WHOLE),
        ([WHOLE], WHOLE),
        ({"matches": [{"id": "d1", "score": 0.5, "metadata": {"page": 3}, "text": "Rain."}]}, WHOLE),
        ([SimpleNamespace(id="d1", score=0.5, payload={"page": 3}, document="Rain.")], WHOLE),
        (["Rain."], {"content": "Rain."}),
        ([("Rain.", 1)], {"content": "Rain.", "score": 1}),
        (Document("Rain."), {"content": "Rain."}),
        ([{"id": 7}], {"id": 7}),
    ],
)
async def test_documents(found: object, document: object) -> None:
    """Id, score, content and metadata, as far as they are known."""
    node = await recorded(lambda current: current.documents(found), "retriever")
    assert node.attributes == {"gen_ai.retrieval.documents": [document]}


@pytest.mark.parametrize("found", [[Unknown()], [Raising()], [(1, 2, 3)], [None], Mock(), [[]]])
async def test_documents_that_are_not_understood_are_recorded(found: object) -> None:
    """As they are, and their type is logged."""
    node = await recorded(lambda current: current.documents(found), "retriever")
    [document] = node.attributes["gen_ai.retrieval.documents"]
    assert set(document) == {"content"}


@pytest.mark.parametrize(
    "call",
    [
        CHAT["choices"][0]["message"]["tool_calls"][0],
        {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Rome"}},
        {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "call_1",
            "name": "weather",
            "arguments": '{"city": "Rome"}',
        },
        {"name": "weather", "args": {"city": "Rome"}, "id": "call_1", "type": "tool_call"},
        {"toolUse": {"toolUseId": "call_1", "name": "weather", "input": {"city": "Rome"}}},
        {"functionCall": {"id": "call_1", "name": "weather", "args": {"city": "Rome"}}},
        SimpleNamespace(
            text=None, function_call=SimpleNamespace(id="call_1", name="weather", args={"city": "Rome"})
        ),
        SimpleNamespace(id="call_1", name="weather", args={"city": "Rome"}),
        MESSAGES[0]["parts"][1],
    ],
)
async def test_a_tool_carries_out_a_call(call: object) -> None:
    """Its id and its arguments, of any maker's form."""
    async with recorded_run() as run:
        with step("tool", "weather") as current:
            current.tool_call(call)
    [node] = run.tree
    assert node.attributes == {
        "gen_ai.tool.call.id": "call_1",
        "gen_ai.tool.call.arguments": {"city": "Rome"},
    }


async def test_a_call_that_is_not_understood_is_logged() -> None:
    """Once for its type: nothing else says that the step has neither id nor arguments."""

    class Odd:
        """Anything but a call."""

    with capture_logs() as lines:
        node = await recorded(lambda current: current.tool_call(Odd()), "tool")
    assert node.attributes == {}
    assert [line["what"] for line in lines if line["event"] == "answer_not_understood"] == ["tool_call"]


async def test_a_call_by_its_id() -> None:
    """With the arguments beside it."""
    node = await recorded(lambda current: current.tool_call("call_1", {"city": "Rome"}), "tool")
    assert node.attributes == {
        "gen_ai.tool.call.id": "call_1",
        "gen_ai.tool.call.arguments": {"city": "Rome"},
    }


@pytest.mark.parametrize(
    ("arguments", "attributes"),
    [
        ((0.75,), {"score.value": 0.75}),
        ((True, "pass"), {"score.value": 1.0, "score.label": "pass"}),
        (("good",), {"score.label": "good"}),
        (
            (1, "relevant", "It is about rain."),
            {"score.value": 1.0, "score.label": "relevant", "explanation": "It is about rain."},
        ),
        ((float("nan"),), {"score.value": "NaN"}),
        ((None, "fail"), {"score.label": "fail"}),
    ],
)
async def test_a_score_is_an_event(arguments: tuple[Any, ...], attributes: dict[str, Any]) -> None:
    """`gen_ai.evaluation.result`, with what is known of it."""
    node = await recorded(lambda current: current.score("relevance", *arguments), "evaluator")
    [event] = node.events
    assert event.name == "gen_ai.evaluation.result"
    assert event.attributes == {"gen_ai.evaluation.name": "relevance"} | {
        f"gen_ai.evaluation.{name}": value for name, value in attributes.items()
    }


@pytest.mark.parametrize("value", [Unknown(), Raising(), [1], {}])
async def test_a_score_that_is_no_number_is_recorded(value: object) -> None:
    """Marked as wrong in the log; nothing raises."""
    with capture_logs() as lines:
        node = await recorded(lambda current: current.score("relevance", value), "evaluator")
    assert "gen_ai.evaluation.score.value" in node.events[0].attributes
    assert {line["event"] for line in lines if line["log_level"] == "warning"} <= {"step_data_invalid"}
