"""BlockingWorker: a thread that makes blocking calls for an event loop, and helpers for every background thread."""

from __future__ import annotations

import asyncio
import errno
import gc
import inspect
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from nat_observability.delivery import locking
from nat_observability.errors import GreenThreadsError, SinkError, ThreadRefusedError
from nat_observability.foreign_errors import describe
from nat_observability.logs import get_logger
from nat_observability.system.disk import OPEN_FILES

ResultT = TypeVar("ResultT")

_log = get_logger()
_suppressed: ContextVar[bool] = ContextVar("nat_observability_suppressed", default=False)


def loaded(name: str) -> Any:
    """
    Return a module that the application has imported; None if it has not, or if a thread is still importing it.

    Half a module lacks names, and waiting for the other half could take as long as the application likes.
    """
    module = sys.modules.get(name)
    return None if getattr(getattr(module, "__spec__", None), "_initializing", False) else module


def suppress_instrumentation() -> bool:
    """
    Have OpenTelemetry's instrumentations, of an HTTP client for example, leave the current context alone.

    An export that is observed would itself be exported, and so on for ever. The application may load
    OpenTelemetry at any time, so this is called again before each piece of work, until it returns that it is done: it
    costs next to nothing, and never raises.
    """
    if _suppressed.get():
        return True
    try:
        otel = loaded("opentelemetry.context")
        if otel is not None:
            # opentelemetry.instrumentation.utils looks for it, in all versions under this name.
            otel.attach(otel.set_value("suppress_instrumentation", True))
            _suppressed.set(True)
    except BaseException as error:  # noqa: BLE001  foreign code may raise anything: a delivery goes on without it
        _log.debug("instrumentation_not_suppressed", error=describe(error))
    return _suppressed.get()


def background_context() -> Context:
    """
    Return a context for a delivery's work, which belongs to no run, trace or request of its callers.

    See `suppress_instrumentation`.
    """
    context = Context()
    context.run(suppress_instrumentation)
    return context


def check_threads(name: str) -> None:
    """
    Check that a new thread of this name would be a system thread.

    Raises:
        GreenThreadsError: gevent or eventlet has replaced threads with greenlets.
    """
    gevent, eventlet = loaded("gevent.monkey"), loaded("eventlet.patcher")
    if gevent is not None and any(gevent.is_module_patched(name) for name in _GEVENT_PATCHES):
        raise GreenThreadsError(name, "gevent")
    if eventlet is not None and any(eventlet.is_monkey_patched(name) for name in _EVENTLET_PATCHES):
        raise GreenThreadsError(name, "eventlet")


_GEVENT_PATCHES = ("threading", "_thread", "queue", "select")
_EVENTLET_PATCHES = ("thread", "select")


class Worker(Protocol):
    """What makes blocking calls for an event loop, one after the other."""

    def submit(self, call: Callable[[], ResultT]) -> Future[ResultT]:
        """Make a call when those before it have returned."""
        ...

    def end(self) -> None:
        """Make no further call than those that were submitted; returns at once."""
        ...


NewWorker = Callable[[str, Worker | None], Worker]
"""Gives a worker of a name; the last call of another one, which gets no more calls, comes first."""


class _Call(Future[Any]):
    """A call that waits for its turn. If it is cancelled before, it lets go of what it would have been called with."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__()
        self._call: Callable[[], Any] | None = call

    def cancel(self) -> bool:
        cancelled = super().cancel()
        if cancelled:
            self._call = None
        return cancelled

    def make(self) -> None:
        """Call, and settle this; on the worker's thread."""
        call, self._call = self._call, None
        if call is None:
            self.set_running_or_notify_cancel()
        else:
            make_call(self, call)


class _Calls:
    """
    The calls of one thread, in order, from all workers that it has served. None is the end of one of them.

    A call is kept until it is done: a thread that dies loses none. All of it is under the deliveries' lock, under which
    calls are added, and which the garbage collector asks for anywhere.
    """

    def __init__(self) -> None:
        self._calls: deque[_Call | None] = deque()
        self._current: _Call | None = None
        self._tokens: SimpleQueue[None] = SimpleQueue()
        self._workers = 1
        self._is_over = False
        self.thread: threading.Thread | None = None

    @property
    def _is_served(self) -> bool:
        # A forked child has no thread of its parent's. Asked first, because the lock may be held there for ever.
        return self.thread is not None and self.thread.is_alive()

    def join_if_busy(self) -> bool:
        """Count one more worker if a call is not done yet; return whether there is such a call."""
        if not self._is_served:
            return False
        with locking.lock:
            is_busy = any(call is not None and not call.done() for call in (self._current, *self._calls))
            self._workers += is_busy
            return is_busy

    def put(self, call: _Call | None) -> bool:
        """Add a call; return whether the thread will make it."""
        if not self._is_served:
            return False
        with locking.lock:
            if self._is_over:
                return False
            # Each try at a sink that hangs adds a call, and cancels it in the end. While one is asked, the garbage
            # collector may end a run, which adds another one.
            last = self._calls[-1] if self._calls else None
            if last is not None and last.cancelled() and self._calls[-1] is last:
                self._calls[-1] = call
            else:
                self._calls.append(call)
                self._tokens.put(None)
            return True

    def next(self) -> _Call | None:
        """Wait for a call; return it, or None when the last worker has ended. On the thread."""
        while True:
            self._current = None
            self._tokens.get()
            with locking.lock:
                self._current = call = self._calls[0]
                self._calls.popleft()
                if call is not None:
                    return call
                self._workers -= 1
                if not self._workers:
                    self._is_over = True
                    return None

    def fail(self, error: Exception) -> None:
        """Fail every call that is not done, because the thread dies."""
        with locking.lock:
            self._is_over = True
            left = [self._current, *self._calls]
            self._current = None
            self._calls.clear()
        for call in left:
            if call is not None:
                with suppress(InvalidStateError):  # it was done or cancelled just before
                    call.set_exception(error)


