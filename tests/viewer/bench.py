"""Times of the viewer in Chromium over 100,000 runs, beside the bars that it has to meet; see `--help`."""

from __future__ import annotations

import argparse
import gzip
import os
import re
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import msgspec

from nat_observability.events import Run, Span, Status, StepKind, TokenUsage
from nat_observability.sinks.sqlite import SqliteSink
from tests.viewer.browser.chromium import FLAGS, ROOT, chromium_path
from tests.viewer.stores import BEGIN_NS, as_json, large_run, make_run, spans_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

_SPANS_OF_A_RUN = 14
_LARGE = (5_000, 50_000, 100_000)
_REPEATS = 5
_WRITTEN = 1_000  # runs that go through a sink; SQLite copies them, which is quicker
_APART_NS = 26_000_000_000
_WORDS = "where is my parcel today please find the depot that holds it and tell me when it comes home again"


def _ordinary(number: int, spans: int = _SPANS_OF_A_RUN) -> Iterator[Span]:
    run = Run(
        f"{number:08d}-bench",
        f"{number + 1:032x}",
        f"talk-{number // 5}",
        f"user-{number % 500}",
        ("support", "search", "billing")[number % 3],
        tags=(("team", f"team-{number % 20}"),),
    )
    words = _WORDS.split()
    start = BEGIN_NS + number * _APART_NS
    text = " ".join(words[(number * 7 + at) % len(words)] for at in range(60))
    for at in range(spans):
        kind = (StepKind.WORKFLOW, StepKind.LLM, StepKind.TOOL, StepKind.RETRIEVER, StepKind.FUNCTION)[
            at and 1 + at % 4
        ]
        failed = number % 50 == 7 and at in (0, 5)
        begin = start + at * 40_000_000
        length = 900_000_000 if at == 0 else 10_000_000 + (number * 7919 + at * 104_729) % 300_000_000
        yield Span(
            run=run,
            kind=kind,
            name=f"{('answer', 'model', 'tool', 'search', 'step')[at and 1 + at % 4]}-{at % 6}",
            span_id=f"{number:010x}{at:06x}",
            parent_id=None if at == 0 else f"{number:010x}{0:06x}",
            start_ns=begin,
            end_ns=begin + length,
            status=Status.ERROR if failed else Status.OK,
            input=as_json({"question": text, "number": number * 100 + at}),
            output=f"{text[at * 9 :]} ({number})",
            usage=TokenUsage(300, 60, 0, 0, 360) if kind is StepKind.LLM else None,
            attributes=as_json({"gen_ai.request.model": f"model-{number % 4}"})
            if kind is StepKind.LLM
            else None,
            span_kind=kind.span_kind,
        )


