"""Sampling: which runs an exporter gets, what it gets of a failed run, and how the rest is counted."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from structlog.testing import capture_logs

from nat_observability import ContextState, step
from nat_observability.delivery.ledger import LedgerSnapshot
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.errors import InvalidSamplingError
from nat_observability.events import IntermediateStep, Item
from nat_observability.exporter.sampling import Sampling
from nat_observability.exporter.span_exporter import SpanExporter
from nat_observability.exporter.step_exporter import StepExporter
from nat_observability.exporter_manager import ExporterManager
from nat_observability.runtime import ObservabilityRuntime
from tests.delivery.backends import Backend

NEVER = Sampling(0.0)
IF_FAILED = Sampling(0.0, keep_errors=True)
trace_ids = st.integers(1, 2**128 - 1)
ratios = st.floats(0, 1)


def exporters_of(sink: Any, sampling: Sampling | None, kind: Any = SpanExporter, **limits: Any) -> Any:
    return {
        "main": kind(sink, name="main", sampling=sampling, flush="delivered", limits=DeliveryLimits(**limits))
    }


async def run_of(
    exporters: Any, names: str, *, fails: str = "", raises: bool = False, state: ContextState | None = None
) -> LedgerSnapshot:
    """Record a run with a step for each letter, of which some fail; it may raise in the end. Return its ledger."""
    manager = ExporterManager.from_exporters(exporters)
    try:
        async with manager.start(state or ContextState()):
            for name in names:
                try:
                    with step("tool", name, input=name * 100):
                        if name in fails:
                            raise KeyError(name)
                except KeyError:
                    pass
            if raises:
                raise LookupError("the run itself")
    except LookupError:
        assert raises
    return manager.report.exporters["main"].ledger or LedgerSnapshot()


# The decision


@given(trace_ids, ratios)
def test_a_ratio_chooses_what_opentelemetry_chooses(trace_id: int, ratio: float) -> None:
    """The rule is that of TraceIdRatioBased, to the bit: services that share a ratio choose the same traces."""
    theirs = TraceIdRatioBased(ratio).should_sample(None, trace_id, "a").decision is not Decision.DROP
    assert Sampling(ratio).samples(ContextState(trace_id=f"{trace_id:032x}")) is theirs


@given(trace_ids, ratios, ratios)
def test_a_lower_ratio_chooses_among_the_same(trace_id: int, one: float, other: float) -> None:
    """An exporter with a higher ratio gets every run that one with a lower ratio gets."""
    state = ContextState(trace_id=f"{trace_id:032x}")
    lower, higher = sorted([one, other])
    assert Sampling(lower).samples(state) <= Sampling(higher).samples(state)


@given(trace_ids)
def test_the_ends_are_none_and_all(trace_id: int) -> None:
    """With 0 no run is chosen, and with 1 every one."""
    state = ContextState(trace_id=f"{trace_id:032x}")
    assert not Sampling(0).samples(state)
    assert Sampling(1).samples(state)


@pytest.mark.parametrize(
    ("workflow", "chosen"),
    [("chat", True), ("chat-eu", False), ("Chat", False), ("report", True), (None, False), ("other", False)],
)
def test_the_first_rule_that_fits_the_workflow_counts(workflow: str | None, chosen: bool) -> None:
    """A rule is a name or a glob, with regard to case; if none fits, the general ratio applies."""
    sampling = Sampling(0.0, rules={"chat": 1.0, "chat-*": 0.0, "r*": 1, "*": 0})
    assert sampling.samples(ContextState(workflow_name=workflow)) is chosen


@pytest.mark.parametrize("flags", ["00", "01"])
def test_a_caller_decides_if_parent_based(flags: str) -> None:
    """With `parent_based`, a run that continues a trace follows its caller; one that begins a trace, the ratio."""
    continued = ContextState(traceparent=f"00-{'a' * 32}-{'b' * 16}-{flags}")
    assert continued.caller_sampled is (flags == "01")
    for ratio in (0.0, 1.0):
        assert Sampling(ratio, parent_based=True).samples(continued) is (flags == "01")
        assert Sampling(ratio, parent_based=True).samples(ContextState()) is (ratio == 1.0)
        assert Sampling(ratio).samples(continued) is (ratio == 1.0)
    assert ContextState().caller_sampled is None


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan"), "0.5", None, True])
def test_a_wrong_ratio_is_refused(wrong: Any) -> None:
    """The error names the value, and what is allowed."""
    with pytest.raises(InvalidSamplingError, match="ratio of a Sampling is a number from 0 to 1"):
        Sampling(wrong)
    with pytest.raises(InvalidSamplingError, match=r"rules\['chat'\] of a Sampling is a number from 0 to 1"):
        Sampling(rules={"chat": wrong})


@pytest.mark.parametrize("limit", ["run_bytes", "all_bytes"])
@pytest.mark.parametrize("wrong", [0, -1, 1.5, True])
def test_a_wrong_limit_is_refused(limit: Any, wrong: Any) -> None:
    """A limit is a positive whole number."""
    with pytest.raises(InvalidSamplingError, match=f"{limit} of a Sampling is a positive number"):
        Sampling(**{limit: wrong})


# What is delivered


@pytest.mark.parametrize(("kind", "items"), [(SpanExporter, 3), (StepExporter, 6)])
async def test_g5_a_run_that_is_not_chosen_is_counted(kind: Any, items: int) -> None:
    """None of it is delivered, and each item is counted as sampled out, for run and exporter, without a line."""
    sink = Backend()
    exporters = exporters_of(sink, NEVER, kind)
    with capture_logs() as lines:
        async with ObservabilityRuntime(exporters) as runtime:
            ledger = await run_of(exporters, "abc", fails="b", raises=True)
            assert runtime.health().ledger == ledger
    assert ledger == LedgerSnapshot(accepted=items, dropped={"sampled_out": items})
    assert (sink.taken, [line for line in lines if line["log_level"] == "warning"]) == ([], [])


async def test_g5_counts_of_a_run_that_is_not_chosen_add_up_while_it_runs() -> None:
    """The run's ledger says at any moment what was recorded so far; a span that stays open counts as one."""
    exporters = exporters_of(Backend(), NEVER)
    manager = ExporterManager.from_exporters(exporters)
    async with manager.start(ContextState()):
        await manager.flush()
        for count in range(1, 4):
            step("tool", "left open").__enter__()
            assert manager.report.ledger == LedgerSnapshot(accepted=count, dropped={"sampled_out": count})
    assert manager.report.ledger == LedgerSnapshot(accepted=3, dropped={"sampled_out": 3})


