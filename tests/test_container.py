"""ObservabilityContainer: what a service embeds, and every trap that DESIGN.md names."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from dependency_injector import containers, providers
from structlog.testing import capture_logs

import nat_observability
from nat_observability import ContextState, step
from nat_observability.builders import ExporterBuilder
from nat_observability.containers import ObservabilityContainer
from nat_observability.delivery.state import DeliveryState
from nat_observability.errors import ExporterStartError, RuntimeStateError, UnknownExporterTypeError
from nat_observability.events import Item
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter.span_exporter import SpanExporter
from nat_observability.exporter_manager import ExporterManager
from nat_observability.health import RuntimeState
from nat_observability.runtime import ObservabilityRuntime
from nat_observability.settings import ObservabilitySettings
from nat_observability.sinks.protocol import Batch
from nat_observability.testing import CapturingExporter
from tests import wired

PATIENCE = 10.0


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests ignore the variables of the environment that they run in."""
    for name in list(os.environ):
        if name.startswith(("NAT_OBSERVABILITY_", "OTEL_")):
            monkeypatch.delenv(name)


class Backend:
    """The tests' exporter types, and what arrived at the exporters that they made, by name."""

    def __init__(self) -> None:
        self.taken: dict[str, list[Item]] = {}
        self.built: list[str] = []
        self.opens: dict[str, BaseException] = {}
        self.let_go = threading.Event()

    @property
    def types(self) -> dict[str, ExporterBuilder]:
        return {"taking": self.build, "stuck": self.build_stuck}

    def build(self, name: str, own: Any, settings: ObservabilitySettings) -> BaseExporter:
        self.built.append(name)
        return SpanExporter(Taking(self, name), name=name)

    def build_stuck(self, name: str, own: Any, settings: ObservabilitySettings) -> BaseExporter:
        def stuck(batch: Batch) -> None:
            self.let_go.wait(PATIENCE)

        return SpanExporter(stuck, name=name)


class Taking:
    """A sink that takes everything, unless opening it is to fail."""

    def __init__(self, backend: Backend, name: str) -> None:
        self.backend = backend
        self.name = name

    async def open(self) -> None:
        if self.name in self.backend.opens:
            raise self.backend.opens[self.name]

    async def write(self, batch: Batch) -> None:
        self.backend.taken.setdefault(self.name, []).extend(batch)

    async def close(self) -> None:
        pass


@pytest.fixture
def backend() -> Iterator[Backend]:
    backend = Backend()
    yield backend
    backend.let_go.set()


def container_of(
    backend: Backend | None = None, *, settings: Mapping[str, Any] | None = None, **exporters: Any
) -> ObservabilityContainer:
    """A container with these exporters, each a type or a dict of settings."""
    entries: dict[str, Any] = {
        name: {"type": entry} if isinstance(entry, str) else entry for name, entry in exporters.items()
    }
    given = providers.Object(ObservabilitySettings(exporters=entries, **(settings or {})))
    types = providers.Object(backend.types if backend is not None else {})
    return ObservabilityContainer(settings=given, exporter_types=types)


@asynccontextmanager
async def opened(container: ObservabilityContainer) -> AsyncIterator[ObservabilityContainer]:
    await _awaited(container.init_resources())
    try:
        yield container
    finally:
        await _awaited(container.shutdown_resources())


async def _awaited(given: Any) -> None:
    if given is not None:
        await given


async def record(manager: ExporterManager, count: int = 1) -> None:
    async with manager.start(ContextState()):
        for number in range(count):
            with step("tool", f"s{number}"):
                pass


def runtime_of(container: ObservabilityContainer) -> ObservabilityRuntime:
    return container.runtime_object()


# As a service embeds it


