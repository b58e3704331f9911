"""A sink that blocks the delivery thread is found out, and the other exporters go on."""

from __future__ import annotations

import threading

import pytest
from structlog.testing import capture_logs

from nat_observability.delivery.delivery import Delivery, delivery_thread
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.delivery.sink import Batch
from nat_observability.events import Boundary, IntermediateStep, Run, StepKind

LIMITS = DeliveryLimits(batch_age=0.001)
STEP = IntermediateStep(Run("r", "0" * 31 + "1"), StepKind.TOOL, Boundary.START, "a", "1", None, 0)
PATIENCE = 10.0


@pytest.mark.may_block
async def test_g8_a_sink_that_blocks_the_thread_holds_up_no_other_exporter() -> None:
    """While one sink blocks the delivery thread, another exporter's items are delivered; the first goes on later."""
    entered, let_go, arrived = threading.Event(), threading.Event(), threading.Event()

    async def blocks(batch: Batch) -> None:
        entered.set()
        let_go.wait(PATIENCE)  # on purpose: an asynchronous sink, written wrongly

    async def works(batch: Batch) -> None:
        arrived.set()

    thread = delivery_thread(blocked_after=0.1)
    bad = Delivery("bad", blocks, limits=LIMITS, loop_source=thread)
    good = Delivery("good", works, limits=LIMITS, loop_source=thread)
    held = [bad.lease(), good.lease()]
    try:
        with capture_logs() as lines:
            held[0].accept(STEP)
            assert entered.wait(PATIENCE)
            held[1].accept(STEP)
            assert arrived.wait(PATIENCE)
        assert [line["exporter"] for line in lines if line["event"] == "delivery_thread_blocked"] == ["bad"]
        assert bad.health().blocking
        assert not good.health().blocking
    finally:
        let_go.set()
        closing = [bad.close(), good.close()]
        for lease in held:
            lease.release()
        for closed in closing:
            closed.result(PATIENCE)
    assert bad.health().ledger.delivered == 1
    assert good.health().ledger.delivered == 1
