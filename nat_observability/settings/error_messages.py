"""The words of settings' errors: one line per problem, with the variable's name, what is wrong and what is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from nat_observability.settings.exporters.models import TAGS_OF_SEVERAL
from nat_observability.settings.variables import (
    DELIMITER,
    EXPORTERS,
    PAIRS,
    PREFIX,
    allowed,
    nearest,
    setting_meant,
    variable,
)

_MOST_LISTED = 400
"""Characters of the names that are listed, where none is close to what was written."""

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
    "string_type": "is not text",
    "string_too_short": "is empty",
    "too_short": "is empty",
    "path_type": "is not a path",
}


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
    # Neither pydantic's messages nor values of the input are used: both may be secret.
    details = error.errors(include_url=False)
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
        needed = context["sibling"]
        of_maker = _unused(detail["input"], needed)
        return f"{variable(*path, context['of'])} needs {variable(*path, needed)}: set it too{of_maker}."
    if detail["type"] == "extra_forbidden":
        known = [
            variable(*path[:-1], key) for key in sorted(model.model_fields, key=lambda key: key != "type")
        ]
        inner = detail["input"] if isinstance(detail["input"], Mapping) else ()
        for key in inner:  # with two underscores inside of the setting's name
            if f"{path[-1]}_{key}" in model.model_fields:
                whole = variable(*path[:-1], f"{path[-1]}_{key}")
                return f"{variable(*path, key)} is not a setting. Did you mean {whole}?"
        types = [tag for tag, other in entries.items() if depth and path[-1] in other.model_fields]
        types = [each for each in types if each not in TAGS_OF_SEVERAL]
        if types:
            return f"{name} is a setting of exporters of the type {' or '.join(types)}, and this one is of another."
        if not depth and path[-1] in (others := _settings_of(entries)):
            return f"{name} is not a setting. Did you mean {setting_meant(str(path[-1]), others)}?"
        near = nearest(name, known, below=variable(*path[:-1], ""))
        return f"{name} is not a setting.{near or f' Known there: {_listed(known)}.'}"
    if len(path) == depth:
        if meant := setting_meant(str(path[-1]), _settings_of(entries)):
            return f"{name} is not a group of settings. Did you mean {meant}?"
        return (
            f"{name} is not a group of settings; allowed: a JSON object, or variables such as {name}__TYPE."
        )
    may_be = allowed(model.model_fields[str(path[depth])])
    wrong = _WRONG.get(detail["type"], "is not valid")
    if detail["type"] == "dict_type":
        wrong = "holds a member that is not key=value" if may_be == PAIRS else "is not a JSON object"
    of_maker = _unused(detail["input"], path[-1]) if detail["type"] == "missing" else ""
    return f"{name} {wrong}; allowed: {may_be}{of_maker}."


def _listed(names: Sequence[str]) -> str:
    """Return the last parts of names, as many as are read in a terminal."""
    ends = [each.removeprefix(PREFIX).rpartition(DELIMITER)[2] for each in names]
    shown = list(ends)
    while len(", ".join(shown)) > _MOST_LISTED:
        shown.pop()
    more = len(ends) - len(shown)
    listed = ", ".join(shown)
    return (
        f"{listed}, and {more} more, which `nat-observability settings --example` lists" if more else listed
    )


def _unused(entry: object, setting: object) -> str:
    """Return what is to be added if a maker's variable holds the key that is missing, and is for another address."""
    # Read only for what is wrong: the table of the makers' variables takes its time.
    from nat_observability.settings.standard_variables.makers import maker_variable

    name = maker_variable(entry.get("type"), setting) if isinstance(entry, Mapping) else None
    return "" if name is None else f" ({name} is for the maker's own address, and not for one of ours)"


def _settings_of(entries: Mapping[str, type[BaseModel]]) -> set[str]:
    return {key for each in entries.values() for key in each.model_fields}


def option_problems(error: ValidationError, exporter: str) -> list[str]:
    """Return one line per problem in a custom type's own settings, without any of their values."""
    details = error.errors(include_url=False, include_input=False, include_context=False)
    return [
        f"{variable(EXPORTERS, exporter, *detail['loc'])} {_WRONG.get(detail['type'], 'is not valid')}."
        for detail in details
    ]
