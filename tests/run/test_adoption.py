"""run_state(): which context states are accepted for a run, and the error for anything else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nat_observability import ContextState, ExporterManager
from nat_observability.context import run_state
from nat_observability.errors import UnknownContextStateError
from nat_observability.testing import CapturingExporter


class Derived(ContextState):
    __slots__ = ()


class Stranger:
    """A context state of an unknown framework."""


@pytest.mark.parametrize("state", [ContextState(), Derived()], ids=["ours", "derived"])
def test_a_state_of_ours_is_the_run_itself(state: ContextState) -> None:
    """Our own state, or one of a subclass, is used as it is."""
    assert run_state(state) is state


async def entered(state: Stranger) -> None:
    async with ExporterManager.from_exporters({"a": CapturingExporter()}).start(state):  # type: ignore[arg-type]
        pass


async def isolated(state: Stranger) -> None:
    ExporterManager.from_exporters({"a": CapturingExporter()}).create_isolated_exporters(state)  # type: ignore[arg-type]


async def isolated_alone(state: Stranger) -> None:
    CapturingExporter().create_isolated_instance(state)  # type: ignore[arg-type]


@pytest.mark.parametrize("use", [entered, isolated, isolated_alone])
async def test_an_unknown_context_state_is_named_with_those_that_are_known(
    use: Callable[[Stranger], object],
) -> None:
    """Wherever it is passed, the error names its type and the accepted ones."""
    with pytest.raises(
        UnknownContextStateError,
        match=rf"not a {__name__}\.Stranger\. .*nat_observability\.ContextState.*nat\.builder\.context\.ContextState",
    ):
        await use(Stranger())  # type: ignore[misc]


async def test_a_manager_can_be_started_after_it_was_given_an_unknown_state() -> None:
    """Nothing has begun when such a state is refused."""
    manager, exporter = ExporterManager(), CapturingExporter()
    manager.add_exporter("a", exporter)
    with pytest.raises(UnknownContextStateError):
        async with manager.start(Stranger()):  # type: ignore[arg-type]
            pass
    assert ContextState.current() is None
    async with manager.start(ContextState()):
        assert manager.report.running
