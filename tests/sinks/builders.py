"""What the tests of the sinks share: steps, spans, and Python in a process of its own."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from nat_observability.events import Boundary, IntermediateStep, Run, Span, Status, StepKind
from tests.processes import run_program

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
    fields = defaults | fields
    kind = fields["kind"]
    own = {"span_kind": kind.span_kind} if isinstance(kind, StepKind) else {}
    return Span(**own | fields)


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


@contextmanager
def python(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A Python process that can import the package and these tests; it and its children end with the block."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def run_python(code: str, *arguments: object, returncode: int = 0, fresh: bool = False) -> str:
    """Return what a program printed that has to end with `returncode`; `fresh` as in `run_program`."""
    return run_program(code, *arguments, status=returncode, fresh=fresh).stdout


def run_together(code: str, *arguments: object, names: str = "abcd") -> None:
    """
    Run Python code in a process for each of `names`, which is its last argument; each has to succeed.

    The code prints a line when it is ready, and reads one to start at the same moment as the others.
    """
    with ExitStack() as stack:
        processes = [stack.enter_context(python(code, *arguments, name)) for name in names]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            assert process.wait() == 0
