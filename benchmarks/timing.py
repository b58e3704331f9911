"""How often and in which order things are measured: rounds(), in_turns() and medians of contenders in turns."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Sequence
from statistics import median

SHARE = "BENCHMARK_ROUNDS"
"""The variable with the share of the usual rounds that is measured: 0.2 is for a first look."""


def rounds(usual: int) -> int:
    """Return how many rounds are measured: the share that the environment asks for of the usual number, 3 at least."""
    return max(3, round(usual * float(os.environ.get(SHARE, "1"))))


def in_turns(rounds: int, *contenders: Callable[[], float], warm_up: bool = False) -> list[list[float]]:
    """Return what each contender took in each round, all of them in turns, so that all meet the same machine."""
    taken: list[list[float]] = [[] for _ in contenders]
    for number in range(rounds + warm_up):
        for figures, contender in zip(taken, contenders, strict=True):
            figure = contender()
            if number or not warm_up:
                figures.append(figure)
    return taken


def microseconds(seconds: Sequence[float]) -> list[float]:
    """Return the same in µs."""
    return [1e6 * each for each in seconds]


async def medians_of(rounds: int, times: int, *contenders: Callable[[], Awaitable[object]]) -> list[float]:
    """Return the median seconds per call of each contender, measured in turns, so that all meet the same machine."""
    taken: list[list[float]] = [[] for _ in contenders]
    for _ in range(rounds):
        for figures, contender in zip(taken, contenders, strict=True):
            began = time.perf_counter()
            for _ in range(times):
                await contender()
            figures.append((time.perf_counter() - began) / times)
    return list(map(median, taken))


def medians_of_calls(rounds: int, *contenders: Callable[[], object]) -> list[float]:
    """Return the median seconds of each plain function, measured in turns."""
    taken: list[list[float]] = [[] for _ in contenders]
    for _ in range(rounds):
        for figures, contender in zip(taken, contenders, strict=True):
            began = time.perf_counter()
            contender()
            figures.append(time.perf_counter() - began)
    return list(map(median, taken))
