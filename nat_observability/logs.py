"""The package's structlog logger; the embedding application configures structlog, the package never does."""

from __future__ import annotations

import atexit
import inspect
import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Concatenate

import structlog

from nat_observability.foreign_errors import reraise_signal
from nat_observability.system.clock import monotonic

_NAME = "nat_observability"
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_standard = logging.getLogger(_NAME)
_least = logging.NOTSET  # lines below it are left out, whatever the application's configuration lets through
_thread = threading.local()

# All of structlog's filtering logger classes share one method for the levels that they leave out.
_FILTERED_OUT = structlog.make_filtering_bound_logger(logging.CRITICAL).debug


def _level(method: str, number: int) -> Callable[Concatenate[Logger, str, ...], None]:
    is_configured, get_config = structlog.is_configured, structlog.get_config
    is_enabled = _standard.isEnabledFor

    def write(self: Logger, event: str, /, **keys: object) -> None:
        if number < _least:
            return
        if is_configured():
            if getattr(get_config()["wrapper_class"], method, None) is _FILTERED_OUT:
                return
        elif not is_enabled(number):
            return
        self._write(method, number, event, keys)

    write.__name__ = write.__qualname__ = method
    return write


class Logger:
    """
    Writes events through the structlog configuration that is current at that moment.

    Nothing is bound before a line is written, so a later `structlog.configure`, `structlog.testing.capture_logs` or
    `cache_logger_on_first_use` takes effect. A line is written before the call returns, even if the application's own
    loggers are asynchronous (`structlog.stdlib.AsyncBoundLogger`). If structlog is not configured, the line goes to the
    standard library's logger `nat_observability`, as `event key=value`: warnings and above reach stderr if the
    application has not set up logging either, and stdout stays silent.

    Any thread may call it. It never raises: whatever comes from one of the application's processors or handlers is
    swallowed along with the line, which is not written elsewhere because that processor may have been the one that
    redacts. A line that a processor using this package writes during another line, on the same thread, is dropped. One
    that the garbage collector causes while the application writes a line waits for the next one: the loggers of
    structlog have locks that are not reentrant.

    Nothing is interpolated into an event; values go into keys.
    """

    __slots__ = ("_context",)

    def __init__(self, context: dict[str, object] | None = None) -> None:
        self._context = context or {}

    def is_enabled_for(self, method: str) -> bool:
        """Whether lines of this level, debug to error, are written; for a check before preparing many of them."""
        if _LEVELS[method] < _least:
            return False
        if structlog.is_configured():
            return getattr(structlog.get_config()["wrapper_class"], method, None) is not _FILTERED_OUT
        return _standard.isEnabledFor(_LEVELS[method])

    def bind(self, **keys: object) -> Logger:
        """Return a logger that adds these keys to every line. It holds no structlog object, so it may be kept."""
        return Logger({**self._context, **keys})

    debug = _level("debug", logging.DEBUG)
    info = _level("info", logging.INFO)
    warning = _level("warning", logging.WARNING)
    error = _level("error", logging.ERROR)
    exception = _level("exception", logging.ERROR)

    def _write(self, method: str, number: int, event: str, keys: dict[str, object]) -> None:
        if is_writing():
            return
        if self._write_now(method, number, event, keys) and _waiting:
            _write_waiting()

    def _write_now(self, method: str, number: int, event: str, keys: dict[str, object]) -> bool:
        """Return False if the line has to wait for another one."""
        _thread.writes = True
        try:
            keys = {**self._context, **keys}
            if structlog.is_configured():
                bound = _bound(method)
                if _is_locked(bound):
                    _put_off(self, method, number, event, keys)
                    return False
                written = getattr(bound, method)(event, **keys)
                if inspect.iscoroutine(written):
                    written.close()  # it would never be awaited
                    getattr(_bound_as(structlog.stdlib.BoundLogger), method)(event, **keys)
            else:
                # 4: this function, its caller, the level's method, the caller.
                raised: Any = keys.pop("exc_info", method == "exception")
                line = " ".join([event, *(f"{key}={_text(value)}" for key, value in keys.items())])
                _standard.log(number, line, exc_info=raised, stacklevel=4)
        except BaseException as error:  # noqa: BLE001 - foreign code: a processor or a handler of the application (G4)
            reraise_signal(error)
        finally:
            _thread.writes = False
        return True


