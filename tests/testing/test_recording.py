"""nat_observability.testing: what users' own tests build on."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from nat_observability import ContextState, step
from nat_observability.testing import CapturingExporter, recorded_run, until, wait_until


async def test_recorded_run_gives_the_steps() -> None:
    """Code under test runs in a block, and its steps are there when the block has ended."""

    @step("tool", "search")
    async def search(query: str) -> str:
        return query.upper()

    async with recorded_run(ContextState(conversation_id="c-1")) as exporter:
        assert await search("a") == "A"
    assert [(each.boundary.value, each.name, each.output) for each in exporter.steps] == [
        ("START", "search", None),
        ("END", "search", "A"),
    ]
    assert {each.run.conversation_id for each in exporter.steps} == {"c-1"}


async def test_steps_are_the_callers_own() -> None:
    """The list may be changed; what comes later is not in it."""
    async with recorded_run() as exporter:
        with step("tool", "a"):
            taken = exporter.steps
        taken.clear()
        assert len(exporter.steps) == 2


async def test_isolated_instances_share_the_steps() -> None:
    """Concurrent runs are distinguished by their id."""
    exporter = CapturingExporter()
    for run_id in ("one", "other"):
        state = ContextState(run_id=run_id)
        async with exporter.create_isolated_instance(state).start():
            with state.attach(), step("tool", run_id):
                pass
    assert [each.name for each in exporter.steps_of("other")] == ["other", "other"]
    exporter.clear()
    assert not exporter.steps


def test_steps_of_several_threads() -> None:
    """Recording and reading at once loses nothing."""
    exporter, state = CapturingExporter(), ContextState()

    async def main() -> None:
        async with exporter.create_isolated_instance(state).start():
            threads = [threading.Thread(target=record) for _ in range(4)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                assert len(exporter.steps) <= 4000
                await asyncio.sleep(0)

    def record() -> None:
        with state.attach():
            for _ in range(500):
                with step("tool", "a"):
                    pass

    asyncio.run(main())
    assert len(exporter.steps) == 4000


async def test_waiting_for_a_condition() -> None:
    """It returns when the condition holds, and raises TimeoutError when that takes too long."""
    began = time.monotonic()
    await until(lambda: time.monotonic() > began + 0.01)
    with pytest.raises(TimeoutError, match=r"Not so within 0.01 s"):
        await until(lambda: False, timeout=0.01)


def test_waiting_without_a_loop() -> None:
    """The same for code without an event loop."""
    began = time.monotonic()
    wait_until(lambda: time.monotonic() > began + 0.01)
    with pytest.raises(TimeoutError, match=r"Not so within 0.01 s"):
        wait_until(lambda: False, timeout=0.01)
