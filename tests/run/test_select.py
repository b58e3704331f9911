"""`select`: which runs an exporter takes part in, by their ids; for the destination of one tenant, for example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from nat_observability import (
    ContextState,
    ExporterManager,
    ObservabilityRuntime,
    Run,
    SpanExporter,
    StepExporter,
    step,
)
from nat_observability.delivery.state import DeliveryState
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.sinks import MemorySink
from nat_observability.testing import CapturingExporter
from tests.reference_toolkit import ReferenceExporter


def of(user_id: str) -> Callable[[Run], bool]:
    """Return a `select` for the runs of one user."""
    return lambda run: run.user_id == user_id


async def record(manager: ExporterManager, **ids: Any) -> None:
    """Record one step in a run of these ids."""
    async with manager.get().start(ContextState(**ids)):
        with step("tool", str(ids.get("user_id"))):
            pass


async def test_a_run_reaches_who_selects_it() -> None:
    """Each tenant's exporter gets its tenant's runs, and one without a selection gets all."""
    exporters: dict[str, BaseExporter] = {name: CapturingExporter() for name in ("a", "b", "all")}
    exporters["a"].select, exporters["b"].select = of("a"), of("b")
    manager = ExporterManager.from_exporters(exporters)
    for user_id in ("a", "b", "c", "a"):
        await record(manager, user_id=user_id)
    names = {
        name: [each.name for each in exporter.steps[::2]]
        for name, exporter in exporters.items()
        if isinstance(exporter, CapturingExporter)
    }
    assert names == {"a": ["a", "a"], "b": ["b"], "all": ["a", "b", "c", "a"]}


@pytest.mark.parametrize("kind", [SpanExporter, StepExporter])
async def test_an_exporter_with_a_delivery(kind: type[StepExporter]) -> None:
    """It is an argument; a run that is not selected neither opens the sink nor is in its ledger."""
    taken: list[str] = []
    exporter = kind(
        lambda batch: taken.extend(item.name for item in batch), flush="delivered", select=of("a")
    )
    manager = ExporterManager.from_exporters({"a": exporter})
    await record(manager, user_id="b")
    assert exporter.delivery.health().state is DeliveryState.NEW
    await record(manager, user_id="a")
    assert set(taken) == {"a"}
    assert exporter.delivery.health().ledger.accepted == len(taken)


async def test_the_report_names_who_takes_part() -> None:
    """No task is made for the others."""
    exporters = {f"t{number}": CapturingExporter() for number in range(5)}
    for name, exporter in exporters.items():
        exporter.select = of(name)
    manager = ExporterManager.from_exporters(dict(exporters))
    async with manager.start(ContextState(user_id="t3")):
        assert list(manager._tasks) == ["t3"]
        assert list(manager.report.exporters) == ["t3"]
    assert await manager.get_all_exporters() == exporters


async def test_a_run_that_no_exporter_selects() -> None:
    """It runs, and its steps go nowhere."""
    exporter = CapturingExporter()
    exporter.select = lambda run: False
    await record(ExporterManager.from_exporters({"a": exporter}), user_id="a")
    assert not exporter.steps


async def test_exporters_that_are_not_isolated_select_too() -> None:
    """Without a context state the run has an id and nothing else."""
    seen: list[Run] = []

    def select(run: Run) -> bool:
        seen.append(run)
        return False

    exporter = CapturingExporter()
    exporter.select = select
    manager = ExporterManager.from_exporters({"a": exporter})
    async with manager.start():
        with step("tool", "a"):
            pass
    assert not exporter.steps
    assert [run.user_id for run in seen] == [None]


async def test_a_selection_that_fails_selects_nothing() -> None:
    """An error never sends one tenant's data to another; the run goes on, and one line reports it."""
    exporter, other = CapturingExporter(), CapturingExporter()

    def select(run: Run) -> bool:
        raise LookupError("no such tenant")

    exporter.select = select
    manager = ExporterManager.from_exporters({"a": exporter, "other": other})
    with capture_logs() as lines:
        for _ in range(3):
            await record(manager, user_id="a")
    assert not exporter.steps
    assert len(other.steps) == 6
    failed = [line for line in lines if line["event"] == "exporter_selection_failed"]
    assert len(failed) <= 1  # repeated ones are summarised, those of other tests too
    for line in failed:
        # The place where it was raised, and not its message, which may be about the tenant.
        assert "LookupError" in line["error"]
        assert "no such tenant" not in line["error"]


async def test_a_required_exporter_is_required_only_if_it_takes_part() -> None:
    """A run that it does not select starts without it."""
    exporter = CapturingExporter()
    exporter.select = of("a")
    manager = ExporterManager()
    manager.add_exporter("a", exporter, required=True)
    await record(manager, user_id="b")
    await record(manager, user_id="a")
    assert len(exporter.steps) == 2


async def test_a_foreign_exporters_select_is_its_own() -> None:
    """A class of the reference toolkit may have an attribute of that name."""

    class Foreign(ReferenceExporter):
        def select(self, *columns: str) -> None:
            raise AssertionError

    manager = ExporterManager.from_exporters({"a": Foreign()})  # type: ignore[dict-item]
    async with manager.start(ContextState()):
        assert list(manager.report.exporters) == ["a"]


async def test_the_runtime_opens_all_of_them() -> None:
    """It does so whichever runs will come."""
    exporter = SpanExporter(MemorySink(10), select=of("a"))
    async with ObservabilityRuntime({"a": exporter}) as runtime:
        assert runtime.health().exporters.keys() == {"a"}
        assert exporter.delivery.held
