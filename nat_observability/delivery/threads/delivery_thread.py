"""The delivery thread: one event loop in the background, started with its first user and ended with its last."""

from __future__ import annotations

import asyncio
import os
import selectors
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar, TypeVarTuple, Unpack

from nat_observability.delivery import locking
from nat_observability.delivery.threads.worker import (
    BlockingWorker,
    as_exception,
    check_threads,
    make_call,
    refusal,
    start_thread,
)
from nat_observability.errors import ThreadRefusedError
from nat_observability.foreign_errors import EXITS, describe
from nat_observability.logs import get_logger
from nat_observability.system.clock import monotonic
from nat_observability.system.fork_hooks import at_fork
from nat_observability.system.weak_registry import WeakRegistry

ResultT = TypeVar("ResultT")
Ts = TypeVarTuple("Ts")

_BEGIN_WITHIN = (
    5.0  # seconds for a new thread's loop to begin; after that it counts as slow and not as broken
)
_BREAKS = 3  # errors of the loop itself, with no callback between them, before it is given up
_log = get_logger()


class LoopSource(Protocol):
    """Where a delivery gets the event loop that it runs on: the delivery thread, or a test's own loop."""

    def acquire(self) -> asyncio.AbstractEventLoop: ...

    def release(self) -> None: ...


class _Selector(selectors.DefaultSelector):
    """
    A selector that a forked child can let go of.

    The child has the parent's sockets, and shares what watches them. A connection that is destroyed there, whenever its
    memory is freed, would have the parent's loop hear no more of its own, and may write its farewell to the peer.
    """

    def let_go(self) -> None:
        """In a forked child: watch nothing, and let what is still written to a socket go nowhere."""
        watched = [key.fd for key in (self.get_map() or {}).values()]
        self.get_map = dict  # type: ignore[method-assign]  # a method of ours would be called in every turn
        self.close()
        with suppress(OSError):
            nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            try:
                for descriptor in watched:
                    os.dup2(nowhere, descriptor, inheritable=False)
            finally:
                os.close(nowhere)


