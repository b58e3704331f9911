"""instrument(): makes each request of a Starlette or FastAPI application a run."""

from __future__ import annotations

from typing import Unpack

from starlette.applications import Starlette

from nat_observability.integrations.asgi import Options, RequestMiddleware, Source, lifespan
from nat_observability.integrations.shared.container_argument import EnvFile, read_env_file
from nat_observability.integrations.shared.instrumented_argument import check_instrumented
from nat_observability.integrations.shared.versions import check_version

__all__ = ["instrument"]

check_version("starlette", at_least="0.46", below="2")


def instrument(
    app: Starlette,
    source: Source,
    *,
    around: bool = True,
    env_file: EnvFile | None = None,
    **options: Unpack[Options],
) -> None:
    """
    Give each request and each websocket of `app` a run, and open the runtime in its lifespan.

    The middleware goes around all others, and around the one that answers uncaught exceptions, so that it sees that
    answer too. With `app.add_middleware(RequestMiddleware, container)` it would not.

    Args:
        app: The application, before it has served a request.
        source: The container, or a `RuntimeSource`; opened and drained in the application's lifespan.
        around: Whether the runtime is opened before the application's own lifespan begins, and drained after it has
            ended. With False it is opened after that has begun, and drained before it ends: for exporters that need
            something which the application opens there, such as its pool.
        env_file: A file with variables, which the environment takes precedence over.
        **options: Those of `RequestMiddleware`.

    Raises:
        MissingContainerError: `source` gives no managers, or has no runtime.
        SettingsError: The env file cannot be read, or the container has settings of its own.
        RuntimeError: The application has already served a request.
    """
    check_instrumented(app, "a Starlette or FastAPI application", "build_middleware_stack", "router")
    if app.middleware_stack is not None:
        raise RuntimeError(
            "instrument() comes too late: the application has served already. Call it after making it."
        )
    read_env_file(source, env_file)
    RequestMiddleware(app, source, **options)  # raises here and now if the arguments are wrong
    build = app.build_middleware_stack
    app.build_middleware_stack = lambda: RequestMiddleware(build(), source, **options)  # type: ignore[method-assign]
    app.router.lifespan_context = lifespan(source, app.router.lifespan_context, around=around)
