"""The committed page is what its sources give."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.viewer.browser.chromium import ROOT

_PAGE = ROOT / "nat_observability" / "viewer" / "page"


def test_the_sources_give_the_committed_page(tmp_path: Path) -> None:
    """A build from the lock file gives, byte for byte, what is committed; else `make viewer` does."""
    subprocess.run(["node", "build.mjs", str(tmp_path)], cwd=ROOT / "viewer", check=True)
    built = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(built) == ["app.css", "app.js", "offline.js", "plots.js"]
    for name, content in built.items():
        assert content == (_PAGE / name).read_bytes(), f"{name} is stale. Cure: make viewer"


def test_the_sources_have_no_type_errors() -> None:
    """TypeScript's compiler finds nothing."""
    subprocess.run(["node_modules/.bin/tsc", "--noEmit"], cwd=ROOT / "viewer", check=True)
