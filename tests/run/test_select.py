"""`select`: which runs an exporter takes part in, by their ids; for the destination of one tenant, for example."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any, cast

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
from nat_observability.errors import InvalidSelectionError
from nat_observability.exporter import ExporterTemplate, Selection
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


async def test_a_selection_that_would_have_to_be_awaited_selects_nothing() -> None:
    """What it gives is true whatever its answer will be."""
    exporter = CapturingExporter()

    async def select(run: Run) -> bool:
        return False

    exporter.select = cast(Any, lambda run: select(run))
    await record(ExporterManager.from_exporters({"a": exporter}))
    assert not exporter.steps


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


def names(exporters: dict[str, CapturingExporter]) -> dict[str, list[str | None]]:
    """Return the users whose runs each exporter has recorded."""
    return {name: [each.run.user_id for each in exporter.steps[::2]] for name, exporter in exporters.items()}


async def recorded(selections: dict[str, Any], runs: list[dict[str, Any]]) -> dict[str, list[str | None]]:
    """Record a step in each of some runs; return the users whose runs each exporter got."""
    exporters = {name: CapturingExporter() for name in selections}
    for name, select in selections.items():
        exporters[name].select = select
    manager = ExporterManager.from_exporters(dict(exporters))
    for ids in runs:
        await record(manager, **ids)
    return names(exporters)


async def test_a_mapping_selects_by_tags_and_ids() -> None:
    """Every name has to match, and of a list one value; an id and a tag are looked up by their names."""
    runs: list[dict[str, Any]] = [
        {"user_id": "1", "tags": {"tenant": "acme", "plan": "gold"}},
        {"user_id": "2", "tags": {"tenant": "acme", "plan": "free"}},
        {"user_id": "3", "tags": {"tenant": "globex", "plan": "gold"}, "workflow_name": "chat"},
        {"user_id": "4"},
    ]
    selections = {
        "acme": {"tenant": "acme"},
        "gold acme": {"tenant": "acme", "plan": "gold"},
        "both": {"tenant": ["acme", "globex"]},
        "user": {"user_id": {"2", "4"}},
        "chat": {"workflow_name": "chat", "tenant": "globex"},
        "function": lambda run: run.user_id == "4",
        "all": None,
        "acme again": {"tenant": ("acme",)},
        "tag of that name": {"user": "1"},
    }
    assert await recorded(selections, runs) == {
        "acme": ["1", "2"],
        "gold acme": ["1"],
        "both": ["1", "2", "3"],
        "user": ["2", "4"],
        "chat": ["3"],
        "function": ["4"],
        "all": ["1", "2", "3", "4"],
        "acme again": ["1", "2"],
        "tag of that name": [],
    }


@pytest.mark.parametrize("tenant", ["*", "a?me", "[a-z]*", "../../etc", "a,b", "a=b", " acme", "ä" * 5000])
async def test_a_mapping_in_code_has_no_globs(tenant: str) -> None:
    """A tenant whose name looks like a pattern or a path gets its own runs and no other's."""
    runs: list[dict[str, Any]] = [
        {"user_id": "own", "tags": {"tenant": tenant}},
        {"user_id": "other", "tags": {"tenant": "acme"}},
    ]
    assert await recorded({"own": {"tenant": tenant}}, runs) == {"own": ["own"]}


async def test_globs_are_asked_for() -> None:
    """`*` and `?` stand for any characters; a bracket is one, and a run without the tag is not selected."""
    runs: list[dict[str, Any]] = [
        {"user_id": tenant, "tags": {"tenant": tenant}} for tenant in ("acme-1", "acme-22", "[a]", "a\nb", "")
    ]
    selections = {
        glob: Selection({"tenant": glob}, globs=True) for glob in ("acme-?", "acme-*", "[a]*", "a*b", "*")
    }
    selections["mixed"] = Selection({"tenant": ["acme-22", "a??"], "user_id": "a*"}, globs=True)
    assert await recorded(selections, [*runs, {"user_id": "none"}]) == {
        "acme-?": ["acme-1"],
        "acme-*": ["acme-1", "acme-22"],
        "[a]*": ["[a]"],
        "a*b": ["a\nb"],
        "*": ["acme-1", "acme-22", "[a]", "a\nb", ""],
        "mixed": ["acme-22", "a\nb"],
    }


