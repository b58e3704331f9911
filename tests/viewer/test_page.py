"""The committed page: what it weighs, what it holds, and that nothing in it leads elsewhere."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_PAGE = _ROOT / "nat_observability" / "viewer" / "page"


def test_the_page_is_small() -> None:
    """What every page loads takes at most 60 KB compressed, and so does what the statistics add to it."""
    loaded = [_PAGE / name for name in ("shell.html", "app.js", "app.css", "icon.svg")]
    assert sum(len(gzip.compress(path.read_bytes())) for path in loaded) <= 60 * 1024
    assert len(gzip.compress((_PAGE / "plots.js").read_bytes())) <= 30 * 1024


def test_the_page_holds_the_licences_of_its_parts() -> None:
    """Each file has the licence texts of what it was made of."""
    for name, parts in {
        "app.js": ("preact", "@preact/signals", "@preact/signals-core"),
        "offline.js": ("preact", "@preact/signals", "@preact/signals-core"),
        "plots.js": ("uplot",),
        "app.css": ("uplot",),
    }.items():
        text = (_PAGE / name).read_text(encoding="utf-8")
        for part in parts:
            assert re.search(rf"^{part} \d+\.\d+", text, re.MULTILINE), (name, part)
        assert text.count("Permission is hereby granted") == len(parts)


def test_the_page_leads_nowhere() -> None:
    """No address, font, map or evaluated code is in it; its own are relative."""
    for path in _PAGE.iterdir():
        text = path.read_text(encoding="utf-8")
        code = re.sub(r"/\*!.*?\*/", "", text, flags=re.DOTALL)
        addresses = set(re.findall(r"https?://[^\s\"'`)]*", code))
        assert addresses <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1998/Math/MathML",
            "http://www.w3.org/1999/xhtml",
        }, path
        for forbidden in (
            "eval(",
            "new Function",
            "document.write",
            "sourceMappingURL",
            "@font-face",
            "url(",
        ):
            assert forbidden not in code, (path.name, forbidden)


def test_the_lock_file_has_versions_and_hashes_alone() -> None:
    """Every package is pinned by its hash; no address says where it came from."""
    lock = json.loads((_ROOT / "viewer" / "package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert packages
    assert all(
        "integrity" in entry and "version" in entry and "resolved" not in entry for entry in packages.values()
    )
