"""The settings as text: a description of every variable, the example env file, and the rows of a safe listing."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_origin
from urllib.parse import quote

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from nat_observability.settings.exporters import BUILT_IN, ExporterSettings, PresetExporterSettings
from nat_observability.settings.observability import ObservabilitySettings
from nat_observability.settings.presets import PRESETS, Preset
from nat_observability.settings.processing import ProcessingSettings
from nat_observability.settings.variables import DELIMITER, EXPORTERS, allowed, bare, is_pairs, variable

_HEADER = """\
# Settings of nat_observability: an example that works. Generated from the model; do not edit.
# The lines without a '#' keep runs in an SQLite file (STORE) and append them to a JSON Lines file (LOG).
# Every other setting is here with its default, but for the keys, which are made up. An exporter's name, such as
# STORE, is yours to choose. What is set for the process about redaction, content, limits, sampling and tags can be
# set for one exporter too, as in NAT_OBSERVABILITY_EXPORTERS__LOG__REDACT_PERSONAL=email.
"""

_SECTIONS: tuple[tuple[str, str, bool, dict[str, str]], ...] = (
    ("STORE", "sqlite", True, {"type": "sqlite", "path": "var/demo.sqlite3"}),
    ("LOG", "file", True, {"type": "file", "path": "var/demo.jsonl"}),
    ("COLLECTOR", "otlp", False, {}),
    ("PHOENIX", "phoenix", False, {}),
    ("LANGFUSE", "langfuse", False, {"public_key": "pk-lf-0123", "secret_key": "sk-lf-0123"}),
    ("TERMINAL", "console", False, {}),
    ("RECENT", "memory", False, {}),
    ("METRICS", "metrics", False, {}),
)
"""The exporters of the example: name, type, whether it is active, and the settings that are not defaults."""

_COMMENT = textwrap.TextWrapper(
    110, initial_indent="# ", subsequent_indent="# ", break_long_words=False, break_on_hyphens=False
)


@dataclass(frozen=True, slots=True)
class Variable:
    """
    One variable. In the name of an exporter's variable, `<NAME>` stands for the exporter's name.

    `default` is written as in an env file, and empty if there is none; `allowed` describes the values that it takes,
    and `description` gives the unit. `exporter_type` is None for a variable of the process.
    """

    name: str
    type: str
    default: str
    description: str
    allowed: str
    exporter_type: str | None = None


def describe_variables() -> list[Variable]:
    """Return every variable: those of the process, then those of each built-in exporter type."""
    process = _variables(ObservabilitySettings, (), None)
    return [
        *process,
        *(v for kind, model in BUILT_IN.items() for v in _variables(model, (EXPORTERS, "<name>"), kind)),
    ]


def example_env() -> str:
    """Return the text of `settings.example.env`: a working configuration, with every other setting commented out."""
    lines = [
        _HEADER,
        *_lines(_variables(ObservabilitySettings, (), None), {variable("service_name"): "demo"}, active=True),
    ]
    for name, kind, active, settings in _SECTIONS:
        variables = [
            each
            for each in _variables(BUILT_IN[kind], (EXPORTERS, name), kind)
            if (key := each.name.rpartition(DELIMITER)[2].lower()) not in ProcessingSettings.model_fields
            or key in BUILT_IN[kind].__annotations__
        ]
        values = {variable(EXPORTERS, name, key): value for key, value in settings.items()}
        lines += [f"# --- Exporter {name}, of type {kind} ---\n", *_lines(variables, values, active=active)]
    for kind, row in PRESETS.items():
        lines += _preset_lines(kind, row)
    return "\n".join(lines)


def _preset_lines(kind: str, row: Preset) -> Iterator[str]:
    """The lines of one preset, without the settings that it shares with the other exporters that send."""
    yield f"# --- Exporter {kind.upper()}: {row.maker}; its other settings are as those of COLLECTOR ---\n"
    made_up = {"endpoint": row.endpoint_form or "", "api_key": "key-0123", "project": "7", "account": "acme"}
    own = [name for name in PresetExporterSettings.__annotations__ if name != "type"]
    shown = {
        "project": f"Here {row.project_is}.",
        "account": f"Here {row.account_is}." if row.account_is else "",
    }
    variables = {each.name: each for each in _variables(PresetExporterSettings, (EXPORTERS, kind), kind)}
    values = {variable(EXPORTERS, kind, "type"): kind}
    values.update({variable(EXPORTERS, kind, name): made_up[name] for name in row.required})
    wanted = [
        each
        for name in ("type", *own)
        if name != "account" or row.account_is
        for each in (variables[variable(EXPORTERS, kind, name)],)
    ]
    wanted = [
        replace(each, description=f"{each.description} {shown.get(name, '')}".strip())
        for each in wanted
        for name in (each.name.rpartition(DELIMITER)[2].lower(),)
    ]
    yield from _lines(wanted, values, active=False)


def setting_rows(settings: ObservabilitySettings) -> list[tuple[str, str]]:
    """Return the current settings as variables and values, with secrets as asterisks."""
    process = {key: value for key, value in settings if key != EXPORTERS}
    rows = list(_rows((), process))
    for name, entry in settings.exporters.items():
        rows += _rows((EXPORTERS, name), {key: value for key, value in entry})  # noqa: C416  it may have `keys`
    return rows


def _variables(model: type[BaseModel], path: Sequence[str], exporter_type: str | None) -> list[Variable]:
    return [
        Variable(
            variable(*path, key),
            _type(field),
            (exporter_type if key == "type" and exporter_type in PRESETS else "") or ""
            if field.is_required()
            else _text(field.get_default(call_default_factory=True, validated_data={"type": exporter_type})),
            field.description or "",
            allowed(field),
            exporter_type,
        )
        for key, field in sorted(model.model_fields.items(), key=lambda item: _place(model, item[0]))
    ]


def _place(model: type[BaseModel], key: str) -> tuple[int, int]:
    """The position of a setting in the list: what the type declares, in its order, what some have, what all have."""
    own = list(model.__annotations__)
    if key != "type" and key in ExporterSettings.model_fields:
        return 2, 0
    return (0, own.index(key)) if key in own else (1, 0)


def _type(field: FieldInfo) -> str:
    kind, _ = bare(field)
    if get_origin(kind) is Literal:
        return "choice"
    if get_origin(kind) is dict:
        return "pairs" if is_pairs(kind) else "object"
    if get_origin(kind) is tuple:
        return "list"
    if kind == str | SecretStr:
        return "URL"
    names: dict[object, str] = {
        bool: "switch",
        int: "whole number",
        float: "number",
        str: "text",
        SecretStr: "secret",
    }
    return names.get(kind, "path")


def _lines(variables: Sequence[Variable], values: Mapping[str, str], *, active: bool) -> Iterator[str]:
    for each in variables:
        value = values.get(each.name)
        default = f" Default: {each.default}." if value and each.default not in ("", value) else ""
        yield _COMMENT.fill(f"{each.description} Allowed: {each.allowed}.{default}")
        yield f"{'' if active and value else '#'}{each.name}={value or each.default}\n"


def _rows(path: Sequence[str], values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if path and isinstance(value, Mapping):
            yield from _rows((*path, key), value)
        else:
            yield variable(*path, key), _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return ",".join(f"{quote(str(key))}={quote(str(inner))}" for key, inner in value.items())
    if isinstance(value, tuple):
        return ",".join(value)
    return "" if value is None else str(value)
