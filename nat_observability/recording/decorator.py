"""decorated(): a callable of any kind with each call inside a step, until what it has returned is consumed."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from nat_observability.recording.returned.follow import PLAIN, follow, way_of
from nat_observability.recording.returned.native_generators import (
    Started,
    async_generator_function,
    generator_function,
)
from nat_observability.recording.returned.open_call import Chunks, OpenCall, StepOfCall

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class CallRecorder(StepOfCall, Protocol):
    """The step of one call."""

    def __enter__(self) -> object: ...
    def __exit__(self, *exc_info: Any) -> None: ...


RecorderT = TypeVar("RecorderT", bound=CallRecorder)
Arguments = Callable[[], dict[str, object]]
Suspended = tuple[Callable[[], AbstractContextManager[None]], Callable[[BaseException | None], None]]
"""What gives something that is entered to make the step current again, and what ends the step."""


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
    suspended: Callable[[RecorderT], Suspended | None],
    *,
    follows: bool = True,
) -> FunctionT:
    """
    Return `function` with each call inside the step that `new_recorder` makes from the call's arguments.

    Args:
        driven: Opens the step around a generator; what it gives is entered each time the generator itself runs.
        suspended: Leaves a step that was entered and keeps it open; None outside a run.
        follows: Whether the step stays open around a stream, an awaitable and the like that a call returns.

    Raises:
        TypeError: It is not a function or another callable, but a class, a class method or a property, for example.
    """
    _check_callable(function)
    named = _naming(function)
    wrapper: Any

    def start(*args: Any, **kwargs: Any) -> Started:
        recorder = new_recorder(lambda: named(args, kwargs))
        return function(*args, **kwargs), recorder, Chunks(recorder), driven(recorder)

    def returned(recorder: RecorderT, result: Any) -> Any:
        if follows and recorder.step_id is not None and way_of(result) is not None:
            suspension = suspended(recorder)
            if suspension is not None:
                return OpenCall(recorder, *suspension, follow).finish(result)
        recorder.output = result
        recorder.__exit__(None, None, None)
        return result

    if is_function_of_kind(inspect.isasyncgenfunction, function):
        wrapper = functools.wraps(function)(async_generator_function(start))

    elif is_function_of_kind(inspect.isgeneratorfunction, function):
        wrapper = functools.wraps(function)(generator_function(start))
        if is_function_of_kind(_makes_awaitable_generators, function):
            wrapper = types.coroutine(wrapper)

    elif is_function_of_kind(inspect.iscoroutinefunction, function):

        @functools.wraps(function)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            recorder = new_recorder(lambda: named(args, kwargs))
            recorder.__enter__()
            try:
                result = await function(*args, **kwargs)
            except BaseException as error:
                recorder.__exit__(type(error), error, None)
                raise
            if type(result) not in PLAIN:
                return returned(recorder, result)
            recorder.output = result
            recorder.__exit__(None, None, None)
            return result

        wrapper = coroutine

    else:

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            recorder = new_recorder(lambda: named(args, kwargs))
            recorder.__enter__()
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                recorder.__exit__(type(error), error, None)
                raise
            if type(result) not in PLAIN:
                return returned(recorder, result)
            recorder.output = result
            recorder.__exit__(None, None, None)
            return result

        wrapper = call

    for name in _CACHE_METHODS:
        if hasattr(function, name):
            setattr(wrapper, name, getattr(function, name))
    return wrapper  # type: ignore[no-any-return]


_CACHE_METHODS = (
    "cache_info",
    "cache_clear",
    "cache_parameters",
)  # of functools.cache, whose objects have no __dict__


def is_function_of_kind(test: Callable[[Any], bool], function: Any) -> bool:
    """Whether a callable, or the `__call__` of its class, is of a kind of function."""
    called = inspect.getattr_static(type(function), "__call__", None)
    return test(function) or test(called)


def _makes_awaitable_generators(function: Any) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    code = getattr(function, "__code__", None)
    return isinstance(code, types.CodeType) and bool(code.co_flags & inspect.CO_ITERABLE_COROUTINE)


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
