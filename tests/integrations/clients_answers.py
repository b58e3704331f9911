"""
Answers of makers of models as objects of their clients' own classes, each read and compared with what is expected.

A program for the environment that `make .venv-clients/.installed` builds. It prints how many were read, and
those that were read otherwise than expected, as JSON.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

# Or LiteLLM asks a server for its prices.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

from pydantic import TypeAdapter

from nat_observability import step
from nat_observability.testing import StepNode, recorded_run

DATA = Path(__file__).parents[1] / "data" / "answers"


def built(class_path: str | None, payload: Any) -> Any:
    """Return an answer, or a chunk of a stream, as the client makes it."""
    if class_path is None:
        return payload
    return adapter(class_path).validate_python(payload)


@functools.cache
def adapter(class_path: str) -> TypeAdapter[Any]:
    """Return what makes objects of a class, or of one of several."""
    module, _, name = class_path.partition(":")
    return TypeAdapter(getattr(importlib.import_module(module), name))


async def recorded(case: dict[str, Any]) -> StepNode:
    """Return what a step records of it."""
    async with recorded_run() as run:
        with step("llm", "model") as call:
            if "payload" in case:
                call.response(built(case.get("class"), case["payload"]))
            for event in case.get("events", ()):
                call.chunk(built(case.get("class"), event))
    [node] = run.tree
    return node


def expected(case: dict[str, Any]) -> dict[str, Any]:
    """Return what a span has of it."""
    found = case["expected"]
    named = {
        "gen_ai.provider.name": case.get("provider", found.get("provider")),
        "gen_ai.response.id": found.get("response_id"),
        "gen_ai.response.model": found.get("model"),
        "gen_ai.response.finish_reasons": found.get("finish_reasons"),
    }
    attributes = found.get("attributes", {}) | {
        name: value for name, value in named.items() if value is not None
    }
    output = found.get("messages", found.get("output"))
    return {"output": without_nulls(output), "usage": found.get("usage", {}), "attributes": attributes}


def without_nulls(value: Any) -> Any:
    """Return the same without the fields that the recorded answers leave out."""
    if isinstance(value, dict):
        return {name: without_nulls(each) for name, each in value.items() if each is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


def main() -> None:
    warnings.simplefilter("ignore")  # of the clients about their own classes
    read, different = 0, []
    for path in sorted(DATA.glob("*.json")):
        for case in json.loads(path.read_text()):
            node = asyncio.run(recorded(case))
            counts = (
                {}
                if node.usage is None
                else {name: n for name in node.usage.__struct_fields__ if (n := getattr(node.usage, name))}
            )
            found = {"output": without_nulls(node.output), "usage": counts, "attributes": node.attributes}
            read += 1
            if found != expected(case):
                different.append([path.stem, case["case"], found, expected(case)])
    sys.stdout.write(json.dumps({"read": read, "different": different}))


main()
