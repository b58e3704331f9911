"""The delivery thread: one event loop in the background, started with its first user and ended with its last."""

from __future__ import annotations

import asyncio
import errno
import itertools
import selectors
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future, InvalidStateError
from contextlib import suppress
from contextvars import Context, ContextVar
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar, TypeVarTuple, Unpack

from nat_observability.disk import OPEN_FILES
from nat_observability.errors import EXITS, GreenThreadsError, SinkError, ThreadRefusedError, describe
from nat_observability.forks import at_fork
from nat_observability.logs import get_logger
from nat_observability.weak_registry import WeakRegistry

ResultT = TypeVar("ResultT")
Ts = TypeVarTuple("Ts")

_BEGIN_WITHIN = (
    5.0  # seconds for a new thread's loop to begin, after which it is taken to be slow and not broken
)
_BREAKS = 3  # errors of a loop itself, without a callback between them, after which it is given up
_log = get_logger()
_suppressed: ContextVar[bool] = ContextVar("nat_observability_suppressed", default=False)


class LoopSource(Protocol):
    """Where a delivery gets the event loop that it runs on: the delivery thread, or a test's own loop."""

    def acquire(self) -> asyncio.AbstractEventLoop: ...

    def release(self) -> None: ...


def loaded(name: str) -> Any:
    """
    Return a module that the application has imported; None if it has not, or if a thread is still importing it.

    Half a module lacks names, and waiting for the other half could take as long as the application likes.
    """
    module = sys.modules.get(name)
    return None if getattr(getattr(module, "__spec__", None), "_initializing", False) else module


def suppress_instrumentation() -> None:
    """
    Have OpenTelemetry's instrumentations, of an HTTP client for example, leave the current context alone.

    An export that is itself observed is exported, which is observed, and so on. The application may load
    OpenTelemetry at any time, so this is called again before each piece of work: it costs next to nothing, and never
    raises.
    """
    if _suppressed.get():
        return
    try:
        otel = loaded("opentelemetry.context")
        if otel is not None:
            # opentelemetry.instrumentation.utils looks for it, in all versions under this name.
            otel.attach(otel.set_value("suppress_instrumentation", True))
            _suppressed.set(True)
    except Exception as error:  # noqa: BLE001  foreign code: a delivery goes on without it
        _log.debug("instrumentation_not_suppressed", error=describe(error))


def background_context() -> Context:
    """
    Return a context for what a delivery does, which belongs to no run, trace or request of whoever gave it work.

    See `suppress_instrumentation`.
    """
    context = Context()
    context.run(suppress_instrumentation)
    return context


def check_threads(name: str) -> None:
    """
    Check that a new thread, of this name, would be a thread of the system.

    Raises:
        GreenThreadsError: gevent or eventlet has replaced threads by its own.
    """
    gevent, eventlet = loaded("gevent.monkey"), loaded("eventlet.patcher")
    if gevent is not None and any(gevent.is_module_patched(name) for name in _GEVENT_PATCHES):
        raise GreenThreadsError(name, "gevent")
    if eventlet is not None and any(eventlet.is_monkey_patched(name) for name in _EVENTLET_PATCHES):
        raise GreenThreadsError(name, "eventlet")


_GEVENT_PATCHES = ("threading", "_thread", "queue", "select")
_EVENTLET_PATCHES = ("thread", "select")

_Job = tuple[Future[Any], Callable[[], Any]]


class _Jobs:
    """
    What a worker has to do, in order. A job stays the first until it is done: a thread that dies loses none.

    None is the end.
    """

    def __init__(self) -> None:
        self._jobs: deque[_Job | None] = deque()
        self._tokens: SimpleQueue[None] = SimpleQueue()

    def put(self, job: _Job | None) -> None:
        self._jobs.append(job)
        self._tokens.put(None)

    def first(self) -> _Job | None:
        """Wait for a job; return it."""
        self._tokens.get()
        return self._jobs[0]

    def done(self) -> None:
        """Take the first job off."""
        self._jobs.popleft()

    def fail(self, error: Exception) -> None:
        """Fail all that is not done."""
        while self._jobs:
            job = self._jobs.popleft()
            if job is not None:
                with suppress(InvalidStateError):  # it was done or cancelled just before
                    job[0].set_exception(error)


