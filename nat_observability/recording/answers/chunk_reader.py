"""chunk_reader(): what joins the chunks of one model stream into one message, found by one of the first of them."""

from __future__ import annotations

from typing import Any, Protocol

from nat_observability.recording.answers.reader import AnswerJoiner, is_chunk


class ChunkReader(Protocol):
    """
    Joins the chunks of one model stream into one message.

    It is called by one thread at a time, and bounds its own memory.
    """

    def add(self, chunk: object) -> object:
        """Take one chunk; return what is recorded for it: its text, or None to record `chunk` itself."""
        ...

    def finish(self, step: Any) -> None:
        """Set on the open step what was understood; the stream has ended, in whatever way."""
        ...


MOST_LOOKS = 8
"""How many items of a stream are looked at: some begin with events that say nothing of a model."""


def chunk_reader(first: object) -> ChunkReader | None:
    """Return a new reader for the stream that begins with `first`; None if that is not a model's chunk."""
    return _AnswerReader() if is_chunk(first) else None


class _AnswerReader:
    """Joins the chunks of a model's stream into its answer, which is set on the step at the end."""

    __slots__ = ("_joiner",)

    def __init__(self) -> None:
        self._joiner = AnswerJoiner()

    def add(self, chunk: object) -> object:
        return self._joiner.add(chunk)

    def finish(self, step: Any) -> None:
        answer = self._joiner.answer()
        if answer is not None:
            step.streamed(answer)
