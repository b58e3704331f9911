"""IntakeLoop: the event loop of an intake, begun with its first user, ended with the last, replaced if it breaks."""

from __future__ import annotations

import asyncio
from typing import Protocol

from nat_observability.delivery import locking
from nat_observability.delivery.losses import log_due
from nat_observability.delivery.threads.delivery_thread import (
    DeliveryThread,
    LoopSource,
    is_forgotten,
    weak_call,
)
from nat_observability.delivery.threads.thread_group import DeliveryThreadGroup
from nat_observability.delivery.threads.worker import background_context
from nat_observability.foreign_errors import describe
from nat_observability.logs import get_logger

_log = get_logger()
_inherited: list[asyncio.Task[None]] = []


class Running:
    """One period in which an intake runs: its event loop, and the signal that has its queue looked at."""

    __slots__ = ("loop", "signal")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.signal = loop, asyncio.Event()


class Work(Protocol):
    """What an intake does there. All but `run` is called under the lock."""

    async def run(self, running: Running) -> None:
        """Work until the intake runs on another event loop, or has no user left."""
        ...

    def wake_up(self) -> None:
        """Look at the queue, and at the users, again."""
        ...

    def take_back(self) -> None:
        """Let what is being processed wait again, because nothing of it was handed on."""
        ...

    def refuse_taken(self) -> None:
        """Refuse what is being processed."""
        ...

    def refuse_everything(self) -> None:
        """Refuse what waits and what is being processed."""
        ...


class IntakeLoop:
    """
    Runs an intake on an event loop while it has users.

    Args:
        name: The exporter's, or those of several that share the intake, for logs.
        loop_source: Where the event loop comes from; by default a thread of its own. A group lends one.
        work: What runs on it.

    Attributes:
        running: How it runs now; None while it does not.
        users: The deliveries that have acquired it.
    """

    def __init__(self, name: str, loop_source: LoopSource | DeliveryThreadGroup | None, work: Work) -> None:
        self._name = name
        self._work = work
        if isinstance(loop_source, DeliveryThreadGroup):
            loop_source = loop_source.thread()
            loop_source.notify(self._loop_broke)
        self._loop_source = loop_source or DeliveryThread(
            "nat-observability-processors", on_broken=weak_call(self._loop_broke)
        )
        self._task: asyncio.Task[None] | None = None
        self.running: Running | None = None
        self.users = 0

    def renew(self) -> None:
        """Begin without users, as a forked child does."""
        if self._task is not None:
            # The parent's, which never ends here: asyncio would report that it is destroyed.
            _inherited.append(self._task)
        self._task = self.running = None
        self.users = 0

    # From any thread:

    def acquire(self) -> None:
        """
        Run for one delivery more.

        Raises:
            RuntimeError: No thread could be started.
        """
        with locking.lock:
            self.users += 1
            if self.running is not None:
                return
            try:
                self._start()
            except BaseException:
                self.users -= 1
                raise

    def _start(self) -> None:
        loop = self._loop_source.acquire()
        running = Running(loop)
        try:
            # Not in the context of the first run, which would record the work done here.
            loop.call_soon_threadsafe(self._begin, running, context=background_context())
        except BaseException:
            if not is_forgotten(loop):
                self._loop_source.release()
            raise
        self.running = running

    def release(self) -> None:
        """Run for one delivery less; with the last one the loop ends."""
        with locking.lock:
            self.users -= 1
            self._work.wake_up()

    def _loop_broke(self, error: Exception, had_begun: bool) -> None:
        """Move to another event loop, because this one no longer runs; stop if it never ran."""
        with locking.lock:
            if self.running is None:
                return
            # None of it was handed on yet: the stretch would otherwise be over.
            self._work.take_back()
            if had_begun:
                problem = self._go_on()
            else:
                self.stop()
                problem = error
        self._log(problem)

    def _go_on(self) -> Exception | None:
        """Start the loop again, if a delivery is at work; return any error that prevents it. Under the lock."""
        self.running = None
        problem: Exception | None = None
        if self.users:
            try:
                self._start()
            except Exception as error:  # noqa: BLE001  the system may refuse a thread, a file handle or memory
                problem = error
        if self.running is None:
            self.stop()
        return problem

    def stop(self) -> None:
        """Run no longer, and have everything refused. Under the lock."""
        self.running = None
        self._work.refuse_everything()

    def _log(self, problem: Exception | None) -> None:
        """Log why it stopped, if that was not meant, and what it has refused. Not under the lock."""
        if problem is not None:
            _log.error("processors_stopped", exporter=self._name, error=describe(problem))
        log_due()

    # On the loop:

    def _begin(self, running: Running) -> None:
        self._task = running.loop.create_task(self._work.run(running), name=f"processors of {self._name}")
        # Not at the end of the task itself, which never begins if it is cancelled at once.
        self._task.add_done_callback(lambda _: self._end(running))

    def _end(self, running: Running) -> None:
        problem: Exception | None = None
        with locking.lock:
            if self.running is running:
                # It was cancelled, by foreign code that cancels every task. Nothing is being processed then, but if it
                # failed, the same items would have it fail again.
                self._work.refuse_taken()
                problem = self._go_on()
        self._loop_source.release()
        self._log(problem)
