"""A container opened, closed, reset and overridden in every order: the table of docs/embedding.md, row by row."""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from dependency_injector import containers, providers
from structlog.testing import capture_logs

from nat_observability import ContextState, SpanExporter, step
from nat_observability.containers import ExporterBuilder, ObservabilityContainer
from nat_observability.errors import (
    AsynchronousProviderError,
    ExporterStartError,
    NoEventLoopError,
    UnknownExporterTypeError,
)
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter_manager import ExporterManager
from nat_observability.health import RuntimeState
from nat_observability.runtime import ObservabilityRuntime
from nat_observability.settings import ObservabilitySettings
from nat_observability.sinks.protocol import Batch
from nat_observability.testing import until
from tests import wired
from tests.processes import run_program

_ROOT = Path(__file__).parents[2]
_PAGE = (_ROOT / "docs" / "embedding.md").read_text()

Scenario = Callable[[], Awaitable[None]]
SCENARIOS: dict[str, Scenario] = {}


def configured(name: str) -> ObservabilitySettings:
    """Settings with one exporter of this name."""
    return ObservabilitySettings(exporters={name: {"type": "memory"}})


def row(text: str) -> Callable[[Scenario], Scenario]:
    """Register a scenario under the first cell of its row."""

    def register(scenario: Scenario) -> Scenario:
        SCENARIOS[text] = scenario
        return scenario

    return register


def rows() -> list[str]:
    """The first cells of the table."""
    section = _PAGE.partition("\n## In any order\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [line.strip("|").split("|")[0].strip() for line in lines[2:]]


class Taking:
    """A sink that counts what it takes, and can be made to hang or fail."""

    def __init__(self) -> None:
        self.taken = 0
        self.hangs: asyncio.Event | None = None
        self.fails: OSError | None = None
        self.opens: threading.Event | None = None
        self.opened = 0

    async def open(self) -> None:
        while self.opens is not None and not self.opens.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0)  # it is set in another thread
        if self.fails is not None:
            raise self.fails
        self.opened += 1

    async def write(self, batch: Batch) -> None:
        while self.hangs is not None and not self.hangs.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0)  # the event belongs to another loop
        self.taken += len(batch)

    async def close(self) -> None:
        pass


def container_of(sink: Taking, *, required: bool = False) -> ObservabilityContainer:
    """A container whose one exporter writes to `sink`."""
    builder: ExporterBuilder = lambda name, own, settings: SpanExporter(sink, name=name)  # noqa: E731
    settings = ObservabilitySettings(exporters={"main": {"type": "taking", "required": required}})
    return ObservabilityContainer(
        settings=providers.Object(settings), exporter_types=providers.Object({"taking": builder})
    )


async def record(container: Any) -> None:
    """One run with one step."""
    manager: ExporterManager = container.exporter_manager()
    async with manager.start(ContextState()):
        with step("tool", "t"):
            pass


def runtime_of(container: Any) -> ObservabilityRuntime:
    """The container's runtime, in any state."""
    runtime = container.runtime_object()
    assert isinstance(runtime, ObservabilityRuntime)
    return runtime


async def works(container: Any, sink: Taking) -> None:
    """Open it, record, close it: what was recorded has arrived."""
    before = sink.taken
    await container.init_resources()
    assert runtime_of(container).state is RuntimeState.OPEN
    await record(container)
    await container.shutdown_resources()
    assert sink.taken == before + 1
    assert runtime_of(container).state is RuntimeState.CLOSED


@row("`init_resources()` twice, one after the other or at once")
async def _init_twice() -> None:
    container = container_of(sink := Taking())
    await asyncio.gather(container.init_resources(), container.init_resources())
    await works(container, sink)


@row("`shutdown_resources()` without `init_resources()`, or twice")
async def _shutdown_twice() -> None:
    container = container_of(sink := Taking())
    await container.shutdown_resources()
    await works(container, sink)
    await container.shutdown_resources()
    assert sink.taken == 1


