"""ProcessScope: a container's exporters, open from when a process starts until it ends."""

from __future__ import annotations

import os
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from nat_observability.errors import RuntimeStateError, ThreadRefusedError
from nat_observability.foreign_errors import describe
from nat_observability.health import RuntimeReport, RuntimeState
from nat_observability.integrations.workers.run_scope import Container, check_container
from nat_observability.integrations.workers.run_thread import ThreadLease, run_loop
from nat_observability.logs import get_logger
from nat_observability.runtime import ObservabilityRuntime

_log = get_logger()


class ProcessScope:
    """
    Opens and drains a container's runtime, for code that knows when a process starts and ends.

    A runtime that was opened elsewhere is left alone, at both ends. The pairs `open` and `close`, `open_now` and
    `close_now`, `async with` and `with` all do the same; the synchronous ones need no event loop.

    Args:
        container: An `ObservabilityContainer`.
        feature: The name of the feature that needs it, for messages.

    Raises:
        MissingContainerError: `container` is not a container of observability.
    """

    def __init__(self, container: Container, feature: str) -> None:
        check_container(feature, container)
        self._container = container
        self._opened: ObservabilityRuntime | None = None
        self._lease: ThreadLease | None = None
        self._opening: Future[ObservabilityRuntime] | None = None
        self._pid = -1

    async def open(self) -> None:
        """
        Open the exporters, unless they are open.

        Raises:
            ExporterStartError: A required exporter did not open.
        """
        runtime = self._runtime_to_open()
        if runtime is not None:
            try:
                await runtime.init()
            except RuntimeStateError:  # another thread has begun to open it since
                return
            self._opened, self._pid = runtime, os.getpid()

    async def close(self) -> RuntimeReport | None:
        """Write what is queued and close, within the shutdown timeout; None if it was not opened here."""
        runtime = self._runtime_to_close()
        return await runtime.shutdown() if runtime is not None else None

    def open_now(self, *, timeout: float | None = None) -> None:
        """
        Like `open`, without an event loop. If no thread can be started for it, that is logged, and each run then opens
        what it needs.

        Args:
            timeout: The maximum wait in seconds. What is not open by then goes on opening in the background, and a run
                that begins waits for it.

        Raises:
            ExporterStartError: A required exporter did not open by then.
        """
        runtime = self._runtime_to_open()
        if runtime is None:
            return
        try:
            lease = run_loop()
        except ThreadRefusedError as error:
            _log.warning("runtime_open_refused", error=describe(error))
            return
        opening = lease.begin(runtime.init())
        try:
            lease.wait(opening, timeout)
            if opening.done():
                opening.result()
            else:
                self._opening = opening
        except RuntimeStateError:  # as above
            lease.release()
            return
        except BaseException:
            opening.cancel()
            opening.add_done_callback(lambda _: lease.release())
            raise
        self._opened, self._pid, self._lease = runtime, os.getpid(), lease

    def close_now(self, *, whoever_opened: bool = False) -> RuntimeReport | None:
        """
        Like `close`, without an event loop.

        Args:
            whoever_opened: Also close a runtime that was opened elsewhere, in the process before a fork for example:
                for a process that ends right now, without running its exit handlers.
        """
        lease, self._lease = self._lease, None
        opening, self._opening = self._opening, None
        runtime = self._runtime_to_close()
        if runtime is None and whoever_opened:
            runtime = self._container.runtime_object()
        if runtime is None:
            return None
        if lease is None or lease.void:
            try:
                lease = run_loop()
            except ThreadRefusedError as error:
                # What is queued is delivered at exit.
                _log.warning("runtime_close_refused", error=describe(error))
                return None
        elif opening is not None:
            lease.wait(opening)  # it has its own timeout
        try:
            return lease.call(runtime.shutdown())
        finally:
            lease.release()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __enter__(self) -> Self:
        self.open_now()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close_now()

    def _runtime_to_open(self) -> ObservabilityRuntime | None:
        runtime = self._container.runtime_object()
        if runtime is self._opened and self._pid != os.getpid():
            # Opened once more, in a forked child, which has it open since the fork: that closes it too.
            self._pid = os.getpid()
        free = runtime.state in (RuntimeState.NEW, RuntimeState.CLOSED)
        return runtime if free else None

    def _runtime_to_close(self) -> ObservabilityRuntime | None:
        # In a forked child: the parent opened it, and the parent closes it.
        runtime, self._opened = self._opened, None
        return runtime if self._pid == os.getpid() else None
