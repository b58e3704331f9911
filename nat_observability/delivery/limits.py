"""DeliveryLimits: the bounds of a delivery, in items, bytes and seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from nat_observability.delivery.queue import QueuePolicy

SpoolMode = Literal["off", "spill", "always"]
"""Whether items go to disk: never, when the queue fills or the process ends, or each before it is sent."""


class DeliveryLimits(msgspec.Struct, frozen=True, kw_only=True):
    """
    The bounds of a delivery. Counts are in items, sizes in bytes, times in seconds.

    Attributes:
        queue_items: Most items that wait in memory.
        queue_bytes: Most bytes of items in memory, waiting or being written.
        queue_policy: What happens to an item for which there is no room.
        batch_items: Most items in a batch.
        batch_bytes: Most bytes in a batch; a larger item goes alone.
        batch_age: How long an item waits for others before it is written.
        batches_in_flight: Most batches that are written at the same time; a blocking sink writes one.
        run_bytes: Most bytes of the items of one run, as they were recorded; None for any number.
        chunk_bytes: Most bytes of chunks that are kept for the open steps of one run, to be joined when they end.
        open_timeout: For opening the sink.
        write_timeout: For one try at writing one batch.
        retry_initial: Upper limit of the first wait between two tries; it doubles with each further try.
        retry_max: Upper limit of every wait.
        retry_for: How long a batch is tried; after that it has failed, or stays in the spool. 0 tries once.
        breaker_failures: So many failed tries in a row open the circuit breaker.
        breaker_open_for: How long an open breaker lets nothing through, before one batch probes the back end.
        drain_timeout: For the drain at interpreter exit.
        spool: Whether items go to disk.
        spool_path: The spool's directory, which belongs to this delivery alone.
        spool_bytes: Most bytes in the spool; the oldest items are dropped and counted.
        spool_age: How long an item stays in the spool; None for ever.
    """

    queue_items: int = 8192
    queue_bytes: int = 64 * 1024 * 1024
    queue_policy: QueuePolicy = "drop_newest"
    batch_items: int = 512
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
