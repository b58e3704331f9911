"""run_scope() and ProcessScope: one run, and a whole process, with and without an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest

from nat_observability import ContextState, step
from nat_observability.containers import ObservabilityContainer
from nat_observability.errors import ExporterStartError, MissingContainerError
from nat_observability.events import IntermediateStep, Status
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter.span_exporter import SpanExporter
from nat_observability.health import RuntimeState
from nat_observability.integrations.workers.process_scope import ProcessScope
from nat_observability.integrations.workers.run_scope import run_scope
from nat_observability.settings import ObservabilitySettings
from nat_observability.sinks.protocol import Batch
from nat_observability.testing import CapturingExporter, until, wait_until
from tests.integrations.workers import observed
from tests.processes import run_program

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_an_async_block_is_a_run() -> None:
    """With the ids of the headers, and a step for the job; outside the block no run is current."""
    worker = observed()
    headers = {"traceparent": TRACEPARENT, "baggage": "session.id=c-1,user.id=u-1"}
    async with ProcessScope(worker.container, "the test"):
        async with run_scope(worker.container, headers=headers, job="charge", metadata={"a": 1}) as scope:
            with step("tool", "bank"):
                assert ContextState.current() is scope.state
        assert ContextState.current() is None
    charge, bank = worker.span("charge"), worker.span("bank")
    assert (bank.parent_id, bank.run) == (charge.span_id, charge.run)
    assert f"00-{charge.run.trace_id}-{charge.parent_id}-01" == TRACEPARENT
    assert (charge.run.conversation_id, charge.run.user_id, charge.run.workflow_name) == (
        "c-1",
        "u-1",
        "charge",
    )
    assert bytes(charge.metadata or b"") == b'{"a":1}'
    assert scope.report.exporters["memory"].ledger == scope.manager.report.exporters["memory"].ledger


def test_a_sync_block_is_a_run() -> None:
    """Just the same, without an event loop."""
    worker = observed()
    headers = {"traceparent": TRACEPARENT, "baggage": "session.id=c-1,user.id=u-1"}
    with ProcessScope(worker.container, "the test"):
        with run_scope(worker.container, headers=headers, job="charge") as scope, step("tool", "bank"):
            assert ContextState.current() is scope.state
        assert ContextState.current() is None
    charge, bank = worker.span("charge"), worker.span("bank")
    assert (bank.parent_id, bank.run) == (charge.span_id, charge.run)
    assert f"00-{charge.run.trace_id}-{charge.parent_id}-01" == TRACEPARENT
    assert charge.run.conversation_id == "c-1"


def test_arguments_take_precedence_over_the_headers() -> None:
    """Ids that the worker knows itself, from the message's body for example."""
    headers = {"traceparent": TRACEPARENT, "baggage": "session.id=c-1,user.id=u-1"}
    scope = run_scope(
        observed().container, headers=headers, conversation_id="c-2", workflow_name="w", tags={"tenant": "a"}
    )
    run = scope.state.run
    assert (run.conversation_id, run.user_id, run.workflow_name) == ("c-2", "u-1", "w")
    assert dict(run.tags) == {"tenant": "a"}


@pytest.mark.parametrize("sync", [True, False])
async def test_the_blocks_exception_is_recorded_and_leaves_unchanged(sync: bool) -> None:
    """It is the error of the job's step; the run is over."""
    worker, raised = observed(), ValueError("no tea")
    async with ProcessScope(worker.container, "the test"):
        with pytest.raises(ValueError, match="no tea") as caught:
            await _raise_inside(worker.container, raised, sync=sync)
    assert caught.value is raised
    assert ContextState.current() is None
    span = worker.span("charge")
    assert span.error is not None
    assert (span.status, span.error.message) == (Status.ERROR, "no tea")


async def _raise_inside(container: ObservabilityContainer, error: Exception, *, sync: bool) -> None:
    if sync:
        await asyncio.to_thread(_raise_inside_now, container, error)
    else:
        async with run_scope(container, job="charge"):
            raise error


