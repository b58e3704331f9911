"""G1 and G4: OpenTelemetry may be imported by another thread at any moment, and half of it is never used."""

from __future__ import annotations

import pytest

from tests.processes import run_program

# What every program below begins with: `Held(name)` holds an import of that module, in a thread, until it is let go of.
PRELUDE = """
import asyncio, importlib, importlib.abc, sys, threading
from nat_observability import *

class Held(importlib.abc.MetaPathFinder):
    def __init__(self, package, name):
        self._name = name
        self._reached, self._let_go = threading.Event(), threading.Event()
        sys.meta_path.insert(0, self)
        self._importer = threading.Thread(target=importlib.import_module, args=(package,))
        self._importer.start()
        assert self._reached.wait(10)

    def find_spec(self, name, path, target=None):
        if name == self._name and threading.current_thread() is self._importer:
            self._reached.set()
            self._let_go.wait()

    def let_go(self):
        self._let_go.set()
        self._importer.join()

def suppressed():
    context = sys.modules.get("opentelemetry.context")
    return hasattr(context, "get_value") and bool(context.get_value("suppress_instrumentation"))

seen = {}

async def on_the_loop(batch):
    look_up = await asyncio.get_running_loop().run_in_executor(None, suppressed)
    seen.update((f"async {item.name}", (suppressed(), look_up)) for item in batch)

def on_a_worker(batch):
    seen.update((f"worker {item.name}", suppressed()) for item in batch)

exporters = {
    "async": SpanExporter(on_the_loop, name="async"),
    "worker": SpanExporter(on_a_worker, name="worker"),
}
runtime = ObservabilityRuntime(exporters, start_timeout=5, shutdown_timeout=5)

async def record(name):
    async with ExporterManager.from_exporters(exporters).start(ContextState()) as manager:
        with step("tool", name):
            pass
        assert (await asyncio.wait_for(manager.flush(), 10)).complete
"""

# Reached when the package before it is half imported: in sys.modules, without its names.
HALVES = {
    "context": ("opentelemetry.context", "opentelemetry.context.context"),
    "metrics": ("opentelemetry.metrics", "opentelemetry.metrics._internal"),
    "metrics, not begun": ("opentelemetry.metrics", "opentelemetry.metrics"),
    "context, not begun": ("opentelemetry.context", "opentelemetry.context"),
}


@pytest.mark.parametrize("half", HALVES)
def test_g4_an_import_in_another_thread_neither_stops_delivery_nor_holds_up_the_start(half: str) -> None:
    """Everything is delivered meanwhile; and when it is complete the exports of open exporters are suppressed too."""
    done = run_program(
        PRELUDE
        + f"""
async def main():
    held = Held(*{HALVES[half]})
    async with runtime:
        await record("meanwhile")
        held.let_go()
        importlib.import_module("opentelemetry.context")
        await record("afterwards")

asyncio.run(main())
assert seen == {{
    "async meanwhile": (False, False),
    "worker meanwhile": False,
    "async afterwards": (True, True),
    "worker afterwards": True,
}}, seen
""",
        timeout=18,
        fresh=True,
    )
    assert done.stderr == ""


def test_g16_metrics_are_reported_once_the_application_has_them() -> None:
    """A meter provider that is imported and set after the start gets what was delivered, from the next batch on."""
    run_program(
        PRELUDE
        + """
async def main():
    held = Held("opentelemetry.metrics", "opentelemetry.metrics._internal")
    async with runtime:
        await record("meanwhile")
        held.let_go()
        from opentelemetry import metrics
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader

        reader = InMemoryMetricReader()
        metrics.set_meter_provider(MeterProvider([reader]))
        await record("afterwards")
        found = {
            (metric.name, point.attributes["otel.component.name"]): point
            for scope in reader.get_metrics_data().resource_metrics[0].scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
            if "error.type" not in point.attributes
        }
        for name in exporters:
            component = f"nat_observability/{name}"
            assert found["otel.sdk.exporter.span.exported", component].value == 2, found
            assert found["otel.sdk.exporter.operation.duration", component].count == 1, found

asyncio.run(main())
""",
        fresh=True,
    )


def test_g4_a_broken_opentelemetry_fails_neither_the_start_nor_the_delivery() -> None:
    """Missing names or errors in its modules are for the application to fix; one warning says that metrics are off."""
    done = run_program(
        PRELUDE
        + """
import types

class Broken(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise RuntimeError(f"no {name}")

for name in ("opentelemetry", "opentelemetry.context", "opentelemetry.metrics"):
    sys.modules[name] = Broken(name)

def names(batch):
    seen.update((item.name, True) for item in batch)

exporters = {"plain": SpanExporter(names, name="plain")}
runtime = ObservabilityRuntime(exporters, start_timeout=5, shutdown_timeout=5)

async def main():
    async with runtime:
        await record("a")
        await record("b")

asyncio.run(main())
assert seen == {"a": True, "b": True}
""",
        timeout=18,
        fresh=True,
    )
    assert done.stderr == "metrics_not_reported error='RuntimeError: no get_meter'\n"
