"""Versions of frameworks: which ones an integration works with."""

from __future__ import annotations

import re
from importlib.metadata import version

from nat_observability.errors import UnsupportedVersionError


def check_version(package: str, *, at_least: str, below: str) -> None:
    """
    Check the installed version of a framework's distribution.

    Args:
        package: The distribution's name on PyPI.
        at_least: The first supported version.
        below: The first version that is no longer supported.

    Raises:
        UnsupportedVersionError: An ImportError; another version is installed.
    """
    found = version(package)
    if not _release(at_least) <= _release(found) < _release(below):
        raise UnsupportedVersionError(package, found, f">={at_least},<{below}")


def _release(text: str) -> tuple[int, ...]:
    # Trailing zeros mean nothing (PEP 440): 1.0 is 1. Suffixes (rc1, .dev3) are ignored.
    match = re.match(r"(?:\d+!)?v?(\d+(?:\.\d+)*)", text)
    numbers = [int(each) for each in match[1].split(".")] if match else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)
