"""A program that runs workflows for ever, spooling each, and prints which have ended; tests kill it at any moment."""

from __future__ import annotations

import asyncio
import sys
from itertools import count
from pathlib import Path

from nat_observability import (
    ContextState,
    DeliveryLimits,
    ExporterManager,
    ObservabilityRuntime,
    SpanExporter,
    step,
)
from nat_observability.sinks.otlp.http import OtlpHttpSink
from tests.delivery.pending import nothing_pending

STEPS = 5
AT_ONCE = 8


async def workflow(manager: ExporterManager, name: str) -> None:
    """Run one workflow and, when its block has ended, print its name and its ids, those of its spans last."""
    state = ContextState(workflow_name=name)
    said = [name, state.run.run_id, state.run.trace_id]
    async with manager.get().start(state):
        with step("workflow", name, input={"run": name}) as whole:
            said.append(str(whole.step_id))
            for number in range(STEPS - 1):
                given = {"number": number}
                async with step(
                    "tool", f"step {number}", input=given, metadata=given, tags=["größer"]
                ) as current:
                    said.append(str(current.step_id))
                    await asyncio.sleep(0)
                    current.output = [name, number]
            whole.output = name
    # In one write: no line is torn, unless the process dies in the middle of it.
    sys.stdout.write(" ".join(said) + "\n")
    sys.stdout.flush()


async def main(url: str, spool: Path, life: str, runs: int | None) -> None:
    """Run workflows until killed, or a given number and then end in order."""
    limits = DeliveryLimits(
        spool="always",
        spool_path=spool,
        batch_items=40,
        batch_age=0.01,
        retry_initial=0.05,
        breaker_open_for=0.1,
    )
    exporters = {"otlp": SpanExporter(OtlpHttpSink(url, timeout=1), name="otlp", limits=limits)}
    manager = ExporterManager.from_exporters(exporters)
    async with ObservabilityRuntime(exporters, shutdown_timeout=20) as runtime:
        for first in count(step=AT_ONCE) if runs is None else range(0, runs, AT_ONCE):
            async with asyncio.TaskGroup() as group:
                for number in range(first, first + AT_ONCE):
                    group.create_task(workflow(manager, f"run-{life}.{number}."))
        await nothing_pending(runtime)  # what earlier processes have left is delivered too


if __name__ == "__main__":
    asyncio.run(
        main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else None)
    )