@row("`init_resources()` again after `shutdown_resources()`")
async def _again() -> None:
    container = container_of(sink := Taking())
    for _ in range(3):
        await works(container, sink)


@row("`await container.runtime()` without `init_resources()`")
async def _runtime_alone() -> None:
    container = container_of(sink := Taking())
    assert await container.runtime() is runtime_of(container)
    await works(container, sink)


@row("`init_resources()` cancelled")
async def _init_cancelled() -> None:
    container = container_of(sink := Taking())
    for turns in range(4):
        opening = asyncio.ensure_future(container.init_resources())
        for _ in range(turns):
            await asyncio.sleep(0)
        if opening.cancel():
            with pytest.raises(asyncio.CancelledError):
                await opening
        else:  # it was open by then
            await opening
        await container.shutdown_resources()
        assert runtime_of(container).state in (RuntimeState.NEW, RuntimeState.CLOSED)
    await works(container, sink)


def _has_taken(sink: Taking) -> bool:
    return sink.taken == 1


@row("`shutdown_resources()` cancelled, at any moment")
async def _shutdown_cancelled() -> None:
    for turns in range(6):
        container = container_of(sink := Taking())
        sink.hangs = asyncio.Event()
        await container.init_resources()
        await record(container)
        closing = asyncio.ensure_future(container.shutdown_resources())
        for _ in range(turns):
            await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        begun = runtime_of(container).state is not RuntimeState.OPEN
        assert begun is (turns > 0)  # what a task has not begun was not called
        sink.hangs.set()
        await container.shutdown_resources()
        assert runtime_of(container).state is RuntimeState.CLOSED
        await until(functools.partial(_has_taken, sink))
        await works(container, sink)


@row("`shutdown_resources()` while `init_resources()` is under way")
async def _shutdown_while_opening() -> None:
    container = container_of(sink := Taking())
    opening = asyncio.ensure_future(container.init_resources())
    await asyncio.sleep(0)
    await container.shutdown_resources()
    await opening
    assert runtime_of(container).state is RuntimeState.CLOSED
    await works(container, sink)


@row("`shutdown_resources()` called, but not awaited")
async def _never_awaited() -> None:
    container = container_of(sink := Taking())
    await container.init_resources()
    await record(container)
    container.shutdown_resources()
    gc.collect()
    assert runtime_of(container).state is RuntimeState.OPEN
    await container.shutdown_resources()
    assert sink.taken == 1


@row("`init_resources()` called, but not awaited")
async def _opening_never_awaited() -> None:
    container = container_of(sink := Taking())
    with capture_logs() as logs:
        container.init_resources()
        await record(container)
        await until(lambda: runtime_of(container).state is RuntimeState.OPEN)
        await record(container)
        await container.shutdown_resources()
    assert sink.taken == 2
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == ["runtime_not_open"]


@row("`init_resources()` without an event loop")
async def _no_loop() -> None:
    container = container_of(sink := Taking())

    def init() -> None:
        with pytest.raises(NoEventLoopError, match=r"init_resources\(\) needs a running event loop"):
            container.init_resources()

    await asyncio.to_thread(init)
    await works(container, sink)


@row("opened in one event loop, closed in another, runs in a third")
async def _several_loops() -> None:
    container = container_of(sink := Taking())

    async def awaited(call: Callable[[], Awaitable[Any]]) -> None:
        await call()

    def loops() -> None:
        asyncio.run(awaited(container.init_resources))
        asyncio.run(awaited(container.init_resources))
        asyncio.run(record(container))
        asyncio.run(awaited(container.shutdown_resources))

    await asyncio.to_thread(loops)
    assert sink.taken == 1
    await works(container, sink)


@row("`init_resources()` in several event loops at once, each in a thread")
async def _several_loops_at_once() -> None:
    container, loops = container_of(sink := Taking()), threading.Barrier(3)
    sink.opens = threading.Event()

    async def use() -> None:
        opening = asyncio.ensure_future(container.init_resources())
        await asyncio.sleep(0)  # it is called now
        await until(lambda: runtime_of(container).state is RuntimeState.OPENING)
        await asyncio.to_thread(loops.wait, 10)
        cast(threading.Event, sink.opens).set()
        await opening
        assert runtime_of(container).state is RuntimeState.OPEN
        await record(container)

    await asyncio.gather(*(asyncio.to_thread(asyncio.run, use()) for _ in range(3)))
    await container.shutdown_resources()
    assert (sink.taken, sink.opened) == (3, 1)
    await works(container, sink)


