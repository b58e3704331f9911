"""The end of a child of `multiprocessing`: what is left is written once, after the threads that the child waits for."""

from __future__ import annotations

import multiprocessing.process
import multiprocessing.util
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nat_observability.delivery.threads import process_end


@pytest.fixture
def drained(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The threads on which what is left was written, in a process that takes itself for a child."""
    on: list[str] = []
    monkeypatch.setattr(multiprocessing.process, "parent_process", lambda: object())
    monkeypatch.setattr(process_end, "_drain", lambda: on.append(threading.current_thread().name))
    monkeypatch.setattr(process_end, "_finalizer", None)
    monkeypatch.setattr(process_end, "_drainer", None)
    yield on
    finalizer = process_end._finalizer
    if finalizer is not None:
        finalizer.cancel()


@pytest.fixture
def busy() -> Iterator[Callable[[], None]]:
    """Ends a thread that is no daemon."""
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait, args=(20,))
    thread.start()

    def end() -> None:
        ended.set()
        thread.join()

    yield end
    end()


def test_what_is_no_child_has_its_exit_handlers(drained: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor has it a finalizer if nobody has imported `multiprocessing`."""
    monkeypatch.setattr(multiprocessing.process, "parent_process", lambda: None)
    process_end.drain_at_end_of_child()
    assert process_end._finalizer is None
    monkeypatch.setattr(process_end, "loaded", lambda name: None)
    process_end.drain_at_end_of_child()
    assert process_end._finalizer is None
    assert drained == []


def test_one_finalizer_after_the_applications_own(drained: list[str]) -> None:
    """However often it is asked for; what the application's finalizers record is written too."""
    order: list[object] = []
    process_end.drain_at_end_of_child()
    first = process_end._finalizer
    process_end.drain_at_end_of_child()
    assert process_end._finalizer is first
    own: Any = multiprocessing.util.Finalize(None, lambda: order.append(list(drained)), exitpriority=-100)
    keys = sorted((key for key in (own._key, first._key)), reverse=True)
    assert keys == [own._key, first._key]
    own()
    first()
    assert order == [[]]
    assert drained == ["MainThread"]


def test_threads_that_the_child_waits_for_come_first(drained: list[str], busy: Callable[[], None]) -> None:
    """They may record still. A thread waits for them, which the child waits for in its turn; one is enough."""
    process_end.drain_at_end_of_child()
    process_end._finalizer()
    waiting = process_end._drainer
    assert waiting is not None
    assert not waiting.daemon
    process_end._drain_after_the_threads()
    assert process_end._drainer is waiting
    assert drained == []
    busy()
    waiting.join(20)
    assert drained == ["nat-observability-exit"]


def test_a_delivery_that_opens_after_the_finalizers(
    drained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a thread that outlives the main one: nobody calls a finalizer any more."""
    main = threading.main_thread()
    monkeypatch.setattr(main, "is_alive", lambda: False)
    process_end.drain_at_end_of_child()
    assert process_end._finalizer is None
    assert drained == ["MainThread"]
