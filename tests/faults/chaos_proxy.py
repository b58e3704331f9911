"""ChaosProxy: a TCP proxy that delays, throttles, resets and swallows what goes through it, on request."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from types import TracebackType
from typing import Literal, Self

Weather = Literal["clear", "delay", "throttle", "reset", "black hole"]
WEATHER: tuple[Weather, ...] = ("clear", "delay", "throttle", "reset", "black hole")

_DELAY = 0.2  # seconds for each piece
_BYTES_PER_SECOND = 20_000
_PIECE = 65536


class ChaosProxy:
    """
    Forwards a loopback port to another one, on a thread of its own, as a context manager.

    Args:
        target: The port that it forwards to.

    Attributes:
        weather: What happens to everything that goes through, from now on; may be set from any thread.
        disturbed: Pieces that were delayed, throttled or swallowed, and connections that were reset, until now.
    """

    def __init__(self, target: int) -> None:
        self.weather: Weather = "clear"
        self.disturbed = 0
        self.port = 0
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos-proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None] | None] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        assert self._server is not None
        self._server.close()
        # A connection that was accepted just before becomes a task a few turns of the loop later.
        quiet = 0
        while quiet < 5:
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            await asyncio.sleep(0)
            quiet = 0 if left else quiet + 1

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        # Of a connection that waits for an answer, and whose question has ended, asyncio keeps nothing.
        self._connections.add(task)
        with contextlib.suppress(asyncio.CancelledError):  # of `_end`; asyncio would report it as an error
            await self._forward(reader, writer)
        self._connections.discard(task)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, back))
                group.create_task(self._pass(there, writer))
        except* OSError:
            pass  # one side has gone
        finally:
            writer.transport.abort()
            back.transport.abort()

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while piece := await source.read(_PIECE):
            if self.weather != "clear":
                self.disturbed += 1
            while self.weather == "black hole":
                # Nothing comes out, nor is the connection closed; when it clears up what was on its way is lost.
                await asyncio.sleep(0.05)
                if self.weather != "black hole":
                    raise ConnectionResetError
            if self.weather == "reset":
                # A part of it has gone through: an answer may be lost whose request was taken.
                sink.write(piece[: len(piece) // 2])
                with contextlib.suppress(OSError):
                    await sink.drain()
                raise ConnectionResetError
            if self.weather == "delay":
                await asyncio.sleep(_DELAY)
            elif self.weather == "throttle":
                await asyncio.sleep(len(piece) / _BYTES_PER_SECOND)
            sink.write(piece)
            await sink.drain()
        with contextlib.suppress(OSError):
            sink.write_eof()