def _raise_inside_now(container: ObservabilityContainer, error: Exception) -> None:
    with run_scope(container, job="charge"):
        raise error


class Looping(BaseExporter):
    """Works in a task of its own, in the event loop of its run, as exporters of other toolkits do."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = asyncio.Queue[IntermediateStep]()
        self.done: list[str] = []

    def export(self, event: IntermediateStep) -> None:
        self.loop.call_soon_threadsafe(self.taken.put_nowait, event)

    @asynccontextmanager
    async def start(self) -> AsyncIterator[None]:
        self.loop = asyncio.get_running_loop()
        async with super().start():
            task = asyncio.create_task(self._work())
            yield
        await self.taken.join()
        task.cancel()

    async def _work(self) -> None:
        while True:
            event = await self.taken.get()
            await asyncio.sleep(0)
            self.done.append(event.name)
            self.taken.task_done()


def test_an_exporter_works_on_while_synchronous_code_does() -> None:
    """Its task runs in the background, at once and not when the block has ended."""
    container, exporter = ObservabilityContainer(), Looping()
    container.exporters.override({"looping": exporter})
    with run_scope(container):
        with step("tool", "bank"):
            pass
        wait_until(lambda: len(exporter.done) == 2)
    assert exporter.done == ["bank", "bank"]


@pytest.mark.may_block
async def test_a_sync_block_works_inside_a_running_loop() -> None:
    """In a cell of a notebook for example, whose loop is busy with that very cell."""
    worker = observed()
    with ProcessScope(worker.container, "the test"), run_scope(worker.container, job="charge"):
        pass
    assert worker.span("charge").status is Status.OK


def test_many_threads_have_runs_of_their_own() -> None:
    """At once, each with what its own thread has recorded."""
    worker = observed()

    def work(number: int) -> None:
        with run_scope(worker.container, job=f"job {number}", conversation_id=str(number)):
            for _ in range(5):
                with step("tool", f"bank {number}"):
                    pass

    with ProcessScope(worker.container, "the test"), ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(40)))
    for number in range(40):
        job = worker.span(f"job {number}")
        assert [span.run for span in worker.spans(f"bank {number}")] == 5 * [job.run]


@pytest.mark.parametrize("sync", [True, False])
async def test_a_required_exporter_that_does_not_start_is_an_error(sync: bool) -> None:
    """The block is not entered; nothing is left behind."""

    class Broken(CapturingExporter):
        def start(self) -> Any:
            raise OSError("no disk")

    container = ObservabilityContainer()
    container.exporters.override({"broken": Broken()})
    container.manager_options.override(type(container.manager_options())(required=frozenset({"broken"})))
    with pytest.raises(ExporterStartError, match="no disk"):
        await _raise_inside(container, AssertionError("entered"), sync=sync)
    assert ContextState.current() is None


def test_a_scope_is_entered_once() -> None:
    """Each block is a run of its own, with its own ids."""
    scope = run_scope(observed().container)
    with scope:
        pass
    with pytest.raises(RuntimeError, match="Call run_scope"), scope:
        pass


@pytest.mark.parametrize("given", [None, ObservabilitySettings(), object()])
def test_something_that_is_not_a_container_is_refused(given: Any) -> None:
    """With what it lacks."""
    with pytest.raises(
        MissingContainerError, match=r"lacks exporter_manager, manager_options, runtime_object\."
    ):
        run_scope(given)


async def test_a_process_opens_and_drains() -> None:
    """What its runs have recorded is delivered when it has ended; it may begin again."""
    worker = observed()
    process = ProcessScope(worker.container, "the test")
    for number in (1, 2):
        async with process:
            assert worker.state() is RuntimeState.OPEN
            async with run_scope(worker.container, job="charge"):
                pass
        assert worker.state() is RuntimeState.CLOSED
        assert len(worker.spans("charge")) == number


async def test_a_process_leaves_what_others_have_opened() -> None:
    """At both ends, with a loop and without one."""
    worker = observed()
    async with worker.container.runtime_object():
        async with ProcessScope(worker.container, "the test"):
            pass
        await asyncio.to_thread(_pass, ProcessScope(worker.container, "the test"))
        assert worker.state() is RuntimeState.OPEN


def _pass(process: ProcessScope) -> None:
    with process:
        pass


class SlowToOpen:
    """A sink that opens on command."""

    def __init__(self) -> None:
        self.may_open = threading.Event()
        self.written: list[str] = []

    async def open(self) -> None:
        await until(self.may_open.is_set)

    async def write(self, batch: Batch) -> None:
        self.written += [item.name for item in batch]

    async def close(self) -> None: ...


def test_a_process_need_not_wait_until_it_is_open() -> None:
    """What is not open in time opens in the background; a run does not wait for it, and nothing is lost."""
    container, sink = ObservabilityContainer(), SlowToOpen()
    container.exporters.override({"slow": SpanExporter(sink)})
    process = ProcessScope(container, "the test")
    process.open_now(timeout=0.01)
    with run_scope(container, job="charge"):
        pass
    sink.may_open.set()
    assert process.close_now() is not None
    assert sink.written == ["charge"]


def test_a_forked_child_has_runs_of_its_own() -> None:
    """G15: it leaves its parent's block without waiting, and its own runs are delivered, and so are its parent's."""
    done = run_program(
        """
        import os, sys
        from nat_observability import step
        from nat_observability.integrations.workers.process_scope import ProcessScope
        from nat_observability.integrations.workers.run_scope import run_scope
        from tests.integrations.workers import observed

        worker = observed()
        process = ProcessScope(worker.container, "the test")
        with process:
            with run_scope(worker.container, job="parent's"):
                child = os.fork()
            if not child:
                with run_scope(worker.container, job="child's"):
                    pass
                process.close_now(whoever_opened=True)
                print(sorted(span.name for span in worker.spans()), flush=True)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            child = os.fork()
            if not child:
                process.open_now()  # as in a process that serves after a fork: it closes what it opens
                with run_scope(worker.container, job="second's"):
                    pass
                process.close_now()
                print(sorted(span.name for span in worker.spans()), flush=True)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        print(sorted(span.name for span in worker.spans()))
        """
    )
    assert done.stdout.splitlines() == ['["child\'s"]', '["second\'s"]', '["parent\'s"]']


def test_threads_may_open_a_process_at_the_same_moment() -> None:
    """One of them does, and the others leave it alone."""
    worker, start = observed(), threading.Barrier(8)

    def work(number: int) -> None:
        for _ in range(5):
            start.wait(10)
            with ProcessScope(worker.container, "the test"), run_scope(worker.container, job="charge"):
                pass

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    with ProcessScope(worker.container, "the test"):
        pass
    assert len(worker.spans("charge")) == 40


def test_a_blocked_run_thread_is_left_alone() -> None:
    """G2: an exporter that blocks it holds up the end of a synchronous run for the shutdown timeout, and no longer."""
    done = run_program(
        """
        import threading
        from containers import ObservabilityContainer
        from nat_observability.integrations.workers.run_scope import run_scope
        from nat_observability.run.manager_options import ManagerOptions
        from nat_observability.containers import ObservabilityContainer
        from nat_observability.run.manager_options import ManagerOptions
        from nat_observability.testing import CapturingExporter

        class Blocking(CapturingExporter):
            async def stop(self):
                threading.Event().wait()

        container = ObservabilityContainer()
        container.exporters.override({"blocking": Blocking()})
        container.manager_options.override(ManagerOptions(shutdown_timeout=0.1))
        with run_scope(container):
            pass
        print("left")
        """
    )
    assert done.stdout.splitlines()[-1] == "left"
