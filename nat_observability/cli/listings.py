"""Statistics, settings with their sources, what was found about exporters, and spools, as tables and lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from nat_observability.cli import output
from nat_observability.cli.output import duration, moment, one_line, printable
from nat_observability.spool.inspection import SpoolFileInfo
from nat_observability.store import StatisticsRow

_SHORTEST_KEY = 12  # columns
_LEAST_NEEDED = ("cost", "tokens", "p99", "errors", "p95", "p50", "count")


def statistics(rows: Sequence[StatisticsRow], key: str, width: int) -> Table:
    """
    Return statistics, one key a line.

    Args:
        rows: At least one.
        key: The title of their keys.
        width: Columns in total. If it is too narrow, keys are cut, then columns left out; never a number.
    """
    keys = [Text(printable(row.key[:width])) for row in rows]
    numbers = {
        "count": [f"{row.count:,}" for row in rows],
        "errors": [f"{row.errors:,}" for row in rows],
        "p50": [duration(row.p50_ns) for row in rows],
        "p95": [duration(row.p95_ns) for row in rows],
        "p99": [duration(row.p99_ns) for row in rows],
        "tokens": [f"{row.total_tokens:,}" if row.total_tokens else "" for row in rows],
        "cost": ["" if row.cost is None else f"{row.cost:.4g}" for row in rows],
    }
    if not any(numbers["cost"]):
        del numbers["cost"]
    widths = {title: 2 + max(map(len, (title, *cells))) for title, cells in numbers.items()}
    least = min(_SHORTEST_KEY, max(cell_len(key), *(each.cell_len for each in keys)))
    for title in _LEAST_NEEDED:
        if least + sum(widths.values()) > width and title in widths:
            del widths[title]
    table = output.plain_table(key)
    for title in widths:
        table.add_column(title, justify="right", no_wrap=True)
    for number, each in enumerate(keys):
        each.truncate(max(least, width - sum(widths.values())), overflow="ellipsis")
        cells = {title: Text(numbers[title][number]) for title in widths}
        if rows[number].errors and "errors" in cells:
            cells["errors"].stylize("red")
        table.add_row(each, *cells.values())
    return table


def sources(rows: Sequence[tuple[str, str, str]]) -> Table:
    """Return settings with their values and where these come from."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", overflow="fold")
    table.add_column(overflow="fold")
    table.add_column(style="dim", overflow="fold")
    for cells in rows:
        table.add_row(*(Text(printable(cell, keep="\n")) for cell in cells))
    return table


def finding(name: str, kind: str, detail: str, cure: str | None, *, ok: bool) -> None:
    """Print what was found about an exporter, on one line."""
    verdict = ("ok", "green") if ok else ("FAILED", "bold red")
    text = one_line(detail if cure is None else f"{detail.rstrip('.')}. {cure}")
    line = Text.assemble(f"{printable(name)} ({printable(kind)}): ", verdict, f": {printable(text)}")
    output.to_stdout().print(line, soft_wrap=True)


def spool_files(spools: Mapping[str, Sequence[SpoolFileInfo]]) -> Table:
    """Return the files of spools, one a line."""
    table = output.plain_table("exporter")
    for column in ("items", "bytes", "on disk"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("oldest", "state"):
        table.add_column(column, no_wrap=True)
    table.add_column("file", overflow="fold")
    for name, files in spools.items():
        for file in files:
            table.add_row(
                Text(printable(name)),
                "" if file.records is None else f"{file.records:,}",
                "" if file.bytes is None else f"{file.bytes:,}",
                f"{file.disk_bytes:,}",
                "" if file.oldest is None else moment(int(file.oldest * 1e9)),
                file.state if file.problem is None else f"{file.state}: {printable(file.problem)}",
                Text(printable(file.path)),
            )
    return table
