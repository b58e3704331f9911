"""What a page of the viewer takes in Chromium, and the server's answers by themselves."""

from __future__ import annotations

import gzip
import os
import sqlite3
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from nat_observability.sinks.sqlite import SqliteSink
from tests.viewer.bench.server import ViewerServer
from tests.viewer.bench.table import Table, median
from tests.viewer.browser.chromium import ROOT
from tests.viewer.stores import make_run, spans_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_SEARCHES = ("parcel today please", "(77777)", "nowhere to be found")
_ANSWERS = {
    "list of runs": "api/runs?limit=50",
    "list, failed runs": "api/runs?limit=50&status=error",
    "list, by user": "api/runs?limit=50&user=user-77",
    "list, by tag": "api/runs?limit=50&tag=team:team-7",
    "list, of a text that occurs nowhere, one of its answers": "api/runs?limit=50&q=nowhere",
    "numbers of the list's filters": "api/facets",
    "numbers of the list's filters, by user": "api/facets?user=user-77",
    "statistics by kind": "api/stats?by=kind",
    "statistics by model": "api/stats?by=model",
    "statistics by workflow": "api/stats?by=workflow",
    "facts of the store": "api/store",
}
"""What the page asks for; those about statistics and numbers need the index."""

_PAINTED = """
([route, selector]) => new Promise(resolve => {
  const began = performance.now();
  const done = () => resolve(performance.now() - began);
  location.hash = route;
  const look = () => {
    if (document.querySelector(selector)) requestAnimationFrame(() => setTimeout(done));
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})
"""

_STATIC = """
() => new Promise(resolve => {
  const began = performance.now();
  const box = document.createElement("div");
  for (let row = 0; row < 1000; row++) {
    const line = document.createElement("div");
    line.textContent = `row ${row} with some text in it`;
    box.append(line);
  }
  document.body.append(box);
  requestAnimationFrame(() => setTimeout(() => {
    const took = performance.now() - began;
    box.remove();
    resolve(took);
  }));
})
"""

_KEYS = """
(count) => new Promise(resolve => {
  const times = [];
  const next = () => {
    if (times.length === count) return resolve(times.sort((a, b) => a - b)[Math.floor(count / 2)]);
    const before = document.querySelector(".rows").getAttribute("aria-activedescendant");
    const began = performance.now();
    document.querySelector(".rows").dispatchEvent(new KeyboardEvent("keydown", { key: "j", bubbles: true }));
    const look = () => {
      if (document.querySelector(".rows").getAttribute("aria-activedescendant") !== before) {
        times.push(performance.now() - began);
        setTimeout(next, 30);
      } else setTimeout(look);
    };
    look();
  };
  next();
})
"""

_CLICK = """
() => new Promise(resolve => {
  const began = performance.now();
  document.querySelector(".spans .row.active").click();
  const look = () => {
    if (document.querySelector(".detail[data-loaded=yes]")) resolve(performance.now() - began);
    else setTimeout(look);
  };
  look();
})
"""

# `box` is scrolled, and `left` is called at the end; gives the 95th percentile of a frame, in milliseconds.
_SCROLLED = """
  const times = [];
  let last = performance.now();
  let frame = 0;
  const step = now => {
    times.push(now - last);
    last = now;
    box.scrollTop += 400;
    if (++frame < 120) requestAnimationFrame(step);
    else { left(); times.sort((a, b) => a - b); resolve(times[Math.floor(times.length * 0.95)]); }
  };
  requestAnimationFrame(now => { last = now; requestAnimationFrame(step); });
})
"""
_SCROLL_STATIC = f"""
() => new Promise(resolve => {{
  const box = document.createElement("div");
  const style = {{ position: "fixed", inset: "130px 0 0", overflow: "auto", zIndex: "99", background: "white" }};
  Object.assign(box.style, style);
  for (let row = 0; row < 2000; row++) {{
    const line = document.createElement("div");
    line.style.height = "26px";
    line.textContent = `row ${{row}} with some text in it`;
    box.append(line);
  }}
  document.body.append(box);
  const left = () => box.remove();
{_SCROLLED}"""
_SCROLL = f"""
() => new Promise(resolve => {{
  const box = document.querySelector(".rows");
  const left = () => {{}};
{_SCROLLED}"""


def _busy(cpu_ms: float, bar: float) -> bool:
    """Whether an answer that took too long was kept from the processor by others."""
    return cpu_ms < bar / 2 and os.getloadavg()[0] > (os.cpu_count() or 1)


def measure_answers(table: Table, server: ViewerServer, *, index: bool) -> None:
    """Measure what the server's answers cost, without a browser; a bar is that of the page that asks for it."""
    table.heading("answers of the server")
    for what, path in _ANSWERS.items():
        if index or not path.startswith(("api/facets", "api/stats")):
            took, cpu, size = server.cost(lambda path=path: len(server.raw(path)))  # type: ignore[misc]
            bar = 250 if "list" in what else 200
            table.row(what, took, bar, cpu_ms=cpu, size=size, noisy=_busy(cpu, bar))
    for text in _SEARCHES if index else ():
        path = f"api/search?q={text.replace(' ', '%20')}"
        took, cpu, size = server.cost(lambda path=path: len(server.raw(path)))  # type: ignore[misc]
        table.row(f"search: {text}", took, 200, cpu_ms=cpu, size=size, noisy=_busy(cpu, 200))
    for spans, bar in ((5_000, 400), (50_000, 1_000), (100_000, 2_000)):
        took, cpu, size = server.cost(partial(server.spans, f"large-{spans}"), 3)
        table.row(f"{spans:,} spans", took, bar, cpu_ms=cpu, size=size, noisy=_busy(cpu, bar))


