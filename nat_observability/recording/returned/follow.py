"""follow(): keeps a step open around what its call has returned, if that is still to be consumed."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import types
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any

from nat_observability.foreign_errors import reraise_signal
from nat_observability.recording.returned.followed_object import own_class
from nat_observability.recording.returned.native_generators import (
    follow_async_generator,
    follow_coroutine,
    follow_generator,
)
from nat_observability.recording.returned.open_call import OpenCall
from nat_observability.recording.returned.responses import may_be_response, response_way
from nat_observability.recording.returned.stream_class import follow_object
from nat_observability.recording.returned.stream_methods import is_generator_manager

# Followed is what can be consumed once, and whose work is done while it is. What can be read again and again is a
# value, and ends the step as any other.

Way = Callable[[Any, OpenCall], Any]
"""Keeps the step open around a result; returns what the caller gets instead, None if it cannot."""

PLAIN = frozenset({type(None), str, int, float, bool, bytes, dict, list, tuple, set, frozenset})
"""The types of most results: nothing to look at."""

_NATIVE: dict[type, Way] = {
    types.GeneratorType: follow_generator,
    types.AsyncGeneratorType: follow_async_generator,
    types.CoroutineType: follow_coroutine,
}

# Whatever has one of these is read by them, is connected to something, or can be read again.
_VALUE_NAMES = (
    *("__len__", "__getitem__", "__contains__"),  # containers
    *("read", "readline", "write", "fileno", "seek"),  # files, sockets, archives
    *("execute", "fetch", "fetchone", "fetchmany", "to_list", "rewind"),  # databases
    *("recv", "receive", "poll", "subscribe"),  # connections and queues
    *("status_code", "iter_content"),  # responses that were read
    "extractall",
)
_VALUE_MODULES = ("nat_observability", "unittest", "mock", "pandas", "polars", "pyarrow", "numpy", "torch")


def way_of(result: Any) -> Way | None:
    """Return how a step stays open around `result`; None if that is a value, which ends it."""
    kind: Any = type(result)
    native = _NATIVE.get(kind)
    if native is not None:
        return native
    try:
        return _shape(kind)(result)
    except BaseException as error:  # noqa: BLE001  foreign code: the attributes of an object of any class
        reraise_signal(error)
        return None


def follow(result: Any, call: OpenCall) -> Any:
    """Keep the step open around `result`; return what the caller gets instead of it, None if it is a value."""
    if type(result) in PLAIN or (way := way_of(result)) is None:
        return None
    try:
        return way(result, call)
    except Exception:  # noqa: BLE001  foreign code, as above
        return None


def _no_way(result: Any) -> Way | None:
    return None


@functools.lru_cache(maxsize=1024)
def _shape(kind: type) -> Callable[[Any], Way | None]:
    """Return what chooses the way for the objects of a class."""
    kind = own_class(kind)
    if kind.__module__ == "builtins" or any(
        each.__module__.partition(".")[0] in _VALUE_MODULES for each in kind.__mro__
    ):
        return _no_way
    choose = _stream_shape(kind)
    if not may_be_response(kind):
        return choose
    return lambda result: response_way(result) or choose(result)


def _stream_shape(kind: type) -> Callable[[Any], Way | None]:
    if hasattr(kind, "_asyncio_future_blocking"):
        return lambda result: _follow_future if asyncio.isfuture(result) else None
    if issubclass(kind, concurrent.futures.Future):
        return lambda result: _follow_concurrent_future
    if not kind.__flags__ & _HEAP_TYPE:
        abstract = _abstract_way(kind)
        return _no_way if abstract is None else lambda result: abstract
    if _has(kind, *_VALUE_NAMES) or "cursor" in kind.__name__.lower():
        return _no_way
    if is_generator_manager(kind):
        return lambda result: _follow_object
    if (
        _has(kind, "__next__", "__anext__", "__await__")
        or (_has(kind, "__iter__", "__aiter__") and _has(kind, "close", "aclose"))
        or _is_manager(kind)
    ):
        return _object_way
    return _no_way


_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement, or as if


def _has(kind: type, *names: str) -> bool:
    return any(getattr(kind, name, None) is not None for name in names)


def _abstract_way(kind: type) -> Way | None:
    """Return the way of generators and coroutines of compiled code, which are of classes of its own."""
    if issubclass(kind, Coroutine):
        return follow_coroutine
    if issubclass(kind, AsyncGenerator):
        return follow_async_generator
    return follow_generator if issubclass(kind, Generator) else None


def _is_manager(kind: type) -> bool:
    return (_has(kind, "__enter__") and _has(kind, "__exit__")) or (
        _has(kind, "__aenter__") and _has(kind, "__aexit__")
    )


def _object_way(result: Any) -> Way | None:
    """Look at what only the object itself has: proxies answer for what they stand for."""
    kind = type(result)
    if any(hasattr(result, name) for name in _VALUE_NAMES if not name.startswith("__")):
        return None
    if not _has(kind, "__next__", "__anext__", "__await__", "__iter__", "__aiter__"):
        # It can only be entered: a request that is sent then. With anything public it is of use without that.
        held = getattr(result, "__dict__", ())
        if any(not name.startswith("_") for name in (*dir(kind), *held)):
            return None
    return _follow_object


def _follow_object(result: Any, call: OpenCall) -> Any:
    if follow_object(result, call):
        return result
    abstract = _abstract_way(type(result))
    return None if abstract is None else abstract(result, call)


def _follow_future(future: Any, call: OpenCall) -> Any:
    if future.done():
        _future_done(call, future)
    else:
        future.add_done_callback(functools.partial(_future_done, call))
    return future


def _future_done(call: OpenCall, future: Any) -> None:
    if future.cancelled():
        call.end(asyncio.CancelledError())
        return
    # Asking for it with `exception()` would silence the log line about an exception that no one has asked for.
    error = getattr(future, "_exception", None)
    if error is None:
        call.recorder.output = future.result()
    call.end(error)


def _follow_concurrent_future(future: concurrent.futures.Future[Any], call: OpenCall) -> Any:
    future.add_done_callback(functools.partial(_concurrent_future_done, call))
    return future


def _concurrent_future_done(call: OpenCall, future: concurrent.futures.Future[Any]) -> None:
    if future.cancelled():
        call.end(concurrent.futures.CancelledError())
        return
    error = future.exception()
    if error is None:
        call.recorder.output = future.result()
    call.end(error)