class BlockingWorker:
    """
    One daemon thread that calls blocking functions, one after the other, for an event loop; see `background_context`.

    A daemon, and not a thread of concurrent.futures: the interpreter would wait at exit for a call that hangs. If the
    thread dies, which no call can bring about, what it had to do fails with a `SinkError`, and the next call has a
    new thread.

    Args:
        name: The thread's name.
        after: A worker that is not given anything any more, and whose last call has to be over first.

    Raises:
        ThreadRefusedError: The system, or an interpreter that exits, starts no thread; or it would be a greenlet.
    """

    def __init__(self, name: str, after: BlockingWorker | None = None) -> None:
        self._name = name
        self._lock = threading.RLock()
        self._begin(after)

    def _begin(self, after: BlockingWorker | None) -> None:
        check_threads(self._name)
        self._dead, self._jobs = False, _Jobs()
        self._thread = threading.Thread(
            target=self._work, args=(self._jobs, after), name=self._name, daemon=True
        )
        try:
            self._thread.start()
        except Exception as error:
            raise refusal(self._name, error) from error

    def submit(self, call: Callable[[], ResultT]) -> Future[ResultT]:
        """
        Call `call` on the thread when those before it have returned; what it raises is always an Exception.

        Raises:
            ThreadRefusedError: The thread has died, and there is no other to be had.
        """
        future: Future[ResultT] = Future()
        with self._lock:
            if self._dead or not self._thread.is_alive():
                self._begin(None)
            self._jobs.put((future, call))
        return future

    def end(self) -> None:
        """Let the thread end after the calls that were submitted; returns at once."""
        self._jobs.put(None)

    def _work(self, jobs: _Jobs, after: BlockingWorker | None) -> None:
        try:
            if after is not None:
                after._thread.join()
                del after
            context = Context()
            while (job := jobs.first()) is not None:
                context.run(suppress_instrumentation)
                context.run(partial(_call, *job))
                del job
                jobs.done()
        except BaseException as error:  # noqa: BLE001  raised into the thread by others: no call can
            self._die(jobs, error)

    def _die(self, jobs: _Jobs, error: BaseException) -> None:
        with self._lock:
            self._dead = True
            self._jobs = _Jobs()
        # Of the kind that is tried again: the next call has a thread.
        failure = SinkError(
            f"The thread {self._name!r}", f"ended with {describe(error)}", "The next call has a new one."
        )
        failure.__cause__ = error
        jobs.fail(failure)
        _log.error("worker_died", thread=self._name, error=describe(error))


