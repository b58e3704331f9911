"""ViewerServer: a viewer of a store as its command starts it, with what its answers cost."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import msgspec

from tests.viewer.browser.chromium import ROOT, ui_command


def cpu_ms(pid: int) -> float:
    """Return the processor time that a process and its threads have taken."""
    # CPUCLOCK_SCHED of another process, as the C library's clock_getcpuclockid makes it.
    return time.clock_gettime((~pid << 3) | 2) * 1000


class ViewerServer:
    """
    A viewer's server in a process of its own.

    Attributes:
        started_ms: From its start until it had answered with a list of runs.
        started_cpu_ms: The processor time of that.
    """

    def __init__(self, path: Path, *options: str) -> None:
        began = time.monotonic()
        self.process = subprocess.Popen(
            ui_command(path, *options), cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        lines = (re.match(r"(http://\S+/)#token=(\S+)", line) for line in self.process.stdout)
        found = next(line for line in lines if line)
        self.base, self.token = found[1], found[2]
        self.get("api/runs?limit=50")
        self.started_ms = (time.monotonic() - began) * 1000
        self.started_cpu_ms = self.cpu_ms()

    @property
    def url(self) -> str:
        """The address of its page, with the token."""
        return f"{self.base}#token={self.token}"

    def raw(self, path: str) -> bytes:
        """Return the body of an answer."""
        with urlopen(Request(self.base + path, headers={"Authorization": f"Bearer {self.token}"})) as answer:
            body: bytes = answer.read()
        return body

    def get(self, path: str) -> Any:
        """Return an answer."""
        return msgspec.json.decode(self.raw(path))

    def spans(self, run_id: str) -> int:
        """Ask for all spans of a run, piece by piece, as its page does; return the bytes of the answers."""
        size, after = 0, 0
        while True:
            body = self.raw(f"api/runs/{run_id}/spans?after={after}")
            size += len(body)
            after = msgspec.json.decode(body)["next"]
            if after is None:
                return size

    def cost(self, ask: Callable[[], int], repeats: int = 5) -> tuple[float, float, int]:
        """Return the median time of an answer, and of the server's processor time for it, and its bytes."""
        times, cpus, size = [], [], 0
        for _ in range(repeats):
            before, began = self.cpu_ms(), time.monotonic()
            size = ask()
            times.append((time.monotonic() - began) * 1000)
            cpus.append(self.cpu_ms() - before)
        return statistics.median(times), statistics.median(cpus), size

    def cpu_ms(self) -> float:
        """Return the processor time that it has taken."""
        return cpu_ms(self.process.pid)

    def memory_mib(self) -> float:
        """Return the most memory that it had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]

    def wait_for_index(self) -> tuple[float, float]:
        """Wait until the index covers the store; return the time and the processor time of that."""
        before, began = self.cpu_ms(), time.monotonic()
        done = self.get("api/stats")
        while not done["complete"]:
            time.sleep(1)
            done = self.get("api/stats")
            print(f"\rindex {done['indexed']:,} of {done['total']:,}", end="", file=sys.stderr)
        print(f"\r{'':60}\r", end="", file=sys.stderr)
        return (time.monotonic() - began) * 1000, self.cpu_ms() - before

    def end(self) -> None:
        """End it, and wait for it."""
        self.process.terminate()
        self.process.wait(30)
