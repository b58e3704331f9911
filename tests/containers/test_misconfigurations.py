"""Every misconfiguration in docs/misconfigurations.md: an error, a warning or a log line, in few words."""

from __future__ import annotations

import asyncio
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from dependency_injector import containers, providers
from dependency_injector.wiring import Provide
from fastapi import FastAPI
from structlog.testing import capture_logs

from nat_observability import (
    ContextState,
    ExporterManager,
    ObservabilityRuntime,
    SpanExporter,
    StepExporter,
    step,
)
from nat_observability.containers import ObservabilityContainer
from nat_observability.errors import (
    InvalidExporterError,
    InvalidSelectionError,
    MissingContainerError,
    ObservabilityError,
    SettingsError,
    SettingsWarning,
    UnknownStepKindError,
)
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.integrations import run_scope
from nat_observability.integrations.fastapi import instrument
from nat_observability.settings import ObservabilitySettings
from nat_observability.settings.misspelt_variables import unused_hints
from nat_observability.sinks import FileSink, MemorySink, OtlpHttpSink, SqliteSink
from nat_observability.testing import CapturingExporter
from tests.warm_interpreter import run_warm

_PAGE = (
    (Path(__file__).parents[2] / "docs" / "misconfigurations.md").read_text().partition("\n## In code\n")[0]
)
_CELL = re.compile(r"(?<!\\)\|")
P = "NAT_OBSERVABILITY_"


def rows() -> list[tuple[str, str]]:
    """What is configured, and a part of what is said, from the table."""
    lines = [line for line in _PAGE.splitlines() if line.startswith("| `")]
    cells = [[cell.strip().replace("\\|", "|") for cell in _CELL.split(line)[1:-1]] for line in lines]
    return [(given, said.strip("`")) for given, said in cells]


def variables(given: str) -> dict[str, str]:
    """The variables of a row, which leaves out the prefix that all of ours have."""
    found = dict(pair.partition("=")[::2] for pair in re.findall(r"`([^`]+)`", given))
    others = ("OTEL_", "NAT", "PHOENIX_")
    return {name if name.startswith(others) else P + name: value for name, value in found.items()}


def said(monkeypatch: pytest.MonkeyPatch, given: str) -> str:
    """What is said about a configuration: an error, warnings, or a log line."""
    for name in [name for name in os.environ if name.startswith((P, "OTEL_", "PHOENIX_"))]:
        monkeypatch.delenv(name)
    for name, value in variables(given).items():
        monkeypatch.setenv(name, value)
    container = ObservabilityContainer()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", SettingsWarning)
        try:
            container.validate()
        except (ObservabilityError, ValueError) as error:
            return str(error)
    if warned:
        return "\n".join(str(each.message) for each in warned)
    # What the line `no_exporter_configured` says, which is written once in a process.
    settings = container.settings()
    return "" if settings.exporters else "\n".join(unused_hints(type(settings)))


def test_the_table_is_long_enough() -> None:
    """And no row is there twice."""
    assert len({given for given, _ in rows()}) == len(rows()) >= 40


@pytest.mark.may_block  # settings are read once, when the process starts
@pytest.mark.parametrize("quarter", range(4))
def test_each_is_said_in_few_words(tmp_path: Path, quarter: int) -> None:
    """At most ten lines, of which the first says what is wrong; a secret is never shown."""
    wrong = []
    for given, message in rows()[quarter::4]:
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.chdir(tmp_path)
            found = said(monkeypatch, given).splitlines()
        if not found or message not in found[0] or len(found) > 10 or "s3cr3t" in "".join(found):
            wrong.append((given, message, found))
    assert not wrong


def coroutine(name: str, own: object, settings: object) -> Any:
    """A builder that was written as a coroutine function."""

    async def build() -> BaseExporter:
        return SpanExporter(print, name=name)

    return build()


def a_class(name: str, own: object, settings: object) -> Any:
    """A builder that returns a class instead of an exporter."""
    return SpanExporter


def a_future(name: str, own: object, settings: object) -> Any:
    """A builder that returns what will be an exporter."""
    return asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("build", [coroutine, a_class, a_future], ids=lambda build: build.__name__)
