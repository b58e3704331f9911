"""Where settings come from: the environment, an env file, secret files and the standard variables, as one source."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource

from nat_observability.errors import SettingsError, SettingsWarning
from nat_observability.settings.standard_otlp import otlp_defaults, parse_headers
from nat_observability.settings.standard_processing import processing_defaults
from nat_observability.settings.standard_variables import SERVICE_NAME, StandardVariables, parse_pairs
from nat_observability.settings.variables import DELIMITER, EXPORTERS, PREFIX, nearest, variable

_OURS = PREFIX.lower()
_ATTRIBUTES = "resource_attributes"
_PATTERNS = "redact_patterns"
_PARTS: Mapping[str, Callable[[str], dict[str, str]]] = {"headers": parse_headers, _PATTERNS: parse_pairs}
"""What is pairs in one variable or several variables, and how the pairs are read."""


class VariablesSource(EnvSettingsSource):
    """
    Every variable as one source, so that they merge by name wherever each of them was set.

    pydantic-settings' own sources would not do: they decode whatever parses as JSON, which makes a number of a
    token of digits; which of a JSON object and the variables inside it wins depends on their order in the
    environment; and the nested secrets source reads every file of its directory, those of others too.

    Args:
        settings_cls: The settings that they are for.
        variables: The environment over the env file: names in lower case, without empty values.
    """

    def __init__(self, settings_cls: type[BaseSettings], variables: Mapping[str, str | None]) -> None:
        super().__init__(settings_cls)
        self._variables = variables

    def __call__(self) -> dict[str, Any]:
        given, standard = self.current_state, StandardVariables.read(self._variables)
        directory = given.get("secrets_dir") or self._variables.get(f"{_OURS}secrets_dir")
        secrets = _secrets(directory) if directory and isinstance(directory, str | Path) else {}
        variables = {**secrets, **self._variables}
        # In order of their names a JSON object comes before the variables inside it, which then change it.
        ours = {name: value for name, value in sorted(variables.items()) if name.startswith(_OURS)}
        self.env_vars = _mergeable({name: value for name, value in ours.items() if self._is_known(name)})
        unknown = [name.upper() for name in ours if name not in self.env_vars]
        notes = [f"{name} is not a setting.{nearest(name, self._candidates(name))}" for name in unknown]
        found, ignored = _completed(super().__call__(), given, standard, self._variables)
        for note in (*notes, *standard.ignored, *ignored):
            # 5: this function, two of pydantic-settings, the constructor of the settings, its caller.
            warnings.warn(f"{note} It is ignored.", SettingsWarning, stacklevel=5)
        return found

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Decode JSON objects and arrays, and lists of attributes; what does not parse is left for validation."""
        try:
            if str(value).lstrip().startswith(("{", "[")):
                return json.loads(value)
            is_attributes = field is self.settings_cls.model_fields[_ATTRIBUTES]
            return parse_pairs(value) if is_attributes else value
        except (ValueError, RecursionError):
            return value

    def _is_known(self, name: str) -> bool:
        head, nested, _ = name.removeprefix(_OURS).partition(DELIMITER)
        return head in self.settings_cls.model_fields and (not nested or head in (EXPORTERS, _PATTERNS))

    def _candidates(self, name: str) -> list[str]:
        bare = name.removeprefix(PREFIX)
        # With a misspelt first level, and with one underscore between levels instead of two.
        nested = (bare.split(DELIMITER)[1:], bare.split("_", 2)[1:])
        return [
            *map(variable, self.settings_cls.model_fields),
            *(variable(EXPORTERS, *n) for n in nested if n),
        ]


def _secrets(directory: str | Path) -> dict[str, str]:
    try:
        files = [path for path in sorted(Path(directory).expanduser().iterdir()) if path.is_file()]
        ours = [path for path in files if path.name.lower().startswith(_OURS)]
        texts = {path.name.lower(): path.read_text("utf-8").strip() for path in ours}
    except (OSError, RuntimeError):
        problem = "cannot be read"
    except UnicodeDecodeError:
        problem = "holds a secret that is not UTF-8 text"
    else:
        return {name: text for name, text in texts.items() if text}
    # Outside the handlers: the error holds what was read, and would travel along as the context.
    name = variable("secrets_dir")
    raise SettingsError([f"{name} {problem}; allowed: a directory of text files, or nothing."])


def _mergeable(ours: dict[str, str | None]) -> dict[str, str | None]:
    """
    Return `ours` with headers and patterns as a JSON object where some are pairs and others variables of their own.

    As text they would not merge with the others, which would be lost without a word.
    """
    for name, value in ours.items():
        # At exporters, its name, headers, or that of the process: a header's own variable is one below.
        *path, last = name.removeprefix(_OURS).split(DELIMITER)
        nested = len(path) in (0, 2) and any(other.startswith(f"{name}{DELIMITER}") for other in ours)
        if nested and last in _PARTS and not str(value).lstrip().startswith("{"):
            with suppress(ValueError):  # validation says what is wrong with it
                ours = {**ours, name: json.dumps(_PARTS[last](str(value)))}
    return ours


def _completed(
    found: dict[str, Any],
    given: Mapping[str, Any],
    standard: StandardVariables,
    variables: Mapping[str, str | None],
) -> tuple[dict[str, Any], Iterable[str]]:
    """
    Add to `found` what the standard variables say about what neither it nor the arguments (`given`) set.

    Returns:
        That, and a sentence for each standard variable of exporters, limits or sampling that is left out.
    """
    ignored: dict[str, None] = {}  # each once, in order
    if standard.disabled:
        found.setdefault("enabled", False)

    attributes = {**_dict(found.get(_ATTRIBUTES)), **_dict(given.get(_ATTRIBUTES))}
    fallback = standard.service_name or standard.resource_attributes.get(SERVICE_NAME)
    if name := attributes.get(SERVICE_NAME) or fallback:
        found.setdefault("service_name", name)
    ours = found.get(_ATTRIBUTES, {})
    if isinstance(ours, dict):
        found[_ATTRIBUTES] = {**standard.resource_attributes, **ours}

    processing, wrong = processing_defaults(variables, {**found, **given})
    found.update(processing)
    ignored.update(dict.fromkeys(wrong))

    arguments, entries = _dict(given.get(EXPORTERS)), found.get(EXPORTERS, {})
    if isinstance(entries, dict):
        for exporter, entry in {**arguments, **entries}.items():
            if isinstance(entry, dict):
                mine = _dict(entries.get(exporter))
                both = {**mine, **_dict(arguments.get(exporter))}
                defaults, wrong = standard.exporter(exporter, both)
                ignored.update(dict.fromkeys(wrong))
                if both.get("type") == "otlp":
                    more, wrong = otlp_defaults(variables, both)
                    defaults.update(more)
                    ignored.update(dict.fromkeys(wrong))
                entries[exporter] = {**defaults, **mine}
        found[EXPORTERS] = entries
    return found, ignored


def _dict(value: object) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}
