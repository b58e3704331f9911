"""The command `ui`: shows a store in the browser."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import click

from nat_observability.cli import output
from nat_observability.cli.command_error import CommandError
from nat_observability.errors import MissingExtraError


def show_in_browser(path: Path, *, host: str, port: int | None, browser: bool, index: bool) -> None:
    """
    Serve the viewer of a store until a signal comes.

    Raises:
        CommandError: The port cannot be had.
        MissingExtraError: The server's packages are not installed.
    """
    try:
        from nat_observability.viewer import serve
        from nat_observability.viewer.security import is_loopback
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "aiohttp":
            raise
        raise MissingExtraError("The command nat-observability ui", "ui") from None
    if not is_loopback(host):
        output.complain(
            f"--host {host} lets other machines reach this viewer, over an unencrypted connection: whoever has the "
            "address with its token can read everything in the store."
        )

    def ready(url: str) -> None:
        click.echo(f"Viewer of {path}\n{url}\nCtrl-C ends it.")
        if browser:
            webbrowser.open(url)

    try:
        serve(str(path), host=host, port=port, index=index, ready=ready)
    except OSError as error:
        raise CommandError(
            f"Cannot listen at {host}, port {port or 4320}: {error.strerror or error}. Choose another with --port."
        ) from error
