"""The package's exceptions: each arrives whole from another process, and as a copy."""

from __future__ import annotations

import asyncio
import copy
import gc
import importlib
import multiprocessing
import pickle
import pkgutil
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import nat_observability
import pytest_nat_observability
from nat_observability import errors, step
from nat_observability.cli.command_error import CommandError
from nat_observability.cli.demo.agent import NoAnswerError, NothingToSearchError
from nat_observability.context import ContextState
from nat_observability.errors import (
    AsynchronousProviderError,
    ExporterStartError,
    InvalidTimeoutError,
    MissingExtraError,
    NoEventLoopError,
    NotPicklableError,
    ObservabilityError,
    RetryableWriteError,
    SettingsWarning,
    SinkError,
    UnknownStepKindError,
)
from nat_observability.events import IntermediateStep
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter_manager import ExporterManager
from nat_observability.integrations.nat.event_lines import NatLineError
from nat_observability.run.manager_options import ManagerOptions
from nat_observability.spool.database import DamagedDatabaseError, SpoolDatabase
from nat_observability.spool.record import UnreadableRecordError
from nat_observability.viewer.store_file import ReadTimeoutError

Made = dict[type[BaseException], Callable[[], BaseException]]

MADE: Made = {
    ObservabilityError: lambda: ObservabilityError("why"),
    ReadTimeoutError: lambda: ReadTimeoutError(1.5),
    NotPicklableError: lambda: NotPicklableError(ConnectionError("down")),
    errors.BatchTooLargeError: lambda: errors.BatchTooLargeError("4 MB"),
    errors.ClientDisconnectedError: errors.ClientDisconnectedError,
    errors.ExporterEndedEarlyError: lambda: errors.ExporterEndedEarlyError("main"),
    ExporterStartError: lambda: ExporterStartError({"main": OSError(111, "refused"), "other": ValueError()}),
    errors.GreenThreadsError: lambda: errors.GreenThreadsError("nat-observability-runs", "gevent"),
    errors.InvalidExporterError: lambda: errors.InvalidExporterError("main", object(), ["start"]),
    errors.InvalidExporterNameError: lambda: errors.InvalidExporterNameError(3),
    errors.InvalidLimitError: lambda: errors.InvalidLimitError("max_items", -1, 1, optional=True),
    errors.InvalidPatternError: lambda: errors.InvalidPatternError("mine", "is empty", "Give it one."),
    errors.InvalidSelectionError: lambda: errors.InvalidSelectionError("no name at all"),
    errors.InvalidSamplingError: lambda: errors.InvalidSamplingError("ratio", 2.0, "between 0 and 1"),
    InvalidTimeoutError: lambda: InvalidTimeoutError("start_timeout", -1.0),
    errors.InvalidWorkflowError: lambda: errors.InvalidWorkflowError(object(), ["run"]),
    errors.ManagerRunningError: errors.ManagerRunningError,
    errors.MissingContainerError: lambda: errors.MissingContainerError("instrument()", None, ["settings"]),
    AsynchronousProviderError: lambda: AsynchronousProviderError("exporter_types", ["open_pool"]),
    NoEventLoopError: lambda: NoEventLoopError("init_resources()"),
    MissingExtraError: lambda: MissingExtraError("The command", "cli"),
    errors.NoRequestRunError: lambda: errors.NoRequestRunError("current_state"),
    errors.PermanentWriteError: lambda: errors.PermanentWriteError("400"),
    errors.RefusedForNowError: lambda: errors.RefusedForNowError("401"),
    errors.ResponseIncompleteError: errors.ResponseIncompleteError,
    RetryableWriteError: lambda: RetryableWriteError("503", retry_after=2.5),
    errors.RuntimeNotOpenError: lambda: errors.RuntimeNotOpenError("instrument()", "NEW", "Open it."),
    errors.RuntimeStateError: lambda: errors.RuntimeStateError("It is closed."),
    errors.ServerStatusError: lambda: errors.ServerStatusError(503),
    errors.RpcFailedError: lambda: errors.RpcFailedError("INTERNAL", "no database"),
    errors.ToolFailedError: lambda: errors.ToolFailedError("no database"),
    errors.SettingsError: lambda: errors.SettingsError(["A: is missing", "B: is missing"]),
    SettingsWarning: lambda: SettingsWarning("NAT_OBSERVABILITY_X is unknown"),
    SinkError: lambda: SinkError("var/x.db", "it is read-only", "Choose another path."),
    errors.StartTimeoutError: lambda: errors.StartTimeoutError("main", 10.0),
    errors.StopTimeoutError: lambda: errors.StopTimeoutError("main", 1.0),
    errors.ThreadRefusedError: lambda: errors.ThreadRefusedError("runs", "no more", "Raise the limit."),
    errors.UnknownContextStateError: lambda: errors.UnknownContextStateError(object(), ["nat.Context"]),
    errors.UnknownExporterError: lambda: errors.UnknownExporterError("mian", ["main"]),
    errors.UnknownExporterTypeError: lambda: errors.UnknownExporterTypeError("TYPE", "fille", {"file": 1}),
    errors.UnknownPersonalSetError: lambda: errors.UnknownPersonalSetError("mail", ["email"]),
    errors.UnknownPrivacyLevelError: lambda: errors.UnknownPrivacyLevelError("hi", ["high"]),
    UnknownStepKindError: lambda: UnknownStepKindError("tol", ["tool"]),
    errors.UnsupportedPoolError: lambda: errors.UnsupportedPoolError("Celery", "eventlet", ["prefork"]),
    errors.UnsupportedVersionError: lambda: errors.UnsupportedVersionError("celery", "5.0", ">=5.7", ["x"]),
    errors.WebsocketClosedError: lambda: errors.WebsocketClosedError(1011),
    CommandError: lambda: CommandError("No such file.", exit_code=1),
    NatLineError: lambda: NatLineError("no JSON"),
    NoAnswerError: lambda: NoAnswerError("none"),
    NothingToSearchError: lambda: NothingToSearchError("none"),
    UnreadableRecordError: lambda: UnreadableRecordError("its CRC"),
}

