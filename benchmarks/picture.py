"""draw() and draw_growth(): the ratios to every peer as one picture, and how cost grows as another."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.results import Result

_RATES = ("/s",)


def _pyplot() -> Any:
    """Return matplotlib's interface, an option of the benchmarks' own environment; None if it is not installed."""
    if find_spec("matplotlib") is None:
        print("matplotlib is not installed: there is no picture. Cure: make bench")
        return None
    importlib.import_module("matplotlib").use("svg")
    return importlib.import_module("matplotlib.pyplot")


def draw(results: Sequence[Result], directory: Path) -> None:
    """Write `results.svg`: how many times cheaper, or faster, we are than what we stand beside, with the spread."""
    shown = [each for each in results if each.bar and each.ratio and each.least and each.most]
    pyplot = _pyplot()
    if pyplot is None or not shown:
        return
    figure, axes = pyplot.subplots(figsize=(10, 0.32 * len(shown) + 1.2), layout="constrained")
    colours = {"held": "tab:green", "missed": "tab:red"}
    for place, each in enumerate(reversed(shown)):
        times, low, high = (_times_better(each.unit, ratio) for ratio in (each.ratio, each.least, each.most))
        axes.barh(place, times, color=colours.get(each.verdict, "tab:grey"), alpha=0.8)
        axes.plot([low, high], [place, place], color="black", linewidth=1)
    axes.set_yticks(
        range(len(shown)), [f"{each.name}\nbeside {each.beside}" for each in reversed(shown)], fontsize=7
    )
    axes.set_xscale("log")
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set_xlabel(
        "times better than what it stands beside; green where the bar holds, grey where there is no verdict"
    )
    figure.savefig(directory / "results.svg", metadata={"Date": None})
    pyplot.close(figure)


def draw_growth(scales: dict[str, dict[int, float]], directory: Path) -> None:
    """Write `growth.svg`: the cost of one by how many there are, each scale beside its own start; flat is linear."""
    pyplot = _pyplot()
    if pyplot is None or not scales:
        return
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for name, figures in scales.items():
        first = next(iter(figures.values()))
        axes.plot(
            list(figures), [each / first for each in figures.values()], marker="o", markersize=3, label=name
        )
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("how many")
    axes.set_ylabel("cost of one, beside the smallest size")
    axes.legend(fontsize=7)
    figure.savefig(directory / "growth.svg", metadata={"Date": None})
    pyplot.close(figure)


def _times_better(unit: str, ratio: float | None) -> float:
    value = ratio or 1.0
    return value if unit.endswith(_RATES) else 1 / value
