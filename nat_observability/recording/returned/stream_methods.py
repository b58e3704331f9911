"""The methods of a stream object, each of which records what it gives; by the methods that the object's class has."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from nat_observability.recording.returned.followed_object import Following, Method, find


def _pulling(original: Method) -> Method:
    def pull(self: Any, *args: Any) -> Any:
        following = find(self)
        return original(self, *args) if following is None else following.pull(original, self, *args)

    return pull


def _pulling_async(original: Method) -> Method:
    def pull(self: Any, *args: Any) -> Any:
        following = find(self)
        return original(self, *args) if following is None else following.pull_async(original, self, *args)

    return pull


def _iterating(original: Method) -> Method:
    def iterate(self: Any) -> Any:
        following = find(self)
        items = original(self)
        if following is None or items is self:
            return items
        return _Iteration(self, following, items)

    return iterate


def _iterating_async(original: Method) -> Method:
    def iterate(self: Any) -> Any:
        following = find(self)
        items = original(self)
        if following is None or items is self:
            return items
        return _AsyncIteration(self, following, items)

    return iterate


def _closing(original: Method) -> Method:
    def close(self: Any, *args: Any, **kwargs: Any) -> Any:
        following = find(self)
        if following is None:
            return original(self, *args, **kwargs)
        try:
            with following.inside():
                result = original(self, *args, **kwargs)
        except BaseException as error:
            following.end(error)
            raise
        following.end()
        return result

    async def close_async(self: Any, *args: Any, **kwargs: Any) -> Any:
        following = find(self)
        if following is None:
            return await original(self, *args, **kwargs)
        try:
            with following.inside():
                result = await original(self, *args, **kwargs)
        except BaseException as error:
            following.end(error)
            raise
        following.end()
        return result

    return close_async if inspect.iscoroutinefunction(original) else close


def _entering(original: Method) -> Method:
    def enter(self: Any) -> Any:
        following = find(self)
        if following is None:
            return original(self)
        try:
            with following.inside():
                result = original(self)
        except BaseException as error:
            following.end(error)
            raise
        return _entered(self, following, result)

    return enter


def _entering_async(original: Method) -> Method:
    async def enter(self: Any) -> Any:
        following = find(self)
        if following is None:
            return await original(self)
        try:
            with following.inside():
                result = await original(self)
        except BaseException as error:
            following.end(error)
            raise
        return _entered(self, following, result)

    return enter


def _exiting(original: Method) -> Method:
    def leave(self: Any, *exc_info: Any) -> Any:
        following = find(self)
        if following is None:
            return original(self, *exc_info)
        try:
            with following.inside():
                swallowed = original(self, *exc_info)
        except BaseException as error:
            following.end(error)
            raise
        _left(self, following, swallowed, exc_info)
        return swallowed

    return leave


def _exiting_async(original: Method) -> Method:
    async def leave(self: Any, *exc_info: Any) -> Any:
        following = find(self)
        if following is None:
            return await original(self, *exc_info)
        try:
            with following.inside():
                swallowed = await original(self, *exc_info)
        except BaseException as error:
            following.end(error)
            raise
        _left(self, following, swallowed, exc_info)
        return swallowed

    return leave


def _left(followed: Any, following: Following, swallowed: Any, exc_info: tuple[Any, ...]) -> None:
    # What a block raises passes through a generator that contextlib made a context manager, as it would through the
    # generator's own step; for any other stream it is a consumer that has seen enough.
    raised = exc_info[1] if len(exc_info) > 1 else None
    through = is_generator_manager(type(followed)) and not swallowed
    following.end(raised if through else None)


def _entered(followed: Any, following: Following, result: Any) -> Any:
    if result is followed or result is None:
        return result
    for call in following.calls:
        if not call.ended:
            result = call.enter(result)
    return result


def _awaiting(original: Method) -> Method:
    def await_(self: Any) -> Any:
        following = find(self)
        return original(self) if following is None else _awaited(original, self, following)

    return await_


def _awaited(original: Method, followed: Any, following: Following) -> Any:
    try:
        with following.inside():
            result = yield from original(followed)
    except BaseException as error:
        following.end(error)
        raise
    return following.finish(result)


def _driving(original: Method) -> Method:
    """Drive a coroutine of another class than Python's, as a task does: what it yields is the event loop's."""

    def drive(self: Any, *args: Any) -> Any:
        following = find(self)
        if following is None:
            return original(self, *args)
        try:
            with following.inside():
                return original(self, *args)
        except StopIteration as end:
            result = following.finish(end.value)
            if result is end.value:
                raise
        except BaseException as error:
            following.end(error)
            raise
        raise StopIteration(result)

    return drive


def _calling(original: Method) -> Method:
    async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        following = find(self)
        try:
            return await original(self, *args, **kwargs)
        finally:
            if following is not None:
                following.end()  # the client may have left before the body's end

    return call


def is_generator_manager(kind: type) -> bool:
    """Whether a class is that of what `contextlib.contextmanager` or `asynccontextmanager` makes."""
    return any(
        each.__module__ == "contextlib" and each.__name__ == "_GeneratorContextManagerBase"
        for each in kind.__mro__
    )


class _OwnIteration:
    """
    One iteration over a followed object that is not its own iterator.

    A consumer that stops before its end may begin another one: only the end, or an error, ends the step. It has the
    methods of the object's own iterator too.
    """

    def __init__(self, followed: Any, following: Following, items: Any) -> None:
        self._followed = followed  # kept alive, as by the iterator
        self._following = following
        self._items = items

    @property
    def _passive(self) -> bool:
        return self._following.ended or self._following.busy

    def __getattr__(self, name: str) -> Any:
        return getattr(self._items, name)


class _Iteration(_OwnIteration):
    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        take = self._items.__next__
        return take() if self._passive else self._following.pull(take)


class _AsyncIteration(_OwnIteration):
    def __aiter__(self) -> Any:
        return self

    def __anext__(self) -> Any:
        take = self._items.__anext__
        return take() if self._passive else self._following.pull_async(take)


_RECORDING: dict[str, Callable[[Method], Method]] = {
    "__iter__": _iterating,
    "__next__": _pulling,
    "__aiter__": _iterating_async,
    "__anext__": _pulling_async,
    "send": _pulling,
    "throw": _pulling,
    "asend": _pulling_async,
    "athrow": _pulling_async,
    "close": _closing,
    "aclose": _closing,
    "__enter__": _entering,
    "__exit__": _exiting,
    "__aenter__": _entering_async,
    "__aexit__": _exiting_async,
    "__await__": _awaiting,
    "__call__": _calling,
}


def recording_method(kind: type, name: str, original: Method) -> Method:
    """Return the method of this name, of a class, as one that records."""
    if name in ("send", "throw") and hasattr(kind, "__await__"):
        return _driving(original)
    return _RECORDING[name](original)
