"""Subscription: one run's part in an exporter, from its begin to its end."""

from __future__ import annotations

import threading
from collections.abc import Awaitable
from types import TracebackType
from typing import Protocol, Self

from nat_observability.context import ContextState
from nat_observability.delivery.ledger import LedgerSnapshot
from nat_observability.events import IntermediateStep
from nat_observability.foreign_errors import describe, is_from_signal, locate
from nat_observability.logs import get_logger
from nat_observability.stream import EventStream


class Subscribed(Protocol):
    """An exporter, as a subscription of it sees it."""

    subscriptions: dict[ContextState, Subscription]

    @property
    def name(self) -> str: ...

    def export(self, event: IntermediateStep) -> None: ...


class Subscription:
    """
    One run's part in an exporter, from `begin` to `end`; everything mutable of the run is here.

    As an async context manager it does both.
    """

    __slots__ = ("_exporter", "_state")

    def __init__(self, exporter: Subscribed, state: ContextState) -> None:
        self._exporter = exporter
        self._state = state

    def begin(self) -> Awaitable[None] | None:
        """Take steps from now on; return what to wait for until the destination is open, None if it is."""
        state = self._state
        self._exporter.subscriptions[state] = self
        self.listen(state.stream)
        return None

    def listen(self, stream: EventStream) -> None:
        """Subscribe to a run's stream, under this object as the key."""
        stream.subscribe(self, self.handle)

    def end(self) -> Awaitable[None] | None:
        """Take no more steps; return what to wait for until this run's items are settled, None if nothing."""
        state = self._state
        state.stream.unsubscribe(self)
        self._exporter.subscriptions.pop(state, None)
        return None

    def settled(self) -> Awaitable[None] | None:
        """Return what to wait for until nothing that this run has recorded is pending, None if nothing is."""
        return None

    async def __aenter__(self) -> Self:
        if (opening := self.begin()) is not None:
            try:
                await opening
            except BaseException:
                self.end()
                raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if (settling := self.end()) is not None:
            await settling

    def handle(self, step: IntermediateStep) -> None:
        """Take one step, on the thread that recorded it."""
        raise NotImplementedError

    @property
    def ledger(self) -> LedgerSnapshot:
        """The outcome of this run's items."""
        raise NotImplementedError

    @property
    def oddities(self) -> dict[str, int]:
        """Oddities of this run's steps, counted by name; empty if all was well."""
        return {}

    @property
    def error(self) -> BaseException | None:
        """The first error of this run, which was logged; later ones are only counted."""
        return None

    @property
    def problem(self) -> str | None:
        """That error in one line."""
        return None if self.error is None else describe(self.error)


class ExportSubscription(Subscription):
    """Calls the exporter's `export` for each step. A step is delivered when `export` has returned."""

    __slots__ = ("_counted", "_error", "_failed", "_lock")

    def __init__(self, exporter: Subscribed, state: ContextState) -> None:
        self._exporter = exporter  # without super().__init__, for speed: one is made per exporter and run
        self._state = state
        # Reentrant: the garbage collector may close a step while the counts are read.
        self._lock = threading.RLock()
        self._counted = self._failed = 0
        self._error: BaseException | None = None

    def handle(self, step: IntermediateStep) -> None:
        failure: BaseException | None = None
        try:
            self._exporter.export(step)
        except BaseException as error:  # noqa: BLE001  foreign code: no exporter error reaches the workflow
            failure = error
        interrupted = failure is not None and is_from_signal(failure)
        # Several threads may record at once.
        with self._lock:
            self._counted += 1
            if failure is None:
                return
            self._failed += 1
            is_first = self._error is None and not interrupted
            if is_first:
                self._error = failure
        if interrupted:
            # Not the exporter's fault, but it may not have the step.
            get_logger().warning(
                "export_interrupted",
                exporter=self._exporter.name,
                workflow_run_id=self._state.run.run_id,
                error=locate(failure),
            )
            raise failure
        if is_first:
            get_logger().warning(
                "export_failed",
                exporter=self._exporter.name,
                workflow_run_id=self._state.run.run_id,
                error=locate(failure),
            )

    @property
    def ledger(self) -> LedgerSnapshot:
        with self._lock:
            return LedgerSnapshot(self._counted, self._counted - self._failed, self._failed)

    @property
    def error(self) -> BaseException | None:
        return self._error

    @property
    def problem(self) -> str | None:
        return None if self.error is None else locate(self.error)
