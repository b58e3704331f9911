"""Contender: who records as users have it by default, in a process of its own; this library from its settings."""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from benchmarks.default_peers import (
    FASTOTEL,
    FLOOR_IN_C,
    LANGFUSE,
    LOGFIRE,
    PEERS,
    QUEUE,
    RELAY,
    SDK,
    Recorder,
    can_compile,
)
from benchmarks.payloads import Message, Payloads

OURS, UNREDACTED, PURE = "ours", "ours without redaction", "ours, redaction in pure Python"
SPOOLED, STORED = "ours, spooled always", "ours, to the store"
NEEDS = {
    SDK: "opentelemetry.sdk",
    FASTOTEL: "fastotel",
    RELAY: "nemo_relay",
    LOGFIRE: "logfire",
    LANGFUSE: "langfuse",
}
STEPS = 10
TURNS = 50
_ROOT = Path(__file__).parents[1]
_PREFIX = "NAT_OBSERVABILITY_"


def installed(contender: str) -> bool:
    """Whether what the contender needs is installed."""
    if contender == FLOOR_IN_C:
        return can_compile()
    if contender not in NEEDS:
        return True
    try:
        return find_spec(NEEDS[contender]) is not None
    except ModuleNotFoundError:  # of a parent package
        return False


@dataclass(frozen=True)
class Taken:
    """CPU seconds of one repetition of a work: of all threads until all is exported, and of the caller's thread."""

    all: float
    caller: float