class _Loop(asyncio.SelectorEventLoop):
    """
    An event loop whose executor goes on working at interpreter exit.

    The default one refuses work as soon as the interpreter begins to exit, name resolution included, which is
    just when the last batches are sent.

    Attributes:
        ended: Whether its owner stopped it, and not a sink.
        is_forgotten: Whether it broke, and its users were notified: they need not give it back.
    """

    ended = is_forgotten = False
    _is_whole = False

    def __init__(self) -> None:
        self._watching = selector = _Selector()
        try:
            super().__init__(selector)
        except BaseException:
            selector.close()
            raise
        self._is_whole = True
        _loops.add(self)
        self._workers: set[BlockingWorker] = set()
        self._idle: list[BlockingWorker] = []

    def __del__(self) -> None:
        # If the system has run out of file handles, asyncio would close what was never made.
        if self._is_whole:
            super().__del__()

    # Whatever a library does that freezes time for an application's tests. Called several times in each turn.
    time = staticmethod(monotonic)

    def let_go(self) -> None:
        """In a forked child: keep away from the parent's connections, whatever happens to this object."""
        if not self.is_closed():
            self._watching.let_go()
            # A client's session that is destroyed complains that it was not closed: the parent has it.
            self.set_exception_handler(lambda _loop, _context: None)

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
            # Python 3.12 starts no thread at exit. The call then blocks the drain, which has a deadline.
            called: Future[ResultT] = Future()
            make_call(called, call)
            return asyncio.wrap_future(called, loop=self)
        self._workers.add(worker)
        waiting = asyncio.wrap_future(future, loop=self)

        def rest(_: object) -> None:
            # An abandoned call may go on, and the next one must not have to wait for it.
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
        self._on_broken = [] if on_broken is None else [on_broken]
        self._shared_by: list[weakref.WeakMethod[Callable[[Exception, bool], None]]] = []
        self._reset()
        _threads.add(self)

    def _reset(self) -> None:
        # In a forked child the thread does not exist, and the lock may be held by a thread that is gone.
        self._lock = threading.Lock()
        self._users = 0
        self._loop: _Loop | None = None

    def notify(self, method: Callable[[Exception, bool], None]) -> None:
        """Call one more method as `on_broken`, as long as its object lives. Before that object acquires the loop."""
        # The deliveries' lock first, as where a lease acquires the loop: the list may have the garbage collector run.
        with locking.lock, self._lock:
            self._shared_by = [each for each in self._shared_by if each() is not None]
            self._shared_by.append(weakref.WeakMethod(method))

    @property
    def _notified(self) -> list[Callable[[Exception, bool], None]]:
        return [*self._on_broken, *(method for each in self._shared_by if (method := each()) is not None)]

    def acquire(self) -> asyncio.AbstractEventLoop:
        """
        Return the loop, which runs until each `acquire` is matched by a `release`. From any thread.

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
        start_thread(threading.Thread(target=self._run, args=(loop, begun), name=self._name, daemon=True))
        if not (self._on_broken or self._shared_by):
            with suppress(TimeoutError):
                begun.result(_BEGIN_WITHIN)

    def _run(self, loop: _Loop, begun: Future[None]) -> None:
        # Not made the thread's own with asyncio.set_event_loop(): the first call in a process takes a lock of
        # asyncio's, which a fork at that moment leaves held in the child for ever. Code that runs here finds the loop
        # anyway.
        broken = _run_until_ended(loop)
        if broken is not None:
            self._break(loop, begun, broken)
            return
        try:
            left = _tasks_of(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    def _break(self, loop: _Loop, begun: Future[None], error: BaseException) -> None:
        """Let go of a loop that no longer runs. On its thread."""
        notified = self._notified
        if notified:
            with self._lock:
                loop.is_forgotten = self._loop is loop
        # Before another loop is made, which may reuse the number of a file handle that was closed under this one.
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
            if notified:
                # on_broken has them all acquire anew; without it they release what they have acquired.
                self._users = 0
        for call in notified:
            call(as_exception(error), had_begun)


def _tasks_of(loop: asyncio.AbstractEventLoop) -> set[asyncio.Task[Any]]:
    # Up to Python 3.13 it iterates over the tasks of all threads, and raises if those make too many meanwhile.
    while True:
        with suppress(RuntimeError):
            return asyncio.all_tasks(loop)


def weak_call(method: Callable[[Exception, bool], None]) -> Callable[[Exception, bool], None]:
    """Return a callable for a method that does not keep its object alive: the object owns the thread that calls it."""
    reference = weakref.WeakMethod(method)

    def call(error: Exception, had_begun: bool) -> None:
        if (there := reference()) is not None:
            there(error, had_begun)

    return call


_threads: WeakRegistry[DeliveryThread] = WeakRegistry()
_loops: WeakRegistry[_Loop] = WeakRegistry()


def _reset_in_child() -> None:
    for loop in _loops.all():
        loop.let_go()
    for thread in _threads.all():
        thread._reset()


at_fork(after_in_child=_reset_in_child)


def new_loop() -> asyncio.AbstractEventLoop:
    """
    Return an event loop that a caller runs on its own thread.

    Raises:
        OSError: The system has run out of file handles.
    """
    return _Loop()


def is_forgotten(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the loop broke, and its users were notified: they need not give it back."""
    return isinstance(loop, _Loop) and loop.is_forgotten


def _run_until_ended(loop: _Loop) -> BaseException | None:
    """Run the loop until its owner ends it; return None, or the error that ended it."""
    errors = 0

    def works() -> None:
        nonlocal errors
        errors = 0

    while not loop.ended:
        try:
            loop.run_forever()
        except BaseException as error:  # noqa: BLE001  foreign code may raise anything, and must not end the thread
            own = not isinstance(error, EXITS)
            if not (own and errors):
                loop.call_exception_handler(
                    {"message": "An error on a background thread of nat_observability", "exception": error}
                )
            # SystemExit comes from a callback, such as a task that a sink has started. Anything else is the loop's own.
            if own:
                errors += 1
                if errors == _BREAKS:
                    return error
                loop.call_soon(works)
    return None
