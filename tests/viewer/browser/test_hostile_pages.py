"""Hostile runs in Chromium: nothing of them runs, loads, reads backwards, or breaks the page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.viewer.browser.chromium import Opener, Watched
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
    watched.axe_in_both_themes()


@pytest.fixture(scope="module")
def one_page(browser: Browser, hostile_url: str) -> Iterator[Watched]:
    """A page that goes from one hostile run to the next, as a reader's does."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="light")
    watched = Watched(context.new_page(), hostile_url)
    watched.open("runs")
    yield watched
    context.close()


@pytest.mark.parametrize("name", HOSTILE)
def test_each_hostile_run(one_page: Watched, name: str) -> None:
    """Its page shows the run, its first span in every view, and no script, image, frame or link of it comes to be."""
    number = list(HOSTILE).index(name)
    watched = one_page
    watched.problems.clear()
    watched.may_fail = "id that is a path" in name
    page = watched.open(f"run/hostile-{number}")
    page.get_by_role("button", name=f"hostile-{number}", exact=True).wait_for()
    page.wait_for_selector(".spans .row")
    page.locator(".rows").focus()
    page.keyboard.press("Enter")
    if not watched.may_fail:
        page.wait_for_selector(".detail[data-loaded=yes]", timeout=20_000)
        for view in ("Tree", "Raw", "Formatted"):
            page.get_by_role("button", name=view, exact=True).click()
        for tab in page.get_by_role("tab").all():
            tab.click()
    watched.axe_in_both_themes()
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
    assert not watched.problems


def test_search_and_comparison_of_hostile_runs(watch: Opener, hostile_url: str) -> None:
    """Search and comparison show hostile text as text."""
    watched = watch(hostile_url)
    page = watched.open("search?q=<script>")
    page.wait_for_selector(".hits mark")
    expect(page.locator("script:not([src])")).to_have_count(0)
    watched.axe_in_both_themes()
    page = watched.open("compare?a=hostile-0&b=hostile-11")
    page.wait_for_selector(".pair")
    watched.axe_in_both_themes()
