"""G4: foreign code may raise anything at all, anywhere: the workflow, and the exporters beside it, do not notice."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Self

import pytest
import structlog
from structlog.testing import capture_logs

from nat_observability import BaseExporter, ContextState, DeliveryLimits, ExporterManager, SpanExporter, step
from nat_observability.events import IntermediateStep, Item
from nat_observability.exporter.subscription import Subscription
from nat_observability.runtime import ObservabilityRuntime


class Panic(BaseException):
    """As code in Rust raises."""


KINDS = (
    asyncio.CancelledError,
    GeneratorExit,
    SystemExit,
    KeyboardInterrupt,
    Panic,
    StopIteration,
    MemoryError,
)


class Raiser:
    """Raises at one place."""

    def __init__(self, place: str, kind: type[BaseException]) -> None:
        self._place, self._kind = place, kind

    def at(self, place: str) -> None:
        if place == self._place:
            raise self._kind("foreign")


class Blocking(Raiser):
    """A sink of plain functions."""

    def open(self) -> None:
        self.at("open")

    def write(self, batch: object) -> None:
        self.at("write")

    def close(self) -> None:
        self.at("close")

    @property
    def where(self) -> str:
        self.at("where")
        return "there"


class Asynchronous(Blocking):
    """The same, of coroutine functions."""

    async def open(self) -> None:  # type: ignore[override]
        self.at("open")

    async def write(self, batch: object) -> None:  # type: ignore[override]
        self.at("write")

    async def close(self) -> None:  # type: ignore[override]
        self.at("close")


class Own(BaseExporter):
    """An exporter of the application's."""

    def __init__(self, raiser: Raiser) -> None:
        super().__init__()
        self.raiser = raiser

    def export(self, event: IntermediateStep) -> None:
        self.raiser.at("export")

    def subscription(self, state: ContextState) -> Subscription:
        self.raiser.at("subscription")
        return super().subscription(state)

    def create_isolated_instance(self, context_state: ContextState) -> Self:
        self.raiser.at("isolation")
        return super().create_isolated_instance(context_state)


class OwnWithTask(Own):
    """The same with a lifecycle of its own."""

    @asynccontextmanager
    async def start(self) -> AsyncIterator[None]:
        self.raiser.at("start")
        async with super().start():
            yield
        self.raiser.at("end")

    async def wait_ready(self) -> None:
        self.raiser.at("readiness")
        await super().wait_ready()

    async def stop(self) -> None:
        self.raiser.at("stop")
        await super().stop()


class LooksAhead(Raiser):
    """A processor that sees several items at once."""

    def look_ahead(self, items: list[Item]) -> int:
        self.at("look ahead")
        return len(items)

    def __call__(self, item: Item) -> Item:
        self.at("processor")
        return item


def _span_exporter(name: str, raiser: Raiser, sink: Any) -> SpanExporter:
    def selects(run: object) -> bool:
        raiser.at("select")
        return True

    def measures(seconds: float, attributes: Mapping[str, str]) -> None:
        raiser.at("meter")

    exporter = SpanExporter(
        sink, name=name, select=selects, processors=[LooksAhead(raiser._place, raiser._kind)]
    )
    exporter.delivery.measure = measures
    return exporter


PLACES: dict[str, Callable[[str, str, type[BaseException]], BaseExporter]] = {
    **{
        f"{place}": lambda name, at, kind: _span_exporter(name, Raiser(at, kind), lambda batch: None)
        for place in ("select", "meter", "processor", "look ahead")
    },
    **{
        f"{place} of a blocking sink": lambda name, at, kind: SpanExporter(Blocking(at, kind), name=name)
        for place in ("open", "write", "close", "where")
    },
    **{
        f"{place} of an asynchronous sink": lambda name, at, kind: SpanExporter(
            Asynchronous(at, kind), name=name
        )
        for place in ("open", "write", "close", "where")
    },
    **{
        place: lambda name, at, kind: Own(Raiser(at, kind))
        for place in ("export", "subscription", "isolation")
    },
    **{
        f"{place} of a task": lambda name, at, kind: OwnWithTask(Raiser(at, kind))
        for place in ("export", "start", "end", "readiness", "stop", "isolation")
    },
}


@pytest.mark.parametrize("place", PLACES)
async def test_g4_whatever_foreign_code_raises_stays_outside(place: str) -> None:
    """One exporter for each kind of error, all in one run, beside one that works."""
    at = place.partition(" of ")[0]
    exporters = {kind.__name__: PLACES[place](kind.__name__, at, kind) for kind in KINDS}
    # What does not open is tried again as long as the shutdown lasts.
    await works(exporters, shutdown_timeout=1.5 if at == "open" else 10.0)


