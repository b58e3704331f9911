"""draw(): the ratios to every peer as one picture."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmarks.results import Result

_RATES = ("/s",)


def draw(results: Sequence[Result], directory: Path) -> None:
    """Write `results.svg`: how many times cheaper, or faster, we are than what we stand beside, with the spread."""
    if find_spec("matplotlib") is None:
        print("matplotlib is not installed: there is no picture. Cure: make bench")
        return
    # An option of the benchmarks' own environment.
    importlib.import_module("matplotlib").use("svg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    shown = [each for each in results if each.bar and each.ratio and each.least and each.most]
    if not shown:
        return
    figure, axes = pyplot.subplots(figsize=(10, 0.32 * len(shown) + 1.2), layout="constrained")
    for place, each in enumerate(reversed(shown)):
        times, low, high = (_times_better(each.unit, ratio) for ratio in (each.ratio, each.least, each.most))
        colour = "tab:green" if each.holds else "tab:red"
        axes.barh(place, times, color=colour, alpha=0.8)
        axes.plot([low, high], [place, place], color="black", linewidth=1)
    axes.set_yticks(
        range(len(shown)), [f"{each.name}\nbeside {each.beside}" for each in reversed(shown)], fontsize=7
    )
    axes.set_xscale("log")
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set_xlabel("times better than what it stands beside; green where the bar holds")
    figure.savefig(directory / "results.svg", metadata={"Date": None})
    pyplot.close(figure)


def _times_better(unit: str, ratio: float | None) -> float:
    value = ratio or 1.0
    return value if unit.endswith(_RATES) else 1 / value
