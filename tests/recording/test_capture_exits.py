"""What a value raises while it is recorded stays there, whatever it is; what a signal handler raises does not."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest

from nat_observability import ContextState, step
from nat_observability.events import Boundary
from nat_observability.foreign_errors import describe
from nat_observability.recording.answers import token_usage
from nat_observability.recording.capture import capture, capture_label, step_error


class PanicError(BaseException):
    """As a panic of Rust comes."""


class InterruptLike(KeyboardInterrupt):
    pass


RAISED = [
    asyncio.CancelledError,
    GeneratorExit,
    SystemExit,
    KeyboardInterrupt,
    InterruptLike,
    PanicError,
    StopIteration,
    MemoryError,
    RecursionError,
]


class RaisingError(Exception):
    """Raises the given exception, wherever it is looked at."""

    def __init__(self, raised: type[BaseException]) -> None:
        super().__init__()
        self._raised = raised

    def _raise(self, *_: object) -> NoReturn:
        raise self._raised

    __repr__ = __str__ = __iter__ = __len__ = __bool__ = _raise

    @property
    def prompt_tokens(self) -> int:
        self._raise()


class RaisingKeys(dict[Any, Any]):
    """A mapping of its own that raises wherever it is asked."""

    def __init__(self, raised: type[BaseException]) -> None:
        super().__init__(a=1)
        self._raised = raised

    def _raise(self, *_: object) -> NoReturn:
        raise self._raised

    keys = items = values = __iter__ = __len__ = __getitem__ = __repr__ = _raise


class Tags:
    def __init__(self, raised: type[BaseException]) -> None:
        self._raised = raised

    def __iter__(self) -> Iterator[str]:
        yield "a"
        raise self._raised


class Model:
    def __init__(self, raised: type[BaseException]) -> None:
        self._raised = raised

    def model_dump(self, **_: object) -> object:
        raise self._raised

    def tolist(self) -> object:
        raise self._raised


@pytest.mark.parametrize("raised", RAISED)
def test_nothing_leaves_capture(raised: type[BaseException]) -> None:
    """A value, a label and an exception that raise are marked."""
    for value in (RaisingError(raised), RaisingKeys(raised), Model(raised)):
        for wrapped in (value, [1, value], {"a": value, "b": object()}):
            assert capture(wrapped) is not None
    assert f"repr raised {raised.__name__}".encode() in bytes(capture([RaisingError(raised)]) or b"")  # type: ignore[arg-type]
    assert capture_label(RaisingError(raised)) == "<RaisingError>"
    assert step_error(RaisingError(raised)).message == "<str() of the exception raised>"
    assert describe(RaisingError(raised)) == "RaisingError"
    assert token_usage(RaisingError(raised)) is None


@pytest.mark.parametrize("raised", RAISED)
def test_a_workflow_keeps_its_own_exception(raised: type[BaseException]) -> None:
    """A step whose values raise neither fails nor changes what its block raises."""
    state = ContextState()
    steps: list[Any] = []
    state.stream.subscribe("test", steps.append)
    bad: Any = RaisingError(raised)
    tags: Any = Tags(raised)
    own = ValueError("its own")

    def work() -> None:
        with step("tool", bad, input=bad, metadata={"a": bad}, tags=tags) as current:
            current.output = current.usage = bad
            current.name = bad
            raise own

    with state.attach(), pytest.raises(ValueError, match="its own") as caught:
        work()
    assert caught.value is own
    assert [each.name for each in steps] == ["<RaisingError>"] * 2
    assert steps[1].error.message == "its own"


@pytest.mark.parametrize("raised", RAISED)
def test_an_exception_that_cannot_be_printed_is_raised_unchanged(raised: type[BaseException]) -> None:
    """And recorded by its class."""
    state = ContextState()
    steps: list[Any] = []
    state.stream.subscribe("test", steps.append)
    own = RaisingError(raised)
    with state.attach(), pytest.raises(RaisingError) as caught, step("tool", "failing"):
        raise own
    assert caught.value is own
    assert steps[1].error.message == "<str() of the exception raised>"


class SignalledError(Exception):
    """As a time limit by signal raises."""


class Signalling:
    """A signal comes while it is looked at."""

    def __repr__(self) -> str:
        signal.raise_signal(signal.SIGINT)
        return "no signal"


def _raise_signalled(signum: int, frame: object) -> None:
    raise SignalledError


def _exit(signum: int, frame: object) -> None:
    raise SystemExit(signum)


class Handler:
    def handle(self, signum: int, frame: object) -> None:
        raise PanicError


class CallableHandler:
    def __call__(self, *args: object) -> None:
        raise PanicError


@pytest.mark.parametrize(
    ("handler", "raised"),
    [
        (signal.default_int_handler, KeyboardInterrupt),
        (_raise_signalled, SignalledError),
        (_exit, SystemExit),
        (Handler().handle, PanicError),
        (CallableHandler(), PanicError),
    ],
    ids=["default", "exception", "exit", "method", "callable"],
)
def test_what_a_signal_handler_raises_reaches_the_program(
    handler: Callable[..., Any], raised: type[BaseException]
) -> None:
    """Ctrl-C, a handler that exits and a time limit by signal are not lost in the repr that they interrupt."""
    before = signal.signal(signal.SIGINT, handler)
    try:
        for value in (Signalling(), [1, Signalling()], {"a": Signalling(), "b": object()}):
            with pytest.raises(raised):
                capture(value)
        with pytest.raises(raised):
            capture_label(Signalling())
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_survives_what_looks_like_a_signal() -> None:
    """Signals are handled in the main thread alone."""
    recorded: list[Any] = []
    thread = threading.Thread(target=lambda: recorded.append(capture([RaisingError(KeyboardInterrupt)])))
    thread.start()
    thread.join()
    assert b"repr raised KeyboardInterrupt" in bytes(recorded[0])


class Changing(list[Any]):
    """Changes while it is read."""

    def __iter__(self) -> Iterator[Any]:
        self.append(1)
        return super().__iter__()


class Stepping:
    """Records a step of its own while it is recorded."""

    def __repr__(self) -> str:
        with step("tool", "inner", input={"a": object()}):
            return "stepping"


def test_values_that_change_or_record_while_they_are_recorded() -> None:
    """Both are recorded, and the step inside is one of the run."""
    assert capture([Changing([1, 2]), object()]) is not None
    state = ContextState()
    steps: list[Any] = []
    state.stream.subscribe("test", steps.append)
    with state.attach(), step("tool", "outer", input=[Stepping()]):
        pass
    assert {each.name for each in steps} == {"outer", "inner"}
    assert any(b"stepping" in bytes(each.input) for each in steps if each.name == "outer" and each.input)


class UnreadableError(Exception):
    """An exception that raises whenever it is asked for anything."""

    def __getattribute__(self, name: str) -> Any:
        raise KeyboardInterrupt(name)

    def __str__(self) -> str:
        raise SystemExit


class UnreadableGroupError(ExceptionGroup[Exception]):
    """A group of that kind."""

    def __getattribute__(self, name: str) -> Any:
        raise KeyboardInterrupt(name)


@pytest.mark.parametrize(
    "new",
    [UnreadableError, lambda: UnreadableGroupError("several", [ValueError("inner")])],
    ids=["one", "group"],
)
def test_an_exception_that_cannot_be_read_leaves_the_block_as_itself(new: Callable[[], Exception]) -> None:
    """From a block, from a decorated function, and as a value; its class is recorded."""
    error = new()
    kept = []
    state = ContextState()
    steps: list[Any] = []
    state.stream.subscribe("test", steps.append)

    @step("tool", "decorated")
    def failing() -> None:
        raise error

    with state.attach():
        # Not by `pytest.raises`, which asks it for its class.
        try:
            failing()
        except Exception as caught:  # noqa: BLE001
            kept.append(caught is error)
        try:
            with step("tool", "block"):
                raise error
        except Exception as caught:  # noqa: BLE001
            kept.append(caught is error)
        with step("tool", "value", input=[error]):
            pass
    assert kept == [True, True]
    names = [each.error.type.rpartition(".")[2] for each in steps if each.error is not None]
    assert names == [type(error).__name__] * 2


def test_a_step_ends_once() -> None:
    """A second exit, by hand or by an exit stack, records nothing."""
    state = ContextState()
    steps: list[Any] = []
    state.stream.subscribe("test", steps.append)
    with state.attach():
        with step("tool", "once") as once:
            pass
        once.__exit__(None, None, None)
    assert [each.boundary for each in steps] == [Boundary.START, Boundary.END]
