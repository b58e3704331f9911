"""Tables in terminals of every width, and in pipes: what is cut, what is left out, and what never is."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from nat_observability.cli import listings, output
from nat_observability.cli.console import ResultConsole, plain_lines
from nat_observability.cli.reading import details
from nat_observability.events import Run, Span, Status, StepKind
from nat_observability.recording.capture import step_error
from nat_observability.sinks.sqlite import SqliteSink
from nat_observability.store import SpanNode, StatisticsRow, StoredRun
from tests.cli.builders import COMMAND
from tests.sinks.builders import make_span
from tests.warm_interpreter import run_warm

IDS = ["3502a8ee-607e-42a9-b555-e8a4f4a7f022", "order-2024-000017", "order-2024-000018"]
NAME = "answer a question about tea"
ERROR = "TimeoutError: the model did not answer within 30 seconds"


def stored(run_id: str, name: str | None = NAME, error: str | None = ERROR) -> StoredRun:
    status = "ok" if error is None else "error"
    return StoredRun(Run(run_id, "t" * 32), name, status, 1_700_000_000 * 10**9, 1_700_000_001 * 10**9, error)  # type: ignore[arg-type]


def printed(width: int, make: Callable[[int], object]) -> list[str]:
    """Return the lines of a table in a terminal of that width."""
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(make(width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [20, 30, 40, 50, 60, 79, 80, 100, 120, 200])
def test_ids_are_whole_at_every_width(width: int) -> None:
    """Other columns give way first; an id that is longer than a line goes on in the next."""
    lines = printed(width, lambda width: output.runs([stored(each) for each in IDS], width))
    assert max(map(cell_len, lines)) <= width
    text = "".join(line.split()[0] for line in lines[1:]) if width < 40 else "\n".join(lines)
    assert all(each in text for each in IDS)
    assert ("name" in lines[0]) is (width >= 50)


def test_a_terminal_of_80_columns_has_all_columns() -> None:
    """Beside the longest usual id, names and statuses are cut and not left out."""
    header, first, *_ = printed(80, lambda width: output.runs([stored(each) for each in IDS], width))
    assert header.split() == ["run", "started", "duration", "name", "status"]
    assert first.startswith(IDS[0])
    assert "answer" in first


def test_short_ids_leave_room_for_names() -> None:
    """The available width is used: a name is whole if it fits."""
    lines = printed(80, lambda width: output.runs([stored("order-1")], width))
    assert NAME in lines[1]
    assert "error" in lines[1]


def test_names_of_wide_characters_fit() -> None:
    """Columns are counted as a terminal shows them."""
    lines = printed(80, lambda width: output.runs([stored(IDS[0], "質問に答える" * 5)], width))
    assert IDS[0] in lines[1]
    assert cell_len(lines[1]) <= 80


@pytest.mark.parametrize(("count", "length"), [(2, 5_000_000), (600, 60)])
def test_runs_fit_a_terminal_however_long_they_are(count: int, length: int) -> None:
    """Neither an error of megabytes nor a list of many runs is written beyond the width."""
    file = io.StringIO()
    console = ResultConsole(whole=True, file=file, force_terminal=True, color_system=None, width=80)
    console.print(
        output.runs([stored(f"order-{at:032}", "n" * length, "e" * length) for at in range(count)], 80)
    )
    lines = file.getvalue().splitlines()
    assert (len(lines), max(map(cell_len, lines)) <= 80) == (count + 1, True)


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 200])
def test_numbers_of_statistics_are_whole_at_every_width(width: int) -> None:
    """Keys are cut and columns left out, but no number is."""
    rows = [
        StatisticsRow(key, 1_234, 56, 900_000_000, 10**9, 2 * 10**9, 300, 60, 1_000_360, 0.0144)
        for key in ("質問に答える" * 5, "find_documents")
    ]
    header, *lines = printed(width, lambda width: listings.statistics(rows, "name", width))
    assert max(map(cell_len, lines)) <= width
    whole = {"count": "1,234", "errors": "56", "p50": "900.0 ms", "p95": "1.00 s", "p99": "2.00 s"}
    whole |= {"tokens": "1,000,360", "cost": "0.0144"}
    shown = header.split()[1:]
    assert shown == [title for title in whole if title in shown]
    assert "count" in shown
    expected = [cell for title in shown for cell in whole[title].split()]
    assert all(line.split()[-len(expected) :] == expected for line in lines)


def chain(depth: int) -> list[SpanNode]:
    nodes: list[SpanNode] = []
    for number in reversed(range(depth)):
        span = Span(
            Run("r", "t" * 32), StepKind.TOOL, f"step-{number}", f"{number:016x}", None, 0, 10**6, Status.OK
        )
        nodes = [SpanNode(span, nodes)]
    return nodes


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_deep_tree_fits_a_terminal(width: int) -> None:
    """Deeper than there is room for lines, a number says how many levels there are besides."""
    lines = printed(width, lambda width: output.tree(chain(1200), width))
    assert max(map(cell_len, lines)) <= width
    assert "+11" in lines[-1]
    assert "step-" in lines[-1]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with runs of long names and errors."""
    sink = SqliteSink(tmp_path / "s.db")
    sink.open()
    spans = [
        Span(Run(each, "t" * 32), StepKind.TOOL, NAME * 8, f"{number:016x}", None, 0, 10**6, Status.OK)
        for number, each in enumerate(IDS)
    ]
    sink.write(spans)
    sink.close()
    return tmp_path / "s.db"


