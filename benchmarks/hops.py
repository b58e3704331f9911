"""
Which files and functions of the product one step and one setting pass: `python -m benchmarks.hops` prints them.

A sink's upkeep has a timer of its own, twice a second, and its round may fall into the time of a step. What timer and
round call is not on the step's way and is left out. The step that is counted is the first of its name; what the next
one like it passes is printed beside it, because much is made once for each name.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import threading
from collections.abc import Awaitable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import FrameType
from typing import Any

import nat_observability
from nat_observability import ContextState, step
from nat_observability.containers import ObservabilityContainer
from nat_observability.delivery.sending.periodic_work import Upkeep

_PRODUCT = str(Path(nat_observability.__file__).parent)
_PREFIX = "NAT_OBSERVABILITY_EXPORTERS__MAIN__"
_MOST = {"SQLite": 12, "OTLP": 14}
_UPKEEP = (Upkeep.due.__code__, Upkeep.round.__code__)


class Hops:
    """
    The functions of the product that are called while it looks, by file, in the order of their first calls.

    What is called below `Upkeep.due` and `Upkeep.round` is left out. `stop` ends the look: threads that go on are no
    longer noted.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, None]] = {}
        self._looks = True

    def note(self, frame: FrameType, event: str, arg: Any) -> None:
        """Note a call; for `sys.setprofile`."""
        code = frame.f_code
        if (
            self._looks
            and event == "call"
            and code.co_filename.startswith(_PRODUCT)
            and not _is_upkeep(frame)
        ):
            file = os.path.relpath(code.co_filename, _PRODUCT)
            self.files.setdefault(file, {})[code.co_qualname] = None

    def stop(self) -> None:
        """Note nothing any more."""
        self._looks = False
        # Another thread may be in the middle of a note, and goes on with the dicts that it has.
        self.files = {file: functions.copy() for file, functions in self.files.copy().items()}

    @property
    def counted(self) -> str:
        """How many files and functions there are."""
        return f"{len(self.files)} files, {sum(map(len, self.files.values()))} functions"

    def print(self, title: str) -> None:
        """Print how many files and functions there are, and which."""
        print(f"{title}: {self.counted}")
        for file, functions in self.files.items():
            print(f"  {file}: {', '.join(functions)}")


def _is_upkeep(frame: FrameType) -> bool:
    """Say whether a call is a part of what a sink's upkeep does on its own timer."""
    caller: FrameType | None = frame
    while caller is not None:
        if caller.f_code in _UPKEEP:
            return True
        caller = caller.f_back
    return False


class _Answering(BaseHTTPRequestHandler):
    """Takes every request."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


async def _done(resources: Awaitable[object] | None) -> None:
    if resources is not None:
        await resources


async def hops_of_one_step() -> tuple[Hops, Hops]:
    """Return what the first step of its name passes from `step` until it is written, and what one like it passes."""
    looks: list[Hops] = []

    def note(frame: FrameType, event: str, arg: Any) -> None:
        looks[-1].note(frame, event, arg)

    looks.append(Hops())
    container = ObservabilityContainer()
    threading.setprofile(note)  # the threads of the deliveries begin now
    await _done(container.init_resources())
    threading.setprofile(None)
    runtime = container.unopened_runtime()

    async def written() -> None:
        while runtime.health().ledger.pending:  # noqa: ASYNC110  a ledger is asked, and has no event
            await asyncio.sleep(0.02)

    async with container.exporter_manager().start(ContextState()):
        with step("tool", "first"):
            pass  # what is loaded with the first item is not passed by every one
        for _ in range(2):
            await written()
            await asyncio.sleep(0.5)  # until the threads rest
            looks.append(Hops())
            sys.setprofile(note)
            with step("tool", "search", input="why") as recorded:
                recorded.output = "because"
            sys.setprofile(None)
            del recorded
            await written()
            looks[-1].stop()
    await _done(container.shutdown_resources())
    _, first, like_it = looks
    return first, like_it


def hops_of_one_setting() -> Hops:
    """Return what an environment variable passes until the exporter is built."""
    hops, container = Hops(), ObservabilityContainer()
    sys.setprofile(hops.note)
    container.exporters()
    sys.setprofile(None)
    hops.stop()
    return hops


def main() -> int:
    """Print all; return 1 if there are more files than allowed."""
    counted: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as directory, HTTPServer(("127.0.0.1", 0), _Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for destination, variables in {
            "SQLite": {"TYPE": "sqlite", "PATH": f"{directory}/steps.sqlite3"},
            "OTLP": {"TYPE": "otlp", "ENDPOINT": f"http://127.0.0.1:{server.server_port}"},
        }.items():
            for name in [name for name in os.environ if name.startswith(_PREFIX)]:
                del os.environ[name]
            variables["BATCH_AGE"] = "0.2"  # seconds: six steps are waited for, one after the other
            os.environ.update({_PREFIX + name: value for name, value in variables.items()})
            first, like_it = asyncio.run(hops_of_one_step())
            counted[destination] = len(first.files)
            first.print(f"one step to {destination}, at most {_MOST[destination]} files")
            once = ", ".join(file for file in first.files if file not in like_it.files)
            print(f"another one like it: {like_it.counted}; without {once}")
            hops_of_one_setting().print(f"one environment variable to an exporter for {destination}")
        server.shutdown()
    print("left out: what Upkeep.due and Upkeep.round call, twice a second, on their own timer")
    return 1 if any(counted[destination] > most for destination, most in _MOST.items()) else 0


if __name__ == "__main__":
    sys.exit(main())
