"""Runs every benchmark, each in a process of its own: `python -m benchmarks [NAME ...] [--json DIRECTORY]`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.contenders import FASTOTEL, LANGFUSE, NAT, SDK, installed
from benchmarks.picture import draw
from benchmarks.results import Result, merged, print_bars, read_rows, write

_HERE = Path(__file__).parent
SCRIPTS = (
    "defaults",
    "web_server",
    "lifecycle",
    "runs",
    "steps",
    "delivery",
    "otlp_encoding",
    "file_export",
    "stall",
    "toolkit",
    "import_time",
    "asgi",
    "processors",
    "spool",
    "growth",
    "tenants",
    "sdk_spans",
)
"""The modules here that measure something, in the order in which they run."""
TOOLKIT = "toolkit"
"""The script that needs the reference toolkit, which has an environment of its own."""
RESULTS = _HERE / "results"


def main() -> int:
    """Return 1 if a bar does not hold or a script fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run the benchmarks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SCRIPTS)}; all by default")
    parser.add_argument("--times", type=int, default=3, help="how often each is run; 3 by default")
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
    for peer in (SDK, FASTOTEL, LANGFUSE):
        if not installed(peer):
            print(f"{peer} is not installed: what is measured beside it stands alone. Cure: make bench\n")
    results: list[Result] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as directory:
        for name in given.names or SCRIPTS:
            rows = []
            for number in range(max(1, given.times)):
                path = Path(directory, f"{name}-{number}.json")
                status = _run(name, path, quiet=number > 0)
                if path.exists():
                    rows.append(read_rows(path))
                elif status:
                    failed.append(name)
                    break
            results += merged(name, rows)
    print_bars(results)
    if given.json:
        write(results, given.json)
        draw(results, given.json)
    missed = [result for result in results if result.holds is False]
    if failed:
        print(f"A script failed: {', '.join(failed)}")
    return 1 if failed or missed else 0


def _run(name: str, path: Path, *, quiet: bool) -> int:
    """Run one script, its rows into `path`; return its exit status."""
    python = sys.executable
    # `make bench` says where the toolkit is.
    elsewhere = os.environ.get("NAT_PYTHON")
    if name == TOOLKIT and not installed(NAT) and elsewhere and Path(elsewhere).exists():
        python = elsewhere
    command = [python, "-m", f"benchmarks.{name}", "--json", str(path)]
    output = subprocess.DEVNULL if quiet else None
    status = subprocess.run(command, cwd=_HERE.parent, check=False, stdout=output).returncode
    if not quiet:
        print(flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
