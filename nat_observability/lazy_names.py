"""lazily(): the names that a package exports, each imported from its module when it is first asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module


def lazily(
    package: str, homes: Mapping[str, Iterable[str]], *, modules: Iterable[str] = ()
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """
    Return what a package has as its `__getattr__` and its `__dir__`.

    Of several threads that ask for a name at once, each gets it when its module is complete.

    Args:
        package: The package's full name.
        homes: The names by the full name of the module in which they are.
        modules: Modules of the package that are imported too when they are asked for as its attributes.
    """
    home_of = {name: home for home, names in homes.items() for name in names}
    known = frozenset(modules)

    def get(name: str) -> object:
        if name in known:
            return import_module(f"{package}.{name}")
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(import_module(home_of[name]), name)
        setattr(sys.modules[package], name, found)  # it is not asked for again
        return found

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *home_of, *known})

    return get, names
