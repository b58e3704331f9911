"""What the system refuses, threads, handles, memory, reaches no workflow: it is logged, counted, asked for again."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.processes import run_program, skip_without

# Processes that open and close exporters again and again, some of them a dozen times.
pytestmark = pytest.mark.timeout(60)

# What every program begins with. `refusing(kind, spare)` is a block in which the system gives so many more of a kind.
_BEGIN = """
    import asyncio, contextlib, gc, logging, os, resource, sys, threading, time, warnings
    from pathlib import Path

    os.environ.update({
        "NAT_OBSERVABILITY_EXPORTERS__FIRST__TYPE": "file",
        "NAT_OBSERVABILITY_EXPORTERS__FIRST__PATH": sys.argv[1] + "/first.jsonl",
        "NAT_OBSERVABILITY_EXPORTERS__SECOND__TYPE": "sqlite",
        "NAT_OBSERVABILITY_EXPORTERS__SECOND__PATH": sys.argv[1] + "/second.sqlite3",
        "NAT_OBSERVABILITY_EXPORTERS__THIRD__TYPE": "file",
        "NAT_OBSERVABILITY_EXPORTERS__THIRD__PATH": sys.argv[1] + "/third.jsonl",
        "NAT_OBSERVABILITY_EXPORTERS__THIRD__SPOOL": "always",
        "NAT_OBSERVABILITY_EXPORTERS__THIRD__SPOOL_PATH": sys.argv[1] + "/spool",
    })

    class Lines(logging.Handler):
        def __init__(self):
            super().__init__(logging.WARNING)
            self.lines = []
        def emit(self, record):
            self.lines.append(record.getMessage())

    said = Lines()
    logging.getLogger("nat_observability").addHandler(said)
    logging.getLogger("nat_observability").propagate = False
    unraisable = []
    sys.unraisablehook = lambda each: unraisable.append((each.exc_value, each.object, each.err_msg))

    from nat_observability import ContextState, ExporterManager, SpanExporter, step
    from nat_observability.containers import ObservabilityContainer, observability, run
    from nat_observability.integrations.workers.process_scope import ProcessScope
    from nat_observability.integrations.workers.run_scope import run_scope

    @contextlib.contextmanager
    def refusing(kind, spare=0):
        if kind == "threads":
            real = threading.Thread.start
            left = [spare]
            def start(thread):
                left[0] -= 1
                if left[0] < 0:
                    raise RuntimeError("can't start new thread")
                real(thread)
            threading.Thread.start = start
            try:
                yield
            finally:
                threading.Thread.start = real
        elif kind == "stacks":
            threading.stack_size(1 << 46)  # which the system really refuses
            try:
                yield
            finally:
                threading.stack_size(0)
        elif kind == "handles":
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            # Fill the gaps below the highest descriptor, so that the limit counts what is left.
            fillers = []
            used = {int(name) for name in os.listdir("/proc/self/fd")}
            for _ in range(max(used) + 1 - len(used)):
                fillers.append(os.open("/dev/null", os.O_RDONLY))
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(used | set(fillers)) + 1 + spare, hard))
            try:
                yield
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                for each in fillers:
                    os.close(each)
        else:
            assert kind == "nothing"
            yield

    def job(count):
        for number in range(count):
            with step("tool", f"{number}"):
                pass
        return "done"

    def runs_of(container, how, count):
        "Do a job as one run, in one of the ways; return its report, if it has one, and whether the job was done."
        if how == "sync":
            with run_scope(container) as scope:
                done = job(count)
            return scope.report, done
        if how == "script":
            with observability(container=container) as block:
                done = job(count)
            return None, done
        if how == "process":
            with ProcessScope(container, "the test"), run_scope(container) as scope:
                done = job(count)
            return scope.report, done
        if how == "async":
            async def main():
                async with run_scope(container) as scope:
                    done = job(count)
                return scope.report, done
        elif how == "async script":
            async def main():
                async with observability(container=container):
                    done = job(count)
                return None, done
        elif how == "runtime":
            async def main():
                async with ProcessScope(container, "the test"):
                    async with container.exporter_manager().start(ContextState()) as manager:
                        done = job(count)
                        await manager.flush(0.1)  # what cannot be opened keeps its items
                return manager.report, done
        else:
            assert how == "sync in a loop"
            async def main():
                with ProcessScope(container, "the test"), run_scope(container) as scope:
                    done = job(count)
                return scope.report, done
        return loop.run_until_complete(main())

    loop = asyncio.new_event_loop()

    def ledgers(container):
        return {name: each.ledger for name, each in container.runtime_object().health().exporters.items()}

    def closed(container):
        for exporter in container.exporters().values():
            exporter.delivery.closed().result(10)
        health = container.runtime_object().health().exporters
        assert all(each.state in ("new", "closed", "failed") for each in health.values()), health

    def threads():
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and thread.name.startswith("nat-observability"):
                thread.join(10)
        return [each.name for each in threading.enumerate() if each.name.startswith("nat-observability")]
