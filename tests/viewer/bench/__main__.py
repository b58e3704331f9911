"""Measures the viewer over 100,000 runs beside the bars that it has to meet, and beside Phoenix; see `--help`."""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from pathlib import Path

from tests.viewer.bench.page import measure_answers, measure_pages, measure_reference
from tests.viewer.bench.peer import measure_peer
from tests.viewer.bench.server import ViewerServer
from tests.viewer.bench.store import SPANS_OF_A_RUN, make_bench_store
from tests.viewer.bench.table import Table
from tests.viewer.bench.writer import measure_writer
from tests.viewer.browser.chromium import FLAGS, ROOT, chromium_path

PARTS = ("viewer", "peer", "writer")


def measure_viewer(table: Table, path: Path, *, index: bool, pages: bool) -> None:
    """Measure the server and its pages over a store."""
    with ExitStack() as stack:
        browser = None
        table.heading("start")
        if pages:
            from playwright.sync_api import sync_playwright

            playwright = stack.enter_context(sync_playwright())
            browser = playwright.chromium.launch(executable_path=chromium_path(), args=FLAGS)
            stack.callback(browser.close)
            measure_reference(table, browser)
        server = ViewerServer(path, *([] if index else ["--no-index"]))
        stack.callback(server.end)
        table.row("start to first answer", server.started_ms, 1000, cpu_ms=server.started_cpu_ms)
        if index:
            took, cpu = server.wait_for_index()
            table.row("making the index, or finding it complete", took / 1000, unit="s", cpu_ms=cpu)
        measure_answers(table, server, index=index)
        if browser is not None:
            measure_pages(table, browser, server, path, index=index)
        table.row("server's memory at its most", server.memory_mib(), 100, "MiB")


def main() -> None:
    """Make the store and print the tables; the exit code is 1 if something is over its bar."""
    parser = argparse.ArgumentParser(prog="python -m tests.viewer.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"only these of {', '.join(PARTS)}")
    parser.add_argument("--runs", type=int, default=100_000, help="ordinary runs of the store")
    parser.add_argument("--spans", type=int, default=SPANS_OF_A_RUN, help="spans of an ordinary run")
    parser.add_argument(
        "--store", type=Path, default=ROOT / "build" / "viewer-bench.sqlite3", help="made if it is missing"
    )
    parser.add_argument("--make-only", action="store_true", help="only make the store")
    parser.add_argument("--no-index", action="store_true", help="leave out what needs the index")
    parser.add_argument(
        "--no-pages", action="store_true", help="only the server's answers, without a browser"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there too")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    began = time.monotonic()
    parts = arguments.parts or PARTS
    (ROOT / "build").mkdir(exist_ok=True)
    if "viewer" in parts or arguments.make_only:
        make_bench_store(arguments.store, arguments.runs, arguments.spans)
    if arguments.make_only:
        return
    table = Table()
    if "viewer" in parts:
        measure_viewer(table, arguments.store, index=not arguments.no_index, pages=not arguments.no_pages)
    if "peer" in parts:
        measure_peer(table)
    if "writer" in parts:
        measure_writer(table)
    held = table.close(arguments.json)
    print(f"Took {(time.monotonic() - began) / 60:.1f} minutes.")
    if not held:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
