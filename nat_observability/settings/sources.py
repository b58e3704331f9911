"""Where settings come from: the environment, an env file, secret files and the standard variables, as one source."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource

from nat_observability.errors import SettingsError, SettingsWarning
from nat_observability.resource import Resource
from nat_observability.settings.env_file import ENV_FILE
from nat_observability.settings.exporters.base import ExporterSettings
from nat_observability.settings.exporters.models import BUILT_IN, MODELS, PRESET_NAMES, AnyExporterSettings
from nat_observability.settings.likely_mistakes import left_to_a_shell
from nat_observability.settings.misspelt_variables import is_known, misspelt_in_file, unknown
from nat_observability.settings.standard_variables.opentelemetry import (
    CONFIG_FILES,
    SERVICE_NAME,
    StandardVariables,
    otlp_defaults,
    parse_headers,
    parse_pairs,
    processing_defaults,
)
from nat_observability.settings.standard_variables.process import ignored_variables, process_defaults
from nat_observability.settings.standard_variables.traces_exporter import exporters_of, misspelt
from nat_observability.settings.variables import (
    DELIMITER,
    EXPORTERS,
    PATTERNS,
    PREFIX,
    bare,
    is_pairs,
    variable,
)

if TYPE_CHECKING:
    from nat_observability.settings.standard_variables.configuration_file import Configuration

_OURS = PREFIX.lower()
_ATTRIBUTES = "resource_attributes"
_MAKERS = frozenset({"phoenix", "langfuse", *PRESET_NAMES})
"""The exporter types whose makers have variables of their own; their table is read only for these."""
_ENTRY = FieldInfo(annotation=AnyExporterSettings)
"""What one of the exporters is, whatever its name."""
_PARTS: Mapping[str, Callable[[str], dict[str, str]]] = {"headers": parse_headers, PATTERNS: parse_pairs}
"""Settings that are pairs, in one variable or several, and the parser for the pairs."""


class VariablesSource(EnvSettingsSource):
    """
    Every variable as one source, so that they merge by name, wherever each of them is set.

    pydantic-settings' own sources would not do: they decode whatever parses as JSON, which makes a number of a
    token of digits; which of a JSON object and the variables inside it wins depends on their order in the
    environment; and the nested secrets source reads every file of its directory, those of others too.

    Args:
        settings_cls: The class of the settings.
        variables: The environment over the env file: names in lower case, without empty values.
        env_file: The names of the variables in the env file.
    """

    def __init__(
        self,
        settings_cls: type[BaseSettings],
        variables: Mapping[str, str | None],
        env_file: Iterable[str] = (),
    ) -> None:
        super().__init__(settings_cls)
        self._variables = variables
        self._env_file = tuple(env_file)

    def __call__(self) -> dict[str, Any]:
        if twice := [*_written_twice(_OURS)]:
            raise SettingsError(twice)
        given, configuration = self.current_state, _configuration(self._variables)
        others = self._variables if configuration is None else _without_standard(self._variables)
        standard = StandardVariables.read(others)
        directory = given.get("secrets_dir") or self._variables.get(f"{_OURS}secrets_dir")
        secrets = _secrets(directory) if directory and isinstance(directory, str | Path) else {}
        variables = {**secrets, **self._variables}
        # Sorted by name, a JSON object comes before the variables inside it, which then change it.
        ours = {name: value for name, value in sorted(variables.items()) if name.startswith(_OURS)}
        known = {name: value for name, value in ours.items() if is_known(self.settings_cls, name)}
        self.env_vars = _mergeable(known)
        notes = [
            unknown(self.settings_cls, name)
            for name in ours
            if name not in self.env_vars and name.upper() != ENV_FILE
        ]
        notes += _hidden(self.settings_cls, known)
        notes += misspelt_in_file(self.settings_cls, self._env_file)
        notes += [] if configuration is None else _in_its_place(configuration, self._variables)
        found, ignored = _completed(super().__call__(), given, standard, others, configuration)
        for note in (*notes, *standard.ignored, *ignored):
            # 5: this function, two of pydantic-settings, the constructor of the settings, its caller.
            warnings.warn(f"{note} It is ignored.", SettingsWarning, stacklevel=5)
        # A selection is read without them.
        from_file = set(self._env_file) - {name.lower() for name in os.environ}
        for note in left_to_a_shell(
            {k: v for k, v in self.env_vars.items() if not k.endswith(f"{DELIMITER}select")}, from_file
        ):
            warnings.warn(note, SettingsWarning, stacklevel=5)
        return found

    def next_field(
        self, field: FieldInfo | Any | None, key: str, case_sensitive: bool | None = None
    ) -> FieldInfo | None:
        """Return the field of an exporter's setting too, from the models of those types that are configured."""
        annotation = field.annotation if isinstance(field, FieldInfo) else field
        if annotation == self.settings_cls.model_fields[EXPORTERS].annotation:
            return _ENTRY  # the key is a name; pydantic-settings before 2.13 looks for it among the settings
        if field is not _ENTRY and annotation != AnyExporterSettings:
            return super().next_field(field, key, case_sensitive)
        kinds = {value for name, value in self._variables.items() if name.endswith(f"{DELIMITER}type")}
        # Any other is asked last, for the types that the arguments or a JSON object give.
        for kind in ("", *(kind for kind in BUILT_IN if kind in kinds), *MODELS):
            model = MODELS[kind] if kind else ExporterSettings
            if (found := super().next_field(model, key, case_sensitive)) is not None:
                return found
        return None

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Decode JSON objects and arrays, and lists of attributes; what does not parse is left for validation."""
        try:
            if str(value).lstrip().startswith(("{", "[")):
                return json.loads(value)
            is_attributes = field is self.settings_cls.model_fields[_ATTRIBUTES]
            return parse_pairs(value) if is_attributes else value
        except (ValueError, RecursionError):
            return value


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


def _hidden(settings_cls: type[BaseSettings], ours: Mapping[str, str | None]) -> list[str]:
    """Return a sentence for each variable below one that is set to a value of its own, and is not made of pairs."""
    pairs = {name for name, field in settings_cls.model_fields.items() if is_pairs(bare(field)[0])}
    notes = []
    for name in ours:
        above = name.rpartition(DELIMITER)[0]
        value = str(ours.get(above) or "").lstrip()
        field = above.removeprefix(_OURS).rpartition(DELIMITER)[2]
        if value and field not in pairs and field not in _PARTS and not value.startswith("{"):
            notes.append(f"{name.upper()} is not a setting: {above.upper()} is a value, not a group.")
    return notes


def _written_twice(prefix: str) -> Iterator[str]:
    """Yield a sentence for each variable that the environment has twice, in upper and lower case, with two values."""
    found: dict[str, tuple[str, str]] = {}
    for name, value in os.environ.items():
        if name.lower().startswith(prefix) and value:
            other, before = found.setdefault(name.lower(), (name, value))
            if before != value:
                first, second = sorted((other, name))
                yield f"{first} and {second} are one setting with two values; allowed: one of them."


def _mergeable(ours: dict[str, str | None]) -> dict[str, str | None]:
    """
    Return `ours` with headers and patterns as a JSON object if some are pairs and others variables of their own.

    As text they would not merge with the others, which would be lost silently.
    """
    for name, value in ours.items():
        # Below exporters and the exporter's name, or at the process: a header's own variable is one level below.
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
    configuration: Configuration | None,
) -> tuple[dict[str, Any], Iterable[str]]:
    """
    Add to `found` what the standard variables say, unless it or the arguments (`given`) set the same.

    With a configuration file it is the file that says it, and the makers' variables beside it.

    Returns:
        The result, and a sentence for each standard variable of exporters, limits or sampling that is ignored.
    """
    ignored: dict[str, None] = {}  # each once, in order
    if standard.disabled:
        found.setdefault("enabled", False)

    attributes = {**_dict(found.get(_ATTRIBUTES)), **_dict(given.get(_ATTRIBUTES))}
    resource: Resource = standard.resource_attributes if configuration is None else configuration.resource
    fallback = standard.service_name or resource.get(SERVICE_NAME)
    if name := attributes.get(SERVICE_NAME) or fallback:
        found.setdefault("service_name", str(name))
    ours = found.get(_ATTRIBUTES, {})
    if isinstance(ours, dict):
        found[_ATTRIBUTES] = {**resource, **ours}

    for of_the_process in (processing_defaults, process_defaults):
        more, wrong = of_the_process(variables, {**found, **given})
        found.update(more)
        ignored.update(dict.fromkeys(wrong))
    if configuration is not None:
        found.update({k: v for k, v in configuration.settings.items() if k not in found and k not in given})

    arguments, entries = _dict(given.get(EXPORTERS)), found.get(EXPORTERS, {})
    if EXPORTERS not in given and not entries:
        if configuration is not None:
            entries = {name: dict(entry) for name, entry in configuration.exporters.items()}
        else:
            entries, wrong = exporters_of(variables)
            ignored.update(dict.fromkeys(wrong))
    if entries or arguments:  # a process without exporters has nothing to do with what others configure
        ignored.update(dict.fromkeys((*ignored_variables(variables), *misspelt(variables))))
    if isinstance(entries, dict):
        for exporter, entry in {**arguments, **entries}.items():
            if isinstance(entry, dict):
                mine = _dict(entries.get(exporter))
                both = {**mine, **_dict(arguments.get(exporter))}
                defaults, wrong = standard.exporter(exporter, both)
                ignored.update(dict.fromkeys(wrong))
                kind = str(both.get("type"))
                if kind == "otlp":
                    more, wrong = otlp_defaults(variables, both)
                elif kind in _MAKERS:
                    from nat_observability.settings.standard_variables.makers import maker_defaults

                    more, wrong = maker_defaults(kind, variables, both)
                else:
                    more, wrong = {}, []
                defaults.update(more)
                ignored.update(dict.fromkeys(wrong))
                entries[exporter] = {**defaults, **mine}
        found[EXPORTERS] = entries
    return found, ignored


def _configuration(variables: Mapping[str, str | None]) -> Configuration | None:
    """Return what the configuration file says, if a variable names one."""
    path = next(
        (found for name in CONFIG_FILES if (found := (variables.get(name.lower()) or "").strip())),
        None,
    )
    if path is None:
        return None
    from nat_observability.settings.standard_variables.configuration_file import read_configuration

    # Names in the file are case-sensitive, those of an env file are kept in lower case.
    return read_configuration(path, lambda name: os.environ.get(name) or variables.get(name.lower()))


def _without_standard(variables: Mapping[str, str | None]) -> dict[str, str | None]:
    return {name: value for name, value in variables.items() if not name.startswith("otel_")}


def _in_its_place(configuration: Configuration, variables: Mapping[str, str | None]) -> list[str]:
    """Return the notes about the file, and one that names the variables which do not count beside it."""
    files = {name.lower() for name in CONFIG_FILES}
    beside = sorted(
        name.upper()
        for name, value in variables.items()
        if name.startswith("otel_") and name not in files and value and not name.startswith("otel_python_")
    )
    notes = list(configuration.notes)
    if beside:
        # By the specification, the file is then all that counts.
        notes.append(f"With {CONFIG_FILES[0]}, {', '.join(beside)} count only if the file refers to them.")
    return notes


def _dict(value: object) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}
