"""Phoenix: a real Arize Phoenix in a process of its own, from an environment of its own, and its API."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENVIRONMENT = Path(__file__).parents[1] / ".venv-phoenix"
"""Where `make test-all` installs it: it brings 850 MB of other packages."""

START_TIMEOUT = 120.0

# PR_SET_PDEATHSIG, SIGTERM: should the tests be killed, nothing ends the block, and the server ends all the same.
_LAUNCH = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execv(sys.argv[1], sys.argv[1:])"


def program() -> Path | None:
    """Return the command, None if it is not installed."""
    path = ENVIRONMENT / "bin" / "phoenix"
    return path if path.is_file() else None


@dataclass(frozen=True)
class Phoenix:
    """A server that is up."""

    port: int

    @property
    def url(self) -> str:
        """For the preset `phoenix`."""
        return f"http://127.0.0.1:{self.port}"

    def spans(self, project: str) -> list[dict[str, Any]]:
        """Return every span of a project, as the server's API shows it; none if the project does not exist."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = self._get(f"/v1/projects/{project}/spans?limit=100{cursor}")
            if page is None:
                return []
            found += page["data"]
            if not page["next_cursor"]:
                return found
            cursor = f"&cursor={page['next_cursor']}"

    def sessions(self, project: str) -> list[dict[str, Any]]:
        """Return every session of a project."""
        page = self._get(f"/v1/projects/{project}/sessions?limit=1000")
        found: list[dict[str, Any]] = [] if page is None else page["data"]
        return found

    def _get(self, path: str) -> dict[str, Any] | None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status == http.client.NOT_FOUND:
            return None
        if response.status != http.client.OK:
            raise RuntimeError(f"Phoenix answered {response.status} to {path}: {content[:500]!r}")
        page: dict[str, Any] = json.loads(content)
        return page


@contextmanager
def running_phoenix(command: Path, directory: Path) -> Iterator[Phoenix]:
    """
    Start a server on free loopback ports, and stop it at the end of the block.

    Args:
        command: What `program` returned.
        directory: For its database and its log.
    """
    http_port, grpc_port = _free_ports()
    log = directory / "phoenix.log"
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    environment = kept | {
        "HOME": str(directory),
        "PHOENIX_WORKING_DIR": str(directory),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(http_port),
        "PHOENIX_GRPC_PORT": str(grpc_port),
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, command, "serve"],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_up(process, http_port, log)
        yield Phoenix(http_port)
    finally:
        _stop(process)


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


def _wait_until_up(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_TIMEOUT
    while process.poll() is None and time.monotonic() < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == http.client.OK:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.2)
    tail = log.read_text(errors="replace")[-2000:]
    raise RuntimeError(f"Phoenix was not up within {START_TIMEOUT:g} s; its log ends:\n{tail}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and whatever it has started."""
    for number, timeout in ((signal.SIGTERM, 15.0), (signal.SIGKILL, 15.0)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            continue
        if number == signal.SIGKILL:
            break
    process.wait()
