"""ProcessorPipeline: applies the processors of one or more exporters to an item, in order, and fails closed."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from nat_observability.delivery.loss_reasons import ProcessorDropReason
from nat_observability.delivery.queue import weigh
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
        self._processors = [(name_of(processor), processor) for processor in self.processors]
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

    def stretch(self, items: Sequence[Item]) -> list[Item | ProcessorDropReason]:
        """Return, for as many of the first items as the time allows, the result, or why there is none."""
        with self._turn:
            results: list[Item | ProcessorDropReason] = []
            end = perf_counter() + STRETCH_SECONDS
            seen = 0
            for number, item in enumerate(items):
                if number == seen and self._ahead is not None:
                    seen += self._show(self._ahead, items[number:] if number else items)
                results.append(self.apply(item))
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

    def apply(self, item: Item) -> Item | ProcessorDropReason:
        """Return the result for `item`, or the reason for which it is dropped."""
        for name, processor in self._processors:
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
            item = result
        return item

    def measured(self, item: Item) -> tuple[Item, int] | ProcessorDropReason:
        """Return the processors' result with its size in bytes, or the reason for which it is dropped."""
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
