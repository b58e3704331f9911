"""instrument(): makes each request of a Django application, under WSGI or ASGI, a run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from nat_observability.context import ContextState
from nat_observability.errors import MissingExtraError
from nat_observability.integrations import asgi, wsgi
from nat_observability.integrations.shared.container_argument import EnvFile, read_env_file
from nat_observability.integrations.shared.instrumented_argument import check_instrumented
from nat_observability.integrations.shared.versions import check_version

try:
    from django.core.handlers.asgi import ASGIHandler
    from django.core.handlers.wsgi import WSGIHandler
    from django.core.signals import got_request_exception
except ModuleNotFoundError as error:
    raise MissingExtraError("nat_observability.integrations.django", "django") from error

__all__ = ["instrument"]

check_version("django", at_least="5.2", below="7")


def instrument(
    app: ASGIHandler | WSGIHandler, container: Any, *, env_file: EnvFile | None = None, **options: Any
) -> Callable[..., Any]:
    """
    Return an application that gives each request of `app` a run, named by its route.

    Under ASGI the runtime is open from the server's start to its end. Under WSGI, open the exporters when the
    process starts to serve, after a fork, if the server forks: `ProcessScope(container, "django").open_now()`.

    Args:
        app: What `get_asgi_application()` or `get_wsgi_application()` has returned.
        container: An `ObservabilityContainer`.
        env_file: A file with variables, which the environment takes precedence over.
        **options: Those of `asgi.RequestMiddleware`, or those of `wsgi.RequestMiddleware`.

    Raises:
        MissingContainerError: `container` is not a container of observability.
        SettingsError: The env file cannot be read, or the container has settings of its own.
    """
    check_instrumented(app, "what get_asgi_application() or get_wsgi_application() returns", "get_response")
    wrapped: Callable[..., Any]
    if isinstance(app, ASGIHandler):
        wrapped = asgi.ObservabilityLifespan(asgi.RequestMiddleware(app, container, **options), container)
        answer = app.get_response_async

        async def answer_async(request: Any) -> Any:
            try:
                return await answer(request)
            finally:
                _note_route(request)

        app.get_response_async = answer_async
    else:
        wrapped = wsgi.RequestMiddleware(app, container, **options)
        app.get_response = _noting_route(app.get_response)
    read_env_file(container, env_file)
    got_request_exception.connect(_note_failure, dispatch_uid="nat_observability")
    return wrapped


def _noting_route(answer: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def answer_noting_route(request: Any) -> Any:
        try:
            return answer(request)
        finally:
            _note_route(request)

    return answer_noting_route


def _note_route(request: Any) -> None:
    match = getattr(request, "resolver_match", None)
    if match is None:
        return
    route = f"/{match.route.removeprefix('^')}"
    state = ContextState.current()
    if isinstance(state, asgi.RequestState):
        state.route = route
    elif (environ := getattr(request, "environ", None)) is not None:
        environ[wsgi.ROUTE], environ[wsgi.MOUNT] = route, environ.get("SCRIPT_NAME", "")


def _note_failure(sender: object, request: Any = None, **_: object) -> None:
    error, state = sys.exception(), ContextState.current()
    if error is None:
        return
    if isinstance(state, asgi.RequestState):
        state.failure = error
    elif (environ := getattr(request, "environ", None)) is not None:
        environ[wsgi.ERROR] = error