async def test_the_decision_is_one_for_the_whole_run() -> None:
    """Each of many runs is delivered whole or not at all, and the ratio chooses them by their ids."""
    sink = Backend()
    exporters = exporters_of(sink, Sampling(0.5))
    states = [ContextState(trace_id=f"{number << 59 | 1:032x}") for number in range(32)]
    for state in states:
        await run_of(exporters, "abc", state=state)
    chosen = [state.run.run_id for state in states[:16]]
    assert [item.run.run_id for item in sink.taken] == [run_id for run_id in chosen for _ in "abc"]


async def test_exporters_choose_each_for_itself() -> None:
    """One exporter gets every run, while another of the same manager gets none."""
    full, empty = Backend(), Backend()
    exporters = {
        "full": SpanExporter(full, name="full", flush="delivered"),
        "empty": SpanExporter(empty, name="empty", flush="delivered", sampling=NEVER),
    }
    manager = ExporterManager.from_exporters(exporters)
    async with manager.start(ContextState()):
        with step("tool", "a"):
            pass
    assert (full.names, empty.names) == (["a"], [])
    assert manager.report.ledger.adds_up


# Keeping what fails


@pytest.mark.parametrize("kind", [SpanExporter, StepExporter])
@pytest.mark.parametrize("failed", [{"fails": "a"}, {"fails": "c"}, {"raises": True}])
async def test_a_run_that_fails_leaves_whole(kind: Any, failed: dict[str, Any]) -> None:
    """After an error in any step, or one that ends the run's block, every item of the run is delivered, in order."""
    sink = Backend()
    exporters = exporters_of(sink, IF_FAILED, kind)
    ledger = await run_of(exporters, "abc", **failed)
    names = [name for name in "abc" for _ in range(1 if kind is SpanExporter else 2)]
    assert sink.names == names
    assert ledger == LedgerSnapshot(accepted=len(names), delivered=len(names))


