"""KeyRanges: it holds what a set of the same keys holds."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from nat_observability.spool.key_ranges import KeyRanges, runs_of

bounds = st.tuples(st.integers(0, 30), st.integers(0, 30))


def keys_of(ranges: KeyRanges) -> list[int]:
    return [key for low, high in ranges for key in range(low, high)]


@given(st.lists(st.tuples(st.sampled_from(["add", "remove"]), bounds), max_size=20))
def test_holds_what_a_set_holds(changes: list[tuple[str, tuple[int, int]]]) -> None:
    """After any additions and removals, it has the members of a set, in order, in as few ranges as possible."""
    ranges, model = KeyRanges(), set[int]()
    for change, (low, high) in changes:
        if change == "add":
            ranges.add(low, high)
            model.update(range(low, high))
        else:
            ranges.remove(low, high)
            model.difference_update(range(low, high))
        assert keys_of(ranges) == sorted(model)
        assert list(ranges) == runs_of(model)


@given(st.sets(st.integers(0, 30)))
def test_runs_are_the_keys_in_order(keys: set[int]) -> None:
    """The runs hold each key once, and no two of them touch."""
    runs = runs_of(keys)
    assert [key for low, high in runs for key in range(low, high)] == sorted(keys)
    assert all(before[1] < after[0] for before, after in pairwise(runs))