def make_bench_store(path: Path, runs: int, spans: int = _SPANS_OF_A_RUN) -> None:
    """Make the store, unless it is there: so many runs of so many spans, and large ones."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    for suffix in ("", "-wal", "-shm"):
        Path(f"{unfinished}{suffix}").unlink(missing_ok=True)
    sink = SqliteSink(unfinished, synchronous="off")
    sink.open()
    written = min(runs, _WRITTEN)
    sink.write([span for number in range(written) for span in _ordinary(number, spans)])
    _multiply(unfinished, written, runs)
    for at, many in enumerate(_LARGE):
        # The newest of all, a minute apart.
        run = large_run((runs * 26) // 60 + 10 + at, many)
        for begin in range(0, len(run), 5_000):
            sink.write(run[begin : begin + 5_000])
    sink.close()
    print(file=sys.stderr)
    unfinished.rename(path)


def _multiply(path: Path, written: int, runs: int) -> None:
    """Copy the runs that a sink has written, under ids and at times of their own, until there are enough."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    columns = [name for (name,) in connection.execute("SELECT name FROM pragma_table_info('runs')")]
    number = "(CAST(substr(run_id, 1, 8) AS INTEGER) + :shift)"
    times = {
        name: f"{name} + :shift * {_APART_NS}"
        for name in ("start_ns", "end_ns", "root_start_ns", "first_chunk_ns")
    }
    run_id = {"run_id": f"printf('%08d-bench', {number})"}
    of_runs = {
        **run_id,
        **times,
        "trace_id": f"printf('%032x', {number} + 1)",
        "conversation_id": f"printf('talk-%d', {number} / 5)",
        "user_id": f"printf('user-%d', {number} % 500)",
    }
    of_spans = {
        **run_id,
        **times,
        "span_id": f"printf('%010x', {number}) || substr(span_id, 11)",
        "parent_id": f"printf('%010x', {number}) || substr(parent_id, 11)",
        "output": f"replace(output, printf(' (%d)', {number} - :shift), printf(' (%d)', {number}))",
    }
    spans = [
        name for (name,) in connection.execute("SELECT name FROM pragma_table_info('spans')") if name != "id"
    ]
    last = f"{written:08d}"
    for shift in range(written, runs, written):
        connection.execute("BEGIN")
        for table, names, changed in (
            ("runs", columns, of_runs),
            ("run_tags", ["run_id", "name", "value", "start_ns"], of_runs),
            ("spans", spans, of_spans),
        ):
            copied = ", ".join(changed.get(each, each) for each in names)
            connection.execute(
                f"INSERT INTO {table} ({', '.join(names)}) SELECT {copied} FROM {table} "
                "WHERE run_id < :last ORDER BY run_id",
                {"shift": shift, "last": last},
            )
        connection.execute("COMMIT")
        print(f"\r{shift + written:,} of {runs:,} runs", end="", file=sys.stderr)
    times_as_many = max(1, runs // written)
    sums = [
        name
        for (name,) in connection.execute("SELECT name FROM pragma_table_info('kinds')")
        if name != "kind"
    ]
    connection.execute(f"UPDATE kinds SET {', '.join(f'{name} = {name} * {times_as_many}' for name in sums)}")
    connection.close()


class _Table:
    def __init__(self) -> None:
        self.missed: list[str] = []
        print(f"{'what':<52}{'measured':>12}{'bar':>12}")

    def row(self, what: str, measured: float, bar: float | None, unit: str = "ms") -> None:
        mark = "" if bar is None or measured <= bar else "  over"
        if mark:
            self.missed.append(what)
        shown = "" if bar is None else f"{bar:,.0f} {unit}"
        print(f"{what:<52}{f'{measured:,.1f} {unit}':>12}{shown:>12}{mark}", flush=True)


class _Server:
    def __init__(self, path: Path, *options: str) -> None:
        began = time.monotonic()
        command = [
            sys.executable,
            "-m",
            "nat_observability.cli",
            "ui",
            str(path),
            "--no-browser",
            "--port",
            "0",
            *options,
        ]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        lines = (re.match(r"(http://\S+/)#token=(\S+)", line) for line in self.process.stdout)
        found = next(line for line in lines if line)
        self.base, self.token = found[1], found[2]
        self.get("api/runs?limit=50")
        self.started_ms = (time.monotonic() - began) * 1000

    @property
    def url(self) -> str:
        return f"{self.base}#token={self.token}"

    def get(self, path: str) -> Any:
        with urlopen(Request(self.base + path, headers={"Authorization": f"Bearer {self.token}"})) as answer:
            return msgspec.json.decode(answer.read())

    def memory_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def _median(job: Callable[[], float], repeats: int = _REPEATS) -> float:
    return statistics.median(job() for _ in range(repeats))


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

_SCROLL_STATIC = """
() => new Promise(resolve => {
  const box = document.createElement("div");
  const style = { position: "fixed", inset: "130px 0 0", overflow: "auto", zIndex: "99", background: "white" };
  Object.assign(box.style, style);
  for (let row = 0; row < 2000; row++) {
    const line = document.createElement("div");
    line.style.height = "26px";
    line.textContent = `row ${row} with some text in it`;
    box.append(line);
  }
  document.body.append(box);
  const times = [];
  let last = performance.now();
  let frame = 0;
  const step = now => {
    times.push(now - last);
    last = now;
    box.scrollTop += 400;
    if (++frame < 120) requestAnimationFrame(step);
    else { box.remove(); times.sort((a, b) => a - b); resolve(times[Math.floor(times.length * 0.95)]); }
  };
  requestAnimationFrame(now => { last = now; requestAnimationFrame(step); });
})
"""

_SCROLL = """
() => new Promise(resolve => {
  const box = document.querySelector(".rows");
  const times = [];
  let last = performance.now();
  let frame = 0;
  const step = now => {
    times.push(now - last);
    last = now;
    box.scrollTop += 400;
    if (++frame < 120) requestAnimationFrame(step);
    else { times.sort((a, b) => a - b); resolve(times[Math.floor(times.length * 0.95)]); }
  };
  requestAnimationFrame(now => { last = now; requestAnimationFrame(step); });
})
"""


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


def measure(path: Path, *, index: bool) -> list[str]:
    """Print the table; without the index, not what needs it. Returns what is over its bar."""
    from playwright.sync_api import sync_playwright

    table = _Table()
    server = _Server(path, *([] if index else ["--no-index"]))
    table.row("start to first answer", server.started_ms, 1000)
    try:
        if index:
            _wait_for_index(server, table)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium_path(), args=FLAGS)
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(server.url)
            page.wait_for_selector(".run-row")
            table.row("reference: 1,000 static rows", _median(lambda: float(page.evaluate(_STATIC))), None)
            table.row(
                "reference: scroll of 2,000 static rows, p95",
                _median(lambda: float(page.evaluate(_SCROLL_STATIC))),
                None,
            )
            table.row("list", _median(lambda: _painted(page, "#/runs", ".run-row", "#/store")), 250)
            for spans, bar in ((5_000, 400), (50_000, 1_000)):
                route = f"#/run/large-{spans}"
                table.row(
                    f"{spans:,} spans, first rows",
                    _median(partial(_painted, page, route, ".spans .row", "#/store")),
                    bar,
                )
                table.row(f"{spans:,} spans, all of them", _median(partial(_whole, page, spans), 3), bar)
            table.row("100,000 spans, all of them", _median(lambda: _whole(page, 100_000), 3), 2_000)
            table.row("key to selection", float(page.evaluate(_KEYS, 21)), 16)
            table.row("scroll, p95 of a frame", _median(lambda: float(page.evaluate(_SCROLL))), 33)

            def click() -> float:
                page.keyboard.press("Escape")
                page.locator(".detail").wait_for(state="detached")
                return float(page.evaluate(_CLICK))

            table.row("click to detail", _median(click), 100)
            if index:
                facets = _median(lambda: _answered(server, "api/facets"))
                table.row("numbers of the list's filters", facets, 250)
            for text in ("parcel today please", "(77777)", "nowhere to be found") if index else ():
                route = f"#/search?q={text.replace(' ', '%20')}"
                took = _median(partial(_painted, page, route, ".hits li, .page .empty", "#/store"))
                table.row(f"search: {text}", took, 200)
            if index:
                table.row(
                    "statistics of everything",
                    _median(lambda: _painted(page, "#/stats", ".list tbody tr", "#/store")),
                    200,
                )
            table.row("commit to visible", _median(lambda: _visible(page, path), 3), 500)
            table.row("server's memory at its most", server.memory_mib(), 100, "MiB")
            browser.close()
        loaded = [
            ROOT / "nat_observability" / "viewer" / "page" / name
            for name in ("app.js", "app.css", "shell.html")
        ]
        table.row(
            "bundle, compressed",
            sum(len(gzip.compress(each.read_bytes())) for each in loaded) / 1024,
            60,
            "KB",
        )
    finally:
        server.end()
    return table.missed


