"""Input that nobody meant: enormous headers, names that are paths, and things that are not yet what they should be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from dependency_injector import providers
from structlog.testing import capture_logs

from nat_observability import ContextState, ExporterManager, Span, SpanExporter, outgoing_headers, step
from nat_observability.containers import ObservabilityContainer
from nat_observability.errors import InvalidExporterError, InvalidExporterNameError, MissingContainerError
from nat_observability.exporter import ExporterTemplate
from nat_observability.integrations import ProcessScope, run_scope
from nat_observability.integrations.wsgi import RequestMiddleware
from nat_observability.sinks import LoopSink, MemorySink
from nat_observability.testing import until
from tests.integrations.workers import observed

ENORMOUS = 100_000


def in_a_message(headers: dict[str, str]) -> ContextState:
    """The state of a run whose message has these headers."""
    worker = observed()
    with ProcessScope(worker.container, "the test"), run_scope(worker.container, headers=headers) as scope:
        assert len(outgoing_headers().get("baggage", "")) <= 8192
        return scope.state


def in_a_request(headers: dict[str, str]) -> ContextState:
    """The state of the run of a WSGI request with these headers."""
    worker, states = observed(), list[ContextState]()

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        state = ContextState.current()
        assert state is not None
        states.append(state)
        start_response("200 OK", [])
        return []

    environ = {f"HTTP_{name.upper()}": value for name, value in headers.items()} | {"REQUEST_METHOD": "GET"}
    with ProcessScope(worker.container, "the test"):
        body: Any = RequestMiddleware(application, worker.container)(environ, lambda *_: None)
        list(body)
        body.close()
    return states[0]


@pytest.mark.parametrize("begin", [in_a_message, in_a_request])
@pytest.mark.parametrize(
    ("headers", "left_out"),
    [
        ({"baggage": "user.id=u-1," + "a=" + "x" * ENORMOUS + ",session.id=c-1"}, ["a"]),
        ({"baggage": "user.id=u-1," + ",".join(f"k{number}=v" for number in range(ENORMOUS // 10))}, ["k1"]),
        ({"baggage": "user.id=" + "u" * 5000}, ["user.id"]),
        ({"traceparent": "0" * ENORMOUS, "tracestate": "a=" + "b" * ENORMOUS}, None),
    ],
    ids=["one member", "many members", "an id", "no baggage"],
)
def test_an_enormous_header_is_cut_and_named(
    begin: Callable[[dict[str, str]], ContextState], headers: dict[str, str], left_out: list[str] | None
) -> None:
    """What fits is taken; what is left out is named, once in a while."""
    with capture_logs() as lines:
        state = begin(headers)
    assert state.run.user_id == ("u-1" if "user.id=u-1" in headers.get("baggage", "") else None)
    assert state.run.conversation_id is None
    assert len(state.carried_baggage) <= 8192
    cut = [line for line in lines if line["event"] == "baggage_cut"]
    for line in cut:  # another test may have had the last one
        assert line["direction"] == "incoming"
        assert left_out is not None
        assert all(any(key.startswith(each) for each in left_out) for key in line["left_out"])
        assert line["left_out"]


@pytest.mark.parametrize(
    "name", ["../acme", "a/b", "a\\b", "..", "*", "a?", "a[b]", "a\0b", "", " ", None, 7]
)
def test_a_tenant_whose_name_is_a_path_or_a_pattern_is_refused(name: Any) -> None:
    """Before a sink is made of it; the message names it."""
    made: list[str] = []

    def make(name: str) -> MemorySink:
        made.append(name)
        return MemorySink()

    template = ExporterTemplate(make)
    with pytest.raises(InvalidExporterNameError) as caught:
        template.exporter(name)
    assert repr(name) in str(caught.value)
    assert not made


async def test_a_callers_tenant_that_is_a_pattern_matches_itself_only() -> None:
    """A tag is compared, and never expanded: `*` and `../acme` are nobody else's."""
    sinks = {name: MemorySink() for name in ("acme", "globex")}
    exporters = {name: SpanExporter(sink, select={"tenant": name}) for name, sink in sinks.items()}
    for tenant in ("*", "ac*", "../acme", "a?me", "acme\0", "acme"):
        manager = ExporterManager.from_exporters(exporters)
        async with manager.start(ContextState(tags={"tenant": tenant})):
            with step("tool", tenant):
                pass
        await manager.flush()
    assert [span.name for span in sinks["acme"].spans] == ["acme"]
    assert not sinks["globex"].spans


def future() -> Any:
    """What will be an exporter."""
    return asyncio.get_running_loop().create_future()


@pytest.mark.parametrize(
    "make", [lambda: SpanExporter, future, lambda: None], ids=["class", "future", "nothing"]
)
async def test_what_overrides_the_exporters_is_looked_at(make: Callable[[], Any]) -> None:
    """A class instead of an instance, or a provider that gives a Future, is named when the runtime is made."""
    container = ObservabilityContainer()
    container.exporters.override({"main": make()})
    with pytest.raises(
        InvalidExporterError, match=r"^Exporter 'main' is (a|the class) \w+, which is not an exporter"
    ):
        await container.init_resources()


@pytest.mark.parametrize(
    ("given", "kind"), [([SpanExporter(MemorySink())], "list"), (None, "NoneType")], ids=["list", "nothing"]
)
async def test_what_overrides_the_exporters_is_a_mapping(given: object, kind: str) -> None:
    """Anything else is named, with the cure, by the runtime and by a manager."""
    container = ObservabilityContainer()
    container.exporters.override(providers.Object(given))
    with pytest.raises(
        TypeError, match=f"gives a {kind}, not a mapping of names to exporters. Pass providers"
    ):
        await container.init_resources()
    with pytest.raises(TypeError, match=f"gives a {kind}, not a mapping"):
        container.exporter_manager()


@pytest.mark.parametrize("take", [run_scope, lambda given: ProcessScope(given, "the test")])
def test_the_class_of_a_container_is_refused(take: Callable[[Any], object]) -> None:
    """Its providers are there already, and belong to every container."""
    with pytest.raises(
        MissingContainerError, match="was given the class ObservabilityContainer, which is not an object"
    ):
        take(ObservabilityContainer)


@pytest.mark.parametrize(
    "make", [lambda: MemorySink, future, lambda: None], ids=["class", "future", "nothing"]
)
async def test_what_is_not_a_sink_yet_is_refused(make: Callable[[], Any]) -> None:
    """When the exporter is made, with what a sink is."""
    with pytest.raises(TypeError, match=r"is not a sink\. Pass an object with"):
        SpanExporter(make())


async def test_a_closed_pool_is_named() -> None:
    """Its error is in a log line and in the health, with the exporter's name; the run goes on."""

    async def write(batch: Sequence[Span]) -> None:
        raise RuntimeError("the pool is closed")

    container = ObservabilityContainer()
    container.exporters.override({"database": SpanExporter(LoopSink(write), name="database")})
    with capture_logs() as lines:
        await container.init_resources()
        async with container.exporter_manager().start(ContextState()):
            with step("tool", "brew"):
                pass
        runtime = container.runtime_object()
        await until(lambda: runtime.health().ledger.failed == 1)
        health = runtime.health().exporters["database"]
        assert health is not None
        assert health.last_error == "RuntimeError: the pool is closed"
        await container.shutdown_resources()
    said = [line for line in lines if "the pool is closed" in str(line.get("error"))]
    assert {line.get("exporter") for line in said} == {"database"}
    assert {line["log_level"] for line in said} <= {"warning", "error"}
