"""Exchange: what passes between server and application in one request, or over one websocket."""

from __future__ import annotations

from collections.abc import Awaitable

from nat_observability.errors import (
    ClientDisconnectedError,
    ResponseIncompleteError,
    ServerStatusError,
    WebsocketClosedError,
)
from nat_observability.integrations.asgi.types import Message, Receive, Send

# RFC 6455, section 7.4.1: 1000 is a normal closure, 1001 means going away, 1005 no code.
_NORMAL_CLOSURES = (1000, 1001, 1005)
_INTERNAL_ERROR = 1011
_APPLICATION_ERRORS = 4500  # what Litestar closes with: 4000 and the HTTP status
_NO_CODE = 1005


class Exchange:
    """
    Passes on the messages between server and application, and notes how it went.

    Attributes:
        status: Of the response; 101 for a websocket that was accepted, and 403 for one that was refused.
        close_code: The code that either side closed the websocket with.
        complete: Whether the application has sent the last byte of its response.
        disconnected: Whether the client left before that, as far as the application asked.
    """

    __slots__ = (
        "_closed_by_application",
        "_receive",
        "_send",
        "_trailers",
        "close_code",
        "complete",
        "disconnected",
        "status",
    )

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._trailers = self._closed_by_application = False
        self.status: int | None = None
        self.close_code: int | None = None
        self.complete = False
        self.disconnected = False

    async def receive(self) -> Message:
        """Receive the next message from the server."""
        message = await self._receive()
        kind = message["type"]
        if kind == "http.disconnect":
            self.disconnected = self.disconnected or not self.complete
        elif kind == "websocket.disconnect" and not self.complete:
            self.disconnected = self.complete = True
            self.close_code = message.get("code", _NO_CODE)
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """Send a message to the server."""
        # Not a coroutine of its own, which would cost as much as everything else. Noted before it is sent: the server
        # may tell the application that everything is over while this is still waiting.
        kind = message["type"]
        if kind == "http.response.body":
            if not message.get("more_body", False) and not self._trailers:
                self.complete = True
        elif kind == "http.response.start":
            self.status = message["status"]
            self._trailers = message.get("trailers", False)
        elif kind != "websocket.send":
            self._note_rare(kind, message)
        return self._send(message)

    def _note_rare(self, kind: str, message: Message) -> None:
        if kind == "websocket.accept":
            self.status = 101
        elif kind == "websocket.close":
            self._closed_by_application = not self.complete
            if not self.complete:
                self.complete = True
                self.close_code = message.get("code", 1000)
                self.status = self.status or 403
        elif kind == "websocket.http.response.start":
            self.status = message["status"]
        elif kind == "websocket.http.response.body":
            self.complete = self.complete or not message.get("more_body", False)
        elif kind in ("http.response.pathsend", "http.response.zerocopysend", "http.response.trailers"):
            more = message.get("more_body", False) or message.get("more_trailers", False)
            self.complete = self.complete or (not more and (not self._trailers or kind.endswith("trailers")))

    @property
    def went_well(self) -> bool:
        """Whether a client that waited got a complete response without an error. Checked first, as the usual case."""
        return self.complete and not self.disconnected and 101 < (self.status or 0) < 400

    def failure(self, noted: BaseException | None) -> BaseException | None:
        """
        Return what went wrong although the application returned, or None.

        Args:
            noted: The exception behind a response of 500 or more, if the framework reported it.
        """
        status = self.status
        if status is not None and status >= 500:
            return noted or ServerStatusError(status)
        if self.close_code is not None or status == 101:
            return self._websocket_failure(noted)
        if self.disconnected:
            return ClientDisconnectedError()
        return None if self.complete else ResponseIncompleteError()

    def _websocket_failure(self, noted: BaseException | None) -> BaseException | None:
        if noted is not None and not self.is_normal_end(noted):
            return noted
        code = self.close_code
        if code is None or not self._closed_by_application:
            return None
        failed = code == _INTERNAL_ERROR or _APPLICATION_ERRORS <= code < _APPLICATION_ERRORS + 100
        return WebsocketClosedError(code) if failed else None

    def is_normal_end(self, error: BaseException) -> bool:
        """Whether an exception only says that the client closed its websocket, as it may."""
        return (
            self.close_code in _NORMAL_CLOSURES
            and not self._closed_by_application
            and type(error).__name__ == "WebSocketDisconnect"
        )

    def fail(self, error: BaseException) -> None:
        """Note that the application raised: if it had not answered, the server answers for it."""
        if self.status is None and isinstance(error, Exception):
            self.status = 500
