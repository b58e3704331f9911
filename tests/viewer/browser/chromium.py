"""A real Chromium in front of a real viewer: the server as its command starts it, and a page that notes complaints."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).parents[3]
SHOTS = ROOT / "build" / "viewer"
AXE = ROOT / "viewer" / "node_modules" / "axe-core" / "axe.min.js"

# Without these, Chromium asks for hosts of its maker.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium_path() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.exit("No Chromium is installed. On Debian: apt-get install chromium", returncode=1)


def ui_command(path: Path, *options: str) -> list[str]:
    """The command that serves a store's viewer on a free port, and prints its address."""
    ui = [sys.executable, "-m", "nat_observability.cli", "ui", str(path)]
    return [*ui, "--no-browser", "--port", "0", *options]


@contextmanager
def serving(path: Path, *options: str, errors: IO[bytes] | None = None) -> Iterator[str]:
    """A viewer of the store as its command starts it; yields the address that it prints."""
    with subprocess.Popen(
        ui_command(path, *options), cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if found := re.match(r"http://\S+", line):
                    yield found[0]
                    break
            else:
                pytest.fail("The viewer printed no address.")
        finally:
            process.terminate()
            process.wait(20)
    assert process.returncode == 0


class Watched:
    """A page that fails its test for an error on its console, an answer that is one, or a request to another host."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.base = url.partition("#")[0]
        self.problems: list[str] = []
        self.may_fail = False
        page.set_default_timeout(8_000)
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self._check(request.url))
        page.on("dialog", lambda dialog: self.problems.append(f"a dialog: {dialog.message}"))

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not (self.may_fail and "Failed to load resource" in text):
            self.problems.append(text)

    def _check(self, url: str) -> None:
        if not url.startswith((self.base, "blob:", "file:", "data:,")):
            self.problems.append(f"a request to {url}")

    def open(self, route: str = "") -> Page:
        """Open the page, with the token, and then a route of it."""
        if not self.page.url.startswith(self.base):
            self.page.goto(self.url)
            self.page.wait_for_selector("main")
        if route:
            self.page.goto(f"{self.base}#/{route}")
            self.page.wait_for_selector("main")
        return self.page

    def axe(self, *rules: str) -> None:
        """Check the page as it is now, by the rules of WCAG 2.2 AA, or by those that are named."""
        client = self.page.context.new_cdp_session(self.page)
        if self.page.evaluate("typeof axe") == "undefined":
            client.send("Runtime.evaluate", {"expression": AXE.read_text(encoding="utf-8")})
        tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
        only = {"type": "rule", "values": list(rules)} if rules else {"type": "tag", "values": tags}
        found = client.send(
            "Runtime.evaluate",
            {
                "expression": f"axe.run(document, {{runOnly: {only}}}).then(r => JSON.stringify(r.violations.map(v => "
                "[v.id, v.help, v.nodes.slice(0, 3).map(n => n.html.slice(0, 200) + ' ' + n.failureSummary)])))",
                "awaitPromise": True,
                "returnByValue": True,
            },
        )
        client.detach()
        assert found["result"]["value"] == "[]", found["result"]["value"]

    def axe_in_both_themes(self) -> None:
        """Check the page as it is now; in the other theme only what differs there, its colours."""
        self.axe()
        self.page.emulate_media(color_scheme="dark")
        self.axe("color-contrast")
        self.page.emulate_media(color_scheme="light")

    def shot(self, name: str) -> None:
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png")


Opener = Callable[..., Watched]