def measure_reference(table: Table, browser: Browser) -> None:
    """Measure pages that hold nothing but static rows: what this browser takes on this machine, now."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    table.reference_ms = median(lambda: float(page.evaluate(_STATIC)))
    table.row("reference: 1,000 static rows", table.reference_ms)
    table.row(
        "reference: scroll of 2,000 static rows, p95", median(lambda: float(page.evaluate(_SCROLL_STATIC)))
    )
    page.close()


def measure_pages(table: Table, browser: Browser, server: ViewerServer, path: Path, *, index: bool) -> None:
    """Measure pages and keys in a browser."""
    table.heading("pages in Chromium")
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(server.url)
    page.wait_for_selector(".run-row")

    def row(what: str, job: Callable[[], float], bar: float, repeats: int = 5) -> None:
        costs = [_with_cost(server, job) for _ in range(repeats)]
        took, cpu = (statistics.median(each) for each in zip(*costs, strict=True))
        table.row(what, took, bar, cpu_ms=cpu)

    row("list", lambda: _painted(page, "#/runs", ".run-row", "#/store"), 250)
    for spans, bar in ((5_000, 400), (50_000, 1_000)):
        row(
            f"{spans:,} spans, first rows",
            partial(_painted, page, f"#/run/large-{spans}", ".spans .row", "#/store"),
            bar,
        )
        row(f"{spans:,} spans, all of them", partial(_whole, page, spans), bar, 3)
        nodes, heap = weight(page)
        table.row(f"{spans:,} spans, nodes of the page", nodes, unit="")
        table.row(f"{spans:,} spans, heap of the page", heap, unit="MiB")
    row("100,000 spans, all of them", lambda: _whole(page, 100_000), 2_000, 3)
    table.row("key to selection", float(page.evaluate(_KEYS, 21)), 16)
    table.row("scroll, p95 of a frame", median(lambda: float(page.evaluate(_SCROLL))), 33)

    def click() -> float:
        page.keyboard.press("Escape")
        page.locator(".detail").wait_for(state="detached")
        return float(page.evaluate(_CLICK))

    row("click to detail", click, 100)
    for text in _SEARCHES if index else ():
        route = f"#/search?q={text.replace(' ', '%20')}"
        row(f"search: {text}", partial(_painted, page, route, ".hits li, .page .empty", "#/store"), 200)
    if index:
        row("statistics of everything", lambda: _painted(page, "#/stats", ".list tbody tr", "#/store"), 200)
    row("commit to visible", lambda: _visible(page, path), 500, 3)
    page.close()
    loaded = [
        ROOT / "nat_observability" / "viewer" / "page" / name for name in ("app.js", "app.css", "shell.html")
    ]
    table.row(
        "bundle, compressed", sum(len(gzip.compress(each.read_bytes())) for each in loaded) / 1024, 60, "KB"
    )


def _with_cost(server: ViewerServer, job: Callable[[], float]) -> tuple[float, float]:
    before = server.cpu_ms()
    return job(), server.cpu_ms() - before


def weight(page: Page) -> tuple[float, float]:
    """Return the nodes of a page, and its heap in MiB."""
    client = page.context.new_cdp_session(page)
    client.send("HeapProfiler.collectGarbage")
    client.send("Performance.enable")
    metrics = {each["name"]: each["value"] for each in client.send("Performance.getMetrics")["metrics"]}
    client.detach()
    return metrics["Nodes"], metrics["JSHeapUsedSize"] / (1 << 20)


def _painted(page: Page, route: str, selector: str, away: str) -> float:
    page.evaluate(_PAINTED, [away, "main"])
    page.locator(selector).first.wait_for(state="detached")
    return float(page.evaluate(_PAINTED, [route, selector]))


def _whole(page: Page, spans: int) -> float:
    """Return the time until all spans of a run are in its rows."""
    page.evaluate(_PAINTED, ["#/store", ".facts"])
    begun = page.evaluate("performance.now()")
    page.evaluate(f"location.hash = '#/run/large-{spans}'")
    page.wait_for_selector(".spans .row")
    page.locator(".notice").first.wait_for(state="detached", timeout=120_000)
    return float(page.evaluate("performance.now()") - begun)


def _visible(page: Page, path: Path) -> float:
    """Return the time from the commit of a new run to its button in the list; the run is removed again."""
    page.evaluate(_PAINTED, ["#/runs", ".run-row"])
    page.wait_for_timeout(700)
    number = int(time.time()) % 1_000_000 + 900_000
    run = make_run(number, run_id=f"live-{time.time_ns()}")
    with closing(sqlite3.connect(path)) as connection:
        # Those of a large store may reach into the future: this one is the newest.
        (newest,) = connection.execute("SELECT max(start_ns) FROM runs").fetchone()
    start = max(time.time_ns(), newest + 1_000_000_000)
    spans = [
        msgspec.structs.replace(span, start_ns=start, end_ns=start + 5) for span in spans_of(run, number)
    ]
    sink = SqliteSink(path)
    sink.open()
    sink.write(spans)
    began = time.monotonic()
    page.locator("button.fresh").wait_for()
    took = (time.monotonic() - began) * 1000
    sink.close()
    page.locator("button.fresh").click()
    return took
