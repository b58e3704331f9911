"""follow_object(): a stream object of any class, whose methods record what they give while a step is open around it."""

from __future__ import annotations

import functools
import inspect
import types
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any

from nat_observability.recording.following.open_call import OpenCall
from nat_observability.recording.generators import here

# The object itself gets another class: a subclass of its own that looks the same and adds nothing but the methods
# below. A proxy in front of it would miss what the object does with itself (`get_final_message()`, `text_stream` and
# `__enter__` of model clients iterate or return `self`), and would be another object than the one that was returned.

STREAM_METHODS = (
    "__iter__",
    "__next__",
    "__aiter__",
    "__anext__",
    "send",
    "throw",
    "asend",
    "athrow",
    "close",
    "aclose",
    "__enter__",
    "__exit__",
    "__aenter__",
    "__aexit__",
    "__await__",
)
RESPONSE_METHODS = ("__call__",)

Method = Callable[..., Any]


class _Following:
    """
    The steps that are open around one object, the innermost first.

    It does not refer to the object, whose collection ends the steps.
    """

    __slots__ = ("_inside", "calls")

    def __init__(self, call: OpenCall) -> None:
        self.calls = [call]
        self._inside: set[object] = set()

    @property
    def ended(self) -> bool:
        return all(call.ended for call in self.calls)

    @property
    def busy(self) -> bool:
        """Whether the calling code runs inside one of the object's methods: that one records."""
        return bool(self._inside) and here() in self._inside

    def add(self, item: object) -> None:
        for call in self.calls:
            call.chunks.add(item)

    def end(self, error: BaseException | None = None, output: object = None) -> None:
        for call in self.calls:
            if output is not None and not call.ended:
                call.recorder.output = output
            call.end(error)

    def finish(self, result: Any) -> Any:
        for call in self.calls:
            if not call.ended:
                result = call.finish(result)
        return result

    def inside(self) -> _Inside:
        return _Inside(self._inside, self.calls[0])

    def pull(self, take: Method, *args: Any) -> Any:
        try:
            with self.inside():
                item = take(*args)
        except StopIteration as end:
            self.end(output=end.value)
            raise
        except BaseException as error:
            self.end(error)
            raise
        self.add(item)
        return item

    async def pull_async(self, take: Method, *args: Any) -> Any:
        try:
            with self.inside():
                item = await take(*args)
        except StopAsyncIteration:
            self.end()
            raise
        except BaseException as error:
            self.end(error)
            raise
        self.add(item)
        return item


class _Inside:
    """A block inside one of the object's methods: the step is current, nested calls record nothing."""

    __slots__ = ("_inside", "_running", "_where")

    def __init__(self, inside: set[object], call: OpenCall) -> None:
        self._inside = inside
        self._running = call.running()

    def __enter__(self) -> None:
        self._where = here()
        self._inside.add(self._where)
        self._running.__enter__()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._running.__exit__(exc_type, exc, traceback)
        self._inside.discard(self._where)


_followed: dict[int, _Following] = {}  # by the id of the object, which takes its entry along


def follow_object(followed: Any, call: OpenCall, methods: tuple[str, ...] = STREAM_METHODS) -> bool:
    """
    Keep the step open until `followed` has ended, and record what it gives.

    Returns:
        Whether that is possible: the object's class was made in Python, by no metaclass of its own.
    """
    following = _followed.get(id(followed))
    if following is not None and not following.ended:
        following.calls.append(call)
        return True
    _release(followed)
    kind: Any = type(followed)
    recording = _recording_class(kind, methods)
    if recording is None:
        return False
    try:
        object.__setattr__(followed, "__class__", recording)
    except (TypeError, AttributeError):
        return False
    _followed[id(followed)] = _Following(call)
    return True


def _find(followed: Any) -> _Following | None:
    """Return what records for an object; None if nothing does, or if the calling code is inside a method that does."""
    following = _followed.get(id(followed))
    if following is None:
        return None
    if following.ended:
        _release(followed)
        return None
    return None if following.busy else following


def _release(followed: Any) -> None:
    """Give an object whose steps have ended its own class back."""
    original = _originals.get(type(followed))
    if original is not None:
        _followed.pop(id(followed), None)
        object.__setattr__(followed, "__class__", original)


_originals: weakref.WeakKeyDictionary[type, type] = weakref.WeakKeyDictionary()  # by the class that records


def own_class(kind: type) -> type:
    """Return the class that the application gave an object of this class."""
    return _originals.get(kind, kind)


_PLAIN_METACLASSES = ("builtins", "abc", "typing")


