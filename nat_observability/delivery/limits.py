"""DeliveryLimits: the bounds of a delivery, in items, bytes and seconds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal, get_args

import msgspec

QueuePolicy = Literal["drop_newest", "drop_oldest"]
"""Whether a full queue refuses new items, or drops old ones for them."""

SpoolMode = Literal["off", "spill", "always"]
"""When items go to disk: never, when the queue fills or the process ends, or each before it is sent."""

_BATCH_ITEMS = 512
_COUNTS = (
    "queue_items",
    "queue_bytes",
    "batch_items",
    "batch_bytes",
    "batches_in_flight",
    "breaker_failures",
    "spool_bytes",
    "run_bytes",
    "chunk_bytes",
)
_SECONDS = ("batch_age", "retry_for", "drain_timeout")
_POSITIVE_SECONDS = (
    "open_timeout",
    "write_timeout",
    "retry_initial",
    "retry_max",
    "breaker_open_for",
    "spool_age",
)


class DeliveryLimits(msgspec.Struct, frozen=True, kw_only=True):
    """
    The bounds of a delivery. Counts are in items, sizes in bytes, times in seconds.

    Attributes:
        queue_items: Most items that wait in memory.
        queue_bytes: Most bytes of items in memory, waiting or being written.
        queue_policy: What to do with an item that does not fit.
        batch_items: Most items in a batch; no more than the queue holds, which a small queue makes the default.
        batch_bytes: Most bytes in a batch; a larger item goes alone.
        batch_age: How long an item waits for others before it is written.
        batches_in_flight: Most batches that are written at the same time; a blocking sink writes one.
        run_bytes: Most bytes of the items of one run, as they were recorded; None for no limit.
        chunk_bytes: Most bytes of chunks that are kept for the open steps of one run, to be joined when they end.
        open_timeout: Timeout for opening the sink, and for closing it.
        write_timeout: Timeout for one try at writing one batch.
        retry_initial: Upper limit of the first wait between two tries; doubles with each further try.
        retry_max: Upper limit of every wait.
        retry_for: How long to retry a batch before it fails, or stays in the spool. 0 tries once.
        breaker_failures: So many failed tries in a row open the circuit breaker.
        breaker_open_for: How long an open breaker lets nothing through, before one batch probes the back end.
        drain_timeout: Timeout for the drain at interpreter exit.
        spool: When items go to disk.
        spool_path: The spool's directory, which belongs to this delivery alone.
        spool_bytes: Most bytes in the spool; the oldest items are dropped and counted.
        spool_age: How long an item stays in the spool; None for ever.

    Raises:
        ValueError: A value is out of its range, or does not fit another one.
    """

    queue_items: int = 8192
    queue_bytes: int = 64 * 1024 * 1024
    queue_policy: QueuePolicy = "drop_newest"
    batch_items: int = _BATCH_ITEMS
    batch_bytes: int = 4 * 1024 * 1024
    batch_age: float = 1.0
    batches_in_flight: int = 1
    run_bytes: int | None = None
    chunk_bytes: int = 16 * 1024 * 1024
    open_timeout: float = 10.0
    write_timeout: float = 30.0
    retry_initial: float = 1.0
    retry_max: float = 30.0
    retry_for: float = 300.0
    breaker_failures: int = 5
    breaker_open_for: float = 10.0
    drain_timeout: float = 120.0
    spool: SpoolMode = "off"
    spool_path: Path | None = None
    spool_bytes: int = 1024 * 1024 * 1024
    spool_age: float | None = None

    def __post_init__(self) -> None:
        for name in _COUNTS:
            count = getattr(self, name)
            if name == "run_bytes" and count is None:
                continue
            if type(count) is not int or count < 1:
                raise ValueError(f"{name} is a whole number of at least 1, not {count!r}.")
        for name in _SECONDS:
            if not _is_number(seconds := getattr(self, name)) or not seconds >= 0:
                raise ValueError(f"{name} is a number of seconds, 0 or more, not {seconds!r}.")
        for name in _POSITIVE_SECONDS:
            seconds = getattr(self, name)
            if name == "spool_age" and seconds is None:
                continue
            if not _is_number(seconds) or not seconds > 0:
                raise ValueError(f"{name} is a number of seconds above 0, not {seconds!r}.")
        for name, choices in (("queue_policy", get_args(QueuePolicy)), ("spool", get_args(SpoolMode))):
            if getattr(self, name) not in choices:
                allowed = ", ".join(map(repr, choices))
                raise ValueError(f"{name} is one of {allowed}, not {getattr(self, name)!r}.")
        if self.batch_items > self.queue_items:
            if self.batch_items != _BATCH_ITEMS:
                raise ValueError(
                    f"batch_items ({self.batch_items}) is above queue_items ({self.queue_items}): "
                    "no batch would ever be full. Lower the one or raise the other."
                )
            msgspec.structs.force_setattr(self, "batch_items", self.queue_items)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
