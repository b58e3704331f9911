"""EventStream: which subscriber hears what, and when."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

import pytest

from nat_observability import Boundary, IntermediateStep, Run, Span, StepKind
from nat_observability.stream import EventStream, OpenStep

RUN = Run("run", "1" * 32)


def make_step(name: str = "step") -> IntermediateStep:
    return IntermediateStep(RUN, StepKind.TOOL, Boundary.START, name, "1" * 16, None, 0)


def test_each_subscriber_hears_each_step_in_order() -> None:
    """Subscribers are called in the order in which they came, on the thread that publishes."""
    stream, heard = EventStream(), list[tuple[str, str, int]]()
    for key in ("first", "second"):
        stream.subscribe(key, lambda step, key=key: heard.append((key, step.name, threading.get_ident())))  # type: ignore[misc]
    stream.publish(make_step("a"))
    stream.publish(make_step("b"))
    me = threading.get_ident()
    assert heard == [(key, name, me) for name in ("a", "b") for key in ("first", "second")]
    assert stream.listeners == 2


def test_unsubscribed_hears_no_more() -> None:
    """Nor does it matter to unsubscribe twice, or what was never subscribed."""
    stream, heard = EventStream(), list[IntermediateStep]()
    stream.subscribe("key", heard.append)
    stream.publish(make_step())
    stream.unsubscribe("key")
    stream.unsubscribe("key")
    stream.publish(make_step())
    assert len(heard) == 1
    assert (stream.listeners, stream.unheard) == (0, 1)


def test_same_key_replaces() -> None:
    """A key has one subscriber."""
    stream, first, second = EventStream(), list[IntermediateStep](), list[IntermediateStep]()
    stream.subscribe("key", first.append)
    stream.subscribe("key", second.append)
    stream.publish(make_step())
    assert (len(first), len(second)) == (0, 1)


def test_failing_subscriber_harms_no_other() -> None:
    """What one raises reaches neither the others nor the caller, even if its `repr` raises too."""

    class Failing:
        def __call__(self, step: IntermediateStep) -> NoReturn:
            raise ValueError("no")

        def __repr__(self) -> NoReturn:
            raise ValueError("no name either")

    stream, heard = EventStream(), list[IntermediateStep]()
    stream.subscribe("failing", Failing())
    stream.subscribe("good", heard.append)
    for _ in range(3):
        stream.publish(make_step())
    assert len(heard) == 3


def test_subscribing_while_publishing() -> None:
    """A publication goes to those subscribed when it began, even if others come and go meanwhile."""
    stream, heard = EventStream(), list[str]()

    def come_and_go(step: IntermediateStep) -> None:
        heard.append(f"first {step.name}")
        stream.unsubscribe("second")
        stream.subscribe("third", lambda step: heard.append(f"third {step.name}"))

    stream.subscribe("first", come_and_go)
    stream.subscribe("second", lambda step: heard.append(f"second {step.name}"))
    stream.publish(make_step("a"))
    stream.publish(make_step("b"))
    assert heard == ["first a", "second a", "first b", "third b"]


def test_a_subscriber_that_comes_while_another_gathers_is_not_forgotten() -> None:
    """What was gathered without it is not kept."""
    stream, heard = EventStream(), list[IntermediateStep]()

    class AskedWhileGathering:
        """Is asked for its methods when it is already too late to come in."""

        @property
        def begun(self) -> Callable[[OpenStep], object]:
            stream.subscribe("late", heard.append)
            return lambda step: None

        def finished(self, span: Span) -> None: ...

    stream.subscribe("first", lambda step: None, AskedWhileGathering())
    stream.publish(make_step("before"))
    stream.publish(make_step("after"))
    assert [step.name for step in heard] == ["after"]


@pytest.mark.parametrize("publishers", [1, 3])
def test_no_step_is_lost_between_threads(publishers: int) -> None:
    """A subscriber hears every step from the moment in which it came, while others come and go in other threads."""
    stream, ended, lost = EventStream(), threading.Event(), list[bool]()
    heard: list[IntermediateStep] = []
    stream.subscribe("stays", heard.append)

    def publish() -> None:
        for _ in range(10000):
            stream.publish(make_step())

    def come_and_go() -> None:
        for number in itertools.count():
            key = (threading.get_ident(), number)
            came: list[IntermediateStep] = []
            stream.subscribe(key, came.append)
            own = make_step()
            stream.publish(own)
            lost.append(not any(step is own for step in came))
            stream.unsubscribe(key)
            if ended.is_set():
                return

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    others = [threading.Thread(target=come_and_go) for _ in range(2)]
    threads = [threading.Thread(target=publish) for _ in range(publishers)]
    try:
        for thread in (*others, *threads):
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        ended.set()
        sys.setswitchinterval(interval)
        for thread in others:
            thread.join()
    assert not any(lost)
    assert len(heard) == publishers * 10000 + len(lost)
    assert stream.listeners == 1


def test_unheard_is_exact_between_threads() -> None:
    """What no subscriber hears is counted, also if several threads publish at once."""
    stream = EventStream()

    def publish() -> None:
        for _ in range(2000):
            stream.publish(make_step())

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=publish) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert stream.unheard == 8000
