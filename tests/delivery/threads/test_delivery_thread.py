"""DeliveryThread and BlockingWorker: one thread while it is needed, and none afterwards."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

import pytest

from nat_observability.delivery import locking
from nat_observability.delivery.threads.delivery_thread import DeliveryThread
from nat_observability.delivery.threads.worker import BlockingWorker
from nat_observability.testing import wait_until
from tests.processes import run_program, skip_without

PATIENCE = 10.0


def hang(entered: threading.Event, let_go: threading.Event) -> None:
    """Make a call that does not return before it is let go."""
    entered.set()
    let_go.wait(PATIENCE)


def on(loop: asyncio.AbstractEventLoop) -> threading.Thread:
    """Return the thread that a loop runs on."""

    async def current() -> threading.Thread:
        return threading.current_thread()

    return asyncio.run_coroutine_threadsafe(current(), loop).result(PATIENCE)


def test_all_users_share_one_loop_on_one_daemon_thread() -> None:
    """The thread starts with the first user; a daemon, so that the interpreter does not wait for it."""
    thread = DeliveryThread()
    loops = [thread.acquire() for _ in range(3)]
    assert loops[0] is loops[1] is loops[2]
    assert on(loops[0]).daemon
    assert on(loops[0]) is not threading.current_thread()
    for _ in loops:
        thread.release()


def test_the_thread_ends_with_its_last_user_and_starts_with_the_next() -> None:
    """While one user is left it runs; afterwards thread and loop are gone, and a new user gets new ones."""
    thread = DeliveryThread()
    first = thread.acquire()
    thread.acquire()
    running = on(first)
    thread.release()
    assert on(first) is running
    thread.release()
    running.join(PATIENCE)
    assert not running.is_alive()
    assert first.is_closed()
    second = thread.acquire()
    assert second is not first
    assert on(second) is not running
    thread.release()


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), None], ids=repr)
def test_g8_a_sink_cannot_end_the_thread(
    error: BaseException | None, caplog: pytest.LogCaptureFixture
) -> None:
    """An error in a sink's own task, or a sink that stops the loop, does not end it for other users."""
    caplog.set_level("CRITICAL", "asyncio")
    thread = DeliveryThread()
    loop = thread.acquire()
    running = on(loop)

    def exits() -> None:
        if error is None:
            loop.stop()
        else:
            raise error

    loop.call_soon_threadsafe(exits)
    assert on(loop) is running
    thread.release()
    running.join(PATIENCE)
    assert not running.is_alive()
    assert loop.is_closed()


def test_the_last_user_may_release_on_the_thread_itself() -> None:
    """A delivery gives its loop back in its last task, which runs there."""
    thread = DeliveryThread()
    loop = thread.acquire()
    running = on(loop)
    loop.call_soon_threadsafe(thread.release)
    running.join(PATIENCE)
    assert not running.is_alive()


def test_g11_any_number_of_threads_acquire_and_release() -> None:
    """A user that holds it has a running loop, whatever the others do at that moment."""
    thread = DeliveryThread()
    together = threading.Barrier(8)

    def use() -> None:
        together.wait(PATIENCE)
        for _ in range(100):
            loop = thread.acquire()
            assert on(loop).is_alive()
            thread.release()

    with ThreadPoolExecutor(8) as pool:
        for used in [pool.submit(use) for _ in range(8)]:
            used.result(PATIENCE)


def test_tasks_that_are_left_are_cancelled_at_the_end() -> None:
    """Nothing that was started on the loop outlives it."""
    thread = DeliveryThread()
    loop = thread.acquire()
    ended = threading.Event()

    async def wait_for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    asyncio.run_coroutine_threadsafe(_spawn(wait_for_ever()), loop).result(PATIENCE)
    thread.release()
    assert ended.wait(PATIENCE)


async def _spawn(coroutine: object) -> None:
    task = asyncio.ensure_future(coroutine)  # type: ignore[call-overload]
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


_tasks: set[object] = set()


