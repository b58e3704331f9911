"""bind_context(): a callable that records in the run and the step in which it was bound, on whatever thread it runs."""

from __future__ import annotations

import contextvars
import functools
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any, TypeVar

from nat_observability.recording.decorator import is_function_of_kind
from nat_observability.recording.returned.native_generators import first_item

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def bind_context(function: FunctionT) -> FunctionT:
    """
    Return `function`, bound to the run and the step that are current now.

    For threads, which do not inherit them: `executor.submit(bind_context(work), item)`,
    `executor.map(bind_context(work), items)`, `loop.run_in_executor(None, bind_context(work))`,
    `threading.Thread(target=bind_context(work))`. `asyncio.to_thread` and tasks need no help.

    All other context variables are bound too, as of now; what a call sets in one of them is gone when it ends. The
    result may be called any number of times, from several threads at once, and after the run has ended: steps are then
    counted as unheard. It cannot be sent to another process.

    Args:
        function: A function, a coroutine function, a generator function of either kind, or another callable.

    Raises:
        TypeError: It cannot be called.
    """
    if not callable(function):
        raise TypeError(
            f"bind_context() takes a callable, not an object of type {type(function).__qualname__}. Pass the function "
            "itself, and its arguments to what runs it: submit(bind_context(work), item)."
        )
    bound = contextvars.copy_context()
    wrapper: Any

    if is_function_of_kind(inspect.iscoroutinefunction, function):

        @functools.wraps(function)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            context = bound.copy()  # a context is entered once at a time
            return await _Awaiting(context, context.run(function, *args, **kwargs))

        wrapper = coroutine

    elif is_function_of_kind(inspect.isasyncgenfunction, function):

        @functools.wraps(function)
        async def async_generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            context = bound.copy()
            inner = context.run(function, *args, **kwargs)
            try:
                item = await _Awaiting(context, first_item(inner))
                while True:
                    try:
                        sent = yield item
                    except GeneratorExit:
                        raise
                    except BaseException as error:  # noqa: BLE001  what is thrown in is the inner one's to handle
                        item = await _Awaiting(context, inner.athrow(error))
                    else:
                        item = await _Awaiting(context, inner.asend(sent))
            except StopAsyncIteration:
                return
            finally:
                await _Awaiting(context, inner.aclose())

        wrapper = async_generator

    elif is_function_of_kind(inspect.isgeneratorfunction, function):

        @functools.wraps(function)
        def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            context = bound.copy()
            return (yield from _driven(context, context.run(function, *args, **kwargs)))

        wrapper = generator

    else:

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            context = bound.copy()
            result = context.run(function, *args, **kwargs)
            if inspect.iscoroutine(result):  # of a partial, for example
                return _awaited(context, result)
            return result

        wrapper = call

    return wrapper  # type: ignore[no-any-return]


async def _awaited(context: contextvars.Context, awaitable: Awaitable[Any]) -> Any:
    return await _Awaiting(context, awaitable)


class _Awaiting:
    """Awaits something, each part of which runs in a context."""

    __slots__ = ("_awaitable", "_context")

    def __init__(self, context: contextvars.Context, awaitable: Awaitable[Any]) -> None:
        self._context = context
        self._awaitable = awaitable

    def __await__(self) -> Generator[Any, Any, Any]:
        return _driven(self._context, self._context.run(self._awaitable.__await__))


def _driven(context: contextvars.Context, inner: Any) -> Generator[Any, Any, Any]:
    """Drive a generator, each part of which runs in a context."""
    try:
        item = context.run(inner.__next__)
        while True:
            try:
                sent = yield item
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001  what is thrown in is the inner one's to handle
                item = context.run(inner.throw, error)
            else:
                item = context.run(inner.__next__) if sent is None else context.run(inner.send, sent)
    except StopIteration as end:
        return end.value
    finally:
        close = getattr(inner, "close", None)
        if close is not None:
            context.run(close)