def environment() -> dict[str, str]:
    left_out = ("COLUMNS", "LINES", "FORCE_COLOR")
    return {name: value for name, value in os.environ.items() if name not in left_out}


# Runs the command in a terminal of its own, of so many columns, and prints what the command has written there.
IN_A_TERMINAL = """
import fcntl, os, pty, runpy, struct, sys, termios

ours, theirs = pty.openpty()
fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, int(sys.argv.pop(1)), 0, 0))
pipe = os.dup(1)
for descriptor in range(3):
    os.dup2(theirs, descriptor)
os.close(theirs)
try:
    runpy.run_module("nat_observability.cli", run_name="__main__", alter_sys=True)
finally:
    sys.stdout.flush()
    os.set_blocking(ours, False)
    os.write(pipe, os.read(ours, 65536))
"""


@pytest.mark.parametrize("columns", [None, "40"])
def test_a_pipe_gets_everything(store: Path, columns: str | None) -> None:
    """Whole ids, whole names, no codes: a pipe has no width, whatever the terminal has whose shell it is in."""
    env = environment() | ({"COLUMNS": columns} if columns is not None else {})
    listed, shown = (
        run_warm(COMMAND, [*arguments, "--store", str(store)], cwd=store.parent, env=env, timeout=18)
        for arguments in (["runs"], ["show", IDS[0]])
    )
    assert (listed.returncode, shown.returncode) == (0, 0), listed.stderr + shown.stderr
    assert len(listed.stdout.splitlines()) == 1 + len(IDS)
    for run_id in IDS:
        assert f"{run_id} " in listed.stdout
    assert listed.stdout.count(NAME * 8) == len(IDS)
    assert "\x1b" not in listed.stdout
    assert NAME * 8 in shown.stdout


@pytest.mark.parametrize("width", [80, 60])
def test_a_terminal_gets_what_it_has_room_for(store: Path, width: int) -> None:
    """A real terminal's own width counts, and ids are whole there too."""
    listed = run_warm(
        IN_A_TERMINAL,
        [str(width), "runs", "--store", str(store)],
        cwd=store.parent,
        env={**environment(), "TERM": "xterm"},
        timeout=18,
    )
    assert listed.returncode == 0, listed
    text = re.sub(r"\x1b\[[0-9;]*m", "", listed.stdout)
    lines = text.splitlines()
    assert max(map(cell_len, lines)) <= width
    assert all(each in text for each in IDS)


def failing(work: Callable[[], object]) -> list[tuple[str, str]]:
    """Return what is shown of a step that ends with what `work` raises."""
    try:
        work()
    except Exception as error:  # noqa: BLE001  a test raises what it likes
        failed = Span(
            Run("r", "t" * 32),
            StepKind.TOOL,
            "fails",
            "1" * 16,
            None,
            0,
            1,
            Status.ERROR,
            error=step_error(error),
        )
        return details.span_rows(failed, running=False, full=False)
    raise AssertionError("nothing was raised")


