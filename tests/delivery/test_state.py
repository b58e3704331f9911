"""The state of a delivery: who is told, and when, that its sink could not be opened."""

from __future__ import annotations

from nat_observability.delivery.state import DeliveryState, State


def test_waiters_are_told_of_a_failure_when_the_delivery_is_at_rest() -> None:
    """Told earlier, a run could end, and be reported, before what it recorded was counted as lost."""
    state = State("search")
    hold = state.hold(keep=False)
    opening = hold.opening
    assert opening is not None
    state.begin(hold)
    problem = ConnectionError("refused")
    assert not state.not_opened(problem)
    assert not opening.done()
    state.finish(DeliveryState.FAILED, problem)
    assert opening.exception() is problem


def test_waiters_are_told_of_a_failure_at_once_if_it_is_tried_again() -> None:
    """A runtime holds it: it goes on without the sink, which is opened in the background."""
    state = State("search")
    hold = state.hold(keep=True)
    opening = hold.opening
    assert opening is not None
    state.begin(hold)
    problem = ConnectionError("refused")
    assert state.not_opened(problem)
    assert opening.done()
    assert opening.exception() is problem
    assert state.phase is DeliveryState.REOPENING


def test_nobody_waits_for_a_delivery_that_died_while_a_runtime_held_it() -> None:
    """A lease begins it again, and has nothing to wait for: the runtime has waited before the first run."""
    state = State("search")
    kept = state.hold(keep=True)
    state.begin(kept)
    state.opened()
    state.finish(DeliveryState.FAILED, RuntimeError("cancelled"))
    run = state.hold(keep=False)
    assert state.starts(run)
    state.begin(run)
    later = state.hold(keep=False)
    assert (run.opening, later.opening, state.starts(later)) == (None, None, False)
    state.give_back(kept)
    assert state.hold(keep=False).opening is not None


def test_who_need_not_wait_is_told_that_no_loop_could_be_started() -> None:
    """By the error, at once."""
    state = State("search")
    kept = state.hold(keep=True)
    state.begin(kept)
    state.opened()
    state.finish(DeliveryState.FAILED, RuntimeError("cancelled"))
    run, problem = state.hold(keep=False), RuntimeError("no thread")
    assert run.opening is not None
    state.refused(problem)
    state.finish(DeliveryState.FAILED, problem)
    assert run.opening.exception() is problem