@pytest.mark.parametrize(
    ("select", "problem"),
    [
        ({}, "no name at all"),
        ({"tenant": ""}, "for 'tenant' an empty text"),
        ({"tenant": None}, "for 'tenant' a NoneType"),
        ({"tenant": 5}, "for 'tenant' a int"),
        ({"tenant": []}, "for 'tenant' no value"),
        ({"tenant": ["a", b"b"]}, "for 'tenant' a bytes"),
        ({"": "acme"}, "the name ''"),
        ({5: "acme"}, "the name 5"),
        ("tenant=acme", "of type str"),
    ],
)
def test_a_selection_that_cannot_be_used(select: Any, problem: str) -> None:
    """It is refused where it is set: a mistake must neither select everything nor, silently, nothing."""
    exporter = CapturingExporter()
    with pytest.raises(InvalidSelectionError, match=problem):
        exporter.select = select
    with pytest.raises(InvalidSelectionError, match=problem):
        SpanExporter(MemorySink(1), select=select)


async def test_a_selection_may_be_changed() -> None:
    """What is set on a registered exporter counts from the next run on."""
    exporter = CapturingExporter()
    manager = ExporterManager.from_exporters({"a": exporter})
    exporter.select = {"user_id": "1"}
    await record(manager, user_id="1")
    exporter.select = {"user_id": "2"}
    await record(manager, user_id="1")
    await record(manager, user_id="2")
    exporter.select = None
    await record(manager, user_id="3")
    assert names({"a": exporter}) == {"a": ["1", "2", "3"]}


async def test_a_subclass_may_select_by_a_method() -> None:
    """It is asked once for each run, as a function is, and beside mappings."""

    class Chosen(CapturingExporter):
        def select(self, run: Run) -> bool:
            return run.user_id == "1"

    exporters: dict[str, CapturingExporter] = {"method": Chosen(), "mapping": CapturingExporter()}
    exporters["mapping"].select = {"user_id": "2"}
    manager = ExporterManager.from_exporters(dict(exporters))
    for user_id in ("1", "2"):
        await record(manager, user_id=user_id)
    assert names(exporters) == {"method": ["1"], "mapping": ["2"]}


async def test_exporters_take_part_in_their_order() -> None:
    """However they select."""
    exporters: dict[str, BaseExporter] = {name: CapturingExporter() for name in "edcba"}
    exporters["e"].select = lambda run: True
    exporters["c"].select = {"user_id": "1"}
    exporters["a"].select = {"tenant": ["1", "2"]}
    manager = ExporterManager.from_exporters(exporters)
    state = ContextState(user_id="1", tags={"tenant": "1"})
    assert list(manager.taking_part(state.run)) == list("edcba")
    async with manager.start(state):
        assert list(manager.report.exporters) == list("edcba")
    async with manager.start(ContextState()):
        assert list(manager.report.exporters) == list("edb")


async def calls_of_a_run(tenants: int) -> int:
    """Return how many functions an empty run calls, its second, with an exporter for each of some tenants."""
    template = ExporterTemplate(lambda name: MemorySink(1))
    exporters: dict[str, BaseExporter] = {f"t{n}": template.exporter(f"t{n}") for n in range(tenants)}
    manager = ExporterManager.from_exporters(exporters)
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    async with ObservabilityRuntime({"t3": exporters["t3"]}):
        for profile in (None, count):
            gc.collect()
            gc.disable()  # it would call what waits for objects to go
            sys.setprofile(profile)
            try:
                async with manager.start(ContextState(tags={"tenant": "t3"})):
                    pass
            finally:
                sys.setprofile(None)
                gc.enable()
    return calls


async def test_a_run_asks_only_its_own_among_a_thousand() -> None:
    """The exporters that select by a mapping are looked up: their number does not matter."""
    # The fewest of several, because what a process does now and then falls into one or another of them.
    few, many = [[await calls_of_a_run(tenants) for _ in range(3)] for tenants in (10, 1000)]
    assert min(many) == min(few)
