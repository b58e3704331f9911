"""medians_of(): the usual time of each contender, all of them measured in turns."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from statistics import median


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
