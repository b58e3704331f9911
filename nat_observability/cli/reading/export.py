"""The command `export`: one run as JSON lines, as OTLP JSON or as one HTML file, on stdout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import msgspec

from nat_observability.cli.common import command, env_file_option, store_option, store_to_read
from nat_observability.cli.reading.finding import find_runs
from nat_observability.cli.reading.html import ExportedRun, export_html
from nat_observability.cli.reading.objects import in_order, print_bytes, span_object
from nat_observability.sinks.otlp.json import json_request
from nat_observability.sinks.otlp.span_encoder import encode
from nat_observability.store import Store


@click.command("export")
@click.argument("run_id", metavar="RUN|TRACE")
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "otlp-json", "html"]),
    default="jsonl",
    show_default=True,
    help="JSON lines, one a span; OTLP as JSON, for a collector; or a page that needs nothing else.",
)
@store_option
@env_file_option
@command
def export(run_id: str, form: str, store_path: Path | None, env_file: Path | None) -> None:
    """
    Write a run, or all runs of a trace, to stdout.

    It holds what the run was asked and answered: keep it as you keep the store.
    """
    with Store(store_to_read(store_path, env_file)) as store:
        runs = [
            ExportedRun(run, store.tree(run.run.run_id), store.ledgers(run.run.run_id))
            for run in find_runs(store, run_id)
        ]
    print_bytes(_FORMS[form](runs))


def _json_lines(runs: list[ExportedRun]) -> bytes:
    return b"".join(
        msgspec.json.encode(span_object(node.span, running=node.running)) + b"\n"
        for run in runs
        for node in in_order(run.roots)
    )


def _otlp(runs: list[ExportedRun]) -> bytes:
    spans = [node.span for run in runs for node in in_order(run.roots) if not node.running]
    return json_request(encode(spans, {"service.name": "nat-observability"})) + b"\n"


def _html(runs: list[ExportedRun]) -> bytes:
    return export_html(runs).encode("utf-8", "replace")


_FORMS: dict[str, Callable[[list[ExportedRun]], bytes]] = {
    "jsonl": _json_lines,
    "otlp-json": _otlp,
    "html": _html,
}
