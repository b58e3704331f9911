"""Runs the default tests a number of times in a row, and names each test that failed in any of them."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """What one run of pytest reported."""

    passed: int
    failed: tuple[str, ...]
    code: int

    @property
    def is_good(self) -> bool:
        """Whether pytest said so: a run that broke off without a failed test is not good either."""
        return self.code == 0


def run_once(arguments: list[str]) -> Run:
    """Run pytest in a process of its own."""
    with tempfile.TemporaryDirectory() as directory:
        report, output = Path(directory, "report.xml"), Path(directory, "output.txt")
        with output.open("w") as lines:
            code = subprocess.run(
                [sys.executable, "-m", "pytest", "-q", f"--junit-xml={report}", *arguments],
                stdout=lines,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
        if code:
            print(output.read_text(), file=sys.stderr)
        if not report.exists():
            return Run(0, (), code)
        cases = list(ET.parse(report).iter("testcase"))
    # A test and its teardown may both have failed: that is one test.
    failed = dict.fromkeys(
        f"{case.get('classname')}::{case.get('name')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    )
    skipped = sum(case.find("skipped") is not None for case in cases)
    return Run(len(cases) - skipped - len(failed), tuple(failed), code)


def main(argv: list[str] | None = None) -> int:
    """Run the tests, print a line for each run, and return 1 if any of them failed, otherwise 0."""
    parser = argparse.ArgumentParser(prog="make test-repeated", description=__doc__)
    parser.add_argument("--times", type=int, default=20, help="runs (%(default)s)")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest, after --")
    arguments = parser.parse_args(argv)
    if arguments.times < 1:
        parser.error("argument --times: 1 or more")

    runs: list[Run] = []
    try:
        for number in range(1, arguments.times + 1):
            began = time.monotonic()
            run = run_once(arguments.pytest)
            runs.append(run)
            seconds = time.monotonic() - began
            said = "" if run.is_good or run.failed else f", pytest ended with {run.code}"
            print(
                f"run {number}: {run.passed} passed, {len(run.failed)} failed{said} in {seconds:.0f} s",
                *(f"  {name}" for name in run.failed),
                sep="\n",
                flush=True,
            )
    except KeyboardInterrupt:
        print("Interrupted: what follows is about the runs that ended.", flush=True)
    bad = sum(not run.is_good for run in runs)
    print(f"{len(runs)} of {arguments.times} runs, {bad} with failures.")
    for name, times in Counter(name for run in runs for name in run.failed).most_common():
        print(f"  {times} x {name}")
    return 1 if bad or len(runs) < arguments.times else 0


if __name__ == "__main__":
    sys.exit(main())
