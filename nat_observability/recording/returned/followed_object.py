"""Following: the steps that are open around one object, and which objects have some."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any

from nat_observability.recording.enclosing_step import here
from nat_observability.recording.returned.open_call import OpenCall

Method = Callable[..., Any]


class Following:
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

    def inside(self) -> InsideMethod:
        return InsideMethod(self._inside, self.calls[0])

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


class InsideMethod:
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


followings: dict[int, Following] = {}
"""By the id of the object, which takes its entry along when it is collected."""

originals: weakref.WeakKeyDictionary[type, type] = weakref.WeakKeyDictionary()
"""The classes that the application's objects had, by the class that records."""


def find(stream: Any) -> Following | None:
    """Return what records for an object; None if nothing does, or if the calling code is inside a method that does."""
    following = followings.get(id(stream))
    if following is None:
        return None
    if following.ended:
        release(stream)
        return None
    return None if following.busy else following


def release(stream: Any) -> None:
    """Give an object whose steps have ended its own class back."""
    original = originals.get(type(stream))
    if original is not None:
        followings.pop(id(stream), None)
        object.__setattr__(stream, "__class__", original)


def own_class(kind: type) -> type:
    """Return the class that the application gave an object of this class."""
    return originals.get(kind, kind)
