"""Chunks: what a stream gives goes through a reader of model answers, if one knows it, into the step."""

from __future__ import annotations

from typing import Any

from nat_observability import step
from nat_observability.recording.returned.open_call import BodyChunks, Chunks
from nat_observability.testing import CapturingExporter, StepNode


class Reader:
    """Knows chunks that are dicts with a text, and joins them."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def add(self, chunk: object) -> object:
        if not isinstance(chunk, dict):
            return None
        self.texts.append(chunk["text"])
        return chunk["text"]

    def finish(self, step: Any) -> None:
        step.output = {"message": "".join(self.texts)}
        step.usage = {"completion_tokens": len(self.texts)}


def recorded(run: CapturingExporter, reader_of: Any, *items: object) -> StepNode:
    with step("llm", "ask") as call:
        chunks = Chunks(call, reader_of)
        for item in items:
            chunks.add(item)
        chunks.finish()
        chunks.finish()
    return run.tree.one("llm", "ask")


def test_a_reader_joins_the_chunks(run: CapturingExporter) -> None:
    """The output is its message, with its usage, and the chunks are the texts that it read."""
    done = recorded(run, lambda first: Reader(), {"text": "a", "id": 1}, 7, {"text": "b"})
    assert (done.output, done.chunks) == ({"message": "ab"}, ["a", 7, "b"])
    assert done.usage is not None
    assert done.usage.completion_tokens == 2


def test_without_a_reader_the_chunks_are_joined_as_they_are(run: CapturingExporter) -> None:
    """The reader is looked for by the first eight chunks."""
    asked: list[object] = []
    done = recorded(run, asked.append, *"abcdefghij")
    assert (asked, done.output, done.chunks) == ([*"abcdefgh"], "abcdefghij", [*"abcdefghij"])


def test_a_reader_that_fails_costs_nothing_else(run: CapturingExporter) -> None:
    """Its chunks are recorded as they are."""

    class Failing(Reader):
        def finish(self, step: Any) -> None:
            raise RuntimeError

    done = recorded(run, lambda first: Failing(), {"other": "a"}, {"text": "b"})
    assert (done.output, done.chunks) == ([{"other": "a"}, "b"], [{"other": "a"}, "b"])
    run.clear()

    def failing(first: object) -> None:
        raise RuntimeError

    assert recorded(run, failing, "a").output == "a"


def test_outside_a_run_nothing_is_read() -> None:
    """Nothing would record it."""
    asked: list[object] = []
    with step("llm", "ask") as call:
        Chunks(call, asked.append).add("a")
    assert asked == []


def test_a_bodys_bytes_are_text(run: CapturingExporter) -> None:
    """A character that two pieces share is one, and what is no UTF-8 is its size."""
    with step("workflow", "handle") as call:
        chunks = BodyChunks(call)
        for piece in (
            "a",
            "é".encode()[:1],
            "é".encode()[1:],
            memoryview(b"b"),
            b"\xff\xff",
            bytearray(b"c"),
            b"",
        ):
            chunks.add(piece)
        chunks.finish()
    assert run.tree.one("workflow", "handle").chunks == ["a", "é", "b", "<2 bytes>", "c"]
