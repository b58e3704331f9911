"""Exporters that join and leave a runtime that is open: those of tenants that come and go, for example."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from dependency_injector import providers
from structlog.testing import capture_logs

from nat_observability import (
    BaseExporter,
    ContextState,
    DeliveryLimits,
    ObservabilityRuntime,
    SpanExporter,
    UnknownExporterError,
    step,
)
from nat_observability.containers import ObservabilityContainer
from nat_observability.delivery.state import DeliveryState
from nat_observability.errors import (
    InvalidExporterError,
    InvalidExporterNameError,
    SinkError,
)
from nat_observability.exporter import ExporterTemplate
from nat_observability.settings import ObservabilitySettings
from nat_observability.sinks import FileSink, MemorySink
from nat_observability.sinks.protocol import Batch
from nat_observability.testing import CapturingExporter


class Held:
    """A sink that writes only while it is let; it blocks its thread."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.written: list[str] = []
        self.began = threading.Event()
        self.threads: set[str] = set()

    def open(self) -> None:
        """Nothing to open."""

    def write(self, batch: Batch) -> None:
        self.threads.add(threading.current_thread().name)
        self.began.set()
        self.free.wait(10)
        self.written += [item.name for item in batch]

    def close(self) -> None:
        """Nothing to close."""


def container_with(exporters: Mapping[str, BaseExporter]) -> ObservabilityContainer:
    container = ObservabilityContainer()
    container.exporters.override(providers.Object(dict(exporters)))
    return container


async def record(container: ObservabilityContainer, name: str, **ids: Any) -> None:
    async with container.exporter_manager().start(ContextState(**ids)):
        with step("tool", name):
            pass


async def test_an_exporter_joins_an_open_runtime() -> None:
    """It is opened at once, every later manager has it, and the shutdown drains it."""
    base = CapturingExporter()
    container = container_with({"base": base})
    async with container.runtime_object() as runtime:
        before = container.exporter_manager()
        sink = MemorySink(10)
        joined = SpanExporter(sink, name="acme", select={"tenant": "acme"})
        assert await runtime.add_exporter("acme", joined) is True
        assert joined.delivery.health().state is DeliveryState.OPEN
        health = runtime.health().exporters["acme"]
        assert health is not None
        # All of it but the time since it opened, which goes on.
        seen, own = (
            msgspec.structs.replace(each, last_success_s=None) for each in (health, joined.delivery.health())
        )
        assert seen == own
        await record(container, "own", tags={"tenant": "acme"})
        await record(container, "other", tags={"tenant": "globex"})
        assert list(runtime.exporters) == ["base", "acme"]
        # A manager of before, and its copies, keep what they had.
        assert (
            list(await before.get_all_exporters()) == list(await before.get().get_all_exporters()) == ["base"]
        )
    assert [item.name for item in sink.items] == ["own"]
    assert joined.delivery.health().state is DeliveryState.CLOSED
    assert [each.name for each in base.steps[::2]] == ["own", "other"]
    # The runtime still has it when it is opened again.
    async with container.runtime_object():
        await record(container, "again", tags={"tenant": "acme"})
    assert [item.name for item in sink.items] == ["own", "again"]


async def test_it_may_join_before_the_runtime_is_open() -> None:
    """From another thread too, and without waiting."""
    container = container_with({})
    sink = MemorySink(10)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(container.runtime_object().add_exporter, "late", SpanExporter(sink)).result()
    async with container.runtime_object():
        await record(container, "a")
    assert [item.name for item in sink.items] == ["a"]


