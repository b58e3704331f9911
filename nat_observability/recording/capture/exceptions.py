"""step_error(): what an exception says, and where it, its causes and its members come from."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Any, Final

from nat_observability.events import ErrorDetails
from nat_observability.foreign_errors import reraise_signal
from nat_observability.recording.capture.limits import limits
from nat_observability.recording.capture.reprs import own_methods
from nat_observability.recording.capture.text import class_name, cut_text, module_name, utf8_text
from nat_observability.recording.capture.values import capture_json

_FIRST_FRAMES = 31  # where it was caught
_LAST_FRAMES = 32  # where it was raised
_MAX_LINKS = 100_000
_MAX_ERRORS = 32  # causes, contexts and members together
_MAX_MEMBERS = 8  # of one group
_MAX_DEPTH = 16  # groups in groups
_MAX_NOTES = 16
_MAX_TEXT = 4096  # characters of a message or note of another exception than the one that is recorded
_MAX_NAMED = 3  # members in the message of a group
_MAX_NAMED_TEXT = 200  # characters of each
_MAX_SIZE = 256 * 1024  # characters in all
_MAX_ARGUMENTS = 64  # of an exception, of which none may be large
_MAX_ARGUMENT_SIZE = 16 * 1024  # bytes of arguments that are printed
_PRINTED_WHOLE = (list, tuple, dict, set, frozenset, bytes, bytearray)

# As Python prints them.
_CAUSE: Final = "The above exception was the direct cause of the following exception:"
_CONTEXT: Final = "During handling of the above exception, another exception occurred:"
_UNPRINTABLE: Final = "<str() of the exception raised>"

# By the base, because a subclass may have attributes of these names that raise.
_base: Any = BaseException
_group: Any = BaseExceptionGroup


def step_error(error: BaseException) -> ErrorDetails:
    """Return what ended a step as data, with its causes, notes and members. Never raises."""
    return ErrorDetails(error_name(error), error_text(error), error_trace(error))


def error_name(error: BaseException) -> str:
    """Return the class of an exception, with its module."""
    kind = type(error)
    name = class_name(kind)
    module = module_name(kind)
    return name if module in ("", "builtins", "__main__") else f"{module}.{name}"


def error_text(error: BaseException) -> str:
    """Return the message of an exception; of a group with the first members. Never raises."""
    text = _message(error, limits.size)
    if _is_group(error):
        named: list[str] = []
        count = _name_members(error, named, set(), 0)
        more = f"; {count - len(named)} more" if count > len(named) else ""
        return cut_text(f"{text}: {'; '.join(named)}{more}", limits.size)
    return text


def error_trace(error: BaseException) -> str | None:
    """
    Return where an exception comes from, None if there is nothing to say.

    Files, lines and functions, outermost first; if there are many, those in the middle are left out. No source file is
    read. An exception with notes, with a cause or context, or with members is followed by its message and has these
    with it, each with its own frames, in the order in which Python prints them. Bounded, and never raises.
    """
    lines: list[str] = []
    if _is_alone(error):
        _add_frames(error, lines, "")
    else:
        _Trace(lines).add(error, "", 0)
    text = utf8_text("\n".join(lines))
    return cut_text(text, min(_MAX_SIZE, limits.size)) or None


def _is_group(error: BaseException) -> bool:
    # By the class: `isinstance` asks the exception for it, whose own code may raise then.
    return issubclass(type(error), BaseExceptionGroup)


def _is_alone(error: BaseException) -> bool:
    return _reason(error) is None and not _notes(error) and not _is_group(error)


class _Trace:
    """The lines of one exception and of those that belong to it."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._seen: set[int] = set()
        self._size = 0

    def add(self, error: BaseException, indent: str, depth: int) -> None:
        chain: list[tuple[BaseException, str]] = []
        cause: tuple[BaseException, str] | None = (error, "")
        while cause is not None and id(cause[0]) not in self._seen:
            if len(self._seen) >= _MAX_ERRORS:
                self._lines.append(f"{indent}... further exceptions left out ...")
                break
            self._seen.add(id(cause[0]))
            chain.append(cause)
            cause = _reason(cause[0])
        for each, link in reversed(chain):
            self._one(each, indent, depth)
            if link:
                self._lines += ["", indent + link, ""]

    def _one(self, error: BaseException, indent: str, depth: int) -> None:
        if self._size > _MAX_SIZE:
            return
        start = len(self._lines)
        _add_frames(error, self._lines, indent)
        self._text(indent, f"{error_name(error)}: {_message(error, _MAX_TEXT)}")
        notes = _notes(error)
        for note in notes[:_MAX_NOTES]:
            self._text(indent, _shown(note, _MAX_TEXT))
        if len(notes) > _MAX_NOTES:
            self._lines.append(f"{indent}... {len(notes) - _MAX_NOTES} notes left out ...")
        self._size += sum(map(len, self._lines[start:]))
        if _is_group(error):
            self._members(_group.exceptions.__get__(error), f"{indent}  ", depth)

    def _members(self, members: tuple[BaseException, ...], indent: str, depth: int) -> None:
        kept = members[:_MAX_MEMBERS] if depth < _MAX_DEPTH else ()
        for number, member in enumerate(kept, 1):
            if id(member) in self._seen or len(self._seen) >= _MAX_ERRORS:
                self._text(indent, f"{number} of {len(members)}: {error_name(member)}: left out")
                continue
            self._lines.append(f"{indent}{number} of {len(members)}:")
            self.add(member, indent, depth + 1)
        if len(kept) < len(members):
            self._lines.append(f"{indent}... {len(members) - len(kept)} exceptions left out ...")

    def _text(self, indent: str, text: str) -> None:
        self._lines.append(indent + text.replace("\n", f"\n{indent}") if indent else text)


