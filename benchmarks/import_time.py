"""Importing the package and starting its container beside what it depends on, each time in a fresh interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from benchmarks.report import Row, missing, of_rounds, report
from benchmarks.timing import rounds

TRIES = rounds(11)
MORE = 15.0
"""Milliseconds that import and start may take beyond what the libraries take that they stand on."""

_ROOT = Path(__file__).parents[1]
_LIBRARIES = "dependency_injector.containers, dependency_injector.providers, pydantic_settings, structlog"
_SDK = "opentelemetry.sdk.trace.export"
_TIMED = """
import sys, time
sys.modules["fastapi"] = None
began = time.process_time()
{}
print((time.process_time() - began) * 1000)
"""
_START = """
import asyncio, os
os.environ["NAT_OBSERVABILITY_EXPORTERS__MAIN__TYPE"] = "memory"
from nat_observability.containers import ObservabilityContainer
container = ObservabilityContainer()
async def main():
    await container.init_resources()
    {}
asyncio.run(main())
"""
_STEP = """
    from nat_observability import ContextState, step
    async with container.exporter_manager().start(ContextState()) as manager:
        with step("tool", "work", input="a text"):
            pass
        await manager.flush()
"""
_SDK_START = """
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(BatchSpanProcessor(InMemorySpanExporter()))
"""
LIBRARIES = f"import asyncio; asyncio.run(asyncio.sleep(0))\nimport {_LIBRARIES}"
"""A program that imports the libraries alone."""

STARTED = f"{LIBRARIES}\n{_START.format('')}"
"""One that imports and starts the container after that."""


class Interpreters:
    """Runs programs in fresh interpreters that share a cache of bytecode; a context manager."""

    def __init__(self) -> None:
        self._cache = tempfile.TemporaryDirectory()
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("NAT_OBSERVABILITY_", "OTEL_", "PYTHONDONTWRITE"))
        }
        # What else is installed here must not count: pydantic loads plugins, and dependency-injector FastAPI.
        self._environment |= {"PYTHONPYCACHEPREFIX": self._cache.name, "PYDANTIC_DISABLE_PLUGINS": "__all__"}

    def __enter__(self) -> Interpreters:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._cache.cleanup()

    def milliseconds(self, program: str) -> float:
        """Return the CPU time of a program in a fresh interpreter, threads that it starts included."""
        return float(self._run(program).stdout.split()[-1])

    def imported(self, program: str) -> dict[str, float]:
        """Return the modules that a program imports, each with the milliseconds that it takes itself."""
        found: dict[str, float] = {}
        for line in self._run(program, "-X", "importtime").stderr.splitlines():
            times, _, name = line.removeprefix("import time:").rpartition("|")
            own = times.partition("|")[0].strip()
            if own.isdecimal():
                found[name.strip()] = float(own) / 1000
        return found

    def _run(self, program: str, *options: str) -> subprocess.CompletedProcess[str]:
        # No handlers of its own at the exit: what is measured has been printed by then.
        code = (
            _TIMED.format(program) + "\nimport os, sys; sys.stdout.flush(); sys.stderr.flush(); os._exit(0)"
        )
        return subprocess.run(
            [sys.executable, *options, "-c", code],
            cwd=_ROOT,
            env=self._environment,
            check=True,
            capture_output=True,
            text=True,
        )


def measure() -> list[Row]:
    """Measure in turns."""
    cases = {
        "libraries": LIBRARIES,
        "package": f"{LIBRARIES}\nimport nat_observability",
        "container": f"{LIBRARIES}\nimport nat_observability.containers",
        "start": STARTED,
        "start, unredacted": f"{LIBRARIES}\nimport os\n"
        f"os.environ['NAT_OBSERVABILITY_REDACT'] = 'false'\n{_START.format('')}",
        "first span": f"{LIBRARIES}\n{_START.format(_STEP)}",
    }
    has_sdk = find_spec("opentelemetry") is not None and find_spec("opentelemetry.sdk") is not None
    if has_sdk:
        cases |= {"sdk": f"import {_SDK}", "sdk start": _SDK_START}
    took: dict[str, list[float]] = {name: [] for name in cases}
    with Interpreters() as interpreters:
        for number in range(TRIES + 1):
            for name, program in cases.items():
                figure = interpreters.milliseconds(program)
                if number:  # the first writes the bytecode
                    took[name].append(figure)
    base = "dependency-injector, pydantic-settings and structlog"
    rows = [
        of_rounds(
            "import and start of the container, CPU",
            "ms",
            took["start"],
            base,
            took["libraries"],
            1.0,
            more=MORE,
        ).under("start", took["start, unredacted"]),
        of_rounds("import of the package, CPU", "ms", took["package"], base, took["libraries"]),
        of_rounds("import of the container, CPU", "ms", took["container"], base, took["libraries"]),
        of_rounds(
            "import, start and a first step delivered, CPU", "ms", took["first span"], base, took["libraries"]
        ),
    ]
    if has_sdk:
        rows += [
            of_rounds(
                "import and start of the container, CPU",
                "ms",
                took["start"],
                "opentelemetry-sdk",
                took["sdk start"],
            ),
            of_rounds("import of the package, CPU", "ms", took["package"], "opentelemetry-sdk", took["sdk"]),
        ]
    else:
        rows.append(
            missing("import of the package, CPU", "ms", median(took["package"]), "opentelemetry-sdk", "")
        )
    return rows


if __name__ == "__main__":
    sys.exit(report("Import and start in a fresh interpreter, bytecode cached: CPU time", measure))
