"""Misspelt variables: what in the environment and in env files was meant for the settings, and does nothing there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from pydantic_settings import BaseSettings

from nat_observability.settings.env_file import ENV_FILE, READ_FILES
from nat_observability.settings.exporters.models import MODELS
from nat_observability.settings.standard_variables.traces_exporter import OURS, variable_meant
from nat_observability.settings.standard_variables.traces_exporter import VARIABLE as TRACES_EXPORTER
from nat_observability.settings.variables import (
    DELIMITER,
    EXPORTERS,
    NAME,
    PATTERNS,
    PREFIX,
    corrected,
    nearest,
    setting_meant,
    variable,
)

_OURS = PREFIX.lower()
_FIRST_TYPE = variable(EXPORTERS, "main", "type")
_OF_MAKERS = {"PHOENIX_COLLECTOR_ENDPOINT": "phoenix", "LANGFUSE_PUBLIC_KEY": "langfuse"}
# In an env file, other programs' variables are theirs. If nothing is configured, a mere similarity is a hint.
_SURELY, _PERHAPS = 0.9, 0.85
_misspelt_in_files: dict[str, None] = {}
"""For the hints: the misspelt names in the env files that were read."""


def unused_hints(settings_cls: type[BaseSettings]) -> list[str]:
    """
    Return a sentence for each thing in this process that may have been meant to configure an exporter but does not.

    They hold no value of a variable. It reads the file system.
    """
    hints: list[str] = []
    for name in sorted(os.environ):
        lower = name.lower()
        if lower.startswith(_OURS):
            if not is_known(settings_cls, lower) and name.upper() != ENV_FILE:
                hints.append(unknown(settings_cls, lower))
        elif name.upper() == TRACES_EXPORTER:
            hints.append(
                f"{name} hands the SDK's spans to this package, whose exporters are set by other variables."
                if OURS in os.environ[name].lower()
                else f"{name} names no exporter of this package: set it to otlp or console."
            )
        elif (maker := _OF_MAKERS.get(name.upper())) is not None:
            hints.append(f"{name} is read by an exporter of the type {maker}: set {_FIRST_TYPE}={maker}.")
        elif (meant := variable_meant(name)) is not None:
            hints.append(f"{name} is not a variable of OpenTelemetry. Did you mean {meant}?")
        elif (meant := corrected(name, alike=_PERHAPS)) is not None:
            hints.append(f"{name} is not a setting. Did you mean {_meant(settings_cls, meant)}?")
    hints += _misspelt_in_files
    hints += [f"{file} was read, and names no exporter." for file, names in READ_FILES.items() if not names]
    ours = os.path.realpath(".env")
    if os.path.isfile(ours) and ours not in READ_FILES:
        hints.append(f"{ours} is not read: set {ENV_FILE}=.env.")
    return hints


def misspelt_in_file(settings_cls: type[BaseSettings], names: Iterable[str]) -> list[str]:
    """Return a sentence for each of the names in an env file that was meant for us but has no effect there."""
    names = list(names)
    notes = [
        f"{name.upper()} is not a setting. Did you mean {_meant(settings_cls, meant)}?"
        for name in names
        if NAME.fullmatch(name) and (meant := corrected(name, alike=_SURELY)) is not None
    ]
    _misspelt_in_files.update(dict.fromkeys(notes))
    if ENV_FILE.lower() in names:
        notes.append(f"{ENV_FILE} is read from the environment, not from an env file.")
    return notes


def is_known(settings_cls: type[BaseSettings], name: str) -> bool:
    """Whether a name in lower case, with our prefix, is that of a setting."""
    head, nested, _ = name.removeprefix(_OURS).partition(DELIMITER)
    return head in settings_cls.model_fields and (not nested or head in (EXPORTERS, PATTERNS))


def unknown(settings_cls: type[BaseSettings], name: str) -> str:
    """Return the sentence about a name with our prefix that is of no setting, with the one that was meant."""
    upper = name.strip().upper()  # env files of containers keep a blank before the `=`
    if not NAME.fullmatch(upper):  # such as a line of JSON, with its values
        return f"A variable that begins with {PREFIX} has a name that no setting can have."
    return f"{upper} is not a setting.{_near(settings_cls, upper)}"


def _near(settings_cls: type[BaseSettings], name: str) -> str:
    bare = name.removeprefix(PREFIX).lower()
    if bare in (settings := _settings_of_exporters()):
        return f" Did you mean {setting_meant(bare, settings)}?"
    return nearest(name, _candidates(settings_cls, name))


def _settings_of_exporters() -> set[str]:
    return {key for model in MODELS.values() for key in model.model_fields}


def _meant(settings_cls: type[BaseSettings], name: str) -> str:
    """The known variable that is closest to a name with our prefix; the name itself if none is close."""
    if is_known(settings_cls, name.lower()):
        return name
    near = _near(settings_cls, name)
    return near.removeprefix(" Did you mean ").removesuffix("?") or name


def _candidates(settings_cls: type[BaseSettings], name: str) -> list[str]:
    bare = name.removeprefix(PREFIX).strip("_")
    # With the first level misspelt, and with one underscore between levels instead of two, or with three.
    nested = bare.split(DELIMITER)[1:]
    flat = re.split("_+", bare, maxsplit=1)[1:]
    return [
        *map(variable, settings_cls.model_fields),
        ENV_FILE,
        *([variable(EXPORTERS, *nested)] if nested else []),
        *(meant for each in flat if (meant := setting_meant(each, _settings_of_exporters()))),
    ]