def test_a_thread_that_cannot_be_started_harms_no_later_user() -> None:
    """If the system refuses a thread, the user gets the error, and the next one a new attempt."""
    run_program("""
        import threading
        from nat_observability.delivery.threads.delivery_thread import DeliveryThread

        start = threading.Thread.start
        def refuse(thread):
            raise RuntimeError("can't start new thread")

        shared = DeliveryThread()
        threading.Thread.start = refuse
        try:
            shared.acquire()
        except RuntimeError:
            pass
        else:
            raise AssertionError
        threading.Thread.start = start
        loop = shared.acquire()
        called = threading.Event()
        loop.call_soon_threadsafe(called.set)
        assert called.wait(5)
        shared.release()
        for thread in threading.enumerate():
            if thread is not threading.main_thread():
                thread.join(5)
        assert loop.is_closed()
        """)


# What every program below begins with: a run's step goes to a sink on the loop and to one on a worker thread.
EXPORTERS = """
import asyncio, os, selectors, sys, threading
from nat_observability import *

arrived = []

async def on_the_loop(batch):
    arrived.extend(item.name for item in batch)

def on_a_worker(batch):
    arrived.extend(item.name for item in batch)

limits = DeliveryLimits(drain_timeout=5)
exporters = {
    "async": SpanExporter(on_the_loop, name="async", limits=limits),
    "worker": SpanExporter(on_a_worker, name="worker", limits=limits),
}

async def record(name, **more):
    manager = ExporterManager.from_exporters({**exporters, **more})
    async with manager.start(ContextState()):
        with step("tool", name):
            pass
        async with asyncio.timeout(10):
            return await manager.flush()
"""


def test_a_loop_that_breaks_is_not_tried_again_and_the_exporters_go_on_on_another() -> None:
    """A program that closes files which are not its own closes the loop's selector too."""
    done = run_program(
        EXPORTERS
        + """
async def break_it(batch):
    selector = asyncio.get_running_loop()._selector
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, selector.fileno())
    os.close(nothing)

async def main():
    async with ObservabilityRuntime(exporters, shutdown_timeout=5) as runtime:
        await record("before")
        await record("breaks", breaker=SpanExporter(break_it, name="breaker", limits=limits))
        await record("after")
        assert runtime.health().ledger.delivered == 6, runtime.health()

asyncio.run(main())
# What was being written is written again.
assert {name: 2 <= arrived.count(name) <= 3 for name in arrived} == dict.fromkeys(["before", "breaks", "after"], True)
assert arrived.count("after") == 2
"""
    )
    assert (
        done.stderr.count("background_loop_broken thread=nat-observability-delivery-breaker error='OSError: ")
        == 1
    )
    assert len(done.stderr) < 5_000


def test_g4_a_loop_that_cannot_start_fails_the_exporters_and_not_the_run() -> None:
    """It is reported once, tried again with a later run, and never in a tight loop."""
    done = run_program(
        EXPORTERS
        + """
select, tries = selectors.DefaultSelector.select, 0

def refuse(selector, timeout=None):
    global tries
    if threading.current_thread() is threading.main_thread():
        return select(selector, timeout)
    tries += 1
    raise OSError("no selector")

selectors.DefaultSelector.select = refuse
asyncio.run(record("nowhere"))
assert 0 < tries < 10, tries
assert arrived == []
for exporter in exporters.values():
    health = exporter.delivery.health()
    assert (health.state, health.last_error) == ("failed", "OSError: no selector"), health
"""
    )
    assert done.stderr.count("background_loop_broken") == 2  # one for each exporter
    assert len(done.stderr) < 5_000


def test_g4_synchronous_code_gets_an_error_if_no_loop_can_start() -> None:
    """It does not wait for ever for a loop that cannot run; the next attempt starts anew."""
    run_program("""
        import asyncio, selectors
        from nat_observability.delivery.threads.delivery_thread import DeliveryThread

        select = selectors.DefaultSelector.select
        def refuse(selector, timeout=None):
            raise OSError("no selector")

        shared = DeliveryThread()
        selectors.DefaultSelector.select = refuse
        try:
            shared.acquire()
        except RuntimeError as error:
            assert "no selector" in str(error)
        else:
            raise AssertionError
        selectors.DefaultSelector.select = select
        loop = shared.acquire()
        assert asyncio.run_coroutine_threadsafe(asyncio.sleep(0, 7), loop).result(10) == 7
        shared.release()
        """)