@pytest.mark.may_block  # building resolves paths, and happens once, when the process starts
async def test_a_service_that_is_configured_by_its_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Opened, one manager per workflow, closed: what was recorded is in the file."""
    path = tmp_path / "spans.jsonl"
    monkeypatch.setenv("NAT_OBSERVABILITY_EXPORTERS__MAIN__TYPE", "file")
    monkeypatch.setenv("NAT_OBSERVABILITY_EXPORTERS__MAIN__PATH", str(path))
    container = ObservabilityContainer()
    await _awaited(container.init_resources())
    async with container.exporter_manager().start(ContextState(conversation_id="c-1")) as manager:
        assert isinstance(manager, ExporterManager)
        with step("tool", "search", input={"q": "…"}) as current:
            current.output = ["found"]
    await _awaited(container.shutdown_resources())
    (line,) = path.read_text().splitlines()
    span = json.loads(line)
    assert (span["name"], span["run"]["conversation_id"], span["output"]) == ("search", "c-1", ["found"])


async def test_managers_are_fresh_and_exporters_are_shared(backend: Backend) -> None:
    """Each workflow has its own manager; behind all of them are the same exporters, built once."""
    async with opened(container_of(backend, main="taking")) as container:
        first, second = container.exporter_manager(), container.exporter_manager()
        assert first is not second
        assert first.get_exporter("main") is second.get_exporter("main")
        await asyncio.gather(*(record(container.exporter_manager(), 3) for _ in range(50)))
        first.add_exporter("own", CapturingExporter())
        assert list(container.exporter_manager()._exporter_registry) == ["main"]
    assert backend.built == ["main"]
    assert len(backend.taken["main"]) == 150


async def test_the_managers_have_what_the_settings_say(backend: Backend) -> None:
    """Timeouts and required exporters reach runtime and managers."""
    backend.opens["main"] = OSError("down")
    container = container_of(
        backend, settings={"shutdown_timeout": 7.5}, main={"type": "taking", "required": True}, other="taking"
    )
    assert container.exporter_manager()._shutdown_timeout == 7.5
    with pytest.raises(ExporterStartError, match="'main': OSError: down"):
        async with container.exporter_manager().start(ContextState()):
            pass


async def test_a_container_in_a_larger_one(backend: Backend) -> None:
    """The parent gives settings and exporter types, opens and closes it with its own resources."""
    order: list[str] = []

    def connection() -> Iterator[str]:
        order.append("opened")
        yield "connection"
        order.append("closed")

    class Application(containers.DeclarativeContainer):
        database = providers.Resource(connection)
        settings = providers.Singleton(ObservabilitySettings, exporters={"main": {"type": "taking"}})
        observability = providers.Container(
            ObservabilityContainer, settings=settings, exporter_types=providers.Object(backend.types)
        )

    application = Application()
    application.observability.validate()
    await _awaited(application.init_resources())
    assert order == ["opened"]
    assert state_of(application.observability()) is RuntimeState.OPEN
    await record(application.observability.exporter_manager(), 3)
    await _awaited(application.shutdown_resources())
    assert order == ["opened", "closed"]
    assert len(backend.taken["main"]) == 3
    assert state_of(application.observability()) is RuntimeState.CLOSED


def state_of(container: Any) -> RuntimeState:
    runtime: ObservabilityRuntime = container.runtime_object()
    return runtime.health().state


@pytest.mark.may_block  # building resolves paths, and happens once, when the process starts
async def test_exporters_can_be_overridden_in_a_test() -> None:
    """With one line a test captures what its code records, and nothing real is built or opened."""
    container = container_of(main={"type": "file", "path": "/proc/none/such.jsonl", "required": True})
    capturing = CapturingExporter()
    with container.exporters.override({"main": capturing}):
        async with opened(container):
            await record(container.exporter_manager())
    assert [each.name for each in capturing.steps] == ["s0", "s0"]
    container.reset_singletons()
    assert isinstance(container.exporter_manager().get_exporter("main"), SpanExporter)


async def test_a_second_container_in_the_same_process(backend: Backend) -> None:
    """Two, configured differently, are open at once and know nothing of each other."""
    first = container_of(backend, one="taking", settings={"shutdown_timeout": 5.0})
    second = container_of(backend, two="taking", settings={"shutdown_timeout": 6.0})
    async with opened(first):
        async with opened(second):
            await record(first.exporter_manager(), 1)
            await record(second.exporter_manager(), 2)
        assert {name: len(items) for name, items in backend.taken.items()} == {"two": 2}
        assert state_of(first) is RuntimeState.OPEN
        await record(first.exporter_manager(), 3)
    assert {name: len(items) for name, items in backend.taken.items()} == {"one": 4, "two": 2}


async def test_a_container_can_be_opened_again(backend: Backend) -> None:
    """Shut down and initialised once more, as a test suite does, it works as before."""
    container = container_of(backend, main="taking")
    for count in (1, 2):
        async with opened(container):
            await record(container.exporter_manager())
        assert len(backend.taken["main"]) == count


def test_managers_work_without_initialised_resources(backend: Backend) -> None:
    """In a script, for example: each run opens what it needs, and its items are delivered in the background."""
    container = container_of(backend, main="taking")
    asyncio.run(record(container.exporter_manager(), 3))
    exporter = container.exporters()["main"]
    assert isinstance(exporter, SpanExporter)
    exporter.delivery.closed().result(PATIENCE)
    assert len(backend.taken["main"]) == 3


async def test_switched_off_it_costs_and_opens_nothing(backend: Backend) -> None:
    """With `enabled=false` no exporter is made; workflows run as usual."""
    container = container_of(
        backend,
        settings={"enabled": False},
        main={"type": "taking", "required": True},
        other={"type": "file", "path": "/proc/x"},
    )
    container.validate()
    async with opened(container):
        assert container.exporters() == {}
        await record(container.exporter_manager(), 3)
        assert runtime_of(container).health().exporters == {}
    assert backend.built == []


# The traps


@pytest.mark.parametrize(
    "name", ["settings", "exporter_types", "exporters", "manager_options", "exporter_manager"]
)
async def test_trap_an_async_resource_makes_futures_of_its_dependants(backend: Backend, name: str) -> None:
    """Nothing depends on the runtime: everything else gives its objects, before, while and after it is open."""

    def resolve(container: Any) -> object:
        given = getattr(container, name)()
        assert not inspect.isawaitable(given)
        return given

    container = container_of(backend, main="taking")
    kinds = {type(resolve(container))}
    opening = asyncio.ensure_future(_awaited(container.init_resources()))
    await asyncio.sleep(0)
    kinds.add(type(resolve(container)))
    await opening
    kinds.add(type(resolve(container)))
    await _awaited(container.shutdown_resources())
    kinds.add(type(resolve(container)))
    assert len(kinds) == 1


async def test_trap_closing_on_a_manager_shuts_down_what_is_shared(backend: Backend) -> None:
    """Even if an application does it, a request's end leaves the shared exporters open for the next."""
    async with opened(container_of(backend, main="taking")) as container:
        container.wire(modules=[wired])
        try:
            for _ in range(3):
                manager = await wired.handler()
                assert isinstance(manager, ExporterManager)
                await record(manager)
                assert state_of(container) is RuntimeState.OPEN
        finally:
            container.unwire()
    assert len(backend.taken["main"]) == 3