@row("`reset_singletons()` while open")
async def _reset_while_open() -> None:
    container = container_of(sink := Taking())
    await container.init_resources()
    runtime, exporters = runtime_of(container), container.exporters()
    with container.reset_singletons():
        assert container.exporters() is exporters
    assert runtime_of(container) is runtime
    await record(container)
    await container.shutdown_resources()
    assert (runtime.state, sink.taken) == (RuntimeState.CLOSED, 1)
    assert container.exporters() is not exporters
    assert runtime_of(container) is not runtime
    await works(container, sink)


@row("`reset_singletons()` while closed")
async def _reset_while_closed() -> None:
    container = container_of(sink := Taking())
    exporters = container.exporters()
    container.reset_singletons()
    assert container.exporters() is not exporters
    await works(container, sink)


@row(
    "`exporters.override(...)` before `init_resources()`, and `reset_override()` after `shutdown_resources()`"
)
async def _override_before() -> None:
    container, other = container_of(sink := Taking()), Taking()
    container.runtime_object()  # made for the exporters of before
    with container.exporters.override(providers.Object({"other": SpanExporter(other)})):
        await works(container, other)
        assert list(runtime_of(container).health().exporters) == ["other"]
    await works(container, sink)
    assert list(runtime_of(container).health().exporters) == ["main"]
    assert other.taken == 1


@row("`settings`, `exporter_types` or `processing` overridden before `init_resources()`")
async def _settings_before() -> None:
    container = ObservabilityContainer(settings=configured("main"))
    assert [*container.exporters()] == ["main"]
    with capture_logs() as logs, container.settings.override(providers.Object(configured("other"))):
        await container.init_resources()
        assert [*runtime_of(container).exporters] == [*container.exporters()] == ["other"]
        container.exporter_manager()
        await container.shutdown_resources()
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == []


@row("the same while open")
async def _settings_while_open() -> None:
    # Of the container itself, and of the service around it.
    settings = providers.Singleton(configured, "main")
    container = ObservabilityContainer(settings=settings)
    for overridden in (container.settings, settings):
        await container.init_resources()
        container.exporter_manager()
        with (
            capture_logs() as logs,
            cast(Any, overridden).override(providers.Object(configured("other"))),
        ):
            for _ in range(2):
                assert [*await container.exporter_manager().get_all_exporters()] == ["main"]
            await container.shutdown_resources()
            await container.init_resources()
            assert [*await container.exporter_manager().get_all_exporters()] == ["other"]
            await container.shutdown_resources()
        [said] = [line for line in logs if line["log_level"] == "warning"]
        assert (said["event"], said["provider"]) == ("override_came_late", "settings")


@row("`exporters.override(...)` with a `Factory`")
async def _override_by_factory() -> None:
    container = container_of(Taking())
    container.exporters.override(providers.Factory(lambda: {"other": SpanExporter(Taking())}))
    with pytest.raises(TypeError, match="gives other ones each time"):
        await container.init_resources()


@row("`exporters.override(...)` while open")
async def _override_while_open() -> None:
    container, other = container_of(sink := Taking()), Taking()
    await container.init_resources()
    with container.exporters.override(providers.Object({"other": SpanExporter(other)})):
        await record(container)
    await record(container)
    await until(lambda: other.taken == 1)
    await container.shutdown_resources()
    assert (sink.taken, other.taken) == (1, 1)


@row("`Closing` on a manager")
async def _closing() -> None:
    container = container_of(sink := Taking())
    await container.init_resources()
    container.wire(modules=[wired])
    try:
        for _ in range(2):
            manager = await wired.handler()
            async with manager.start(ContextState()):
                with step("tool", "t"):
                    pass
            assert runtime_of(container).state is RuntimeState.OPEN
    finally:
        container.unwire()
    await container.shutdown_resources()
    assert sink.taken == 2


