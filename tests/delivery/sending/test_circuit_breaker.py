"""CircuitBreaker: opens, probes, closes; on a clock of the test's own."""

from __future__ import annotations

import pytest

from nat_observability.delivery.sending.circuit_breaker import BreakerState, CircuitBreaker


class Clock:
    """Seconds that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opened(clock: Clock, *, failures: int = 3, open_for: float = 10.0) -> CircuitBreaker:
    breaker = CircuitBreaker(failures, open_for, clock)
    for _ in range(failures):
        breaker.failed()
    assert breaker.state is BreakerState.OPEN
    return breaker


def test_g12_opens_after_failures_in_a_row(clock: Clock) -> None:
    """The last failure in a row opens it, and only that call reports it."""
    breaker = CircuitBreaker(3, 10.0, clock)
    assert [breaker.failed() for _ in range(4)] == [False, False, True, False]
    assert breaker.wait() == 10.0


def test_g12_a_success_in_between_starts_the_count_over(clock: Clock) -> None:
    """Only failures in a row count."""
    breaker = CircuitBreaker(3, 10.0, clock)
    for _ in range(5):
        breaker.failed()
        breaker.failed()
        breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED
    assert breaker.wait() == 0.0


def test_g12_lets_one_probe_through(clock: Clock) -> None:
    """When the time is over, the first caller goes through; the others wait for the outcome."""
    breaker = opened(clock)
    clock.now += 9.9
    assert breaker.wait() == pytest.approx(0.1)
    clock.now += 0.1
    assert breaker.wait() == 0.0
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.wait() > 0
    clock.now += 1000  # the probe takes its time
    assert breaker.wait() > 0


def test_g12_a_successful_probe_closes(clock: Clock) -> None:
    """After it every caller goes through, and it takes a whole row of failures to open it again."""
    breaker = opened(clock)
    clock.now += 10
    breaker.wait()
    assert breaker.succeeded()
    assert not breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED
    assert [breaker.wait() for _ in range(3)] == [0.0, 0.0, 0.0]
    assert [breaker.failed() for _ in range(3)] == [False, False, True]


def test_g12_a_failed_probe_opens_for_as_long_again(clock: Clock) -> None:
    """One failure is enough then, and it is not reported again."""
    breaker = opened(clock)
    clock.now += 10
    breaker.wait()
    assert not breaker.failed()
    assert breaker.state is BreakerState.OPEN
    assert breaker.wait() == 10.0


def test_waits_are_never_so_short_that_a_caller_spins(clock: Clock) -> None:
    """A wait of almost zero would make callers ask in a tight loop."""
    breaker = opened(clock)
    clock.now += 10 - 1e-9
    assert breaker.wait() >= 0.01


def test_g16_its_states_are_called_what_they_are_called_everywhere() -> None:
    """The names stand in the health of the runtime and in metrics: alerts depend on them."""
    assert [str(state) for state in BreakerState] == ["closed", "open", "half_open"]
