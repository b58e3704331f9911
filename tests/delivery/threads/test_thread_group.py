"""DeliveryThreadGroup: threads that many deliveries share, in a forked child and when one of their loops breaks."""

from __future__ import annotations

from tests.processes import run_program


def test_g15_a_group_survives_a_fork_and_a_broken_loop() -> None:
    """A child has threads of its own; if a loop breaks, all that shared it move to another one, and lose nothing."""
    done = run_program("""
import asyncio, os, sys, threading
from collections import Counter
from nat_observability import *
from nat_observability.exporter import ExporterTemplate

arrived, allowed = [], []

async def take(batch):
    if any(item.name == "breaks" for item in batch):
        selector = asyncio.get_running_loop()._selector
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, selector.fileno())
        os.close(nothing)
    arrived.extend(item.name for item in batch)

def note(batch):
    arrived.extend(item.name for item in batch)

def sink(name):
    return note if name.startswith("blocking") else take

template = ExporterTemplate(sink, threads=2, processors=[lambda item: item], limits=DeliveryLimits(batch_age=0))
names = [f"{kind}{n}" for kind in ("blocking", "async") for n in range(3)]
exporters = {name: template.exporter(name) for name in names}
runtime = ObservabilityRuntime(exporters, shutdown_timeout=5)

async def record(name, tenant):
    async with ExporterManager.from_exporters(exporters).start(ContextState(tags={"tenant": tenant})) as manager:
        with step("tool", name):
            pass
        await manager.flush()

def everyone(name):
    for tenant in names:
        asyncio.run(record(name, tenant))

asyncio.run(runtime.init())
everyone("parent")
child = os.fork()
if child == 0:
    arrived.clear()
    everyone("child")
    left = asyncio.run(runtime.shutdown()).abandoned
    os._exit(0 if (arrived, left) == (["child"] * 6, ()) else 1)
assert os.waitpid(child, 0)[1] == 0
asyncio.run(record("breaks", "async1"))
everyone("after")
group = [thread.name for thread in threading.enumerate() if "tenants" in thread.name]
assert len(group) == 2, group
report = asyncio.run(runtime.shutdown())
counted = Counter(arrived)
# What was being written when the loop broke is written again.
assert counted.pop("breaks") in (1, 2), counted
assert counted == {"parent": 6, "after": 6}, counted
assert report.abandoned == (), report
left = [thread for thread in threading.enumerate() if "tenants" in thread.name]
for thread in left:  # it ends by itself, a moment after the shutdown
    thread.join(5)
assert not any(thread.is_alive() for thread in left)
""")
    assert done.stderr.count("background_loop_broken thread=nat-observability-tenants-0") == 1
