"""observability and run(): scripts and notebooks, in processes and kernels of their own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import start_new_kernel

from nat_observability import step
from nat_observability.containers import ObservabilityContainer, observability, run
from nat_observability.context import ContextState
from nat_observability.errors import SettingsError
from nat_observability.events import Status
from nat_observability.health import RuntimeState
from tests.integrations.workers import observed
from tests.processes import run_program

ROOT = Path(__file__).parents[2]


def test_a_block_opens_runs_and_drains() -> None:
    """One run, with the ids that were said and a step for the job; all is delivered when the block has ended."""
    worker = observed()
    with observability(container=worker.container, job="nightly", conversation_id="c-1") as block:
        assert worker.state() is RuntimeState.OPEN
        assert ContextState.current() is block.state
        with step("tool", "tidy"):
            pass
    assert worker.state() is RuntimeState.CLOSED
    nightly, tidy = worker.span("nightly"), worker.span("tidy")
    assert (tidy.parent_id, tidy.run, tidy.run.conversation_id) == (nightly.span_id, nightly.run, "c-1")
    assert ContextState.current() is None


async def test_an_async_block_opens_runs_and_drains() -> None:
    """Just the same in an event loop."""
    worker = observed()
    async with observability(container=worker.container, job="nightly"):
        assert worker.state() is RuntimeState.OPEN
        with step("tool", "tidy"):
            await asyncio.sleep(0)
    assert worker.state() is RuntimeState.CLOSED
    assert worker.span("tidy").parent_id == worker.span("nightly").span_id


@pytest.mark.parametrize("sync", [True, False])
async def test_a_block_holds_more_runs(sync: bool) -> None:
    """A script that answers several questions makes each a run of its own."""
    worker = observed()
    if sync:
        await asyncio.to_thread(_answer_two, worker.container)
    else:
        async with observability(container=worker.container) as block:
            for number in (1, 2):
                async with block.run_scope(job=f"question {number}"):
                    pass
    assert worker.span("question 1").run.run_id != worker.span("question 2").run.run_id


def _answer_two(container: ObservabilityContainer) -> None:
    with observability(container=container) as block:
        for number in (1, 2):
            with block.run_scope(job=f"question {number}"):
                pass


def test_run_returns_what_main_returns() -> None:
    """It opens, runs and drains around a new event loop."""
    worker = observed()

    async def main() -> int:
        with step("tool", "tidy"):
            await asyncio.sleep(0)
        return 7

    assert run(main(), container=worker.container, job="nightly", user_id="u-1") == 7
    assert worker.state() is RuntimeState.CLOSED
    nightly = worker.span("nightly")
    assert (worker.span("tidy").parent_id, nightly.run.user_id) == (nightly.span_id, "u-1")


@pytest.mark.parametrize("kind", ["block", "run"])
def test_what_the_block_raises_is_recorded_and_leaves_unchanged(kind: str) -> None:
    """After everything was delivered."""
    worker, raised = observed(), ValueError("no tea")

    async def main() -> None:
        raise raised

    def block() -> None:
        with observability(container=worker.container, job="nightly"):
            raise raised

    with pytest.raises(ValueError, match="no tea") as caught:
        block() if kind == "block" else run(main(), container=worker.container, job="nightly")
    assert caught.value is raised
    nightly = worker.span("nightly")
    assert (nightly.status, nightly.error and nightly.error.message) == (Status.ERROR, "no tea")


async def test_run_says_what_to_do_if_a_loop_is_running() -> None:
    """As in a notebook; the coroutine is not left unawaited."""

    async def main() -> None: ...

    with pytest.raises(RuntimeError, match="async with observability"):
        run(main())


def test_a_wrong_setting_is_reported_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name."""
    monkeypatch.setenv("NAT_OBSERVABILITY_SHUTDOWN_TIMEOUT", "soon")

    async def main() -> None:
        raise AssertionError("started")

    with pytest.raises(SettingsError, match="NAT_OBSERVABILITY_SHUTDOWN_TIMEOUT"):
        observability()
    with pytest.raises(SettingsError, match="NAT_OBSERVABILITY_SHUTDOWN_TIMEOUT"):
        run(main())


@pytest.mark.parametrize("wrong_setting", [False, True])
def test_run_given_the_function_says_to_call_it(monkeypatch: pytest.MonkeyPatch, wrong_setting: bool) -> None:
    """Without the parentheses; at once, whatever else is wrong."""
    if wrong_setting:
        monkeypatch.setenv("NAT_OBSERVABILITY_SHUTDOWN_TIMEOUT", "-1")

    async def main() -> None:
        raise AssertionError("started")

    with pytest.raises(TypeError, match=r"takes a coroutine, not a function\. Call it: run\(main\(\)\)"):
        run(main)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"not a NoneType\. Pass what an async function returns"):
        run(None)  # type: ignore[arg-type]


def test_run_hides_no_error_of_the_loop() -> None:
    """The error that keeps the event loop from being made is raised as it is, without a warning about `main`."""

    async def main() -> None:
        raise AssertionError("started")

    def no_loop() -> asyncio.AbstractEventLoop:
        raise OSError("no sockets left")

    with pytest.raises(OSError, match="no sockets left") as caught:
        run(main(), container=observed().container, loop_factory=no_loop)
    assert caught.value.__context__ is None


