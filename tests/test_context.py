"""ContextState: the ids of a run, the W3C link to its caller, and which run is current."""

from __future__ import annotations

import asyncio
import contextvars
import os
import random
import re
import threading
import time
import uuid
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat_observability import ContextState, step
from nat_observability.propagation.ids import new_span_id
from nat_observability.propagation.traceparent import parse_traceparent
from nat_observability.testing import recorded_run

HEX = "0123456789abcdef"
trace_ids = st.text(HEX, min_size=32, max_size=32).filter(lambda text: text.strip("0"))
span_ids = st.text(HEX, min_size=16, max_size=16).filter(lambda text: text.strip("0"))
flags = st.text(HEX, min_size=2, max_size=2)


# -- The W3C header ---------------------------------------------------------------------------------------------------


@given(trace_ids, span_ids, flags)
def test_traceparent_round_trip(trace_id: str, span_id: str, flag: str) -> None:
    """A header that came in goes out again with its trace, its parent and its flags that are defined."""
    header = f"00-{trace_id}-{span_id}-{flag}"
    assert parse_traceparent(header) == (trace_id, span_id, flag)
    state = ContextState(traceparent=header)
    assert (state.run.trace_id, state.run.parent_span_id) == (trace_id, span_id)
    assert state.traceparent == f"00-{trace_id}-{span_id}-{int(flag, 16) & 3:02x}"


@given(trace_ids, span_ids, st.integers(1, 0xFE), st.text("-" + HEX, max_size=20))
def test_later_versions_may_go_on(trace_id: str, span_id: str, version: int, more: str) -> None:
    """What a later version adds after the flags is ignored (W3C Trace Context, section 3.2.4)."""
    assert parse_traceparent(f"{version:02x}-{trace_id}-{span_id}-01") == (trace_id, span_id, "01")
    assert parse_traceparent(f"{version:02x}-{trace_id}-{span_id}-01-{more}") == (trace_id, span_id, "01")


GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        GOOD[:-1],
        GOOD + "0",
        GOOD + "-",
        GOOD + "-00",
        GOOD.upper(),
        GOOD.replace("-", "_"),
        "ff" + GOOD[2:],
        "0" + GOOD,
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
        GOOD.replace("a", "\uff41"),  # a full-width letter
        GOOD + "\n" + GOOD,
        "\ud800",
        None,
        GOOD.encode(),
        3,
    ],
)
def test_malformed_traceparent_starts_a_new_trace(header: object) -> None:
    """A header that is not valid is as good as none."""
    assert parse_traceparent(header) is None
    state = ContextState(traceparent=header)  # type: ignore[arg-type]
    assert state.run.parent_span_id is None
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", state.traceparent)


