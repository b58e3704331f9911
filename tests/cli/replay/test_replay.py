"""replay: what a recording holds is what goes through the exporters, many runs and many replays at once."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nat_observability.cli.replay.event_file import EventFile
from nat_observability.cli.replay.replay import Replayed, replay
from nat_observability.cli.session import Session, build_container, open_session
from nat_observability.containers import ObservabilityContainer
from nat_observability.events import Boundary, IntermediateStep, Run, Status
from nat_observability.exporter_manager import ExporterManager
from nat_observability.settings import ObservabilitySettings
from nat_observability.store import Store
from nat_observability.testing import CapturingExporter
from tests.cli.builders import PLAIN, SIDECAR, expected, line, workflow, write_lines


def delivering(**exporters: dict[str, Any]) -> ObservabilityContainer:
    return build_container(ObservabilitySettings(exporters=exporters))  # type: ignore[arg-type]


def storing(path: Path, **fields: Any) -> ObservabilityContainer:
    return delivering(store={"type": "sqlite", "path": str(path), **fields})


async def replayed(
    path: Path, container: ObservabilityContainer, concurrency: int = 50
) -> tuple[Replayed, Session]:
    with EventFile(path) as file:
        file.index()
        async with open_session(container) as session:
            result = await replay(file, session, concurrency=concurrency)
    return result, session


def counts_of(result: Replayed) -> dict[str, Any]:
    counts: dict[str, Any] = msgspec.to_builtins(result.counts)
    return {"lines": result.steps, **counts}


def stored_counts(path: Path) -> dict[str, Any]:
    with Store(path) as store:
        return {"lines": 895, **store.counts()}


class CapturingSession(Session):
    """A session whose managers have a capturing exporter."""

    capturing = CapturingExporter()

    def manager(self) -> ExporterManager:
        manager = super().manager()
        manager.add_exporter("CAPTURING", self.capturing)
        return manager


@pytest.mark.parametrize("path", [PLAIN, SIDECAR], ids=["plain", "sidecar"])
@pytest.mark.parametrize("concurrency", [1, 50])
def test_the_counts_are_the_true_ones(path: Path, concurrency: int, tmp_path: Path) -> None:
    """The spans that went through, and the store afterwards, have exactly the counts of the recording."""
    result, session = asyncio.run(replayed(path, storing(tmp_path / "s.db"), concurrency))
    assert counts_of(result) == expected()
    assert stored_counts(tmp_path / "s.db") == expected()
    assert session.problems(result.accepted, result.spans) == []
    assert session.health()["store"].ledger.delivered == 334
    assert result.oddities == {"repeated_end": 8, "repeated_start": 9}


@pytest.mark.parametrize("count", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_many_replays_at_once(tmp_path: Path, count: int) -> None:
    """Many replays in one process, of both forms, are each as right as one alone."""

    containers = [storing(tmp_path / f"{number}.db") for number in range(count)]

    async def all_of_them() -> list[tuple[Replayed, Session]]:
        each = [
            replayed(PLAIN if number % 2 else SIDECAR, container)
            for number, container in enumerate(containers)
        ]
        return await asyncio.gather(*each)

    for number, (result, session) in enumerate(asyncio.run(all_of_them())):
        assert counts_of(result) == expected()
        assert stored_counts(tmp_path / f"{number}.db") == expected()
        assert session.problems(result.accepted, result.spans) == []


def test_replays_into_one_store_do_not_add_up(tmp_path: Path) -> None:
    """Several replays of one file into one store, at once too, leave what one leaves."""

    containers = [storing(tmp_path / "s.db") for _ in range(3)]

    async def three() -> None:
        await asyncio.gather(*(replayed(PLAIN, container) for container in containers))

    asyncio.run(three())
    assert stored_counts(tmp_path / "s.db") == expected()


def test_a_small_queue_loses_nothing(tmp_path: Path) -> None:
    """The replay waits for an exporter that does not keep up, even if a run leaves many spans open."""
    container = storing(tmp_path / "s.db", queue_items=30, batch_items=10, batch_age=0.0)
    result, session = asyncio.run(replayed(PLAIN, container))
    assert session.problems(result.accepted, result.spans) == []
    assert stored_counts(tmp_path / "s.db") == expected()


def test_each_run_gets_its_own_steps_in_their_order() -> None:
    """An exporter sees the steps of each run in the order of the file, under the recorded ids."""
    with EventFile(PLAIN) as file:
        file.index()
        recorded = {
            run.run_id: [file.steps(run, n, Run(run.run_id, "1" * 32))[0] for n in range(len(run))]
            for run in file.runs
        }
        ids = {run.run_id: (run.trace_id, run.conversation_id, run.name) for run in file.runs}

        container = delivering()

        async def capture() -> list[IntermediateStep]:
            async with open_session(container) as session:
                capturing = CapturingSession(session.container)
                await replay(file, capturing, concurrency=20)
            return capturing.capturing.steps

        steps: dict[str, list[IntermediateStep]] = defaultdict(list)
        for step in asyncio.run(capture()):
            steps[step.run.run_id].append(step)
    assert {run: [_what(step) for step in each] for run, each in steps.items()} == {
        run: [_what(step) for step in each] for run, each in recorded.items()
    }
    for run_id, each in steps.items():
        run = each[0].run
        assert (run.trace_id, run.conversation_id, run.workflow_name) == ids[run_id]


def _what(step: IntermediateStep) -> tuple[Any, ...]:
    return step.step_id, step.parent_id, step.kind, step.boundary, step.name, step.time_ns


def test_a_span_without_an_end_ends_with_its_run(tmp_path: Path) -> None:
    """What the recording never closes is incomplete, and ends at the last step of its run, not today."""
    path = write_lines(
        tmp_path / "f",
        workflow("WORKFLOW_START", "w", "a", event_timestamp=10),
        line("TOOL_START", "t", "w", event_timestamp=12),
        line("TOOL_START", "u", "w", event_timestamp=11),
    )
    asyncio.run(replayed(path, storing(tmp_path / "s.db")))
    with Store(tmp_path / "s.db") as store:
        spans = store.spans("a")
        (run,) = store.runs()
    assert {(span.status, span.end_ns) for span in spans} == {(Status.INCOMPLETE, 12 * 10**9)}
    assert (run.status, run.name, run.run.conversation_id) == ("error", "step", "conv-1")


def test_a_run_that_continues_another_is_whole(tmp_path: Path) -> None:
    """A workflow that was called by another run's step is the root of its own, and the link is kept."""
    path = write_lines(
        tmp_path / "f",
        workflow("WORKFLOW_START", "w", "a", parent="elsewhere"),
        workflow("WORKFLOW_END", "w", "a", parent="elsewhere"),
    )
    result, _ = asyncio.run(replayed(path, storing(tmp_path / "s.db")))
    with Store(tmp_path / "s.db") as store:
        (run,) = store.runs()
    assert (run.status, run.run.parent_span_id) == ("ok", "elsewhere")
    assert result.counts.runs_ok == 1