def _call(future: Future[ResultT], call: Callable[[], ResultT]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001  it travels to whoever waits for the call
        future.set_exception(as_exception(error))


def refusal(thread: str, error: Exception) -> ThreadRefusedError:
    """Return the error to raise when a thread, or its event loop, could not be had."""
    if isinstance(error, ThreadRefusedError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        cure = OPEN_FILES
    elif isinstance(error, MemoryError):
        cure = "Free memory, or raise the limit on it."
    elif "shutdown" in str(error):  # as Python 3.12 says it
        cure = "Record before the interpreter exits: it starts no thread once its main thread has ended."
    else:
        cure = "Raise the limit on threads (ulimit -u, or the container's limit on processes)."
    return ThreadRefusedError(thread, describe(error), cure)


def as_exception(error: BaseException) -> Exception:
    """Return `error` as one that a future can hold and that ends neither the task nor the thread that waits for it."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration | CancelledError):
        return error
    wrapped = RuntimeError(f"Foreign code raised {describe(error)}.")
    wrapped.__cause__ = error
    return wrapped


class _Loop(asyncio.SelectorEventLoop):
    """
    An event loop whose executor goes on working at interpreter exit.

    The default one refuses work as soon as the interpreter begins to exit, name resolution included, which is
    just when the last batches are sent.

    Attributes:
        ended: Whether it was told to stop by its owner, and not by a sink.
        is_forgotten: Whether it broke, and its users are told: they need not give it back.
    """

    ended = is_forgotten = False
    # In the class, where what freezes time for an application's tests does not replace it. Retries, time-outs and
    # waiting batches are of this process, and not of the time that is tested.
    _clock = staticmethod(time.monotonic)
    _is_whole = False

    def __init__(self) -> None:
        selector = selectors.DefaultSelector()
        try:
            super().__init__(selector)
        except BaseException:
            selector.close()
            raise
        self._is_whole = True
        self._workers: set[BlockingWorker] = set()
        self._idle: list[BlockingWorker] = []

    def __del__(self) -> None:
        # asyncio would close what was never made, if the system has no file handle left to give.
        if self._is_whole:
            super().__del__()

    def time(self) -> float:
        return self._clock()

    def end(self) -> None:
        """Stop. From any thread."""

        def end() -> None:
            self.ended = True
            self.stop()

        self.call_soon_threadsafe(end)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], ResultT], *args: *Ts
    ) -> asyncio.Future[ResultT]:
        if executor is not None:
            return super().run_in_executor(executor, func, *args)
        call: Callable[[], ResultT] = partial(func, *args)
        try:
            worker = self._idle.pop() if self._idle else BlockingWorker("nat-observability-executor")
            future = worker.submit(call)
        except ThreadRefusedError:
            # Python 3.12 starts no thread at exit. The call then holds up the drain, which has a deadline.
            called: Future[ResultT] = Future()
            _call(called, call)
            return asyncio.wrap_future(called, loop=self)
        self._workers.add(worker)
        waiting = asyncio.wrap_future(future, loop=self)

        def rest(_: object) -> None:
            # Where nobody waits any more the call may go on, and the next one must not have to wait for it.
            if future.done() and not self._idle:
                self._idle.append(worker)
            else:
                self._workers.discard(worker)
                worker.end()

        waiting.add_done_callback(rest)
        return waiting

    def close(self) -> None:
        for worker in self._workers:
            worker.end()
        super().close()


class DeliveryThread:
    """
    The thread and its loop, counted: see the module.

    Args:
        on_broken: Called, on the thread, with the error that has ended its loop under its users, and whether the loop
            had run at all. The next `acquire` starts another one. Without it, `acquire` waits until
            the loop runs, as synchronous code may.
        name: The thread's name.
    """

    def __init__(
        self,
        name: str = "nat-observability-delivery",
        *,
        on_broken: Callable[[Exception, bool], None] | None = None,
    ) -> None:
        self._name = name
        self._on_broken = on_broken
        self._reset()
        _threads.add(self)

    def _reset(self) -> None:
        # In a forked child the thread does not exist, and its lock may be held by nobody.
        self._lock = threading.Lock()
        self._users = 0
        self._loop: _Loop | None = None

    def acquire(self) -> asyncio.AbstractEventLoop:
        """
        Return the loop, which runs until each `acquire` was answered by a `release`. From any thread.

        Raises:
            ThreadRefusedError: The system has no thread, file handle or memory left; the interpreter exits; gevent or
                eventlet has replaced the threads. Without `on_broken`, also: no loop runs on the new thread.
        """
        with self._lock:
            if self._loop is None:
                check_threads(self._name)
                try:
                    loop = _Loop()
                    try:
                        self._start(loop)
                    except BaseException:
                        loop.close()
                        raise
                except Exception as error:
                    raise refusal(self._name, error) from error
                self._loop = loop
            self._users += 1
            return self._loop

    def release(self) -> None:
        """Give the loop back; with the last one the thread ends. From any thread, the delivery thread included."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.end()

    def _start(self, loop: _Loop) -> None:
        begun: Future[None] = Future()
        loop.call_soon(begun.set_result, None)
        threading.Thread(target=self._run, args=(loop, begun), name=self._name, daemon=True).start()
        if self._on_broken is None:
            with suppress(TimeoutError):
                begun.result(_BEGIN_WITHIN)

    def _run(self, loop: _Loop, begun: Future[None]) -> None:
        # Not made the thread's own with asyncio.set_event_loop(): the first call in a process takes a lock of
        # asyncio's, which a fork at that moment leaves held in the child for ever. What runs here finds the loop.
        broken = _run_until_ended(loop)
        if broken is not None:
            self._break(loop, begun, broken)
            return
        try:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    def _break(self, loop: _Loop, begun: Future[None], error: BaseException) -> None:
        """Have nothing more to do with a loop that does not run any more. On its thread."""
        if self._on_broken is not None:
            with self._lock:
                loop.is_forgotten = self._loop is loop
        # Before another loop is made, which may get the number of a file handle that was closed under this one.
        with suppress(Exception):
            loop.close()
        _log.error("background_loop_broken", thread=self._name, error=describe(error))
        had_begun = begun.done()
        if not had_begun:
            begun.set_exception(
                ThreadRefusedError(
                    self._name,
                    f"its event loop does not run: {describe(error)}",
                    "See that nothing closes file handles that are not its own, or replaces the selectors of Python.",
                )
            )
        with self._lock:
            if self._loop is not loop:
                return
            self._loop = None
            if self._on_broken is not None:
                self._users = 0  # it has them all acquire anew; others release what they have acquired
        if self._on_broken is not None:
            self._on_broken(as_exception(error), had_begun)


def weak_call(method: Callable[[Exception, bool], None]) -> Callable[[Exception, bool], None]:
    """Return a call of a method that does not keep its object: the object owns the thread that makes the call."""
    reference = weakref.WeakMethod(method)

    def call(error: Exception, had_begun: bool) -> None:
        if (there := reference()) is not None:
            there(error, had_begun)

    return call


class DeliveryThreadGroup:
    """
    So many threads at most, shared by exporters that are made from one template.

    Args:
        size: Most threads.
        name: Their names begin with it.
    """

    def __init__(self, size: int = 16, name: str = "nat-observability-group") -> None:
        self._threads = [DeliveryThread(f"{name}-{number}") for number in range(size)]
        self._next = itertools.count()

    def thread(self) -> DeliveryThread:
        """Return the thread for one exporter more: each in its turn."""
        return self._threads[next(self._next) % len(self._threads)]


_threads: WeakRegistry[DeliveryThread] = WeakRegistry()


def _reset_in_child() -> None:
    for thread in _threads.all():
        thread._reset()


at_fork(after_in_child=_reset_in_child)


def new_loop() -> asyncio.AbstractEventLoop:
    """
    Return an event loop that a caller runs on its own thread.

    Raises:
        OSError: The system has no file handle left to give.
    """
    return _Loop()


def is_forgotten(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the loop broke, and its users are told that: they need not give it back."""
    return isinstance(loop, _Loop) and loop.is_forgotten


def _run_until_ended(loop: _Loop) -> BaseException | None:
    """Run the loop until its owner ends it; return None, or what keeps it from running."""
    errors = 0

    def works() -> None:
        nonlocal errors
        errors = 0

    while not loop.ended:
        try:
            loop.run_forever()
        except BaseException as error:  # noqa: BLE001  whatever it is, nothing else may end the thread
            own = not isinstance(error, EXITS)
            if not (own and errors):
                loop.call_exception_handler(
                    {"message": "An error on a background thread of nat_observability", "exception": error}
                )
            # An exit comes from a callback, such as a task that a sink has started. Anything else is the loop's own.
            if own:
                errors += 1
                if errors == _BREAKS:
                    return error
                loop.call_soon(works)
    return None