async def test_a_builder_that_makes_no_exporter_is_named(build: Callable[..., Any]) -> None:
    """By the name of the exporter, when the container validates."""
    settings = ObservabilitySettings(exporters={"main": {"type": "own"}})
    container = ObservabilityContainer(settings=settings, exporter_types=providers.Object({"own": build}))
    with pytest.raises(InvalidExporterError, match=r"^Exporter 'main' is (a|the class) \w+"):
        container.validate()


async def selects(run: Any) -> bool:
    """A selection that was written as a coroutine function."""
    return True


def instrumented(**options: Any) -> None:
    """Instrument an application with these options."""
    instrument(FastAPI(), ObservabilityContainer(), **options)


class Unfinished(SpanExporter):
    """Its `__init__` does not call that of its base class."""

    def __init__(self) -> None:
        pass


class Waiting(BaseExporter):
    """No run waits for what `export` returns."""

    async def export(self, event: Any) -> None:  # type: ignore[override]
        pass


class Service(containers.DeclarativeContainer):
    """A service's container, with ours in it."""

    observability = providers.Container(ObservabilityContainer)


class Replacing(ObservabilityContainer):
    """Replaces a provider that others have been given."""

    exporters = providers.Object({"captured": CapturingExporter()})


class ReplacingSettings(ObservabilityContainer):
    """Likewise."""

    settings = providers.Object(ObservabilitySettings())


@containers.copy(ObservabilityContainer)
class CopyingSettings(ObservabilityContainer):
    """Likewise, with the other providers made again."""

    settings = providers.Singleton(ObservabilitySettings)


class ReplacingTypes(ObservabilityContainer):
    """Likewise."""

    exporter_types = providers.Object({})


class ReplacingProcessing(ObservabilityContainer):
    """Likewise."""

    processing = providers.Object({})


MEMORY = ObservabilitySettings(exporters={"main": {"type": "memory"}})


def own(build: object) -> providers.Provider[Any]:
    """An exporter type of the service's own."""
    return providers.Object({"own": build})


def validated(**given: object) -> None:
    """Validate a container that is given this, besides an exporter of the service's own type."""
    settings = ObservabilitySettings(
        exporters={"main": {"type": "own" if "exporter_types" in given else "memory"}}
    )
    ObservabilityContainer(**{"settings": settings, **given}).validate()


