"""decorated(): a function, a coroutine function or a generator of either kind with each call inside a step."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class CallRecorder(Protocol):
    """The step of one call."""

    output: object

    def chunk(self, data: object) -> None: ...
    def __enter__(self) -> object: ...
    def __exit__(self, *exc_info: Any) -> None: ...


RecorderT = TypeVar("RecorderT", bound=CallRecorder)
Arguments = Callable[[], dict[str, object]]


def _check_callable(function: object) -> None:
    if isinstance(function, classmethod | staticmethod | property | functools.cached_property):
        outer = type(function).__name__
        raise TypeError(
            f"step() stands above @{outer}, and would record no call of the function itself. Swap the two: "
            f"@{outer} above, step() directly above the function."
        )
    if isinstance(function, type):
        raise TypeError(
            f"step() decorates functions, and {function.__qualname__} is a class, which would not be one any more. "
            "Put step() above the methods to record, such as __init__ or __call__."
        )
    if not callable(function):
        raise TypeError(
            f"step() decorates functions, and was given an object of type {type(function).__qualname__}. Put it "
            "directly above the function, below all other decorators that do not return a function."
        )


def decorated(
    function: FunctionT,
    new_recorder: Callable[[Arguments], RecorderT],
    driven: Callable[[RecorderT], AbstractContextManager[AbstractContextManager[None]]],
) -> FunctionT:
    """
    Return `function` with each call inside the step that `new_recorder` makes from the call's arguments.

    Args:
        driven: Opens the step around a generator; what it gives is entered each time the generator itself runs.

    Raises:
        TypeError: It is not a function or another callable, but a class, a class method or a property, for example.
    """
    _check_callable(function)
    named = _naming(function)
    wrapper: Any

    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def async_generator(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            recorder = new_recorder(lambda: named(args, kwargs))
            inner = function(*args, **kwargs)
            with driven(recorder) as running:
                try:
                    with running:
                        item = await anext(inner)
                    while True:
                        recorder.chunk(item)
                        try:
                            sent = yield item
                        except GeneratorExit:
                            raise
                        except BaseException as error:  # noqa: BLE001  what is thrown in is the inner one's to handle
                            with running:
                                item = await inner.athrow(error)
                        else:
                            with running:
                                item = await inner.asend(sent)
                except StopAsyncIteration:
                    return
                finally:
                    with running:
                        await inner.aclose()

        wrapper = async_generator

    elif inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            recorder = new_recorder(lambda: named(args, kwargs))
            inner = function(*args, **kwargs)
            with driven(recorder) as running:
                try:
                    with running:
                        item = next(inner)
                    while True:
                        recorder.chunk(item)
                        try:
                            sent = yield item
                        except GeneratorExit:
                            raise
                        except BaseException as error:  # noqa: BLE001  what is thrown in is the inner one's to handle
                            with running:
                                item = inner.throw(error)
                        else:
                            with running:
                                item = inner.send(sent)
                except StopIteration as end:
                    if end.value is not None:
                        recorder.output = end.value
                    return end.value
                finally:
                    with running:
                        inner.close()

        wrapper = generator

    elif inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            recorder = new_recorder(lambda: named(args, kwargs))
            with recorder:
                result = recorder.output = await function(*args, **kwargs)
            return result

        wrapper = coroutine

    else:

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            recorder = new_recorder(lambda: named(args, kwargs))
            with recorder:
                result = recorder.output = function(*args, **kwargs)
            return result

        wrapper = call

    return wrapper  # type: ignore[no-any-return]


def _naming(
    function: Callable[..., Any],
) -> Callable[[tuple[Any, ...], Mapping[str, Any]], dict[str, object]]:
    """Return what turns a call's arguments into one dict by parameter name, without `self` and `cls`."""
    positional: list[str] = []
    rest = "args"
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        parameters = ()  # type: ignore[assignment]
    for parameter in parameters:
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            positional.append(parameter.name)
        elif parameter.kind is parameter.VAR_POSITIONAL:
            rest = parameter.name
    bound = positional[:1] in (["self"], ["cls"])

    def named(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, object]:
        values: dict[str, object] = dict(zip(positional, args, strict=False))
        if bound:
            values.pop(positional[0], None)
        if len(args) > len(positional):
            values[rest] = args[len(positional) :]
        values.update(kwargs)
        return values

    return named
