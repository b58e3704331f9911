"""The command `export`: runs as JSON lines, as OTLP JSON or as one HTML file, on stdout."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import click

from nat_observability.cli.common import command, env_file_option, store_option, store_to_read
from nat_observability.cli.reading.finding import find_runs
from nat_observability.cli.reading.objects import (
    in_order,
    json_line,
    print_bytes,
    span_object,
    visible_json,
)
from nat_observability.sinks.otlp.json import json_request
from nat_observability.sinks.otlp.span_encoder import encode
from nat_observability.store import SpanNode, Store
from nat_observability.viewer.export import html_pieces
from nat_observability.viewer.store_file import StoreFile


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
    path = store_to_read(store_path, env_file)
    with Store(path) as store:
        runs = find_runs(store, run_id)
        if form != "html":
            print_bytes(_FORMS[form]([store.tree(run.run.run_id) for run in runs]))
            return
    with contextlib.closing(StoreFile(str(path))) as file:
        for piece in html_pieces(file, [run.run.run_id for run in runs]):
            print_bytes(piece)


def _json_lines(runs: list[list[SpanNode]]) -> bytes:
    return b"".join(
        json_line(span_object(node.span, status=node.status)) for roots in runs for node in in_order(roots)
    )


def _otlp(runs: list[list[SpanNode]]) -> bytes:
    spans = [node.span for roots in runs for node in in_order(roots) if not node.running]
    return visible_json(json_request(encode(spans, {"service.name": "nat-observability"}))) + b"\n"


_FORMS: dict[str, Callable[[list[list[SpanNode]]], bytes]] = {
    "jsonl": _json_lines,
    "otlp-json": _otlp,
}
