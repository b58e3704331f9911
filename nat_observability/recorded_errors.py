"""Exceptions that are recorded as the error of a request, a call or a tool, and never raised."""

from __future__ import annotations

from nat_observability.base_error import ObservabilityError


class ClientDisconnectedError(ObservabilityError, ConnectionError):
    """Recorded for a response that its client did not wait for."""

    def __init__(self) -> None:
        super().__init__("The client disconnected before the response was complete.")


class ResponseIncompleteError(ObservabilityError, RuntimeError):
    """Recorded for a response that the application did not complete."""

    def __init__(self) -> None:
        super().__init__("The application returned without completing its response.")


class ServerStatusError(ObservabilityError, RuntimeError):
    """Recorded for a response whose status, 500 or more, says that the server failed."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"The response has the status {status}.")


class ToolFailedError(ObservabilityError, RuntimeError):
    """Recorded for a tool of a server whose result says that it failed."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(text or "The tool's result is an error.")


class RpcFailedError(ObservabilityError, RuntimeError):
    """Recorded for a call of gRPC that a service ends with a code that says that it has failed."""

    def __init__(self, code: str, details: str) -> None:
        self.code, self.details = code, details
        super().__init__(f"{code}: {details}" if details else code)


class WebsocketClosedError(ObservabilityError, RuntimeError):
    """Recorded for a websocket that the application closed because of an error of its own."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"The application closed the websocket with the code {code}.")