"""

# What a program begins with, before that, to let time pass at will. Deadlines keep to the clock that the package found
# when it was imported, so this needs a fresh interpreter.
_SKIPPING = """
    import sys, time

    assert "nat_observability" not in sys.modules
    skipped = 0.0
    clock = time.monotonic
    time.monotonic = lambda: clock() + skipped

    def skip(seconds):
        "Let the time pass after which a sink that could not be opened is tried again."
        global skipped
        skipped += seconds
"""

_WAYS = ("sync", "script", "process", "async", "async script", "runtime", "sync in a loop")


def _mostly_slow(cases: Iterable[tuple[str, str]], *each_time: tuple[str, str]) -> list[Any]:
    """All cases, of which those that are not to be tried each time are slow."""
    return [pytest.param(*case, marks=() if case in each_time else pytest.mark.slow) for case in cases]


@pytest.mark.parametrize(
    ("kind", "how"),
    _mostly_slow(
        [
            *(("threads", how) for how in _WAYS),
            *(("handles", how) for how in ("sync", "process", "runtime", "sync in a loop")),
        ],
        ("threads", "runtime"),
        ("handles", "sync"),
    ),
)
def test_g4_whatever_is_refused_at_whatever_moment_the_job_is_done(
    kind: str, how: str, tmp_path: Path
) -> None:
    """With no more of it, with one more, and so on until all goes well: counted, said, asked for again, and no leak."""
    run_program(
        _SKIPPING
        + _BEGIN
        + """
    kind, how = sys.argv[2:]
    warm = ObservabilityContainer()
    runs_of(warm, how, 1)  # to have everything imported that the first use imports
    closed(warm)
    assert not threads()
    gc.collect()
    gc.freeze()  # what imports have made, which every collection would go through

    went_well = False
    for spare in range(40):
        container = ObservabilityContainer()
        said.lines.clear()
        with refusing(kind, spare):
            report, done = runs_of(container, how, 5)
            assert done == "done"
            closed(container)
        # What was recorded after a delivery had failed is refused by the thread that processes items, when that ends.
        assert not threads(), spare
        for name, ledger in ledgers(container).items():
            assert ledger.adds_up and ledger.accepted == 5, (spare, name, ledger, said.lines)
            # What is on the disk waits there for the next time that the exporter is open.
            assert not ledger.pending or name == "third", (spare, name, ledger, said.lines)
            assert not ledger.failed, (spare, name, ledger, said.lines)
            if ledger.delivered < 5:
                assert any(name in line for line in said.lines), (spare, name, said.lines)
        lost = {name for name, ledger in ledgers(container).items() if ledger.delivered < 5}
        kept = {name: ledger.pending for name, ledger in ledgers(container).items()}
        if report is not None:
            assert {each.ledger.accepted for each in report.exporters.values()} == {5}, (spare, report)
        skip(6.0)
        report, done = runs_of(container, how, 7)
        assert done == "done"
        closed(container)
        for name, ledger in ledgers(container).items():
            assert ledger.adds_up and ledger.accepted == 12 and not ledger.pending, (spare, name, ledger)
            assert ledger.delivered >= 7 + kept[name], (spare, name, ledger, said.lines)
        assert not threads(), spare
        gc.collect()
        assert not unraisable, (spare, unraisable)
        if not lost and went_well:
            break
        went_well = not lost
        if not spare:
            assert lost == {"first", "second", "third"}, (lost, said.lines)
            assert all("Raise the limit on" in line for line in said.lines if "start_failed" in line), said.lines
    else:
        raise AssertionError("it never went well")
    loop.close()
    """,
        tmp_path,
        kind,
        how,
        measured=False,
        fresh=True,
    )


@pytest.mark.parametrize(
    "how",
    [how if how == "sync" else pytest.param(how, marks=pytest.mark.slow) for how in _WAYS],
)
def test_g4_the_system_itself_refuses_every_thread(how: str, tmp_path: Path) -> None:
    """Not a function in its place, but a stack that is larger than there are addresses."""
    run_program(
        _BEGIN
        + """
    container = ObservabilityContainer()
    with refusing("stacks"):
        for _ in range(3):
            assert runs_of(container, sys.argv[2], 5)[1] == "done"
    assert {(each.accepted, each.dropped.get("not_open")) for each in ledgers(container).values()} == {(15, 15)}
    assert all(any(name in line and "ulimit -u" in line for line in said.lines) for name in ledgers(container))
    assert runs_of(container, sys.argv[2], 5)[1] == "done"
    closed(container)
    assert {(each.accepted, each.delivered) for each in ledgers(container).values()} == {(20, 5)}, ledgers(container)
    loop.close()
    """,
        tmp_path,
        how,
    )


@pytest.mark.parametrize("kind", ["threads", pytest.param("handles", marks=pytest.mark.slow)])
def test_g6_what_is_refused_after_the_exporters_have_opened_costs_nothing(kind: str, tmp_path: Path) -> None:
    """In the middle of a run, at its end, at a flush, at the shutdown: all has what it needs by then."""
    run_program(
        _BEGIN
        + """
    kind = sys.argv[2]
    async def main():
        container = ObservabilityContainer()
        scope = ProcessScope(container, "the test")
        await scope.open()
        async with run_scope(container) as run:
            job(1)
            assert (await run.manager.flush()).complete
            with refusing(kind):
                job(2)
                assert (await run.manager.flush()).complete
                job(3)
                async with run_scope(container):  # another one begins
                    job(4)
        with refusing(kind):
            async with run_scope(container):
                job(5)
            with run_scope(container) as sync:  # which gets no loop, and needs none
                job(6)
            assert {each.state for each in sync.report.exporters.values()} == {"stopped"}, sync.report
            await scope.close()
        counts = ledgers(container)
        assert {(each.accepted, each.delivered) for each in counts.values()} == {(21, 21)}, counts

    loop.run_until_complete(main())
    loop.close()
    assert not said.lines, said.lines
    assert not threads()
    assert not unraisable, unraisable
    """,
        tmp_path,
        kind,
        measured=False,
    )


@pytest.mark.parametrize(
    ("kind", "how"),
    _mostly_slow(itertools.product(("threads", "handles"), _WAYS), ("handles", "runtime")),
)
def test_g1_a_required_exporter_that_is_refused_its_thread_fails_the_start(
    kind: str, how: str, tmp_path: Path
) -> None:
    """That is what required means; nothing is left of the start, and the next one succeeds."""
    run_program(
        _SKIPPING
        + _BEGIN
        + """
    from nat_observability.errors import ExporterStartError

    os.environ["NAT_OBSERVABILITY_EXPORTERS__SECOND__REQUIRED"] = "true"
    kind, how = sys.argv[2:]
    warm = ObservabilityContainer()
    runs_of(warm, how, 1)
    closed(warm)
    assert not threads()
    container = ObservabilityContainer()
    with refusing(kind):
        try:
            runs_of(container, how, 1)
        except ExporterStartError as error:
            assert list(error.failures) == ["second"], error
            assert "Raise the limit on" in str(error)
        else:
            raise AssertionError("it has started")
    assert container.runtime_object().health().live_managers == 0
    assert ContextState.current() is None
    skip(6.0)
    assert runs_of(container, how, 5)[1] == "done"
    closed(container)
    assert all(each.delivered == 5 for each in ledgers(container).values()), ledgers(container)
    loop.close()
    assert not threads()
    assert not unraisable, unraisable
    """,
        tmp_path,
        kind,
        how,
        measured=False,
        fresh=True,
    )


def test_g4_custom_exporters_go_on_without_a_loop_if_they_can(tmp_path: Path) -> None:
    """Exporters that only subscribe still work; one with a `start` is left out, which the observer learns."""
    run_program(
        _BEGIN
        + """
    from nat_observability import BaseExporter

    class Plain(BaseExporter):
        def __init__(self):
            super().__init__()
            self.seen = []
        def export(self, event):
            self.seen.append(event)

    class Starts(Plain):
        @contextlib.asynccontextmanager
        async def start(self):
            async with super().start():
                yield

    class Raises(Plain):
        def subscription(self, state):
            raise ValueError("its own")

    plain, starts, other = Plain(), Starts(), Plain()
    other.select = lambda run: False
    container = ObservabilityContainer()
    container.exporters().update(plain=plain, starts=starts, other=other, raises=Raises())

    async def main():
        with refusing("threads"), run_scope(container, job="in a loop") as scope:
            assert container.runtime_object().health().live_managers == 1
            assert scope.report.running
            job(5)
        return scope.report

    report = loop.run_until_complete(main())
    loop.close()
    assert container.runtime_object().health().live_managers == 0
    assert len(plain.seen) == 12 and not starts.seen and not other.seen
    assert set(report.exporters) == {"first", "second", "third", "plain", "starts", "raises"}
    assert {name for name, each in report.exporters.items() if each.state == "failed"} == {
        "first", "second", "third", "starts", "raises"
    }
    assert not report.running and report.exporters["plain"].ledger.delivered == 12
    assert any("starts" in line and "ulimit" in line for line in said.lines), said.lines
    assert not plain.subscriptions and not starts.subscriptions
    """,
        tmp_path,
    )


_GREEN = {
    "gevent": """
    from gevent import monkey
    monkey.patch_all()
    from gevent import joinall, spawn

    def at_once(call, count):
        joinall([spawn(call) for _ in range(count)], raise_error=True)
    """,
    "eventlet": """
    import warnings
    warnings.simplefilter("ignore")
    import eventlet
    eventlet.monkey_patch()

    def at_once(call, count):
        for each in [eventlet.spawn(call) for _ in range(count)]:
            each.wait()
    """,
}


@pytest.mark.parametrize("library", ["gevent", pytest.param("eventlet", marks=pytest.mark.slow)])
def test_g4_under_patched_threads_every_job_is_done_and_nothing_waits(library: str, tmp_path: Path) -> None:
    """Neither a thread nor a loop of the caller's is tried: what greenlets do at once, in whatever way, is done."""
    skip_without(library)
    run_program(
        _GREEN[library]
        + _BEGIN
        + """
    container = ObservabilityContainer()
    done = []

    def work():
        with run_scope(container) as scope, step("tool", "waits"):
            time.sleep(0.01)  # where the others go on
            done.append(job(4))
        assert {each.ledger.dropped["not_open"] for each in scope.report.exporters.values()} == {5}, scope.report

    at_once(work, 10)
    assert done == ["done"] * 10
    assert len([line for line in said.lines if "exporter_start_failed" in line]) == 3 * 10, said.lines
    assert all(sys.argv[2] in line for line in said.lines if "exporter_start_failed" in line), said.lines
    for how in sys.argv[3:]:
        assert runs_of(container, how, 5)[1] == "done"
    accepted = 5 * (10 + len(sys.argv[3:]))
    for ledger in ledgers(container).values():
        assert (ledger.accepted, ledger.dropped) == (accepted, {"not_open": accepted}), ledger
    assert len([line for line in said.lines if "runtime_open_refused" in line]) == 3, said.lines
    assert len(said.lines) < 100
    """,
        tmp_path,
        library,
        *_WAYS,
        timeout=15,
        fresh=True,
    )