IN_CODE: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: SpanExporter(print, select=selects), InvalidSelectionError, "a coroutine function"),  # type: ignore[arg-type]
    (lambda: SpanExporter(print, flush=cast(Any, "deliverd")), ValueError, "not 'deliverd'"),
    (
        lambda: instrumented(heatlh="/health"),
        TypeError,
        "no option 'heatlh'. Known: baggage, excluded, health",
    ),
    (lambda: instrumented(health="health"), ValueError, "health: 'health' is not a path"),
    (lambda: ObservabilityRuntime([]), TypeError, "maps names to exporters; not of type list"),  # type: ignore[arg-type]
    (lambda: ExporterManager().add_exporter("a", cast(Any, SpanExporter)), InvalidExporterError, "the class"),
    (lambda: ContextState(tags="tenant=acme"), TypeError, "tags is a mapping"),  # type: ignore[arg-type]
    (lambda: step("lmm", "x"), UnknownStepKindError, "Did you mean 'llm'?"),
    (
        lambda: SpanExporter(print, sampling=cast(Any, 0.1)),
        TypeError,
        "such as Sampling(0.1), not of type float",
    ),
    (lambda: SpanExporter(print, limits=cast(Any, {})), TypeError, "limits is a DeliveryLimits(...)"),
    (lambda: SqliteSink(":memory:"), ValueError, "':memory:' is not a path of a file"),
    (lambda: SqliteSink("file:spans?mode=memory"), ValueError, "is not a path of a file"),
    (lambda: FileSink("file:///tmp/spans.jsonl"), ValueError, "is not a path of a file"),
    (lambda: SpanExporter(print, processors=cast(Any, str)), TypeError, "Pass processors=[...]"),
    (lambda: OtlpHttpSink(headers=cast(Any, "a=s3cr3t")), TypeError, "Pass headers as {'name': 'value'}"),
    (lambda: OtlpHttpSink(timeout=cast(Any, "3")), ValueError, "timeout is a positive, finite number"),
    (lambda: ObservabilityRuntime({}, required="main"), TypeError, "Pass required=['main']"),
    (lambda: ObservabilitySettings(required=["main"]), SettingsError, "EXPORTERS__MAIN__REQUIRED"),
    (lambda: FileSink(" "), ValueError, "' ' is not a path of a file"),
    (lambda: SqliteSink("spans/"), ValueError, "'spans/' is not a path of a file"),
    (
        lambda: ObservabilityRuntime({"a": cast(Any, MemorySink())}),
        InvalidExporterError,
        "It is a sink: write SpanExporter(sink).",
    ),
    (
        lambda: ObservabilityRuntime({"a": cast(Any, SpanExporter)}),
        InvalidExporterError,
        "is the class SpanEx",
    ),
    (
        lambda: ExporterManager().add_exporter("a", cast(Any, Provide["pool"])),
        InvalidExporterError,
        "It was not injected: decorate the function with @inject, and call container.wire(modules=[...])",
    ),
    (
        lambda: ExporterManager().add_exporter("a", cast(Any, providers.Factory(CapturingExporter))),
        InvalidExporterError,
        "It is a provider: call it",
    ),
    (
        lambda: ExporterManager().add_exporter("a", Unfinished()),
        InvalidExporterError,
        "Call super().__init__(sink)",
    ),
    (lambda: ExporterManager().add_exporter("a", Waiting()), InvalidExporterError, "Write `def export`"),
    (lambda: run_scope(cast(Any, Provide["x"])), MissingContainerError, "It was not injected"),
    (
        lambda: run_scope(cast(Any, providers.Singleton(ObservabilityContainer))),
        MissingContainerError,
        "It is a provider",
    ),
    (lambda: run_scope(Service()), MissingContainerError, "Pass the container inside it"),
    (
        lambda: ObservabilityContainer.exporter_manager(),
        MissingContainerError,
        "the class ObservabilityContainer",
    ),
    (lambda: ObservabilityContainer.validate(), MissingContainerError, "the class ObservabilityContainer"),
    (lambda: validated(settings={"exporters": {}}), SettingsError, "settings= is a dict: pass Observabil"),
    (lambda: validated(settings=ObservabilitySettings), SettingsError, "is the class ObservabilitySettings"),
    (lambda: validated(settings=None), SettingsError, "settings= is a NoneType"),
    (lambda: validated(exporter_types=providers.Object([1])), TypeError, "exporter_types is a mapping"),
    (
        lambda: validated(exporter_types=own(SpanExporter)),
        TypeError,
        "exporters of type 'own' cannot be called",
    ),
    (lambda: validated(exporter_types=own(CapturingExporter())), TypeError, "it is not a function"),
    (lambda: validated(exporter_types=own(lambda: None)), TypeError, "takes these three"),
    (lambda: validated(processing=providers.Object([1])), TypeError, "processing is a mapping"),
    (lambda: validated(processing=providers.Object({"*": print})), TypeError, "to OwnProcessing"),
    (lambda: Replacing().exporter_manager(), TypeError, "replaces 'exporters', of which"),
    (
        lambda: ReplacingProcessing(settings=MEMORY).exporter_manager(),
        TypeError,
        "replaces 'processing', of which",
    ),
    (lambda: ReplacingTypes(settings=MEMORY).validate(), TypeError, "replaces 'exporter_types', of which"),
    (lambda: ReplacingSettings().validate(), TypeError, "replaces 'settings', of which"),
    (lambda: CopyingSettings().validate(), TypeError, "ObservabilityContainer replaces 'settings', of"),
]


