"""instrument(): makes each request of a Quart application a run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Unpack

from quart import Quart, request, websocket
from quart.signals import got_request_exception, got_websocket_exception

from nat_observability.context import ContextState
from nat_observability.integrations.asgi import (
    ObservabilityLifespan,
    Options,
    RequestMiddleware,
    RequestState,
    Source,
)
from nat_observability.integrations.shared.container_argument import EnvFile, read_env_file
from nat_observability.integrations.shared.instrumented_argument import check_instrumented
from nat_observability.integrations.shared.versions import check_version

__all__ = ["instrument"]

check_version("quart", at_least="0.20", below="1")


def instrument(
    app: Quart,
    source: Source,
    *,
    around: bool = True,
    env_file: EnvFile | None = None,
    **options: Unpack[Options],
) -> None:
    """
    Give each request and each websocket of `app` a run, and open the runtime in its lifespan.

    A run stays open until the tasks that its handlers passed to `app.add_background_task` are done.

    Args:
        app: The application, before it starts.
        source: The container, or a `RuntimeSource`; opened and drained in the application's lifespan.
        around: Whether the runtime is opened before the application's own functions for start and end, and drained
            after them. With False it is opened after those of the start, and drained before those of the end: for
            exporters that need something which the application opens and closes there, such as its pool.
        env_file: A file with variables, which the environment takes precedence over.
        **options: Those of `RequestMiddleware`.

    Raises:
        MissingContainerError: `source` gives no managers, or has no runtime.
        SettingsError: The env file cannot be read, or the container has settings of its own.
    """
    check_instrumented(app, "a Quart application", "asgi_app", "add_background_task")
    read_env_file(source, env_file)
    middleware = RequestMiddleware(app.asgi_app, source, **options)  # type: ignore[arg-type]
    app.asgi_app = ObservabilityLifespan(middleware, source, around=around)  # type: ignore[assignment, method-assign]
    # First of all, because an earlier function may answer for the handler.
    app.before_request_funcs.setdefault(None, []).insert(0, _note_request)
    app.before_websocket_funcs.setdefault(None, []).insert(0, _note_websocket)
    # Quart answers an exception itself and does not raise it further.
    got_request_exception.connect(_note_failure, app, weak=False)
    got_websocket_exception.connect(_note_failure, app, weak=False)
    app.add_background_task = _keeping_open(app)  # type: ignore[method-assign]


def _keeping_open(app: Quart) -> Callable[..., None]:
    add = app.add_background_task

    def add_background_task(func: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        before = set(app.background_tasks)
        add(func, *args, **kwargs)
        state = ContextState.current()
        if isinstance(state, RequestState):
            for task in app.background_tasks - before:
                if isinstance(task, asyncio.Future):
                    state.keep_open(task)

    return add_background_task


async def _note_request() -> None:
    _note_route(request.url_rule)


async def _note_websocket() -> None:
    _note_route(websocket.url_rule)


def _note_route(rule: Any) -> None:
    state = ContextState.current()
    if rule is not None and isinstance(state, RequestState):
        state.route = rule.rule


async def _note_failure(app: Quart, exception: Exception, **_: object) -> None:
    state = ContextState.current()
    if isinstance(state, RequestState):
        state.failure = exception