class Contender:
    """
    A contender in a process of its own, which records on request and is idle otherwise; a context manager.

    Args:
        name: Which.
        endpoint: The OTLP receiver that it sends to; None if its exporters drop what they get.
        exporters: How many it has; the OpenTelemetry SDK as many batch processors, other peers always one.
    """

    def __init__(self, name: str, endpoint: str | None = None, exporters: int = 1) -> None:
        self.name = name
        command = [
            sys.executable,
            "-m",
            "benchmarks.default_contenders",
            name,
            endpoint or "",
            str(exporters),
        ]
        environment = {
            each: value
            for each, value in os.environ.items()
            if not each.startswith((_PREFIX, "OTEL_", "LOGFIRE_", "LANGFUSE_"))
        }
        self._process = subprocess.Popen(
            command, cwd=_ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def take(self, work: str, times: int) -> Taken:
        """
        Return what one of that many repetitions of a work takes.

        Raises:
            RuntimeError: The contender has ended; why is on its standard error.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{work} {times}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} has ended at {work}")
        return Taken(*map(float, line.split()))

    def measure(self, work: str, times: int) -> float:
        """Return the CPU seconds of all threads for one of that many repetitions, until all is exported."""
        return self.take(work, times).all

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        # The end of its input is the end of its work.
        self._process.communicate()


def work_of(name: str, times: int, payloads: Payloads, recorder: Recorder) -> Callable[[], Awaitable[object]]:
    """
    Return what does a work that many times; its payloads are made before.

    Args:
        name: The work, and after a colon how large it is, for those that grow.
        times: Repetitions.
        payloads: Makes texts.
        recorder: Does it.
    """
    name, _, size = name.partition(":")
    if name == "bare":
        return partial(recorder.steps, [(None, None)] * times)
    if name == "text":
        return partial(recorder.steps, [(payloads.text(2000), payloads.text(1000)) for _ in range(times)])
    if name == "history":
        return partial(recorder.steps, [(payloads.history(50_000), None) for _ in range(times)])
    if name == "size":
        return partial(recorder.steps, [(payloads.text(int(size)), None) for _ in range(times)])
    if name == "run":
        works = [[(payloads.text(120), payloads.text(240)) for _ in range(STEPS)] for _ in range(times)]
        return partial(recorder.runs, works)
    if name == "texts":  # one step a run, in which a text is new, and long
        works = [[(payloads.text(1700), payloads.text(1700))] for _ in range(times)]
        return partial(recorder.runs, works)
    if name == "root":
        return partial(_in_tasks, recorder, times, int(size or 0))
    if name == "threads":
        return partial(_in_threads, recorder, times, int(size))
    if name == "agent":
        conversations = [payloads.turns(int(size or TURNS)) for _ in range(times)]
        return partial(_agents, recorder, conversations)
    raise SystemExit(f"There is no work {name!r}.")


async def _agents(recorder: Recorder, conversations: Sequence[Sequence[Message]]) -> None:
    for turns in conversations:
        await recorder.agent(turns)


async def _in_tasks(recorder: Recorder, times: int, at_once: int) -> None:
    """Record runs of a root step: that many open at once, each in a task; 0 for one after the other, without tasks."""
    if not at_once:
        for _ in range(times):
            await recorder.root()
    elif at_once == 1:
        for _ in range(times):
            await asyncio.create_task(recorder.root())
    else:
        for _ in range(times // at_once):
            await asyncio.gather(*(recorder.root() for _ in range(at_once)))


async def _in_threads(recorder: Recorder, times: int, threads: int) -> None:
    """Record bare steps in that many threads, each with an event loop and a run of its own."""
    share = [(None, None)] * (times // threads)
    waiting = [asyncio.to_thread(asyncio.run, recorder.steps(share)) for _ in range(threads)]
    await asyncio.gather(*waiting)


# Ours


class _Ours:
    def __init__(self, container: Any) -> None:
        self._container = container
        self._latest: Any = None

    def _start(self) -> AbstractAsyncContextManager[Any]:
        from nat_observability import ContextState

        self._latest = self._container.exporter_manager()
        started: AbstractAsyncContextManager[Any] = self._latest.start(ContextState())
        return started

    async def steps(self, payloads: Sequence[tuple[Any, Any]]) -> None:
        from nat_observability import step

        async with self._start():
            for given, answered in payloads:
                with step("function", "work", input=given) as current:
                    if answered is not None:
                        current.output = answered

    async def runs(self, payloads: Sequence[Sequence[tuple[Any, Any]]]) -> None:
        from nat_observability import step

        for (given, answered), *others in payloads:
            async with self._start():
                with step("function", "work", input=given) as outer:
                    for inner_given, inner_answered in others:
                        with step("function", "work", input=inner_given) as inner:
                            inner.output = inner_answered
                    outer.output = answered

    async def root(self) -> None:
        from nat_observability import step

        async with self._start():
            with step("workflow", "root"):
                await asyncio.sleep(0)

    async def agent(self, turns: Sequence[Message]) -> None:
        from nat_observability import step

        history: list[Message] = []
        async with self._start():
            with step("workflow", "agent"):
                for message in turns:
                    history.append(message)
                    with step("llm", "gpt-5", input=history) as call:
                        call.output = message["content"]

    async def flush(self) -> None:
        await self._latest.flush()
        runtime = self._container.runtime_object()
        # Of earlier runs, whose batches may be on their way.
        while runtime.health().ledger.pending:  # noqa: ASYNC110  a ledger is asked, and has no event
            await asyncio.sleep(0.01)
        ledger = runtime.health().ledger
        if ledger.delivered != ledger.accepted:
            raise RuntimeError(f"Not everything was delivered: {ledger}")


@asynccontextmanager
async def _ours(
    endpoint: str,
    exporters: int,
    *,
    redact: bool = True,
    engine: bool = True,
    spool: bool = False,
    store: bool = False,
) -> AsyncIterator[Recorder]:
    from benchmarks.runs import Discarding
    from nat_observability.builders import delivering
    from nat_observability.containers import ObservabilityContainer

    with tempfile.TemporaryDirectory(dir=".") as directory:
        for index in range(exporters):
            each = f"{_PREFIX}EXPORTERS__E{index}__"
            os.environ[f"{each}TYPE"] = "otlp" if endpoint else "sqlite" if store else "discarding"
            if endpoint:
                os.environ[f"{each}ENDPOINT"] = endpoint
            if store:
                os.environ[f"{each}PATH"] = f"{directory}/{index}.sqlite3"
            if spool:
                os.environ[f"{each}SPOOL"] = "always"
                os.environ[f"{each}SPOOL_PATH"] = f"{directory}/spool-{index}"
            # As it is by default, but for the length of the queue, which is every contender's.
            os.environ[f"{each}QUEUE_ITEMS"] = str(QUEUE)
            os.environ[f"{each}QUEUE_BYTES"] = str(1 << 30)
        os.environ[f"{_PREFIX}REDACT"] = str(redact).lower()
        if not engine:
            sys.modules["hyperscan"] = None  # type: ignore[assignment]
        container = ObservabilityContainer()
        if not endpoint:
            container.exporter_types.override(
                {"discarding": lambda name, given, settings: delivering(name, given, settings, Discarding())}
            )
        await container.init_resources()
        try:
            yield _Ours(container)
        finally:
            await container.shutdown_resources()


_OPEN: dict[str, Callable[[str, int], AbstractAsyncContextManager[Recorder]]] = {
    OURS: _ours,
    UNREDACTED: partial(_ours, redact=False),
    PURE: partial(_ours, engine=False),
    SPOOLED: partial(_ours, spool=True),
    STORED: partial(_ours, store=True),
    **PEERS,
}


def opened(name: str, endpoint: str, exporters: int) -> AbstractAsyncContextManager[Recorder]:
    """Return what opens a contender in this process."""
    return _OPEN[name](endpoint, exporters)


async def _serve(name: str, endpoint: str, exporters: int) -> None:
    """Do each work that a line of the standard input names, and print the CPU seconds that one took."""
    payloads = Payloads()
    async with opened(name, endpoint, exporters) as recorder:
        loop = asyncio.get_running_loop()
        while order := await loop.run_in_executor(None, sys.stdin.readline):
            work, times = order.split()
            do = work_of(work, int(times), payloads, recorder)
            began, caller = time.process_time(), time.thread_time()
            await do()
            caller = time.thread_time() - caller
            await recorder.flush()
            whole = time.process_time() - began
            print(whole / int(times), caller / int(times), flush=True)


def main() -> int:
    """Be a contender."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=_OPEN)
    parser.add_argument("endpoint")
    parser.add_argument("exporters", type=int)
    given = parser.parse_args()
    asyncio.run(_serve(given.name, given.endpoint, given.exporters))
    return 0


if __name__ == "__main__":
    sys.exit(main())
