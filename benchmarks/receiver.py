"""A receiver for OTLP over HTTP in a process of its own, which only reads and answers 200: at once, or late."""

from __future__ import annotations

import argparse
import asyncio
import gzip
import http.client
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n"
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Taken:
    """What came since it was last asked: bytes on the wire, HTTP headers included, and the bodies, decompressed."""

    wire_bytes: int
    bodies: tuple[bytes, ...]


@dataclass(frozen=True)
class Receiver:
    """Where a receiver listens."""

    port: int

    @property
    def endpoint(self) -> str:
        """For a sink."""
        return f"http://127.0.0.1:{self.port}"

    def take(self) -> Taken:
        """Return what came since the last call."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", "/")
            content = connection.getresponse().read()
        finally:
            connection.close()
        return Taken(_LENGTH.unpack_from(content)[0], tuple(bodies_of(content[_LENGTH.size :])))


def bodies_of(content: bytes) -> Iterator[bytes]:
    """Yield the bodies of what a receiver has written, each after its length, decompressed."""
    position = 0
    while position < len(content):
        (length,) = _LENGTH.unpack_from(content, position)
        position += _LENGTH.size
        body = content[position : position + length]
        yield gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body
        position += length


@contextmanager
def running_receiver(*, delay: float = 0.0, file: Path | None = None) -> Iterator[Receiver]:
    """
    Start a receiver on a free loopback port, and stop it at the end of the block.

    Args:
        delay: Seconds after which it answers.
        file: To which it appends each body with its length, before it answers, instead of keeping them.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.receiver", f"--delay={delay}", f"--file={file or ''}"],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield Receiver(int(process.stdout.readline()))
        finally:
            process.terminate()


class _Store:
    def __init__(self, delay: float, file: str) -> None:
        self.delay = delay
        self._file = open(file, "ab", buffering=0) if file else None  # noqa: SIM115  open as long as the process
        self.wire_bytes = 0
        self.bodies: list[bytes] = []

    def keep(self, body: bytes) -> None:
        if self._file is None:
            self.bodies.append(body)
        else:
            self._file.write(_LENGTH.pack(len(body)) + body)

    def take(self) -> bytes:
        parts = [_LENGTH.pack(self.wire_bytes)]
        for body in self.bodies:
            parts += _LENGTH.pack(len(body)), body
        self.bodies.clear()
        self.wire_bytes = 0
        return b"".join(parts)


class _Connection(asyncio.Protocol):
    """Reads requests with a content-length, one after the other."""

    def __init__(self, store: _Store) -> None:
        self._store = store
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) != -1:
            head = bytes(self._buffer[:end]).lower()
            length = 0
            for line in head.split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            size = end + 4 + length
            if len(self._buffer) < size:
                return
            body = bytes(self._buffer[end + 4 : size])
            del self._buffer[:size]
            if head.startswith(b"get"):
                content = self._store.take()
                self._answer(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(content) + content)
                continue
            self._store.wire_bytes += size
            self._store.keep(body)
            if self._store.delay:
                asyncio.get_running_loop().call_later(self._store.delay, self._answer, _ANSWER)
            else:
                self._answer(_ANSWER)

    def _answer(self, answer: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)


async def _serve(delay: float, file: str) -> None:
    store = _Store(delay, file)
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(store), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--file", default="")
    given = parser.parse_args()
    asyncio.run(_serve(given.delay, given.file))
