"""Runs pytest once per request, each time in a fork that has imported nothing of the package yet."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import time

# Modules that take long to import, none of them the package's.
_HEAVY = (
    "aiohttp.web",
    "anyio",
    "cryptography.x509",
    "dependency_injector.containers",
    "httpx",
    "hypothesis",
    "msgspec",
    "opentelemetry.proto.collector.trace.v1.trace_service_pb2",
    "opentelemetry.sdk.trace",
    "pydantic_settings",
    "pytest",
    "pytest_asyncio",
    "structlog",
)
_ALWAYS = (
    "-q",
    "-n",
    "0",
    "-p",
    "no:cacheprovider",
    "-m",
    "not slow",
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",
)


def _run(arguments: list[str]) -> None:
    os.setsid()
    output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    import pytest

    code = int(pytest.main([*_ALWAYS, *arguments]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _code_of(pid: int, deadline: float) -> int | None:
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def main() -> None:
    """Read a line of JSON for each run, and answer with its exit code: null if it took too long."""
    for name in _HEAVY:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if not pid:
            _run(order["arguments"])
        code = _code_of(pid, time.monotonic() + order["timeout"])
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # what its tests have left running
        sys.stdout.write(json.dumps(code) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