async def test_what_joined_or_left_stays_so_however_the_container_is_opened_again() -> None:
    """Before the container opens, while it is open, and while it is closed: also if its own exporters are made anew."""
    taken: dict[str, list[str]] = {}

    def exporter(name: str) -> SpanExporter:
        return SpanExporter(
            lambda batch: taken.setdefault(name, []).extend(item.name for item in batch), name=name
        )

    container = ObservabilityContainer(
        settings=ObservabilitySettings(exporters={"own": {"type": "memory"}, "left": {"type": "memory"}})
    )
    changes: tuple[Callable[[ObservabilityRuntime], object], ...] = (
        lambda runtime: runtime.add_exporter("early", exporter("early")),
        lambda runtime: (
            runtime.add_exporter("open", exporter("open")),
            runtime.remove_exporter("left"),
        ),
        lambda runtime: runtime.add_exporter("closed", exporter("closed")),
    )
    changes[0](container.runtime_object())
    for number in range(4):
        if number == 2:
            changes[2](container.runtime_object())
        if number == 3:
            own = container.exporters()["own"]
            settings = ObservabilitySettings(exporters={"own": {"type": "memory"}, "new": {"type": "memory"}})
            container.settings.override(providers.Object(settings))
        await container.init_resources()
        if number == 1:
            changes[1](container.runtime_object())
        await record(container, f"run {number}")
        await container.shutdown_resources()
    assert taken == {
        "early": ["run 0", "run 1", "run 2", "run 3"],
        "open": ["run 1", "run 2", "run 3"],
        "closed": ["run 2", "run 3"],
    }
    assert container.exporters()["own"] is not own
    assert set(container.runtime_object().exporters) == {"own", "new", "early", "open", "closed"}


async def test_one_that_leaves_drains() -> None:
    """The run under way goes on with it to its end, everything is written, and later runs do not know it."""
    sink = MemorySink(10)
    container = container_with({"acme": SpanExporter(sink, name="acme", select={"tenant": "acme"})})
    async with container.runtime_object() as runtime:
        async with container.exporter_manager().start(ContextState(tags={"tenant": "acme"})):
            with step("tool", "before"):
                pass
            leaving = runtime.remove_exporter("acme")
            with step("tool", "after"):
                pass
            await record(container, "later", tags={"tenant": "acme"})
        health = await leaving
        assert [item.name for item in sink.items] == ["before", "after"]
        assert health is not None
        assert health.state is DeliveryState.CLOSED
        assert (health.ledger.accepted, health.ledger.delivered) == (2, 2)
        assert "acme" not in runtime.health().exporters
        with pytest.raises(UnknownExporterError):
            runtime.remove_exporter("acme")


async def test_one_that_leaves_takes_no_more_of_a_run_that_all_take_part_in() -> None:
    """What it does not take is counted, and what was recorded before is delivered."""
    sink, other = MemorySink(10), MemorySink(10)
    leaver = SpanExporter(sink, name="leaver")
    container = container_with({"leaver": leaver, "other": SpanExporter(other, name="other")})
    async with container.runtime_object() as runtime, container.exporter_manager().start(ContextState()):
        with step("tool", "before"):
            pass
        health = await runtime.remove_exporter("leaver")
        assert health is not None
        assert health.state is DeliveryState.CLOSED
        with step("tool", "after"):
            pass
    ledger = leaver.delivery.health().ledger
    assert ledger.accepted == ledger.delivered + ledger.failed + sum(ledger.dropped.values())
    assert [item.name for item in sink.items] == ["before"]
    assert ledger.dropped
    assert [item.name for item in other.items] == ["before", "after"]


async def test_the_shutdown_waits_for_one_that_leaves() -> None:
    """It belongs to the runtime until it has drained, although nobody waits for that."""
    sink = Held()
    container = container_with({"slow": SpanExporter(sink, name="slow")})
    async with container.runtime_object() as runtime:
        await record(container, "a")
        runtime.remove_exporter("slow")
        asyncio.get_running_loop().call_soon(sink.free.set)
    assert sink.written == ["a"]


async def test_a_leave_has_a_limit() -> None:
    """Whoever waits for an exporter that is stuck waits no longer than for a shutdown; what is lost is counted."""
    sink = Held()
    exporter = SpanExporter(sink, name="stuck")
    exporters: dict[str, BaseExporter] = {"stuck": exporter}
    runtime = ObservabilityRuntime(exporters, shutdown_timeout=0.2)
    async with runtime:
        state = ContextState()
        subscription = exporter.subscription(state)
        subscription.begin()  # a run that never ends
        with state.attach(), step("tool", "a"):
            pass
        with capture_logs() as lines:
            health = await runtime.remove_exporter("stuck")
        assert health is not None
        assert health.state is DeliveryState.FAILED
        assert health.ledger.dropped == {"shutdown_timeout": 1}
        assert [line["lost"] for line in lines if line["event"] == "exporter_abandoned"] == [1]
        sink.free.set()
        subscription.end()


