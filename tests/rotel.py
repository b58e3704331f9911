"""Rotel: a real OTLP collector in a process of its own, which forwards what it takes to a receiver of the tests'."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_NO_LIBRARY = 127  # what the loader exits with


def _agent() -> Path:
    spec = importlib.util.find_spec("rotel")
    if spec is None or spec.origin is None:
        pytest.skip("rotel has no release for this Python")
    return Path(spec.origin).with_name("rotel-agent")


@dataclass(frozen=True)
class Rotel:
    """Where a collector listens."""

    http: str
    grpc: str


@contextmanager
def running_rotel(forward_to: str, directory: Path) -> Iterator[Rotel]:
    """
    Start a collector on free loopback ports, and stop it at the end of the block.

    It is linked against the Python that its wheel is for. If that was built without a shared library, or the
    loader does not find it, the test is skipped.

    Args:
        forward_to: The OTLP endpoint, over HTTP, that it sends to.
        directory: For its log and its process id.
    """
    # Between here and the start another process may take a port: then it ends at once, and is started on others.
    for _ in range(3):
        http, grpc = _free_ports()
        process = subprocess.Popen(
            [
                _agent(),
                "start",
                f"--otlp-http-endpoint=127.0.0.1:{http}",
                f"--otlp-grpc-endpoint=127.0.0.1:{grpc}",
                "--exporter=otlp",
                f"--otlp-exporter-endpoint={forward_to}",
                "--otlp-exporter-protocol=http",
                "--batch-timeout=20ms",
                f"--pid-file={directory / 'rotel.pid'}",
                f"--log-file={directory / 'rotel.log'}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR")},
        )
        try:
            if _listens(process, http, grpc):
                yield Rotel(f"http://127.0.0.1:{http}", f"http://127.0.0.1:{grpc}")
                return
        finally:
            process.terminate()
            try:
                process.wait(5.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.returncode == _NO_LIBRARY:
            pytest.skip("rotel-agent needs the shared library of this Python, which is not installed")
    raise RuntimeError("rotel did not start")


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


def _listens(process: subprocess.Popen[bytes], *ports: int) -> bool:
    end = time.monotonic() + 10.0
    left = list(ports)
    while left and process.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", left[0]), 1.0).close()
        except OSError:
            time.sleep(0.01)
        else:
            left.pop(0)
    return not left
