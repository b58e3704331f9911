"""What the commands share: their errors as one line and an exit code, options, and the store that they read."""

from __future__ import annotations

import functools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from nat_observability.cli import output
from nat_observability.cli.command_error import CommandError
from nat_observability.cli.demo.demo import own_file
from nat_observability.cli.logging import logging_to_stderr
from nat_observability.cli.session import read_settings, store_paths
from nat_observability.errors import (
    ExporterStartError,
    MissingExtraError,
    SettingsError,
    SinkError,
    UnknownExporterTypeError,
)
from nat_observability.settings import ObservabilitySettings
from nat_observability.settings.example_env import example_env

EXAMPLE = "settings.example.env"
_BAD_INPUT = (ExporterStartError, MissingExtraError, SettingsError, SinkError, UnknownExporterTypeError)

Command = Callable[..., None]


def command(function: Command) -> Command:
    """Add what every command has: `--verbose`, and errors as one line and an exit code."""

    @click.option("-v", "--verbose", is_flag=True, help="Log each step of every lifecycle to stderr.")
    @functools.wraps(function)
    def wrapped(*, verbose: bool, **arguments: Any) -> None:
        with logging_to_stderr(verbose=verbose):
            _run(function, arguments)

    return wrapped


def _run(function: Command, arguments: dict[str, Any]) -> None:
    try:
        function(**arguments)
        sys.stdout.flush()  # here, and not when the interpreter ends, so that a full disk is an error
    except CommandError as error:
        output.complain(str(error), kind="error")
        raise SystemExit(error.exit_code) from None
    except _BAD_INPUT as error:
        output.complain(str(error), kind="error")
        raise SystemExit(2) from None
    except BrokenPipeError:
        # The reader of a pipe has seen enough; the interpreter would complain when it flushes at its end.
        output.silence_stdout()
        raise SystemExit(0) from None
    except OSError as error:
        if error.filename is not None:
            raise
        # What is written to has no name.
        output.silence_stdout()
        output.complain(f"The output cannot be written: {error.strerror}. Give it room.", kind="error")
        raise SystemExit(1) from None


env_file_option = click.option(
    "--env-file",
    type=click.Path(path_type=Path, readable=False),
    help="Read settings from this file too; the environment wins over it. Else the one that "
    "NAT_OBSERVABILITY_ENV_FILE names.",
)
store_option = click.option(
    "--store",
    "store_path",
    type=click.Path(path_type=Path, readable=False),
    help="The SQLite store; else the one in the settings.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, as the documentation describes it."
)


def store_to_read(given: Path | None, env_file: Path | None, *, how: str = "--store PATH") -> Path:
    """
    Return the store that a command works on: the one given, that of the settings, or that of the demonstration.

    Args:
        given: None if the command was given none.
        env_file: Of its settings; None for the environment.
        how: The way to give it one.

    Raises:
        CommandError: There is none.
    """
    if given is not None:
        return given
    configured = store_paths(read_settings(env_file)[0])
    if configured:
        return next(iter(configured.values()))
    if env_file is None:
        demonstration = next(iter(store_paths(example_settings()[0]).values()), None)
        if demonstration is not None and demonstration.exists():
            return demonstration
    where = "The settings name" if env_file is None else f"{env_file} names"
    raise CommandError(f"{where} no exporter of type sqlite. Give a store: {how}")


def example_settings() -> tuple[ObservabilitySettings, str]:
    """Return the settings of the example, and where they come from."""
    if (example := own_file(EXAMPLE)) is not None:
        return read_settings(example, only=True)[0], shown_path(example)
    with tempfile.TemporaryDirectory() as folder:
        example = Path(folder) / EXAMPLE
        example.write_text(example_env(), encoding="utf-8")
        settings = read_settings(example, only=True)[0]
        return settings, "those that `nat-observability settings --example` prints"


def shown_path(path: Path) -> str:
    """Return a path relative to the current directory if it is inside it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def end(problems: list[str]) -> None:
    """Print problems, and end the command with exit code 1 if there are any."""
    for problem in problems:
        output.complain(problem, kind="error")
    if problems:
        raise SystemExit(1)
