"""The version of the installed package."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def package_version() -> str:
    """Return the version; empty if the package was not installed. It reads files."""
    try:
        return version("nat-observability")
    except PackageNotFoundError:
        return ""
