"""G4: the run comes first."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import pytest
from structlog.testing import capture_logs

from nat_observability import (
    BaseExporter,
    ContextState,
    ExporterManager,
    ExporterState,
    IntermediateStep,
    InvalidExporterError,
    InvalidExporterNameError,
    SpanExporter,
    StepExporter,
    step,
)
from nat_observability.testing import CapturingExporter, until
from tests import scenarios
from tests.reference_toolkit import ReferenceExporter
from tests.scenarios import OURS
from tests.virtual_time import run_virtual


class UnprintableError(Exception):
    """An exception without any useful text."""

    def __str__(self) -> NoReturn:
        raise ValueError("no text")

    __repr__ = __str__

    def __bool__(self) -> NoReturn:
        raise ValueError("no truth")


class ExportRaises(BaseExporter):
    def export(self, event: IntermediateStep) -> None:
        raise UnprintableError


class StartRaises(BaseExporter):
    def export(self, event: IntermediateStep) -> None:
        """Not reached."""

    def start(self) -> NoReturn:
        raise UnprintableError


class EndRaises(BaseExporter):
    def export(self, event: IntermediateStep) -> None:
        """Nothing."""

    @asynccontextmanager
    async def start(self) -> AsyncIterator[None]:
        async with super().start():
            yield
        raise UnprintableError


class ExportPanics(BaseExporter):
    """Raises a BaseException that is not an Exception, as a library written in Rust may do."""

    def export(self, event: IntermediateStep) -> None:
        raise BaseException("panic")


class ExportCancels(BaseExporter):
    """Asks for the result of something that was cancelled."""

    def export(self, event: IntermediateStep) -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        future.result()


class StopRaises(CapturingExporter):
    async def stop(self) -> None:
        raise UnprintableError


class IsolationRaises(CapturingExporter):
    def create_isolated_instance(self, context_state: ContextState) -> NoReturn:
        raise UnprintableError


def write_raises(batch: object) -> None:
    raise UnprintableError


RAISING: dict[str, Any] = {
    "export": ExportRaises,
    "export panics": ExportPanics,
    "export cancels": ExportCancels,
    "start": StartRaises,
    "end": EndRaises,
    "stop": StopRaises,
    "isolation": IsolationRaises,
    "sink of spans": lambda: SpanExporter(write_raises, flush="delivered"),
    "sink of steps": lambda: StepExporter(write_raises, flush="delivered"),
    "reference stop": scenarios.StopRaises,
    "reference start": scenarios.RaisesBeforeStart,
    "reference isolation": scenarios.IsolationRaises,
}


@pytest.mark.parametrize("isolated", [True, False], ids=["isolated", "shared"])
@pytest.mark.parametrize("raising", RAISING)
async def test_no_exporter_error_reaches_the_workflow(raising: str, isolated: bool) -> None:
    """Whatever an exporter raises, and wherever, the workflow keeps its result, and other exporters get every step."""
    good = CapturingExporter()
    manager = ExporterManager(start_timeout=1)
    manager.add_exporter("raising", RAISING[raising]())
    manager.add_exporter("good", good)
    async with manager.start(ContextState() if isolated else None):
        with step("tool", "search", input=1) as current:
            await asyncio.sleep(0)
            current.output = 2
    assert OURS.names(good) == ["search"]
    assert not manager.report.running


@pytest.mark.parametrize("isolated", [True, False], ids=["isolated", "shared"])
def test_errors_while_stopping_stay_inside(isolated: bool) -> None:
    """A stop that raises does not fail the block."""
    scenarios.no_exporter_error_reaches_the_workflow(OURS, isolated)


@pytest.mark.parametrize("isolated", [True, False], ids=["isolated", "shared"])
def test_workflow_exception_leaves_unchanged(isolated: bool) -> None:
    """The same object, with the cause that it had and without a context that it did not."""
    scenarios.workflow_exception_leaves_unchanged(OURS, isolated)


@pytest.mark.parametrize("raising", RAISING)
@pytest.mark.parametrize(
    "raised", [ValueError("own"), asyncio.CancelledError("own"), SystemExit(3), KeyboardInterrupt()]
)
def test_workflow_exception_of_any_kind(raised: BaseException, raising: str) -> None:
    """It propagates, whatever else an exporter raises."""

    async def main() -> BaseException | None:
        manager = ExporterManager(start_timeout=1)
        manager.add_exporter("raising", RAISING[raising]())
        raised.__context__ = caught = None
        try:
            async with manager.start(ContextState()):
                with step("tool", "search"):
                    await asyncio.sleep(0)
                    raise raised
        except BaseException as error:  # noqa: BLE001  the test checks it
            caught = error
        return caught

    assert asyncio.run(main()) is raised
    assert raised.__context__ is None
    assert raised.__cause__ is None


async def test_return_and_break_leave_the_block() -> None:
    """A block that is left by `return`, `break` or `continue` ends its run as any other."""
    exporter = CapturingExporter()
    manager = ExporterManager()
    manager.add_exporter("capturing", exporter)

    async def returns() -> int:
        async with manager.start(ContextState()):
            OURS.record("return")
            return 3

    assert await returns() == 3
    for leave in ("continue", "break", "not reached"):
        async with manager.start(ContextState()):
            OURS.record(leave)
            if leave == "continue":
                continue
            break
    assert OURS.names(exporter) == ["return", "continue", "break"]
    assert not manager.report.running


async def test_stop_that_raises_is_logged_once_and_reported() -> None:
    """One line names it; the report has its error."""

    class Raises(CapturingExporter):
        async def stop(self) -> None:
            await super().stop()
            raise OSError("disk full")

    manager = ExporterManager()
    manager.add_exporter("raises", Raises())
    with capture_logs() as lines:
        async with manager.start(ContextState(run_id="run-1")):
            pass
    failed = [line for line in lines if line["log_level"] in ("warning", "error")]
    assert [(line["event"], line["exporter"], line["workflow_run_id"]) for line in failed] == [
        ("exporter_stop_failed", "raises", "run-1")
    ]
    assert failed[0]["error"].startswith(f"OSError at {__file__}:")
    report = manager.report.exporters["raises"]
    assert (report.state, report.error) == (ExporterState.FAILED, failed[0]["error"])


def test_stop_is_called_once_for_what_failed_to_start() -> None:
    """An isolated instance whose start failed or hung is stopped too, as the reference does it, and only once."""
    stops: list[str] = []

    class Counting(ReferenceExporter):
        async def stop(self) -> None:
            if self.is_isolated_instance:
                stops.append(type(self).__name__)
            await super().stop()

    class Failing(Counting):
        @asynccontextmanager
        async def start(self) -> AsyncIterator[None]:
            if self.is_isolated_instance:
                raise ConnectionError
            yield

    class Hanging(Counting):
        async def wait_ready(self) -> None:
            await asyncio.sleep(scenarios.FOREVER)

    async def main() -> None:
        manager = ExporterManager(start_timeout=1)
        for kind in (Failing, Hanging):
            manager.add_exporter(kind.__name__, kind())  # type: ignore[arg-type]
        async with manager.start(ContextState()):
            pass

    run_virtual(main())
    # Hanging: once at the end of its own start, as one written for the reference toolkit does, once by us.
    assert sorted(stops) == ["Failing", "Hanging", "Hanging"]


@pytest.mark.parametrize("exporter", [object(), None, "exporter", CapturingExporter, lambda: None, 3])
def test_anything_but_an_exporter_is_refused_when_added(exporter: Any) -> None:
    """The error names the object, what it lacks and the cure, at once and not when the run starts."""
    manager = ExporterManager()
    with pytest.raises(
        InvalidExporterError, match=r"'wrong' is (a|the class) .*nat_observability\.BaseExporter"
    ):
        manager.add_exporter("wrong", exporter)
    with pytest.raises(InvalidExporterError):
        ExporterManager.from_exporters({"wrong": exporter})
    with pytest.raises(ValueError, match="Registered: none"):
        manager.get_exporter("wrong")


def test_what_is_missing_is_named() -> None:
    """For an object with some of the methods, the error names the missing ones."""

    class Half:
        def start(self) -> None:
            """Start."""

        stop = None

    with pytest.raises(InvalidExporterError, match="lacks stop, wait_ready") as raised:
        ExporterManager().add_exporter("half", Half())  # type: ignore[arg-type]
    assert raised.value.missing == ("stop", "wait_ready")


@pytest.mark.parametrize("name", ["", " ", None, 3, b"name"])
def test_name_is_not_empty(name: Any) -> None:
    """An exporter's name is a non-empty string."""
    with pytest.raises(InvalidExporterNameError, match="non-empty string"):
        ExporterManager().add_exporter(name, CapturingExporter())


async def test_deep_recursion_of_the_workflow_is_its_own() -> None:
    """A workflow that recurses too deeply gets its RecursionError, and the run ends as usual."""
    manager = ExporterManager()
    manager.add_exporter("capturing", exporter := CapturingExporter())

    @step("function", "recurse")
    def recurse(depth: int) -> None:
        recurse(depth + 1)

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(400)
    try:
        with pytest.raises(RecursionError):
            async with manager.start(ContextState()):
                recurse(0)
    finally:
        sys.setrecursionlimit(limit)
    assert not manager.report.running
    await until(lambda: exporter.steps)
