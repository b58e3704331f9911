"""Where the CPU time of a row goes: `python -m benchmarks.profile KEY` prints the share of each part."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import FrameType

from benchmarks.bars import BARS, BESIDE, Bar
from benchmarks.contenders import OURS, discarding
from benchmarks.default_contenders import opened, work_of
from benchmarks.import_time import LIBRARIES, STARTED, Interpreters
from benchmarks.lifecycle import manager_with, waiting_run
from benchmarks.payloads import Payloads
from benchmarks.receiver import running_receiver
from benchmarks.sqlite_store import BATCH, spans
from benchmarks.steps import awaited, saying
from nat_observability import ContextState, ExporterManager
from nat_observability.sinks import SqliteSink

_ROOT = Path(__file__).parents[1]
SECONDS = 2.0
EVERY = 0.0005
_TIMES = {"bare": 3000, "text": 1000, "history": 60, "run": 150, "agent": 2, "texts": 1000}
_PACKAGE = "nat_observability"
_ELSEWHERE = "the event loop and the work itself"
_DEEP = {"processors", "sinks", "recording", "delivery"}
"""Packages whose parts are named one level deeper."""


class Sampler:
    """
    Looks at every thread again and again, and charges the CPU time that it has used since to what it is doing.

    `part` says of a frame what that is, by the innermost function of ours on its stack, so that what the standard
    library or a native library does for us counts as ours. The main thread, which uses this, is interrupted by a signal
    wherever it is; a thread looks at the others, and sees them more often where they let go of the interpreter: shares
    are estimates.
    """

    def __init__(self, part: Callable[[FrameType | None], str]) -> None:
        self.parts: Counter[str] = Counter()  # nanoseconds
        self._part = part
        self._used: dict[int, float] = {}
        self._stopped = threading.Event()
        self._main = threading.get_ident()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Sampler:
        self._switch = sys.getswitchinterval()
        sys.setswitchinterval(EVERY)
        for ident in sys._current_frames():
            self._used[ident] = time.clock_gettime(time.pthread_getcpuclockid(ident))
        signal.signal(signal.SIGPROF, self._interrupted)
        signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._charge(self._main, sys._getframe())
        self._stopped.set()
        self._thread.join()
        # One that was on its way may still come: by default it would end the process.
        signal.signal(signal.SIGPROF, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.setswitchinterval(self._switch)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        self._charge(self._main, frame)

    def _look(self) -> None:
        left_out = {self._main, threading.get_ident()}
        while not self._stopped.wait(EVERY):
            for ident, frame in sys._current_frames().items():
                if ident not in left_out:
                    self._charge(ident, frame)

    def _charge(self, ident: int, frame: FrameType | None) -> None:
        try:
            used = time.clock_gettime(time.pthread_getcpuclockid(ident))
        except OSError:  # it has ended
            return
        since, self._used[ident] = used - self._used.get(ident, used), used
        if since > 0:
            self.parts[self._part(frame)] += round(since * 1e9)


def package_of(frame: FrameType | None) -> str:
    """Return the package of the innermost function of ours."""
    while frame is not None:
        if parts := _parts(frame):
            return "/".join(parts[: 2 if parts[0] in _DEEP and len(parts) > 2 else 1])
        frame = frame.f_back
    return _ELSEWHERE


def function_of(frame: FrameType | None) -> str:
    """Return the innermost function of ours, with its module."""
    while frame is not None:
        if parts := _parts(frame):
            return f"{'/'.join(parts)}: {frame.f_code.co_qualname.replace('.<locals>', '')}"
        frame = frame.f_back
    return _ELSEWHERE


def _parts(frame: FrameType) -> tuple[str, ...]:
    path = frame.f_code.co_filename
    if f"{os.sep}{_PACKAGE}{os.sep}" not in path:
        return ()
    return Path(path.rpartition(f"{os.sep}{_PACKAGE}{os.sep}")[2]).with_suffix("").parts


async def _profile(bar: Bar, seconds: float) -> dict[str, float]:
    if isinstance(bar.profile, str):
        kind, _, given = bar.profile.partition(":")
        parts = await APART[kind](given, seconds)
    else:
        parts = await _recorded(bar, seconds)
    whole = sum(parts.values()) or 1.0
    return {part: round(used / whole, 3) for part, used in parts.most_common()}


async def _recorded(bar: Bar, seconds: float) -> Counter[str]:
    """Record the work of a contender, as the scripts do."""
    assert isinstance(bar.profile, tuple)
    name, work, exporters, sends = bar.profile
    kind, _, size = work.partition(":")
    times = _TIMES.get(kind, max(3000, int(size or 0)))
    payloads = Payloads()
    with running_receiver() if sends else nullcontext() as receiver:
        endpoint = "" if receiver is None else receiver.endpoint
        async with opened(name, endpoint, exporters) as recorder:
            parts: Counter[str] = Counter()
            end = time.monotonic() + seconds
            while time.monotonic() < end or not parts:
                do = work_of(work, times, payloads, recorder)  # its texts are made outside
                with Sampler(package_of) as sampler:
                    await do()
                    await recorder.flush()
                parts += sampler.parts
    return parts


async def _repeated(do: Callable[[], Awaitable[object]], seconds: float) -> Counter[str]:
    end = time.monotonic() + seconds
    # One look at all of them: the system's ticks are milliseconds apart, and each of them may be shorter.
    with Sampler(function_of) as sampler:
        await do()
        while time.monotonic() < end:
            await do()
    return sampler.parts


async def _store(what: str, seconds: float) -> Counter[str]:
    """Write batches into a store; their spans are made outside."""
    payloads, parts = Payloads(), Counter[str]()
    with tempfile.TemporaryDirectory(dir=".") as directory:
        sink = SqliteSink(Path(directory, "profiled.sqlite3"))
        sink.open()
        end = time.monotonic() + seconds
        while time.monotonic() < end or not parts:
            batches = [spans(payloads, texts=what == "text", of_run=BATCH) for _ in range(20)]
            with Sampler(function_of) as sampler:
                for batch in batches:
                    sink.write(batch)
            parts += sampler.parts
        sink.close()
    return parts


async def _unheard(kilobytes: str, seconds: float) -> Counter[str]:
    """Record steps of a run that no exporter takes."""
    given = [{"role": "user", "content": "x" * 1000}] * int(kilobytes) or None
    async with ExporterManager().start(ContextState()):
        return await _repeated(awaited(lambda: saying(given)), seconds)


async def _joined(what: str, seconds: float) -> Counter[str]:
    """Publish pairs of START and END until their spans are drained."""
    async with discarding(OURS, payload=what == "text") as record:
        return await _repeated(partial(record, 1000), seconds)


async def _isolated(exporters: str, seconds: float) -> Counter[str]:
    """Start and stop a thousand runs at once, each with exporters of its own."""
    manager = manager_with(int(exporters))

    async def at_once() -> None:
        await asyncio.gather(*(waiting_run(manager) for _ in range(1000)))

    return await _repeated(at_once, seconds)


async def _imports(given: str, seconds: float) -> Counter[str]:
    """Import and start in fresh interpreters: by package what is imported beyond the libraries, and all the rest."""
    with Interpreters() as interpreters:
        for _ in range(2):  # the first writes the bytecode
            known = interpreters.imported(LIBRARIES)
            found = interpreters.imported(STARTED)
            more = interpreters.milliseconds(STARTED) - interpreters.milliseconds(LIBRARIES)
    parts: Counter[str] = Counter()
    for name, took in found.items():
        if name not in known:
            steps = name.split(".")
            parts[f"importing {'/'.join(steps[:2] if steps[0] == _PACKAGE else steps[:1])}"] += round(
                took * 1e6
            )
    parts["all but imports"] += max(0, round(more * 1e6) - parts.total())
    return parts


APART: dict[str, Callable[[str, float], Awaitable[Counter[str]]]] = {
    "store": _store,
    "unheard": _unheard,
    "joined": _joined,
    "isolated": _isolated,
    "imports": _imports,
}
"""Works that are not a contender's."""


def shares_of(key: str) -> dict[str, float]:
    """Return the share of each part in the work of the row with that key, profiled in a process of its own."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "shares.json")
        command = [sys.executable, "-m", "benchmarks.profile", key, "--json", str(path)]
        subprocess.run(command, cwd=_ROOT, check=True, stdout=subprocess.DEVNULL)
        shares: dict[str, float] = json.loads(path.read_text())
    return shares


def main() -> int:
    """Profile a row in this process."""
    bars = {bar.key: bar for bar in (*BARS, *BESIDE) if bar.profile}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("key", metavar="KEY", choices=bars, help=f"of {', '.join(bars)}")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"{SECONDS:g} by default")
    parser.add_argument("--json", metavar="FILE", help="write the shares there too")
    given = parser.parse_args()
    shares = asyncio.run(_profile(bars[given.key], given.seconds))
    print(f"{bars[given.key].title}: CPU time of all threads")
    for part, share in shares.items():
        if share >= 0.01:
            print(f"  {share:6.1%}  {part}")
    if given.json:
        Path(given.json).write_text(json.dumps(shares))
    return 0


if __name__ == "__main__":
    sys.exit(main())