def test_what_freezes_the_time_of_an_applications_tests_freezes_no_delivery() -> None:
    """Such tools replace `time.monotonic`, also in asyncio: a batch still goes when it has waited long enough."""
    run_program(
        EXPORTERS
        + """
import time

time.monotonic = lambda now=time.monotonic(): now
exporters = {"e": SpanExporter(on_the_loop, name="e", limits=DeliveryLimits(batch_age=0.1))}

async def main():
    async with ExporterManager.from_exporters(exporters).start(ContextState()):
        with step("tool", "a"):
            pass
        while not arrived:
            await asyncio.sleep(0)

asyncio.run(main())
""",
        timeout=15,
    )


GREEN = """
import asyncio, sys
from nat_observability import *
from nat_observability.errors import GreenThreadsError

exporter = SpanExporter(lambda batch: None, name="e")

async def main():
    runtime = ObservabilityRuntime({"e": exporter})
    async with runtime, ExporterManager.from_exporters({"e": exporter}).start(ContextState()) as manager:
        with step("tool", "a"):
            print("the run goes on")
    print(manager.report.exporters["e"].error)
    error = exporter.delivery.lease().opening.exception()
    assert isinstance(error, GreenThreadsError)
    print(error.library)

asyncio.run(main())
"""
PATCHES = {
    "gevent": "from gevent import monkey; monkey.patch_all()",
    "gevent without threads": "from gevent import monkey; monkey.patch_all(thread=False)",
    "eventlet": "import warnings; warnings.simplefilter('ignore'); import eventlet; eventlet.monkey_patch()",
}


@pytest.mark.parametrize("patch", PATCHES)
def test_g4_patched_threads_are_refused_at_once_and_the_run_goes_on(patch: str) -> None:
    """On a greenlet no delivery works: the error names the library, and the workflow is left alone."""
    library = patch.split()[0]
    skip_without(library)
    done = run_program(f"{PATCHES[patch]}\n{GREEN}", timeout=15, fresh=True)
    first, error, named = done.stdout.splitlines()
    assert (first, named) == ("the run goes on", library)
    assert error.startswith("GreenThreadsError: ")
    assert f"{library} has patched" in error
    assert len(done.stderr) < 5_000


def test_a_library_that_patches_nothing_is_not_refused() -> None:
    """Importing gevent alone changes nothing: a server that uses threads may import it."""
    skip_without("gevent")
    run_program(
        "import gevent.monkey\n"
        + EXPORTERS
        + "asyncio.run(record('a'))\nassert arrived == ['a', 'a'], arrived\n"
    )


def test_g15_a_forked_child_has_a_thread_of_its_own() -> None:
    """The child forgets the parent's users and loop; the parent's thread goes on."""
    run_program("""
        import asyncio, os, threading
        from nat_observability.delivery.threads.delivery_thread import DeliveryThread

        async def where():
            return os.getpid(), threading.current_thread()

        def ask(loop):
            return asyncio.run_coroutine_threadsafe(where(), loop).result(5)

        shared = DeliveryThread()
        parents = shared.acquire()
        child = os.fork()
        if not child:
            status = 1
            try:
                loop = shared.acquire()
                assert loop is not parents
                pid, thread = ask(loop)
                assert pid == os.getpid()
                shared.release()
                thread.join(5)
                assert not thread.is_alive()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert ask(parents)[0] == os.getpid()
        shared.release()
        """)


def test_g15_a_fork_in_the_middle_of_an_acquire_leaves_no_lock_held() -> None:
    """Other threads that acquire and release at the moment of the fork do not lock the child up."""
    run_program(
        """
        import os, sys, threading
        from nat_observability.delivery.threads.delivery_thread import DeliveryThread

        sys.setswitchinterval(1e-5)
        shared = DeliveryThread()
        stop = threading.Event()
        def churn():
            while not stop.is_set():
                shared.acquire()
                shared.release()
        churners = [threading.Thread(target=churn, daemon=True) for _ in range(3)]
        for thread in churners:
            thread.start()
        for _ in range(20):
            child = os.fork()
            if not child:
                loop = shared.acquire()
                called = threading.Event()
                loop.call_soon_threadsafe(called.set)
                os._exit(0 if called.wait(10) else 1)
            assert os.waitpid(child, 0)[1] == 0
        stop.set()
        for thread in churners:
            thread.join()
        """,
        measured=False,
    )


