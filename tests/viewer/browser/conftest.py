"""The fixtures of the tests in Chromium; none is collected unless Playwright is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.viewer.browser.chromium import FLAGS, Opener, Watched, chromium_path, serving
from tests.viewer.stores import large_run, make_hostile_store, make_run, make_store, spans_of, write

if importlib.util.find_spec("playwright") is None:
    collect_ignore_glob = ["test_*.py"]

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Playwright's own loop runs below these tests, which write to stores themselves."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.may_block)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium_path(), args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def watch(browser: Browser) -> Iterator[Opener]:
    """Opens watched pages, and fails the test for what they complained of."""
    contexts: list[Any] = []
    pages: list[Watched] = []

    def new(url: str, theme: str = "light", **options: Any) -> Watched:
        context = browser.new_context(
            viewport={"width": 1440, "height": 900},
            color_scheme=theme,
            timezone_id="UTC",
            locale="en-GB",
            **options,
        )
        contexts.append(context)
        page = Watched(context.new_page(), url)
        pages.append(page)
        return page

    yield new
    for context in contexts:
        context.close()
    problems = [problem for page in pages for problem in page.problems]
    assert not problems, problems


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = make_store(tmp_path_factory.mktemp("browser") / "s.sqlite3", 300)
    write(path, large_run(400, 6000))
    return path


@pytest.fixture(scope="session")
def url(store: Path) -> Iterator[str]:
    with serving(store) as address:
        yield address


@pytest.fixture(scope="session")
def hostile_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(make_hostile_store(tmp_path_factory.mktemp("hostile") / "s.sqlite3")) as address:
        yield address


@pytest.fixture
def growing(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A store that the test adds to, and the address of its viewer."""
    path = tmp_path / "s.sqlite3"
    write(path, [span for number in range(3) for span in spans_of(make_run(number), number)])
    with serving(path) as address:
        yield path, address
