"""A program that forks lives of the chaos worker on request: a thousand of them need not be started from nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.delivery.test_crash import Ended, said_to_have_ended
from tests.faults import chaos_worker

_ROOT = Path(__file__).parents[2]
_DONE = "# done\n"


class Life:
    """One process, and what it has said until now, in a file that survives it."""

    def __init__(self, pid: int, output: Path) -> None:
        self.pid = pid
        self._output = output
        self._read = 0
        self._torn = b""
        self.is_done = False

    @property
    def has_begun(self) -> bool:
        """Whether it has said anything."""
        return self._read > 0

    def take(self) -> list[Ended]:
        """Return the runs that were said to have ended since the last call."""
        with open(self._output, "rb") as file:
            file.seek(self._read)
            new = file.read()
        self._read += len(new)
        whole, _, self._torn = (self._torn + new).rpartition(b"\n")
        lines = [f"{line}\n" for line in whole.decode().split("\n") if line] if whole else []
        self.is_done = self.is_done or _DONE in lines
        return said_to_have_ended("".join(line for line in lines if not line.startswith("#")))

    def kill(self) -> None:
        """End it at once, whatever it is doing, and wait until it has gone."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.wait(10.0)

    def end(self) -> None:
        """Ask it to end in order."""
        os.kill(self.pid, signal.SIGTERM)

    def wait(self, timeout: float) -> None:
        """Return when it has gone, or raise a TimeoutError."""
        deadline = time.monotonic() + timeout
        while Path(f"/proc/{self.pid}").exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"Process {self.pid} has not ended after {timeout:g} s.")
            time.sleep(0.001)


class Nursery:
    """The program, as a context manager; nothing of it is left behind."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lives: list[Life] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.nursery"],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def bear(self, url: str, spool: Path, name: str, at_once: int) -> Life:
        """Begin one life."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        output = self._folder / f"life-{name}"
        output.touch()
        self._process.stdin.write(json.dumps([url, str(spool), name, at_once, str(output)]) + "\n")
        self._process.stdin.flush()
        life = Life(int(self._process.stdout.readline()), output)
        self._lives = [*(each for each in self._lives if Path(f"/proc/{each.pid}").exists()), life]
        return life

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for life in self._lives:
            life.kill()
        with self._process:
            self._process.kill()


def main() -> None:
    """Fork a life for each line of the standard input, and print its process id."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system takes the dead away
    for line in sys.stdin:
        url, spool, name, at_once, output = json.loads(line)
        pid = os.fork()
        if pid:
            sys.stdout.write(f"{pid}\n")
            sys.stdout.flush()
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open(output, os.O_WRONLY | os.O_APPEND), 1)
        asyncio.run(chaos_worker.main(url, Path(spool), name, at_once))
        sys.stdout.write(_DONE)
        sys.stdout.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