def test_g15_the_loop_needs_no_lock_that_a_fork_may_leave_held() -> None:
    """The one that asyncio holds while it makes its policy, in the first call of a process that needs it."""
    run_program("""
        import asyncio.events, threading
        from nat_observability.delivery.threads.delivery_thread import DeliveryThread

        with asyncio.events._lock:
            shared = DeliveryThread()
            loop = shared.acquire()
            called = threading.Event()
            loop.call_soon_threadsafe(called.set)
            assert called.wait(10)
            shared.release()
        """)


def test_g6_what_needs_a_helper_thread_still_works_at_interpreter_exit() -> None:
    """The last batches are sent when the interpreter refuses new threads (3.12): looking up a name works there too."""
    done = run_program("""
        import asyncio, atexit, socket, threading
        from nat_observability.delivery.threads.delivery_thread import DeliveryThread

        shared = DeliveryThread()
        loop = shared.acquire()

        async def look_up():
            await asyncio.get_running_loop().run_in_executor(None, print, "called")
            return await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)

        @atexit.register
        def last():
            print(asyncio.run_coroutine_threadsafe(look_up(), loop).result(5)[0][4])
            shared.release()
        """)
    assert done.stdout.split("\n")[:2] == ["called", "('127.0.0.1', 80)"]
    assert done.stderr == ""


def test_one_helper_thread_serves_what_comes_one_after_the_other() -> None:
    """A call made while it is busy gets another thread; an abandoned call holds up no later one."""
    shared = DeliveryThread()
    loop = shared.acquire()
    go_on = threading.Event()

    async def calls() -> None:
        async def helper() -> int:
            return await asyncio.get_running_loop().run_in_executor(None, threading.get_ident)

        first = await helper()
        assert [await helper() for _ in range(3)] == [first] * 3
        async with asyncio.timeout(PATIENCE):
            hangs = asyncio.ensure_future(asyncio.get_running_loop().run_in_executor(None, go_on.wait))
            second = await helper()
            assert second != first
            hangs.cancel()
            await asyncio.wait({hangs})
            assert await helper() == second

    try:
        asyncio.run_coroutine_threadsafe(calls(), loop).result(PATIENCE)
    finally:
        go_on.set()
        shared.release()


def test_a_blocking_worker_calls_in_order_and_one_at_a_time() -> None:
    """Calls run on one daemon thread in the order in which they were submitted, also those before `end`."""
    worker = BlockingWorker("nat-observability-worker")
    order: list[int] = []
    futures = [worker.submit(lambda number=number: order.append(number)) for number in range(100)]  # type: ignore[misc]
    thread = worker.submit(threading.current_thread)
    worker.end()
    wait(futures, PATIENCE)
    assert order == list(range(100))
    assert thread.result(PATIENCE).daemon
    thread.result().join(PATIENCE)
    assert not thread.result().is_alive()


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), SystemExit(1), StopIteration(), KeyboardInterrupt(), CancelledError()],
    ids=repr,
)
async def test_whatever_a_blocking_call_raises_arrives_as_an_error(error: BaseException) -> None:
    """It ends neither the worker nor the loop that waits: what would do so is wrapped."""
    worker = BlockingWorker("nat-observability-worker")

    def fail() -> None:
        raise error

    try:
        with pytest.raises(Exception) as caught:  # noqa: PT011  any Exception will do
            await asyncio.wait_for(asyncio.wrap_future(worker.submit(fail)), PATIENCE)
        assert error in (caught.value, caught.value.__cause__)
        assert await asyncio.wrap_future(worker.submit(lambda: 7)) == 7
    finally:
        worker.end()


def test_a_worker_may_have_to_wait_for_the_one_before_it() -> None:
    """If one was given up in the middle of a call, its successor calls nothing until that call is over."""
    entered, let_go = threading.Event(), threading.Event()
    order: list[str] = []

    def stuck() -> None:
        entered.set()
        let_go.wait(PATIENCE)
        order.append("first")

    first = BlockingWorker("nat-observability-first")
    first.submit(stuck)
    assert entered.wait(PATIENCE)
    first.end()
    second = BlockingWorker("nat-observability-second", after=first)
    called = second.submit(lambda: order.append("second"))
    second.end()
    assert not called.running()
    let_go.set()
    called.result(PATIENCE)
    assert order == ["first", "second"]


