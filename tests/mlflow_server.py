"""Mlflow: a real MLflow in a process of its own, from an environment of its own, and its API."""

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
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENVIRONMENT = Path(__file__).parents[1] / ".venv-mlflow"
START_TIMEOUT = 120.0

# PR_SET_PDEATHSIG, SIGTERM: should the tests be killed, nothing ends the block, and the server ends all the same.
_LAUNCH = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execv(sys.argv[1], sys.argv[1:])"


@dataclass(frozen=True)
class Mlflow:
    """A server that is up."""

    port: int

    @property
    def url(self) -> str:
        """For the type `mlflow`."""
        return f"http://127.0.0.1:{self.port}"

    def experiment(self, name: str) -> str:
        """Make an experiment and return its id."""
        found = self.ask("POST", "/api/2.0/mlflow/experiments/create", {"name": name})
        return str(found["experiment_id"])

    def trace(self, trace_id: str) -> dict[str, Any]:
        """Return the spans of a trace, as the page shows them; without any if it is not stored yet."""
        with suppress(RuntimeError):
            return self.ask("GET", f"/ajax-api/3.0/mlflow/get-trace-artifact?request_id=tr-{trace_id}")
        return {"spans": []}

    def newest(self, experiment: str) -> dict[str, Any]:
        """Return what is said of the newest trace of an experiment."""
        place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}}
        asked = {"locations": [place], "max_results": 1}
        found: dict[str, Any] = self.ask("POST", "/api/3.0/mlflow/traces/search", asked)["traces"][0]
        return found

    def ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Return what the server answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, json.dumps(body), {"content-type": "application/json"})
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise RuntimeError(f"MLflow answered {response.status} to {path}: {content[:500]!r}")
        found: dict[str, Any] = json.loads(content)
        return found


@contextmanager
def running_mlflow(directory: Path) -> Iterator[Mlflow]:
    """Start a server on a free loopback port, with its database in `directory`, and stop it at the end of the block."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = directory / "mlflow.log"
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    arguments = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    arguments += ["--backend-store-uri", f"sqlite:///{directory}/mlflow.db"]
    arguments += ["--default-artifact-root", str(directory / "artifacts")]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, ENVIRONMENT / "bin" / "mlflow", *arguments],
            cwd=directory,
            env=kept | {"HOME": str(directory), "DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + START_TIMEOUT
        while True:
            with suppress(OSError, RuntimeError, http.client.HTTPException):
                Mlflow(port).ask("GET", "/api/2.0/mlflow/experiments/get?experiment_id=0")
                break
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"MLflow did not start: {log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield Mlflow(port)
    finally:
        # Its workers are in its group.
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
