"""What is written while a page is open: it appears without a jump, waits while paused, and dies with its process."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from playwright.sync_api import expect

from nat_observability.sinks.sqlite import SqliteSink
from tests.viewer.browser.chromium import Opener, serving
from tests.viewer.stores import make_run, spans_of, write


def test_the_list_grows_without_a_jump(growing: tuple[Path, str], watch: Opener) -> None:
    """New runs wait behind a button, and nothing moves until it is pressed; paused, not even that changes."""
    path, address = growing
    page = watch(address).open("runs")
    page.locator(".run-row").nth(2).wait_for()
    page.keyboard.press("j")
    write(path, spans_of(make_run(20), 20))
    page.get_by_role("button", name="Show 1 new run").wait_for()
    expect(page.locator(".run-row")).to_have_count(3)
    page.locator("#run-1.active").wait_for()
    page.get_by_role("button", name="Show 1 new run").click()
    page.locator(".run-row").nth(3).wait_for()
    page.keyboard.press("p")
    page.get_by_role("button", name="Resume").wait_for()
    write(path, spans_of(make_run(21), 21))
    page.keyboard.press("p")
    page.get_by_role("button", name="Show 1 new run").wait_for()


def test_a_running_run_grows(growing: tuple[Path, str], watch: Opener) -> None:
    """Open steps are shown as running, then as what they became; the selection stays where it is."""
    path, address = growing
    spans = spans_of(make_run(30), 30)
    sink = SqliteSink(path)
    sink.open()
    try:
        sink.write_running(spans[:1])
        page = watch(address).open("run/run-000030")
        page.locator(".bar.running").wait_for()
        page.locator(".run-title .status-running").wait_for()
        sink.write(spans[1:3])
        page.locator(".spans .row").nth(2).wait_for()
        page.keyboard.press("j")
        page.keyboard.press("j")
        page.locator(".row.active", has_text="swift-1").wait_for()
        page.keyboard.press("p")
        sink.write(spans[3:])
        page.get_by_role("button", name="Resume (").wait_for()
        expect(page.locator(".spans .row")).to_have_count(3)
        page.keyboard.press("p")
        page.locator(".spans .row").nth(4).wait_for()
        page.locator(".row.active", has_text="swift-1").wait_for()
        sink.write(spans[:1])
        page.locator(".run-title .status-ok").wait_for()
        page.locator(".bar.running").wait_for(state="detached")
    finally:
        sink.close()


def test_a_running_step_gets_longer(growing: tuple[Path, str], watch: Opener) -> None:
    """The duration of a step that is running goes on without a word from the store; that of a finished one does not."""
    path, address = growing
    now_ns = time.time_ns()
    spans = [
        msgspec.structs.replace(span, start_ns=now_ns - 5_000_000_000, end_ns=now_ns - 4_000_000_000)
        for span in spans_of(make_run(31), 31)[:2]
    ]
    sink = SqliteSink(path)
    sink.open()
    try:
        sink.write_running(spans[:1])
        sink.write(spans[1:])
        page = watch(address).open("run/run-000031")
        shown = page.locator(".row", has=page.locator(".bar.running")).locator(".bar-label")
        first = shown.inner_text()
        assert float(first.split()[0]) >= 5
        expect(shown).not_to_have_text(first)
        expect(page.locator(".row", has_text="find_documents").locator(".bar-label")).to_have_text("1.00 s")
    finally:
        sink.close()


def test_a_run_whose_process_died(growing: tuple[Path, str], watch: Opener) -> None:
    """A run whose process has ended is shown as died, and nothing goes on asking for it."""
    path, address = growing
    sink = SqliteSink(path)
    sink.open()
    sink.write_running(spans_of(make_run(40), 40)[:1])
    sink.close()
    page = watch(address).open("run/run-000040")
    page.locator(".run-title .status-died").wait_for()
    expect(page.locator(".bar.running")).to_have_count(0)
    expect(page.get_by_role("button", name="Pause")).to_have_count(0)


def test_many_tabs_at_once(growing: tuple[Path, str], watch: Opener) -> None:
    """A hidden tab ends its stream, so that a browser's six connections to a host are enough for any number of tabs."""
    _, address = growing
    watched = watch(address)
    watched.open("runs").wait_for_selector(".run-row")
    for _ in range(9):
        page = watched.page.context.new_page()
        page.goto(f"{watched.base}#/runs")
        page.bring_to_front()
        page.wait_for_selector(".run-row")


def test_the_server_ends(watch: Opener, tmp_path: Path) -> None:
    """A page whose server has ended says so, and how to start it again."""
    path = tmp_path / "s.sqlite3"
    write(path, spans_of(make_run(1), 1))
    with serving(path) as address:
        watched = watch(address)
        watched.may_fail = True
        watched.open("runs").wait_for_selector(".run-row")
    watched.page.keyboard.press("Enter")
    watched.page.locator(".offline", has_text="nat-observability ui").wait_for()


def test_what_is_no_request_prints_nothing(tmp_path: Path) -> None:
    """A port scan, or a browser that tries TLS, is answered, and leaves no traceback in the terminal."""
    path, printed = tmp_path / "s.sqlite3", tmp_path / "stderr"
    write(path, spans_of(make_run(1), 1))
    with printed.open("wb") as errors, serving(path, errors=errors) as shown:
        address = urlsplit(shown)
        for sent in (
            b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET /" + b"a" * 20_000,
        ):
            with socket.create_connection((address.hostname, address.port), timeout=8) as connection:
                connection.sendall(sent)
                assert b" 400 " in connection.recv(100)
    assert printed.read_bytes() == b""