class InterruptedExporter(BaseExporter):
    """One that a signal interrupts, as Ctrl-C does."""

    def export(self, event: IntermediateStep) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("of_the_run", [True, False], ids=["an exporter", "a subscriber"])
def test_g4_a_signal_that_interrupts_an_exporter_reaches_the_program(*, of_the_run: bool) -> None:
    """The exporter's step counts as failed, by the interruption and not by its fault; the others get theirs."""
    state, exporter = ContextState(), InterruptedExporter()
    others: list[str] = []
    manager = ExporterManager.from_exporters({"interrupted": exporter} if of_the_run else {})
    if not of_the_run:
        state.stream.subscribe("own", exporter.export)

    async def workflow() -> None:
        async with manager.start(state):
            state.stream.subscribe("other", lambda event: others.append(event.name))
            with step("tool", "search"):
                pass

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        loop = asyncio.new_event_loop()
        with capture_logs() as lines, pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(workflow())
        loop.close()
    finally:
        signal.signal(signal.SIGINT, before)
    assert others == ["search"]
    blamed = {"export_interrupted", "export_failed", "subscriber_failed"}
    events = [line["event"] for line in lines if line["event"] in blamed]
    assert events == (["export_interrupted"] if of_the_run else [])
    if of_the_run:
        assert (manager.report.ledger.accepted, manager.report.ledger.failed) == (1, 1)
        assert manager.report.exporters["interrupted"].error is None


async def works(exporters: dict[str, BaseExporter], *, shutdown_timeout: float = 10.0) -> None:
    """Record a run beside an exporter that works, and see that it has everything."""
    taken: list[Item] = []
    exporters["good"] = SpanExporter(
        lambda batch: taken.extend(batch), name="good", limits=DeliveryLimits(batch_age=0.001)
    )
    manager = ExporterManager.from_exporters(exporters, shutdown_timeout=10)
    async with ObservabilityRuntime(exporters, start_timeout=10, shutdown_timeout=shutdown_timeout):
        async with manager.start(ContextState()) as run:
            for number in range(3):
                with step("tool", str(number)):
                    pass
        assert run.report.ledger.adds_up
    assert [item.name for item in taken] == ["0", "1", "2"]
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


def _fails(batch: object) -> None:
    raise ValueError("to have something logged")


@contextmanager
def structlog_raises(kind: type[BaseException]) -> Iterator[None]:
    def processor(*_: object) -> Any:
        raise kind("foreign")

    structlog.configure(processors=[processor])
    try:
        yield
    finally:
        structlog.reset_defaults()


@contextmanager
def handler_raises(kind: type[BaseException]) -> Iterator[None]:
    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise kind("foreign")

    handler = Handler()
    logger = logging.getLogger("nat_observability")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@pytest.mark.parametrize("raises", [structlog_raises, handler_raises])
async def test_g4_whatever_the_applications_logging_raises_stays_outside(raises: Any) -> None:
    """Lines are written by the workflow's thread and by every background thread."""
    for kind in KINDS:
        with raises(kind):
            await works({"bad": SpanExporter(_fails, name="bad")})


class Unprintable:
    """An object, and part of an error, that raises when it is printed."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        raise self.kind("foreign")

    __str__ = __repr__


class UnprintableError(Exception):
    """An error that raises when it is printed."""

    def __str__(self) -> str:
        raise self.args[0]("foreign")

    __repr__ = __str__


@pytest.mark.parametrize("kind", KINDS)
async def test_g4_whatever_a_recorded_object_raises_stays_outside(kind: type[BaseException]) -> None:
    """As input, output, attribute, event and status; and the workflow's own exception leaves as it is."""
    odd = Unprintable(kind)
    raised = UnprintableError(kind)

    def fails(batch: object) -> None:
        raise UnprintableError(kind)

    exporters = {"bad": SpanExporter(fails, name="bad")}

    async def workflow() -> None:
        async with ExporterManager.from_exporters(exporters).start(ContextState()):
            with step("tool", "odd", input=odd, attributes={"a": odd}) as current:
                current.output = odd
                current.set_attribute("b", odd)
                current.event("c", {"d": odd})
                current.set_status("error", odd)  # type: ignore[arg-type]
                raise raised

    with pytest.raises(UnprintableError) as caught:
        await workflow()
    assert caught.value is raised
    await asyncio.wrap_future(exporters["bad"].delivery.closed())
