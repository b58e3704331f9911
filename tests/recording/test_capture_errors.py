"""An exception is recorded whole: with its causes, its notes and its members, bounded, and redacted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nat_observability import ContextState, step
from nat_observability.events import ErrorDetails, Run, Span, Status, StepKind
from nat_observability.foreign_errors import describe, locate
from nat_observability.processors import Redactor
from nat_observability.recording.capture import MAX_BYTES, step_error


class Counted:
    """Counts how often it is printed."""

    printed = 0

    def __repr__(self) -> str:
        Counted.printed += 1
        return "counted"


def raised(work: Callable[[], object]) -> ErrorDetails:
    """Return what is recorded of what `work` raises."""
    try:
        work()
    except BaseException as error:  # noqa: BLE001  a test raises what it likes
        return step_error(error)
    raise AssertionError("nothing was raised")


def trace(work: Callable[[], object]) -> list[str]:
    """Return the lines of the traceback."""
    return (raised(work).traceback or "").splitlines()


def cause() -> None:
    try:
        raise KeyError("the real cause")
    except KeyError as error:
        raise RuntimeError("wrapper") from error


def context() -> None:
    try:
        raise KeyError("the real cause")
    except KeyError:
        raise RuntimeError("wrapper")  # noqa: B904  without a cause, on purpose


def suppressed() -> None:
    try:
        raise KeyError("the real cause")
    except KeyError:
        raise RuntimeError("wrapper") from None


@pytest.mark.parametrize(
    ("work", "link"), [(cause, "direct cause"), (context, "During handling")], ids=["cause", "context"]
)
def test_what_an_exception_comes_from_is_recorded(work: Callable[[], None], link: str) -> None:
    """The first cause first, each with its own frames, as Python prints them."""
    lines = trace(work)
    first = lines.index("KeyError: 'the real cause'")
    between = next(number for number, line in enumerate(lines) if link in line)
    assert first < between < lines.index("RuntimeError: wrapper")
    assert lines[first - 1].endswith(f" {work.__name__}")
    assert raised(work).message == "wrapper"


def test_a_suppressed_context_is_left_out() -> None:
    """`raise … from None` says that it is of no interest."""
    assert not any("real cause" in line for line in trace(suppressed))
    assert all(" " in line and ".py:" in line for line in trace(suppressed))


def test_notes_are_recorded() -> None:
    """After the message."""

    def work() -> None:
        error = ValueError("no answer")
        error.add_note("while answering q-17")
        error.add_note("second try")
        raise error

    assert trace(work)[-3:] == ["ValueError: no answer", "while answering q-17", "second try"]


def group() -> None:
    def fail(text: str) -> Exception:
        try:
            raise ValueError(text)
        except ValueError as error:
            return error

    raise ExceptionGroup(
        "tasks failed", [fail("first"), ExceptionGroup("inner", [fail("second"), KeyError("third")])]
    )


def test_members_of_a_group_are_recorded() -> None:
    """Their messages in that of the group, their frames in its traceback."""
    recorded = raised(group)
    assert recorded.message.startswith("tasks failed (2 sub-exceptions): ")
    for text in ("ValueError: first", "ValueError: second", "KeyError: 'third'"):
        assert text in recorded.message
        assert text in (recorded.traceback or "")
    assert sum(line.strip().endswith(" group.<locals>.fail") for line in trace(group)) == 2


def test_both_ends_of_a_long_traceback_are_kept() -> None:
    """The frame that raised is the one that is looked for; between the two stands how many were left out."""

    def raising() -> None:
        raise ValueError("here")

    def descend(depth: int) -> None:
        if depth:
            descend(depth - 1)
        else:
            raising()

    lines = trace(lambda: descend(200))
    assert lines[0].endswith(" raised")
    assert lines[-1].endswith(".raising")
    assert len(lines) <= 64
    left_out = [line for line in lines if "left out" in line]
    assert left_out == [f"... {204 - len(lines) + 1} frames left out ..."]


def cyclic() -> BaseException:
    first, second = RuntimeError("first"), RuntimeError("second")
    first.__cause__, second.__cause__ = second, first
    return first


def long_chain() -> BaseException:
    error: BaseException | None = None
    for number in range(5_000):
        following = RuntimeError(f"number {number}")
        following.__cause__ = error
        error = following
    assert error is not None
    return error


def wide_group() -> BaseException:
    return ExceptionGroup("wide", [ValueError(f"member {number}") for number in range(5_000)])


def deep_group() -> BaseException:
    error: Exception = ValueError("innermost")
    for _ in range(500):
        error = ExceptionGroup("deep", [error, error])
    return error


def large() -> BaseException:
    error = RuntimeError("wrapper")
    error.__cause__ = ValueError("word " * 1_000_000)
    for _ in range(50):
        error.add_note("note " * 10_000)
    return error


def odd_notes() -> BaseException:
    error = RuntimeError("odd")
    vars(error)["__notes__"] = [1, object(), UnprintableError()]
    return error


class UnprintableError(Exception):
    """Raises wherever it is asked."""

    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__

    def __getattr__(self, name: str) -> Any:
        raise ValueError(name)

    @property
    def exceptions(self) -> Any:
        raise ValueError("no members")

    __cause__ = __context__ = __notes__ = __traceback__ = exceptions


HOSTILE: dict[str, Callable[[], BaseException]] = {
    "cyclic": cyclic,
    "long chain": long_chain,
    "wide group": wide_group,
    "deep group": deep_group,
    "large": large,
    "odd notes": odd_notes,
    "unprintable": UnprintableError,
    "unprintable in a group": lambda: ExceptionGroup("group", [UnprintableError(), ValueError("beside")]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_any_exception_is_recorded_within_bounds(name: str) -> None:
    """Whatever it comes from, however much there is of it, and whatever it raises when it is looked at."""
    recorded = step_error(HOSTILE[name]())
    assert len(recorded.message) < 2_000
    assert len(recorded.traceback or "") < 300_000


def test_what_is_left_out_is_marked() -> None:
    """With its number, if it is known."""
    assert "further exceptions left out" in (step_error(long_chain()).traceback or "")
    assert "number 4999" in (step_error(long_chain()).traceback or "")
    assert "... 4992 exceptions left out ..." in (step_error(wide_group()).traceback or "")
    assert step_error(wide_group()).message.endswith(" more")
    assert "beside" in (step_error(HOSTILE["unprintable in a group"]()).traceback or "")


@pytest.mark.parametrize(
    ("error", "more"),
    [
        (ExceptionGroup("wide", [ValueError(index) for index in range(10_000)]), 9_997),
        (ExceptionGroup("whole", [ValueError(index) for index in range(3)]), 0),
        (
            ExceptionGroup("two", [ExceptionGroup(name, [ValueError(name), KeyError()]) for name in "ab"]),
            1,
        ),
        (ExceptionGroup("nested", [ExceptionGroup("", [OSError(i) for i in range(50)]), OSError()]), 48),
    ],
    ids=lambda each: str(each)[:10],
)
def test_the_message_of_a_group_counts_the_members_it_does_not_name(
    error: ExceptionGroup[Exception], more: int
) -> None:
    """However many there are."""
    message = step_error(error).message
    assert message.endswith(f"; {more} more") if more else not message.endswith("more")


def test_all_of_an_exception_is_redacted() -> None:
    """A secret in a cause, a note or a member does not leave."""
    secret = "hunter2-and-more"
    cause_of_it = ValueError(f"password={secret}")
    error = ExceptionGroup("failed", [KeyError(f"api_key={secret}")])
    error.__cause__ = cause_of_it
    error.add_note(f"Authorization: Bearer {secret}")
    recorded = step_error(error)
    assert (recorded.traceback or "").count(secret) == 3
    assert secret in recorded.message
    run = Run(run_id="1", trace_id="1" * 32)
    span = Redactor()(Span(run, StepKind.TOOL, "tool", "1" * 16, None, 0, 1, Status.ERROR, error=recorded))
    assert isinstance(span, Span)
    assert span.error is not None
    assert "failed" in span.error.message
    assert secret not in span.error.message
    assert secret not in (span.error.traceback or "")


@pytest.mark.parametrize(
    ("notes", "shown"),
    [
        (("first", "second"), ["first", "second"]),
        ("a note", ["a note"]),
        (5, ["5"]),
        ([b"x", None], ["b'x'", "None"]),
        (None, []),
    ],
    ids=str,
)
def test_notes_that_are_no_list_of_texts_are_recorded(notes: object, shown: list[str]) -> None:
    """Anything may be set under that name."""
    error = ValueError("failed")
    error.__notes__ = notes  # type: ignore[assignment]
    lines = (step_error(error).traceback or "").splitlines()
    assert lines == (["ValueError: failed", *shown] if shown else [])


class Guarded(type):
    """A class of this one does not say what it is called."""

    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError(name)


class UnnamedError(Exception, metaclass=Guarded):
    pass


class Module(str):
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __format__(self, form: str) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (UnnamedError("failed"), f"{__name__}.UnnamedError"),
        (type("Odd", (Exception,), {"__module__": 5})("failed"), "Odd"),
        (type("Odd", (Exception,), {"__module__": Module("shop")})("failed"), "shop.Odd"),
    ],
    ids=["metaclass", "number", "text of a class of its own"],
)
def test_an_exception_of_an_odd_class_leaves_its_block_unchanged(error: Exception, name: str) -> None:
    """Whatever its class does when it is asked for its name."""
    state = ContextState()
    steps: list[Any] = []
    state.stream.subscribe("test", steps.append)
    caught: BaseException | None = None
    try:
        with state.attach(), step("tool", "work"):
            raise error
    except BaseException as left:  # noqa: BLE001  whatever leaves the block
        caught = left
    state.stream.unsubscribe("test")
    assert caught is error
    assert steps[-1].error == step_error(error)
    assert (steps[-1].error.type, steps[-1].error.message) == (name, "failed")
    short = name.rpartition(".")[2]
    assert describe(error) == f"{short}: failed"
    assert locate(error).startswith(f"{short} at ")


@pytest.mark.parametrize(
    ("error", "begins"),
    [
        (ValueError([*range(1_000_000)]), "[0,1,2,"),
        (ValueError(*range(100_000)), "[0,1,2,"),
        (ValueError([[Counted(), *range(100_000)]] * 1000), '[[{"__type__":"Counted"'),
        (KeyError(dict.fromkeys(range(100_000), "x")), '{"0":"x","1":"x",'),
        (ValueError(b"x " * 1_000_000), '"x x x '),
    ],
    ids=["list", "arguments", "nested", "dict", "bytes"],
)
def test_large_arguments_are_recorded_as_values_are(error: Exception, begins: str) -> None:
    """Python would print all of them first."""
    Counted.printed = 0
    message = step_error(error).message
    assert message.startswith(begins)
    assert len(message) < 1.1 * MAX_BYTES
    assert Counted.printed <= 1


def test_small_arguments_are_printed_as_python_does() -> None:
    """With the quotes that one knows from a terminal, and by the exception itself if it does that."""

    class OwnError(ValueError):
        def __str__(self) -> str:
            return "mine"

    for error in (
        ValueError({"a": [1, 2]}),
        KeyError(("a", b"x")),
        ValueError("a", {"b": 1}),
        OSError(2, "no"),
    ):
        assert step_error(error).message == str(error)
    assert step_error(OwnError([0] * 100_000)).message == "mine"


def test_the_error_in_groups_in_groups_is_named() -> None:
    """A group for each task group on its way: what went wrong is in the innermost."""
    error: Exception = ValueError("what went wrong")
    for depth in range(8):
        error = ExceptionGroup(f"group {depth}", [error])
    recorded = step_error(error)
    assert recorded.message == "group 7 (1 sub-exception): ValueError: what went wrong"
    assert (recorded.traceback or "").endswith("ValueError: what went wrong")
