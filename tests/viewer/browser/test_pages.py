"""Each page in Chromium: what it shows, in both themes, without an error, a foreign request or a barrier."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.viewer.browser.chromium import Opener
from tests.viewer.stores import make_run, spans_of, write

_PAGES = {
    "runs": ("runs", ".run-row"),
    "runs-filtered": ("runs?status=error", ".run-row"),
    "runs-none": ("runs?user=nobody", ".empty"),
    "run": ("run/run-000004", ".spans .row"),
    "run-span": ("run/run-000004?span=0000000000040003", ".detail[data-loaded=yes]"),
    "run-chat": ("run/run-000004?span=0000000000040002", ".message"),
    "run-documents": ("run/run-000004?span=0000000000040001", ".document"),
    "run-table": ("run/run-000004?as=table", ".span-table td"),
    "run-large": ("run/large-6000", ".spans .row"),
    "run-missing": ("run/none", ".problem"),
    "conversation": ("conversation/talk-2", ".message"),
    "compare": ("compare?a=run-000003&b=run-000004", ".pair-part"),
    "compare-nothing": ("compare", ".problem"),
    "search": ("search?q=parcel", ".hits li"),
    "search-none": ("search?q=nothing-like-this", ".empty"),
    "stats": ("stats", ".charts canvas"),
    "store": ("store", ".facts"),
}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", _PAGES)
def test_every_page_is_clean_in_both_themes(watch: Opener, url: str, name: str, theme: str) -> None:
    """A page opens without an error or a request to another host, and axe finds nothing against WCAG 2.2 AA."""
    route, selector = _PAGES[name]
    watched = watch(url, theme)
    watched.may_fail = name == "run-missing"
    page = watched.open(route)
    page.wait_for_selector(selector)
    page.wait_for_load_state("networkidle") if name in ("run-table", "store") else None
    watched.shot(f"{name}-{theme}")
    watched.axe()


def test_the_token_leaves_the_address(watch: Opener, url: str) -> None:
    """The token is taken out of the address at once, and works in another tab; without it, the page says what to do."""
    watched = watch(url)
    page = watched.open()
    page.wait_for_selector(".run-row")
    assert "token" not in page.url
    second = page.context.new_page()
    second.goto(f"{watched.base}#/run/run-000004")
    second.wait_for_selector(".spans .row")
    stranger = watch(f"{watched.base}#/runs")
    stranger.may_fail = True
    page = stranger.open()
    page.wait_for_selector(".offline")
    expect(page.locator(".offline")).to_contain_text("open the address that the command printed")


def test_filters_facets_and_histogram_are_in_the_address(watch: Opener, url: str) -> None:
    """Choosing a facet, typing a filter and brushing the histogram narrow the list, and the address holds them all."""
    page = watch(url).open("runs")
    page.wait_for_selector(".run-row")
    expect(page.locator(".toolbar")).to_contain_text("of 301 runs")
    page.click(".facet-value:has-text('error')")
    page.wait_for_selector(".chips")
    page.locator(".toolbar [role=status]", has_text="of 60 runs").wait_for()
    page.get_by_role("textbox", name="User").fill("user-3")
    page.keyboard.press("Enter")
    page.locator(".toolbar [role=status]", has_text="of 15 runs").wait_for()
    assert "status=error" in page.url
    assert "user=user-3" in page.url
    page.locator(".toolbar input").fill("depot")
    page.keyboard.press("Enter")
    page.locator(".toolbar [role=status]", has_text="of 15 runs").wait_for()
    bars = page.locator(".histogram-bars").bounding_box()
    assert bars is not None
    page.mouse.move(bars["x"] + 2, bars["y"] + 20)
    page.mouse.down()
    page.mouse.move(bars["x"] + bars["width"] / 3, bars["y"] + 20, steps=4)
    page.mouse.up()
    page.wait_for_url(re.compile(r"from=\d+&to=\d+"))
    page.locator(".chips .chip", has_text="from").wait_for()
    address = page.url
    page.reload()
    page.wait_for_selector(".chips .chip:has-text('user-3')")
    assert page.url == address
    page.go_back()
    page.wait_for_url(re.compile(r"^(?!.*from=)"))
    page.click("text=Clear")
    page.locator(".toolbar [role=status]", has_text="301").wait_for()


def test_a_facet_with_many_values(growing: tuple[Path, str], watch: Opener) -> None:
    """Of many values the most frequent are shown, and the rest on request; tags are a facet too."""
    path, address = growing
    for number in range(100, 120):
        write(
            path,
            spans_of(make_run(number, workflow_name=f"flow-{number}", tags=(("tenant", "acme"),)), number),
        )
    page = watch(address).open("runs")
    workflows = page.locator(".facet", has_text="Workflow")
    expect(workflows.locator(".facet-value")).to_have_count(12)
    workflows.get_by_role("button", name="12 of 22: show more").click()
    expect(workflows.locator(".facet-value")).to_have_count(22)
    page.locator(".facet-value", has_text="tenant:acme").click()
    page.locator(".toolbar [role=status]", has_text="20 of 20 runs").wait_for()
    assert "tag=tenant%3Aacme" in page.url
    expect(page.locator(".facet-value[aria-pressed=true]")).to_contain_text("tenant:acme")
    page.goto(f"{page.url.partition('?')[0]}?name=nothing%20like%20this")
    page.get_by_text("No run passes these filters.").wait_for()


def test_the_histogram_by_keyboard(watch: Opener, url: str) -> None:
    """The handles of the time range move by arrow keys, and Enter narrows the list."""
    page = watch(url).open("runs")
    page.get_by_role("slider", name="Begin of the time range").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"from=\d+&to=\d+"))


def test_the_list_goes_on_to_its_end(watch: Opener, url: str) -> None:
    """Scrolling loads further pages; the rows in the document stay few, and the count says N of M."""
    page = watch(url).open("runs")
    page.wait_for_selector(".run-row")
    rows = page.locator(".run-rows")
    for _ in range(40):
        if "301 of 301" in page.inner_text(".toolbar [role=status]"):
            break
        rows.evaluate("element => element.scrollTo(0, element.scrollHeight)")
        page.wait_for_timeout(50)
    expect(page.locator(".toolbar [role=status]")).to_contain_text("301 of 301")
    rows.evaluate("element => element.scrollTo(0, element.scrollHeight)")
    page.locator(".run-row[aria-rowindex='302']").wait_for()
    assert page.locator(".run-row").count() < 80


def test_the_list_by_keyboard(watch: Opener, url: str) -> None:
    """j, k, e, Enter, x and y work in the list; none of them while a field has the focus or the keys are off."""
    watched = watch(url)
    page = watched.open("runs")
    page.wait_for_selector(".run-row")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.locator("#run-1.active").wait_for()
    page.keyboard.press("e")
    page.locator(".run-row.active.failed").wait_for()
    page.keyboard.press("/")
    page.keyboard.type("jex?")
    assert page.locator(".toolbar input").input_value() == "jex?"
    page.locator(".toolbar input").fill("")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.get_by_role("dialog").wait_for()
    watched.shot("keys")
    watched.axe()
    for key in ("search", "critical path", "mark for comparison", "this list"):
        assert key in page.inner_text("dialog")
    page.get_by_label("Keys of one character are on").uncheck()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    before = page.locator(".run-row.active").get_attribute("id")
    page.keyboard.press("j")
    assert page.locator(".run-row.active").get_attribute("id") == before
    page.get_by_role("button", name="Keys").click()
    page.get_by_label("Keys of one character are on").check()
    page.keyboard.press("Escape")
    page.keyboard.press("t")
    page.wait_for_selector(":root[data-theme=light]")
    page.keyboard.press("Enter")
    page.wait_for_selector(".spans .row")
    page.keyboard.press("]")
    page.wait_for_url(re.compile("run/run-"))
    page.go_back()


def test_marking_two_runs_compares_them(watch: Opener, url: str) -> None:
    """x on two runs opens their comparison, at the first divergence; e goes from difference to difference."""
    page = watch(url).open("runs")
    page.wait_for_selector(".run-row")
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.locator(".top .chip", has_text="1 run marked").wait_for()
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.wait_for_url(re.compile(r"compare\?a=run-\d+&b=run-\d+"))
    page.wait_for_selector(".first-divergence.active")
    page.wait_for_selector(".line.removed")
    page.wait_for_selector(".line.added")
    page.keyboard.press("e")
    page.locator(".pair.active:not(.first-divergence)").wait_for()
    page.keyboard.press("f")
    page.locator("button[aria-pressed=true]", has_text="Only differences").wait_for()
    page.get_by_role("button", name="Swap").click()
    page.wait_for_selector(".pair")


def test_search_leads_to_the_place(watch: Opener, url: str) -> None:
    """A hit opens its span, with the text marked; a text in another script is found too, and ids at once."""
    page = watch(url).open("search")
    page.get_by_role("searchbox").fill("مفتاح")
    page.keyboard.press("Enter")
    page.wait_for_selector(".hits mark")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.locator(".hits li.active#hit-1").wait_for()
    page.keyboard.press("Enter")
    page.wait_for_selector(".detail[data-loaded=yes]")
    page.wait_for_selector(".detail mark.hit")
    page = watch(url).open("search?q=run-00000")
    page.locator("section a").nth(4).wait_for()


_WAIT_FOR_MORE = """
async () => {
  const headers = { Authorization: `Bearer ${localStorage.getItem("nat-observability-token")}` };
  for (;;) {
    const { indexed, total } = await (await fetch("/api/stats", { headers })).json();
    if (indexed < total) return;
    await new Promise(resolve => setTimeout(resolve, 50));
  }
}
"""


def test_search_says_what_the_index_does_not_cover(growing: tuple[Path, str], watch: Opener) -> None:
    """While the index is being made, search says how far it is, and finds what it does not cover yet all the same."""
    path, address = growing
    page = watch(address).open("search?q=parcel 2")
    page.wait_for_selector(".hits li")
    page.locator(".notice").wait_for(state="detached")
    index = sqlite3.connect(f"{path}-index", isolation_level=None)
    index.execute("BEGIN IMMEDIATE")  # as another viewer does that is quicker
    try:
        write(path, spans_of(make_run(70), 70))
        page.evaluate(_WAIT_FOR_MORE)
        page.goto(f"{page.url.partition('#')[0]}#/search?q=parcel 70")
        page.get_by_text("The index is being made: ").wait_for()
        page.wait_for_selector(".hits li")
    finally:
        index.close()
    page.reload()
    page.wait_for_selector(".hits li")


def test_statistics(watch: Opener, url: str) -> None:
    """The statistics are by name, kind, model and workflow; a name narrows the course of time to it."""
    page = watch(url).open("stats")
    page.wait_for_selector(".charts canvas")
    assert page.evaluate("performance.getEntriesByType('resource').some(e => e.name.includes('plots.js'))")
    page.get_by_role("button", name="Model").click()
    page.get_by_role("row", name=re.compile("slow-1")).wait_for()
    page.get_by_role("button", name="slow-1").click()
    page.locator(".toolbar .chip", has_text="slow-1").wait_for()
    # The charts are drawn in the theme's colours: a canvas that is black has none.
    colours = page.evaluate(
        "() => { const c = document.querySelector('.charts canvas'); const d = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data; const s = new Set(); for (let i = 0; i < d.length; i += 4)"
        " if (d[i + 3] > 200) s.add([d[i], d[i + 1], d[i + 2]].join()); return [...s].length }"
    )
    assert colours > 3


def test_statistics_are_not_loaded_elsewhere(watch: Opener, url: str) -> None:
    """The charts' library is loaded on the page of statistics alone."""
    page = watch(url).open("runs")
    page.wait_for_selector(".run-row")
    assert not page.evaluate(
        "performance.getEntriesByType('resource').some(e => e.name.includes('plots.js'))"
    )


def test_a_narrow_page_and_reduced_motion(watch: Opener, url: str) -> None:
    """At 320 pixels nothing is cut off sideways, and nothing moves for those who asked for that."""
    watched = watch(url, reduced_motion="reduce")
    page = watched.open("run/run-000004")
    page.set_viewport_size({"width": 480, "height": 800})
    page.wait_for_selector(".spans .row")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1")
    assert page.evaluate("getComputedStyle(document.querySelector('.status > span')).animationName") == "none"
    watched.axe()