@row("`unwire()` while open")
async def _unwire() -> None:
    container = container_of(sink := Taking())
    await container.init_resources()
    container.wire(modules=[wired])
    container.unwire()
    await works(container, sink)


@row("two containers, each with its own exporters")
async def _two() -> None:
    one, other = container_of(first := Taking()), container_of(second := Taking())
    await one.init_resources()
    await other.init_resources()
    await one.shutdown_resources()
    await works(other, second)
    assert (first.taken, second.taken) == (0, 1)


@row("two containers with the same exporter objects")
async def _shared() -> None:
    one, other = container_of(sink := Taking()), ObservabilityContainer()
    other.exporters.override(providers.Object(one.exporters()))
    await one.init_resources()
    await other.init_resources()
    await record(one)
    await one.shutdown_resources()
    assert sink.taken == 1
    await record(other)
    await other.shutdown_resources()
    assert sink.taken == 2


@row("a run before `init_resources()` or after `shutdown_resources()`")
async def _run_outside() -> None:
    container = container_of(sink := Taking())
    with capture_logs() as lines:
        await record(container)
        await record(container)
    await until(lambda: sink.taken == 2)
    (line,) = [line for line in lines if line["event"] == "runtime_not_open"]
    assert (line["log_level"], line["state"]) == ("warning", "new")
    assert "await init_resources() before the first run" in line["cure"]
    container = container_of(sink)
    with capture_logs() as lines:
        await works(container, sink)
        assert [line for line in lines if line["log_level"] == "warning"] == []
        await record(container)
    await until(lambda: sink.taken == 4)
    assert [line["state"] for line in lines if line["event"] == "runtime_not_open"] == ["closed"]


@row("a required exporter that does not open")
async def _required() -> None:
    container = container_of(sink := Taking(), required=True)
    sink.fails = OSError("down")
    for _ in range(2):
        with pytest.raises(ExporterStartError, match="down"):
            await container.init_resources()
        await container.shutdown_resources()
        container.reset_singletons()  # a delivery gives the last error for a while instead of another try
    sink.fails = None
    await works(container, sink)


@row("another resource of the service that does not open")
async def _sibling() -> None:
    async def broken() -> AsyncIterator[None]:
        raise OSError("database down")
        yield  # type: ignore[unreachable]  # this makes it a generator

    class Service(containers.DeclarativeContainer):
        observability = providers.Container(ObservabilityContainer)
        database = providers.Resource(broken)

    service = Service()
    service.observability.settings.override(
        providers.Object(ObservabilitySettings(exporters={"m": {"type": "memory"}}))
    )
    opening: Any = service.init_resources()
    with pytest.raises(OSError, match="database down"):
        await opening
    closing: Any = service.shutdown_resources()
    await closing
    assert runtime_of(service.observability).state is RuntimeState.CLOSED


class Pool:
    """A pool, which has to be open when it is used."""

    def __init__(self) -> None:
        self.is_open = True
        self.written = 0


pools: list[Pool] = []


async def open_pool() -> AsyncIterator[Pool]:
    """Open a pool for the length of a service."""
    pools.append(pool := Pool())
    yield pool
    pool.is_open = False


def open_pool_at_once() -> Iterator[Pool]:
    """Do the same without an event loop."""
    pools.append(pool := Pool())
    yield pool
    pool.is_open = False


def pool_builder(pool: Any) -> ExporterBuilder:
    """A builder for exporters that write to a pool, or to what a provider of one gives."""

    def build(name: str, own: Any, settings: ObservabilitySettings) -> BaseExporter:
        async def write(batch: Batch) -> None:
            found = await pool() if isinstance(pool, providers.Provider) else pool
            assert found.is_open
            found.written += len(batch)

        return SpanExporter(write, name=name)

    return build


