"""route_template(): the route that a request took, as its framework left it in the scope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nat_observability.integrations.asgi.types import Scope


def route_template(scope: Scope) -> str | None:
    """
    Return the template of the path (`/items/{id}`), the prefixes of mounts included; None if no route matched.

    Starlette and FastAPI leave the route in the scope, Litestar its template. If there are only the path's
    parameters, as with older versions of Starlette, they are put back into the path.
    """
    route = scope.get("route")
    if route is None:
        template = scope.get("path_template")  # Litestar
        if isinstance(template, str):
            return template
        return _with_names(scope["path"], scope.get("path_params")) if "endpoint" in scope else None
    path = getattr(route, "path", None)
    # FastAPI: an included router has a path of its own, and this is the whole path.
    fastapi = scope.get("fastapi")
    if isinstance(fastapi, Mapping) and (effective := fastapi.get("effective_route_context")) is not None:
        path = getattr(effective, "path_format", path)
    if not isinstance(path, str):
        return None
    if hasattr(route, "routes"):  # a mount, whose application has no routes: root_path has its prefix already
        path = "/{path}"
    prefix = _mounted(scope)
    return prefix + path if prefix else path


def _mounted(scope: Scope) -> str:
    """Return the prefixes of the mounts that the request went through, with the names of their parameters."""
    outer, root_path = scope.get("app_root_path"), scope.get("root_path", "")
    if outer is None or len(root_path) <= len(outer):
        return ""
    return _with_names(root_path[len(outer) :], scope.get("path_params"))


def _with_names(path: str, parameters: Mapping[str, Any] | None) -> str:
    if not parameters:
        return path
    names = {str(value): f"{{{name}}}" for name, value in parameters.items()}
    return "/".join([names.get(segment, segment) for segment in path.split("/")])
