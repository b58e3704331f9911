"""What the tests of the sinks share: steps, spans, and Python in a process of its own."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

from nat_observability.events import Boundary, IntermediateStep, Run, Span, Status, StepKind

RUN = Run("run-1", "0123456789abcdef0123456789abcdef", "conv-1", "user-1", "workflow-1")

_ROOT = Path(__file__).parents[2]
_ids = itertools.count(1)


def make_span(**fields: Any) -> Span:
    """Return a span of `RUN` with an id of its own; `fields` replace the defaults."""
    defaults: dict[str, Any] = {
        "run": RUN,
        "kind": StepKind.FUNCTION,
        "name": "lookup",
        "span_id": f"{next(_ids):016x}",
        "parent_id": None,
        "start_ns": 1_700_000_000_000_000_000,
        "end_ns": 1_700_000_000_250_000_000,
        "status": Status.OK,
    }
    return Span(**defaults | fields)


def make_step(**fields: Any) -> IntermediateStep:
    """Return the START of a step of `RUN` with an id of its own; `fields` replace the defaults."""
    defaults: dict[str, Any] = {
        "run": RUN,
        "kind": StepKind.TOOL,
        "boundary": Boundary.START,
        "name": "search",
        "step_id": f"{next(_ids):016x}",
        "parent_id": None,
        "time_ns": 1_700_000_000_000_000_000,
    }
    return IntermediateStep(**defaults | fields)


def start_python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a Python process that can import the package and these tests, and talks text over pipes."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def run_python(code: str, *arguments: object) -> str:
    """Run Python code in a process of its own, which has to succeed, and return what it printed."""
    with start_python(code, *arguments) as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    return output
