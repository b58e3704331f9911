"""own_methods(): which classes print themselves, and how a repr masks a secret."""

from __future__ import annotations

import functools
import re
import types
from collections.abc import Iterable
from typing import Any

from nat_observability.foreign_errors import reraise_signal

# What a repr shows in the place of a secret.
MASK = re.compile(r"\*{3}|[\u2022\u25cf\u25cb\u2588]{3}|(?i:<hidden>|redacted|\[secure\]|<secret>)")
# Whose reprs show all fields, and are not worth a call.
_PLAIN_REPRS = (
    "builtins",
    "collections",
    "dataclasses",
    "enum",
    "msgspec",
    "os",
    "pydantic",
    "types",
    "typing",
    "weakref",
    "_collections_abc",
)


def _own_method(kind: type, name: str) -> object | None:
    """Return a class's own `__repr__` or `__str__`, None if it is that of the standard library or of a generator."""
    for base in kind.__mro__:
        method = base.__dict__.get(name)
        if method is None:
            continue
        if base is object or not isinstance(method, types.FunctionType):
            return None
        code = getattr(method, "__wrapped__", method).__code__
        module = method.__globals__.get("__name__", "")
        if module == "reprlib":
            module = method.__module__  # of what `recursive_repr` is around
        if code.co_filename.startswith("<") or str(module).partition(".")[0] in _PLAIN_REPRS:
            return None
        return method
    return None


def masks_more(shown: str, items: Iterable[object]) -> bool:
    """Return whether a container's repr masks anything that its items show in their own."""
    held = list(items)
    if not held:
        return True
    try:
        inside = repr(held)
    except BaseException as error:  # noqa: BLE001  foreign code
        reraise_signal(error)
        return True
    return len(MASK.findall(shown)) > len(MASK.findall(inside))


def own_methods(kind: Any) -> tuple[str, ...]:
    """Return which of `__repr__` and `__str__` are a class's own."""
    try:
        return _methods_of(kind)
    except BaseException as error:  # noqa: BLE001  foreign code: a metaclass without a hash, or whose own raises
        reraise_signal(error)
        return tuple([name for name in ("__repr__", "__str__") if _own_method(kind, name) is not None])


@functools.lru_cache(maxsize=2048)
def _methods_of(kind: Any) -> tuple[str, ...]:
    return tuple([name for name in ("__repr__", "__str__") if _own_method(kind, name) is not None])
