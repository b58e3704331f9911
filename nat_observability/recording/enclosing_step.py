"""enclosing(): which open step encloses the code that runs now, generators included."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Protocol, TypeVar

# A generator runs in the context of the code that asks it for the next item. Its consumer therefore sees at each yield
# what it sets in a ContextVar, and it sees what the consumer sets: for a step opened inside a generator the ContextVar
# alone names the wrong parent. Only then do the functions below look at the frames.

GENERATORS = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
CONTEXTLIB = vars(contextlib)


class Scope(Protocol):
    """A run, or an open step of it, as a place that further steps can lie in. Only this package reads its links."""

    @property
    def step_id(self) -> str | None: ...  # what a step inside it has for a parent
    @property
    def _parent(self) -> Scope | None: ...  # the scope around it
    @property
    def _previous(self) -> Scope | None: ...  # what the ContextVar held before it
    @property
    def _generator(self) -> GeneratorScope | None: ...  # set if it was opened in a generator's own frame
    @property
    def _closed(self) -> bool: ...


ScopeT = TypeVar("ScopeT", bound=Scope)


class GeneratorScope:
    """Where a step was opened inside a generator: the generator's frame and the task or thread that opened it."""

    __slots__ = ("frame", "opener")

    def __init__(self, frame: FrameType) -> None:
        self.frame = frame
        self.opener = here()


def generator_frame(frame: FrameType) -> FrameType | None:
    """
    Return the frame of the generator whose block encloses a step entered in `frame`, None if no generator does.

    Frames of contextlib on the way are skipped: an exit stack, and a generator that it has turned into a context
    manager, whose step encloses the block of the code that entered it.
    """
    block: FrameType | None = frame
    while block is not None:
        if block.f_globals is not CONTEXTLIB:
            driver = block.f_back
            if not block.f_code.co_flags & GENERATORS:
                return None
            if driver is None or driver.f_globals is not CONTEXTLIB:
                return block
        block = block.f_back
    return None


def visible(head: ScopeT) -> ScopeT:
    """
    Return `head`, or what the ContextVar held before it, without steps that ended and without those of generators.

    Whether a generator runs at this moment, so that its steps do enclose, only `enclosing` finds out.
    """
    scope = head
    while scope._previous is not None:
        generator = scope._generator
        if generator is None:
            # A step that ended below another one. What ended on top keeps no `previous`: a task that was started
            # inside it and outlives it goes on in it.
            if not scope._closed:
                break
        elif generator.opener != here():
            break  # another task, started inside the step, is still in it
        scope = scope._previous  # type: ignore[assignment]
    return scope


def enclosing(head: ScopeT, open_in: Mapping[FrameType, Sequence[ScopeT]], frame: FrameType) -> ScopeT:
    """
    Return the innermost scope around the code that runs in `frame`.

    Args:
        head: What the ContextVar holds.
        open_in: The open steps of this run that were opened in generator frames, outermost first, by frame.
        frame: The frame that asks.
    """
    scope = visible(head)
    if not open_in:
        return scope
    caller: FrameType | None = frame
    while caller is not None:
        inside = open_in.get(caller)
        if inside:
            return scope if _lies_in(scope, inside[-1]) else inside[-1]
        caller = caller.f_back
    return scope


def _lies_in(scope: Scope, other: Scope) -> bool:
    inner: Scope | None = scope
    while inner is not None:
        if inner is other:
            return True
        inner = inner._parent
    return False


def here() -> object:
    """Return what tells the running task, or the thread outside any task, from others."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop runs in this thread
        task = None
    return id(task) if task is not None else -threading.get_ident()