@pytest.mark.parametrize("trace_id", ["", "0" * 32, "no trace", None])
def test_an_invalid_trace_id_is_replaced(tmp_path: Path, trace_id: str | None) -> None:
    """A run whose trace id is not a W3C one gets a new one, and is still replayed."""
    start = workflow("WORKFLOW_START", "w", "a")
    start["payload"]["metadata"]["provided_metadata"]["workflow_trace_id"] = trace_id
    path = write_lines(tmp_path / "f", start)
    result, _ = asyncio.run(replayed(path, storing(tmp_path / "s.db")))
    assert result.counts.runs == 1


def test_one_exporter_that_does_not_open_costs_the_others_nothing(tmp_path: Path) -> None:
    """An unwritable path is a problem of that exporter alone, which is named."""
    container = delivering(
        bad={"type": "file", "path": "/proc/none/f.jsonl"},
        store={"type": "sqlite", "path": str(tmp_path / "s.db")},
    )
    result, session = asyncio.run(replayed(PLAIN, container))
    (problem,) = session.problems(result.accepted, result.spans)
    assert problem.startswith("Exporter 'bad' did not open: SinkError: /proc/none/f.jsonl")
    assert stored_counts(tmp_path / "s.db") == expected()


def test_what_was_not_delivered_is_a_problem(tmp_path: Path) -> None:
    """An exporter that drops or fails is named with what it lost."""
    container = storing(tmp_path / "s.db", queue_items=1, batch_items=1)
    path = write_lines(
        tmp_path / "f",
        workflow("WORKFLOW_START", "w", "a"),
        *(line("TOOL_START", f"t{number}", "w") for number in range(30)),
    )
    result, session = asyncio.run(replayed(path, container))
    (problem,) = session.problems(result.accepted, result.spans)
    assert "of 31 items" in problem
    assert "dropped (queue_full)" in problem


def test_a_missing_span_is_a_problem(tmp_path: Path) -> None:
    """An exporter that was given fewer spans than went through is named."""
    result, session = asyncio.run(replayed(PLAIN, storing(tmp_path / "s.db")))
    assert session.problems(result.accepted, 335) == ["Exporter 'store' accepted 334 of 335 spans."]


def test_steps_are_recorded_too(tmp_path: Path) -> None:
    """An exporter of steps gets every line, and the lower number of spans is not reported as a problem."""
    container = delivering(log={"type": "file", "path": str(tmp_path / "l.jsonl"), "record": "steps"})
    result, session = asyncio.run(replayed(SIDECAR, container))
    assert session.problems(result.accepted, result.spans) == []
    lines = (tmp_path / "l.jsonl").read_bytes().split(b"\n")
    starts = [each for each in lines if each and msgspec.json.decode(each)["boundary"] == Boundary.START]
    assert (len(lines), len(starts)) == (896, 343)


@pytest.mark.may_block
def test_what_an_earlier_process_left_is_not_a_problem(tmp_path: Path) -> None:
    """Spans that an earlier replay left in the spool are delivered too, and are not taken for this one's."""

    def spooling(path: str) -> ObservabilityContainer:
        tries = {
            "spool": "always",
            "spool_path": str(tmp_path / "spool"),
            "retry_for": 0,
            "breaker_failures": 1,
        }
        return delivering(log={"type": "file", "path": path, **tries})

    first, session = asyncio.run(replayed(PLAIN, spooling("/dev/full")))
    assert session.problems(first.accepted, first.spans) == [
        "Exporter 'log' delivered 0 of 334 items: 334 still pending."
    ]
    second, session = asyncio.run(replayed(SIDECAR, spooling(str(tmp_path / "l.jsonl"))))
    assert session.problems(second.accepted, second.spans) == []
    lines = (tmp_path / "l.jsonl").read_bytes().split(b"\n")[:-1]
    spans = Counter(msgspec.json.decode(each)["span_id"] for each in lines)
    assert (len(spans), set(spans.values())) == (334, {2})
