"""The variables that settings come from: their names, and the values they take."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from pydantic import SecretStr
from pydantic.fields import FieldInfo

PREFIX = "NAT_OBSERVABILITY_"
DELIMITER = "__"
EXPORTERS = "exporters"
PATTERNS = "redact_patterns"
NAME = re.compile(r"[\w.-]{1,200}")
"""A name that may be shown: a line of a file that is not `NAME=value` counts as one, with what is secret in it."""

PAIRS = "name=value pairs with commas between them, percent-encoded where they hold a comma or a percent sign"


class Allowed(msgspec.Struct, frozen=True):
    """States, in the annotation of a setting that a function checks, which values it takes."""

    words: str


def variable(*path: object) -> str:
    """Return the full name of the variable that sets the value at this path of the settings."""
    return PREFIX + DELIMITER.join(str(part) for part in path).upper()


def nearest(name: str, known: Iterable[str], *, below: str = PREFIX) -> str:
    """Return ` Did you mean NAME?` with the closest known variable; empty if none is close."""
    import difflib  # slow to import, and needed only for what is misspelt

    # The common beginning does not count: with it, every name would be close to every other.
    ends = [other.removeprefix(below) for other in known]
    match = difflib.get_close_matches(name.removeprefix(below), ends, n=1)
    return f" Did you mean {below}{match[0]}?" if match else ""


def setting_meant(text: str, settings: Iterable[str]) -> str | None:
    """
    Return the variable of an exporter's setting that is meant by what stands for both; None if it ends with none.

    Args:
        text: The exporter and its setting with one underscore between them, as in `main_queue_items`, or the setting.
        settings: The names of the settings that exporters have.
    """
    lower = text.lower()
    ends = [each for each in settings if lower == each or lower.endswith(f"_{each}")]
    if not ends:
        return None
    end = max(ends, key=len)
    return variable(EXPORTERS, lower.removesuffix(end).strip("_") or "main", end)


def corrected(name: str, *, alike: float) -> str | None:
    """
    Return the variable meant by a name with a misspelt prefix; None if its prefix is ours, or another one.

    Args:
        name: The name of any variable.
        alike: How similar the prefix has to be to ours, from 0 to 1.
    """
    upper = name.upper()
    if upper.startswith((PREFIX, "OTEL_")):
        return None
    import difflib

    matcher = difflib.SequenceMatcher(b=PREFIX, autojunk=False)
    best, rest = alike, ""
    for end in range(len(PREFIX) - 5, min(len(upper) - 1, len(PREFIX) + 4) + 1):
        matcher.set_seq1(upper[:end])
        if matcher.quick_ratio() >= best and (ratio := matcher.ratio()) >= best:
            # The longest of those that are equally close: an extra underscore belongs to the prefix.
            best, rest = ratio, upper[end:]
    _, exporters, entry = upper.partition(f"{EXPORTERS.upper()}{DELIMITER}")
    if exporters and not rest:
        rest = exporters + entry
    return f"{PREFIX}{rest.lstrip('_')}" if rest.lstrip("_") else None


def allowed(field: FieldInfo) -> str:
    """Return in words the values that a setting takes, from its annotation, its limits and its examples."""
    kind, metadata = bare(field)
    limits: dict[str, object] = {}
    for limit in metadata:
        if isinstance(limit, Allowed):
            return limit.words
        limits.update((key, getattr(limit, key)) for key in ("gt", "ge", "le") if hasattr(limit, key))
    if get_origin(kind) is Literal:
        return _either(get_args(kind))
    if kind is bool:
        return "true or false"
    if kind in (int, float):
        least = f"above {limits['gt']}" if "gt" in limits else f"from {limits['ge']}"
        return f"a {'whole ' if kind is int else ''}number {least} to {limits['le']}"
    if is_pairs(kind):
        return PAIRS
    if get_origin(kind) is tuple:
        listed = "names with commas between them"
        return listed + (f", such as {_either(field.examples)}" if field.examples else "")
    if get_origin(kind) is dict:
        return f"a JSON object, or variables such as {variable(EXPORTERS, 'main', 'type')}"
    such_as = f", such as {_either(field.examples)}" if field.examples else ""
    what = "a URL" if kind == str | SecretStr else "a path" if kind is Path else "text that is not empty"
    return what + such_as


def bare(field: FieldInfo) -> tuple[Any, list[Any]]:
    """Return a field's annotation without its optional part, and what restricts its values."""
    kind: Any = field.annotation
    metadata = list(field.metadata)
    if type(None) in (options := get_args(kind)):
        kind = Union[tuple(option for option in options if option is not type(None))]  # noqa: UP007
    if get_origin(kind) is Annotated:
        kind, *more = get_args(kind)
        for each in more:
            metadata += each.metadata if isinstance(each, FieldInfo) else [each]
    return kind, metadata


def is_pairs(kind: Any) -> bool:
    """Whether text of `name=value` pairs gives a value of this kind."""
    if get_origin(kind) is not dict:
        return False
    value = get_args(kind)[1]
    return value in (str, float, SecretStr) or get_args(value)[:1] in ((SecretStr,), (str,))


def _either(values: Sequence[object]) -> str:
    *first, last = map(str, values)
    return f"{', '.join(first)} or {last}" if first else last
