"""The reference toolkit's habits: ready before `start` yields, stand-ins for a context state, its current state."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest
from structlog.testing import capture_logs

from nat_observability import ContextState, ExporterManager, ExporterState, step
from nat_observability.context import run_state
from nat_observability.errors import ExporterStartError
from nat_observability.testing import CapturingExporter
from tests import scenarios
from tests.reference_toolkit import ReferenceExporter
from tests.scenarios import OURS
from tests.virtual_time import elapsed_since, now, run_virtual

FOREVER = 10_000.0


class ReadyEarly(ReferenceExporter):
    """Is ready, and takes steps, while its `start` goes on for a while before it yields."""

    def __init__(self, *, goes_on: float = 30.0, error: Exception | None = None) -> None:
        super().__init__()
        self.goes_on, self.error = goes_on, error
        self.yielded = 0

    @asynccontextmanager
    async def start(self) -> AsyncIterator[None]:
        async with super().start():
            await asyncio.sleep(self.goes_on)
            if self.error is not None:
                raise self.error
            self.yielded += 1
            yield


def manager_of(exporter: object, *, required: bool = False, **options: float) -> ExporterManager:
    manager = ExporterManager(**options)
    manager.add_exporter("early", exporter, required=required)  # type: ignore[arg-type]
    return manager


def test_an_exporter_is_ready_when_it_says_so() -> None:
    """`wait_ready` alone decides: a `start` that goes on for 30 s holds up no run, and takes its steps (G1)."""

    async def main() -> None:
        exporter = ReadyEarly()
        manager = manager_of(exporter, required=True)
        began = now()
        async with manager.start(ContextState()):
            assert elapsed_since(began) == 0
            states = [manager.report.exporters["early"].state]
            with step("tool", "work"):
                pass
        states.append(manager.report.exporters["early"].state)
        assert [each.name for each in exporter.exported] == ["work", "work"]
        assert states == [ExporterState.RUNNING, ExporterState.STOPPED]

    run_virtual(main())


def test_its_start_has_the_shutdown_timeout_to_end() -> None:
    """What is still in its `start` when the run ends is given its time, as in the toolkit, and stops in order (G2)."""

    async def main() -> None:
        exporter = ReadyEarly(goes_on=30)
        began = now()
        with capture_logs() as lines:
            async with manager_of(exporter, shutdown_timeout=60).start():
                pass
        assert elapsed_since(began) == pytest.approx(30)
        assert (exporter.yielded, exporter.stopped) == (1, 1)
        assert not [line for line in lines if line["log_level"] in ("warning", "error")]

    run_virtual(main())


def test_a_start_that_never_yields_is_stopped_in_time() -> None:
    """It is cancelled within the shutdown timeout, and named (G2)."""

    async def main() -> None:
        exporter = ReadyEarly(goes_on=FOREVER)
        manager = manager_of(exporter, shutdown_timeout=5)
        began = now()
        with capture_logs() as lines:
            async with manager.start(ContextState()):
                began = now()
        assert elapsed_since(began) <= 5
        assert manager.report.exporters["early"].state is ExporterState.ABANDONED
        assert "exporter_abandoned" in {line["event"] for line in lines}

    run_virtual(main())


def test_a_start_that_fails_when_it_was_ready_is_reported() -> None:
    """The run goes on, and its report names the error."""

    async def main() -> None:
        manager = manager_of(ReadyEarly(goes_on=1, error=OSError("refused")))
        with capture_logs() as lines:
            async with manager.start(ContextState()):
                await asyncio.sleep(2)
                report = manager.report.exporters["early"]
                assert report.state is ExporterState.FAILED
                assert "OSError" in str(report.error)
        assert [line["exporter"] for line in lines if line["log_level"] == "warning"] == ["early"]

    run_virtual(main())


def test_a_required_one_that_fails_while_others_start_fails_the_start() -> None:
    """That it had been ready does not count then."""

    class Slow(ReferenceExporter):
        async def pre_start(self) -> None:
            await asyncio.sleep(3)

    async def main() -> None:
        manager = manager_of(ReadyEarly(goes_on=1, error=OSError("refused")), required=True)
        manager.add_exporter("slow", Slow())  # type: ignore[arg-type]
        with capture_logs() as lines, pytest.raises(ExporterStartError, match="'early': OSError: refused"):
            async with manager.start(ContextState()):
                pass
        about = [line["event"] for line in lines if line.get("exporter") == "early"]
        assert about == ["exporter_start_failed"]

    run_virtual(main())


def test_a_wait_ready_that_fails_fails_the_start_at_once() -> None:
    """Nothing waits for the `start` of an exporter that says that it is not going to be ready (G1)."""

    class Refusing(ReadyEarly):
        async def wait_ready(self) -> None:
            raise LookupError("no such project")

    async def main() -> None:
        manager = manager_of(Refusing(goes_on=FOREVER), required=True)
        began = now()
        with pytest.raises(ExporterStartError, match="LookupError: no such project"):
            async with manager.start(ContextState()):
                pass
        assert elapsed_since(began) == 0

    run_virtual(main())


@pytest.mark.parametrize("kind", [ReadyEarly, scenarios.StartHangs], ids=["ready", "never ready"])
def test_nothing_is_left_of_a_start_that_was_late(kind: Callable[[], ReferenceExporter]) -> None:
    """Whatever waits for it ends with it (G3): `run_virtual` fails for a task that is left."""

    class Late(kind):  # type: ignore[valid-type,misc]
        async def wait_ready(self) -> None:
            await asyncio.sleep(FOREVER)

    async def main() -> None:
        manager = manager_of(Late(), start_timeout=2)
        began = now()
        async with manager.start(ContextState()):
            assert elapsed_since(began) == pytest.approx(2)
            assert manager.report.exporters["early"].state is ExporterState.FAILED

    run_virtual(main())


@pytest.mark.parametrize("factory", [None, getattr(asyncio, "eager_task_factory", None)])
@pytest.mark.parametrize("isolated", [True, False], ids=["isolated", "shared"])
def test_cancelled_at_every_await_of_an_early_start(factory: Any, isolated: bool) -> None:
    """The cancellation reaches the caller and nothing is left, wherever it comes (G3)."""

    def runner(main: Coroutine[Any, Any, bool]) -> bool:
        async def with_factory() -> bool:
            asyncio.get_running_loop().set_task_factory(factory)
            return await main

        return run_virtual(with_factory())

    def exporters() -> dict[str, Any]:
        return {"early": ReadyEarly(goes_on=1), "ours": CapturingExporter()}

    assert scenarios.cancellation_sweep(OURS, exporters, isolated=isolated, runner=runner) >= 3


# -- Stand-ins for a context state ------------------------------------------------------------------------------------

Toolkit = type("ContextState", (), {"__module__": "nat.builder.context", "event_stream": None, "get": None})
STAND_INS = {
    "ours": lambda: Mock(spec=ContextState),
    "ours, magic": lambda: MagicMock(spec=ContextState),
    "an instance of ours": lambda: Mock(spec=ContextState()),
    "the toolkit's": lambda: Mock(spec=Toolkit),
    "an instance of the toolkit's": lambda: Mock(spec=Toolkit()),
    "ours, sealed": lambda: Mock(spec_set=ContextState),
}


@pytest.mark.parametrize("made", STAND_INS.values(), ids=STAND_INS)
async def test_a_stand_in_is_a_context_state(made: Callable[[], Any]) -> None:
    """A test may pass `Mock(spec=ContextState)`: exporters of foreign code get it itself, ours a new run."""
    stand_in = made()
    foreign, ours = Mock(spec=ReferenceExporter), CapturingExporter()
    manager = ExporterManager.from_exporters({"foreign": foreign, "ours": ours})
    isolated = manager.create_isolated_exporters(stand_in)
    foreign.create_isolated_instance.assert_called_once_with(stand_in)
    assert isinstance(isolated["ours"], CapturingExporter)
    with capture_logs():  # of the Mock, which is not started
        async with manager.start(stand_in):
            with step("tool", "work"):
                pass
    assert [each.name for each in ours.steps] == ["work", "work"]
    assert ours.create_isolated_instance(stand_in) is not ours


def test_a_proxy_of_a_run_is_that_run() -> None:
    """An object that only forwards, such as a context-local proxy, is not a stand-in for the run but the run itself."""

    class Proxy:
        def __init__(self, of: ContextState) -> None:
            object.__setattr__(self, "_of", of)

        @property  # type: ignore[misc]
        def __class__(self) -> type:
            return ContextState

        def __getattr__(self, name: str) -> Any:
            return getattr(self._of, name)

    state = ContextState()
    assert run_state(Proxy(state)).run is state.run


# -- The toolkit's current state --------------------------------------------------------------------------------------

_TOOLKIT = {
    "nat/__init__.py": "",
    "nat/builder/__init__.py": "",
    "nat/builder/context.py": (
        "class ContextState:\n"
        "    @staticmethod\n"
        "    def get():\n"
        "        return CURRENT\n"
        "CURRENT = ContextState()\n"
    ),
    "nat/observability/__init__.py": "",
    "nat/observability/exporter/__init__.py": "",
    "nat/observability/exporter/base_exporter.py": (
        "class BaseExporter:\n"
        "    def start(self): ...\n"
        "    async def stop(self): ...\n"
        "    async def wait_ready(self): ...\n"
        "    def create_isolated_instance(self, context_state):\n"
        "        return context_state\n"
    ),
}


def test_exporters_of_the_toolkit_are_bound_to_its_current_state(tmp_path: Path) -> None:
    """Without a state, `create_isolated_exporters` asks the toolkit for its own, and ours get one of ours."""
    for name, text in _TOOLKIT.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from nat.builder.context import CURRENT\n"
        "from nat.observability.exporter.base_exporter import BaseExporter\n"
        "from nat_observability import ContextState, ExporterManager\n"
        "from nat_observability.testing import CapturingExporter\n"
        "class Derived(BaseExporter): ...\n"
        "class Foreign:\n"
        "    start = stop = wait_ready = BaseExporter.start\n"
        "    create_isolated_instance = BaseExporter.create_isolated_instance\n"
        "manager = ExporterManager.from_exporters({\n"
        "    'own': BaseExporter(), 'derived': Derived(), 'foreign': Foreign(), 'ours': CapturingExporter()})\n"
        "isolated = manager.create_isolated_exporters()\n"
        "assert isolated['own'] is isolated['derived'] is CURRENT\n"
        "assert type(isolated['foreign']) is ContextState\n"
        "assert type(isolated['ours']) is CapturingExporter\n"
        "given = ContextState()\n"
        "assert manager.create_isolated_exporters(given)['own'] is given\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