def test_the_runtime_keeps_its_earlier_name(backend: Backend) -> None:
    """`unopened_runtime` gives the same object, and an override of either counts for both."""
    container = container_of(backend, main="taking")
    assert container.unopened_runtime() is container.runtime_object()
    other = ObservabilityRuntime({})
    with container.runtime_object.override(other):
        assert container.unopened_runtime() is other
    with container.unopened_runtime.override(other):
        assert container.runtime_object() is other


@pytest.mark.parametrize("name", ["settings", "exporters", "runtime_object", "manager_options"])
def test_trap_singletons_that_are_not_thread_safe(backend: Backend, name: str) -> None:
    """However many threads resolve at the same moment, there is one object, and each exporter is built once."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(10):
            backend.built.clear()
            container = container_of(backend, a="taking", b="taking", c="taking")
            together = threading.Barrier(8)

            def resolve(together: threading.Barrier = together, container: Any = container) -> object:
                together.wait(PATIENCE)
                return getattr(container, name)()

            with ThreadPoolExecutor(8) as pool:
                given = [job.result(PATIENCE) for job in [pool.submit(resolve) for _ in range(8)]]
            assert len({id(each) for each in given}) == 1
            assert backend.built in ([], ["a", "b", "c"])
    finally:
        sys.setswitchinterval(interval)


async def test_trap_a_resource_that_is_not_thread_safe(backend: Backend) -> None:
    """The runtime itself lets one opening through: a second one is an error and not a second runtime."""
    async with opened(container_of(backend, main="taking")) as container:
        with pytest.raises(RuntimeStateError, match="The runtime is open"):
            await runtime_of(container).init()


def test_trap_a_configuration_provider_turns_a_typo_into_none() -> None:
    """Settings are a model: a wrong name is an error at the place that uses it."""
    container = container_of()
    with pytest.raises(AttributeError, match="exportrs"):
        container.settings().exportrs  # type: ignore[attr-defined]  # noqa: B018
    assert list(container.traverse(types=[providers.Configuration])) == []


def test_trap_wiring_is_global_per_module() -> None:
    """So the library injects nothing into itself: the container wired last would decide what it gets."""
    for source in Path(nat_observability.__file__).parent.rglob("*.py"):
        text = source.read_text()
        if "dependency_injector" not in text:
            continue
        imported = {
            name
            for node in ast.walk(ast.parse(text))
            for name in _imported(node)
            if name.startswith("dependency_injector.wiring")
        }
        assert not imported, source


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


async def test_trap_a_provide_in_a_depends_costs_a_thread_hop(backend: Backend) -> None:
    """A web framework runs plain callables on a thread; a manager is had on the loop itself, without blocking it."""
    threads: list[threading.Thread] = []

    async def dependency() -> ExporterManager:
        threads.append(threading.current_thread())
        return container.exporter_manager()

    async with opened(container_of(backend, main="taking")) as container:
        await record(await dependency())
    assert threads == [threading.current_thread()]


async def test_trap_postponed_annotations_break_annotated_injection(backend: Backend) -> None:
    """Ours are not postponed, and a module of the application that does likewise is injected into."""
    annotations = inspect.get_annotations(ObservabilityContainer).values()
    assert annotations
    assert not any(isinstance(annotation, str) for annotation in annotations)
    container = container_of(backend, main="taking")
    container.wire(modules=[wired])
    try:
        manager = wired.annotated()  # type: ignore[call-arg]  # what is injected need not be given
        assert isinstance(manager, ExporterManager)
        assert manager.get_exporter("main") is container.exporters()["main"]
    finally:
        container.unwire()


async def test_trap_resource_initialisation_has_no_rollback(backend: Backend) -> None:
    """When a required exporter does not open, those that had opened are closed, and no thread is left."""
    backend.opens["fails"] = OSError("down")
    container = container_of(backend, works="taking", fails={"type": "taking", "required": True})
    with pytest.raises(ExporterStartError, match="'fails': OSError: down"):
        await _awaited(container.init_resources())
    health = runtime_of(container).health()
    assert health.state is RuntimeState.CLOSED
    assert health.exporters["works"] is not None
    assert health.exporters["works"].state is DeliveryState.CLOSED


# Wrong configurations


@pytest.mark.parametrize("find", ["validate", "exporters", "exporter_manager"])
def test_an_unknown_exporter_type_names_its_variable_and_the_nearest_type(
    backend: Backend, find: str
) -> None:
    """Found by `validate`, before anything is opened; or, without that, when it is first needed."""
    container = container_of(backend, main="memory", extra="sqlitte")
    with pytest.raises(UnknownExporterTypeError) as caught:
        getattr(container, find)()
    assert str(caught.value).startswith(
        "NAT_OBSERVABILITY_EXPORTERS__EXTRA__TYPE: no exporter type 'sqlitte'. Did you mean 'sqlite'? Known: "
    )
    assert "taking" in str(caught.value)


def test_what_validates_is_not_opened(tmp_path: Path) -> None:
    """Validation touches no file."""
    path = tmp_path / "deep" / "spans.jsonl"
    container = container_of(main={"type": "file", "path": str(path)}, second="memory")
    container.validate()
    container.exporter_manager()
    assert not path.parent.exists()


@pytest.mark.may_block  # building resolves paths, and happens once, when the process starts
def test_an_unwritable_path_is_an_error_at_start_that_says_what_to_do(tmp_path: Path) -> None:
    """The error names the file and the cure; the other exporters are open and get everything."""
    (tmp_path / "file").write_text("not a directory")
    _check_bad_start(
        {"type": "file", "path": str(tmp_path / "file" / "spans.jsonl")},
        [str(tmp_path / "file" / "spans.jsonl"), "cannot be opened", "choose another path"],
    )


@pytest.mark.may_block  # building resolves paths, and happens once, when the process starts
def test_a_corrupt_store_is_an_error_at_start_that_says_what_to_do(tmp_path: Path) -> None:
    """The file is left as it is."""
    path = tmp_path / "store.sqlite3"
    path.write_bytes(b"this is not a database, but a text of some length" * 100)
    before = path.read_bytes()
    _check_bad_start(
        {"type": "sqlite", "path": str(path)}, [str(path), "file is not a database", "choose another path"]
    )
    assert path.read_bytes() == before


def _check_bad_start(entry: Mapping[str, Any], parts: list[str]) -> None:
    backend = Backend()

    async def optional() -> None:
        container = container_of(backend, settings={"shutdown_timeout": 0.6}, works="taking", bad=entry)
        with capture_logs() as lines:
            await _awaited(container.init_resources())
        (line,) = [line for line in lines if line["event"] == "exporter_start_failed"]
        assert line["exporter"] == "bad"
        assert line["log_level"] == "error"
        for part in parts:
            assert part in line["error"]
        await record(container.exporter_manager(), 3)
        await _awaited(container.shutdown_resources())
        assert len(backend.taken["works"]) == 3

    async def required() -> None:
        container = container_of(backend, works="taking", bad={**entry, "required": True})
        with pytest.raises(ExporterStartError) as caught:
            await _awaited(container.init_resources())
        for part in ("'bad'", *parts):
            assert part in str(caught.value)

    asyncio.run(optional())
    asyncio.run(required())


ENTRY_POINTS = """
[nat_observability.exporters]
plugged = plugin_of_a_test:build
broken = plugin_of_a_test_that_is_broken:build
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a distribution with two entry points, one of which cannot be imported."""
    (tmp_path / "plugin_of_a_test.py").write_text(
        "from nat_observability import SpanExporter\n"
        "taken = []\n"
        "def build(name, own, settings):\n"
        "    return SpanExporter(taken.extend, name=name)\n"
    )
    (tmp_path / "plugin_of_a_test_that_is_broken.py").write_text(
        "raise ImportError('libplugin.so is missing')\n"
    )
    info = tmp_path / "plugin_of_a_test-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-of-a-test\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("plugin_of_a_test", None)


@pytest.mark.may_block  # entry points are looked up once, when the process starts
@pytest.mark.usefixtures("plugins")
async def test_an_installed_package_adds_exporter_types() -> None:
    """Its entry point is loaded if its type is configured; another one that is broken does not matter then."""
    async with opened(container_of(main="plugged")) as container:
        container.validate()
        await record(container.exporter_manager())
    assert len(sys.modules["plugin_of_a_test"].taken) == 1


@pytest.mark.usefixtures("plugins")
def test_an_installed_package_that_is_broken_is_named() -> None:
    """The error is the package's own, and says which exporter type wanted it."""
    with pytest.raises(ImportError, match=r"libplugin\.so is missing") as caught:
        container_of(main="broken").validate()
    assert caught.value.__notes__ == [
        "Exporter type 'broken' is the entry point 'plugin_of_a_test_that_is_broken:build'. Mend or remove its package."
    ]


