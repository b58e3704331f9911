"""Ledger and LedgerSnapshot: counts that add up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nat_observability.delivery.ledger import Ledger, LedgerSnapshot, total

counts = st.integers(0, 10**9)
snapshots = st.builds(
    LedgerSnapshot,
    counts,
    counts,
    counts,
    counts,
    st.dictionaries(st.sampled_from(["queue_full", "closed"]), counts),
)


def test_g5_a_dropped_item_is_no_longer_pending() -> None:
    """Dropping moves an item from pending to its reason."""
    ledger = Ledger()
    ledger.accepted = ledger.pending = 3
    ledger.drop("queue_full", 1)
    ledger.drop("queue_full", 1)
    ledger.drop("closed", 1)
    assert ledger.snapshot() == LedgerSnapshot(3, 0, 0, 0, {"queue_full": 2, "closed": 1})
    assert ledger.snapshot().adds_up


def test_g5_a_lost_item_shows() -> None:
    """Pending is counted on its own: if an item gets lost, the counts do not add up."""
    assert LedgerSnapshot(accepted=3, delivered=1, failed=1, pending=1).adds_up
    assert not LedgerSnapshot(accepted=3, delivered=1, failed=1).adds_up
    assert not LedgerSnapshot(accepted=1, dropped={"closed": 2}).adds_up


def test_a_snapshot_is_of_its_moment() -> None:
    """Later counts change no earlier snapshot."""
    ledger = Ledger()
    ledger.accepted = ledger.pending = 2
    ledger.drop("closed", 1)
    before = ledger.snapshot()
    ledger.drop("closed", 1)
    assert before.dropped == {"closed": 1}


@given(st.lists(snapshots))
def test_total_is_the_sum_by_field_and_reason(each: list[LedgerSnapshot]) -> None:
    """Adding snapshots adds each count, and keeps the reasons apart; the parts are unchanged."""
    before = [dict(snapshot.dropped) for snapshot in each]
    whole = total(each)
    assert whole.accepted == sum(snapshot.accepted for snapshot in each)
    assert whole.delivered == sum(snapshot.delivered for snapshot in each)
    assert whole.failed == sum(snapshot.failed for snapshot in each)
    assert whole.pending == sum(snapshot.pending for snapshot in each)
    for reason in ("queue_full", "closed"):
        assert whole.dropped.get(reason, 0) == sum(snapshot.dropped.get(reason, 0) for snapshot in each)
    assert [snapshot.dropped for snapshot in each] == before
    assert total({str(number): snapshot for number, snapshot in enumerate(each)}) == whole


def test_g5_sums_add_up_if_their_parts_do() -> None:
    """The process's ledger adds up when each exporter's does."""
    parts = [LedgerSnapshot(5, 1, 1, 1, {"closed": 2}), LedgerSnapshot(3, 3)]
    assert total(parts).adds_up
