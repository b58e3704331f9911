"""route_template(): the route that a request took, as its framework left it in the scope."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from nat_observability.integrations.asgi.types import Scope

_REST = "/{path}"
"""Stands for what a mounted application that is not known gets: there are as many of those as callers invent."""


def route_template(scope: Scope, path: str) -> str | None:
    """
    Return the template of the path (`/items/{id}`), the templates of mounts included; None if no route matched.

    It never holds what a caller has sent. Starlette and FastAPI leave the route in the scope, Litestar its template;
    older versions of Starlette leave the endpoint. The way through mounts is looked up in the routes themselves: from
    the path alone, a parameter cannot be told from a literal of the same text.

    Args:
        scope: As the application has left it.
        path: The request's, before the application.
    """
    own: str | None = None
    if isinstance(litestar := scope.get("path_template"), str):
        handler = scope.get("route_handler")
        own = _litestar_mount(scope, handler, path) if getattr(handler, "is_mount", False) else litestar
        if "router" not in scope and "route" not in scope:
            return own
    template = _starlette_template(scope)
    if own is not None:  # an application mounted in one of Litestar
        return own.rstrip("/") + (template or _REST)
    return template


def _litestar_mount(scope: Scope, handler: Any, path: str) -> str | None:
    """Return where an application is mounted in one of Litestar, whose own template is that of its root then."""
    app = scope.get("litestar_app") or scope.get("app")
    path = f"{path.removeprefix(scope.get('root_path', '')).rstrip('/')}/"
    found = [
        route.path
        for route in getattr(app, "routes", ())
        if getattr(route, "route_handler", None) is handler and path.startswith(f"{route.path.rstrip('/')}/")
    ]
    return max(found, key=len, default=None)


class _Taken(NamedTuple):
    """
    The way through mounts.

    `routes` are those that the last mount leads to, `rest` the path that they match; `mount` is that mount, None if
    there was none.
    """

    prefix: str
    routes: Iterable[Any]
    rest: str
    mount: Any = None
    complete: bool = True


def _starlette_template(scope: Scope) -> str | None:
    taken = _way_through_mounts(scope)
    if not taken.complete:
        return taken.prefix + _REST
    route = scope.get("route")
    if route is None:
        return _by_endpoint(scope, taken)
    if hasattr(
        route, "effective_route_contexts"
    ):  # FastAPI: an included router, which a request went through
        effective = _effective(scope)
        route = getattr(effective, "starlette_route", None) or effective
        if route is None:
            return None
    elif (effective := _effective(scope)) is not None and route is getattr(effective, "original_route", None):
        # The route has the path inside its router, and this is the whole path.
        route = effective
    if hasattr(route, "routes"):  # a mount, below which no route matched, or whose application has none
        return taken.prefix + _REST if taken.mount is not None else None
    path = getattr(route, "path_format", None) or getattr(route, "path", None)
    return taken.prefix + path if isinstance(path, str) else None


def _effective(scope: Scope) -> Any:
    """Return what FastAPI knows about a route of an included router; None for any other route."""
    fastapi = scope.get("fastapi")
    return fastapi.get("effective_route_context") if isinstance(fastapi, Mapping) else None


def _way_through_mounts(scope: Scope) -> _Taken:
    router, root_path = scope.get("router"), scope.get("root_path", "")
    routes = getattr(router, "routes", ())
    outer = scope.get("app_root_path")
    path: str = scope["path"]
    if outer is None:
        return _Taken("", routes, path.removeprefix(root_path) if root_path else path)
    path = path.removeprefix(outer)
    return _through("", routes, path, root_path[len(outer) :])


def _through(prefix: str, routes: Iterable[Any], path: str, mounted: str) -> _Taken:
    """Follow `mounted`, the part of the path that mounts have taken, through the routes."""
    mount: Any = None
    while mounted:
        for route in _flat(routes):
            if getattr(route, "host_regex", None) is not None:
                taken = _through(prefix, route.routes, path, mounted)
                if taken.complete:
                    return taken
                continue
            if not (hasattr(route, "routes") and hasattr(route, "path_regex")):
                continue
            match = route.path_regex.match(path)
            if match is None:
                continue
            # As Starlette does it: the first mount that matches is the one that the request went through.
            rest = "/" + match["path"]
            own = path[: -len(rest)]
            if not mounted.startswith(own):
                continue
            prefix += route.path_format.removesuffix("/{path}")
            mount, routes, path, mounted = route, route.routes, rest, mounted[len(own) :]
            break
        else:
            return _Taken(prefix, (), path, mount, complete=False)
    return _Taken(prefix, routes, path, mount)


def _flat(routes: Iterable[Any]) -> Iterator[Any]:
    """Return the routes in their order, those of FastAPI's included routers with their whole paths."""
    for route in routes:
        contexts = getattr(route, "effective_route_contexts", None)
        if contexts is None:
            yield route
        else:
            for context in contexts():
                yield getattr(context, "starlette_route", None) or context


def _by_endpoint(scope: Scope, taken: _Taken) -> str | None:
    endpoint = scope.get("endpoint")
    if endpoint is None:
        return None
    if taken.mount is not None and endpoint is getattr(taken.mount, "app", None):
        return taken.prefix + _REST
    for route in _flat(taken.routes):
        regex: re.Pattern[str] | None = getattr(route, "path_regex", None)
        if getattr(route, "endpoint", None) is endpoint and regex is not None and regex.match(taken.rest):
            path: str = route.path_format
            return taken.prefix + path
    return None
