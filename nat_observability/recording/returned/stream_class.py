"""follow_object(): a stream object of any class, whose methods record what they give while a step is open around it."""

from __future__ import annotations

import functools
import inspect
import types
from typing import Any

from nat_observability.recording.returned.followed_object import (
    Following,
    Method,
    followings,
    originals,
    release,
)
from nat_observability.recording.returned.open_call import OpenCall
from nat_observability.recording.returned.stream_methods import recording_method

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


def follow_object(stream: Any, call: OpenCall, methods: tuple[str, ...] = STREAM_METHODS) -> bool:
    """
    Keep the step open until `stream` has ended, and record what it gives.

    Returns:
        Whether that is possible: the object's class was made in Python, by no metaclass of its own.
    """
    following = followings.get(id(stream))
    if following is not None and not following.ended:
        following.calls.append(call)
        return True
    release(stream)
    kind: Any = type(stream)
    recording = _recording_class(kind, methods)
    if recording is None:
        return False
    try:
        object.__setattr__(stream, "__class__", recording)
    except (TypeError, AttributeError):
        return False
    followings[id(stream)] = Following(call)
    return True


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
                namespace[name] = functools.wraps(original)(recording_method(kind, name, original))
    try:
        recording = types.new_class(
            kind.__name__,
            (kind,),
            {"metaclass": _unannounced(type(kind))},
            lambda body: body.update(namespace),
        )
    except TypeError:
        return None
    originals[recording] = kind
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
        following = followings.pop(id(self), None)
        if following is not None:
            following.end()
        if inherited is not None:
            inherited(self)

    return collected


def _pickled(self: Any, protocol: Any) -> Any:
    """Copy or pickle the object as one of its own class."""
    recording, own = type(self), originals[type(self)]
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
