"""What the command prints: tables, trees and progress on stdout and stderr, readable at 80 columns."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from nat_observability.cli.console import ResultConsole
from nat_observability.delivery.ledger import LedgerSnapshot
from nat_observability.events import ErrorDetails, Status
from nat_observability.store import SpanNode, StoredRun

Fact = tuple[str, str]
"""A name and a value."""

Advance = Callable[[int], object]
"""Moves a progress bar on."""

_STYLES = {
    "ok": "green",
    "error": "red",
    "incomplete": "yellow",
    "open": "yellow",
    "running": "cyan",
    "died": "yellow",
}
_WIDEST = 1_000_000  # columns if the output is not a terminal: nothing is wrapped or cut
_FRAME = re.compile(r" *\S.*:\d+ \S+")  # the file, the line and the function
_LEFT_OUT = re.compile(r" *\.\.\. \d+ frames left out \.\.\.")
_MOST_LINES = 40  # of where an error comes from
_LONGEST_LINE = 500  # characters of each
_LEVELS = 30  # the most levels of a tree whose guide lines are drawn


def to_stdout(*, whole: bool = False) -> Console:
    """
    Return a console for results.

    Args:
        whole: Whether to leave lines uncut and unwrapped in a pipe or a file, whose reader has no width.
    """
    width = _WIDEST if whole and not sys.stdout.isatty() else None
    return ResultConsole(whole=whole, file=sys.stdout, highlight=False, width=width)


def to_stderr() -> Console:
    """Return a console for progress and problems."""
    return Console(file=sys.stderr, highlight=False)


def say(text: str = "", *, wrapped: bool = False) -> None:
    """Print a line of text as it is, wrapped if a terminal is too narrow; with `wrapped`, in a pipe or a file too."""
    to_stdout(whole=not wrapped).print(Text(printable(text)))


def complain(problem: str, *, kind: str = "warning") -> None:
    """Print a problem to stderr, on one line."""
    style = {"error": "bold red"}.get(kind, "yellow")
    line = Text.assemble((f"{kind}: ", style), printable(problem, keep="\n"))
    to_stderr().print(line, soft_wrap=True)


@contextmanager
def progress(what: str, total: int, *, count: bool = True) -> Iterator[Callable[[int], None]]:
    """
    Show a progress bar on stderr if that is a terminal; yield the function that advances it.

    Args:
        what: The label.
        total: The number at which it is done.
        count: Whether to show the number done instead of a percentage.
    """
    console = to_stderr()
    if not console.is_terminal:
        yield lambda number: None
        return
    done = MofNCompleteColumn() if count else TaskProgressColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), done, TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=total)
        yield lambda number: bar.advance(task, number)


def facts(rows: Iterable[Fact]) -> Table:
    """Return names and values as a table without a frame, with the values aligned."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(Text(printable(name)), Text(printable(value, keep="\n")))
    return table


