"""The demonstration: it shows what happened, and fails if it cannot."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nat_observability.cli.demo.demo import Demo, check_demo, failures, run_demo
from nat_observability.cli.demo.questions import questions
from nat_observability.cli.demo.text_folder import TextFolder
from nat_observability.cli.session import Session, build_container, open_session
from nat_observability.settings import ObservabilitySettings
from nat_observability.store import Store
from nat_observability.testing import wait_until
from tests.cli.builders import command, run_command

RUNS = 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "tea.md").write_text(
        "# Tea\n\nGreen tea is not fermented.\n\n## Coffee\n\nIt is roasted.\n"
    )
    return tmp_path / "texts"


def demonstrate(folder: Path, store: Path) -> tuple[Demo, Session]:
    exporters: Any = {
        "store": {"type": "sqlite", "path": store},
        "log": {"type": "file", "path": store.with_suffix(".jsonl")},
    }
    container = build_container(ObservabilitySettings(exporters=exporters))
    texts = TextFolder(folder)
    asked = questions(texts)

    async def run() -> tuple[Demo, Session]:
        async with open_session(container) as session:
            demo = await run_demo(session, texts, asked, runs=RUNS, concurrency=5)
        return demo, session

    return asyncio.run(run())


def checked(demo: Demo, session: Session, path: Path) -> list[str]:
    with Store(path) as store:
        return check_demo(demo, session, store)


def test_runs_ledgers_and_store_agree(folder: Path, tmp_path: Path) -> None:
    """Every run is in the store as it ended, and every span of it."""
    path = tmp_path / "s.db"
    demo, session = demonstrate(folder, path)
    assert checked(demo, session, path) == []
    assert [run.number for run in demo.runs] == list(range(RUNS))
    assert len({run.run_id for run in demo.runs}) == RUNS
    with Store(path) as store:
        stored = {run.run.run_id: run for run in store.runs(limit=100)}
    assert {run_id: run.status for run_id, run in stored.items()} == {
        run.run_id: "ok" if run.error is None else "error" for run in demo.runs
    }
    assert Counter(run.run.conversation_id for run in stored.values()) == {
        f"conversation-{number}": 4 for number in (1, 2, 3)
    }


def test_some_questions_have_no_answer(folder: Path, tmp_path: Path) -> None:
    """Runs fail because of what they were asked, and are counted by their error."""
    demo, _ = demonstrate(folder, tmp_path / "s.db")
    assert failures(demo) == dict.fromkeys(("FileNotFoundError", "NoAnswerError", "NothingToSearchError"), 2)


def test_overhead_is_measured_in_each_run(folder: Path, tmp_path: Path) -> None:
    """Each run's start and stop is measured, and that of runs without any work."""
    demo, _ = demonstrate(folder, tmp_path / "s.db")
    assert len(demo.busy_overhead_s) == RUNS
    assert all(overhead > 0 for overhead in demo.busy_overhead_s + demo.idle_overhead_s)