async def test_one_of_the_same_name_is_replaced() -> None:
    """With a warning; the former drains. The same one again changes nothing."""
    first, second = MemorySink(10), MemorySink(10)
    former = SpanExporter(first, name="main")
    container = container_with({"main": former})
    async with container.runtime_object() as runtime:
        await record(container, "one")
        new = SpanExporter(second, name="main")
        with capture_logs() as lines:
            assert await runtime.add_exporter("main", new)
            assert await runtime.add_exporter("main", new)
        assert [line["event"] for line in lines if line["log_level"] == "warning"] == ["exporter_replaced"]
        await record(container, "two")
    assert former.delivery.health().state is DeliveryState.CLOSED
    assert [item.name for item in first.items] == ["one"]
    assert [item.name for item in second.items] == ["two"]


async def test_a_delivery_of_two_exporters_stays_with_the_other() -> None:
    """It is closed with the last exporter that uses it."""
    sink = MemorySink(10)
    first = SpanExporter(sink, name="shared")
    second = SpanExporter(first.delivery)
    container = container_with({"first": first, "second": second})
    async with container.runtime_object() as runtime:
        assert await runtime.remove_exporter("first") is None
        assert first.delivery.health().state is DeliveryState.OPEN
        await record(container, "a")
    assert [item.name for item in sink.items] == ["a"]


async def test_one_that_cannot_open_is_tried_again() -> None:
    """The await says so, one line does, and nothing is raised; what runs record meanwhile waits."""

    class Refusing(MemorySink):
        async def open(self) -> None:
            if not allowed:
                raise SinkError("the back end", "refused", "Wait.")

    allowed: list[bool] = []
    container = container_with({})
    async with container.runtime_object() as runtime:
        exporter = SpanExporter(Refusing(10), name="late")
        with capture_logs() as lines:
            assert await runtime.add_exporter("late", exporter) is False
        assert [line["exporter"] for line in lines if line["event"] == "exporter_start_failed"] == ["late"]
        await record(container, "a")
        allowed.append(True)
        await runtime.remove_exporter("late")
        assert exporter.delivery.health().ledger.delivered == 1


@pytest.mark.parametrize("name", ["", " ", None])
async def test_a_name_that_cannot_be_used(name: Any) -> None:
    """It is refused before anything changes, as is what is not an exporter."""
    runtime = ObservabilityRuntime({})
    with pytest.raises(InvalidExporterNameError):
        runtime.add_exporter(name, CapturingExporter())
    with pytest.raises(InvalidExporterError):
        runtime.add_exporter("a", object())  # type: ignore[arg-type]
    assert not runtime.exporters


async def test_exporters_join_from_many_threads() -> None:
    """None is lost, and each is open, although runs begin meanwhile."""
    container = container_with({})
    template = ExporterTemplate(lambda name: MemorySink(10))
    async with container.runtime_object() as runtime:

        def join(number: int) -> None:
            for index in range(20):
                name = f"t{number}-{index}"
                runtime.add_exporter(name, template.exporter(name))

        with ThreadPoolExecutor(4) as pool:
            done = [pool.submit(join, number) for number in range(4)]
            while not all(each.done() for each in done):
                await record(container, "a", tags={"tenant": "t1-1"})
        for each in done:
            each.result()
        assert len(runtime.exporters) == 80
        assert {health.state for health in runtime.health().exporters.values() if health is not None} <= {
            DeliveryState.OPEN,
            DeliveryState.OPENING,
        }


# Templates


def texts_in(directory: Path) -> dict[str, str]:
    """Return what the files there hold, by their names."""
    return {path.stem: path.read_text() for path in directory.glob("*.jsonl")}


def delivery_threads(name: str = "nat-observability-tenants") -> set[str]:
    """Return the names of the threads of templates."""
    return {thread.name for thread in threading.enumerate() if thread.name.startswith(name)}


