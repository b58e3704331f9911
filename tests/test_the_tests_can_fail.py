"""Each promise's test fails with a naive manager, which does what the reference implementation does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests import scenarios
from tests.naive_manager import NaiveManager
from tests.scenarios import NAIVE, Kit

Scenario = Callable[[Kit], object]

BREAKING: dict[str, Scenario] = {
    **{
        f"G1 {broken.__name__}": partial(scenarios.broken_start_does_not_stop_the_run, broken=broken)
        for broken in scenarios.BROKEN_STARTS
    },
    "G1 the start timeout": scenarios.start_timeout_is_shared,
    "G1 required": scenarios.required_failures_are_named,
    **{
        f"G2 {cleanup} s against {timeout} s": partial(
            scenarios.stop_is_bounded, cleanup=cleanup, timeout=timeout, count=1, isolated=False
        )
        for cleanup in (3, 6)
        for timeout in (0.3, 1)
    },
    "G2 many that are stuck": partial(
        scenarios.stop_is_bounded, cleanup=scenarios.FOREVER, timeout=1, count=20, isolated=False
    ),
    "G2 isolated": partial(scenarios.stop_is_bounded, cleanup=6, timeout=1, count=2, isolated=True),
    "G2 slow cleanups": scenarios.slow_cleanups_get_their_time,
    **{
        f"G3 {count} exporters, {'isolated' if isolated else 'shared'}": partial(
            scenarios.cancellation_sweep, exporters=scenarios.well_behaved(count), isolated=isolated
        )
        for count in (1, 3)
        for isolated in (True, False)
    },
    "G4 an exporter's error": partial(scenarios.no_exporter_error_reaches_the_workflow, isolated=True),
    "G4 the workflow's error": partial(scenarios.workflow_exception_leaves_unchanged, isolated=True),
    "G9 the first to stop": scenarios.first_to_stop_silences_nobody,
    "G9 batches of the second run": scenarios.second_run_is_batched_too,
    "G10 copies": scenarios.copies_do_not_see_each_other,
    "G10 all exporters": scenarios.all_exporters_are_the_callers_own,
    "G10 registering meanwhile": scenarios.registering_meanwhile_is_safe,
    "G10 registering under stress": scenarios.registering_under_stress_is_safe,
    **{
        f"G11 {way}": partial(scenarios.steps_of_a_worker_thread_are_heard, way=way)
        for way in ("to_thread", "attach", "copy_context")
    },
    "G11 a second loop": partial(scenarios.second_event_loop_is_heard, isolated=False),
    "G11 two loops at once": scenarios.loops_in_two_threads_are_heard,
    "G17 a growing history": scenarios.growing_history_is_recorded_as_it_was,
    "G17 encoded once": scenarios.input_is_encoded_once,
}


@pytest.mark.may_leave_tasks
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("scenario", BREAKING.values(), ids=BREAKING)
def test_naive_manager_breaks(scenario: Scenario) -> None:
    """What a scenario asserts is not so for the naive manager."""
    with pytest.raises(Exception):  # noqa: B017, PT011  in whichever way it shows
        scenario(NAIVE)


@pytest.mark.may_block
@pytest.mark.may_leave_tasks
def test_naive_manager_breaks_files(tmp_path: Path) -> None:
    """The same for the one that needs a folder."""
    with pytest.raises(AssertionError):
        scenarios.every_run_is_in_the_file(NAIVE, tmp_path / "steps.txt")


def test_naive_manager_works_if_nothing_goes_wrong() -> None:
    """It fails for what the promises say, and not because it does nothing at all."""
    scenarios.runs_where_nothing_goes_wrong(NAIVE)
    assert NAIVE.manager is NaiveManager