def ledgers(by_exporter: Mapping[str, LedgerSnapshot]) -> Table:
    """Return the ledger of each exporter."""
    table = plain_table("exporter")
    for column in ("accepted", "delivered", "failed", "dropped", "pending", "adds up"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, ledger in by_exporter.items():
        dropped = sum(ledger.dropped.values())
        table.add_row(
            Text(printable(name)),
            *(f"{number:,}" for number in (ledger.accepted, ledger.delivered)),
            *(
                Text(f"{number:,}", "red" if number else "")
                for number in (ledger.failed, dropped, ledger.pending)
            ),
            Text("yes", "green") if ledger.adds_up else Text("NO", "bold red"),
        )
    return table


def tree(nodes: Sequence[SpanNode], width: int, most: int | None = None) -> Table:
    """
    Return the spans of a run, each below its parent, with its start and its duration.

    Args:
        nodes: The root spans.
        width: Columns in total. Deeper in the tree than it has room for, the number of levels replaces the guide lines.
        most: Lines at most.
    """
    table = plain_table("step")
    table.add_column("kind", no_wrap=True)
    table.add_column("start", justify="right", no_wrap=True)
    table.add_column("duration", justify="right", no_wrap=True)
    table.add_column("result", no_wrap=True, overflow="ellipsis")
    first_ns = min((node.span.start_ns for node in nodes), default=0)
    # What the other columns usually take, and a name.
    levels = min(_LEVELS, max(2, (width - 56) // 3))
    for guide, node in islice(_outline(nodes, levels), most):
        span = node.span
        table.add_row(
            Text.assemble((guide, "dim"), printable(span.name)),
            span.kind.value.lower(),
            f"+{duration(max(0, span.start_ns - first_ns))}",
            duration(span.end_ns - span.start_ns),
            _result(node),
        )
    return table


class _Column(NamedTuple):
    title: str
    cells: list[Text]
    least: int | None = None  # the narrowest that it is cut to; None: never cut
    right: bool = False

    @property
    def whole(self) -> int:
        return max(cell_len(self.title), *(each.cell_len for each in self.cells))

    @property
    def shortest(self) -> int:
        return self.whole if self.least is None else min(self.least, self.whole)


def runs(stored: Sequence[StoredRun], width: int) -> Table:
    """
    Return runs, one a line, with their whole ids, which `show` takes.

    Args:
        stored: At least one.
        width: Columns in total. If it is too narrow, statuses and names are cut first, then columns are left out.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    # An error may have megabytes, of which a terminal shows no more than its width.
    most = None if width == _WIDEST else width + 1
    statuses = [_status(each)[:most] for each in stored]
    ids = _Column("run", [Text(printable(each.run.run_id)) for each in stored])
    started = _Column("started", [Text(moment(each.start_ns, "%m-%d %H:%M:%S")) for each in stored])
    took = _Column("duration", [Text(duration(each.end_ns - each.start_ns)) for each in stored], right=True)
    name = _Column("name", [Text(printable((each.name or "")[:most])) for each in stored], least=8)
    status = _Column(
        "status",
        [Text(printable(text), _STYLES[each.status]) for text, each in zip(statuses, stored, strict=True)],
        least=6,
    )
    columns = [started, took, name, status]
    spare = width - ids.whole
    for extra in _extra_columns(stored, most):
        # Only if nothing else is cut for it.
        if 2 + extra.whole + sum(2 + each.whole for each in columns) <= spare:
            columns.insert(-2, extra)
    for least_needed in (took, started, status, name):
        if sum(2 + each.shortest for each in columns) > spare:
            columns.remove(least_needed)
    spare -= sum(2 + each.shortest for each in columns)
    table.add_column("run", overflow="fold", width=min(ids.whole, width))
    for column in columns:
        more = max(0, min(spare, column.whole - column.shortest))
        spare -= more
        column_width = column.shortest + more
        for cell in column.cells:
            cell.truncate(column_width, overflow="ellipsis")
        table.add_column(
            column.title,
            overflow="ellipsis",
            no_wrap=True,
            width=column_width,
            justify="right" if column.right else "left",
        )
    for cells in zip(ids.cells, *(each.cells for each in columns), strict=True):
        table.add_row(*cells)
    return table


def _extra_columns(stored: Sequence[StoredRun], most: int | None) -> Iterator[_Column]:
    counters = [each.counters for each in stored]
    for title, numbers in (
        ("steps", [None if each is None else each.span_count for each in counters]),
        ("tokens", [None if each is None else each.total_tokens for each in counters]),
    ):
        if any(numbers):
            yield _Column(title, [Text(f"{number:,}" if number else "") for number in numbers], right=True)
    for title, texts in (
        ("user", [each.run.user_id for each in stored]),
        ("workflow", [each.run.workflow_name for each in stored]),
    ):
        if any(texts):
            yield _Column(title, [Text(printable((text or "")[:most])) for text in texts])


def one_line(text: str) -> str:
    """Return a text with its white space as single spaces."""
    return " ".join(text.split())


def step_line(node: SpanNode) -> None:
    """Print a step on one line: when it ended, its run, kind, name, duration and result."""
    span = node.span
    line = Text.assemble(
        (moment(span.end_ns, "%H:%M:%S"), "dim"),
        "  ",
        printable(span.run.run_id),
        "  ",
        f"{span.kind.value.lower():9}",
        "  ",
        printable(span.name),
        "  ",
        duration(span.end_ns - span.start_ns),
        "  ",
    )
    line.append_text(_result(node))
    console = to_stdout(whole=True)
    console.print(line, no_wrap=True, overflow="ellipsis")
    console.file.flush()


def silence_stdout() -> None:
    """Send what is still to be written to stdout nowhere: its reader has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run_facts(run: StoredRun) -> list[Fact]:
    """Return what is known about a run, without its spans."""
    ids = run.run
    rows = [
        ("run", ids.run_id),
        ("trace", ids.trace_id),
        ("conversation", ids.conversation_id),
        ("user", ids.user_id),
        ("workflow", ids.workflow_name),
        ("continues", ids.parent_span_id),
        ("tags", ", ".join(f"{name}={value}" for name, value in ids.tags) or None),
        ("started", moment(run.start_ns)),
        ("duration", duration(run.end_ns - run.start_ns)),
        ("status", _status(run)),
    ]
    if (counters := run.counters) is not None and counters.span_count:
        counts = [
            (counters.span_count, "steps"),
            (counters.error_count, "failed"),
            (counters.incomplete_count, "incomplete"),
            (counters.llm_calls, "model calls"),
            (counters.tool_calls, "tool calls"),
        ]
        rows.append(("counts", ", ".join(f"{number:,} {what}" for number, what in counts if number)))
        if counters.total_tokens:
            rows.append(
                (
                    "tokens",
                    f"{counters.total_tokens:,} ({counters.prompt_tokens:,} prompt, "
                    f"{counters.completion_tokens:,} completion)",
                )
            )
        if counters.cost is not None:
            rows.append(("cost", f"{counters.cost:.6g}"))
    return [(name, value) for name, value in rows if value is not None]


def error_rows(error: ErrorDetails) -> list[Fact]:
    """Return what an exception says, and where it, its causes and its members were raised, with their notes."""
    rows = [("error", _short(f"{error.type}: {error.message}"))]
    lines: list[str] = []
    for line in (error.traceback or "").splitlines():
        # Of the frames that lead to an exception only the last, in which it was raised.
        if lines and _FRAME.fullmatch(line) and _FRAME.fullmatch(lines[-1]):
            lines.pop()
        if not _LEFT_OUT.fullmatch(line):
            lines.append(_short(line))
    if len(lines) > _MOST_LINES:
        # Both ends: Python names the cause first, and the members of a group last.
        half = _MOST_LINES // 2
        lines[half:-half] = [f"... {len(lines) - 2 * half:,} lines left out ..."]
    if lines:
        rows.append(("raised", "\n".join(lines)))
    return rows


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]}..."


def _status(run: StoredRun) -> str:
    status = run.activity or run.status
    return status if run.error is None else f"{status}: {run.error}"


def fields(attributes: msgspec.Raw | None) -> list[Fact]:
    """Return the names and values of attributes, whatever they are."""
    try:
        decoded = {} if attributes is None else msgspec.json.decode(attributes)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        decoded = None
    # A processor of the application may have made it anything.
    if isinstance(decoded, dict):
        return [(name, _value(value)) for name, value in decoded.items()]
    return [("value", bytes(attributes or b"").decode("utf-8", "replace"))]


def _value(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def duration(nanoseconds: float) -> str:
    """Return a duration with a unit that fits it."""
    seconds = nanoseconds / 1e9
    if seconds >= 100:
        return f"{seconds:.0f} s"
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f} µs"


def moment(nanoseconds: int, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return a time in the local time zone."""
    return time.strftime(form, time.localtime(nanoseconds / 1e9))


def listed(counts: object) -> str:
    """Return counts by name on one line; nothing if it is not a mapping."""
    if not isinstance(counts, Mapping):
        return ""
    return ", ".join(f"{number:,} {str(name).lower()}" for name, number in counts.items())


def printable(text: str, *, keep: str = "") -> str:
    """Return text with escapes for the characters that a terminal would obey instead of showing."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode()
        for char in text
    )


def plain_table(first: str) -> Table:
    """Return a table without a frame, whose first column is cut if there is no room."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(first, overflow="ellipsis", no_wrap=True)
    return table


def _outline(nodes: Sequence[SpanNode], levels: int) -> Iterator[tuple[str, SpanNode]]:
    # Without recursion: steps may be nested deeper than Python's stack. Only the nearest guide lines above a span are
    # kept, because all of them together would grow with the square of the depth.
    drawn = 3 * (levels - 1)
    left = [(node, 0, "", False) for node in reversed(nodes)]
    while left:
        node, depth, above, last = left.pop()
        skipped = max(0, depth - levels)
        guide = f"{above}{'└─ ' if last else '├─ '}" if depth else ""
        yield f"+{skipped} {guide}" if skipped else guide, node
        below = f"{above}{'   ' if last else '│  '}"[-drawn:] if depth else ""
        left += [
            (child, depth + 1, below, number == 0) for number, child in enumerate(reversed(node.children))
        ]


def _result(node: SpanNode) -> Text:
    span = node.span
    if node.running:
        return Text("died", "red") if node.died else Text("running", "cyan")
    if span.error is not None:
        return Text(printable(span.error.type), _STYLES[Status.ERROR])
    if span.status is not Status.OK:
        return Text(span.status.value, _STYLES[span.status])
    return Text(f"{span.usage.total_tokens:,} tokens" if span.usage is not None else "ok", "green")
