"""chunk_reader(): what joins the chunks of one model stream into one message, found by the first of them."""

from __future__ import annotations

from typing import Any, Protocol


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


def chunk_reader(first: object) -> ChunkReader | None:
    """Return a new reader for the stream that begins with `first`; None if that is not a model's chunk."""
    return None
