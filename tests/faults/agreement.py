"""Faults that change all the time, in one process: the ledgers add up, and the log says what they say."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from nat_observability import (
    ContextState,
    DeliveryLimits,
    ExporterManager,
    LedgerSnapshot,
    ObservabilityRuntime,
    SpanExporter,
    step,
)
from nat_observability.errors import (
    BatchTooLargeError,
    PermanentWriteError,
    RefusedForNowError,
    RetryableWriteError,
)
from nat_observability.events import Item

_INTENDED = ("filtered:", "sampled_out")
# Memory also holds what the allocator keeps for the threads of each runtime.
_MOST_MORE = {"memory": 20 << 20, "blocks": 20_000, "descriptors": 10, "threads": 10, "tasks": 3}


class Fickle:
    """A sink that does anything, by the dice."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self.taken = 0

    async def open(self) -> None:
        if self._dice.random() < 0.1:
            raise OSError("not there")

    async def write(self, batch: Sequence[Item]) -> int:
        await asyncio.sleep(self._dice.choice((0, 0, 0.001, 0.02)))
        match self._dice.randrange(12):
            case 0:
                raise ConnectionError("down")
            case 1:
                raise RetryableWriteError("503", retry_after=self._dice.choice((None, 0.001, 1e4)))
            case 2:
                raise PermanentWriteError("400")
            case 3:
                raise RefusedForNowError("401")
            case 4:
                raise BatchTooLargeError("413")
            case 5:
                rejected = self._dice.randrange(len(batch) + 1)
                self.taken += len(batch) - rejected
                return rejected
            case 6:
                raise self._dice.choice((asyncio.CancelledError, SystemExit(1), KeyboardInterrupt))
            case 8 if self._dice.random() < 0.01:
                for task in asyncio.all_tasks():
                    task.cancel()
            case 7 if self._dice.random() < 0.1:
                await asyncio.Event().wait()
        self.taken += len(batch)
        return 0

    async def close(self) -> None:
        if self._dice.random() < 0.1:
            raise ValueError("will not close")


