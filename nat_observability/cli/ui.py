"""The command `ui`: shows a store in the browser. It imports little, so that the page is there at once."""

from __future__ import annotations

import os
import webbrowser
from pathlib import Path

import click

from nat_observability.cli.command_error import CommandError
from nat_observability.errors import MissingExtraError, SettingsError, SinkError


@click.command("ui")
@click.argument("store", type=click.Path(path_type=Path, readable=False), required=False)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Where to listen; beyond loopback, others can read.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), help="The port, 0 for any; else 4320, or one of the next."
)
@click.option("--browser/--no-browser", default=True, help="Whether to open the page.")
@click.option(
    "--index/--no-index", default=True, help="Whether to keep an index for search beside the store."
)
@click.option(
    "--env-file",
    type=click.Path(path_type=Path, readable=False),
    help="Read settings from this file too, if no STORE is given; the environment wins over it.",
)
def ui(
    store: Path | None, host: str, port: int | None, browser: bool, index: bool, env_file: Path | None
) -> None:
    """
    Show a store in the browser: runs, waterfalls, content, search, comparison, statistics.

    STORE is the one in the settings by default. The address holds a token: the page shows nothing without it.
    """
    try:
        _show(store or _configured(env_file), host, port, browser, index)
    except (CommandError, MissingExtraError, SettingsError) as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(error.exit_code if isinstance(error, CommandError) else 2) from None


def _configured(env_file: Path | None) -> Path:
    # Settings, and what knows them, take a second to import.
    from nat_observability.cli.common import store_to_read

    return store_to_read(None, env_file, how="nat-observability ui PATH")


def _show(path: Path, host: str, port: int | None, browser: bool, index: bool) -> None:
    try:
        from nat_observability.store.schema import has_store
        from nat_observability.viewer.security import is_loopback
        from nat_observability.viewer.serving import serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "aiohttp":
            raise
        raise MissingExtraError("The command nat-observability ui", "ui") from None
    if not is_loopback(host):
        click.echo(
            f"warning: --host {host} lets other machines reach this viewer, over a connection that is not encrypted: "
            "whoever has the address with its token can read everything in the store.",
            err=True,
        )
    try:
        problem = None if has_store(os.path.abspath(path)) else f"{path}: there is no store there yet."
    except SinkError as error:
        problem = str(error)
    if problem is not None:
        click.echo(f"warning: {problem} The page shows a store once there is one that can be read.", err=True)

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
