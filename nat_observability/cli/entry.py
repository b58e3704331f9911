"""main(): the entry point, which says what to install if the command's own packages are missing."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nat_observability.errors import MissingExtraError

if TYPE_CHECKING:
    import click

_NEEDED = ("click", "rich")


class OwnProcess:
    """Click's object of a command that no application runs: how it logs holds until the process ends."""


def main(args: Sequence[str] | None = None) -> None:
    """
    Run the command and exit with its code.

    Args:
        args: Those of the process by default, which is then the command's own. With others, an application runs the
            command: its streams, signals and logs stay as they are.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    # The viewer does without what the other commands import, which takes longer than its server to start.
    viewer = arguments[:1] == ["ui"]
    try:
        command = _viewer() if viewer else _commands()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        sys.exit(f"error: {MissingExtraError('The command nat-observability', 'cli')}")
    if args is None:
        _prepare_process()
    command(
        args=arguments[1:] if viewer else arguments,
        prog_name="nat-observability ui" if viewer else "nat-observability",
        obj=OwnProcess() if args is None else None,
    )


def _prepare_process() -> None:
    _prepare_streams()
    # A service manager's signal ends a command as Ctrl-C does: what was recorded until then is delivered.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # A script's shell starts background jobs like this, and SIGTERM has to end those too.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _prepare_streams() -> None:
    """Let output that is closed go nowhere, and a character that its encoding lacks be an escape."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() != "utf-8":
            stream.reconfigure(errors="backslashreplace")


def _viewer() -> click.Command:
    from nat_observability.cli.ui import ui

    return ui


def _commands() -> click.Command:
    from nat_observability.cli.commands import cli

    return cli
