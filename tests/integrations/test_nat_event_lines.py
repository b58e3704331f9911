"""parse_line: what the reference toolkit wrote is what the step says, and nothing else is a step."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat_observability.events import Boundary, Captured, Run, StepKind, TokenUsage
from nat_observability.integrations.nat.event_lines import NatLine, NatLineError, parse_line
from tests.cli.builders import PLAIN, SIDECAR, TRACE, line, sidecar, workflow

RUN = Run("run-1", TRACE)


def parsed(value: dict[str, Any]) -> NatLine:
    return parse_line(json.dumps(value).encode())


def value_of(captured: Captured) -> Any:
    return msgspec.json.decode(captured) if isinstance(captured, msgspec.Raw) else captured


@pytest.mark.parametrize(
    ("event", "kind", "boundary"),
    [
        ("WORKFLOW_START", StepKind.WORKFLOW, Boundary.START),
        ("TTC_END", StepKind.TTC, Boundary.END),
        ("LLM_NEW_TOKEN", StepKind.LLM, Boundary.CHUNK),
        ("SPAN_CHUNK", StepKind.SPAN, Boundary.CHUNK),
    ],
)
def test_an_event_type_is_a_kind_and_a_boundary(event: str, kind: StepKind, boundary: Boundary) -> None:
    """The toolkit's event types map to our kinds and boundaries, the two kinds of chunk included."""
    found = parsed(line(event, "u"))
    assert (found.kind, found.boundary) == (kind, boundary)


def test_the_step_is_the_line() -> None:
    """Ids, times, payload, tags and name of the line are those of the step."""
    data = {"input": {"q": 1}, "output": "text \u2028", "chunk": ["a"]}
    found = parsed(line("TOOL_END", "u", "p", name="search", data=data, tags=["t"]))
    step = found.step(RUN)
    assert (step.run, step.step_id, step.parent_id, step.name) == (RUN, "u", "p", "search")
    assert step.time_ns == 1_700_000_000_250_000_000
    assert step.tags == ("t",)
    assert [value_of(each) for each in (step.input, step.output, step.chunk)] == [
        {"q": 1},
        "text \u2028",
        ["a"],
    ]


def test_what_has_no_field_is_metadata() -> None:
    """What the toolkit tells beyond our fields is kept in the metadata; what it leaves null is not."""
    told = line("TTC_END", "u", metadata={"a": 1, "b": None}, data={"score": 0.5}, retries=2, framework=None)
    metadata = msgspec.json.decode(parsed(told).metadata or b"{}")
    assert metadata.pop("nat.function_ancestry")["function_name"] == "root"
    assert metadata == {"a": 1, "nat.data.score": 0.5, "nat.retries": 2}


def test_usage_is_that_of_the_end() -> None:
    """A chunk that repeats the usage of its END has none: the tokens would be counted twice."""
    usage = {"token_usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}
    assert parsed(line("LLM_NEW_TOKEN", "u", usage_info=usage)).usage is None
    assert parsed(line("LLM_END", "u", usage_info=usage)).usage == TokenUsage(3, 4, total_tokens=7)


def test_a_workflow_tells_its_run() -> None:
    """Of the plain lines those of a workflow tell the run, others do not."""
    run = parsed(workflow("WORKFLOW_START", "w", "r-1")).run
    assert run is not None
    assert (run.run_id, run.trace_id, run.conversation_id) == ("r-1", TRACE, "conv-1")
    assert parsed(line("TOOL_START", "t", "w", metadata={"provided_metadata": {}})).run is None


def test_a_sidecar_tells_its_run() -> None:
    """A line with its run beside it belongs to that run, whatever the step says."""
    found = parsed(sidecar("r-2", workflow("WORKFLOW_START", "w", "r-1")))
    assert found.attributed
    assert found.run is not None
    assert found.run.run_id == "r-2"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "empty"),
        (b"  \r", "empty"),
        (b'{"payload": {"event_', "not JSON, or torn"),
        (b"payload=IntermediateStepPayload(event_type=", "not JSON, or torn"),
        (b'{"payload": "\xff"}', "not UTF-8"),
        (b'{"a": ' * 100_000, "nested too deeply"),
        (b"[]", "no step of the toolkit"),
        (b'{"level": "info"}', "neither `payload` nor `step`"),
        (b'{"step": {"payload": {}}}', "without `workflow_run_id`"),
        (json.dumps(line("LUNCH_START", "u")).encode(), "event type 'LUNCH_START'"),
        (json.dumps(line("LLM_START", "")).encode(), "no step of the toolkit"),
        (json.dumps(line("LLM_START", "u", event_timestamp=1e300)).encode(), "no step of the toolkit"),
        (
            json.dumps(line("LLM_END", "u", usage_info={"token_usage": {"prompt_tokens": 2**63}})).encode(),
            "no step of the toolkit",
        ),
        (json.dumps(line("LLM_START", "u")).replace("null", "1e999", 1).encode(), "no step of the toolkit"),
        (json.dumps(line("LLM_START", "u", data={"input": "\ud800"})).encode(), "not JSON, or torn"),
    ],
)
def test_anything_else_is_not_a_step(text: bytes, reason: str) -> None:
    """A line that is torn, not JSON or of something else is refused with a reason, and so is what no store holds."""
    with pytest.raises(NatLineError, match=reason.replace("(", r"\(")):
        parse_line(text)


@pytest.mark.parametrize("path", [PLAIN, SIDECAR], ids=["plain", "sidecar"])
def test_every_recorded_line_is_a_step(path: Any) -> None:
    """No line of the recorded files is refused, with characters that other readers take for line breaks in them."""
    lines = path.read_bytes().split(b"\n")[:-1]
    assert len([parse_line(each) for each in lines]) == 895


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_no_line_ends_the_reading(text: bytes) -> None:
    """Whatever a line holds, it is a step or is refused."""
    with suppress(NatLineError):
        parse_line(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.sampled_from(
        ["event_type", "event_timestamp", "UUID", "name", "tags", "metadata", "data", "usage_info"]
    ),
    JSON,
)
def test_no_payload_ends_the_reading(key: str, value: Any) -> None:
    """Whatever a field of the payload holds, the line is a step or is refused."""
    payload = line("LLM_END", "u")
    payload["payload"][key] = value
    with suppress(NatLineError):
        parse_line(json.dumps(payload).encode()).step(RUN)
