"""Where each setting comes from: the environment, an env file, a secret file, a standard variable, or its default."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values

from nat_observability.cli.session import read_settings, without_variables
from nat_observability.errors import SettingsError
from nat_observability.settings import ObservabilitySettings
from nat_observability.settings.example_env import setting_rows
from nat_observability.settings.variables import PREFIX, variable

_STANDARD = ("OTEL_", "PHOENIX_", "LANGFUSE_")


def sourced_rows(settings: ObservabilitySettings, env_file: Path | None) -> list[tuple[str, str, str]]:
    """Return the variable, the value with secrets masked, and the source of each setting."""
    named = os.environ.get(variable("env_file"))
    file = env_file if env_file is not None else Path(named) if named else None
    in_file = {name.upper() for name in dotenv_values(file)} if file is not None and file.is_file() else set()
    in_environment = {name.upper() for name, value in os.environ.items() if value}
    secret_files = _secret_files(settings)
    rows = setting_rows(settings)
    standard = _standard(rows, env_file)
    sourced: list[tuple[str, str, str]] = []
    for name, value in rows:
        upper = name.upper()
        if (exact := _given(upper, in_environment)) is not None:
            source = "environment" if exact == upper else f"environment ({exact})"
        elif (exact := _given(upper, in_file)) is not None:
            source = str(file) if exact == upper else f"{file} ({exact})"
        elif upper in secret_files:
            source = f"secret file {secret_files[upper]}"
        else:
            source = standard.get(name, "default")
        sourced.append((name, value, source))
    return sourced


def setting_objects(rows: list[tuple[str, str, str]]) -> list[dict[str, str]]:
    """Return what `sourced_rows` gives as `--json` prints it."""
    return [{"name": name, "value": value, "source": source} for name, value, source in rows]


def _given(name: str, given: set[str]) -> str | None:
    """Return which variable sets a value: its own, or that of a whole of which it is a part."""
    while name.startswith(PREFIX):
        if name in given:
            return name
        if "__" not in name.removeprefix(PREFIX):
            return None
        name = name.rpartition("__")[0]
    return None


def _secret_files(settings: ObservabilitySettings) -> Mapping[str, Path]:
    directory = getattr(settings, "secrets_dir", None) or os.environ.get(variable("secrets_dir"))
    if not directory or not Path(directory).is_dir():
        return {}
    return {path.name.upper(): path for path in Path(directory).iterdir()}


def _standard(rows: list[tuple[str, str]], env_file: Path | None) -> dict[str, str]:
    """Return the standard variable that each setting comes from: the one without which it would be another."""
    found: dict[str, str] = {}
    for name in sorted(os.environ):
        if not name.startswith(_STANDARD):
            continue
        try:
            with without_variables(name):
                other = dict(setting_rows(read_settings(env_file)[0]))
        except SettingsError:
            continue
        for row, value in rows:
            if other.get(row) != value:
                found.setdefault(row, f"environment ({name})")
    return found
