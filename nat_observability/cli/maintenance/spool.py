"""The command `spool`: what waits in spools, delivering it now, or dropping it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
import msgspec

from nat_observability.cli import listings, output
from nat_observability.cli.command_error import CommandError
from nat_observability.cli.common import command, end, env_file_option, json_option
from nat_observability.cli.maintenance.spools import spool_directories
from nat_observability.cli.reading.objects import print_json
from nat_observability.cli.session import build_container, open_session, read_settings
from nat_observability.containers import ObservabilityContainer
from nat_observability.delivery.ledger import LedgerSnapshot
from nat_observability.settings import ObservabilitySettings
from nat_observability.spool.inspection import SpoolFileInfo, erase, look
from nat_observability.system.clock import monotonic

_EVERY = 0.1  # seconds between two looks at a delivery


@click.group("spool")
def spool() -> None:
    """Look into the spools of the exporters in the settings, deliver or drop what waits there."""


@spool.command("list")
@json_option
@env_file_option
@command
def _list(as_json: bool, env_file: Path | None) -> None:
    """List the files of every spool, with what waits in them. A file in use belongs to a process that delivers it."""
    spools = {name: look(directory) for name, directory in _spools(env_file)[1].items()}
    if as_json:
        print_json(
            [
                {"exporter": name, **msgspec.structs.asdict(file)}
                for name, files in spools.items()
                for file in files
            ]
        )
        return
    if not any(spools.values()):
        output.say("Nothing waits in any spool.")
        return
    output.to_stdout(whole=True).print(listings.spool_files(spools))


@spool.command("deliver")
@click.argument("exporter")
@click.option(
    "--seconds", type=click.FloatRange(min=1), default=60.0, show_default=True, help="How long it may take."
)
@json_option
@env_file_option
@command
def _deliver(exporter: str, seconds: float, as_json: bool, env_file: Path | None) -> None:
    """
    Deliver now what waits in the spool of EXPORTER, with its settings.

    Files that a living process uses are left to it. Exit code 1: something still waits or failed.
    """
    settings, spools = _spools(env_file)
    files = _files_of(exporter, spools)
    waiting = sum(file.records or 0 for file in files)
    in_use = [file for file in files if file.state == "in use"]
    if not waiting:
        note = f" {len(in_use)} of its files are in use by a process, which delivers them." if in_use else ""
        output.complain(f"Nothing waits in the spool of {exporter!r}.{note}", kind="note")
        if as_json:
            print_json(msgspec.structs.asdict(LedgerSnapshot()))
        return
    container = _alone(settings, exporter)
    with output.progress("Delivering", waiting) as advance:
        ledger, error = asyncio.run(_delivered(container, exporter, seconds, advance))
    if as_json:
        print_json(msgspec.structs.asdict(ledger))
    else:
        output.to_stdout().print(output.ledgers({exporter: ledger}))
    left = ledger.accepted - ledger.delivered
    end(
        [f"{left:,} of {ledger.accepted:,} items were not delivered{f': {error}' if error else ''}."]
        if left
        else []
    )


@spool.command("drop")
@click.argument("exporter")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@env_file_option
@command
def _drop(exporter: str, yes: bool, as_json: bool, env_file: Path | None) -> None:
    """Drop what waits in the spool of EXPORTER, for good. Files that a living process uses are left to it."""
    spools = _spools(env_file)[1]
    files = _files_of(exporter, spools)
    waiting = sum(file.records or 0 for file in files)
    if not yes:
        click.confirm(f"Drop {waiting:,} items that wait in {spools[exporter]}?", abort=True, err=True)
    dropped, skipped = erase(spools[exporter], lambda record: True)
    if as_json:
        print_json({"dropped": dropped, "skipped": [msgspec.structs.asdict(file) for file in skipped]})
    else:
        output.say(f"Dropped {dropped:,} items.")
    end([f"{file.path} is {file.state}, and was left as it is." for file in skipped])


def _alone(settings: ObservabilitySettings, exporter: str) -> ObservabilityContainer:
    entry = settings.exporters[exporter]
    if getattr(entry, "spool", None) == "off":
        entry = entry.model_copy(update={"spool": "spill"})  # it was on when something was left there
    return build_container(settings.model_copy(update={"exporters": {exporter: entry}, "enabled": True}))


async def _delivered(
    container: ObservabilityContainer, exporter: str, seconds: float, advance: output.Advance
) -> tuple[LedgerSnapshot, str | None]:
    until = monotonic() + seconds
    done = 0
    async with open_session(container) as session:
        if session.unopened:
            raise CommandError(
                f"Exporter {exporter!r} did not open: {session.unopened[exporter]}", exit_code=1
            )
        while monotonic() < until:
            ledger = session.health()[exporter].ledger
            advance(ledger.delivered - done)
            done = ledger.delivered
            if ledger.accepted and not ledger.pending:
                break
            await asyncio.sleep(_EVERY)
    health = session.health()[exporter]
    return health.ledger, health.last_error


def _spools(env_file: Path | None) -> tuple[ObservabilitySettings, dict[str, Path]]:
    settings = read_settings(env_file)[0]
    return settings, spool_directories(settings)


def _files_of(exporter: str, spools: dict[str, Path]) -> list[SpoolFileInfo]:
    if exporter not in spools:
        known = ", ".join(spools) or "none"
        raise CommandError(
            f"No exporter {exporter!r} with a spool_path is in the settings. There are: {known}."
        )
    return look(spools[exporter])