def test_an_error_is_shown_with_its_cause_its_notes_and_its_members() -> None:
    """Each with the place where it was raised, and without the frames that lead there."""

    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)
        raise KeyError("the real cause")

    def work() -> None:
        try:
            deep(100)
        except KeyError as error:
            group = ExceptionGroup("both", [OSError("one"), ExceptionGroup("inner", [ValueError("two")])])
            group.add_note("a note")
            raise group from error

    (error, said), (raised, where) = failing(work)
    assert (error, said.partition(":")[0], raised) == ("error", "ExceptionGroup", "raised")
    lines = where.splitlines()
    assert [re.sub(r".*:\d+ ", "at ", line).strip() for line in lines] == [
        "at test_an_error_is_shown_with_its_cause_its_notes_and_its_members.<locals>.deep",
        "KeyError: 'the real cause'",
        "",
        "The above exception was the direct cause of the following exception:",
        "",
        "at test_an_error_is_shown_with_its_cause_its_notes_and_its_members.<locals>.work",
        "ExceptionGroup: both (2 sub-exceptions)",
        "a note",
        "1 of 2:",
        "OSError: one",
        "2 of 2:",
        "ExceptionGroup: inner (1 sub-exception)",
        "1 of 1:",
        "ValueError: two",
    ]


def test_a_plain_error_is_shown_with_its_place() -> None:
    """And one of many lines is cut in the middle, and a long line at its end."""

    def many() -> None:
        raise ExceptionGroup("x" * 10_000, [ValueError("\n".join("abc")) for _ in range(1000)])

    assert failing(lambda: int("x"))[0] == (
        "error",
        "ValueError: invalid literal for int() with base 10: 'x'",
    )
    (_, said), (_, where) = failing(many)
    assert len(said) < 600
    lines = where.splitlines()
    assert len(lines) <= 41
    assert all(len(line) < 600 for line in lines)
    assert "... 992 exceptions left out ..." in lines[-1]


def test_a_table_without_a_terminal_is_plain_lines() -> None:
    """Nothing is cut or styled, and no line is longer than its own cells need beyond what aligns the others."""
    table = output.facts([("[/red]a", "x" * 500), ("b", "one\ntwo 東京")])
    assert list(plain_lines(table)) == [f"[/red]a  {'x' * 500}", "b        one", "         two 東京"]
    listing = output.plain_table("name")
    listing.add_column("count", justify="right")
    for name, count in (("n" * 500, "1"), ("東京", "1,000")):
        listing.add_row(Text(name), count)
    assert list(plain_lines(listing)) == [
        f"{'name':60}  count",
        f"{'n' * 500}      1",
        f"東京{' ' * 56}  1,000",
    ]


def test_a_terminal_wraps_very_long_content_itself() -> None:
    """Content of a megabyte is written as it is, which takes no longer on a terminal than in a pipe."""
    lines: dict[int, int] = {}
    for length in (200, 200_000):
        written = io.StringIO()
        console = ResultConsole(whole=True, file=written, force_terminal=True, width=80)
        console.print(output.facts([("input", "x" * length)]))
        lines[length] = len(written.getvalue().splitlines())
    assert lines == {200: 3, 200_000: 1}


@pytest.mark.parametrize("closed", [1, 2])
def test_a_stream_that_is_closed_costs_nothing_but_what_goes_there(tmp_path: Path, closed: int) -> None:
    """As `>&-` and `2>&-` of a shell have it: the other one and the exit code are the same."""
    sink = SqliteSink(store := tmp_path / "s.sqlite3")
    sink.open()
    sink.write([make_span(run=Run("r-1", "1" * 32))])
    sink.close()
    command = [sys.executable, "-m", "nat_observability.cli"]
    for arguments, code in (["runs", "--store", store], 0), (["show", "nope", "--store", store], 2):
        usual = subprocess.run([*command, *map(str, arguments)], capture_output=True, check=False)
        assert usual.returncode == code, usual.stderr
        ended = subprocess.run(
            ["sh", "-c", f'exec "$@" {closed}>&-', "sh", *command, *map(str, arguments)],
            capture_output=True,
            check=False,
        )
        assert ended.returncode == code
        assert (ended.stdout, ended.stderr) == (
            b"" if closed == 1 else usual.stdout,
            b"" if closed == 2 else usual.stderr,
        )
