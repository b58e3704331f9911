"""Fork safety of spools: a fork waits for calls under way, and the child starts without the parent's files."""

from __future__ import annotations

import threading
import weakref
from typing import Any, Protocol

import msgspec

from nat_observability.system.clock import monotonic
from nat_observability.system.fork_hooks import at_fork

_PATIENCE = 1.0  # seconds

loading = threading.RLock()
"""Held while the spool's modules are imported: a child forked meanwhile could never import them."""


class OverFork(Protocol):
    """An object that a fork must not catch in the middle of a call."""

    @property
    def lock(self) -> Any:
        """A reentrant lock that is held for a whole call."""
        ...

    @property
    def left_to_parent(self) -> object:
        """What the child must never close."""
        ...

    def start_clean(self) -> None:
        """In the child: start anew."""
        ...


class _Immortal(msgspec.Struct, gc=False):
    """
    Keeps an object until the process ends, and through its exit.

    It refers to itself, and the garbage collector does not see it: nothing ever lets go of what it holds. A module
    would, when the interpreter exits.
    """

    held: object
    itself: object = None


_registry = threading.Lock()
_spools: weakref.WeakSet[OverFork] = weakref.WeakSet()
_held: list[OverFork] = []


def watch(spool: OverFork) -> None:
    """Have every fork wait for the call of this spool that is under way, a second at most in all."""
    with _registry:
        _spools.add(spool)


def _before_fork() -> None:
    # A fork must not catch SQLite in the middle: its own locks would stay held in the child for ever.
    loading.acquire()
    _registry.acquire()
    deadline = monotonic() + _PATIENCE
    _held.extend(
        spool for spool in list(_spools) if spool.lock.acquire(timeout=max(0.0, deadline - monotonic()))
    )


def _after_fork_in_parent() -> None:
    for spool in _held:
        spool.lock.release()
    _held.clear()
    _registry.release()
    loading.release()


def _after_fork_in_child() -> None:
    for spool in list(_spools):
        # Closing a connection here would write the parent's log into its file and delete it, under the parent.
        left = _Immortal(spool.left_to_parent)
        left.itself = left
        spool.start_clean()
    _held.clear()
    _registry.release()
    loading.release()


at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
