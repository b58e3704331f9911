"""ContentSwitch: inputs and outputs that do not leave at all."""

from __future__ import annotations

import msgspec
import pytest

from nat_observability.errors import UnknownStepKindError
from nat_observability.events import Boundary, StepKind
from nat_observability.processors import ContentSwitch
from nat_observability.recording.capture import capture_json
from tests.processors.builders import a_span, a_step, an_error, identity


def test_by_default_everything_is_kept() -> None:
    """The same object goes on."""
    span = a_span("a", "b")
    assert ContentSwitch()(span) is span


def test_inputs_and_outputs_are_left_out() -> None:
    """Each by its own switch; everything else stays."""
    span = a_span("a", "b", metadata={"c": 1}, error=an_error("d"), tags=("e",))
    without_inputs = ContentSwitch(capture_inputs=False)(span)
    assert (without_inputs.input, without_inputs.output) == (None, "b")
    without_both = ContentSwitch(capture_inputs=False, capture_outputs=False)(span)
    assert (without_both.input, without_both.output) == (None, None)
    assert identity(without_both) == identity(span)
    assert (without_both.metadata, without_both.error, without_both.tags) == (
        span.metadata,
        span.error,
        span.tags,
    )


def test_chunks_are_outputs() -> None:
    """The chunks of a step are not kept either."""
    step = a_step("a", chunk="b", output="c", boundary=Boundary.CHUNK)
    switched = ContentSwitch(capture_outputs=False)(step)
    assert (switched.input, switched.chunk, switched.output) == ("a", None, None)  # type: ignore[union-attr]


def test_kinds_of_steps_have_their_own_switch() -> None:
    """By name in any case, or as a kind; kinds that are not named are kept."""
    switch = ContentSwitch(
        capture_inputs={"llm": False, "TOOL": True}, capture_outputs={StepKind.TOOL: False}
    )
    model, tool = a_span("a", "b", kind=StepKind.LLM), a_span("a", "b", kind=StepKind.TOOL)
    task = a_span("a", "b", kind=StepKind.TASK)
    assert (switch(model).input, switch(model).output) == (None, "b")
    assert (switch(tool).input, switch(tool).output) == ("a", None)
    assert switch(task) is task


def test_an_unknown_kind_is_refused() -> None:
    """When the switch is made."""
    with pytest.raises(UnknownStepKindError, match="Did you mean 'TOOL'"):
        ContentSwitch(capture_inputs={"TOOLS": False})


# What instrumentations of their own name their content by: Pydantic AI, Logfire and Google's ADK.
_INPUT_NAMES = (
    "request_data",
    "tool_arguments",
    "gcp.vertex.agent.llm_request",
    "gcp.vertex.agent.tool_call_args",
)
_OUTPUT_NAMES = (
    *("final_result", "response_data", "tool_response"),
    *("gcp.vertex.agent.llm_response", "gcp.vertex.agent.tool_response"),
)
_BOTH_NAMES = ("all_messages_events", "pydantic_ai.all_messages", "gcp.vertex.agent.data")


@pytest.mark.parametrize(
    ("switch", "gone", "kept"),
    [
        (ContentSwitch(capture_inputs=False), _INPUT_NAMES + _BOTH_NAMES, _OUTPUT_NAMES),
        (ContentSwitch(capture_outputs=False), _OUTPUT_NAMES + _BOTH_NAMES, _INPUT_NAMES),
    ],
    ids=["inputs", "outputs"],
)
def test_frameworks_own_names_of_content_are_left_out(
    switch: ContentSwitch, gone: tuple[str, ...], kept: tuple[str, ...]
) -> None:
    """Of whole conversations too, which hold both."""
    told = dict.fromkeys((*gone, *kept, "model_name"), "tea")
    span = msgspec.structs.replace(a_span(), attributes=capture_json(told))
    left = switch(span).attributes
    assert left is not None
    assert set(msgspec.json.decode(left)) == {*kept, "model_name"}
