"""LoopSink: writes on the application's loop, and never waits for a loop that waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pytest
from dependency_injector import providers

from nat_observability import ContextState, DeliveryLimits, Span, SpanExporter, step
from nat_observability.containers import ObservabilityContainer, observability
from nat_observability.errors import RetryableWriteError
from nat_observability.sinks import LoopSink, Sink
from nat_observability.testing import until

_marked: ContextVar[str] = ContextVar("_marked", default="clean")


class Client:
    """A client that belongs to the loop it was made in."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.names: list[str] = []
        self.contexts: set[str] = set()
        self.cancelled = 0
        self.fails: list[BaseException] = []
        self.holds: asyncio.Event | None = None

    async def write(self, batch: list[Span]) -> None:
        """Take a batch."""
        assert asyncio.get_running_loop() is self.loop
        self.contexts.add(f"{_marked.get()}, run {ContextState.current()}")
        try:
            if self.holds is not None:
                await self.holds.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.fails:
            raise self.fails.pop()
        self.names += [span.name for span in batch]


def container_of(sink: object, **limits: Any) -> ObservabilityContainer:
    """A container with one exporter on this sink, which tries again at once."""
    assert isinstance(sink, Sink)
    limits = {
        "batch_age": 0.001,
        "retry_initial": 0.001,
        "retry_max": 0.001,
        "breaker_open_for": 0.001,
        **limits,
    }
    exporter = SpanExporter(sink, name="loop", limits=DeliveryLimits(**limits))
    container = ObservabilityContainer()
    container.exporters.override(providers.Object({"main": exporter}))
    return container


async def recorded(container: ObservabilityContainer, *names: str) -> None:
    """Record some steps in a run, with something in the context."""
    _marked.set("marked")
    async with container.exporter_manager().start(ContextState()):
        for name in names:
            with step("tool", name):
                pass


def ledger_of(container: ObservabilityContainer) -> Any:
    """What became of the items."""
    health = container.runtime_object().health().exporters["main"]
    assert health is not None
    return health.ledger


async def test_it_writes_on_the_loop_in_a_clean_context() -> None:
    """And everything else is as with any sink: it is drained by the shutdown that the loop awaits."""
    client = Client()
    container = container_of(LoopSink(client.write))
    await container.init_resources()
    await recorded(container, "tea", "milk")
    await container.shutdown_resources()
    assert sorted(client.names) == ["milk", "tea"]
    assert client.contexts == {"clean, run None"}
    assert ledger_of(container).delivered == 2


class UnavailableError(Exception):
    """What a client raises while its server restarts."""


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (RetryableWriteError("soon"), "delivered"),
        (OSError("reset"), "delivered"),
        (TimeoutError("its own"), "delivered"),
        (UnavailableError("restarts"), "delivered"),
        (asyncio.CancelledError(), "delivered"),
        (ValueError("never"), "failed"),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, BaseException) else each,
)
async def test_what_the_client_raises(error: BaseException, outcome: str) -> None:
    """What may pass is tried again, with `retry_on` for the client's own errors; anything else is final."""
    client = Client()
    client.fails.append(error)
    container = container_of(LoopSink(client.write, retry_on=UnavailableError))
    await container.init_resources()
    await recorded(container, "tea")
    await until(lambda: getattr(ledger_of(container), outcome) == 1)
    await container.shutdown_resources()


async def test_a_write_that_takes_too_long_is_cancelled_and_tried_again() -> None:
    """So that a client that hangs does not hold the delivery."""
    client = Client()
    client.holds = asyncio.Event()
    container = container_of(LoopSink(client.write, timeout=0.01))
    await container.init_resources()
    await recorded(container, "tea")
    await until(lambda: client.cancelled >= 2)
    client.holds.set()
    await until(lambda: ledger_of(container).delivered == 1)
    await container.shutdown_resources()
    assert client.names == ["tea"]