def test_run_lets_main_clean_up_if_the_loop_is_stopped() -> None:
    """As with asyncio.run: the cancellation reaches what main awaits, before anything else ends it."""
    seen: list[str] = []

    async def main() -> None:
        asyncio.get_running_loop().stop()
        try:
            await asyncio.Event().wait()
        except BaseException as error:
            seen.append(type(error).__name__)
            raise

    with pytest.raises(RuntimeError, match="stopped before"):
        run(main(), container=observed().container)
    assert seen == ["CancelledError"]


SCRIPTS = {
    "with": """
        import threading
        from nat_observability.containers import observability
        from nat_observability import step

        with observability(job="nightly"):
            with step("tool", "tidy"):
                pass
            print("begun", flush=True)
            threading.Event().wait()
    """,
    "run": """
        import asyncio
        from nat_observability.containers import run
        from nat_observability import step

        async def main():
            with step("tool", "tidy"):
                pass
            print("begun", flush=True)
            await asyncio.Event().wait()

        run(main(), job="nightly")
    """,
}


# What measures the tests' coverage handles the signal too.
UNHANDLED = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_DFL)\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
@pytest.mark.parametrize("script", SCRIPTS)
def test_g6_a_script_that_is_terminated_delivers(script: str, number: signal.Signals, tmp_path: Path) -> None:
    """As a job in a cluster is, or at a terminal: what it has recorded is in the file when it has ended."""
    out = tmp_path / "spans.jsonl"
    with subprocess.Popen(
        [sys.executable, "-c", UNHANDLED + textwrap.dedent(SCRIPTS[script])],
        cwd=ROOT,
        env={
            **os.environ,
            "NAT_OBSERVABILITY_EXPORTERS__LOG__TYPE": "file",
            "NAT_OBSERVABILITY_EXPORTERS__LOG__PATH": str(out),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        _, errors = process.communicate(timeout=15)
    if number is signal.SIGTERM:
        assert (process.returncode, errors) == (128 + signal.SIGTERM, "")
    else:
        assert process.returncode != 0
        assert "KeyboardInterrupt" in errors
    names = {json.loads(line)["name"]: json.loads(line)["status"] for line in out.read_text().splitlines()}
    assert names == {"tidy": "ok", "nightly": "error"}


def test_a_script_that_handles_the_signal_itself_keeps_its_handler() -> None:
    """It knows better what is to happen then."""
    done = run_program(
        """
        import signal
        from nat_observability.containers import observability, run
        from tests.integrations.workers import observed

        signal.signal(signal.SIGTERM, lambda *_: print("handled"))
        with observability(container=observed().container):
            signal.raise_signal(signal.SIGTERM)

        async def main():
            signal.raise_signal(signal.SIGTERM)

        run(main(), container=observed().container)
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with observability(container=observed().container):
            pass
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        """
    )
    assert done.stdout.splitlines() == ["handled", "handled"]


def test_a_signal_while_a_block_drains_waits_for_it() -> None:
    """The process then ends by the signal, with everything delivered."""
    done = run_program(
        """
        import os, signal, sys
        from nat_observability.containers import ObservabilityContainer, observability
        from nat_observability import SpanExporter

        class Sink:
            async def open(self): ...
            async def write(self, batch):
                os.kill(os.getpid(), signal.SIGTERM)
                print([item.name for item in batch], flush=True)
            async def close(self):
                print("closed", flush=True)

        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # which is handled where coverage is measured
        container = ObservabilityContainer()
        container.exporters.override({"sink": SpanExporter(Sink())})
        with observability(container=container, job="nightly"):
            pass
        print("went on")
        """,
        status=-signal.SIGTERM,
    )
    assert done.stdout.splitlines() == ["['nightly']", "closed"]


@contextmanager
def notebook(folder: Path) -> Iterator[Any]:
    """Start a real Jupyter kernel, with an exporter that writes a file, and yield its client."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "IPYTHONDIR": str(folder),
        "NAT_OBSERVABILITY_EXPORTERS__LOG__TYPE": "file",
        "NAT_OBSERVABILITY_EXPORTERS__LOG__PATH": str(folder / "spans.jsonl"),
    }
    manager, client = start_new_kernel(startup_timeout=30, env=environment, cwd=str(folder))
    try:
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


@pytest.mark.timeout(60)
def test_cells_of_a_notebook(tmp_path: Path) -> None:
    """With a loop that runs all the time: blocks of both kinds, one after the other, and the advice about run()."""
    cells = [
        """
        from nat_observability.containers import observability, run
        from nat_observability import step
        with observability(job="first cell"):
            with step("tool", "sync"):
                pass
        """,
        """
        import asyncio
        async with observability(job="second cell"):
            with step("tool", "async"):
                await asyncio.sleep(0)
        """,
        """
        async def main(): ...
        try:
            run(main())
        except RuntimeError as error:
            assert "async with observability" in str(error)
        else:
            assert False
        """,
    ]
    with notebook(tmp_path) as client:
        for cell in cells:
            answer = client.execute_interactive(textwrap.dedent(cell), timeout=30)
            assert answer["content"]["status"] == "ok", answer["content"]
        written = [json.loads(line) for line in (tmp_path / "spans.jsonl").read_text().splitlines()]
    assert [each["name"] for each in written] == ["sync", "first cell", "async", "second cell"]
    assert len({each["run"]["run_id"] for each in written}) == 2
