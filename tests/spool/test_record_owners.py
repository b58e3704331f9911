"""Owners: the owner of each record of the spool, at a small cost."""

from __future__ import annotations

import gc

from hypothesis import given
from hypothesis import strategies as st

from nat_observability.spool.record_owners import Owners


class Owner:
    """Any object that can be weakly referenced."""


@given(
    st.lists(
        st.one_of(st.tuples(st.integers(0, 12), st.integers(0, 2)), st.tuples(st.integers(0, 12), st.none()))
    )
)
def test_it_does_what_a_dict_does(calls: list[tuple[int, int | None]]) -> None:
    """The owner last set is known for every key, even one that was set and forgotten before."""
    people = [Owner(), Owner(), Owner()]
    owners, expected = Owners[Owner](), dict[int, Owner]()
    for key, owner in calls:
        if owner is None:
            assert owners.pop(key) is expected.pop(key, None)
        else:
            owners.add(key, people[owner])
            expected[key] = people[owner]
    for key in range(14):
        assert owners.pop(key) is expected.pop(key, None)
    assert len(owners) == 0


def test_a_run_of_keys_costs_one_entry() -> None:
    """A million keys of one owner cost what one does, also when the first of them are done, and put back."""
    owners, one = Owners[Owner](), Owner()
    for key in range(10_000):
        owners.add(key, one)
    for key in range(500):
        assert owners.pop(key) is one
    assert len(owners) == 1
    for key in range(500):
        owners.add(key, one)
    assert len(owners) == 1


def test_an_owner_without_a_reference_costs_nothing() -> None:
    """Owners that are gone are forgotten, and their keys have no owner."""
    owners, kept = Owners[Owner](), Owner()
    owners.add(0, kept)
    for key in range(1, 10_000):
        owners.add(key, Owner())
    gc.collect()
    assert len(owners) < 200
    assert owners.pop(9999) is None
    assert owners.pop(0) is kept