def test_g4_a_synchronous_run_whose_loop_does_not_run_goes_on_without_one(tmp_path: Path) -> None:
    """Neither that of a new thread nor that of the caller's: it is tried once, not in the middle of the run."""
    run_program(
        _SKIPPING
        + _BEGIN
        + """
    import selectors
    from collections import Counter

    container = ObservabilityContainer()
    select = selectors.DefaultSelector.select
    def refuse(selector, timeout=None):
        raise OSError("no selector")

    selectors.DefaultSelector.select = refuse
    for how in ("sync", "script", "process"):
        assert runs_of(container, how, 5)[1] == "done"
    selectors.DefaultSelector.select = select
    closed(container)
    counts = ledgers(container)
    assert {(each.accepted, each.dropped.get("not_open")) for each in counts.values()} == {(15, 15)}, counts
    broken = Counter(line for line in said.lines if "background_loop_broken" in line)
    # One thread for runs, one for the runtime's opening, and one for each exporter; that of the processors may be asked
    # for by each of the exporters.
    assert max(broken.values()) <= 3 * len(counts), broken
    assert all(tries == 3 for line, tries in broken.items() if "-delivery-" in line), broken
    assert len(said.lines) < 70, said.lines
    skip(6.0)
    assert runs_of(container, "sync", 5)[1] == "done"
    closed(container)
    assert {each.delivered for each in ledgers(container).values()} == {5}, ledgers(container)
    assert not threads()
    assert not unraisable, unraisable
    """,
        tmp_path,
        fresh=True,
    )


