"""A program that runs workflows forever, spooling each, and prints which have ended, and now and then its figures."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from itertools import count
from pathlib import Path

from nat_observability import DeliveryLimits, ExporterManager, ObservabilityRuntime, SpanExporter
from nat_observability.sinks.otlp.http import OtlpHttpSink
from tests.delivery.crash_worker import workflow
from tests.delivery.pending import nothing_pending

_AT_ONCE = 4
_PAUSE = 0.1  # seconds between two groups of runs: a load that a soak of minutes can keep the ids of
_EVERY = 10  # groups from one line of figures to the next


def figures() -> dict[str, int]:
    """Return what has to be flat: memory in bytes, descriptors, tasks and threads."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "memory": pages * os.sysconf("SC_PAGE_SIZE"),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "tasks": len(asyncio.all_tasks()),
        "threads": threading.active_count(),
    }


async def main(url: str, spool: Path, life: str, at_once: int = _AT_ONCE) -> None:
    """Run workflows until killed, or until SIGTERM, and then deliver what is left, that of earlier processes too."""
    limits = DeliveryLimits(
        spool="always",
        spool_path=spool,
        batch_items=40,
        batch_age=0.02,
        retry_initial=0.05,
        retry_max=0.5,
        breaker_open_for=0.2,
    )
    exporters = {"otlp": SpanExporter(OtlpHttpSink(url, timeout=1), name="otlp", limits=limits)}
    manager = ExporterManager.from_exporters(exporters)
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    async with ObservabilityRuntime(exporters, shutdown_timeout=30) as runtime:
        for group_number in count():
            async with asyncio.TaskGroup() as group:
                for number in range(at_once):
                    group.create_task(workflow(manager, f"run-{life}.{at_once * group_number + number}."))
            if group_number % _EVERY == 0:
                sys.stdout.write(f"# {json.dumps(figures())}\n")
                sys.stdout.flush()
            if ending.is_set():
                break
            await asyncio.sleep(_PAUSE)
        await nothing_pending(runtime)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
