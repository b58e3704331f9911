"""Generators, async generators and coroutines, each driven by another of its kind that keeps the step around it."""

from __future__ import annotations

import inspect
import opcode
import sys
import types
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import AbstractContextManager, suppress
from typing import Any

from nat_observability.recording.returned.open_call import Chunks, OpenCall, StepOfCall

Running = AbstractContextManager[None]
Started = tuple[Any, StepOfCall, Chunks, AbstractContextManager[Running]]
"""What is driven, its step, where its items go, and what opens the step; that gives what is entered while it runs."""


_PRIMED: Any = object()
"""What the outer generator gives to us alone, if the inner one has begun: both then wait for what is sent next."""
_state_of: Callable[[Any], str] | None = getattr(inspect, "getasyncgenstate", None)  # from 3.12 on
_NOT_BEGUN = opcode.opmap.get("RETURN_GENERATOR")


def has_begun(inner: Any) -> bool:
    """Whether a generator or an async one has given an item already, so that it takes what is sent."""
    if type(inner) is types.GeneratorType:
        return inspect.getgeneratorstate(inner) == inspect.GEN_SUSPENDED
    if type(inner) is not types.AsyncGeneratorType or inner.ag_running:
        return False
    if _state_of is not None:
        return _state_of(inner) == "AGEN_SUSPENDED"
    frame = inner.ag_frame
    return frame is not None and frame.f_lasti >= 0 and frame.f_code.co_code[frame.f_lasti] != _NOT_BEGUN


def generator_function(start: Callable[..., Started]) -> Callable[..., Generator[Any, Any, Any]]:
    """Return a generator function that drives the generator which `start` makes when the first item is due."""

    def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        inner, recorder, chunks, opened = start(*args, **kwargs)
        with opened as running:
            try:
                item = _PRIMED
                if not has_begun(inner):
                    with running:
                        item = next(inner)
                while True:
                    if item is not _PRIMED:
                        chunks.add(item)
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
                try:
                    with running:
                        inner.close()
                finally:
                    chunks.finish()

    return generator


def async_generator_function(start: Callable[..., Started]) -> Callable[..., AsyncGenerator[Any, Any]]:
    """Return the same for async generators."""

    async def async_generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        inner, _, chunks, opened = start(*args, **kwargs)
        with opened as running:
            try:
                item = _PRIMED
                if not has_begun(inner):
                    with running:
                        item = await first_item(inner)
                while True:
                    if item is not _PRIMED:
                        chunks.add(item)
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
                try:
                    with running:
                        await inner.aclose()
                finally:
                    chunks.finish()

    return async_generator


def first_item(items: Any) -> Awaitable[Any]:
    """
    Return what gives the first item of an async iterator that another generator drives.

    The event loop does not learn of the inner generator: at its end it would close both at the same time, and report
    that the inner one was running.
    """
    if type(items) is not types.AsyncGeneratorType:
        return anext(items)
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return anext(items)
    finally:
        sys.set_asyncgen_hooks(*hooks)


def _returned(inner: Any, call: OpenCall) -> Started:
    return inner, call.recorder, call.chunks, call.driving()


_generator = generator_function(_returned)
_awaitable_generator = types.coroutine(generator_function(_returned))
_async_generator = async_generator_function(_returned)


def follow_generator(inner: Any, call: OpenCall) -> Any:
    """Return a generator that gives what `inner` gives."""
    code = getattr(inner, "gi_code", None)
    awaitable = code is not None and bool(code.co_flags & inspect.CO_ITERABLE_COROUTINE)
    outer = _named_like(inner, (_awaitable_generator if awaitable else _generator)(inner, call))
    if has_begun(inner):
        next(outer)
    return outer


def follow_async_generator(inner: Any, call: OpenCall) -> Any:
    """Return an async generator that gives what `inner` gives."""
    outer = _named_like(inner, _async_generator(inner, call))
    if has_begun(inner):
        with suppress(StopIteration):  # it awaits nothing before that
            outer.asend(None).send(None)
    return outer


def follow_coroutine(inner: Any, call: OpenCall) -> Any:
    """Return a coroutine that gives what `inner` gives."""
    call.unstarted = inner
    return _named_like(inner, _awaiting(inner, call))


async def _awaiting(inner: Coroutine[Any, Any, Any], call: OpenCall) -> Any:
    call.unstarted = None
    try:
        with call.running():
            result = await inner
    except BaseException as error:
        call.end(error)
        raise
    return call.finish(result)


def follow_body(inner: Any, call: OpenCall) -> Any:
    """Return an iterator, or an async one, over a response's body."""
    return _async_body(inner, call) if hasattr(type(inner), "__aiter__") else _body(inner, call)


def _body(inner: Any, call: OpenCall) -> Iterator[Any]:
    with call.driving() as running:
        with running:
            items = iter(inner)
        try:
            while True:
                with running:
                    try:
                        item = next(items)
                    except StopIteration:
                        return
                call.chunks.add(item)
                yield item
        finally:
            close = getattr(inner, "close", None)
            if close is not None:
                with running:
                    close()


async def _async_body(inner: Any, call: OpenCall) -> AsyncIterator[Any]:
    with call.driving() as running:
        with running:
            items = aiter(inner)
        ask: Callable[..., Awaitable[Any]] = first_item
        try:
            while True:
                with running:
                    try:
                        item = await ask(items)
                    except StopAsyncIteration:
                        return
                ask = anext
                call.chunks.add(item)
                yield item
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                with running:
                    await close()


def _named_like(inner: Any, outer: Any) -> Any:
    for name in ("__name__", "__qualname__"):
        given = getattr(inner, name, None)
        if isinstance(given, str):
            setattr(outer, name, given)
    return outer