@functools.lru_cache(maxsize=256)
def _recording_class(kind: type, methods: tuple[str, ...]) -> type | None:
    """Return a subclass of `kind` that looks the same and records; None if it cannot have one unnoticed."""
    if type(kind).__module__ not in _PLAIN_METACLASSES:
        return None
    namespace: dict[str, Any] = {
        "__slots__": (),
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
        "__del__": _collected(kind),
        "__reduce_ex__": _pickled,
    }
    for name in methods:
        original = inspect.getattr_static(kind, name, None)
        if original is not None and not isinstance(original, classmethod | staticmethod | property):
            original = getattr(kind, name)
            if callable(original):
                override = _OVERRIDES[name]
                if override is _pulling and name != "__next__" and hasattr(kind, "__await__"):
                    override = _driving
                namespace[name] = functools.wraps(original)(override(original))
    try:
        recording = types.new_class(
            kind.__name__,
            (kind,),
            {"metaclass": _unannounced(type(kind))},
            lambda body: body.update(namespace),
        )
    except TypeError:
        return None
    _originals[recording] = kind
    return recording


@functools.lru_cache(maxsize=16)
def _unannounced(metaclass: type) -> type:
    """Return a metaclass whose classes do not call the `__init_subclass__` of their base: a registry, for example."""

    class Unannounced(metaclass):  # type: ignore[misc]
        def mro(self) -> list[type]:
            own, *others = super().mro()
            return [own, _Shield, *others]

    return Unannounced


class _Shield:
    __slots__ = ()

    def __init_subclass__(cls) -> None:
        """Call no other."""


def _collected(kind: type) -> Method:
    inherited = getattr(kind, "__del__", None)

    def collected(self: Any) -> None:
        following = _followed.pop(id(self), None)
        if following is not None:
            following.end()
        if inherited is not None:
            inherited(self)

    return collected


def _pickled(self: Any, protocol: Any) -> Any:
    """Copy or pickle the object as one of its own class."""
    recording, own = type(self), _originals[type(self)]
    object.__setattr__(self, "__class__", own)
    try:
        reduced = self.__reduce_ex__(protocol)
    finally:
        object.__setattr__(self, "__class__", recording)
    if isinstance(reduced, str):
        return reduced
    make, arguments, *rest = reduced
    # Not as they are: pickle compares the class that `copyreg.__newobj__` makes with the object's.
    return _made, (make, arguments), *rest


def _made(make: Method, arguments: tuple[Any, ...]) -> Any:
    return make(*arguments)


# -- The methods ------------------------------------------------------------------------------------------


def _pulling(original: Method) -> Method:
    def pull(self: Any, *args: Any) -> Any:
        following = _find(self)
        return original(self, *args) if following is None else following.pull(original, self, *args)

    return pull


def _pulling_async(original: Method) -> Method:
    def pull(self: Any, *args: Any) -> Any:
        following = _find(self)
        return original(self, *args) if following is None else following.pull_async(original, self, *args)

    return pull


def _iterating(original: Method) -> Method:
    def iterate(self: Any) -> Any:
        following = _find(self)
        items = original(self)
        if following is None or items is self:
            return items
        return _Iteration(self, following, items)

    return iterate


def _iterating_async(original: Method) -> Method:
    def iterate(self: Any) -> Any:
        following = _find(self)
        items = original(self)
        if following is None or items is self:
            return items
        return _AsyncIteration(self, following, items)

    return iterate


def _closing(original: Method) -> Method:
    def close(self: Any, *args: Any, **kwargs: Any) -> Any:
        following = _find(self)
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
        following = _find(self)
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
        following = _find(self)
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
        following = _find(self)
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
        following = _find(self)
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
        following = _find(self)
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


def _left(followed: Any, following: _Following, swallowed: Any, exc_info: tuple[Any, ...]) -> None:
    # What a block raises passes through a generator that contextlib made a context manager, as it would through the
    # generator's own step; for any other stream it is a consumer that has seen enough.
    raised = exc_info[1] if len(exc_info) > 1 else None
    through = is_generator_manager(type(followed)) and not swallowed
    following.end(raised if through else None)


def _entered(followed: Any, following: _Following, result: Any) -> Any:
    if result is followed or result is None:
        return result
    for call in following.calls:
        if not call.ended:
            result = call.enter(result)
    return result


def _awaiting(original: Method) -> Method:
    def await_(self: Any) -> Any:
        following = _find(self)
        return original(self) if following is None else _awaited(original, self, following)

    return await_


def _awaited(original: Method, followed: Any, following: _Following) -> Any:
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
        following = _find(self)
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
        following = _find(self)
        try:
            return await original(self, *args, **kwargs)
        finally:
            if following is not None:
                following.end()  # the client may have left before the body's end

    return call


_OVERRIDES: dict[str, Callable[[Method], Method]] = {
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

    def __init__(self, followed: Any, following: _Following, items: Any) -> None:
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
