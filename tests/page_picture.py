"""take_picture(): a picture of a page in Chromium, by a program that runs in the environment with Playwright."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENVIRONMENT = ROOT / ".venv-viewer"
PICTURES = ROOT / "build" / "pictures"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def skip_without_browser() -> None:
    """Skip a test if no page can be opened here."""
    if not (ENVIRONMENT / "bin" / "python").is_file():
        pytest.skip(
            f"Playwright is not installed in {ENVIRONMENT.name}. Cure: make {ENVIRONMENT.name}/.installed"
        )
    if not any(map(shutil.which, BROWSERS)):
        pytest.skip("No Chromium is installed. On Debian: apt-get install chromium")


def take_picture(url: str, name: str, *steps: dict[str, str]) -> list[str]:
    """
    Open a page, take some steps, and write the picture to `build/pictures`.

    Args:
        url: The page.
        name: Of the picture.
        steps: Each {"wait": text} until that is seen, or {"click": text}; the last one seen is what the picture is of.

    Returns:
        The text of the page, line by line.
    """
    PICTURES.mkdir(parents=True, exist_ok=True)
    command = [str(ENVIRONMENT / "bin" / "python"), "-m", "tests.page_picture"]
    asked = json.dumps({"url": url, "path": str(PICTURES / f"{name}.png"), "steps": steps})
    done = subprocess.run([*command, asked], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def main(asked: str) -> None:
    """Do what `take_picture` asks for, and print the text of the page."""
    from playwright.sync_api import sync_playwright

    from tests.viewer.browser.chromium import FLAGS, chromium_path

    given = json.loads(asked)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=FLAGS)
        page = browser.new_page(viewport={"width": 1600, "height": 1000}, locale="en-GB", timezone_id="UTC")
        page.goto(given["url"], timeout=90_000)
        for each in given["steps"]:
            ((what, text),) = each.items()
            found = page.get_by_text(text).locator("visible=true").first
            found.wait_for(timeout=60_000)
            if what == "click":
                found.click()
        page.screenshot(path=given["path"])
        sys.stdout.write(page.inner_text("body"))
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
