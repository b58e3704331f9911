"""instrument(): makes each request of a Litestar application a run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Unpack

from litestar import Litestar
from litestar._asgi import ASGIRouter
from litestar.types import Scope

from nat_observability.context import ContextState
from nat_observability.integrations.asgi import Options, RequestMiddleware, RequestState, Source
from nat_observability.integrations.asgi.lifespan import short_failures
from nat_observability.integrations.asgi.source import close_source, open_source
from nat_observability.integrations.shared.container_argument import EnvFile, read_env_file
from nat_observability.integrations.shared.instrumented_argument import check_instrumented
from nat_observability.integrations.shared.versions import check_version

__all__ = ["instrument"]

check_version("litestar", at_least="2.12", below="3")


def instrument(
    app: Litestar,
    source: Source,
    *,
    around: bool = True,
    env_file: EnvFile | None = None,
    **options: Unpack[Options],
) -> None:
    """
    Give each request and each websocket of `app` a run, and open the runtime when it starts.

    A middleware of Litestar's own would be entered after routing, and would see neither requests without a matching
    route nor the answer to an exception; this one is around both, and gets the exception.

    Args:
        app: The application, before it starts.
        source: The container, or a `RuntimeSource`; opened and drained in the application's lifespan.
        around: Whether the runtime is opened before the application's own lifespan and `on_startup`, and drained after
            `on_shutdown`. With False it is opened after those, and drained before they end: for exporters that need
            something that the application opens there, such as its pool.
        env_file: A file with variables, which the environment takes precedence over.
        **options: Those of `RequestMiddleware`.

    Raises:
        MissingContainerError: `source` gives no managers, or has no runtime.
        SettingsError: The env file cannot be read, or the container has settings of its own.
    """
    check_instrumented(app, "a Litestar application", "asgi_handler")
    read_env_file(source, env_file)
    handler: Any = app.asgi_handler
    app.asgi_handler = RequestMiddleware(handler, source, **options)  # type: ignore[assignment]

    async def opened() -> None:
        await open_source(source)

    async def closed() -> None:
        await close_source(source)

    @asynccontextmanager
    async def begun(_: Litestar) -> AsyncIterator[None]:
        if around:
            await opened()
        try:
            yield
        finally:
            if not around:
                await closed()

    # Litestar enters its managers, calls the hooks of the start, leaves the managers, and calls the hooks of the end.
    managers = app._lifespan_managers
    if around:
        managers.insert(0, begun)
        app.on_shutdown.append(closed)
    else:
        managers.append(begun)
        app.on_startup.append(opened)
    app.after_exception.append(_note_failure)
    # The lifespan does not pass through the handler above.
    app.asgi_router.__class__ = _Router


class _Router(ASGIRouter):
    """Litestar's own, whose message about a failed start is short if the failure is ours."""

    __slots__ = ()

    async def lifespan(self, receive: Any, send: Any) -> None:
        short: Any = short_failures(send)
        await super().lifespan(receive, short)


async def _note_failure(error: Exception, scope: Scope) -> None:
    # Litestar answers an exception itself and does not raise it further. What it says to the client is in the answer.
    state = ContextState.current()
    if isinstance(state, RequestState) and getattr(error, "status_code", 500) >= 500:
        state.failure = error