def service_of(kind: str = "pool", *, passed: bool = False, opens: Any = open_pool) -> Any:
    """A service with one exporter of this type, which uses its pool, or what gives the pool."""

    class Gateways(containers.DeclarativeContainer):
        pool = providers.Resource(opens)

    class Service(containers.DeclarativeContainer):
        gateways = providers.Container(Gateways)
        observability = providers.Container(
            ObservabilityContainer,
            settings=providers.Object(ObservabilitySettings(exporters={"main": {"type": kind}})),
            exporter_types=providers.Dict(
                pool=providers.Factory(pool_builder, gateways.pool.provider if passed else gateways.pool)
            ),
        )

    return Service()


@row("a synchronous `Resource` that exporters are made with")
async def _synchronous_resource() -> None:
    pools.clear()
    service = service_of(opens=open_pool_at_once)
    made_before = service.observability.exporters()
    for count in (1, 2):
        await service.init_resources()
        # Until the pool is closed, what was made with it is used.
        assert (service.observability.exporters() is made_before) is (count == 1)
        await record(service.observability)
        await service.shutdown_resources()
        assert [(pool.is_open, pool.written) for pool in pools] == [(False, 1)] * count


@row("an asynchronous `Resource` that exporters are made with")
async def _asynchronous_resource() -> None:
    pools.clear()
    service = service_of()
    service.observability.validate()
    for name in ("exporters", "exporter_manager", "runtime_object", "manager_options"):
        with pytest.raises(
            AsynchronousProviderError, match=r"'exporter_types' gives a future .* open_pool\.provider"
        ):
            getattr(service.observability, name)()
    assert pools == []
    for count in (1, 2):
        await service.init_resources()
        await record(service.observability)
        await service.shutdown_resources()
        assert [(pool.is_open, pool.written) for pool in pools] == [(False, 1)] * count


@row("an asynchronous `Resource` that is passed on as `pool.provider`")
async def _passed_resource() -> None:
    pools.clear()
    service = service_of(passed=True)
    service.observability.validate()
    assert isinstance(service.observability.exporter_manager(), ExporterManager)
    assert pools == []
    for count in (1, 2):
        await service.init_resources()
        await record(service.observability)
        await service.shutdown_resources()
        assert [(pool.is_open, pool.written) for pool in pools] == [(False, 1)] * count


@row("a fork while open, or while it opens")
async def _fork() -> None:
    code = """
    import asyncio, os, signal, threading, warnings
    warnings.simplefilter("ignore")
    from tests.containers.test_lifetimes import Taking, container_of, record
    async def awaited(call):
        await call()
    container, opening = container_of(sink := Taking()), container_of(other := Taking())
    asyncio.run(awaited(container.init_resources))
    other.opens = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(awaited(opening.init_resources)))
    thread.start()
    while opening.runtime_object().state != "opening":
        pass
    child = os.fork()
    if not child:
        signal.alarm(15)
    other.opens.set()
    if child:
        thread.join()
    asyncio.run(awaited(opening.init_resources))
    for each in (container, opening):
        asyncio.run(record(each))
        asyncio.run(awaited(each.shutdown_resources))
    if not child:
        os._exit(10 * other.taken + sink.taken)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), sink.taken, other.taken)
    """
    ran = await asyncio.to_thread(run_program, code, measured=False)
    assert ran.stdout == "11 1 1\n"


@pytest.mark.may_block  # entry points are looked up once, when the process starts
def test_an_unknown_type_is_found_before_an_asynchronous_resource_is_opened() -> None:
    """`validate` opens nothing, and knows the names of the types all the same."""
    pools.clear()
    with pytest.raises(UnknownExporterTypeError, match=r"no exporter type 'no-such-type'\. Known: .*pool"):
        service_of("no-such-type").observability.validate()
    assert pools == []


def test_the_page_lists_every_order() -> None:
    """The rows of the table are these tests, in this order."""
    assert rows() == list(SCENARIOS)


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda each: each.__name__.strip("_"))
async def test_in_any_order(scenario: Scenario) -> None:
    """It works, or is a clear error, as the page says."""
    await scenario()