async def test_a_run_that_is_marked_as_failed_leaves_whole() -> None:
    """An integration that signals failure without an exception sets it in the state of the run."""
    sink = Backend()
    manager = ExporterManager.from_exporters(exporters_of(sink, IF_FAILED))
    async with manager.start(state := ContextState()):
        with step("tool", "a"):
            pass
        state.failed = True
    assert sink.names == ["a"]


async def test_a_run_that_ends_well_is_forgotten() -> None:
    """Its held items are counted as sampled out when it ends, and are in no ledger before."""
    sink = Backend()
    exporters = exporters_of(sink, IF_FAILED)
    manager = ExporterManager.from_exporters(exporters)
    async with manager.start(ContextState()):
        for _ in range(3):
            with step("tool", "a"):
                pass
        assert manager.report.ledger == LedgerSnapshot()
        assert (await manager.flush()).complete
    assert sink.taken == []
    assert manager.report.ledger == LedgerSnapshot(accepted=3, dropped={"sampled_out": 3})


async def test_what_is_open_when_a_failed_run_ends_leaves_too() -> None:
    """The spans that the end of the run closes belong to it."""
    sink = Backend()
    manager = ExporterManager.from_exporters(exporters_of(sink, IF_FAILED))

    async def failing() -> None:
        async with manager.start(ContextState()):
            step("tool", "left open").__enter__()
            raise LookupError

    with pytest.raises(LookupError):
        await failing()
    assert sink.names == ["left open"]


async def test_g7_a_long_run_that_is_not_chosen_holds_no_more_than_its_limit() -> None:
    """Its newest items are held, and the others counted; if it fails, the held ones are delivered."""
    sink = Backend()
    exporters = exporters_of(sink, Sampling(0.0, keep_errors=True, run_bytes=20_000))
    ledger = await run_of(exporters, "x" * 200 + "yz", fails="z")
    assert sink.names[-3:] == ["x", "y", "z"]
    assert 10 < len(sink.names) < 30
    kept = len(sink.names)
    assert ledger == LedgerSnapshot(202, kept, dropped={"sampling_buffer_full": 202 - kept})


async def test_g5_all_that_one_large_item_pushes_out_is_counted() -> None:
    """The rest is counted, however many items that are."""
    sink = Backend()
    manager = ExporterManager.from_exporters(
        exporters_of(sink, Sampling(0.0, keep_errors=True, run_bytes=20_000))
    )
    async with manager.start(state := ContextState()):
        for number in range(12):
            with step("tool", f"small {number}"):
                pass
        with step("tool", "large", input="x" * 17_000):
            pass
        state.failed = True
    ledger = manager.report.ledger
    assert sink.names[-1] == "large"
    assert ledger == LedgerSnapshot(
        13, len(sink.names), dropped={"sampling_buffer_full": 13 - len(sink.names)}
    )
    assert len(sink.names) < 6


async def test_g7_all_runs_together_hold_no_more_than_their_limit() -> None:
    """However many runs are open, what is held for all of them is bounded, and is given back as they end."""
    sink = Backend()
    exporters = exporters_of(sink, Sampling(0.0, keep_errors=True, all_bytes=20_000))

    async def one(everyone: asyncio.Barrier) -> LedgerSnapshot:
        manager = ExporterManager.from_exporters(exporters)
        async with manager.start(state := ContextState()):
            for _ in range(5):
                with step("tool", "a", input="x" * 100):
                    pass
            await everyone.wait()
            state.failed = True
        return manager.report.ledger

    for _ in range(2):
        sink.taken.clear()
        everyone = asyncio.Barrier(40)
        ledgers = await asyncio.gather(*(one(everyone) for _ in range(40)))
        assert sum(ledger.delivered for ledger in ledgers) == len(sink.taken)
        assert 10 < len(sink.taken) < 30
        assert all(ledger.adds_up and ledger.accepted == 5 for ledger in ledgers)


