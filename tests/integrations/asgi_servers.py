"""Real ASGI servers in processes of their own, on a free loopback port, each with a store of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from nat_observability.store import Store

ROOT = Path(__file__).parents[2]
GRACE = 1  # seconds that a server waits for its requests when it is stopped
_STARTS_WITHIN = 20.0


@dataclass
class Server:
    """A server that runs; `stop` ends it as a service manager would."""

    process: subprocess.Popen[bytes]
    address: str
    store: Path
    log: Path

    def stop(self) -> int:
        """Send SIGTERM and wait; return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)  # its workers, too
            self.process.wait()
        if error is not None:
            sys.stderr.write(self.log.read_text())


@contextmanager
def running_server(
    command: list[str],
    directory: Path,
    *,
    folder: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    ready: str = "/health",
) -> Iterator[Server]:
    """
    Run a server for a block.

    Args:
        command: The module to run and its arguments, of which `{port}` is replaced by a free port.
        directory: For its store and its log.
        folder: The folder that it runs in.
        environment: Further variables.
        ready: A path that it answers as soon as it serves.
    """
    store, log = directory / "store.db", directory / "server.log"
    # Between here and the server's start another process may take the port: then it ends at once.
    for _ in range(3):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *(each.replace("{port}", str(port)) for each in command)],
                cwd=folder,
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "NAT_OBSERVABILITY_EXPORTERS__STORE__TYPE": "sqlite",
                    "NAT_OBSERVABILITY_EXPORTERS__STORE__PATH": str(store),
                    **(environment or {}),
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        with Server(process, f"http://127.0.0.1:{port}", store, log) as server:
            if _answers(process, port, ready):
                yield server
                return
    raise RuntimeError(f"the server did not start:\n{log.read_text()}")


def _answers(process: subprocess.Popen[bytes], port: int, path: str) -> bool:
    end = time.monotonic() + _STARTS_WITHIN
    request = f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode()
    while process.poll() is None and time.monotonic() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), 2.0) as client:
                client.sendall(request)
                if client.recv(12).startswith(b"HTTP/1.1 200"):
                    return True
        except OSError:
            pass
        time.sleep(0.02)
    return False


def uvicorn(application: str, *options: str) -> list[str]:
    """Return the command of uvicorn for an application's factory."""
    return [
        "uvicorn",
        application,
        "--factory",
        "--port={port}",
        "--ws=wsproto",
        "--log-level=warning",
        f"--timeout-graceful-shutdown={GRACE}",
        *options,
    ]


def hypercorn(application: str) -> list[str]:
    """Return the command of hypercorn for an application's factory."""
    return ["hypercorn", f"{application}()", "--bind=127.0.0.1:{port}", f"--graceful-timeout={GRACE}"]


def runs_of(store: Path) -> dict[str, list[str]]:
    """Return the ids of the runs of each conversation."""
    runs: dict[str, list[str]] = {}
    with Store(store) as reader:
        for stored in reader.runs(limit=100_000):
            runs.setdefault(stored.run.conversation_id or "", []).append(stored.run.run_id)
    return runs