def _answered(server: _Server, path: str) -> float:
    began = time.monotonic()
    server.get(path)
    return (time.monotonic() - began) * 1000


def _wait_for_index(server: _Server, table: _Table) -> None:
    began = time.monotonic()
    done = server.get("api/stats")
    while not done["complete"]:
        time.sleep(1)
        done = server.get("api/stats")
        print(f"\rindex {done['indexed']:,} of {done['total']:,}", end="", file=sys.stderr)
    print(f"\r{'':60}\r", end="", file=sys.stderr)
    table.row("making the index", (time.monotonic() - began) * 1000, None)


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


def main() -> None:
    """Make the store and print the table; the exit code is 1 if something is over its bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000, help="ordinary runs of the store")
    parser.add_argument("--spans", type=int, default=_SPANS_OF_A_RUN, help="spans of an ordinary run")
    parser.add_argument(
        "--store", type=Path, default=ROOT / "build" / "viewer-bench.sqlite3", help="made if it is missing"
    )
    parser.add_argument("--make-only", action="store_true", help="only make the store")
    parser.add_argument("--no-index", action="store_true", help="leave out what needs the index")
    arguments = parser.parse_args()
    make_bench_store(arguments.store, arguments.runs, arguments.spans)
    if arguments.make_only:
        return
    missed = measure(arguments.store, index=not arguments.no_index)
    if missed:
        print(f"Over the bar: {', '.join(missed)}. Load average: {os.getloadavg()[0]:.1f}.")
        raise SystemExit(1)


if __name__ == "__main__":
    main()
