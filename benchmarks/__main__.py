"""Runs every benchmark in a process of its own, for as long as there is time: `python -m benchmarks [NAME ...]`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.bars import BARS, BESIDE
from benchmarks.contenders import NAT
from benchmarks.contenders import installed as installed_for_otlp
from benchmarks.default_contenders import NEEDS, installed
from benchmarks.pages import scales_of
from benchmarks.picture import draw, draw_growth
from benchmarks.profile import shares_of
from benchmarks.results import Result, merged, print_bars, read_rows, write
from benchmarks.timing import SHARE

_HERE = Path(__file__).parent
SCRIPTS = (
    "defaults",
    "runs",
    "web_server",
    "steps",
    "import_time",
    "sqlite_store",
    "lifecycle",
    "toolkit",
    "delivery",
    "otlp_encoding",
    "file_export",
    "asgi",
    "processors",
    "spool",
    "sdk_spans",
    "tenants",
    "growth",
    "stall",
)
"""The modules here that measure something, in the order in which they run: those of the main table first."""
TOOLKIT = "toolkit"
"""The script that needs the reference toolkit, which has an environment of its own."""
RESULTS = _HERE / "results"


def main() -> int:
    """Return 1 if a bar does not hold or a script fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run the benchmarks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SCRIPTS)}; all by default")
    parser.add_argument("--times", type=int, default=3, help="how often each is run at most; 3 by default")
    parser.add_argument(
        "--minutes",
        type=float,
        default=12.0,
        help="within which they are run again; the first time of each is always finished; 12 by default",
    )
    parser.add_argument(
        "--rounds", type=float, default=0.3, help="share of the usual rounds of each script; 0.3 by default"
    )
    parser.add_argument(
        "--json",
        nargs="?",
        type=Path,
        const=RESULTS,
        metavar="DIRECTORY",
        help="write results and a picture there; benchmarks/results by default",
    )
    given = parser.parse_args()
    unknown = set(given.names) - set(SCRIPTS)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}. There are: {', '.join(SCRIPTS)}")
    for peer in NEEDS:
        if not installed(peer):
            print(f"{peer} is not installed: what is measured beside it stands alone. Cure: make bench\n")
    os.environ[SHARE] = str(given.rounds)
    names = given.names or SCRIPTS
    rows: dict[str, list[list[dict[str, Any]]]] = {name: [] for name in names}
    failed: set[str] = set()
    took: dict[str, float] = {}
    until = time.monotonic() + 60 * given.minutes
    with tempfile.TemporaryDirectory() as directory:
        for number in range(max(1, given.times)):
            for name in names:
                began = time.monotonic()
                if name in failed or (number and began + took[name] > until):
                    continue
                path = Path(directory, f"{name}-{number}.json")
                status = _run(name, path, quiet=number > 0)
                took[name] = time.monotonic() - began
                print(f"{name}: {took[name]:.0f} s\n", flush=True)
                if path.exists():
                    rows[name].append(read_rows(path))
                elif status:
                    failed.add(name)
    results = [result for name in names for result in merged(name, rows[name])]
    profiles = _profiles(results)
    print_bars(results)
    if given.json:
        write(results, profiles, given.json)
        draw(results, given.json)
        draw_growth(scales_of(results), given.json)
    missed = [result for result in results if result.holds is False]
    if failed:
        print(f"A script failed: {', '.join(sorted(failed))}")
    return 1 if failed or missed else 0


def _profiles(results: list[Result]) -> dict[str, dict[str, float]]:
    """Return where the CPU time of each missed row goes."""
    missed = {each.key for each in results if each.holds is False}
    profiles: dict[str, dict[str, float]] = {}
    for bar in (*BARS, *BESIDE):
        if bar.key in missed and bar.profile:
            try:
                profiles[bar.key] = shares_of(bar.key)
            except subprocess.CalledProcessError as error:  # the results are worth more
                print(f"{bar.key} could not be profiled: {error}", file=sys.stderr)
    return profiles


def _run(name: str, path: Path, *, quiet: bool) -> int:
    """Run one script, its rows into `path`; return its exit status."""
    python = sys.executable
    # `make bench` says where the toolkit is.
    elsewhere = os.environ.get("NAT_PYTHON")
    if name == TOOLKIT and not installed_for_otlp(NAT) and elsewhere and Path(elsewhere).exists():
        python = elsewhere
    command = [python, "-m", f"benchmarks.{name}", "--json", str(path)]
    output = subprocess.DEVNULL if quiet else None
    return subprocess.run(command, cwd=_HERE.parent, check=False, stdout=output).returncode


if __name__ == "__main__":
    sys.exit(main())
