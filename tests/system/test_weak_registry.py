"""WeakRegistry: what it knows, and for how long."""

from __future__ import annotations

import sys
import threading
import tracemalloc

from nat_observability.system.weak_registry import WeakRegistry


class One:
    """An object to keep or to drop."""


def test_live_objects_are_known_once() -> None:
    """Also if one is added again; it goes when its last reference does."""
    alive: WeakRegistry[One] = WeakRegistry()
    first, second = One(), One()
    for each in (first, second, first):
        alive.add(each)
    assert set(alive.all()) == {first, second}
    assert len(alive.all()) == 2
    del first, each
    assert alive.all() == [second]


def test_what_is_gone_takes_no_room() -> None:
    """However many come and go, nothing of them stays, not even their registry entries."""
    alive: WeakRegistry[One] = WeakRegistry()
    tracemalloc.start()
    try:
        for _ in range(10_000):
            alive.add(One())
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert left < 10_000


def test_one_may_be_added_while_another_thread_looks() -> None:
    """And let go of: neither raises, and what is kept is never missed."""
    alive: WeakRegistry[One] = WeakRegistry()
    kept = [One() for _ in range(100)]
    for each in kept:
        alive.add(each)
    going_on = True

    def come_and_go() -> None:
        while going_on:
            alive.add(One())

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        for _ in range(200):
            assert set(kept) <= set(alive.all())
    finally:
        going_on = False
        thread.join()
        sys.setswitchinterval(interval)
