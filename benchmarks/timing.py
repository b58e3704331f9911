"""best_of(): the best time of each contender, all of them measured in turns."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable


async def best_of(rounds: int, times: int, *contenders: Callable[[], Awaitable[object]]) -> list[float]:
    """Return the best seconds per call of each contender, measured in turns, so that all meet the same machine."""
    best = [float("inf")] * len(contenders)
    for _ in range(rounds):
        for index, contender in enumerate(contenders):
            began = time.perf_counter()
            for _ in range(times):
                await contender()
            best[index] = min(best[index], (time.perf_counter() - began) / times)
    return best


def best_of_calls(rounds: int, *contenders: Callable[[], object]) -> list[float]:
    """Return the best seconds of each plain function, measured in turns."""
    best = [float("inf")] * len(contenders)
    for _ in range(rounds):
        for index, contender in enumerate(contenders):
            began = time.perf_counter()
            contender()
            best[index] = min(best[index], time.perf_counter() - began)
    return best
