"""Checks on every test, besides the one for leaks: no error goes unnoticed, nothing blocks an event loop."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
import structlog
from blockbuster import BlockBuster, BlockingError
from hypothesis import HealthCheck, settings

from tests.random_waits import RandomWaits
from tests.thorough import THOROUGH
from tests.warm_interpreter import close_warm

# How long an example takes, or its making, is the machine's affair: no test asserts a time.
settings.register_profile(
    "ours",
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=not THOROUGH,
)
settings.load_profile("ours")

_TESTS_BETWEEN_FREEZES = 250
_ended = itertools.count(1)

_waits = RandomWaits(int(os.environ["TESTS_RANDOM_WAITS"])) if os.environ.get("TESTS_RANDOM_WAITS") else None

# Bytes that a temporary file system must have free to take what the tests write.
_ROOM = 2 << 30


def pytest_configure(config: pytest.Config) -> None:
    _keep_files_in_memory()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As a shell's background job begins, in which no test could interrupt itself or a program that it starts.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line(
        "markers", "may_leave_tasks: what a naive or stuck exporter leaves behind is not a failure"
    )
    config.addinivalue_line("markers", "may_block: the test blocks an event loop on purpose")


def _keep_files_in_memory() -> None:
    """Put temporary files where no write waits for a disk, unless the user has chosen a place for them."""
    memory = Path("/dev/shm")
    if "TMPDIR" not in os.environ and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > _ROOM:
        os.environ["TMPDIR"] = tempfile.tempdir = str(memory)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name no parameter by its address: every worker has to find the same tests."""
    return f"{argname}-{type(val).__name__}" if " at 0x" in repr(val) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("may_leave_tasks"):
            item.add_marker(pytest.mark.observability_may_leak("tasks", "subscriptions", "leases"))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    # What collecting makes stays: looking for garbage in it takes a tenth of the time.
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    _freeze()


@pytest.hookimpl(trylast=True)
def pytest_runtest_logfinish() -> None:
    if next(_ended) % _TESTS_BETWEEN_FREEZES == 0:
        _freeze()


def _freeze() -> None:
    """Spare the garbage collector, which tests run often, what imports have made and the reports that are kept."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    # What the tests have lost on purpose is summed up when this process ends.
    logging.getLogger("nat_observability").setLevel(logging.CRITICAL)
    close_warm()


@pytest.fixture(autouse=True)
def nothing_goes_unheard(request: pytest.FixtureRequest) -> Iterator[None]:
    """A task's error that was never retrieved fails the test."""
    may_leave_tasks = request.node.get_closest_marker("may_leave_tasks") is not None
    interrupt = signal.getsignal(signal.SIGINT)
    with _AsyncioErrors() as errors:
        yield
        if may_leave_tasks:
            gc.collect()  # so that what asyncio reports about them comes now, and not in a later test
    # Once configured, by structlog's own `capture_logs` for example, it would print every line of the tests to come.
    structlog.reset_defaults()
    assert signal.getsignal(signal.SIGINT) is interrupt, "a handler of SIGINT was left"
    assert may_leave_tasks or not errors.lines, f"asyncio reported: {errors.lines}"


class _BlockingCalls:
    """The blocking calls that this package makes on an event loop. Each raises, and is noted even if that is caught."""

    def __init__(self) -> None:
        self.noted: list[str] = []
        self._blockbuster = BlockBuster("nat_observability")
        for function in self._blockbuster.functions.values():
            # The application decides where a log line goes.
            function.can_block_in("logging/__init__.py", "callHandlers")
            function.can_block_in("coverage/collector.py", "lock_data")  # of `make coverage` itself
        noted = self.noted

        def note(error: BlockingError, call: str) -> None:
            noted.append(call)
            Exception.__init__(error, f"Blocking call to {call}")

        self._noting = patch.object(BlockingError, "__init__", note)
        self._are_watched = False

    def watch(self, wanted: bool) -> None:
        """Watch for them, or let them pass; that takes milliseconds, so it stays as it is from test to test."""
        if wanted and not self._are_watched:
            self._noting.start()
            self._blockbuster.activate()
        elif self._are_watched and not wanted:
            self._blockbuster.deactivate()
            self._noting.stop()
        self._are_watched = wanted


@pytest.fixture(scope="session")
def blocking_calls() -> Iterator[_BlockingCalls]:
    calls = _BlockingCalls()
    yield calls
    calls.watch(False)


@pytest.fixture(autouse=True)
def nothing_blocks(request: pytest.FixtureRequest, blocking_calls: _BlockingCalls) -> Iterator[None]:
    """A blocking call that this package makes on an event loop raises, and fails the test even if that is caught."""
    may_block = request.node.get_closest_marker("may_block") is not None
    blocking_calls.watch(not may_block)
    blocking_calls.noted.clear()
    yield
    assert not blocking_calls.noted, f"blocking calls on an event loop: {blocking_calls.noted}"


@pytest.fixture(autouse=True)
def waits_at_random() -> Iterator[None]:
    """With `TESTS_RANDOM_WAITS`, a seed, deliveries and spools wait at random moments."""
    if _waits is None:
        yield
        return
    _waits.install()
    yield
    _waits.remove()


class _AsyncioErrors(logging.Handler):
    """Collects what asyncio logs as an error: a task that was destroyed, an exception that was never retrieved."""

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
