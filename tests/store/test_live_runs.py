"""Runs in the store while they go on, and what became of their items, recorded by real exporters."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nat_observability import ContextState, ExporterManager, ObservabilityRuntime, step
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.exporter import Sampling, SpanExporter
from nat_observability.processors import Redactor
from nat_observability.sinks import SqliteSink
from nat_observability.store import SpanNode, Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def sink(path: Path) -> SqliteSink:
    return SqliteSink(path)


def tree(path: Path, run_id: str) -> list[SpanNode]:
    if not path.exists():
        return []
    with Store(path) as store:
        return store.tree(run_id)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110  it comes true in another thread
            await asyncio.sleep(0.02)


def refuse(batch: object) -> None:
    raise ValueError("no")


async def test_open_steps_are_shown_redacted_and_ledgers_when_they_are_final(
    path: Path, sink: SqliteSink
) -> None:
    """
    A step that has been open for half a second is in the store, through the processors, and in no ledger.

    When the run has ended, the store has what became of its items in each exporter.
    """
    exporters = {
        "store": SpanExporter(sink, processors=[Redactor()], limits=DeliveryLimits(batch_age=0.05)),
        "broken": SpanExporter(refuse, name="broken"),
    }
    manager = ExporterManager()
    for name, exporter in exporters.items():
        manager.add_exporter(name, exporter)
    async with ObservabilityRuntime(exporters):
        async with manager.start(ContextState(run_id="r", tags={"tenant": "acme"})):
            with step("workflow", "root", input={"password": "sesame"}):
                with step("tool", "quick"):
                    pass
                with step("llm", "slow"):
                    await until(lambda: [len(node.children) for node in tree(path, "r")] == [2])
                    [root] = await asyncio.to_thread(tree, path, "r")
                    assert [(node.span.name, node.running) for node in (root, *root.children)] == [
                        ("root", True),
                        ("quick", False),
                        ("slow", True),
                    ]
                    await asyncio.to_thread(check_open, path)
        await until(lambda: bool(ledgers(path)))
    await asyncio.to_thread(check_ended, path)


def check_open(path: Path) -> None:
    assert b"sesame" not in path.read_bytes() + Path(f"{path}-wal").read_bytes()
    with Store(path) as store:
        [run] = store.runs()
        assert (run.name, run.status, run.activity) == ("root", "open", "running")
        assert store.ledgers("r") == {}


def check_ended(path: Path) -> None:
    assert ledgers(path) == {"store": (3, 3, 0, 0), "broken": (3, 0, 3, 0)}
    [root] = tree(path, "r")
    assert [(node.span.name, node.running) for node in (root, *root.children)] == [
        ("root", False),
        ("quick", False),
        ("slow", False),
    ]
    with Store(path) as store:
        assert [run.status for run in store.runs()] == ["ok"]
        assert [process.ended_ns is not None for process in store.processes()] == [True]


def ledgers(path: Path) -> dict[str, tuple[int, int, int, int]]:
    with Store(path) as store:
        return {
            name: (each.accepted, each.delivered, each.failed, each.pending)
            for name, each in store.ledgers("r").items()
        }


async def test_without_a_runtime_the_ledger_is_written_when_the_store_closes(
    path: Path, sink: SqliteSink
) -> None:
    """The last ledgers are not left behind, and a run of a moment shows no open step."""
    exporter = SpanExporter(sink)
    manager = ExporterManager()
    manager.add_exporter("store", exporter)
    async with manager.start(ContextState(run_id="r")):
        with step("workflow", "root"):
            pass
    await asyncio.wrap_future(exporter.delivery.closed())
    assert await asyncio.to_thread(ledgers, path) == {"store": (1, 1, 0, 0)}


async def test_a_run_that_may_be_sampled_out_is_not_shown(sink: SqliteSink) -> None:
    """What is held back until the end of the run is not in the store before."""

    held = SpanExporter(sink, sampling=Sampling(ratio=0.0, keep_errors=True))
    manager = ExporterManager()
    manager.add_exporter("store", held)
    async with ObservabilityRuntime({"store": held}), manager.start(ContextState(run_id="r")):
        feed = held.delivery.feed
        assert feed is not None
        with step("workflow", "root"):
            assert feed.open_spans() == []


@pytest.mark.may_block  # a fork waits for what the sink is writing
async def test_a_forked_child_shows_nothing_of_its_parent(sink: SqliteSink) -> None:
    """The steps that are open in the parent are not the child's."""
    exporter = SpanExporter(sink)
    manager = ExporterManager()
    manager.add_exporter("store", exporter)
    async with ObservabilityRuntime({"store": exporter}), manager.start(ContextState(run_id="r")):
        feed = exporter.delivery.feed
        assert feed is not None
        with step("workflow", "root"):
            await until(lambda: len(feed.open_spans()) == 1)
            child = os.fork()
            if not child:
                os._exit(len(feed.open_spans()) + len(feed.ledgers(last=True)))
            assert (await asyncio.to_thread(os.waitpid, child, 0))[1] == 0
            assert len(feed.open_spans()) == 1