COPIED: dict[str, Callable[[Any], Any]] = {
    **{
        f"pickle{protocol}": lambda error, used=protocol: pickle.loads(pickle.dumps(error, used))  # type: ignore[misc]
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def exception_classes() -> Iterator[type[BaseException]]:
    """Every exception class that a module of the package defines."""
    for package in (nat_observability, pytest_nat_observability):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.endswith("__main__"):
                continue
            try:
                loaded = importlib.import_module(module.name)
            except ImportError:  # of a framework that is not installed
                continue
            for each in vars(loaded).values():
                if (
                    isinstance(each, type)
                    and issubclass(each, BaseException)
                    and each.__module__ == module.name
                ):
                    yield each


def comparable(value: object) -> object:
    """An exception as its class, text, attributes, notes and cause; exceptions in attributes likewise."""
    if isinstance(value, BaseException):
        return (
            type(value),
            str(value),
            comparable(value.args),
            comparable(vars(value)),
            comparable(value.__cause__),
            value.__suppress_context__,
        )
    if isinstance(value, dict):
        return {key: comparable(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [comparable(each) for each in value]
    return value


def raised(error: BaseException, cause: BaseException | None) -> BaseException:
    """Return the error as a caller catches it: raised from a cause, with a note."""
    error.add_note("in the nightly job")
    try:
        raise error from cause
    except type(error) as caught:
        return caught


def test_every_exception_has_the_one_base_class() -> None:
    """`except ObservabilityError` catches every exception that the package defines; none is missing from this file."""
    found = {*exception_classes()}
    assert not [each for each in found if not issubclass(each, ObservabilityError)]
    assert found == {*MADE, DamagedDatabaseError}


@pytest.mark.parametrize("how", COPIED)
@pytest.mark.parametrize("kind", MADE, ids=lambda kind: kind.__name__)
def test_a_copy_of_an_exception_is_whole(kind: type[BaseException], how: str) -> None:
    """Its class, text, attributes, notes and cause are those of the original."""
    for cause in (None, SinkError("var/x.db", "it is full", "Make room."), KeyError("k")):
        error = raised(MADE[kind](), cause)
        assert comparable(COPIED[how](error)) == comparable(error)


@pytest.mark.parametrize("how", COPIED)
def test_a_subclass_of_the_users_is_copied_too(how: str) -> None:
    """Whatever its constructor takes, and whichever built-in exception it also is."""
    error = raised(OutOfPaperError(tray=3), None)
    arrived = COPIED[how](error)
    assert comparable(arrived) == comparable(error)
    assert isinstance(arrived, OSError)


class OutOfPaperError(RetryableWriteError, OSError):
    """A sink's own error."""

    def __init__(self, *, tray: int) -> None:
        self.tray = tray
        super().__init__(f"Tray {tray} is empty", retry_after=60.0)


class ForeignError(Exception):
    """An exception of foreign code that is pickled, but cannot be loaded."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"{host}:{port} is down")


class HostileError(Exception):
    """An exception whose pickling raises."""

    def __reduce__(self) -> tuple[Any, ...]:
        raise RuntimeError("not me")


@pytest.mark.parametrize(
    "foreign", [ForeignError("db", 5432), HostileError("db:5432 is down")], ids=["load", "dump"]
)
def test_a_foreign_exception_that_cannot_be_pickled_is_named(foreign: Exception) -> None:
    """As cause and as attribute, it leaves the package's exception as it is; a copy in the process keeps it."""
    error = ExporterStartError({"main": foreign, "other": OSError("full")})
    raised(error, foreign)
    arrived = pickle.loads(pickle.dumps(error))
    assert str(arrived) == str(error)
    assert arrived.__notes__ == error.__notes__
    for stand_in in (arrived.__cause__, arrived.failures["main"]):
        assert isinstance(stand_in, NotPicklableError)
        assert stand_in.error_type == f"{__name__}.{type(foreign).__name__}"
        assert str(stand_in) == f"{type(foreign).__name__}: db:5432 is down"
    assert comparable(arrived.failures["other"]) == comparable(OSError("full"))
    assert copy.copy(error).__cause__ is foreign
    assert copy.deepcopy(error).failures["main"] is foreign


def test_a_value_that_cannot_be_pickled_arrives_as_text() -> None:
    """What a caller passed by mistake may be anything, such as a lock."""
    value = threading.Lock()
    arrived = pickle.loads(pickle.dumps(InvalidTimeoutError("start_timeout", value)))
    assert arrived.value == repr(value)
    assert arrived.setting == "start_timeout"
    assert copy.deepcopy(InvalidTimeoutError("start_timeout", value)).value is value


@pytest.mark.parametrize("how", COPIED)
def test_an_exception_that_leads_back_to_itself_is_copied(how: str) -> None:
    """Two that are each other's cause, as a mistaken `raise a from b` makes them."""
    first, second = ExporterStartError({}), SinkError("x", "y", "z")
    first.__cause__, second.__cause__ = second, first
    first.failures["main"] = first
    arrived = COPIED[how](first)
    assert str(arrived) == str(first)
    assert str(arrived.__cause__) == str(second)


def test_a_long_chain_of_causes_is_kept() -> None:
    """Each cause has its own."""
    error: BaseException = KeyError("first")
    for number in range(20):
        error = raised(SinkError("x", str(number), "z"), error)
    assert comparable(pickle.loads(pickle.dumps(error))) == comparable(error)


def test_a_damaged_database_is_reported_across_processes(tmp_path: Path) -> None:
    """Its open connection is left behind."""
    database = SpoolDatabase.create(tmp_path)
    try:
        arrived = pickle.loads(pickle.dumps(DamagedDatabaseError(database, "no header")))
    finally:
        database.close()
    assert str(arrived) == f"{database.path}: no header"
    assert arrived.problem == "no header"


def mistyped(_: int) -> None:
    """What a worker process runs: a typo in the kind of a step."""
    with step("tol", "search"):
        pass


class Failing(BaseExporter):
    """An exporter that cannot start, and whose error cannot be unpickled."""

    @asynccontextmanager
    async def start(self) -> AsyncIterator[None]:
        await self.connect()
        yield

    async def connect(self) -> None:
        """Fail like a client whose back end is down."""
        raise ForeignError("db", 5432)

    def export(self, event: IntermediateStep) -> None:
        """Never called."""


def not_started(_: int) -> None:
    """What a worker process runs: a required exporter does not start."""

    async def main() -> None:
        manager = ExporterManager.with_options(
            {"main": Failing()}, ManagerOptions(required=frozenset({"main"}))
        )
        async with manager.start(ContextState()):
            pass

    asyncio.run(main())


def raise_in_pools(work: Callable[[int], None], expected: type[BaseException]) -> None:
    """Have worker processes raise; afterwards the same pools do something else."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        with pytest.raises(expected):
            executor.submit(work, 1).result(timeout=50)
        assert executor.submit(len, "abc").result(timeout=50) == 3
    with context.Pool(1) as pool:
        with pytest.raises(expected):
            pool.map_async(work, [1]).get(timeout=50)
        assert pool.apply_async(len, ("abc",)).get(timeout=50) == 3


@pytest.mark.timeout(60)
@pytest.mark.parametrize("work", [mistyped, not_started])
def test_pools_survive_an_exception_of_the_package(work: Callable[[int], None]) -> None:
    """A worker's exception reaches the caller, and the pool works on: ProcessPoolExecutor and Pool.map."""
    raise_in_pools(work, UnknownStepKindError if work is mistyped else ExporterStartError)
    # The semaphores of a pool are in cycles, and write to a pipe when they are collected: here, not on a later
    # test's event loop.
    gc.collect()
