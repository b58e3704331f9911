"""The delivery thread: one event loop in the background, started with its first user and ended with its last."""

from __future__ import annotations

import asyncio
import errno
import selectors
import sys
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from contextlib import suppress
from contextvars import Context
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar, TypeVarTuple, Unpack

from nat_observability.delivery.watchdog import Watchdog
from nat_observability.errors import ThreadRefusedError, describe
from nat_observability.forks import at_fork

ResultT = TypeVar("ResultT")
Ts = TypeVarTuple("Ts")


class LoopSource(Protocol):
    """Where a delivery gets the event loop that it runs on: the delivery thread, or a test's own loop."""

    def acquire(self) -> asyncio.AbstractEventLoop: ...

    def release(self) -> None: ...


def background_context() -> Context:
    """
    Return a context for what a delivery does, which belongs to no run, trace or request of whoever gave it work.

    An export that is itself observed is exported, which is observed, and so on. Where OpenTelemetry is loaded, what
    it has instrumented, such as an HTTP client, is told to leave this context alone.
    """
    context = Context()
    otel = sys.modules.get("opentelemetry.context")
    if otel is not None:
        # opentelemetry.instrumentation.utils looks for it, in all versions under this name.
        context.run(lambda: otel.attach(otel.set_value("suppress_instrumentation", True)))
    return context


class BlockingWorker:
    """
    One daemon thread that calls blocking functions, one after the other, for an event loop; see `background_context`.

    A daemon, and not a thread of concurrent.futures: the interpreter would wait at exit for a call that hangs.

    Args:
        name: The thread's name.
        after: A worker that is not given anything any more, and whose last call has to be over first.

    Raises:
        ThreadRefusedError: The system, or an interpreter that exits, starts no thread.
    """

    def __init__(self, name: str, after: BlockingWorker | None = None) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, args=(after,), name=name, daemon=True)
        try:
            self._thread.start()
        except Exception as error:
            raise refusal(name, error) from error

    def submit(self, call: Callable[[], ResultT]) -> Future[ResultT]:
        """Call `call` on the thread when those before it have returned; what it raises is always an Exception."""
        future: Future[ResultT] = Future()
        self._calls.put((future, call))
        return future

    def end(self) -> None:
        """Let the thread end after the calls that were submitted; returns at once."""
        self._calls.put(None)

    def _work(self, after: BlockingWorker | None) -> None:
        if after is not None:
            after._thread.join()
            del after
        context = background_context()
        while (job := self._calls.get()) is not None:
            context.run(partial(_call, *job))
            del job


def _call(future: Future[ResultT], call: Callable[[], ResultT]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001  it travels to whoever waits for the call
        future.set_exception(as_exception(error))


def refusal(thread: str, error: Exception) -> ThreadRefusedError:
    """Return the error to raise when a thread, or its event loop, could not be had."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        cure = "Raise the limit on open files (ulimit -n), or close what is not needed."
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
    """

    ended = False
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
        except ThreadRefusedError:
            # Python 3.12 starts no thread at exit. The call then holds up the drain, which has a deadline.
            called: Future[ResultT] = Future()
            _call(called, call)
            return asyncio.wrap_future(called, loop=self)
        self._workers.add(worker)
        future = worker.submit(call)
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
        on_blocked: Called, on a thread of its own, with this thread and the task that does not give way.
        blocked_after: Seconds after which a task is such a one.
        name: The thread's name.
    """

    def __init__(
        self,
        on_blocked: Callable[[DeliveryThread, asyncio.Task[Any]], None] | None = None,
        *,
        blocked_after: float = 5.0,
        name: str = "nat-observability-delivery",
    ) -> None:
        self._name = name
        self._blocked_after = blocked_after
        self._on_blocked = on_blocked
        self._reset()
        at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        # In a forked child the thread does not exist, and its lock may be held by nobody.
        self._lock = threading.Lock()
        self._users = 0
        self._loop: _Loop | None = None
        self._watchdog: Watchdog | None = None

    def acquire(self) -> asyncio.AbstractEventLoop:
        """
        Return the loop, which runs until each `acquire` was answered by a `release`. From any thread.

        Raises:
            ThreadRefusedError: The system has no thread, file handle or memory left; or the interpreter exits.
        """
        with self._lock:
            if self._loop is None:
                try:
                    loop = _Loop()
                    try:
                        _start(loop, self._name)
                    except BaseException:
                        loop.close()
                        raise
                except Exception as error:
                    raise refusal(self._name, error) from error
                self._loop = loop
                if self._on_blocked is not None:
                    # Where the system has just one thread left to give, a loop without a watchdog is better than none.
                    with suppress(RuntimeError, MemoryError):
                        self._watchdog = Watchdog(loop, partial(self._on_blocked, self), self._blocked_after)
            self._users += 1
            return self._loop

    def release(self) -> None:
        """Give the loop back; with the last one the thread ends. From any thread, the delivery thread included."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
            loop, self._loop = self._loop, None
            watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None:
            watchdog.end()
        if loop is not None:
            loop.end()

    def split_off(self) -> DeliveryThread:
        """
        Give the loop that runs now to a new owner with one user, and begin with another one at the next `acquire`.

        For a loop that one user has blocked: that one keeps it, the others acquire anew.
        """
        other = DeliveryThread(name=self._name)
        with self._lock:
            other._loop, self._loop = self._loop, None
            other._users, self._users = 1, 0
            self._watchdog = None
        return other


def new_loop() -> asyncio.AbstractEventLoop:
    """
    Return an event loop that a caller runs on its own thread.

    Raises:
        OSError: The system has no file handle left to give.
    """
    return _Loop()


def _start(loop: _Loop, name: str) -> None:
    threading.Thread(target=_run, args=(loop,), name=name, daemon=True).start()


def _run(loop: _Loop) -> None:
    # Not made the thread's own with asyncio.set_event_loop(): the first call in a process takes a lock of asyncio's,
    # which a fork at that moment leaves held in the child for ever. What runs here runs in the loop, and finds it.
    try:
        while not loop.ended:
            try:
                loop.run_forever()
            except BaseException as error:  # noqa: BLE001  of a task that a sink has started: an exit, for example
                loop.call_exception_handler(
                    {"message": "A sink raised on the delivery thread", "exception": error}
                )
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
