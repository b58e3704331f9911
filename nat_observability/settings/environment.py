"""What is wrong with the environment itself: quotation marks around a value, and one name in two spellings."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping


def quoted(variables: Mapping[str, str | None]) -> Iterator[str]:
    """Yield a sentence for each variable whose value has quotation marks around it, as a shell would have removed."""
    for name, value in variables.items():
        if value and len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]:
            yield (
                f"{name.upper()} begins and ends with a quotation mark, which is part of the value: "
                "the env files of Docker are not read by a shell."
            )


def written_twice(prefix: str) -> Iterator[str]:
    """Yield a sentence for each variable that the environment has twice, in upper and lower case, with two values."""
    found: dict[str, tuple[str, str]] = {}
    for name, value in os.environ.items():
        if name.lower().startswith(prefix) and value:
            other, before = found.setdefault(name.lower(), (name, value))
            if before != value:
                first, second = sorted((other, name))
                yield f"{first} and {second} are one setting with two values; allowed: one of them."
