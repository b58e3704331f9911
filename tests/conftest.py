"""What every test is checked for: nothing outlives it, and nothing blocks an event loop."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from unittest.mock import patch

import pytest
import pytest_asyncio
import structlog
from blockbuster import BlockingError, blockbuster_ctx
from hypothesis import HealthCheck, settings

from nat_observability.stream import EventStream
from nat_observability.testing import wait_until

_THREADS_END_WITHIN = 10.0  # seconds

# How long an example takes, or its making, is the machine's affair: no test asserts a time.
settings.register_profile("no deadline", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no deadline")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "may_leave_tasks: what a naive or stuck exporter leaves behind is no failure"
    )
    config.addinivalue_line("markers", "may_block: the test blocks an event loop on purpose")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name no parameter by its address: every worker has to find the same tests."""
    return f"{argname}-{type(val).__name__}" if " at 0x" in repr(val) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.fixturenames.insert(
                item.fixturenames.index("nothing_is_left_behind") + 1, "no_task_is_left_behind"
            )


def pytest_collection_finish() -> None:
    # What exists now is never looked at again, neither by the collector nor by the search for subscriptions.
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """A thread, a task, a subscription or an unheard error of a task that outlives its test fails it."""
    before = set(threading.enumerate())
    subscribed_before = _subscribed()
    with _AsyncioErrors() as errors:
        yield
        if _may_leave_tasks(request):
            gc.collect()  # so that what asyncio reports about them comes now, and not in a later test
    # Once configured, by structlog's own `capture_logs` for example, it would print every line of the tests to come.
    structlog.reset_defaults()
    # The delivery ends its threads in the background, when they have written what they were given.
    with suppress(TimeoutError):
        wait_until(lambda: not set(threading.enumerate()) - before, timeout=_THREADS_END_WITHIN)
    left = set(threading.enumerate()) - before
    assert not left, f"threads were left behind: {left}"
    if not _may_leave_tasks(request):
        if len(_subscribed()) > len(subscribed_before):
            gc.collect()  # a test's own closures may be a cycle
        subscribed = [stream for stream in _subscribed() if stream not in subscribed_before]
        assert not subscribed, f"subscriptions were left behind: {subscribed}"
        assert not errors.lines, f"asyncio reported: {errors.lines}"


@pytest_asyncio.fixture
async def no_task_is_left_behind(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """A task that outlives its test, which ran on the same loop, fails it."""
    yield
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left or _may_leave_tasks(request), f"tasks were left behind: {left}"
    await asyncio.get_running_loop().shutdown_default_executor()  # the threads of asyncio.to_thread


@pytest.fixture(autouse=True)
def nothing_blocks(request: pytest.FixtureRequest) -> Iterator[None]:
    """A blocking call that this package makes on an event loop raises, and fails the test where that is caught."""
    if request.node.get_closest_marker("may_block"):
        yield
        return
    calls: list[str] = []

    def note(error: BlockingError, call: str) -> None:
        calls.append(call)
        Exception.__init__(error, f"Blocking call to {call}")

    with patch.object(BlockingError, "__init__", note), blockbuster_ctx("nat_observability") as blockbuster:
        for function in blockbuster.functions.values():
            # Where a line of the log goes is for the application to say.
            function.can_block_in("logging/__init__.py", "callHandlers")
        yield
    assert not calls, f"blocking calls on an event loop: {calls}"


class _AsyncioErrors(logging.Handler):
    """Collects what asyncio logs as an error: a task that was destroyed, an exception that nobody looked at."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    def __enter__(self) -> _AsyncioErrors:
        logging.getLogger("asyncio").addHandler(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        logging.getLogger("asyncio").removeHandler(self)


def _may_leave_tasks(request: pytest.FixtureRequest) -> bool:
    return request.node.get_closest_marker("may_leave_tasks") is not None


def _subscribed() -> list[EventStream]:
    return [each for each in gc.get_objects() if type(each) is EventStream and each.listeners]
