"""Hostile runs in Chromium: nothing of them runs, loads, reads backwards, or breaks the page."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.viewer.browser.chromium import Opener
from tests.viewer.stores import HOSTILE

_BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def test_the_list_of_hostile_runs(watch: Opener, hostile_url: str) -> None:
    """All of them are listed, with what cannot be seen made visible."""
    watched = watch(hostile_url)
    page = watched.open("runs")
    page.wait_for_selector(".run-row")
    expect(page.locator(".toolbar")).to_contain_text(f"of {len(HOSTILE)} runs")
    assert not set(page.evaluate("document.documentElement.outerHTML")) & set(_BIDI)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    watched.shot("hostile-runs-light")
    watched.axe()


@pytest.mark.parametrize("name", HOSTILE)
def test_each_hostile_run(watch: Opener, hostile_url: str, name: str) -> None:
    """Its page shows the run, its first span in every view, and no script, image, frame or link of it comes to be."""
    number = list(HOSTILE).index(name)
    watched = watch(hostile_url)
    watched.may_fail = "id that is a path" in name
    page = watched.open(f"run/hostile-{number}")
    page.wait_for_selector(".spans .row")
    page.keyboard.press("Enter")
    if not watched.may_fail:
        page.wait_for_selector(".detail[data-loaded=yes]", timeout=20_000)
        for view in ("Tree", "Raw", "Formatted"):
            page.get_by_role("button", name=view, exact=True).click()
        for tab in page.get_by_role("tab").all():
            tab.click()
    page.get_by_role("button", name="Table").click()
    page.wait_for_selector(".span-table td")
    spans = len(HOSTILE[name]())
    page.get_by_text(f"of {spans:,} span").first.wait_for()
    made = "script:not([src]), img, iframe, object, embed, svg, video, form, base, [onerror], [onload]"
    expect(page.locator(made)).to_have_count(0)
    assert page.evaluate("[...document.links].every(a => a.href.startsWith(location.origin + '/'))")
    assert page.title() != "owned"
    html = page.evaluate("document.documentElement.outerHTML")
    assert not set(html) & set(_BIDI)
    assert "\0" not in html
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("({}).toString === Object.prototype.toString && !('p' in {})")


def test_search_and_comparison_of_hostile_runs(watch: Opener, hostile_url: str) -> None:
    """Search and comparison show hostile text as text."""
    page = watch(hostile_url).open("search?q=<script>")
    page.wait_for_selector(".hits mark")
    expect(page.locator("script:not([src])")).to_have_count(0)
    page = watch(hostile_url).open("compare?a=hostile-0&b=hostile-11")
    page.wait_for_selector(".pair")
