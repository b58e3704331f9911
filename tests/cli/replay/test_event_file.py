"""EventFile: each line comes to its run, in its order, however damaged the file is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from nat_observability.cli.command_error import CommandError
from nat_observability.cli.replay.event_file import MAX_SKIPPED, EventFile
from nat_observability.events import Run
from tests.cli.builders import DATA, PLAIN, SIDECAR, line, sidecar, workflow, write_lines


def indexed(path: Path, **arguments: Any) -> tuple[dict[str, list[str]], EventFile]:
    """The step ids of each run, in their order, by run id."""
    with EventFile(path, **arguments) as file:
        file.index()
        found: dict[str, list[str]] = {}
        for run in file.runs:
            ids = found[run.run_id] = []
            while len(ids) < len(run):
                ids += [step.step_id for step in file.steps(run, len(ids), Run(run.run_id, "0" * 31 + "1"))]
    return found, file


def skipped(file: EventFile) -> dict[int, str]:
    return {each.line: each.reason for each in file.skipped}


@pytest.mark.parametrize("path", [PLAIN, SIDECAR], ids=["plain", "sidecar"])
def test_every_recorded_line_comes_to_its_run(path: Path) -> None:
    """In both forms the runs are those of the recording, with their ids and their number of lines, in their order."""
    table = json.loads((DATA / "expected_a.json").read_text(encoding="utf-8"))["run_table"]
    keys = ("workflow_run_id", "workflow_trace_id", "conversation_id", "root_name", "steps")
    with EventFile(path) as file:
        file.index()
        found = [(run.run_id, run.trace_id, run.conversation_id, run.name, len(run)) for run in file.runs]
        parents = {run.run_id: run.parent_span_id for run in file.runs}
    assert found == [tuple(run[key] for key in keys) for run in table]
    assert parents == {
        run["workflow_run_id"]: None if run["root_parent_id"] == "root" else run["root_parent_id"]
        for run in table
    }
    assert file.skipped == []


def test_lines_after_the_end_of_their_workflow_belong_to_it(tmp_path: Path) -> None:
    """A run is not over when its workflow has ended."""
    path = write_lines(
        tmp_path / "f",
        workflow("WORKFLOW_START", "w", "a"),
        workflow("WORKFLOW_START", "v", "b"),
        workflow("WORKFLOW_END", "w", "a"),
        line("TOOL_START", "t", "w"),
        line("TOOL_END", "t", "w"),
    )
    assert indexed(path)[0] == {"a": ["w", "w", "t", "t"], "b": ["v"]}


def test_a_torn_start_costs_one_line(tmp_path: Path) -> None:
    """If the START of a span is torn, its END says where it and what it encloses belong."""
    path = write_lines(
        tmp_path / "f",
        workflow("WORKFLOW_START", "w", "a"),
        b'{"parent_id":"w","payload":{"event_type":"FUNCTION_START","UUID":"f',
        line("TOOL_START", "t", "f"),
        line("TOOL_END", "t", "f"),
        line("FUNCTION_END", "f", "w"),
    )
    found, file = indexed(path)
    assert found == {"a": ["w", "t", "t", "f"]}
    assert list(skipped(file)) == [2]
    assert file.lines == 5


def test_a_torn_workflow_is_identified_by_its_end(tmp_path: Path) -> None:
    """If the START of a workflow is torn, its END names the run."""
    path = write_lines(tmp_path / "f", b"{", line("TOOL_START", "t", "w"), workflow("WORKFLOW_END", "w", "a"))
    assert indexed(path)[0] == {"a": ["t", "w"]}


def test_a_line_without_a_workflow_is_skipped(tmp_path: Path) -> None:
    """A line that no workflow encloses belongs to no run, and neither does one whose parents form a cycle."""
    path = write_lines(
        tmp_path / "f",
        workflow("WORKFLOW_START", "w", "a"),
        line("TOOL_START", "t", "nowhere"),
        line("TOOL_START", "x", "y"),
        line("TOOL_START", "y", "x"),
        line("TOOL_START", "z", "z"),
    )
    found, file = indexed(path)
    assert found == {"a": ["w"]}
    assert skipped(file) == dict.fromkeys(range(2, 6), "belongs to no run: no WORKFLOW step encloses it")


def test_a_nested_workflow_is_a_run_if_it_says_so(tmp_path: Path) -> None:
    """A workflow inside another one is a run of its own if it has its own id, else part of the outer one."""
    inside = line("WORKFLOW_START", "v", "w")
    path = write_lines(
        tmp_path / "f",
        workflow("WORKFLOW_START", "w", "a"),
        inside,
        workflow("WORKFLOW_START", "u", "b", parent="v"),
        line("TOOL_START", "s", "v"),
        line("TOOL_START", "t", "u"),
    )
    found, file = indexed(path)
    assert found == {"a": ["w", "v", "s"], "b": ["u", "t"]}
    assert [run.parent_span_id for run in file.runs] == [None, "v"]


def test_a_workflow_without_ids_is_named_like_its_span(tmp_path: Path) -> None:
    """A root workflow without a run id is still a run."""
    path = write_lines(tmp_path / "f", line("WORKFLOW_START", "w"), line("TOOL_START", "t", "w"))
    assert indexed(path)[0] == {"w": ["w", "t"]}


def test_equal_ids_in_two_runs_are_two_spans(tmp_path: Path) -> None:
    """With the run beside it, a step belongs to that run, though another run has a step of the same id."""
    path = write_lines(
        tmp_path / "f",
        sidecar("a", line("TOOL_START", "t", "w")),
        sidecar("b", line("TOOL_START", "t", "w")),
        sidecar("a", line("TOOL_END", "t", "w")),
    )
    assert indexed(path)[0] == {"a": ["t", "t"], "b": ["t"]}


def test_only_a_newline_ends_a_line(tmp_path: Path) -> None:
    """Other characters that Unicode counts as line breaks stand inside a line, and a last line needs no newline."""
    text = "a\u2028b\u2029c\u0085d\x1ce\x0b"
    start = json.dumps(workflow("WORKFLOW_START", "w", "a", data={"input": text}), ensure_ascii=False)
    path = tmp_path / "f"
    path.write_bytes(
        b"\xef\xbb\xbf" + start.encode() + b"\r\n" + json.dumps(line("TOOL_START", "t", "w")).encode()
    )
    with EventFile(path) as file:
        file.index()
        (first, _) = file.steps(file.runs[0], 0, Run("a", "1" * 32))
    assert first.input == text
    assert file.lines == 2


def test_a_line_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    """A line above the limit is skipped without being held, and the next one is found."""
    fits = json.dumps(workflow("WORKFLOW_START", "w", "a")).encode()
    path = write_lines(tmp_path / "f", b'"' + b"x" * 5000 + b'"', fits, b" " * (len(fits) + 1))
    found, file = indexed(path, max_line=len(fits) + 1)
    assert found == {"a": ["w"]}
    assert skipped(file) == {1: f"longer than {len(fits) + 1} bytes", 3: f"longer than {len(fits) + 1} bytes"}


def test_skipped_lines_are_bounded(tmp_path: Path) -> None:
    """Of many skipped lines only the first are kept, and all are counted."""
    path = write_lines(tmp_path / "f", workflow("WORKFLOW_START", "w", "a"), *[b"{}"] * (MAX_SKIPPED + 5))
    _, file = indexed(path)
    assert (len(file.skipped), file.skipped_count) == (MAX_SKIPPED, MAX_SKIPPED + 5)


def test_a_file_that_changes_is_noticed(tmp_path: Path) -> None:
    """A file that is cut while it is replayed is an error, and no run gets half a line."""
    path = write_lines(tmp_path / "f", workflow("WORKFLOW_START", "w", "a"))
    with EventFile(path) as file:
        file.index()
        os.truncate(path, 10)
        with pytest.raises(CommandError, match="has changed while it was read"):
            file.steps(file.runs[0], 0, Run("a", "1" * 32))


def missing(path: Path) -> None:
    """A path without a file."""


def empty(path: Path) -> None:
    path.touch()


def directory(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def foreign(path: Path) -> None:
    path.write_text('{"level": "info"}\n\n')


@pytest.mark.parametrize(
    ("prepare", "problem"),
    [
        (missing, "does not exist"),
        (empty, "is empty"),
        (directory, "is not a file"),
        (pipe, "is not a file"),
        (foreign, "holds no step in 2 lines; line 1: no step of the toolkit"),
    ],
)
def test_what_holds_no_step_is_a_clear_error(tmp_path: Path, prepare: Any, problem: str) -> None:
    """The error names the file, the problem and the cure."""
    path = tmp_path / "f"
    prepare(path)
    with pytest.raises(CommandError) as caught:
        indexed(path)
    assert f"{path} {problem}" in str(caught.value)
    assert str(caught.value).endswith(".")
    assert caught.value.exit_code == 2
