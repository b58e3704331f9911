"""DeliveryLimits: an invalid limit is refused when it is set."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nat_observability.delivery.limits import DeliveryLimits

COUNTS = [
    "queue_items",
    "queue_bytes",
    "batch_items",
    "batch_bytes",
    "batches_in_flight",
    "breaker_failures",
    "spool_bytes",
]
SECONDS = ["batch_age", "retry_for", "drain_timeout"]
POSITIVE = ["open_timeout", "write_timeout", "retry_initial", "retry_max", "breaker_open_for", "spool_age"]


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", [0, -1, 1.5, "5", True, None])
def test_a_count_is_a_whole_number_of_at_least_one(name: str, value: Any) -> None:
    """Anything else is refused by name, and the message says what is allowed."""
    with pytest.raises(ValueError, match=f"^{name} is a whole number of at least 1, not {value!r}"):
        DeliveryLimits(**{name: value})


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("value", [-0.1, math.nan, "5", True, None])
def test_seconds_are_not_negative(name: str, value: Any) -> None:
    """Anything else is refused by name."""
    with pytest.raises(ValueError, match=f"^{name} is a number of seconds, 0 or more, not"):
        DeliveryLimits(**{name: value})


@pytest.mark.parametrize("name", POSITIVE)
@pytest.mark.parametrize("value", [0, -1, math.nan, "5"])
def test_some_seconds_are_above_zero(name: str, value: Any) -> None:
    """A wait or a try of zero seconds would have no effect."""
    with pytest.raises(ValueError, match=f"^{name} is a number of seconds above 0, not"):
        DeliveryLimits(**{name: value})


@pytest.mark.parametrize("name", ["queue_policy", "spool"])
def test_a_choice_is_one_of_those_there_are(name: str) -> None:
    """The message names the choices."""
    with pytest.raises(ValueError, match=f"^{name} is one of '.*', not 'sometimes'"):
        DeliveryLimits(**{name: "sometimes"}, spool_path=Path("spool"))  # type: ignore[arg-type]


def test_a_batch_above_the_queue_is_refused() -> None:
    """It would never be full: both are named."""
    with pytest.raises(ValueError, match=r"batch_items \(100\) is above queue_items \(10\)"):
        DeliveryLimits(batch_items=100, queue_items=10)
    with pytest.raises(ValueError, match="above queue_items"):
        msgspec.structs.replace(DeliveryLimits(batch_items=100), queue_items=10)


def test_a_small_queue_makes_the_default_batch_smaller() -> None:
    """A user who sets only the queue need not set the batch size too."""
    assert DeliveryLimits(queue_items=10).batch_items == 10
    assert DeliveryLimits(queue_items=10_000).batch_items == 512


def test_the_least_that_is_allowed_is_taken() -> None:
    """Every bound is inclusive."""
    least: dict[str, Any] = {
        **dict.fromkeys(COUNTS, 1),
        **dict.fromkeys(SECONDS, 0),
        **dict.fromkeys(POSITIVE, 1e-9),
    }
    limits = DeliveryLimits(**least)
    assert {name: getattr(limits, name) for name in least} == least
