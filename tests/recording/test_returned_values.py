"""step() above a function that returns a value: the step ends, and the caller gets that very object."""

from __future__ import annotations

import asyncio
import collections.abc
import concurrent.futures
import contextlib
import csv
import functools
import io
import queue
import sqlite3
import tarfile
import tempfile
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock

import numpy as np

from nat_observability import ContextState, Status, step
from nat_observability.testing import CapturingExporter
from tests.recording.streams import (
    Pieces,
    ask,
    pieces,
    returning,
    same,
)


class OnlyIterable:
    def __iter__(self) -> Iterator[int]:
        return iter([1, 2])


class Container:
    def __iter__(self) -> Iterator[int]:
        return iter([1])

    def __len__(self) -> int:
        return 1

    def close(self) -> None:
        """Close it."""


class HttpResponse:
    """Like that of requests: read already, and yet it can be iterated and closed."""

    status_code = 200

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"read"])

    def close(self) -> None:
        """Close it."""


class Cursor:
    def __iter__(self) -> Iterator[int]:
        return iter([1])

    def __next__(self) -> int:
        raise StopIteration

    def fetchone(self) -> None:
        """Fetch one row."""

    def close(self) -> None:
        """Close it."""


class Permissive:
    """Has every attribute."""

    def __iter__(self) -> Iterator[int]:
        return iter([1])

    def close(self) -> None:
        """Close it."""

    def __getattr__(self, name: str) -> str:
        return name


class Session:
    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close it."""

    def get(self) -> str:
        return "got"


def _values(folder: Path) -> Iterator[Any]:
    yield from (
        None,
        "text",
        b"bytes",
        1,
        1.5,
        True,
        [1],
        (1,),
        {"a": 1},
        {1},
        frozenset({1}),
        range(3),
        Ellipsis,
    )
    yield from (
        OnlyIterable(),
        Container(),
        HttpResponse(),
        Cursor(),
        Permissive(),
        Session(),
        object(),
        int,
        len,
    )
    yield from (
        iter([1]),
        iter({}),
        map(str, [1]),
        filter(None, [1]),
        zip([1], [2], strict=True),
        enumerate([1]),
    )
    yield from (
        reversed([1]),
        io.BytesIO(b"a"),
        io.StringIO("a"),
        queue.Queue(),
        asyncio.Queue(),
        asyncio.Event(),
    )
    yield from (
        Mock(),
        MagicMock(),
        AsyncMock(),
        MagicMock(spec=Pieces),
        threading.Lock(),
        collections.deque([1]),
    )
    yield from (np.zeros(3), np.nditer(np.zeros(3)), types.SimpleNamespace(a=1), Path(), folder, lambda: 1)
    yield from (
        collections.Counter("ab"),
        collections.ChainMap({}),
        collections.UserList([1]),
        memoryview(b"a"),
    )
    yield from (
        step("tool", "unused"),
        ContextState(),
        ValueError("value"),
        csv.reader(["a"]),
        contextlib.ExitStack(),
    )


def test_values_end_the_step_and_come_back_as_they_are(run: CapturingExporter, tmp_path: Path) -> None:
    """Containers, files, cursors, queues, locks, stand-ins, built-in iterators and whatever can be read again."""
    for value in _values(tmp_path):
        kind = type(value)
        assert returning(functools.partial(same, value)) is value
        assert type(value) is kind
        assert ask(run).status is Status.OK, kind
        run.clear()
    with (
        (tmp_path / "file").open("w+b") as file,
        tempfile.NamedTemporaryFile() as temporary,
        tempfile.TemporaryDirectory() as _,
        contextlib.closing(sqlite3.connect(":memory:")) as connection,
        tarfile.open(tmp_path / "a.tar", "w") as archive,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        for value in (file, temporary, connection, connection.execute("SELECT 1"), archive, pool):
            kind = type(value)
            assert returning(functools.partial(same, value)) is value
            assert type(value) is kind
            assert ask(run).status is Status.OK, kind
            run.clear()


def test_opting_out(run: CapturingExporter) -> None:
    """With `follow=False` the step ends when the function returns, and the caller gets the very object."""
    made = pieces()
    assert step("llm", "ask", follow=False)(lambda: made)() is made
    done = ask(run)
    assert (done.status, done.chunks) == (Status.OK, [])


def test_a_stream_as_a_blocks_output_is_left_alone(run: CapturingExporter) -> None:
    """A block ends where it ends."""
    with step("llm", "ask") as call:
        call.output = made = pieces()
    assert ask(run).status is Status.OK
    assert next(made) == "a"
