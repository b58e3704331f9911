"""Runs every benchmark, each in a process of its own: `python -m benchmarks [NAME ...] [--json DIRECTORY]`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.contenders import FASTOTEL, SDK, installed

_HERE = Path(__file__).parent
SCRIPTS = sorted(path.stem for path in _HERE.glob("*.py") if "sys.exit(report(" in path.read_text())


def main() -> int:
    """Return 1 where a bar does not hold or a script fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run the benchmarks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SCRIPTS)}; all by default")
    parser.add_argument(
        "--json",
        nargs="?",
        type=Path,
        const=_HERE / "results",
        metavar="DIRECTORY",
        help="write the rows there too, a file for each; benchmarks/results by default",
    )
    given = parser.parse_args()
    unknown = set(given.names) - set(SCRIPTS)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}. There are: {', '.join(SCRIPTS)}")
    for peer in (SDK, FASTOTEL):
        if not installed(peer):
            print(f"{peer} is not installed: what is measured beside it stands alone. Cure: make bench\n")
    if given.json:
        given.json.mkdir(parents=True, exist_ok=True)
    failed: list[str] = []
    for name in given.names or SCRIPTS:
        command = [sys.executable, "-m", f"benchmarks.{name}"]
        if given.json:
            command += ["--json", str(given.json / f"{name}.json")]
        if subprocess.run(command, cwd=_HERE.parent, check=False).returncode:
            failed.append(name)
        print(flush=True)
    if failed:
        print(f"A bar does not hold, or the script failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