@given(st.text() | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{30,34}-[0-9a-f]{14,18}-.*"))
def test_garbage_never_raises(header: str) -> None:
    """Whatever a caller sends in the header, the run begins."""
    parsed = parse_traceparent(header)
    state = ContextState(traceparent=header)
    assert parse_traceparent(state.traceparent) is not None
    assert (parsed is None) == (state.run.parent_span_id is None)


def test_given_trace_id_goes_before_the_callers() -> None:
    """If the given trace id is not the header's, the header's span belongs to a trace that is not ours."""
    trace_id = "1" * 32
    state = ContextState(trace_id=trace_id, traceparent=GOOD)
    assert (state.run.trace_id, state.run.parent_span_id) == (trace_id, None)
    assert ContextState(trace_id=GOOD[3:35], traceparent=GOOD).run.parent_span_id == GOOD[36:52]


@pytest.mark.parametrize("trace_id", ["", "0" * 32, "1" * 31, "A" * 32, "1" * 33, "g" * 32])
def test_wrong_trace_id_is_refused(trace_id: str) -> None:
    """An id that no back end would take is an error at once, which says what is allowed."""
    with pytest.raises(ValueError, match="32 lower-case hex digits"):
        ContextState(trace_id=trace_id)


def test_traceparent_names_the_current_step() -> None:
    """A call to another service has the step that makes it for a parent; outside it the run's own place."""
    state, other = ContextState(), ContextState()
    at_top = state.traceparent
    assert state.traceparent == at_top
    with state.attach():
        assert state.traceparent == at_top
        with step("tool", "call") as current:
            assert state.traceparent == f"00-{state.run.trace_id}-{current.step_id}-01"
            assert other.traceparent.split("-")[1] == other.run.trace_id
        assert state.traceparent == at_top


# -- Ids --------------------------------------------------------------------------------------------------------------


def test_ids_have_their_form() -> None:
    """A run id is a random UUID, a trace id 32 and a span id 16 lower-case hex digits."""
    for _ in range(200):
        state = ContextState()
        run_id = uuid.UUID(state.run.run_id)
        assert (run_id.version, run_id.variant, str(run_id)) == (4, uuid.RFC_4122, state.run.run_id)
        assert re.fullmatch(r"[0-9a-f]{32}", state.run.trace_id)
        assert re.fullmatch(r"[0-9a-f]{16}", new_span_id())


def test_ids_do_not_repeat_after_seeding() -> None:
    """An application that seeds the random module at each start does not get the ids of its last start."""

    def ids() -> list[str]:
        random.seed(1)
        state = ContextState()
        return [state.run.run_id, state.run.trace_id, new_span_id()]

    before = random.getstate()
    try:
        assert not set(ids()) & set(ids())
    finally:
        random.setstate(before)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_ids_do_not_repeat_after_fork() -> None:
    """A forked child does not go on with its parent's ids."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, f"{ContextState().run.trace_id} {new_span_id()}".encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        of_child = pipe.read().split()
    assert os.waitpid(child, 0)[1] == 0
    assert len(of_child) == 2
    assert not {ContextState().run.trace_id, new_span_id()} & set(of_child)


def test_given_ids_are_text_that_can_be_written() -> None:
    """An id that is not a `str`, or that UTF-8 cannot hold, would break the back end and not the run."""
    run_id = uuid.uuid4()
    state = ContextState(run_id=run_id, conversation_id=7, user_id="\ud800", workflow_name="Müller")  # type: ignore[arg-type]
    assert state.run.run_id == str(run_id)
    assert (state.run.conversation_id, state.run.user_id, state.run.workflow_name) == (
        "7",
        "\\ud800",
        "Müller",
    )


def test_tags_are_those_of_the_moment() -> None:
    """A run's tags are pairs in the order of their names, and a mapping that changes afterwards changes nothing."""
    tags = {"tenant": "acme", "plan": "free"}
    run = ContextState(tags=tags).run
    tags["tenant"] = "other"
    assert run.tags == (("plan", "free"), ("tenant", "acme"))


def test_tags_are_text_that_can_be_written() -> None:
    """A name or a value that is not a `str`, or that UTF-8 cannot hold, becomes text."""
    assert ContextState(tags={7: "\ud800", "a": None}).run.tags == (("7", "\\ud800"), ("a", "None"))  # type: ignore[dict-item]


@pytest.mark.parametrize("tags", ["tenant=acme", ["tenant"], 7])
def test_tags_that_are_not_a_mapping_are_refused(tags: Any) -> None:
    """Tags without names are a mistake in the code that starts the run, and the error says what they are."""
    with pytest.raises(TypeError, match="tags is a mapping of names to values"):
        ContextState(tags=tags)


def test_repr_names_the_run() -> None:
    """A log line that holds a state shows which run it is."""
    state = ContextState(run_id="run-1")
    assert repr(state) == f"ContextState(run_id='run-1', trace_id={state.run.trace_id!r})"


def test_clock_never_goes_back() -> None:
    """Times within a run come from a monotonic clock, close to the wall clock."""
    state = ContextState()
    times = [state.now_ns() for _ in range(1000)]
    assert times == sorted(times)


HOUR_NS = 3_600_000_000_000


async def test_a_run_follows_a_wall_clock_that_has_gone_forward() -> None:
    """A laptop sleeps while a run is open: the next step is dated by the wall clock, and what is open ends after it."""
    state = ContextState()
    async with recorded_run(state) as exporter:
        with step("tool", "open"):
            state.clock_offset_ns -= (
                10 * HOUR_NS
            )  # as if the clock had been that far behind when the run began
            before = state.now_ns()
            with step("tool", "after") as after:
                after.event("seen")
    times = [each.time_ns for each in exporter.steps]
    assert times[1] > before + 9 * HOUR_NS
    assert times[1:] == sorted(times[1:])
    assert 0 <= time.time_ns() - times[1] < HOUR_NS


@pytest.mark.parametrize("ahead_ns", [HOUR_NS, -900_000_000])
async def test_a_run_follows_no_wall_clock_that_is_behind_or_little_ahead(ahead_ns: int) -> None:
    """Within a run time never goes back, and small differences are left to the monotonic clock."""
    state = ContextState()
    state.clock_offset_ns += ahead_ns
    offset_ns = state.clock_offset_ns
    async with recorded_run(state):
        for _ in range(3):
            with step("tool", "search"):
                pass
    assert state.clock_offset_ns == offset_ns


# -- Which run is current ---------------------------------------------------------------------------------------------


def test_nothing_is_current_outside() -> None:
    """Outside every run the state is None."""
    assert ContextState.current() is None


def test_attach_makes_a_run_current_for_a_block() -> None:
    """And the one before current again, also if the block raises."""
    outer, inner = ContextState(), ContextState()
    with outer.attach() as attached:
        assert attached is outer
        with suppress(LookupError), inner.attach():
            assert ContextState.current() is inner
            raise LookupError
        assert ContextState.current() is outer
        with step("tool", "a step"):
            assert ContextState.current() is outer
    assert ContextState.current() is None


def test_thread_has_no_run_unless_attached() -> None:
    """A thread of your own starts outside; `attach` and a copied context bring it in."""
    state, seen = ContextState(), list[object]()

    def attached() -> None:
        seen.append(ContextState.current())
        with state.attach():
            seen.append(ContextState.current())
        seen.append(ContextState.current())

    with state.attach():
        context = contextvars.copy_context()
        for target, arguments in (
            (attached, ()),
            (context.run, (lambda: seen.append(ContextState.current()),)),
        ):
            thread = threading.Thread(target=target, args=arguments)
            thread.start()
            thread.join()
    assert seen == [None, state, None, state]


async def test_task_has_the_run_it_was_started_in() -> None:
    """A task goes on in its run, after the block has ended too, and does not change its starter's."""
    state, other = ContextState(), ContextState()
    started, ended = asyncio.Event(), asyncio.Event()

    async def work() -> ContextState | None:
        started.set()
        with other.attach():
            await asyncio.sleep(0)
        await ended.wait()
        return ContextState.current()

    with state.attach():
        task = asyncio.create_task(work())
        await started.wait()
        assert ContextState.current() is state
    ended.set()
    assert ContextState.current() is None
    assert await task is state


async def test_left_elsewhere_than_entered() -> None:
    """A run that is left in another task than it was entered in disturbs neither (a generator fixture does that)."""
    state = ContextState()
    attached = state.attach()

    async def enter() -> None:
        attached.__enter__()
        assert ContextState.current() is state

    async def leave() -> None:
        with other.attach():
            attached.__exit__(None, None, None)
            assert ContextState.current() is other
        assert ContextState.current() is None

    other = ContextState()
    await asyncio.create_task(enter())
    await asyncio.create_task(leave())
    assert ContextState.current() is None