@pytest.mark.may_block  # settings are read once, when the process starts
@pytest.mark.parametrize(("make", "error", "words"), IN_CODE, ids=[words for *_, words in IN_CODE])
def test_what_is_wrong_in_code_is_refused(
    make: Callable[[], object], error: type[Exception], words: str
) -> None:
    """Where it is written, in words."""
    with pytest.raises(error, match=re.escape(words)) as caught:
        make()
    assert len(str(caught.value).splitlines()) <= 10


async def test_an_exporter_that_comes_after_the_shutdown_is_warned_about() -> None:
    """It is not open, and opens with its first run; before the start nothing has to be said."""
    spans: list[Any] = []
    runtime = ObservabilityRuntime({})
    runtime.add_exporter("early", SpanExporter(print))
    with capture_logs() as logs:
        async with runtime:
            pass
        assert [line for line in logs if line["log_level"] == "warning"] == []
        runtime.add_exporter("late", SpanExporter(spans.extend, flush="delivered"))
    [said] = [line for line in logs if line["log_level"] == "warning"]
    assert (said["event"], said["feature"], said["state"]) == (
        "runtime_not_open",
        "Exporter 'late'",
        "closed",
    )
    manager = ExporterManager.from_exporters({"late": runtime.exporters["late"]})
    async with manager.start(ContextState()):
        with step("tool", "x"):
            pass
    assert [span.name for span in spans] == ["x"]


