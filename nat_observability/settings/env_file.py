"""The env file that a variable or an argument names: which one it is, and whether it can be read."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nat_observability.errors import SettingsError, SettingsWarning
from nat_observability.settings.likely_mistakes import doubtful_lines
from nat_observability.settings.variables import variable

ENV_FILE = variable("env_file")
"""The variable that names it."""
READ_FILES: dict[str, bool] = {}
"""The env files that were read in this process, and whether there were exporters then."""

_ARGUMENT = "_env_file"
_NOT_GIVEN = Path()  # pydantic-settings' stand-in for an env file that was not given


def with_env_file(arguments: dict[str, Any], default: Any) -> dict[str, Any]:
    """
    Return the arguments of the settings, completed by the env file that a variable names if they have none.

    Args:
        arguments: The arguments of the settings.
        default: The env files of a class of settings, which need not exist.

    Raises:
        SettingsError: The file does not exist, or cannot be read.
    """
    name, files = _ARGUMENT, arguments.get(_ARGUMENT, _NOT_GIVEN)
    if files == _NOT_GIVEN:
        # Names are not case-sensitive, here as everywhere.
        files = next(
            (value for each, value in os.environ.items() if each.upper() == ENV_FILE and value.strip()), None
        )
        if files is None:
            _note_read(_listed(default))
            return arguments
        name, files = ENV_FILE, files.strip()
    listed = _listed(files)
    depth, encoding = arguments.get("_env_file_depth") or 0, arguments.get("_env_file_encoding") or "utf-8"
    problems = [
        f"{name} names {file}, {problem}; allowed: an env file that exists, or nothing."
        for file in listed
        if (problem := _problem_of(Path(file), depth, encoding)) is not None
    ]
    if problems:
        raise SettingsError(problems)
    for path in _note_read(listed):
        for line, problem in doubtful_lines(path, encoding):
            # 3: this function, the constructor of the settings, its caller.
            warnings.warn(f"{path}, line {line} {problem}", SettingsWarning, stacklevel=3)
    return {**arguments, _ARGUMENT: files}


def _listed(files: Any) -> list[Any]:
    if files is None or isinstance(files, str | os.PathLike):
        return [files] if files and os.fspath(files) else []
    if not isinstance(files, Iterable):
        raise SettingsError(
            [f"{_ARGUMENT} is of type {type(files).__name__}; allowed: a path, or a list of paths."]
        )
    return list(files)


def _note_read(files: Iterable[Any]) -> list[str]:
    paths = [os.path.realpath(os.path.expanduser(file)) for file in files]
    found = [path for path in paths if os.path.exists(path)]
    for path in found:
        READ_FILES.setdefault(path, False)
    return found


def note_exporters() -> None:
    """Note that the env files read so far were read by settings with exporters."""
    READ_FILES.update(dict.fromkeys(READ_FILES, True))


def _problem_of(file: Path, depth: int, encoding: str) -> str | None:
    try:
        path = file.expanduser()
        if depth and not path.is_absolute():
            folders = (Path.cwd(), *Path.cwd().parents[:depth])
            path = next((folder / path for folder in folders if (folder / path).exists()), path)
        if not path.exists():
            return f"which does not exist{'' if path.is_absolute() else f' in {Path.cwd()}'}"
        if path.is_dir():
            return "which is a directory"
        if not path.is_file():  # a pipe: what is read from it is gone
            return None if os.access(path, os.R_OK) else "which cannot be read"
        path.read_text(encoding)
    except (OSError, RuntimeError):
        return "which cannot be read"
    except UnicodeError:
        return f"which is not {encoding.upper()} text"
    except LookupError:
        return "in an encoding that does not exist"
    return None