def test_g15_a_process_that_is_at_its_end_starts_no_thread_and_fails_no_run(tmp_path: Path) -> None:
    """Python 3.12 refuses threads once the main thread has ended: what runs then is done, counted, and said."""
    done = run_program(
        _BEGIN
        + """
    container = ObservabilityContainer()
    runs_of(container, "sync", 2)
    closed(container)

    def late():
        threading.main_thread().join()
        real = threading.Thread.start
        def start(thread):
            raise RuntimeError("can't create new thread at interpreter shutdown")
        threading.Thread.start = start
        for how in ("sync", "script", "process"):
            assert runs_of(container, how, 3)[1] == "done"
        assert {(each.accepted, each.dropped["not_open"]) for each in ledgers(container).values()} == {(11, 9)}
        assert any("Record before the interpreter exits" in line for line in said.lines)
        print("late", flush=True)

    import atexit
    atexit.register(lambda: print(runs_of(container, "sync", 1)[1]))
    threading.Thread(target=late).start()
    """,
        tmp_path,
    )
    assert done.stdout.split() == ["late", "done"]
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("error", "kind"),
    _mostly_slow(
        itertools.product(
            ("MemoryError()", "OSError(24, 'Too many open files')", "RuntimeError('x')"), ("open", "aopen")
        ),
        ("MemoryError()", "aopen"),
        ("OSError(24, 'Too many open files')", "open"),
    ),
)
def test_g4_a_sink_that_is_refused_memory_or_handles_fails_alone(
    error: str, kind: str, tmp_path: Path
) -> None:
    """Its neighbour delivers; it is counted and named, and opened again later."""
    run_program(
        _SKIPPING
        + _BEGIN
        + f"""
    class Blocking:
        refuses = True
        taken = 0
        def open(self):
            if self.refuses:
                raise {error}
        def write(self, batch):
            self.taken += len(batch)
        def close(self):
            pass

    class Async(Blocking):
        async def open(self):
            Blocking.open(self)
        async def write(self, batch):
            Blocking.write(self, batch)
        async def close(self):
            pass

    os.environ["NAT_OBSERVABILITY_SHUTDOWN_TIMEOUT"] = "1.5"  # in which it is tried again
    container = ObservabilityContainer()
    sink = Blocking() if {kind!r} == "open" else Async()
    container.exporters()["own"] = SpanExporter(sink, name="own")
    runs_of(container, "runtime", 5)
    assert ledgers(container)["own"].dropped == {{"not_open": 5}}, ledgers(container)
    assert ledgers(container)["first"].delivered == 5
    assert any("exporter=own" in line and {error.split("(")[0]!r} in line for line in said.lines), said.lines
    sink.refuses = False
    skip(6.0)
    runs_of(container, "runtime", 5)
    assert ledgers(container)["own"].delivered == sink.taken == 5
    loop.close()
    assert not threads()
    """,
        tmp_path,
        fresh=True,
    )