@pytest.mark.usefixtures("plugins")
async def test_the_embedding_service_has_the_last_word_on_a_type(backend: Backend) -> None:
    """Its own types win over installed and built-in ones of the same name."""
    own = {"plugged": backend.build, "memory": backend.build}
    container = container_of(main="plugged", second="memory")
    container.exporter_types.override(providers.Object(own))
    async with opened(container):
        await record(container.exporter_manager())
    assert sorted(backend.taken) == ["main", "second"]


# Event loops


def test_g11_opened_in_one_loop_and_closed_in_another(backend: Backend) -> None:
    """The loop that opened it may end: the runtime stays open for jobs in other loops, and the last one drains it."""
    container = container_of(backend, main="taking")
    runtime = runtime_of(container)

    async def init() -> None:
        await _awaited(container.init_resources())

    async def job() -> None:
        await record(container.exporter_manager(), 3)

    async def shutdown() -> None:
        await _awaited(container.shutdown_resources())

    states = []
    for step_of_the_life in (init, job, shutdown):
        asyncio.run(step_of_the_life())
        states.append(runtime.state)
    assert states == [RuntimeState.OPEN, RuntimeState.OPEN, RuntimeState.CLOSED]
    assert [item.name for item in backend.taken["main"]] == ["s0", "s1", "s2"]
