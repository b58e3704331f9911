"""Phoenix, the strongest peer that pip can install, beside the viewer: the same run of 5,000 spans, sent and opened."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import urlopen

import msgspec

from nat_observability.sinks.otlp.http import OtlpHttpSink
from nat_observability.sinks.otlp.presets import phoenix
from nat_observability.sinks.sqlite import SqliteSink
from tests.phoenix_server import ENVIRONMENT, Phoenix, program, running_phoenix
from tests.viewer.bench.page import weight
from tests.viewer.bench.server import ViewerServer
from tests.viewer.bench.table import Table, median
from tests.viewer.browser.chromium import FLAGS, ROOT, chromium_path
from tests.viewer.stores import large_run

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from nat_observability.events import Span

SPANS = 5_000
_PROJECT = "beside"
_READABLE_WITHIN = 120.0
_SHOWN_WITHIN = 120_000  # ms
_REPEATS = 3
# Its rows have the names of spans, and ours too.
_ROWS = "() => (document.body.innerText.match(/^step \\d+$/gm) ?? []).length"


def measure_peer(table: Table) -> None:
    """Measure both, one after the other, with the same spans; say so if Phoenix is not installed."""
    table.heading(f"beside Phoenix, a run of {SPANS:,} spans")
    command = program()
    if command is None:
        print(f"Phoenix is not installed in {ENVIRONMENT.name}. Cure: make {ENVIRONMENT.name}/.installed")
    spans = large_run(int(time.time() // 60) % 100, SPANS)
    from playwright.sync_api import Error, sync_playwright

    with (
        tempfile.TemporaryDirectory(dir=ROOT / "build") as folder,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(_SHOWN_WITHIN)
        _viewer(table, Path(folder), spans, page)
        page.close()
        if command is not None:
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.set_default_timeout(_SHOWN_WITHIN)
            try:
                _phoenix(table, Path(folder), command, spans, page)
            except (RuntimeError, TimeoutError, Error) as error:
                print(f"Phoenix is left out from here on: {str(error).splitlines()[0]}")
        browser.close()


def _viewer(table: Table, folder: Path, spans: list[Span], page: Page) -> None:
    path = folder / "beside.sqlite3"
    sink = SqliteSink(path)
    sink.open()
    began = time.monotonic()
    for at in range(0, len(spans), 512):
        sink.write(spans[at : at + 512])
    sink.close()
    table.row("viewer: sent until readable", (time.monotonic() - began) * 1000)
    server = ViewerServer(path)
    try:
        table.row("viewer: start to first answer", server.started_ms)
        page.goto(server.url)
        page.wait_for_selector(".run-row")

        def shown() -> float:
            page.goto("about:blank")
            began = time.monotonic()
            page.goto(server.url)
            page.evaluate(f"location.hash = '#/run/large-{SPANS}'")
            page.locator(".spans .row").first.wait_for()
            return (time.monotonic() - began) * 1000

        table.row("viewer: the run's page opened until its spans are shown", median(shown, _REPEATS))
        page.locator(".notice").first.wait_for(state="detached")
        count = page.locator(".rows").get_attribute("aria-rowcount") or "0"
        table.row("viewer: spans that the page shows", int(count), unit="")
        _weigh(table, "viewer", page)
        table.row("viewer: server's memory at its most", server.memory_mib(), unit="MiB")
    finally:
        server.end()


def _phoenix(table: Table, folder: Path, command: Path, spans: list[Span], page: Page) -> None:
    size = sum(
        each.stat().st_size for each in ENVIRONMENT.rglob("*") if each.is_file() and not each.is_symlink()
    )
    table.row("Phoenix: installed", size / (1 << 20), unit="MiB")
    began = time.monotonic()
    with running_phoenix(command, folder) as server:
        table.row("Phoenix: start to first answer", (time.monotonic() - began) * 1000)
        began = time.monotonic()
        with ThreadPoolExecutor(1) as thread:  # in this one runs the loop of Playwright
            thread.submit(asyncio.run, _send(server, spans)).result()
        _wait_until_readable(server)
        table.row("Phoenix: sent until readable", (time.monotonic() - began) * 1000)
        address = f"{server.url}/redirects/traces/{spans[0].run.trace_id}"

        def shown() -> float:
            page.goto("about:blank")
            began = time.monotonic()
            page.goto(address)
            page.get_by_text(re.compile(r"^step \d+$")).first.wait_for()
            return (time.monotonic() - began) * 1000

        table.row("Phoenix: the run's page opened until its spans are shown", median(shown, _REPEATS))
        table.row("Phoenix: spans that the page shows", page.evaluate(_ROWS), unit="")
        _weigh(table, "Phoenix", page)
        table.row("Phoenix: server's memory at its most", _most_memory(server), unit="MiB")


async def _send(server: Phoenix, spans: list[Span]) -> None:
    target = phoenix(server.url, project=_PROJECT)
    sink = OtlpHttpSink(
        target.endpoint,
        headers=target.headers,
        resource=target.resource,
        dialect="openinference",
        compression="none",
    )
    await sink.open()
    try:
        for at in range(0, len(spans), 512):
            await sink.write(spans[at : at + 512])
    finally:
        await sink.close()


def _wait_until_readable(server: Phoenix) -> None:
    """Wait until its API has the last span: it stores what it has taken some seconds later."""
    end = time.monotonic() + _READABLE_WITHIN
    while (stored := _stored(server)) < SPANS:
        if time.monotonic() > end:
            raise TimeoutError(f"it had stored {stored:,} of {SPANS:,} spans after {_READABLE_WITHIN:g} s.")
        time.sleep(1)


def _stored(server: Phoenix) -> int:
    stored, cursor = 0, ""
    while True:
        try:
            with urlopen(
                f"{server.url}/v1/projects/{_PROJECT}/spans?limit=1000{cursor}", timeout=60
            ) as answer:
                page = msgspec.json.decode(answer.read())
        except HTTPError:  # the project does not exist yet
            return stored
        stored += len(page["data"])
        if not page["next_cursor"]:
            return stored
        cursor = f"&cursor={page['next_cursor']}"


def _weigh(table: Table, who: str, page: Page) -> None:
    nodes, heap = weight(page)
    table.row(f"{who}: nodes of the page", nodes, unit="")
    table.row(f"{who}: heap of the page", heap, unit="MiB")


def _most_memory(server: Phoenix) -> float:
    """Return the most memory of the process that listens at the server's port."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "environ").read_bytes().split(b"\0")
            if f"PHOENIX_PORT={server.port}".encode() in words:
                status = (folder / "status").read_text()
                found = re.search(r"VmHWM:\s+(\d+)", status)
                if found is not None and int(folder.name) != os.getpid():
                    return int(found[1]) / 1024
        except OSError:
            continue
    return 0.0
