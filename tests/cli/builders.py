"""What the tests of the command share: recorded lines, and the command in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.warm_interpreter import Ended, run_warm

DATA = Path(__file__).parents[1] / "data"
PLAIN = DATA / "nat_runs_a.jsonl"
SIDECAR = DATA / "nat_runs_a_with_run.jsonl"

TRACE = "1c89f8fc52e245b19427c6333e8d0c88"

KEYS = (
    "lines",
    "runs",
    "runs_ok",
    "runs_failed",
    "spans",
    "spans_paired",
    "spans_unpaired",
    "spans_by_category",
    "max_depth",
    "llm_calls",
    "token_usage_of_llm_ends",
)

_ROOT = Path(__file__).parents[2]

# The command, for a warm interpreter.
COMMAND = "import runpy; runpy.run_module('nat_observability.cli', run_name='__main__', alter_sys=True)"


def expected() -> dict[str, Any]:
    """The true counts of both recorded files, as far as a reader can know them."""
    whole = json.loads((DATA / "expected_a.json").read_text(encoding="utf-8"))
    return {key: whole[key] for key in KEYS}


def line(event: str, uuid: str, parent: str = "root", **payload: Any) -> dict[str, Any]:
    """A line of the plain form; `payload` replaces or adds to the payload's keys."""
    return {
        "parent_id": parent,
        "function_ancestry": {"function_id": "root", "function_name": "root", "parent_id": None},
        "payload": {
            "event_type": event,
            "event_timestamp": 1_700_000_000.25,
            "name": "step",
            "UUID": uuid,
            "metadata": None,
            "data": None,
            "usage_info": None,
            **payload,
        },
    }


def workflow(
    event: str, uuid: str, run_id: str | None = None, parent: str = "root", **payload: Any
) -> dict[str, Any]:
    """A WORKFLOW line that tells its run."""
    ids = {
        "workflow_run_id": run_id or f"run-of-{uuid}",
        "workflow_trace_id": TRACE,
        "conversation_id": "conv-1",
    }
    return line(event, uuid, parent, metadata={"provided_metadata": ids}, **payload)


def sidecar(run_id: str, step: dict[str, Any]) -> dict[str, Any]:
    """A line of the form with the run beside the step."""
    return {"workflow_run_id": run_id, "workflow_trace_id": TRACE, "conversation_id": None, "step": step}


def write_lines(path: Path, *lines: dict[str, Any] | bytes) -> Path:
    """Write a file of lines, of which some may be anything."""
    encoded = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in lines]
    path.write_bytes(b"".join(each + b"\n" for each in encoded))
    return path


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("NAT_OBSERVABILITY_", "OTEL_")) and name != "COLUMNS"
    }
    return {**inherited, "PYTHONPATH": str(_ROOT), **variables}


@contextmanager
def command(*arguments: object, cwd: Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, with warnings as errors and no variables of ours but these."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "nat_observability.cli", *map(str, arguments)],
        cwd=cwd,
        env=_environment(variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run_command(*arguments: object, cwd: Path, **variables: str) -> Ended:
    """Run the command to its end, as `command` does."""
    return run_warm(COMMAND, list(map(str, arguments)), cwd=cwd, env=_environment(variables), timeout=18)
