"""export_html(): runs as one HTML page that needs no other file, no script and no network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

import msgspec

from nat_observability.cli import output
from nat_observability.cli.reading import details
from nat_observability.cli.reading.objects import in_order
from nat_observability.store import SpanNode, StoredLedger, StoredRun

_STYLE = """
:root { color-scheme: light dark; --ok: #1a7f37; --error: #cf222e; --other: #9a6700; --line: #8886; --bar: #4c8dd6 }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem }
h1 { font-size: 1.4rem; overflow-wrap: anywhere }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem }
dt { font-weight: 600 } dd { margin: 0; overflow-wrap: anywhere; white-space: pre-wrap }
details { border-top: 1px solid var(--line); padding: .25rem 0 }
summary { cursor: pointer; display: flex; gap: .75rem; align-items: baseline }
summary .name { flex: 1 1 auto; overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
summary .kind, summary .time { color: GrayText; white-space: nowrap }
.time { font-variant-numeric: tabular-nums; min-width: 6rem; text-align: right }
.ok { color: var(--ok) } .error { color: var(--error) } .other { color: var(--other) }
svg { flex: 0 0 12rem; height: .8rem } rect { fill: var(--bar) }
code, dd { font-family: ui-monospace, monospace; font-size: .85rem }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_INDENT = 1.0  # em for each level
_DEEPEST = 40  # levels that are indented


class ExportedRun(msgspec.Struct, frozen=True):
    """A run with its spans as a tree, and its ledgers by exporter."""

    run: StoredRun
    roots: list[SpanNode]
    ledgers: Mapping[str, StoredLedger]


def export_html(runs: Sequence[ExportedRun]) -> str:
    """
    Return a page that shows these runs, steps that open with their content in it.

    Nothing that was recorded becomes markup, a link or an image, and control and bidi characters are visible.
    """
    title = runs[0].run.name or runs[0].run.run.run_id if runs else "No runs"
    parts = [
        "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n",
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">\n',
        "<meta name=viewport content='width=device-width'>\n<meta name=referrer content=no-referrer>\n",
        f"<title>{_text(title[:200])}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n",
    ]
    for run in runs:
        parts += _run(run)
    parts.append("</body>\n</html>\n")
    return "".join(parts)


def _run(exported: ExportedRun) -> Iterable[str]:
    run = exported.run
    yield f"<main>\n<h1>{_text(run.name or run.run.run_id)}</h1>\n"
    facts = [*output.run_facts(run), *details.ledger_facts(exported.ledgers)]
    yield _facts(facts)
    yield "<h2>Steps</h2>\n"
    first_ns, last_ns = run.start_ns, max(run.end_ns, run.start_ns + 1)
    depths: dict[str, int] = {node.span.span_id: 0 for node in exported.roots}
    for node in in_order(exported.roots):
        depth = depths.get(node.span.span_id, 0)
        for child in node.children:
            depths[child.span.span_id] = depth + 1
        yield _step(node, depth, first_ns, last_ns)
    yield "</main>\n"


def _step(node: SpanNode, depth: int, first_ns: int, last_ns: int) -> str:
    span = node.span
    status = "running" if node.running else span.status.value
    whole = last_ns - first_ns
    left = max(0.0, min(99.0, 100 * (span.start_ns - first_ns) / whole))
    wide = max(1.0, min(100 - left, 100 * (span.end_ns - span.start_ns) / whole))
    style = {"ok": "ok", "error": "error"}.get(status, "other")
    indent = f' style="padding-left:{min(depth, _DEEPEST) * _INDENT:g}em"' if depth else ""
    rows = [*details.span_facts(node), *details.span_rows(span, running=False, full=True)]
    return (
        f"<details><summary><span class=name{indent}>{_text(span.name)}</span>"
        f"<span class=kind>{_text(span.kind.value.lower())}</span><span class={style}>{_text(status)}</span>"
        f"<span class=time>{_text(output.duration(span.end_ns - span.start_ns))}</span>"
        f'<svg viewBox="0 0 100 10" preserveAspectRatio=none aria-hidden=true>'
        f'<rect x="{left:.2f}" y=1 width="{wide:.2f}" height=8 /></svg></summary>\n{_facts(rows)}</details>\n'
    )


def _facts(rows: Iterable[output.Fact]) -> str:
    return (
        "<dl>" + "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in rows) + "</dl>\n"
    )


def _text(value: str) -> str:
    return escape(output.printable(value, keep="\n\t"))