def test_workers_after_one_that_hangs_take_no_more_threads() -> None:
    """However often something is tried that hangs: they all go on with its thread, which ends with the last of them."""
    let_go, entered = threading.Event(), threading.Event()
    order: list[int] = []
    before = threading.active_count()
    worker = BlockingWorker("nat-observability-worker")
    worker.submit(partial(hang, entered, let_go))
    assert entered.wait(PATIENCE)
    for number in range(20):
        worker.end()
        worker = BlockingWorker("nat-observability-worker", worker)
        worker.submit(partial(order.append, number))
    assert threading.active_count() == before + 1
    let_go.set()
    thread = worker.submit(threading.current_thread).result(PATIENCE)
    assert order == list(range(20))
    worker.end()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_calls_that_are_given_up_while_another_hangs_keep_nothing() -> None:
    """Each of them had a batch, and one that hangs may do so for days."""
    let_go, entered = threading.Event(), threading.Event()

    class Batch:
        pass

    worker = BlockingWorker("nat-observability-worker")
    worker.submit(partial(hang, entered, let_go))
    assert entered.wait(PATIENCE)
    seen: list[weakref.ref[object]] = []
    for _ in range(20):
        batch = Batch()
        seen.append(weakref.ref(batch))
        worker.submit(partial(id, batch)).cancel()
        del batch
    gc.collect()
    assert [batch() for batch in seen] == [None] * 20
    last = worker.submit(lambda: "made")
    let_go.set()
    assert last.result(PATIENCE) == "made"
    worker.end()


def test_a_blocking_worker_keeps_nothing_of_a_call_that_is_over() -> None:
    """Batches are large: none is kept until the next one comes."""

    class Batch:
        pass

    worker = BlockingWorker("nat-observability-worker")
    batch = Batch()
    seen = weakref.ref(batch)
    worker.submit(lambda batch=batch: None).result(PATIENCE)  # type: ignore[misc]
    del batch
    worker.submit(lambda: None).result(PATIENCE)
    gc.collect()
    assert seen() is None
    worker.end()


def test_a_worker_that_dies_fails_its_calls_and_the_next_one_has_a_new_thread() -> None:
    """An exception raised into the thread between two calls leaves no caller waiting, and no worker dead for good."""
    # Not measured, here and below: under a trace function CPython 3.11 looks for such an exception without end.
    run_program(
        """
        import ctypes, threading
        from nat_observability.delivery.threads.worker import BlockingWorker
        from nat_observability.errors import SinkError

        worker = BlockingWorker("nat-observability-worker")
        first = worker.submit(threading.current_thread).result(10)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(first.ident), ctypes.py_object(ValueError))
        # The thread may have died before this call, which then has a new one; or it dies with it.
        failed = worker.submit(lambda: None).exception(10)
        if failed is not None:
            assert isinstance(failed, SinkError), failed
            assert isinstance(failed.__cause__, ValueError), failed.__cause__
        second = worker.submit(threading.current_thread).result(10)
        assert second is not first
        worker.end()
        first.join(10)
        second.join(10)
        assert not second.is_alive()
        """,
        measured=False,
    )


def test_a_call_that_a_worker_died_with_is_tried_again() -> None:
    """The sink's error is retryable: its batch arrives."""
    done = run_program(
        EXPORTERS
        + """
import ctypes

class Killed(BaseException):
    "What callbacks of a future, in which the thread may be still, let through."

workers = []

def note_thread(batch):
    workers.append(threading.current_thread())
    arrived.extend(item.name for item in batch)

exporters = {"worker": SpanExporter(note_thread, name="worker", limits=DeliveryLimits(retry_initial=0.01))}

async def main():
    async with ObservabilityRuntime(exporters):
        await record("before")
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(workers[0].ident), ctypes.py_object(Killed))
        await record("after")

asyncio.run(main())
assert arrived == ["before", "after"], arrived
assert workers[0] is not workers[1]
""",
        measured=False,
    )
    assert done.stderr.count("worker_died thread=nat-observability-function error=Killed") == 1