@pytest.mark.may_block  # what this is about
async def test_a_loop_that_is_blocked_gets_no_write_twice() -> None:
    """A write that the loop had no time to begin is given up; it is not executed later."""
    client, tried = Client(), threading.Event()
    sink = LoopSink(client.write, timeout=0.01)

    class Noting:
        async def open(self) -> None:
            pass

        async def write(self, batch: Any) -> int | None:
            try:
                return await sink.write(batch)
            except RetryableWriteError:
                tried.set()
                raise

        async def close(self) -> None:
            pass

    container = container_of(Noting())
    await container.init_resources()
    await recorded(container, "tea")
    assert tried.wait(10)  # blocks the loop
    await until(lambda: ledger_of(container).delivered == 1)
    await container.shutdown_resources()
    assert client.names == ["tea"]


@pytest.mark.may_block  # what this is about
async def test_a_synchronous_shutdown_on_the_loop_does_not_wait_for_it() -> None:
    """The items fail at once, with the cure, instead of after the timeouts of writes and shutdown."""
    client = Client()
    container = container_of(LoopSink(client.write, timeout=1000.0), batch_age=1000.0, write_timeout=1000.0)
    with observability(container=container), step("tool", "tea"):
        pass
    ledger = ledger_of(container)
    assert (ledger.failed, ledger.accepted, client.names) == (1, 1, [])
    health = container.runtime_object().health().exporters["main"]
    assert health is not None
    assert "waits for the exporters in synchronous code: await them" in str(health.last_error)


@contextmanager
def loop_in_a_thread() -> Iterator[Callable[[], asyncio.AbstractEventLoop]]:
    """A loop that runs in a thread of its own, and is stopped and closed at the end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield lambda: loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def made(loop: asyncio.AbstractEventLoop) -> Client:
    """A client that belongs to another loop."""

    async def make() -> Client:
        return Client()

    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(make(), loop))


async def test_another_threads_loop_and_a_loop_that_ends() -> None:
    """A closed loop makes writes retryable; `bind` gives the sink another one."""
    with loop_in_a_thread() as loop:
        first = await made(loop())
        sink = LoopSink(first.write, loop=loop())
        container = container_of(sink)
        await container.init_resources()
        await recorded(container, "tea")
        await until(lambda: first.names == ["tea"])
    await recorded(container, "milk")
    await until(lambda: "is closed: drain the exporters" in str(_last_error(container)))
    assert ledger_of(container).pending == 1
    with loop_in_a_thread() as loop:
        first.loop = loop()
        sink.bind(loop())
        await until(lambda: ledger_of(container).delivered == 2)
        await container.shutdown_resources()


def _last_error(container: ObservabilityContainer) -> str | None:
    health = container.runtime_object().health().exporters["main"]
    return None if health is None else health.last_error


async def test_a_stopped_loop_and_none() -> None:
    """Both are said in words, at once."""
    stopped = asyncio.new_event_loop()
    try:
        for sink, problem in (
            (LoopSink(_nothing, loop=stopped), "is not running: drain the exporters before it stops"),
            (await asyncio.to_thread(LoopSink, _nothing), "is not known: make the sink in a coroutine"),
        ):
            with pytest.raises(RetryableWriteError, match=problem):
                await sink.write([])
    finally:
        stopped.close()
    with pytest.raises(RuntimeError, match=r"bind\(\) needs an event loop"):
        await asyncio.to_thread(sink.bind)


async def _nothing(batch: object) -> None:
    """A write."""


async def test_wrong_arguments() -> None:
    """They are refused when the sink is made."""

    async def generator(batch: object) -> Any:
        yield batch

    for write in (None, generator):
        with pytest.raises(TypeError, match="write is a coroutine function"):
            LoopSink(write)  # type: ignore[arg-type]
    for timeout in (0.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="timeout is a positive number"):
            LoopSink(_nothing, timeout=timeout)
    for options, message in (
        ({"timeout": "10"}, "timeout is a positive number"),
        ({"loop": "main"}, "loop is an event loop, not 'main'"),
        ({"retry_on": "ConnectionError"}, "retry_on is a class of exceptions"),
        ({"retry_on": (OSError, 503)}, "retry_on is a class of exceptions"),
    ):
        wrong: Any = options
        with pytest.raises((TypeError, ValueError), match=message):
            LoopSink(_nothing, **wrong)
    with pytest.raises(TypeError, match="loop is an event loop, not 3"):
        LoopSink(_nothing).bind(3)  # type: ignore[arg-type]
