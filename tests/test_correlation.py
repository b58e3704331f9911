"""The ids of run, trace and span in an application's own log lines."""

from __future__ import annotations

import io
import logging
import threading
from typing import Any

import structlog

from nat_observability import step
from nat_observability.context import ContextState
from nat_observability.correlation import RunIdFilter, add_run_ids


def line(**given: Any) -> dict[str, Any]:
    """What the processor makes of a line."""
    return dict(add_run_ids(None, "info", {"event": "hello", **given}))


def test_a_line_of_structlog_has_the_ids_of_run_trace_and_span() -> None:
    """Of the innermost step; outside every run a line is left alone."""
    assert line() == {"event": "hello"}
    state = ContextState(run_id="r-1")
    with state.attach():
        ids = {"run_id": "r-1", "trace_id": state.run.trace_id}
        assert line() == {"event": "hello", **ids}
        with step("tool", "outer") as outer:
            assert line() == {"event": "hello", **ids, "span_id": outer.step_id}
            with step("tool", "inner") as inner:
                assert line()["span_id"] == inner.step_id != outer.step_id
            assert line()["span_id"] == outer.step_id
        assert line(run_id="mine", span_id="mine") == {**line(), "run_id": "mine", "span_id": "mine"}


def test_it_is_a_processor_of_structlog() -> None:
    """In the chain of an application."""
    written: list[Any] = []

    def keep(logger: Any, name: str, event: Any) -> Any:
        written.append(dict(event))
        raise structlog.DropEvent

    logger = structlog.wrap_logger(None, processors=[add_run_ids, keep])
    with ContextState(run_id="r-1").attach(), step("tool", "t"):
        logger.info("hello")
    assert sorted(written[0]) == ["event", "run_id", "span_id", "trace_id"]


def test_a_record_of_logging_has_them_too() -> None:
    """Always, so that a format may name them; a child logger's records as well, and in the thread that logs."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s %(run_id)s/%(span_id)s"))
    handler.addFilter(RunIdFilter())
    logger = logging.getLogger("tests.correlation.shop")
    logger.propagate = False
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        child = logging.getLogger("tests.correlation.shop.tea")
        child.info("before")
        with ContextState(run_id="r-1").attach(), step("tool", "t") as current:
            child.info("inside")
            child.info("given", extra={"run_id": "mine"})
            thread = threading.Thread(target=child.info, args=("thread",))
            thread.start()
            thread.join()
    finally:
        logger.removeHandler(handler)
    assert stream.getvalue().splitlines() == [
        "before /",
        f"inside r-1/{current.step_id}",
        f"given mine/{current.step_id}",
        "thread /",
    ]