def test_what_others_have_stored_does_not_count(folder: Path, tmp_path: Path) -> None:
    """A store that an earlier demonstration has filled changes no result."""
    path = tmp_path / "s.db"
    first = demonstrate(folder, path)
    second = demonstrate(folder, path)
    assert checked(*second, path) == []
    assert checked(*first, path) == []


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ("DELETE FROM spans WHERE span_id = (SELECT max(span_id) FROM spans)", "spans, not"),
        (
            "DELETE FROM runs WHERE run_id = (SELECT max(run_id) FROM runs WHERE status = 'ok')",
            "11 runs, not 12.",
        ),
        ("UPDATE runs SET status = 'ok'", "0 runs failed, not 6."),
        ("UPDATE spans SET status = 'incomplete' WHERE kind = 'TASK'", "12 spans unpaired, not 0."),
    ],
)
def test_a_store_that_lacks_something_is_a_problem(
    folder: Path, tmp_path: Path, damage: str, problem: str
) -> None:
    """A store that does not hold what was delivered is found out."""
    path = tmp_path / "s.db"
    demo, session = demonstrate(folder, path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(damage)
    (found,) = checked(demo, session, path)
    assert found.startswith(f"{path} holds ")
    assert problem in found


def test_a_ledger_that_lacks_a_run_is_a_problem(folder: Path, tmp_path: Path) -> None:
    """It is found out if the runs' ledgers do not add up to the exporter's."""
    path = tmp_path / "s.db"
    demo, session = demonstrate(folder, path)
    problems = checked(msgspec.structs.replace(demo, runs=demo.runs[1:]), session, path)
    assert [problem for problem in problems if problem.startswith("Exporter 'store' has LedgerSnapshot(")]


def test_a_demonstration_in_an_empty_folder(tmp_path: Path) -> None:
    """The command needs nothing, leaves its files below var/, and prints a tree, a table and where to look on."""
    done = run_command("demo", "--runs", 30, "--concurrency", 10, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file())[:2] == [
        "demo.jsonl",
        "demo.sqlite3",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["var"]
    for shown in (
        r"answer_question +workflow",
        r"├─ plan +task",
        r"│  ├─ read_file +tool",
        r"├─ bm25 +llm .* tokens",
    ):
        assert re.search(shown, done.stdout)
    for shown in (
        r"runs +30 ",
        r"failed runs +3 \(1 ",
        r"run overhead +[\d.]+ .s to start and stop 2 exporters",
        r"store +(\d+) +\1 +0 +0 +0 +yes",
    ):
        assert re.search(shown, done.stdout)
    assert max(len(line) for line in done.stdout.split("\n")) <= 80


def test_the_environment_does_not_change_the_demonstration(tmp_path: Path) -> None:
    """The example settings alone configure it, wherever the machine's own variables point."""
    variables = {
        "OTEL_SDK_DISABLED": "true",
        "NAT_OBSERVABILITY_EXPORTERS__STORE__PATH": str(tmp_path / "other"),
    }
    done = run_command("demo", "--runs", 1, cwd=tmp_path, **variables)
    assert done.returncode == 0
    assert (tmp_path / "var" / "demo.sqlite3").exists()
    assert not (tmp_path / "other").exists()


def test_an_unwritable_place_is_a_clear_error(tmp_path: Path) -> None:
    """If it cannot write, the demonstration says what is wrong and runs nothing."""
    (tmp_path / "var").touch()
    done = run_command("demo", cwd=tmp_path)
    assert done.returncode == 2
    assert "error: The demonstration needs its exporters, and these did not open: log, store." in done.stderr
    assert "choose another path" in done.stderr
    assert "One run" not in done.stdout


@pytest.fixture
def in_the_background(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have started processes ignore SIGINT, as background jobs of a script's shell do."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN if request.param else signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


# SIGTERM is the same in the background, where a shell has it ignore SIGINT alone.
@pytest.mark.parametrize(
    ("sent", "in_the_background"),
    [
        pytest.param(signal.SIGINT, False, id="SIGINT-foreground"),
        pytest.param(signal.SIGINT, True, id="SIGINT-background"),
        pytest.param(signal.SIGTERM, False, id="SIGTERM-foreground"),
        pytest.param(signal.SIGTERM, True, id="SIGTERM-background", marks=pytest.mark.slow),
    ],
    indirect=["in_the_background"],
)
@pytest.mark.timeout(120)  # seconds of a whole process, which a machine that does much else draws out
@pytest.mark.usefixtures("in_the_background")
def test_a_signal_ends_it_in_order(tmp_path: Path, sent: signal.Signals) -> None:
    """When a signal ends the command, what was recorded until then is delivered to every exporter."""
    log = tmp_path / "var" / "demo.jsonl"
    with command("demo", "--runs", 100_000, "--concurrency", 5, cwd=tmp_path) as process:
        wait_until(lambda: log.exists() and log.stat().st_size > 0, timeout=60.0)
        process.send_signal(sent)
        _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (1, "\nAborted!\n")
    logged = [json.loads(line)["span_id"] for line in log.read_text(encoding="utf-8").split("\n")[:-1]]
    with closing(sqlite3.connect(tmp_path / "var" / "demo.sqlite3")) as connection:
        stored = [span_id for (span_id,) in connection.execute("SELECT span_id FROM spans")]
    assert sorted(logged) == sorted(stored)