@pytest.mark.parametrize("kind", ["asynchronous", "blocking", "function"])
async def test_tenants_share_their_threads(kind: str, tmp_path: Path) -> None:
    """However many there are, whatever the sinks are, and with processors and spools."""
    taken: list[tuple[str, str]] = []

    async def take(name: str, batch: Batch) -> None:
        taken.extend((name, item.name) for item in batch)

    def sink(name: str) -> Any:
        if kind == "blocking":
            return FileSink(tmp_path / f"{name}.jsonl")
        if kind == "function":
            return lambda batch: taken.extend((name, item.name) for item in batch)

        async def write(batch: Batch) -> None:
            await take(name, batch)

        return write

    before = threading.active_count()
    limits = DeliveryLimits(spool="always", spool_path=tmp_path / "spool") if kind == "function" else None
    template = ExporterTemplate(sink, processors=[lambda item: item], limits=limits)
    tenants = [f"t{number}" for number in range(20 if limits else 100)]
    container = await asyncio.to_thread(
        lambda: container_with({name: template.exporter(name) for name in tenants})
    )
    async with container.runtime_object() as runtime:
        for name in tenants:
            await record(container, f"step of {name}", tags={"tenant": name})
        assert 1 < len(delivery_threads()) <= 16
        assert threading.active_count() - before <= 16 + 1  # and one that opened the runtime
        assert len(runtime.exporters) == len(tenants)
    wanted = sorted((name, f"step of {name}") for name in tenants)
    if kind == "blocking":
        files = await asyncio.to_thread(texts_in, tmp_path)
        assert files.keys() == set(tenants)
        assert all(text.count("step of") == 1 and f"step of {name}" in text for name, text in files.items())
    else:
        assert sorted(taken) == wanted
    if limits:
        spools = await asyncio.to_thread(lambda: [path.name for path in (tmp_path / "spool").iterdir()])
        assert sorted(spools) == sorted(tenants)


async def test_a_sink_that_blocks_stalls_only_its_thread() -> None:
    """Tenants on the other threads are served meanwhile."""
    sinks: dict[str, Held] = {}

    def sink(name: str) -> Held:
        sinks[name] = Held()
        if name != "t0":
            sinks[name].free.set()
        return sinks[name]

    template = ExporterTemplate(sink, threads=4, limits=DeliveryLimits(batch_age=0))
    container = container_with({f"t{n}": template.exporter(f"t{n}") for n in range(4)})
    async with container.runtime_object() as runtime:
        await record(container, "stuck", tags={"tenant": "t0"})
        await asyncio.to_thread(sinks["t0"].began.wait, 10)
        async with container.exporter_manager().start(ContextState(tags={"tenant": "t1"})):
            with step("tool", "served"):
                pass
        await runtime.remove_exporter("t1")
        assert sinks["t1"].written == ["served"]
        assert not sinks["t0"].written
        sinks["t0"].free.set()
    assert sinks["t0"].written == ["stuck"]


@pytest.mark.parametrize(
    "name", ["../etc", "a/b", "a\\b", "..", ".", "*", "a?", "[a]", "~root", "a\nb", "", None]
)
def test_a_templates_name_is_neither_a_path_nor_a_pattern(name: Any) -> None:
    """Sinks and spools are made of it."""
    template = ExporterTemplate(lambda name: MemorySink(1))
    with pytest.raises(InvalidExporterNameError, match="An exporter's name"):
        template.exporter(name)


def test_a_template_that_cannot_be_used() -> None:
    """It is refused when it is made."""
    with pytest.raises(ValueError, match="2 to 16 threads, not 17"):
        ExporterTemplate(lambda name: MemorySink(1), threads=17)
    with pytest.raises(TypeError):
        ExporterTemplate(lambda name: MemorySink(1), processors=["no"])  # type: ignore[list-item]


async def test_settings_route_by_tags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`SELECT` takes pairs, lists and globs; exporters of one type that select share their threads."""
    for name, select in {"ACME": "tenant=acme", "GOLD": "plan=gold*,user_id=u1,u2"}.items():
        prefix = f"NAT_OBSERVABILITY_EXPORTERS__{name}"
        monkeypatch.setenv(f"{prefix}__TYPE", "file")
        monkeypatch.setenv(f"{prefix}__PATH", str(tmp_path / f"{name}.jsonl"))
        monkeypatch.setenv(f"{prefix}__SELECT", select)
    container = ObservabilityContainer()
    await asyncio.to_thread(container.exporters)
    async with container.runtime_object():
        await record(container, "one", tags={"tenant": "acme", "plan": "golden"}, user_id="u1")
        await record(container, "two", tags={"tenant": "acmeä", "plan": "gold"}, user_id="u2")
        await record(container, "three", tags={"plan": "gold"}, user_id="u3")
        assert delivery_threads("nat-observability-file")
    texts = await asyncio.to_thread(texts_in, tmp_path)
    found = {
        name: [step for step in ("one", "two", "three") if f'"{step}"' in text]
        for name, text in texts.items()
    }
    assert found == {"ACME": ["one"], "GOLD": ["one", "two"]}