class BlockingWorker:
    """
    One daemon thread that calls blocking functions, one after the other, for an event loop; see `background_context`.

    A daemon, and not a thread of concurrent.futures: the interpreter would wait at exit for a call that hangs. If the
    thread dies, which no call can bring about, what it had to do fails with a `SinkError`, and the next call has a
    new thread.

    Args:
        name: The thread's name.
        after: A worker that gets no more calls, and whose last call must return first. If that hangs, this worker goes
            on with its thread: however often something is tried that hangs, it takes one thread.

    Raises:
        ThreadRefusedError: The system, or an interpreter that exits, starts no thread; or it would be a greenlet.
    """

    def __init__(self, name: str, after: Worker | None = None) -> None:
        self._name = name
        self._is_ended = False
        self._calls: _Calls
        if isinstance(after, BlockingWorker) and after._calls.join_if_busy():
            self._calls = after._calls
        else:
            self._begin()

    def _begin(self) -> None:
        check_threads(self._name)
        self._calls = calls = _Calls()
        calls.thread = threading.Thread(target=_work, args=(calls,), name=self._name, daemon=True)
        try:
            start_thread(calls.thread)
        except Exception as error:
            raise refusal(self._name, error) from error

    def submit(self, call: Callable[[], ResultT]) -> Future[ResultT]:
        """
        Call `call` on the thread when those before it have returned; what it raises is always an Exception.

        Raises:
            ThreadRefusedError: The thread has died, and no other could be started.
        """
        waiting = _Call(call)
        with locking.lock:
            if not self._calls.put(waiting):
                self._begin()
                self._calls.put(waiting)
                if self._is_ended:  # a call that came late must not keep a thread
                    self._calls.put(None)
        return waiting

    def end(self) -> None:
        """Let the thread end after the calls that were submitted; returns at once."""
        with locking.lock:
            self._is_ended = True
            self._calls.put(None)


def _work(calls: _Calls) -> None:
    try:
        context = Context()
        while (call := calls.next()) is not None:
            context.run(suppress_instrumentation)
            context.run(call.make)
            del call
    except BaseException as error:  # noqa: BLE001  raised into the thread from outside: no call can end it
        name = threading.current_thread().name
        # A retryable error: the next call has a thread.
        failure = SinkError(
            f"The thread {name!r}", f"ended with {describe(error)}", "The next call has a new one."
        )
        failure.__cause__ = error
        calls.fail(failure)
        _log.error("worker_died", thread=name, error=describe(error))


def start_thread(thread: threading.Thread) -> None:
    """Start a thread, as `thread.start()` does."""
    # The caller may hold the deliveries' lock, and waits for the new thread to begin. If the garbage collector closed a
    # generator with an open step on that thread before, the step would wait for the lock.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        thread.start()
    finally:
        if was_enabled:
            gc.enable()


def make_call(future: Future[ResultT], call: Callable[[], ResultT]) -> None:
    """Make a call, and settle its future."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001  passed on to the caller that waits
        future.set_exception(as_exception(error))
    else:
        future.set_result(result)


def refusal(thread: str, error: Exception) -> ThreadRefusedError:
    """Return the error to raise if a thread, or its event loop, could not be started."""
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


async def call_on(worker: Worker, function: Callable[..., Any], *arguments: object) -> Any:
    """Call a function on a worker's thread; what it returns is awaited here, if it can be."""
    result = await asyncio.wrap_future(worker.submit(partial(function, *arguments)))
    # A plain function may return a coroutine all the same: a lambda or a decorated function, for example.
    return await result if inspect.isawaitable(result) else result


def call_apart(call: Callable[[], None], seconds: float) -> Callable[[], None]:
    """
    Make a blocking call on a thread of its own, in the caller's context; return what waits for it, so long at most.

    It may go on afterwards. If there is no thread for it, it is made here, however long it takes.
    """
    try:
        worker = BlockingWorker("nat-observability-log")
    except RuntimeError:
        call()
        return lambda: None
    called = worker.submit(partial(copy_context().run, call))
    worker.end()

    def wait() -> None:
        with suppress(TimeoutError):
            called.result(seconds)

    return wait


async def call_elsewhere(call: Callable[[], None]) -> None:
    """Run a blocking call on a thread of its own."""
    try:
        worker = BlockingWorker("nat-observability-runtime")
    except RuntimeError:  # no thread could be started
        call()
        return
    called = worker.submit(call)
    worker.end()
    await asyncio.wrap_future(called)
