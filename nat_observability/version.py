"""The version of the installed package; importing this reads files."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def package_version() -> str:
    """Return the version; empty if the package was not installed."""
    try:
        return version("nat-observability")
    except PackageNotFoundError:
        return ""


__version__ = package_version()
