"""run_demo(): many runs of a small real workflow at once, and their outcomes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

import nat_observability
from nat_observability.cli.demo.agent import FolderAgent
from nat_observability.cli.demo.text_folder import TextFolder
from nat_observability.cli.session import Session
from nat_observability.context import ContextState
from nat_observability.delivery.ledger import LedgerSnapshot
from nat_observability.exporter_manager import ExporterManager
from nat_observability.foreign_errors import describe
from nat_observability.run.report import ManagerReport
from nat_observability.store import Store

_RUNS_IN_A_CONVERSATION = 4
_IDLE_RUNS = 100
_PACKAGE = Path(nat_observability.__file__).parent


class DemoRun(msgspec.Struct, frozen=True):
    """One run: its number, its id, its question, the error that ended it, and its manager."""

    number: int
    run_id: str
    question: str
    error: str | None
    manager: ExporterManager


class Demo(msgspec.Struct, frozen=True):
    """
    The outcome of a session's runs.

    `busy_overhead_s` and `idle_overhead_s` are what the exporters cost one run, start and stop together: in each of the
    runs, with all others on the same event loop, and in some empty ones, one after the other.
    """

    runs: list[DemoRun]
    busy_overhead_s: list[float]
    idle_overhead_s: list[float]


def own_file(name: str) -> Path | None:
    """Return a file or folder of this project by its path in the repository; None if it is not installed."""
    in_wheel, in_repository = _PACKAGE / "cli" / name, _PACKAGE.parent / name
    if in_wheel.exists():
        return in_wheel
    # Next to an installed package there may be anything that other packages put there.
    return in_repository if (_PACKAGE.parent / "pyproject.toml").exists() and in_repository.exists() else None


async def run_demo(
    session: Session,
    folder: TextFolder,
    questions: Sequence[str],
    *,
    runs: int,
    concurrency: int,
    advance: Callable[[], object] = lambda: None,
) -> Demo:
    """
    Answer the questions in turn, each in a run with its own manager.

    Args:
        session: An open session; its exporters get what the runs record.
        folder: The folder to search for answers.
        questions: Repeated from the beginning when they run out.
        runs: The number of runs.
        concurrency: The number of runs under way at once.
        advance: Called when a run has ended.
    """
    agent = FolderAgent(folder)
    done: list[DemoRun] = []
    busy: list[float] = []

    async def work(numbers: Iterator[int]) -> None:
        # All workers share one iterator: each takes the next run when it has finished one.
        for number in numbers:
            question = questions[number % len(questions)]
            state = ContextState(
                conversation_id=f"conversation-{number // _RUNS_IN_A_CONVERSATION + 1}",
                workflow_name="answer_question",
            )
            manager = session.manager()
            error: str | None = None
            try:
                async with manager.start(state):
                    await agent.answer(question)
            except Exception as raised:  # noqa: BLE001  the workflow's own: the run has failed, the demo goes on
                error = describe(raised)
            busy.append(_overhead(manager.report))
            done.append(DemoRun(number, state.run.run_id, question, error, manager))
            advance()

    numbers = iter(range(runs))
    async with asyncio.TaskGroup() as group:
        for _ in range(min(runs, concurrency)):
            group.create_task(work(numbers))
    return Demo(
        sorted(done, key=lambda run: run.number), busy, [await _idle_run(session) for _ in range(_IDLE_RUNS)]
    )


async def _idle_run(session: Session) -> float:
    manager = session.manager()
    async with manager.start(ContextState()):
        pass
    return _overhead(manager.report)


def _overhead(report: ManagerReport) -> float:
    return (report.start_duration_s or 0.0) + (report.stop_duration_s or 0.0)


def check_demo(demo: Demo, session: Session, store: Store) -> list[str]:
    """
    Return, after the session's end, a sentence for each disagreement between the runs, the ledgers and the store.

    Args:
        demo: The outcome of the runs.
        session: A closed session.
        store: An open store, at the path of one of the session's exporters; what others have put there does not count.
    """
    reports = [run.manager.report for run in demo.runs]
    problems: list[str] = []
    by_run: dict[str, LedgerSnapshot] = {}
    for report in reports:
        for name, each in report.exporters.items():
            if each.ledger is not None:
                by_run[name] = by_run.get(name, LedgerSnapshot()) + each.ledger
    health = session.health()
    for name, ledger in by_run.items():
        if ledger != health[name].ledger:
            problems.append(f"Exporter {name!r} has {health[name].ledger}, its runs together {ledger}.")
    spans = max((ledger.accepted for ledger in by_run.values()), default=0)
    problems += session.problems({name: ledger.accepted for name, ledger in by_run.items()}, spans)
    unheard = sum(report.unheard for report in reports)
    if unheard:
        problems.append(f"{unheard} steps were recorded after the end of their runs.")
    counts = store.counts([run.run_id for run in demo.runs])
    failed = sum(run.error is not None for run in demo.runs)
    expected = {"runs": len(demo.runs), "runs_failed": failed, "spans": spans, "spans_unpaired": 0}
    for what, number in expected.items():
        if counts[what] != number:
            problems.append(f"{store.path} holds {counts[what]} {what.replace('_', ' ')}, not {number}.")
    return problems


def failures(demo: Demo) -> dict[str, int]:
    """Return how many runs failed, by the name of the error."""
    return dict(
        Counter(run.error.partition(":")[0] for run in demo.runs if run.error is not None).most_common()
    )
