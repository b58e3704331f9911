"""Test programs, each in an interpreter of its own: what happens at exit, on a signal or in a fork."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.warm_interpreter import OPTIONS, Ended, run_warm

_ROOT = Path(__file__).parents[1]


def skip_without(library: str) -> None:
    """Skip a test whose program needs a library that is not here; what it does to a process stays out of this one."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")


def run_program(
    code: str,
    *arguments: object,
    status: int = 0,
    timeout: float = 50.0,
    measured: bool = True,
    fresh: bool = False,
) -> subprocess.CompletedProcess[str] | Ended:
    """
    Run Python code that can import the package and the tests, with warnings as errors, and return what it printed.

    Args:
        code: May be indented as a whole.
        arguments: For its `sys.argv[1:]`.
        status: The exit status that it has to have.
        timeout: Most seconds, after which the test fails.
        measured: Whether its coverage may be measured. What measures it has locks of its own, which a fork while other
            threads are busy leaves held in the child forever.
        fresh: Whether the package must not be imported yet when it begins; if it may be, that saves nearly a second.
    """
    environment = {
        name: value for name, value in os.environ.items() if measured or not name.startswith("COVERAGE")
    }
    if not fresh:
        ended = run_warm(
            textwrap.dedent(code),
            list(map(str, arguments)),
            cwd=_ROOT,
            env=environment,
            timeout=timeout,
            measured=measured,
        )
        assert ended.returncode == status, f"exit status {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        return ended
    done = subprocess.run(
        [sys.executable, *OPTIONS, "-c", textwrap.dedent(code), *map(str, arguments)],
        cwd=_ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == status, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done
