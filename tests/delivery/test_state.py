"""The state of a delivery: who is told, and when, that its sink could not be opened."""

from __future__ import annotations

from nat_observability.delivery.state import DeliveryState, State


def test_waiters_are_told_of_a_failure_when_the_delivery_is_at_rest() -> None:
    """Told earlier, a run could end, and be reported, before what it recorded was counted as lost."""
    state = State("search")
    opening = state.hold(keep=False).opening
    assert opening is not None
    state.begin()
    problem = ConnectionError("refused")
    assert not state.not_opened(problem)
    assert not opening.done()
    state.finish(DeliveryState.FAILED, problem)
    assert opening.exception() is problem


def test_waiters_are_told_of_a_failure_at_once_if_it_is_tried_again() -> None:
    """A runtime holds it: it goes on without the sink, which is opened in the background."""
    state = State("search")
    opening = state.hold(keep=True).opening
    assert opening is not None
    state.begin()
    problem = ConnectionError("refused")
    assert state.not_opened(problem)
    assert opening.done()
    assert opening.exception() is problem
    assert state.phase is DeliveryState.REOPENING