def test_a_worker_that_died_and_cannot_be_replaced_yet_is_asked_again(tmp_path: Path) -> None:
    """A thread refused in the middle of a run fails no batch: the next try may get one."""
    done = run_program(
        EXPORTERS
        + """
import ctypes

class Killed(BaseException):
    "What callbacks of a future, in which the thread may be still, let through."

workers, refused = [], 0

def note_thread(batch):
    workers.append(threading.current_thread())
    arrived.extend(item.name for item in batch)

limits = DeliveryLimits(retry_initial=0.01, spool="always", spool_path=sys.argv[1])
exporters = {"worker": SpanExporter(note_thread, name="worker", limits=limits)}
real = threading.Thread.start

def refuse_twice(thread):
    global refused
    if refused < 2:
        refused += 1
        raise RuntimeError("can't start new thread")
    real(thread)

async def main():
    async with ObservabilityRuntime(exporters):
        await record("before")
        threading.Thread.start = refuse_twice
        for worker in [each for each in threading.enumerate() if "function" in each.name]:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(worker.ident), ctypes.py_object(Killed))
        await record("after")

asyncio.run(main())
assert (arrived, refused) == (["before", "after"], 2), (arrived, refused)
""",
        tmp_path,
        measured=False,
    )
    assert "delivery_failed" not in done.stderr


def test_no_garbage_is_collected_on_a_thread_that_begins() -> None:
    """Its starter holds the lock of the deliveries, for which a generator that is closed there would wait for ever."""
    run_program("""
        import asyncio, gc, threading
        from nat_observability import ContextState, ExporterManager, SpanExporter, step

        begun = {}
        inner = threading.Thread._bootstrap_inner

        def bootstrap(thread):
            begun[thread.name] = gc.isenabled()
            inner(thread)

        threading.Thread._bootstrap_inner = bootstrap

        async def main():
            exporter = SpanExporter(lambda batch: None, name="main", processors=[lambda item: item])
            async with ExporterManager.from_exporters({"main": exporter}).start(ContextState()):
                with step("tool", "t"):
                    pass

        asyncio.run(main())
        ours = {name: enabled for name, enabled in begun.items() if name.startswith("nat-observability")}
        assert len(ours) >= 3, begun
        assert not any(ours.values()), ours
        assert gc.isenabled()
    """)


def test_g5_a_call_that_comes_while_another_one_is_added_is_made() -> None:
    """The garbage collector may end a run anywhere, which saves what it has recorded: neither call is lost."""
    worker, go_on = BlockingWorker("busy"), threading.Event()
    busy = worker.submit(go_on.wait)
    wait_until(busy.running)
    given_up = worker.submit(int)
    assert given_up.cancel()
    among: list[Future[str]] = []

    def cancelled() -> bool:
        given_up.cancelled = lambda: True  # type: ignore[method-assign]
        among.append(worker.submit(lambda: "among"))
        return True

    given_up.cancelled = cancelled  # type: ignore[method-assign]
    added = worker.submit(lambda: "added")
    go_on.set()
    assert [added.result(PATIENCE), *(each.result(PATIENCE) for each in among)] == [
        "added",
        "among",
    ]
    worker.end()


def test_g8_a_call_that_is_added_while_another_thread_has_the_lock_locks_nothing_up() -> None:
    """What is recorded in the middle of adding a call waits for the deliveries' lock, whose holder adds calls too."""
    worker, go_on, inside = BlockingWorker("busy"), threading.Event(), threading.Event()
    busy = worker.submit(go_on.wait)
    wait_until(busy.running)
    given_up = worker.submit(int)
    assert given_up.cancel()

    def cancelled() -> bool:
        inside.set()
        with locking.lock:
            return True

    given_up.cancelled = cancelled  # type: ignore[method-assign]
    adding = threading.Thread(target=worker.submit, args=(int,), daemon=True)

    def hold() -> None:
        with locking.lock:
            adding.start()
            inside.wait(0.1)  # it need not come so far
            worker.submit(int)

    holding = threading.Thread(target=hold, daemon=True)
    holding.start()
    for thread in (holding, adding):
        thread.join(PATIENCE)
        assert not thread.is_alive()
    go_on.set()
    assert worker.submit(int).result(PATIENCE) == 0
    worker.end()


def test_a_call_that_comes_after_the_end_keeps_no_thread() -> None:
    """It is made all the same: somebody may wait for it."""
    worker = BlockingWorker("late")
    first = worker.submit(threading.current_thread).result(PATIENCE)
    worker.end()
    first.join(PATIENCE)
    late = worker.submit(threading.current_thread).result(PATIENCE)
    late.join(PATIENCE)
    assert not late.is_alive()
