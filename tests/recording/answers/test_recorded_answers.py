"""Answers and streams of ten makers, as their clients' own classes have dumped them: what is read of each."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from nat_observability.recording.answers import AnswerJoiner, read_answer

DATA = Path(__file__).parents[2] / "data" / "answers"
CASES = [(path.stem, case) for path in sorted(DATA.glob("*.json")) for case in json.loads(path.read_text())]
_NAMES = [f"{maker}-{case['case']}" for maker, case in CASES]


def said(answer: Any) -> dict[str, Any] | None:
    """What an answer says, without what is empty or 0."""
    if answer is None:
        return None
    found: dict[str, Any] = json.loads(msgspec.json.encode(answer, enc_hook=vars))
    if found.get("usage") is not None:
        found["usage"] = {name: count for name, count in found["usage"].items() if count}
    return {name: value for name, value in found.items() if value not in (None, [], {})}


def read(case: dict[str, Any], made: Any) -> dict[str, Any] | None:
    """Read the case's answer, or its stream, of objects that `made` makes."""
    if "payload" in case:
        return said(read_answer(made(case["payload"])))
    joiner = AnswerJoiner()
    for event in case["events"]:
        assert joiner.add(made(event)) is not None
    return said(joiner.answer())


def objects(value: Any) -> Any:
    """The same as plain objects with attributes instead of dicts, but for what a model or a tool fills in freely."""
    if isinstance(value, list):
        return [objects(each) for each in value]
    if isinstance(value, dict):
        free = {"args", "arguments", "input", "metadata"}
        return SimpleNamespace(
            **{
                name: each if name in free and isinstance(each, dict) else objects(each)
                for name, each in value.items()
            }
        )
    return value


@pytest.mark.parametrize("case", [case for _, case in CASES], ids=_NAMES)
def test_what_is_read_of_a_dict(case: dict[str, Any]) -> None:
    """Ids, model, finish reasons, messages and tool calls as structure, and every count of the usage."""
    assert read(case, lambda payload: payload) == case["expected"]


@pytest.mark.parametrize(
    "case",
    [case for _, case in CASES if "class" in case],
    ids=[name for name in _NAMES if "bedrock" not in name],
)
def test_an_object_says_what_a_dict_says(case: dict[str, Any]) -> None:
    """Objects are read by their attributes, whatever their class is."""
    assert read(case, objects) == case["expected"]


@pytest.mark.parametrize("maker", sorted({maker for maker, _ in CASES}))
def test_each_maker_has_the_same_cases(maker: str) -> None:
    """An answer, a stream, a call of a tool and an empty answer."""
    cases = {case["case"] for of, case in CASES if of == maker}
    assert cases >= ({"answer", "stream", "tool call", "empty"})


CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
USUAL = next(case["payload"] for maker, case in CASES if (maker, case["case"]) == ("openai_chat", "answer"))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"content": ""},
        {"content": None},
        {"content": [{"type": "text", "text": "Hello"}]},
        {"role": "tool"},
        {"role": None},
        {"tool_calls": []},
        {"tool_calls": [CALL]},
        {"tool_calls": [CALL, CALL | {"id": "call_2"}, CALL | {"id": ""}]},
        {"tool_calls": [CALL | {"index": 1}, CALL | {"call_id": "other"}]},
        {
            "tool_calls": [
                CALL | {"function": {"name": "x", "arguments": arguments}} for arguments in ("", "[1", None)
            ]
        },
        {"tool_calls": [{"id": "call_1", "custom": {"name": "x", "input": "y"}}, CALL | {"function": None}]},
        {"tool_calls": [CALL] * 40},
        {"refusal": "No."},
        {"reasoning_content": "Hm."},
        {"function_call": {"name": "x", "arguments": "{}"}},
        {"audio": {"transcript": "Hello"}},
    ],
    ids=itertools.count(),
)
@pytest.mark.parametrize(
    "outer",
    [
        {},
        {"id": None},
        {"model": "m" * 2000},
        {"object": None},
        {"usage": None},
        {"usage": {}},
        {"service_tier": "", "system_fingerprint": "fp_1"},
        {"choices": []},
    ],
    ids=lambda each: "".join(each),
)
def test_the_usual_answer_says_what_any_other_does(outer: dict[str, Any], change: dict[str, Any]) -> None:
    """An answer with one message of text and calls of tools is read faster, from a dict or a model."""
    choice = USUAL["choices"][0]
    whole = USUAL | {"choices": [choice | {"message": choice["message"] | change}]} | outer
    assert said(read_answer(whole)) == said(read_answer(objects(whole)))
    for reason in (None, "", "length", "FINISH_REASON_STOP"):
        ended = whole | {"choices": [each | {"finish_reason": reason} for each in whole["choices"]]}
        assert said(read_answer(ended)) == said(read_answer(objects(ended)))
