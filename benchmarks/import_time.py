"""Importing the package beside importing what it depends on, each time in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from benchmarks.report import Row, at_most, beside, missing, report

TRIES = 21
LIMIT = 1.2  # 60 ms, on the machine where the SDK takes 50

_ROOT = Path(__file__).parents[1]
_CORE = "dependency_injector.containers, dependency_injector.providers, msgspec, pydantic, pydantic_settings, structlog"
_SDK = "opentelemetry.sdk.trace.export"
_PROGRAM = "import time; began = time.process_time(); import {}; print((time.process_time() - began) * 1000)"


def imported(modules: str) -> float:
    """Return the milliseconds of CPU time that importing them takes in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(modules)], cwd=_ROOT, check=True, stdout=subprocess.PIPE
    )
    return float(done.stdout)


def measure() -> list[Row]:
    """Measure in turns."""
    cases = {
        "core": _CORE,
        "library": "nat_observability",
        "library over core": f"{_CORE}, nat_observability",
        "container over core": f"{_CORE}, nat_observability.containers",
    }
    has_sdk = find_spec("opentelemetry") is not None and find_spec("opentelemetry.sdk") is not None
    if has_sdk:
        cases["sdk"] = _SDK
    took: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(TRIES):
        for name, modules in cases.items():
            took[name].append(imported(modules))
    ms = {name: median(each) for name, each in took.items()}
    over, name = ms["library over core"] - ms["core"], "import nat_observability, over its core dependencies"
    return [
        at_most(name, "ms", over, "opentelemetry-sdk", ms["sdk"], LIMIT)
        if has_sdk
        else missing(name, "ms", over, "opentelemetry-sdk", f"at most {LIMIT:g}x"),
        beside(
            "import nat_observability and its core dependencies",
            "ms",
            ms["library over core"],
            "core dependencies",
            ms["core"],
        ),
        beside(
            "the same, and the container", "ms", ms["container over core"], "core dependencies", ms["core"]
        ),
        beside("import nat_observability alone", "ms", ms["library"], "opentelemetry-sdk", ms.get("sdk")),
    ]


if __name__ == "__main__":
    sys.exit(report("Import in a fresh interpreter, bytecode cached: CPU time, medians", measure))
