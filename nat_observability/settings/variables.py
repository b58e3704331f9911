"""The variables that settings come from: their names, the values they take, and the words for what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

PREFIX = "NAT_OBSERVABILITY_"
DELIMITER = "__"
EXPORTERS = "exporters"

PAIRS = "name=value pairs with commas between them, percent-encoded where they hold a comma or a percent sign"


class Allowed(msgspec.Struct, frozen=True):
    """States, in the annotation of a setting that a function checks, which values it takes."""

    words: str


_WRONG = {
    "missing": "is not set",
    "int_type": "is not a whole number",
    "int_parsing": "is not a whole number",
    "int_from_float": "is not a whole number",
    "int_parsing_size": "is too large",
    "float_type": "is not a number",
    "float_parsing": "is not a number",
    "finite_number": "is not a finite number",
    "bool_type": "is neither true nor false",
    "bool_parsing": "is neither true nor false",
    "greater_than": "is too small",
    "greater_than_equal": "is too small",
    "less_than_equal": "is too large",
    "dict_type": "is not what it has to be",
    "string_type": "is not text",
    "string_too_short": "is empty",
    "too_short": "is empty",
    "path_type": "is not a path",
}


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


def problems(
    error: ValidationError, settings: type[BaseModel], entries: Mapping[str, type[BaseModel]]
) -> list[str]:
    """
    Return one line per problem of a failed validation.

    Args:
        error: The error of the failed validation.
        settings: The model that did not validate.
        entries: The tag of each member of the union of exporters, and its model.
    """
    # Neither pydantic's messages nor the input are used: both may hold the value.
    details = error.errors(include_url=False, include_input=False)
    # A default that depends on a wrong value is wrong only because of it.
    return [
        _problem(detail, settings, entries)
        for detail in details
        if detail["type"] != "default_factory_not_called"
    ]


def _problem(detail: ErrorDetails, settings: type[BaseModel], entries: Mapping[str, type[BaseModel]]) -> str:
    path, model, depth = list(detail["loc"]), settings, 0
    if path[:1] == [EXPORTERS]:
        # After the exporter's name, pydantic puts the tag of the union's member, which is not part of the variable.
        depth, model = (2, entries[str(path.pop(2))]) if len(path) > 2 else (0, settings)
    name, context = variable(*path) if path else "The whole", detail.get("ctx", {})
    if "error" in context:
        return f"{name} {context['error']}."
    if detail["type"] == "unusable":
        return f"{name} {context['problem']}; allowed: {allowed(model.model_fields[str(path[depth])])}."
    if detail["type"] == "above_sibling":
        return f"{name} is above {variable(*path[:-1], context['sibling'])}: lower it, or raise the other."
    if detail["type"] == "missing_sibling":
        return f"{variable(*path, context['of'])} needs {variable(*path, context['sibling'])}: set it too."
    if detail["type"] == "extra_forbidden":
        known = [
            variable(*path[:-1], key) for key in sorted(model.model_fields, key=lambda key: key != "type")
        ]
        near = nearest(name, known, below=variable(*path[:-1], ""))
        ends = ", ".join(each.rpartition(DELIMITER)[2] for each in known)
        return f"{name} is not a setting.{near or f' Known there: {ends}.'}"
    if len(path) == depth:
        return (
            f"{name} is not a group of settings; allowed: a JSON object, or variables such as {name}__TYPE."
        )
    wrong = _WRONG.get(detail["type"], "is not valid")
    return f"{name} {wrong}; allowed: {allowed(model.model_fields[str(path[depth])])}."


def option_problems(error: ValidationError, exporter: str) -> list[str]:
    """Return one line per problem in a custom type's own settings, without any of their values."""
    details = error.errors(include_url=False, include_input=False, include_context=False)
    return [
        f"{variable(EXPORTERS, exporter, *detail['loc'])} {_WRONG.get(detail['type'], 'is not valid')}."
        for detail in details
    ]


_COMMENT = re.compile(r"\s#\s")
_REFERENCE = re.compile(r"\$[A-Za-z_{(]")


def left_to_a_shell(variables: Mapping[str, str | None]) -> Iterator[str]:
    """Yield a sentence for each variable whose value has what a shell would have removed or replaced."""
    for name, value in variables.items():
        if not value:
            continue
        if len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]:
            has, of_it = "begins and ends with a quotation mark", "which is part of the value"
        elif _COMMENT.search(value) and value[0] not in "{[" and "pattern" not in name:
            has, of_it = "has a comment behind its value", "which is part of it"
        elif name.endswith("path") and _REFERENCE.search(value):
            has, of_it = "names another variable", "which is not replaced by its value"
        else:
            continue
        yield f"{name.upper()} {has}, {of_it}: the env files of Docker are not read by a shell."