def test_g8_beside_a_sink_that_blocks_the_others_go_on_though_no_thread_is_left(tmp_path: Path) -> None:
    """They have threads of their own; an exporter that opens then is left out, counted, and opens the next time."""
    run_program(
        _BEGIN
        + """
    from nat_observability import DeliveryLimits

    blocked, let_go = threading.Event(), threading.Event()

    class Works:
        taken = 0
        async def open(self): pass
        async def close(self): pass
        async def write(self, batch):
            self.taken += len(batch)

    class Blocks(Works):
        async def write(self, batch):
            blocked.set()
            let_go.wait(10)
            await super().write(batch)

    sinks = {"blocks": Blocks(), "works": Works(), "late": Works()}
    limits = DeliveryLimits(batch_age=0.01)
    all_of_them = {name: SpanExporter(sink, name=name, limits=limits) for name, sink in sinks.items()}
    early = {name: all_of_them[name] for name in ("blocks", "works")}

    async def taken(name, items):
        while sinks[name].taken < items:
            await asyncio.sleep(0.01)

    async def main():
        async with ExporterManager.from_exporters(early).start(ContextState()) as first:
            job(5)
            while not blocked.is_set():
                await asyncio.sleep(0.01)
            with refusing("threads"):
                job(5)
                await taken("works", 10)
                async with ExporterManager.from_exporters(all_of_them).start(ContextState()) as second:
                    job(5)
                    await taken("works", 15)
                assert second.report.exporters["late"].ledger.dropped == {"not_open": 5}, second.report
                assert sinks["blocks"].taken == 0
                for each in (first, second):
                    assert all(part.ledger.adds_up for part in each.report.exporters.values()), each.report
            let_go.set()
        for each in all_of_them.values():
            await asyncio.wrap_future(each.delivery.closed())
        async with ExporterManager.from_exporters(all_of_them).start(ContextState()) as manager:
            job(5)
            assert (await manager.flush()).complete

    loop.run_until_complete(main())
    loop.close()
    assert {name: sink.taken for name, sink in sinks.items()} == {"blocks": 20, "works": 20, "late": 5}
    for each in all_of_them.values():
        each.delivery.closed().result(10)
    assert any("exporter=late" in line and "ulimit" in line for line in said.lines), said.lines
    assert not threads()
    assert not unraisable, unraisable
    """,
        tmp_path,
    )