def is_writing() -> bool:
    """Whether this thread is writing a line: another one that it begins is dropped."""
    return getattr(_thread, "writes", False)


_LOCKED = (structlog.PrintLogger, structlog.WriteLogger, structlog.BytesLogger)
_PATIENCE = 0.25  # seconds
_waiting: deque[tuple[Logger, str, int, str, dict[str, object]]] = deque(maxlen=1000)


def _put_off(*line: Any) -> None:
    if not _waiting:  # at the latest when the process ends
        atexit.register(_write_waiting)
    _waiting.append(line)


def _write_waiting() -> None:
    atexit.unregister(_write_waiting)
    with suppress(IndexError):  # there is none left
        for _ in range(len(_waiting)):
            logger, method, number, event, keys = _waiting.popleft()
            logger._write_now(method, number, event, keys)


def _is_locked(bound: Any) -> bool:
    # Those of structlog have a lock for each file; wrapper classes know their logger by this name.
    logger = getattr(bound, "_logger", None)
    lock = getattr(logger, "_lock", None) if isinstance(logger, _LOCKED) else None
    if lock is None or not lock.locked():
        _thread.waited_for = None
        return False
    # By another thread, for a moment, or by this one: the collector closes a step while the application writes a line.
    # Once a thread has waited for it in vain, its next lines do not.
    is_free = lock.acquire(timeout=0.0 if getattr(_thread, "waited_for", None) is lock else _PATIENCE)
    if is_free:
        lock.release()
    _thread.waited_for = None if is_free else lock
    return not is_free


def _bound(method: str) -> Any:
    kind = structlog.get_config()["wrapper_class"]
    if not inspect.iscoroutinefunction(getattr(kind, method, None)):
        return _bound_as(None)
    # structlog's AsyncBoundLogger, or one like it: its methods have to be awaited, and it can only be made in an event
    # loop. It passes lines to a synchronous logger, which can write them directly.
    return _bound_as(getattr(kind, "_bound_logger_factory", structlog.stdlib.BoundLogger))


def _bound_as(kind: Any) -> Any:
    """Return a bound logger of the application's configuration, of the given class if there is one."""
    try:
        return structlog.wrap_logger(None, wrapper_class=kind, logger_factory_args=(_NAME,)).bind()
    except TypeError:  # a logger factory that takes no name
        return structlog.wrap_logger(None, wrapper_class=kind).bind()


def _text(value: object) -> str:
    # What stays one word on one line without quotes is left bare.
    text = value if isinstance(value, str) else repr(value)
    return text if text.isprintable() and text and " " not in text and "=" not in text else repr(value)


_logger = Logger()


def set_level(level: str | None) -> None:
    """
    Leave lines below this level out from now on, in the whole process.

    Args:
        level: `debug` to `error`, `none` for no lines at all, or None to leave it to the application's configuration.
    """
    global _least
    _least = logging.NOTSET if level is None else _LEVELS.get(level, logging.CRITICAL)


def get_logger() -> Logger:
    """Return the package's one logger. The call has no side effects, even at import."""
    return _logger


class RepeatedEvent:
    """
    Decides when a recurring event is due for a line: the first time, then once per interval.

    Any thread may call it. There is no lock, because a fork could leave it held: two threads at the same moment may be
    counted as one, or get two lines.

    Args:
        interval: Seconds from one line to the next.
        clock: A monotonic clock, in seconds.
    """

    def __init__(self, interval: float = 30.0, clock: Callable[[], float] = monotonic) -> None:
        self._interval, self._clock = interval, clock
        self._last: float | None = None
        self._suppressed = 0

    def due(self) -> int | None:
        """
        Count one occurrence.

        Returns:
            None if this occurrence is suppressed; otherwise a line is due, and this is the number of occurrences
            suppressed since the last line.
        """
        now = self._clock()
        if self._last is not None and now - self._last < self._interval:
            self._suppressed += 1
            return None
        self._last = now
        return self.rest()

    def rest(self) -> int:
        """Return and reset the number of occurrences suppressed since the last line, for a closing summary."""
        suppressed, self._suppressed = self._suppressed, 0
        return suppressed