class FickleThread:
    """The same, on a thread."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self.taken = 0

    def open(self) -> None:
        """Nothing to open."""

    def write(self, batch: Sequence[Item]) -> None:
        if self._dice.random() < 0.3:
            raise self._dice.choice((OSError("down"), ValueError("bug"), MemoryError(), SystemExit(1)))
        self.taken += len(batch)

    def close(self) -> None:
        """Nothing to close."""


class Agreement:
    """
    Exporters whose back ends, processors and runtimes fail in changing ways.

    Args:
        seed: Of everything that is left to chance.
        folder: For the spools.

    Attributes:
        said: How many items the log says were given up, by exporter and reason.
        runs: How many there were.
        figures: Memory, blocks of it that Python has allocated, descriptors, threads and tasks, at each runtime's end.
    """

    def __init__(self, seed: int, folder: Path) -> None:
        self._dice = dice = random.Random(seed)
        self.said: dict[str, Counter[str]] = {}
        self.runs = 0
        self.figures: list[dict[str, int]] = []

        def fails_at_times(item: Item) -> Item | None:
            roll = dice.random()
            if roll < 0.05:
                raise LookupError
            return None if roll < 0.1 else item

        small: dict[str, Any] = {
            "batch_age": 0.002,
            "batch_items": 10,
            "queue_items": 40,
            "retry_initial": 0.001,
            "retry_max": 0.01,
            "retry_for": 0.05,
            "write_timeout": 0.1,
            "open_timeout": 0.5,
            "breaker_open_for": 0.02,
        }
        spool = {**small, "spool_bytes": 20_000, "spool_age": 0.5}
        self.sinks: dict[str, Fickle | FickleThread] = {
            name: (FickleThread if name == "thread" else Fickle)(dice)
            for name in ("queue", "oldest", "thread", "processed", "always", "spill", "runs")
        }
        limits = {
            "queue": DeliveryLimits(**small),
            "oldest": DeliveryLimits(**small, queue_policy="drop_oldest"),
            "thread": DeliveryLimits(**small),
            "processed": DeliveryLimits(**small),
            "always": DeliveryLimits(**spool, spool="always", spool_path=folder / "always"),
            "spill": DeliveryLimits(**spool, spool="spill", spool_path=folder / "spill"),
            "runs": DeliveryLimits(**small, run_bytes=20_000),
        }
        self.exporters = {
            name: SpanExporter(
                sink,
                name=name,
                limits=limits[name],
                processors=[fails_at_times] if name == "processed" else (),
            )
            for name, sink in self.sinks.items()
        }

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Count what the log says, whatever else the application logs."""
        lock = threading.Lock()

        def note(logger: object, level: str, line: Mapping[str, Any]) -> Any:
            if line["event"] in ("delivery_failed", "delivery_dropped"):
                with lock:
                    self.said.setdefault(line["exporter"], Counter()).update(line["reasons"])
            raise structlog.DropEvent

        structlog.configure(processors=[note])
        try:
            yield
        finally:
            structlog.reset_defaults()

    async def run(self, seconds: float) -> None:
        """Open runtimes and record runs for so long, and close the last runtime in peace."""
        end = time.monotonic() + seconds
        manager = ExporterManager.from_exporters(self.exporters, shutdown_timeout=1)
        with self.listening():
            while time.monotonic() < end:
                timeout = self._dice.choice((0.05, 0.3, 1.0))
                runtime = ObservabilityRuntime(self.exporters, start_timeout=1, shutdown_timeout=timeout)
                async with runtime:
                    for _ in range(self._dice.randrange(1, 20)):
                        async with asyncio.TaskGroup() as group:
                            for _ in range(self._dice.randrange(1, 5)):
                                group.create_task(self._record(manager.get()))
                        self._check()
                self._check()
                self.figures.append(_figures())
            for exporter in self.exporters.values():
                closed = exporter.delivery.close(time.monotonic() + 1.0)
                done, _ = await asyncio.wait([asyncio.wrap_future(closed)], timeout=5.0)
                if not done:
                    exporter.delivery.abandon()
                exporter.delivery.log_losses()

    async def _record(self, manager: ExporterManager) -> None:
        async with manager.start(ContextState()):
            for number in range(self._dice.randrange(1, 15)):
                with step("tool", str(number), input="x" * self._dice.choice((1, 100, 5000))):
                    if self._dice.random() < 0.2:
                        await asyncio.sleep(0)
        self.runs += 1

    def _check(self) -> None:
        for name, exporter in self.exporters.items():
            health = exporter.delivery.health()
            assert health.ledger.adds_up, (name, health)
            # Nothing has two outcomes.
            assert health.ledger.pending >= 0, (name, health)

    def check(self) -> None:
        """Raise AssertionError unless each exporter's ledger and lines agree, and nothing has grown."""
        self._check()
        for name, exporter in self.exporters.items():
            ledger = exporter.delivery.health().ledger
            said = self.said.get(name, Counter())
            assert _lost(ledger) == _by_kind(said), (name, ledger, said)
            assert ledger.delivered <= self.sinks[name].taken, (name, ledger)

    def check_flat(self) -> None:
        """Raise AssertionError if any figure has grown since the first quarter, or blocks even for a while."""
        early, late = self.figures[len(self.figures) // 4], self.figures[-1]
        for what, most in _MOST_MORE.items():
            assert late[what] <= early[what] + most, f"{what} has grown from {early[what]} to {late[what]}"
        blocks = [each["blocks"] for each in self.figures]
        # What is kept for some seconds only, of each run, takes as much memory as what is kept for ever.
        assert max(blocks) <= blocks[0] + _MOST_MORE["blocks"], f"{max(blocks)} blocks after {blocks[0]}"

    def __str__(self) -> str:
        first, last = self.figures[0], self.figures[-1]
        ledgers = {name: each.delivery.health().ledger for name, each in self.exporters.items()}
        lines = [f"{self.runs} runs, {len(self.figures)} runtimes"]
        lines += [f"{name}: {ledger}" for name, ledger in ledgers.items()]
        lines.append(", ".join(f"{what} {first[what]} -> {last[what]}" for what in first))
        return "\n".join(lines)


_FAILED = ("refused", "rejected", "retry_for", "retry_after", "breaker_open", "last_try")


def _lost(ledger: LedgerSnapshot) -> Counter[str]:
    dropped = {reason: items for reason, items in ledger.dropped.items() if not reason.startswith(_INTENDED)}
    return +Counter({**dropped, "failed": ledger.failed})


def _by_kind(said: Counter[str]) -> Counter[str]:
    """Return what the lines say with all failures as one, as the ledger has them."""
    kinds: Counter[str] = Counter()
    for reason, items in said.items():
        kinds["failed" if reason in _FAILED else reason] += items
    return +kinds


def _figures() -> dict[str, int]:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "memory": pages * os.sysconf("SC_PAGE_SIZE"),
        "blocks": sys.getallocatedblocks(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "tasks": len(asyncio.all_tasks()),
    }
