"""Result: one row of a benchmark over several runs of it; how rows are judged, printed, saved and read again."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

_PACKAGES = (
    "nat-observability",
    "opentelemetry-sdk",
    "fastotel",
    "langfuse",
    "nvidia-nat-core",
    "logfire",
    "nemo-relay",
    "hyperscan",
    "fastapi",
    "uvicorn",
    "aiohttp",
    "isal",
    "msgspec",
    "dependency-injector",
)


NOISE = 1.2
"""The largest ratio to the smallest, above which there is no verdict."""


@dataclass(frozen=True)
class Result:
    """
    One row, the medians of several runs.

    `ratio` is ours to theirs; `least` and `most` are the smallest and the largest of the runs, or of a single run the
    quartiles of its rounds, if it has any. `holds` says whether the bar holds in most of them; None if there is no bar,
    or the machine was too noisy to tell. `unredacted` is our figure without redaction, `key` the row's place in the
    pages' tables.
    """

    script: str
    name: str
    unit: str
    ours: float
    beside: str
    theirs: float | None
    ratio: float | None
    least: float | None
    most: float | None
    bar: str
    holds: bool | None
    runs: int
    unredacted: float | None = None
    key: str = ""

    @property
    def is_noisy(self) -> bool:
        """Whether the ratio differed by more than a fifth from run to run."""
        return bool(self.least and self.most and self.most / self.least > NOISE)

    @property
    def verdict(self) -> str:
        """What is said of the bar."""
        if self.holds is not None:
            return "held" if self.holds else "missed"
        if not self.bar:
            return ""
        return "no verdict: peer missing" if self.theirs is None else "no verdict: noisy"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows that a script has written."""
    rows: list[dict[str, Any]] = json.loads(path.read_text())
    return rows


def merged(script: str, runs: Sequence[Sequence[dict[str, Any]]]) -> list[Result]:
    """Return a result for each row of a script that was run several times."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for rows in runs:
        for row in rows:
            found.setdefault((row["name"], row["beside"]), []).append(row)
    results: list[Result] = []
    for (name, peer), rows in found.items():
        ratios = [row["ratio"] for row in rows if row["ratio"] is not None]
        theirs = [row["theirs"] for row in rows if row["theirs"] is not None]
        held = [row["holds"] for row in rows if row["holds"] is not None]
        unredacted = [row["unredacted"] for row in rows if row["unredacted"] is not None]
        spread = (rows[0]["ratios"] or ()) if len(ratios) == 1 else ratios
        result = Result(
            script,
            name,
            rows[0]["unit"],
            median(row["ours"] for row in rows),
            peer,
            median(theirs) if theirs else None,
            median(ratios) if ratios else None,
            min(spread, default=None),
            max(spread, default=None),
            rows[0]["bar"],
            2 * sum(held) > len(held) if held else None,
            len(rows),
            median(unredacted) if unredacted else None,
            rows[0]["key"],
        )
        results.append(replace(result, holds=None) if result.is_noisy else result)
    return results


def print_bars(results: Sequence[Result]) -> None:
    """Print every row that has a bar, and whether it holds."""
    judged = [result for result in results if result.bar]
    if not judged:
        return
    table = [("what", "ours", "beside", "theirs", "unit", "ratio", "spread", "bar", "verdict")]
    table += [
        (
            each.name,
            f"{each.ours:.3g}",
            each.beside,
            "missing" if each.theirs is None else f"{each.theirs:.3g}",
            each.unit,
            "" if each.ratio is None else f"{each.ratio:.2f}x",
            "" if each.least is None else f"{each.least:.2f} to {each.most:.2f}",
            each.bar,
            each.verdict,
        )
        for each in judged
    ]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    print(f"The bars, medians of {max(each.runs for each in judged)} runs\n")
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def machine() -> dict[str, Any]:
    """Return what the figures were measured on, and with which versions."""
    versions: dict[str, str] = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "versions": versions,
    }


def write(results: Sequence[Result], profiles: dict[str, dict[str, float]], directory: Path) -> None:
    """Write all results, the profiles of missed rows, and what they were measured on, to `results.json` there."""
    directory.mkdir(parents=True, exist_ok=True)
    whole = {
        "machine": machine(),
        "results": [asdict(result) for result in results],
        "profiles": profiles,
    }
    (directory / "results.json").write_text(json.dumps(whole, indent=1) + "\n")


@dataclass(frozen=True)
class Saved:
    """What `results.json` holds."""

    machine: dict[str, Any]
    results: list[Result]
    profiles: dict[str, dict[str, float]]


def read(directory: Path) -> Saved:
    """Return what was written to `results.json` there."""
    whole = json.loads((directory / "results.json").read_text())
    found = [Result(**each) for each in whole["results"]]
    return Saved(whole["machine"], found, whole.get("profiles", {}))
