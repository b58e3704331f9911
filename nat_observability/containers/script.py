"""observability and run(): observability for a whole process in one block or one call, for scripts and notebooks."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import FrameType, FunctionType, TracebackType
from typing import Any, NamedTuple, Self, TypeVar, Unpack

from nat_observability.containers.container import ObservabilityContainer
from nat_observability.containers.start_errors import START_ERRORS, short_start_errors
from nat_observability.context import ContextState
from nat_observability.integrations.shared.container_argument import read_env_file
from nat_observability.integrations.workers.process_scope import ProcessScope
from nat_observability.integrations.workers.run_scope import Container, RunIds, RunScope, run_scope
from nat_observability.settings import EnvFile

ResultT = TypeVar("ResultT")

_TERMINATED = 128 + signal.SIGTERM  # the exit status that shells and supervisors expect


class observability:  # noqa: N801  a context manager, named like contextlib.suppress
    """
    Opens the exporters that the environment configures, makes the block one run, and drains them when it ends.

    `with` needs no event loop, and also works inside a running one: in a notebook cell, and in code called from it.
    While such a block runs in the main thread, SIGTERM raises SystemExit in it, unless the program handles that signal
    itself: the block ends as with any exception, and what it has recorded is delivered. `async with` leaves signals to
    the code that runs the event loop: see `run`.

    Args:
        container: The container to use; by default a new one, configured by the environment. A runtime that was opened
            elsewhere stays open.
        job: The name of the job. If given, the block is also recorded as a step of the kind `task`.
        env_file: A file with variables, which the environment takes precedence over. Not with a container that has
            settings of its own.
        **ids: What is known about the run: the arguments of `ContextState`.

    Attributes:
        container: The container, for `container.runtime_object().health()` for example.

    Raises:
        SettingsError: A setting is not valid, or the env file cannot be read.
        ExporterStartError: On entering: a required exporter did not start.

        If nothing catches these in a synchronous block of the main thread, the program ends with the message alone and
        the status 1; they are also a SystemExit then.
    """

    def __init__(
        self,
        *,
        container: Container | None = None,
        job: str | None = None,
        env_file: EnvFile | None = None,
        **ids: Unpack[RunIds],
    ) -> None:
        self.container: Container = container if container is not None else ObservabilityContainer()
        with short_start_errors():
            read_env_file(self.container, env_file)
            self._process = ProcessScope(self.container, "observability")
            self._scope = run_scope(self.container, job=job, **ids)
        self._inside = False
        self._terminated = False

    @property
    def state(self) -> ContextState:
        """The state of the block's run, with its ids."""
        return self._scope.state

    def run_scope(self, *, job: str | None = None, **ids: Unpack[RunIds]) -> RunScope:
        """Return a context manager, for `with` and `async with`, that makes a block inside this one a separate run."""
        return run_scope(self.container, job=job, **ids)

    async def __aenter__(self) -> Self:
        await self._process.open()
        try:
            await self._scope.__aenter__()
        except BaseException:
            await self._process.close()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._scope.__aexit__(exc_type, exc, traceback)
        finally:
            await self._process.close()

    def __enter__(self) -> Self:
        with short_start_errors():
            self._process.open_now()
            try:
                self._scope.__enter__()
            except BaseException:
                self._process.close_now()
                raise
        if _may_handle_sigterm():
            signal.signal(signal.SIGTERM, self._terminate)
        self._inside = True
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._inside = False
        try:
            self._scope.__exit__(exc_type, exc, traceback)
        finally:
            self._process.close_now()
            if _in_main_thread() and signal.getsignal(signal.SIGTERM) == self._terminate:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                if self._terminated:
                    signal.raise_signal(signal.SIGTERM)

    def _terminate(self, signum: int, frame: FrameType | None) -> None:
        if self._inside:
            raise SystemExit(_TERMINATED)
        # It came while the exporters were being drained, which has a deadline: the process ends right after that.
        self._terminated = True


def run(
    main: Coroutine[Any, Any, ResultT],
    *,
    container: Container | None = None,
    job: str | None = None,
    env_file: EnvFile | None = None,
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    **ids: Unpack[RunIds],
) -> ResultT:
    """
    Like `asyncio.run(main)`, with `main` as one run of `observability`; return what `main` returns.

    SIGTERM cancels `main`, as SIGINT does, unless the program handles that signal itself. What was recorded is then
    delivered, and SystemExit is raised.

    Args:
        main: A coroutine, awaited in a new event loop.
        container: As for `observability`.
        job: As for `observability`.
        env_file: As for `observability`.
        debug: As for `asyncio.run`.
        loop_factory: As for `asyncio.Runner`.
        **ids: As for `observability`.

    Raises:
        TypeError: `main` is not a coroutine.
        RuntimeError: An event loop is already running, in a notebook for example.
        SettingsError: A setting is not valid, or the env file cannot be read.
        ExporterStartError: A required exporter did not start.

        If nothing catches the last two, the program ends with the message alone and the status 1; they are also a
        SystemExit.
    """
    _check_coroutine(main)
    terminated = False

    async def observed() -> ResultT | _NotStarted:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def terminate() -> None:
            nonlocal terminated
            if not terminated and task is not None:
                terminated = True
                task.cancel()

        if _may_handle_sigterm():
            with suppress(NotImplementedError):  # on Windows
                loop.add_signal_handler(signal.SIGTERM, terminate)
        try:
            await block.__aenter__()
        except START_ERRORS as error:
            return _NotStarted(error)
        try:
            result = await main
        except BaseException as error:
            await block.__aexit__(type(error), error, error.__traceback__)
            raise
        await block.__aexit__(None, None, None)
        return result

    try:
        if _loop_runs():
            raise RuntimeError(
                "run() starts an event loop, and one runs here already. Use `async with observability():` instead."
            )
        block = observability(container=container, job=job, env_file=env_file, **ids)
        with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
            result = runner.run(observed())
        if isinstance(result, _NotStarted):
            with short_start_errors():
                raise result.error
        return result
    except asyncio.CancelledError:
        if terminated:
            raise SystemExit(_TERMINATED) from None
        raise
    finally:
        # If it never began: Python would warn that it was never awaited. Otherwise it has ended, because the runner
        # cancels what a stopped loop has left behind.
        main.close()


class _NotStarted(NamedTuple):
    error: Exception


def _check_coroutine(main: object) -> None:
    if not asyncio.iscoroutine(main):
        cure = "Pass what an async function returns"
        if isinstance(main, FunctionType):
            cure = f"Call it: run({main.__name__}())"
        raise TypeError(f"run() takes a coroutine, not a {type(main).__name__}. {cure}.")


def _may_handle_sigterm() -> bool:
    """Whether SIGTERM has no handler, and this thread may set one."""
    return _in_main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