@pytest.mark.parametrize(
    ("mode", "refused"),
    _mostly_slow(
        itertools.product(("spill", "always"), ("the sink", "the spool's thread")),
        ("spill", "the sink"),
        ("always", "the spool's thread"),
    ),
)
def test_g4_no_run_waits_at_its_end_for_an_exporter_that_cannot_open(
    mode: str, refused: str, tmp_path: Path
) -> None:
    """Neither for room in the queue nor for the disk, if a runtime tries to open it again in the background."""
    run_program(
        _BEGIN
        + """
    from nat_observability import DeliveryLimits, ObservabilityRuntime

    mode, refused = sys.argv[2:]

    class Sink:
        taken = 0
        async def open(self):
            if refused == "the sink":
                raise OSError("not there")
        async def write(self, batch):
            self.taken += len(batch)
        async def close(self): pass

    real = threading.Thread.start
    def start(thread):
        if "spool" in thread.name and refused == "the spool's thread":
            raise RuntimeError("can't start new thread")
        real(thread)
    threading.Thread.start = start

    limits = DeliveryLimits(spool=mode, spool_path=Path(sys.argv[1]) / "spool", queue_items=20, batch_age=0.01)
    sink = Sink()
    exporters = {"own": SpanExporter(sink, name="own", limits=limits)}
    manager = ExporterManager.from_exporters(exporters, shutdown_timeout=3)

    async def main():
        global refused
        async with ObservabilityRuntime(exporters):
            for count in range(1, 5):
                async with manager.get().start(ContextState()) as run:
                    job(14)
                assert {each.state for each in run.report.exporters.values()} == {"stopped"}, run.report
                ledger = exporters["own"].delivery.health().ledger
                assert ledger.adds_up and ledger.accepted == 14 * count, ledger
            refused = "nothing"
            # Until what filled the queue has left it: before that, the next run's would still be one too many.
            while (health := exporters["own"].delivery.health()).state != "open" or health.ledger.pending:
                await asyncio.sleep(0.01)
            async with manager.get().start(ContextState()) as run:
                job(14)
                assert (await run.flush()).complete
        ledger = exporters["own"].delivery.health().ledger
        assert ledger.adds_up and not ledger.pending and ledger.delivered == sink.taken, ledger
        assert ledger.dropped.keys() <= {"queue_full"} and ledger.accepted == 70, ledger
        assert ledger.delivered >= 34, ledger

    loop.run_until_complete(main())
    loop.close()
    assert not any("abandoned" in line for line in said.lines), said.lines
    assert any("exporter=own" in line for line in said.lines)
    assert not threads()
    assert not unraisable, unraisable
    """,
        tmp_path,
        mode,
        refused,
    )
