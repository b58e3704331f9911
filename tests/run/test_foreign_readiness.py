"""Readiness: an exporter of foreign code says by `wait_ready` alone whether it is ready."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nat_observability import ContextState, ExporterManager, ExporterState
from tests.reference_toolkit import ReferenceExporter
from tests.virtual_time import elapsed_since, now, run_virtual


class SlowToStart(ReferenceExporter):
    """Its `start` yields after an hour; `wait_ready` is what a test makes of it."""

    async def pre_start(self) -> None:
        await asyncio.sleep(3600)


def manager_of(exporter: Any) -> ExporterManager:
    manager = ExporterManager(start_timeout=100, shutdown_timeout=5)
    manager.add_exporter("slow", exporter)
    return manager


def test_ready_is_what_wait_ready_says() -> None:
    """The run begins then, though `start` has not yielded yet."""

    class Ready(SlowToStart):
        async def wait_ready(self) -> None:
            await asyncio.sleep(3)

    async def main() -> None:
        manager, began = manager_of(Ready()), now()
        async with manager.start(ContextState()):
            assert elapsed_since(began) == pytest.approx(3)
            assert manager.report.exporters["slow"].state is ExporterState.RUNNING

    run_virtual(main())


def test_what_wait_ready_raises_is_why_it_failed() -> None:
    """At once: neither the rest of its `start` nor the time-out is waited for."""

    class Refusing(SlowToStart):
        async def wait_ready(self) -> None:
            await asyncio.sleep(3)
            raise ConnectionError("no back end")

    async def main() -> None:
        manager, began = manager_of(Refusing()), now()
        async with manager.start(ContextState()):
            assert elapsed_since(began) == pytest.approx(3)
        report = manager.report.exporters["slow"]
        assert (report.state, report.error) == (ExporterState.FAILED, "ConnectionError: no back end")

    run_virtual(main())


def test_an_exporter_that_comes_too_late_is_told_so() -> None:
    """`start` yields when the run has long gone on without it; its `wait_ready` is not left behind."""

    class Late(ReferenceExporter):
        async def pre_start(self) -> None:
            await asyncio.sleep(200)

        async def wait_ready(self) -> None:
            await asyncio.sleep(150)

    async def main() -> None:
        manager, began = manager_of(Late()), now()
        async with manager.start(ContextState()):
            assert elapsed_since(began) == pytest.approx(100)
            await asyncio.sleep(300)
        assert manager.report.exporters["slow"].state is ExporterState.FAILED

    run_virtual(main())


def test_a_wait_ready_that_swallows_its_cancellation_holds_up_nothing() -> None:
    """Its task is abandoned with the exporter's when the stop's time is over."""
    let_go = asyncio.Event()

    class Stubborn(ReferenceExporter):
        async def pre_start(self) -> None:
            await asyncio.sleep(1)
            raise ConnectionError("no back end")

        async def wait_ready(self) -> None:
            while not let_go.is_set():
                try:
                    await let_go.wait()
                except asyncio.CancelledError:
                    continue

    async def main() -> None:
        manager, began = manager_of(Stubborn()), now()
        async with manager.start(ContextState()):
            pass
        assert elapsed_since(began) <= 105.1
        assert manager.report.exporters["slow"].state in (ExporterState.FAILED, ExporterState.ABANDONED)
        let_go.set()
        await asyncio.sleep(1)

    run_virtual(main(), leftovers=True)
