"""OpenCall: a step whose call has returned, and whose result is not consumed yet."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from nat_observability.foreign_errors import reraise_signal
from nat_observability.recording.answers.chunk_reader import MOST_LOOKS, ChunkReader, chunk_reader


class StepOfCall(Protocol):
    """The step of one call."""

    output: object

    @property
    def step_id(self) -> str | None: ...  # None outside a run
    def chunk(self, data: object) -> None: ...


class Chunks:
    """
    Records what a stream gives, and has a reader of model answers join it.

    Args:
        reader_of: Finds the reader, by one of the first items.
    """

    __slots__ = ("_looks", "_reader", "_reader_of", "_recorder")

    def __init__(
        self, recorder: StepOfCall, reader_of: Callable[[object], ChunkReader | None] | None = chunk_reader
    ) -> None:
        self._recorder = recorder
        self._reader: ChunkReader | None = None
        self._reader_of = reader_of  # None once it has found one, or was asked often enough
        self._looks = MOST_LOOKS

    def add(self, item: object) -> None:
        """Record one item."""
        if self._recorder.step_id is None:
            self._recorder.chunk(item)  # which may count it
            return
        reader_of = self._reader_of
        if reader_of is not None:
            self._reader = _guarded(reader_of, item)
            self._looks -= 1
            if self._reader is not None or not self._looks:
                self._reader_of = None
        text = None if self._reader is None else _guarded(self._reader.add, item)
        self._recorder.chunk(item if text is None else text)

    def finish(self) -> None:
        """Note that no item follows, before the step ends."""
        reader, self._reader = self._reader, None
        if reader is not None:
            _guarded(reader.finish, self._recorder)


class BodyChunks(Chunks):
    """The same for the body of a web response: bytes are recorded as UTF-8 text, if they are that."""

    __slots__ = ("_decoder",)

    def __init__(self, recorder: StepOfCall) -> None:
        super().__init__(recorder, None)
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def add(self, item: object) -> None:
        if not isinstance(item, bytes | bytearray | memoryview):
            super().add(item)
            return
        try:
            text = self._decoder.decode(bytes(item))
        except UnicodeDecodeError:
            self._decoder.reset()
            text = f"<{len(bytes(item))} bytes>"
        if text:  # nothing, if all that came is the first half of a character
            super().add(text)

    def finish(self) -> None:
        if half := self._decoder.getstate()[0]:
            self._decoder.reset()
            super().add(f"<{len(half)} bytes>")
        super().finish()


def _guarded(read: Callable[..., Any], *given: object) -> Any:
    try:
        return read(*given)
    except BaseException as error:  # noqa: BLE001  a reader meets objects of any model client
        reraise_signal(error)
        return None


class OpenCall:
    """
    A step whose call has returned, kept open by the consumer of the result.

    It ends once: through `end`, or when the last reference to it goes. Any thread may end it.

    Args:
        recorder: The step.
        running: Gives what makes the step current for a block: while the result itself runs, and only then.
        close: Ends the step, with an error or None.
        follow: Keeps the step open around a further result, and returns what the consumer gets; None if it cannot.

    Attributes:
        chunks: Where the items of a stream go.
        unstarted: A coroutine that was not awaited yet, which is closed with the step.
    """

    __slots__ = ("_closing", "_follow", "chunks", "recorder", "running", "unstarted")

    def __init__(
        self,
        recorder: StepOfCall,
        running: Callable[[], AbstractContextManager[None]],
        close: Callable[[BaseException | None], object],
        follow: Callable[[Any, OpenCall], Any],
    ) -> None:
        self.recorder = recorder
        self.running = running
        self._closing = [close]
        self._follow = follow
        self.chunks = Chunks(recorder)
        self.unstarted: Any = None

    @property
    def ended(self) -> bool:
        """Whether the step has ended."""
        return not self._closing

    def end(self, error: BaseException | None = None) -> None:
        """End the step, if it has not ended."""
        try:
            close = self._closing.pop()  # atomic: the collector, or another thread, may end it at this moment
        except IndexError:
            return
        self.chunks.finish()
        close(error)

    def finish(self, result: Any) -> Any:
        """End the step with this result, or follow that further; return what the consumer gets."""
        followed = self._follow(result, self)
        if followed is not None:
            return followed
        self.recorder.output = result
        self.end()
        return result

    def enter(self, result: Any) -> Any:
        """Follow what a context manager gives, or record it; return what the block gets."""
        followed = self._follow(result, self)
        if followed is not None:
            return followed
        self.chunks.add(result)
        return result

    @contextmanager
    def driving(self) -> Iterator[AbstractContextManager[None]]:
        """End the step with the block; what this gives is entered each time the result itself runs."""
        self.unstarted = None
        try:
            yield self.running()
        except BaseException as error:
            self.end(error)
            raise
        else:
            self.end()

    def __del__(self) -> None:
        if self._closing:
            if self.unstarted is not None:
                self.unstarted.close()  # or it would warn too, beside the one that the application did not await
            self.end()
