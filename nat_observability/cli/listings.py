"""Statistics, settings with their sources, what was found about exporters, and spools, as tables and lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from nat_observability.cli import output
from nat_observability.cli.output import duration, moment, one_line, printable
from nat_observability.spool.inspection import SpoolFileInfo
from nat_observability.store import StatisticsRow


def statistics(rows: Sequence[StatisticsRow], key: str) -> Table:
    """Return statistics, one key a line."""
    table = output.plain_table(key)
    for column in ("count", "errors", "p50", "p95", "p99", "tokens"):
        table.add_column(column, justify="right", no_wrap=True)
    costs = any(row.cost is not None for row in rows)
    if costs:
        table.add_column("cost", justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            Text(printable(row.key)),
            f"{row.count:,}",
            Text(f"{row.errors:,}", "red" if row.errors else ""),
            *(duration(each) for each in (row.p50_ns, row.p95_ns, row.p99_ns)),
            f"{row.total_tokens:,}" if row.total_tokens else "",
            *([f"{row.cost:.4g}" if row.cost is not None else ""] if costs else []),
        )
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