async def test_steps_of_threads_are_held_and_kept_once() -> None:
    """While several threads record and one of them fails, each span is delivered once."""
    sink = Backend()
    manager = ExporterManager.from_exporters(exporters_of(sink, IF_FAILED))

    def work(thread: int) -> None:
        for number in range(50):
            try:
                with step("tool", f"{thread}-{number}"):
                    if (thread, number) == (3, 25):
                        raise KeyError
            except KeyError:
                pass

    async with manager.start(ContextState()):
        await asyncio.gather(*(asyncio.to_thread(work, thread) for thread in range(6)))
    assert sorted(sink.names) == sorted(f"{thread}-{number}" for thread in range(6) for number in range(50))
    assert manager.report.ledger == LedgerSnapshot(accepted=300, delivered=300)


async def test_a_run_that_is_not_chosen_opens_nothing(tmp_path: Path) -> None:
    """Without `keep_errors` a run costs no connection, and starts although the back end cannot be opened."""

    class Broken(Backend):
        async def open(self) -> None:
            raise ConnectionError("no receiver")

    sink = Broken()
    exporters = exporters_of(sink, NEVER)
    assert await run_of(exporters, "a") == LedgerSnapshot(accepted=1, dropped={"sampled_out": 1})


# Limits of a run


@pytest.mark.parametrize(("kind", "items"), [(SpanExporter, 100), (StepExporter, 200)])
async def test_g7_what_exceeds_the_bytes_of_a_run_is_dropped_and_counted(kind: Any, items: int) -> None:
    """Each run has its own count; what still fits is taken."""
    for _ in range(2):
        sink = Backend()
        exporters = exporters_of(sink, None, kind, run_bytes=20_000)
        ledger = await run_of(exporters, "a" * 100)
        manager = ExporterManager.from_exporters(exporters)
        async with manager.start(ContextState()):
            with step("tool", "huge", input="x" * 30_000):
                pass
            with step("tool", "small"):
                pass
        assert sink.names[-1] == "small"
        assert "run_too_large" in manager.report.ledger.dropped
        assert ledger.delivered * 700 < 20_000 < (ledger.delivered + 2) * 900
        assert ledger == LedgerSnapshot(
            items,
            ledger.delivered,
            dropped={"run_too_large": items - ledger.delivered},
        )


def outputs(taken: list[Item]) -> list[Any]:
    return [None if isinstance(item, IntermediateStep) else item.output for item in taken]


async def test_g7_chunks_of_open_steps_are_bounded() -> None:
    """A run's chunks are kept up to its limit; the span says how much there was, and counts every chunk."""
    sink = Backend()
    manager = ExporterManager.from_exporters(exporters_of(sink, None, chunk_bytes=50_000))
    async with manager.start(ContextState()):
        with step("llm", "long") as long, step("llm", "short") as short:
            short.chunk("first ")
            for _ in range(1000):
                long.chunk("x" * 1000)
            short.chunk("lost")
        with step("llm", "next") as after:
            after.chunk("y" * 40_000)
            after.chunk("z" * 9_000)
    by_name = {item.name: item for item in sink.taken if not isinstance(item, IntermediateStep)}
    output = by_name["long"].output
    assert isinstance(output, str)
    assert output.startswith("x" * 40_000)
    assert output.endswith("x[cut:1000000]")
    assert len(output) < 50_000
    assert by_name["long"].chunks == 1000
    # The room that one run used is free again when it has ended.
    assert by_name["next"].output == "y" * 40_000 + "z" * 9_000
    assert manager.report.exporters["main"].oddities["chunk_over_limit"] > 900


async def test_g13_a_cut_leaves_no_first_half_of_a_secret() -> None:
    """The text just before the cut is left out too: a key that is cut in two would not be recognized."""
    sink = Backend()
    manager = ExporterManager.from_exporters(exporters_of(sink, None, chunk_bytes=10_000))
    async with manager.start(ContextState()):
        with step("llm", "a") as call:
            for piece in ("x" * 5000, "the key is ", "half-of-a-key", "y" * 6000, "the other half"):
                call.chunk(piece)
    (output,) = outputs(sink.taken)
    assert output == f"[cut:{5000 + 11 + 13 + 6000 + 14}]"


async def test_g7_an_ended_run_holds_nothing() -> None:
    """When a run has ended, nothing refers to what it streamed or held back."""
    sink = Backend()
    exporters = exporters_of(sink, IF_FAILED)
    await run_of(exporters, "abc")
    gc.collect()
    assert not [each for each in gc.get_objects() if type(each).__name__ in {"Holding", "_Chunks"}]
