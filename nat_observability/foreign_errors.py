"""Handling exceptions of foreign code: name them in one line, and let them through if a signal raised them."""

from __future__ import annotations

import dis
import functools
import inspect
import signal
import threading
from types import CodeType

EXITS = (KeyboardInterrupt, SystemExit)
"""What ends the program, from any code. Foreign code may raise anything else by mistake."""


def place(error: BaseException) -> str | None:
    """Return the file and line where an error was raised, or None if it never was."""
    link = _traceback(error)
    while link is not None and link.tb_next is not None:
        link = link.tb_next
    return None if link is None else f"{link.tb_frame.f_code.co_filename}:{link.tb_lineno}"


def locate(error: BaseException) -> str:
    """
    One line that names an error: its type and the place where it was raised.

    For errors from foreign code that saw an item before redaction: their messages may hold what had to be redacted.
    """
    where, name = place(error), _class_name(error)
    return f"{name} at {where}" if where is not None else name


def forget_frames(error: BaseException) -> None:
    """
    Let go of the frames in which an error that is kept was raised, and those that led to it.

    Their variables hold whatever was at hand: a whole batch, and the request made of it.
    """
    found: list[BaseException | None] = [error]
    seen: set[int] = set()
    while found:
        each = found.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        _set_traceback(each, None)
        found += (_cause(each), _context(each))


# By the base, because a class of its own may raise where it is asked for its attributes.
_traceback = BaseException.__dict__["__traceback__"].__get__
_set_traceback = BaseException.__dict__["__traceback__"].__set__
_cause = BaseException.__dict__["__cause__"].__get__
_context = BaseException.__dict__["__context__"].__get__
_RAISE = dis.opmap["RAISE_VARARGS"]


def reraise_signal(error: BaseException) -> None:
    """
    Raise `error` again if a signal handler raised it, in whatever code it interrupted.

    For the places that survive everything that foreign code raises, `KeyboardInterrupt` and `SystemExit` included:
    Ctrl-C, a handler that exits and a time limit by signal still reach the program while such code runs.
    """
    if is_from_signal(error):
        raise error


def is_from_signal(error: BaseException) -> bool:
    """Whether a signal handler raised an error, in whatever code it interrupted. In the caller that has caught it."""
    link = _traceback(error)
    if link is None or threading.current_thread() is not threading.main_thread():
        return False  # only the main thread handles signals
    codes: set[CodeType] | None = None
    while link.tb_next is not None:
        link = link.tb_next
        code = link.tb_frame.f_code
        # A handler is called with a number and a frame.
        if code.co_argcount >= 2 or code.co_flags & inspect.CO_VARARGS:
            codes = _handlers() if codes is None else codes
            if code in codes:
                return True
    if type(error) is KeyboardInterrupt and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Python's own handler has no frame: it raises between two instructions of the code that it interrupts.
        instructions, at = link.tb_frame.f_code.co_code, link.tb_lasti
        return not (0 <= at < len(instructions) and instructions[at] == _RAISE)
    return False


def _handlers() -> set[CodeType]:
    codes: set[CodeType] = set()
    for number in signal.valid_signals():
        handler: object = signal.getsignal(number)
        if not callable(handler):
            continue
        while isinstance(handler, functools.partial):
            handler = handler.func
        if not hasattr(handler, "__code__") and not hasattr(handler, "__func__"):
            handler = vars(type(handler)).get("__call__")
        code = getattr(getattr(handler, "__func__", handler), "__code__", None)
        if isinstance(code, CodeType):
            codes.add(code)
    return codes


def describe(error: BaseException) -> str:
    """
    One line that names an error: its type and its message.

    If the exception's own `str` raises, only its type is given.
    """
    try:
        text = str.__str__(str(error))
    except BaseException as problem:  # noqa: BLE001  foreign code: an exception class of the user's
        reraise_signal(problem)
        text = ""
    return f"{_class_name(error)}: {text}" if text else _class_name(error)


def _class_name(error: BaseException) -> str:
    # By the base, because a metaclass may raise where it is asked for its attributes.
    name: str = type.__dict__["__name__"].__get__(type(error))
    return name
