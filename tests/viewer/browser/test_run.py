"""The page of one run in Chromium: the waterfall, its keys, and a span's content."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path

import msgspec
from playwright.sync_api import expect

from nat_observability.events import Status
from nat_observability.sinks.protocol import RunLedger
from nat_observability.sinks.sqlite import SqliteSink
from nat_observability.viewer.export import html_pieces
from nat_observability.viewer.store_file import StoreFile
from tests.viewer.browser.chromium import Opener
from tests.viewer.stores import large_run, make_run, spans_of, write


def test_the_waterfall_shows_every_span(watch: Opener, url: str) -> None:
    """A tree with roles, levels and the active row; bars with the first token; the minimap with colours."""
    page = watch(url).open("run/run-000004")
    grid = page.get_by_role("treegrid")
    grid.wait_for()
    assert grid.get_attribute("aria-rowcount") == "5"
    rows = page.locator(".spans .row")
    expect(rows).to_have_count(5)
    assert rows.nth(0).get_attribute("aria-level") == "1"
    assert rows.nth(0).get_attribute("aria-expanded") == "true"
    assert rows.nth(1).get_attribute("aria-level") == "2"
    active = grid.get_attribute("aria-activedescendant")
    assert page.locator(f"#{active}").get_attribute("aria-selected") == "true"
    expect(page.locator(".first-token")).to_have_count(2)
    expect(page.locator(".row.failed")).to_have_count(2)
    pixels = page.evaluate(
        "() => { const c = document.querySelector('.minimap canvas'); const d = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data; const s = new Set(); for (let i = 0; i < d.length; i += 4)"
        " if (d[i + 3]) s.add([d[i], d[i + 1], d[i + 2]].join()); return [...s] }"
    )
    assert len(pixels) >= 3
    assert "0,0,0" not in pixels


def test_the_waterfall_by_keyboard(watch: Opener, url: str) -> None:
    """Moving, closing and opening, errors, critical path, zoom, detail: all of it without a mouse."""
    page = watch(url).open("run/run-000004")
    page.wait_for_selector(".spans .row")
    page.keyboard.press("h")
    page.locator(".spans .row[aria-expanded=false]").wait_for()
    expect(page.locator(".spans .row")).to_have_count(1)
    expect(page.locator(".below.failed")).to_have_count(1)
    page.keyboard.press("l")
    page.locator("#row-4").wait_for()
    page.keyboard.press("l")
    page.locator("#row-1.active").wait_for()
    page.keyboard.press("h")
    page.locator("#row-0.active").wait_for()
    page.keyboard.press("e")
    page.locator("#row-3.active.failed").wait_for()
    page.keyboard.press("E")
    page.locator("#row-0.active.failed").wait_for()
    page.keyboard.press("c")
    page.locator(".bar.critical").first.wait_for()
    expect(page.locator(".off-path")).to_have_count(0)
    page.keyboard.press("End")
    page.locator("#row-4.active").wait_for()
    page.keyboard.press("z")
    page.locator(".beyond").first.wait_for()
    page.get_by_role("button", name="Whole run").wait_for()
    page.keyboard.press("0")
    page.locator(".beyond").first.wait_for(state="detached")
    page.keyboard.press("Enter")
    page.wait_for_selector(".detail[data-loaded=yes]")
    assert "span=0000000000040004" in page.url
    page.keyboard.press("k")
    page.wait_for_selector(".detail[data-span='0000000000040003'][data-loaded=yes]")
    page.keyboard.press("Escape")
    page.wait_for_selector(".detail", state="detached")
    page.keyboard.press("[")
    page.wait_for_url(re.compile("run-000005"))


def test_the_minimap_zooms(watch: Opener, url: str) -> None:
    """Dragging over the minimap zooms to that part."""
    page = watch(url).open("run/run-000004")
    page.wait_for_selector(".spans .row")
    box = page.locator(".minimap").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 10, steps=3)
    page.mouse.up()
    page.locator(".beyond.before").first.wait_for()


def test_repeats_are_folded(growing: tuple[Path, str], watch: Opener) -> None:
    """Like siblings in a row are one row with their number; f shows them all, Enter those of one fold."""
    path, address = growing
    spans = spans_of(make_run(50), 50)
    tool = spans[3]
    fields = {name: getattr(tool, name) for name in tool.__struct_fields__} | {
        "status": Status.OK,
        "error": None,
    }
    repeats = [
        type(tool)(**{**fields, "span_id": f"{at:016x}", "start_ns": tool.start_ns + at})
        for at in range(1, 31)
    ]  # fmt: skip
    write(path, [spans[0], *repeats])
    page = watch(address).open("run/run-000050")
    page.locator(".fold .times", has_text="30").wait_for()
    expect(page.locator(".spans .row")).to_have_count(2)
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.locator("#row-31").wait_for(state="attached")
    page.keyboard.press("Enter")
    page.locator("#row-31").wait_for(state="detached")
    page.keyboard.press("f")
    page.locator(".fold").wait_for(state="detached")
    page.locator("#row-20").wait_for(state="attached")


def test_search_inside_a_run(watch: Opener, url: str) -> None:
    """Names and content are found in a run; n steps through the hits, Escape leaves the field."""
    page = watch(url).open("run/run-000004")
    page.wait_for_selector(".spans .row")
    page.keyboard.press("/")
    page.keyboard.type("Depots close")
    page.locator(".row.is-hit").wait_for()
    page.get_by_role("status").filter(has_text="1 span").wait_for()
    page.keyboard.press("Enter")
    page.locator(".row.is-hit.active").wait_for()
    page.locator(".waterfall input").fill("swift")
    page.locator(".row.is-hit").nth(1).wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    page.keyboard.press("N")


def test_content_has_the_form_of_what_it_is(watch: Opener, url: str) -> None:
    """Messages are a conversation, results documents, arguments a table; all is there as a tree and raw too."""
    watched = watch(url)
    page = watched.open("run/run-000004?span=0000000000040002")
    page.wait_for_selector(".message.role-user")
    expect(page.locator(".message")).to_have_count(3)
    expect(page.locator(".call-name", has_text="track")).to_have_count(1)
    assert "swift-1" in page.inner_text(".detail .facts") or "slow-1" in page.inner_text(".detail .facts")
    page.get_by_role("button", name="Tree", exact=True).click()
    page.wait_for_selector(".json-toggle")
    page.get_by_role("button", name="Raw").click()
    expect(page.locator("pre.raw >> nth=0")).to_contain_text("Be brief.")
    watched.axe()
    page.get_by_role("button", name="Formatted").click()
    watched.open("run/run-000004?span=0000000000040001")
    page.wait_for_selector(".document >> text=faq.md")
    expect(page.locator(".document >> nth=0")).to_contain_text("0.910")
    watched.open("run/run-000004?span=0000000000040003")
    page.locator("mark.redacted", has_text="redacted:api-key").wait_for()
    page.locator("mark.cut", has_text="cut:12345").wait_for()
    page.locator(".has-marks").first.wait_for()
    page.get_by_text("the depot does not answer").first.wait_for()
    page.get_by_role("tab", name="Events").click()
    page.locator(".events", has_text="retry").wait_for()
    page.keyboard.press("ArrowRight")
    page.locator(".events", has_text="Find trace abababababab").wait_for()
    watched.axe()
    page.get_by_role("link", name="Find trace").click()
    page.wait_for_url(re.compile("search"))


def test_spans_as_a_plain_table(watch: Opener, url: str) -> None:
    """The alternative to the tree: a table with N of M, sorted by its heads, each span a button."""
    page = watch(url).open("run/large-6000?as=table")
    page.get_by_text("1 to 200 of 6,000 spans").wait_for()
    page.get_by_role("button", name="Next").click()
    page.get_by_text("201 to 400 of 6,000 spans").wait_for()
    page.get_by_role("button", name="Duration").click()
    page.locator("th[aria-sort=descending]").wait_for()
    page.locator(".span-table tbody button").first.click()
    page.wait_for_selector(".detail[data-loaded=yes]")


def test_a_large_run_has_few_nodes(watch: Opener, url: str) -> None:
    """6,000 spans are all there, of which the document holds what can be seen; the last is a key away."""
    page = watch(url).open("run/large-6000")
    page.locator(".facts", has_text="6,000").wait_for()
    page.locator(".notice").wait_for(state="detached")
    page.get_by_role("button", name="Fold repeats").click() if page.get_by_role(
        "button", name="Fold repeats"
    ).count() else None
    assert page.evaluate("document.querySelectorAll('*').length") < 1500
    page.keyboard.press("End")
    rows = page.get_by_role("treegrid").get_attribute("aria-rowcount")
    page.locator(f".spans .row[aria-rowindex='{rows}'].active").wait_for()
    assert page.evaluate("document.querySelectorAll('*').length") < 1500


def test_long_content_comes_in_pieces(growing: tuple[Path, str], watch: Opener) -> None:
    """A long text says how much of it is shown, and gives the rest."""
    path, address = growing
    span = spans_of(make_run(60), 60)[0]
    fields = {name: getattr(span, name) for name in span.__struct_fields__}
    write(path, [type(span)(**{**fields, "input": "long " * 40_000})])
    page = watch(address).open(f"run/run-000060?span={span.span_id}")
    page.get_by_text("64.0 KB of 195 KB are shown").wait_for()
    for shown in ("128 KB", "192 KB"):
        page.get_by_role("button", name="Load more").click()
        page.get_by_text(f"{shown} of 195 KB are shown").wait_for()
    page.get_by_role("button", name="Load more").click()
    page.get_by_role("button", name="Load more").wait_for(state="detached")


def test_the_exported_file_works_without_a_network(watch: Opener, url: str, tmp_path: Path) -> None:
    """A run as one HTML file: the same waterfall and content, from a file: address, clean for axe."""
    watched = watch(url)
    page = watched.open("run/run-000004")
    page.get_by_role("button", name="Export").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="HTML file").click()
    target = tmp_path / download.value.suggested_filename
    download.value.save_as(target)
    assert download.value.suggested_filename == "run-run-000004.html"
    offline = watch(f"file://{target}", offline=True)
    offline.page.goto(offline.url)
    offline.page.wait_for_selector(".spans .row")
    expect(offline.page.locator(".spans .row")).to_have_count(5)
    offline.page.keyboard.press("e")
    offline.page.keyboard.press("Enter")
    offline.page.wait_for_selector(".detail[data-loaded=yes]")
    offline.page.locator("mark.redacted").first.wait_for()
    offline.page.keyboard.press("/")
    offline.page.keyboard.type("Depots close")
    offline.page.locator(".row.is-hit").wait_for()
    offline.shot("export-light")
    offline.axe()
    page.get_by_role("button", name="Export").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="OTLP JSON").click()
    download.value.save_as(tmp_path / "otlp.json")
    exported = json.loads((tmp_path / "otlp.json").read_text())
    assert len(exported["resourceSpans"][0]["scopeSpans"][0]["spans"]) == 5


def test_a_trace_in_one_file(growing: tuple[Path, str], watch: Opener, tmp_path: Path) -> None:
    """A file with the runs of a trace shows the first, and leads to the others; what it does not hold is no link."""
    path, _ = growing
    trace = "ab" * 16
    for number, name in ((80, "front"), (81, "back"), (82, "other")):
        write(path, spans_of(make_run(number, run_id=name, trace_id=trace), number))
    target = tmp_path / "trace.html"
    with contextlib.closing(StoreFile(str(path))) as store:
        target.write_bytes(b"".join(html_pieces(store, ["front", "back"])))
    watched = watch(f"file://{target}", offline=True)
    page = watched.page
    page.goto(watched.url)
    page.get_by_role("button", name="front", exact=True).wait_for()
    others = page.locator(".facts > div", has_text="Same trace")
    expect(others.locator(".chip")).to_have_count(2)
    expect(others.locator("a")).to_have_count(1)
    others.locator("a").click()
    page.get_by_role("button", name="back", exact=True).wait_for()
    expect(page.locator(".spans .row")).to_have_count(5)
    page.go_back()
    page.get_by_role("button", name="front", exact=True).wait_for()
    page.keyboard.press("]")
    page.get_by_text("This file has no list").wait_for()


def test_a_trace_in_one_waterfall(growing: tuple[Path, str], watch: Opener) -> None:
    """The runs of a trace are shown joined: the spans of one below the step of the other that called it."""
    path, address = growing
    trace = "cd" * 16
    write(path, spans_of(make_run(80, run_id="front", trace_id=trace, workflow_name="gateway"), 80))
    caller = f"{80:012x}{3:04x}"
    called = make_run(81, run_id="back", trace_id=trace, workflow_name="tracking", parent_span_id=caller)
    root, *others = spans_of(called, 81)
    write(path, [msgspec.structs.replace(root, parent_id=caller), *others])
    watched = watch(address)
    page = watched.open("run/front")
    page.get_by_role("button", name="Whole trace: 2 runs").click()
    page.wait_for_url(re.compile("joined=1"))
    expect(page.locator(".spans .row")).to_have_count(10)
    expect(page.locator(".spans .row[aria-level='3']", has_text="answer")).to_have_count(1)
    expect(page.locator(".facts", has_text="Tokens").first).to_contain_text("740")
    page.locator(".spans .row[aria-level='4']", has_text="track").click()
    page.wait_for_selector(".detail[data-loaded=yes]")
    expect(page.locator(".detail")).to_contain_text("81")
    page.keyboard.press("/")
    page.keyboard.type("parcel 81")
    page.locator(".row.is-hit").first.wait_for()
    watched.axe()
    page.reload()
    page.wait_for_selector(".detail[data-loaded=yes]")
    expect(page.locator(".spans .row")).to_have_count(10)
    page.get_by_role("button", name="Whole trace: 2 runs").click()
    expect(page.locator(".spans .row")).to_have_count(5)


def test_what_was_lost_is_said(growing: tuple[Path, str], watch: Opener) -> None:
    """The line of completeness names each exporter's losses, by reason; a run without any says that it is complete."""
    path, address = growing
    sink = SqliteSink(path)
    sink.open()
    sink.write(spans_of(make_run(90), 90))
    sink.write_report(
        [
            RunLedger("run-000090", "store", 9, 5, 1, 1, {"queue_full": 2}),
            RunLedger("run-000090", "otlp", 5, 5, 0, 0, {}),
            RunLedger("run-000001", "store", 5, 5, 0, 0, {}),
        ]
    )
    sink.close()
    page = watch(address).open("run/run-000090")
    line = page.locator(".complete.lacking")
    expect(line).to_contain_text("incomplete")
    expect(line).to_contain_text("store: 5 of 9 delivered, 2 dropped (queue_full), 1 failed, 1 pending")
    expect(line).to_contain_text("otlp: 5 of 5 delivered")
    page = watch(address).open("run/run-000001")
    expect(page.locator(".complete")).to_have_text("✓ complete · store: 5 of 5 delivered")
    page = watch(address).open("run/run-000002")
    page.get_by_text("completeness unknown").wait_for()


def test_more_spans_than_are_shown(growing: tuple[Path, str], watch: Opener) -> None:
    """Beyond 100,000 spans, the page says N of M and loads the rest on request."""
    path, address = growing
    write(path, large_run(70, 101_000))
    page = watch(address).open("run/large-101000")
    page.get_by_text("100,000 of 101,000 spans are shown").wait_for(timeout=60_000)
    page.get_by_role("button", name="Load 1,000 more").click()
    page.get_by_text("100,000 of 101,000 spans are shown").wait_for(state="detached", timeout=60_000)


def test_relative_times(watch: Opener, url: str) -> None:
    """Times are absolute with their zone named, or relative, as the reader wants."""
    page = watch(url).open("runs")
    page.wait_for_selector(".run-row")
    expect(page.locator(".toolbar")).to_contain_text("UTC")
    page.get_by_role("button", name="Absolute times").click()
    page.locator(".run-row time", has_text="ago").first.wait_for()
