"""ProcessorPipeline: applies the processors of one or more exporters to an item, in order, and fails closed."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from math import inf
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from nat_observability.delivery.loss_reasons import ProcessorDropReason
from nat_observability.delivery.queue import BARE_ITEM, weigh
from nat_observability.events import Item
from nat_observability.foreign_errors import place
from nat_observability.logs import RepeatedEvent, get_logger
from nat_observability.system.clock import perf_counter

if TYPE_CHECKING:
    from nat_observability.processors.processor import Processor

STRETCH_ITEMS = 256
"""Items that are processed at a stretch at most."""

STRETCH_SECONDS = 0.001
"""Seconds after which a stretch ends earlier, after the item that it is at."""

_log = get_logger()


@runtime_checkable
class LooksAhead(Protocol):
    """A processor that sees several items before it gets each of them, because one look takes less time."""

    def look_ahead(self, items: Sequence[Item]) -> int:
        """See as many of the items that come next as it likes; return how many. From the same thread."""


@runtime_checkable
class LeavesLight(Protocol):
    """
    A processor that returns light items as they are, so that it need not be called for them.

    Attributes:
        leaves_up_to: The most bytes of everything recorded in such an item, one for each character at least.
    """

    @property
    def leaves_up_to(self) -> int: ...


class ProcessorPipeline:
    """
    Applies processors in order, each to the result of the one before.

    It fails closed: a processor that raises, returns None or returns anything but an item drops the item. A
    line is logged about the first, which names the processor, the class of the error and where it was raised. The
    error's message is left out, because it may hold what was to be redacted.

    Args:
        name: The exporter's, or those of several that share it, for logs.
        processors: None of them is called by two threads at once.

    Raises:
        TypeError: One of them cannot be called.
    """

    def __init__(self, name: str, processors: Iterable[Processor]) -> None:
        self.name = name
        self.processors = tuple(processors)
        # Each with its name, and with the weight up to which it leaves items as they are.
        self._processors = [(name_of(each), each, _weight_left(each)) for each in self.processors]
        # Only the first: those before another could change what it has seen.
        first: object = self.processors[0] if self.processors else None
        self._ahead: LooksAhead | None = first if isinstance(first, LooksAhead) else None
        self._failed = RepeatedEvent()
        self._turn = threading.Lock()

    def renew(self) -> None:
        """Begin anew in a forked child, where the thread that held the lock may not exist."""
        self._turn = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._processors)

    def stretch(
        self, items: Sequence[Item], weights: Sequence[int]
    ) -> list[tuple[Item, int] | ProcessorDropReason]:
        """
        Return, for as many of the first items as the time allows, the result and its weight, or why there is none.

        Args:
            weights: Of the items, as `weigh` returns them.
        """
        with self._turn:
            results: list[tuple[Item, int] | ProcessorDropReason] = []
            end = perf_counter() + STRETCH_SECONDS
            seen = 0
            for number, item in enumerate(items):
                if number == seen and self._ahead is not None:
                    seen += self._show(self._ahead, items[number:] if number else items)
                weight = weights[number]
                result = self.apply(item, weight)
                if result is item:
                    results.append((item, weight))
                else:
                    results.append(result if isinstance(result, str) else self._measured(result))
                if perf_counter() >= end:
                    break
            return results

    def apply_apart(self, item: Item) -> Item | ProcessorDropReason:
        """Do as `apply` with an item that is not on its way through, from any thread."""
        with self._turn:
            return self.apply(item)

    def _show(self, processor: LooksAhead, items: Sequence[Item]) -> int:
        try:
            return max(1, processor.look_ahead(items))
        except BaseException:  # noqa: BLE001  it may be foreign, with a method that only has that name
            self._ahead = None
            return 1

    def apply(self, item: Item, weight: float = inf) -> Item | ProcessorDropReason:
        """
        Return the result for `item`, or the reason for which it is dropped.

        Args:
            weight: Of the item, as `weigh` returns it, if it is known.
        """
        for name, processor, weight_left in self._processors:
            if weight <= weight_left:
                continue
            try:
                result = processor(item)
            except BaseException as error:  # noqa: BLE001  foreign code may raise anything, and must not end the thread
                self._log_failure(name, type(error).__name__, place(error))
                return ProcessorDropReason(f"processor_failed:{name}")
            if result is None:
                return ProcessorDropReason(f"filtered:{name}")
            if type(result) is not type(item):
                self._log_failure(
                    name, f"returned a {type(result).__name__} for a {type(item).__name__}", None
                )
                return ProcessorDropReason(f"processor_failed:{name}")
            if result is not item:
                item, weight = result, inf
        return item

    def _measured(self, item: Item) -> tuple[Item, int] | ProcessorDropReason:
        """Return the processors' result with its weight, or the reason for which it is dropped."""
        try:
            return item, weigh(item)
        except BaseException as error:  # noqa: BLE001  they may have put anything at all into a field
            # Whichever it was, the last one let it pass.
            name = self._processors[-1][0]
            self._log_failure(
                name, f"let a field pass that has no size ({type(error).__name__})", place(error)
            )
            return ProcessorDropReason(f"processor_failed:{name}")

    def _log_failure(self, name: str, problem: str, place: str | None) -> None:
        suppressed = self._failed.due()
        if suppressed is not None:
            _log.error(
                "processor_failed",
                exporter=self.name,
                processor=name,
                error=problem,
                place=place,
                suppressed=suppressed,
            )


def _weight_left(processor: object) -> int:
    # Its class is asked first: an object that hands on what it is asked, and does more, has to be called; and it may
    # raise anything when it is asked.
    if hasattr(type(processor), "leaves_up_to") and isinstance(processor, LeavesLight):
        return BARE_ITEM + processor.leaves_up_to
    return -1


def name_of(processor: object) -> str:
    """
    Return the name by which a processor is counted: its own, or that of its function or class.

    Raises:
        TypeError: It cannot be called, or is a class.
    """
    if isinstance(processor, type) or not callable(processor):
        shown = processor.__name__ if isinstance(processor, type) else f"a {type(processor).__name__}"
        raise TypeError(
            f"A processor is a function of an item, or an object that can be called like one, and {shown} is not."
        )
    own = getattr(processor, "name", None)
    return own if isinstance(own, str) else getattr(processor, "__name__", type(processor).__name__)
