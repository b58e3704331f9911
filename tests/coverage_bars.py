"""Fails if a file is covered less than its bar; the bar of the total is coverage's own `fail_under`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

LEAST = 85.0
"""Per cent of a file's lines and branches."""


def too_low(report: dict[str, dict[str, dict[str, dict[str, float]]]], least: float = LEAST) -> list[str]:
    """Return a line for each file of a report of `coverage json` that is below the bar, the lowest first."""
    percents = {name: each["summary"]["percent_covered"] for name, each in report["files"].items()}
    return [
        f"{percents[name]:.1f}% {name}"
        for name in sorted(percents, key=percents.__getitem__)
        if percents[name] < least
    ]


def main() -> None:
    """Look at the data in the current directory."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "coverage.json")
        subprocess.run(
            [sys.executable, "-m", "coverage", "json", "-q", "--fail-under=0", "-o", path], check=True
        )
        low = too_low(json.loads(path.read_text()))
    if low:
        sys.exit("\n".join([f"Below {LEAST:g}%:", *low, "Cure: test what `make coverage` names as missing."]))


if __name__ == "__main__":
    main()
