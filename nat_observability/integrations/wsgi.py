"""WSGI applications: a run for each request."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from nat_observability.errors import ClientDisconnectedError, ServerStatusError
from nat_observability.integrations.shared.http_methods import method_attributes, method_name
from nat_observability.integrations.workers.run_scope import Container, RunScope, check_container, run_scope
from nat_observability.propagation.formats import formats
from nat_observability.recording.step import step

__all__ = ["ERROR", "MOUNT", "ROUTE", "RequestMiddleware"]

ROUTE = "nat_observability.route"
"""The key of the environment under which an application may say which route a request took."""
MOUNT = "nat_observability.mount"
"""The same for the `SCRIPT_NAME` that the route is below: what the server, or a dispatcher inside, has set it to."""
ERROR = "nat_observability.error"
"""The key for the exception that it has answered with a status of 500 or more."""

_REQUEST = "nat_observability.request"  # in the environment of a request that has its run

Environment = dict[str, Any]
StartResponse = Callable[..., Any]


class RequestMiddleware:
    """
    A WSGI middleware: each request is one run, from the call of the application until its response is closed, or
    dropped. A body that has nothing to close ends it with its last part.

    Its outermost step, of the kind workflow, is named by method and route, which the application may put into the
    environment under the key `ROUTE`; without it, by the method alone. Of two of these around one application, the
    outer one counts. Open the exporters when the process
    starts, with `ProcessScope(container, "wsgi").open_now()` for example: after a fork, if the server forks.

    Args:
        app: The application to wrap: `app.wsgi_app = RequestMiddleware(app.wsgi_app, container)`.
        container: An `ObservabilityContainer`.
        trusted: Whether to believe the headers that name trace, conversation, user and tags.

    Raises:
        MissingContainerError: `container` is not a container of observability.
    """

    def __init__(
        self,
        app: Callable[[Environment, StartResponse], Iterable[bytes]],
        container: Container,
        *,
        trusted: bool = True,
    ) -> None:
        check_container(type(self).__name__, container)
        self._app = app
        self._container = container
        self._trusted = trusted

    def __call__(self, environ: Environment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        if _REQUEST in environ:
            return self._app(environ, start_response)
        environ[_REQUEST] = True
        scope = run_scope(self._container, headers=_headers(environ) if self._trusted else None)
        request = _Request(scope, environ, start_response)
        request.begin()
        try:
            body = self._app(environ, request.start_response)
        except BaseException as error:
            request.end(error)
            raise
        return _Body(body, request)


class _Request:
    """The run of one request."""

    def __init__(self, scope: RunScope, environ: Environment, start_response: StartResponse) -> None:
        self._scope: RunScope | None = scope
        self._environ = environ
        self._start_response = start_response
        self._method = str(environ.get("REQUEST_METHOD", ""))
        # Before a dispatcher moves parts of the path from one to the other.
        self._mount = str(environ.get("SCRIPT_NAME", ""))
        self._path = self._mount + str(environ.get("PATH_INFO", ""))
        self._root = step("workflow", method_name(self._method))
        self._status: int | None = None
        self.complete = False

    def begin(self) -> None:
        if self._scope is not None:
            self._scope.__enter__()
            self._root.__enter__()

    def start_response(self, status: str, *arguments: Any) -> Any:
        """Note the status, and pass it on."""
        head = status.partition(" ")[0]
        self._status = int(head) if head.isdecimal() else None
        return self._start_response(status, *arguments)

    def end(self, error: BaseException | None, *, wait: bool = True) -> None:
        """End the run, once; unless it is to wait, its exporters stop in the background."""
        scope, self._scope = self._scope, None
        if scope is None:
            return
        if error is not None and self._status is None and isinstance(error, Exception):
            self._status = 500  # the server answers for the application
        if error is None and self._status is not None and self._status >= 500:
            noted = self._environ.get(ERROR)
            error = noted if isinstance(noted, BaseException) else ServerStatusError(self._status)
        elif error is None and not self.complete:
            error = ClientDisconnectedError()
        route = self._route()
        if route is not None:
            self._root.name = f"{method_name(self._method)} {route}"
        self._root.metadata = {
            **method_attributes(self._method),
            "url.scheme": str(self._environ.get("wsgi.url_scheme", "http")),
            "url.path": self._path,
            **({} if route is None else {"http.route": route}),
            **({} if self._status is None else {"http.response.status_code": self._status}),
        }
        kind = None if error is None else type(error)
        self._root.__exit__(kind, error, None)
        if error is not None:
            scope.state.failed = True
        if wait:
            scope.__exit__(None, None, None)
        else:
            scope.let_go()

    def _route(self) -> str | None:
        route, mount = self._environ.get(ROUTE), self._environ.get(MOUNT)
        if not isinstance(route, str):
            return None
        if not isinstance(mount, str):
            return route
        mount = mount.rstrip("/")
        if not f"{self._path}/".startswith(f"{mount}/"):
            mount = self._mount.rstrip(
                "/"
            )  # a proxy's header says another one: a caller may have invented it
        return mount + route


class _Body:
    """The body of a response, whose end is the end of the run."""

    def __init__(self, body: Iterable[bytes], request: _Request) -> None:
        self._body = body
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._body
            self._request.complete = True
            # What is recorded in a close of the application's own belongs to the request. The server still has to send
            # the end of the response: nothing waits here.
            if not hasattr(self._body, "close"):
                self._request.end(None, wait=False)
        except GeneratorExit:
            raise
        except BaseException as error:
            self._request.end(error)
            raise

    def close(self) -> None:
        """Called by the server, whatever has become of the request (PEP 3333)."""
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            # What the application's own close raises belongs to the request.
            self._request.end(sys.exception())

    def __del__(self) -> None:
        """End the run of a response that was dropped and not closed, as test clients do."""
        # The collector may run in any thread, inside a lock that whoever stops the exporters needs.
        self._request.end(None, wait=False)


def _headers(environ: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: value
        for name in formats().read
        if isinstance(value := environ.get(f"HTTP_{name.upper().replace('-', '_')}"), str)
    }
