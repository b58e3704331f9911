"""Paths: which requests match a set of paths and path prefixes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nat_observability.integrations.asgi.types import Scope


class Paths:
    """
    Paths of an application, below its root path: `/health` matches itself, `/static/*` whatever begins with `/static/`.

    Raises:
        ValueError: One of them is not a path; the message names `option`.
    """

    __slots__ = ("_exact", "_prefixes")

    def __init__(self, option: str, paths: Iterable[str]) -> None:
        listed: list[Any] = [paths] if isinstance(paths, str) else list(paths)
        for path in listed:
            if not isinstance(path, str) or not path.startswith("/") or "*" in path[:-1]:
                raise ValueError(
                    f"{option}: {path!r} is not a path. Write it with its first slash, and for all that begins alike "
                    "with an asterisk at its end: '/health', '/static/*'."
                )
        self._exact = frozenset(path for path in listed if not path.endswith("*"))
        self._prefixes = tuple(path[:-1] for path in listed if path.endswith("*"))

    def hold(self, scope: Scope) -> bool:
        """Whether a request matches one of them."""
        if not self._exact and not self._prefixes:
            return False
        path: str = scope["path"]
        if root_path := scope.get("root_path", ""):
            path = path.removeprefix(root_path)
        return path in self._exact or path.startswith(self._prefixes)