def _reason(error: BaseException) -> tuple[BaseException, str] | None:
    """Return what an exception comes from, and in which way."""
    cause = _base.__cause__.__get__(error)
    if cause is not None:
        return cause, _CAUSE
    context = _base.__context__.__get__(error)
    if context is None or _base.__suppress_context__.__get__(error):
        return None
    return context, _CONTEXT


def _notes(error: BaseException) -> list[object]:
    try:
        notes = getattr(error, "__notes__", None)
    except BaseException as problem:  # noqa: BLE001  foreign code: an exception class of the application's
        reraise_signal(problem)
        return []
    if notes is None:
        return []
    # As Python prints them: what is not a list of notes is one.
    return list(notes[: _MAX_NOTES * 64]) if type(notes) is list or type(notes) is tuple else [notes]


def _add_frames(error: BaseException, lines: list[str], indent: str) -> None:
    first: list[TracebackType] = []
    last: deque[TracebackType] = deque(maxlen=_LAST_FRAMES)
    link = _base.__traceback__.__get__(error)
    count = 0
    while link is not None and count < _MAX_LINKS:
        (first if count < _FIRST_FRAMES else last).append(link)
        link = link.tb_next
        count += 1
    lines += [_frame(each, indent) for each in first]
    left_out = count - len(first) - len(last)
    if left_out:
        lines.append(f"{indent}... {left_out} frames left out ...")
    lines += [_frame(each, indent) for each in last]


def _frame(link: TracebackType, indent: str) -> str:
    code = link.tb_frame.f_code
    return f"{indent}{code.co_filename}:{link.tb_lineno} {code.co_qualname}"


def _name_members(error: BaseException, named: list[str], seen: set[int], depth: int) -> int:
    """
    Add the first exceptions in a group, and in the groups in it, and return how many there are.

    A group that is too deep, or beyond the first ones, counts as one exception.
    """
    members = _group.exceptions.__get__(error)
    count = max(0, len(members) - _MAX_ERRORS)
    for member in members[:_MAX_ERRORS]:
        if id(member) in seen:
            continue
        if len(seen) >= _MAX_ERRORS:
            count += 1
            continue
        seen.add(id(member))
        if _is_group(member) and depth < _MAX_DEPTH:
            count += _name_members(member, named, seen, depth + 1)
            continue
        count += 1
        if len(named) < _MAX_NAMED:
            named.append(f"{error_name(member)}: {_message(member, _MAX_NAMED_TEXT)}")
    return count


def _message(error: BaseException, most: int) -> str:
    try:
        large = _large_arguments(error)
    except BaseException as problem:  # noqa: BLE001  foreign code: a metaclass of the application's
        reraise_signal(problem)
        large = None
    return _shown(error, most, _UNPRINTABLE) if large is None else cut_text(large, most)


def _large_arguments(error: BaseException) -> str | None:
    """Return the arguments of an exception as JSON, if Python would print them whole and they are large."""
    arguments = _base.args.__get__(error)
    if len(arguments) <= _MAX_ARGUMENTS and not any(
        issubclass(type(each), _PRINTED_WHOLE) for each in arguments
    ):
        return None
    if _is_group(error) or "__str__" in own_methods(type(error)):
        return None
    data = bytes(capture_json(arguments[0] if len(arguments) == 1 else arguments))
    return str(data, "utf-8") if len(data) > _MAX_ARGUMENT_SIZE or b"[cut" in data else None


def _shown(value: object, most: int, unprintable: str = "<str() of the note raised>") -> str:
    try:
        return cut_text(str.__str__(str(value)), most)
    except BaseException as problem:  # noqa: BLE001  foreign code: an exception class of the application's
        reraise_signal(problem)
        return unprintable