def warnings_of(logs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The warnings among captured lines, each of which says what to do."""
    found = [line for line in logs if line["log_level"] == "warning"]
    assert all(line["cure"] for line in found)
    return found


def made_in_memory() -> ObservabilityContainer:
    """A container with one exporter."""
    return ObservabilityContainer(settings=ObservabilitySettings(exporters={"main": {"type": "memory"}}))


def printed(code: str, directory: Path, *arguments: str) -> str:
    """What a program writes to stderr in a process of its own."""
    env = {name: value for name, value in os.environ.items() if not name.startswith((P, "OTEL_"))}
    ended = run_warm(code, arguments, cwd=directory, env=env, timeout=50.0)
    assert ended.returncode == 0, ended.stderr
    return ended.stderr


@pytest.mark.may_block  # settings are read once, when the process starts
async def test_a_container_of_a_subclass_holds_its_objects() -> None:
    """A reset while it is open waits until it is closed, and it can be validated, as in the class itself."""

    class Mine(ObservabilityContainer):
        answer = providers.Object(42)

    container = Mine(settings=ObservabilitySettings(exporters={"main": {"type": "memory"}}))
    container.validate()
    await container.init_resources()
    exporters = container.exporters()
    container.reset_singletons()
    assert container.exporters() is exporters
    await container.shutdown_resources()
    assert container.exporters() is not exporters


def shared_sinks(folder: Path) -> dict[str, dict[str, BaseExporter]]:
    """Exporters that write one file, or through one sink, by how they do it."""
    sink = MemorySink()
    (folder / "link.jsonl").symlink_to(folder / "one.jsonl")
    (folder / "one.jsonl").touch()
    return {
        "file": {"a": SpanExporter(FileSink(folder / "x")), "b": SpanExporter(FileSink(f"{folder}/./x"))},
        "store": {"c": SpanExporter(SqliteSink(folder / "y")), "d": SpanExporter(SqliteSink(folder / "y"))},
        "sink": {"e": SpanExporter(sink), "f": SpanExporter(sink)},
        "link": {
            "g": SpanExporter(FileSink(folder / "one.jsonl")),
            "h": SpanExporter(FileSink(folder / "link.jsonl")),
        },
    }


@pytest.mark.may_block  # files are made here
async def test_exporters_with_one_file_or_one_sink_are_named(tmp_path: Path) -> None:
    """By the runtime and by a manager; neither looks at the disk, which may hang, so a link is another file."""
    for how, exporters in shared_sinks(tmp_path).items():
        with capture_logs() as logs:
            async with ObservabilityRuntime(exporters):
                pass
            ExporterManager.from_exporters(exporters)  # said before
        if how == "link":
            assert warnings_of(logs) == []
            continue
        [said] = warnings_of(logs)
        assert (said["event"], {said["exporter"], said["other"]}) == ("exporter_sink_shared", {*exporters}), (
            how
        )
    (tmp_path / "again").mkdir()
    for how, exporters in shared_sinks(tmp_path / "again").items():
        with capture_logs() as logs:
            ExporterManager.from_exporters({f"{how}-{name}": each for name, each in exporters.items()})
        assert [line["event"] for line in warnings_of(logs)] == (
            [] if how == "link" else ["exporter_sink_shared"]
        )


@pytest.mark.may_block  # as above
async def test_exporters_that_may_share_a_file_are_not_named(tmp_path: Path) -> None:
    """Those of tenants, those with one delivery, functions, and a device, which holds nothing."""
    delivery = SpanExporter(FileSink(tmp_path / "shared")).delivery
    exporters: dict[str, BaseExporter] = {
        "acme": SpanExporter(SqliteSink(tmp_path / "s"), select={"tenant": "acme"}),
        "globex": SpanExporter(SqliteSink(tmp_path / "s"), select={"tenant": "globex"}),
        "spans": SpanExporter(delivery),
        "steps": StepExporter(delivery),
        "null": SpanExporter(FileSink("/dev/null")),
        "nothing": SpanExporter(FileSink("/dev/null")),
        "printed": SpanExporter(print),
        "again": SpanExporter(print),
    }
    with capture_logs() as logs:
        async with ObservabilityRuntime(exporters):
            pass
        ExporterManager.from_exporters(exporters)
    assert warnings_of(logs) == []


@pytest.mark.parametrize("name", ["A/B", "a,b", "a*", "a b=c", "line\nbreak"])
def test_a_name_that_no_variable_can_hold_is_named(name: str) -> None:
    """Once, however many managers have the exporter."""
    with capture_logs() as logs:
        for _ in range(3):
            ExporterManager.from_exporters({name: CapturingExporter(), "plain-1.of_2": CapturingExporter()})
    assert [(line["event"], line["exporter"]) for line in warnings_of(logs)] == [
        ("exporter_name_unusable", name)
    ]


async def test_two_runs_with_one_state_are_named() -> None:
    """Each gets the steps of both; one after the other they do not mix, and other exporters may look on."""
    async with (
        ObservabilityRuntime({"a": SpanExporter(MemorySink())}) as one,
        ObservabilityRuntime({"b": SpanExporter(MemorySink())}) as two,
    ):
        manager = ExporterManager.from_exporters(dict(one.exporters))
        other = ExporterManager.from_exporters(dict(two.exporters))
        state = ContextState()
        with capture_logs() as logs:
            async with manager.start(state), other.start(state):
                pass
            async with manager.start(state):
                pass
        assert warnings_of(logs) == []
        with capture_logs() as logs:
            async with manager.start(state), manager.get().start(state):
                pass
        assert [line["event"] for line in warnings_of(logs)] == ["context_state_shared"]


UNRECORDED = """
import asyncio
from nat_observability import ContextState, ExporterManager, SpanExporter
from nat_observability.containers import ObservabilityContainer
from nat_observability.settings import ObservabilitySettings

async def main():
    off = ObservabilityContainer(settings=ObservabilitySettings(enabled=False))
    chosen = ExporterManager.from_exporters({"acme": SpanExporter(print, select={"tenant": "acme"})})
    for manager in (off.exporter_manager(), ExporterManager(), ExporterManager(), chosen, chosen):
        async with manager.start(ContextState(run_id="r")):
            pass
    container = ObservabilityContainer(settings=ObservabilitySettings())
    for _ in range(2):
        async with container.exporter_manager().start(ContextState()):
            pass

asyncio.run(main())
"""


def test_a_run_that_nothing_records_is_named_once(tmp_path: Path) -> None:
    """No exporter, a container that is not open; not if it is switched off, or a selection leaves it out."""
    told = printed(UNRECORDED, tmp_path)
    assert [line.partition(" cure=")[0] for line in told.splitlines()] == [
        "run_not_recorded workflow_run_id=r reason=no_exporter",
        "runtime_not_open feature='a run' state=new",
    ]
