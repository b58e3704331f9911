"""The command `check`: the settings with their sources, and whether each exporter and each store works."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import click
import msgspec

from nat_observability.cli import listings, output
from nat_observability.cli.common import command, env_file_option, json_option
from nat_observability.cli.logging import silence_logs
from nat_observability.cli.maintenance.cures import cure
from nat_observability.cli.maintenance.erasing import erase_runs
from nat_observability.cli.maintenance.sources import setting_objects, sourced_rows
from nat_observability.cli.reading.objects import print_json
from nat_observability.cli.session import build_container, open_session, read_settings
from nat_observability.containers import ObservabilityContainer
from nat_observability.context import ContextState
from nat_observability.errors import ObservabilityError, SinkError
from nat_observability.recording.step import step
from nat_observability.settings import ExporterSettings, ObservabilitySettings
from nat_observability.store import Store
from nat_observability.store.query import is_out_of_time
from nat_observability.store.schema import has_store
from nat_observability.system.clock import monotonic
from nat_observability.system.disk import ANOTHER_DISK

_NAME = "nat-observability check"
_EVERY = 0.05
_MISSING = "missing"
_CLASS = re.compile(r"^\w+Error: ")  # of an error that tells what happened in its own words
_LEAST_FREE = 1 << 20  # bytes on the disk of a file
_ALONE = {
    "spool": "off",
    "select": {},
    "sampling_ratio": 1.0,
    "sampling_rules": {},
    "required": False,
    "batch_age": 0.0,
}


class Finding(msgspec.Struct, frozen=True):
    """
    What was found about one exporter.

    `ok` is whether it works; `detail` says what was done, or what went wrong, and `cure` what to do about that.
    """

    exporter: str
    type: str
    ok: bool
    detail: str
    cure: str | None = None


@click.command("check")
@click.option(
    "--send/--no-send", default=True, help="Whether to send a test span; without, exporters are only opened."
)
@click.option(
    "--seconds", type=click.FloatRange(min=0.5), default=10.0, show_default=True, help="For each exporter."
)
@json_option
@env_file_option
@command
def check(send: bool, seconds: float, as_json: bool, env_file: Path | None) -> None:
    """
    Check the configuration: its settings, where each comes from, and whether each exporter works.

    Every exporter is opened and sent one test span, named "nat-observability check"; it is removed from a store again.
    Files are only opened. Exit code 0: all is well. 1: an exporter, a store or the name of a setting is wrong. 2: the
    settings cannot be read.
    """
    settings, ignored = read_settings(env_file)
    rows = sourced_rows(settings, env_file)
    if not as_json:
        output.to_stdout(whole=True).print(listings.sources(rows))
        output.say()
    # What is lost of the test spans is said in the findings.
    silence_logs()
    findings: list[Finding] = []
    if not settings.exporters:
        ignored.append("No exporter is set: nothing is recorded. See: nat-observability settings --example")
    if not settings.enabled:
        ignored.append("Observability is switched off (NAT_OBSERVABILITY_ENABLED).")
    for name, entry in settings.exporters.items():
        finding = _checked(settings, name, entry, seconds, send=send)
        findings.append(finding)
        if not as_json:
            listings.finding(finding.exporter, finding.type, finding.detail, finding.cure, ok=finding.ok)
    ok = all(finding.ok for finding in findings) and not ignored
    if as_json:
        print_json(
            {
                "ok": ok,
                "settings": setting_objects(rows),
                "problems": ignored,
                "exporters": [msgspec.structs.asdict(finding) for finding in findings],
            }
        )
    else:
        for each in ignored:
            output.complain(each)
    if not ok:
        raise SystemExit(1)


def _checked(
    settings: ObservabilitySettings, name: str, entry: ExporterSettings, seconds: float, *, send: bool
) -> Finding:
    sends = send and entry.type not in ("file", "memory", "console")
    store = Path(entry.model_dump()["path"]) if entry.type == "sqlite" else None
    try:
        if (full := _full_disk(entry)) is not None:
            raise full
        state = _MISSING if store is None else _state(store, seconds)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            container = _alone(settings, name, entry, seconds)
            detail, problem = asyncio.run(_tried(container, name, seconds, sends=sends))
        if problem is not None:
            return _failed(name, entry, problem)
        if store is not None:
            detail += _looked_into(store, state)
    except (ObservabilityError, OSError, ValueError) as error:
        return _failed(name, entry, str(error))
    return Finding(name, entry.type, True, detail)


def _failed(name: str, entry: ExporterSettings, problem: str) -> Finding:
    problem = _CLASS.sub("", output.one_line(problem))
    return Finding(name, entry.type, False, problem, cure(name, entry.type, problem))


def _alone(
    settings: ObservabilitySettings, name: str, entry: ExporterSettings, seconds: float
) -> ObservabilityContainer:
    """Return a container with one exporter, which takes every run and leaves its spool alone."""
    changes: dict[str, Any] = {key: value for key, value in _ALONE.items() if hasattr(entry, key)}
    return build_container(
        settings.model_copy(
            update={
                "exporters": {name: entry.model_copy(update=changes)},
                "enabled": True,
                "start_timeout": seconds,
                "shutdown_timeout": min(2.0, seconds),
            }
        )
    )


async def _tried(
    container: ObservabilityContainer, name: str, seconds: float, *, sends: bool
) -> tuple[str, str | None]:
    """Open one exporter, and send one span; return what was done, and what went wrong."""
    async with open_session(container) as session:
        if session.unopened:
            return "", session.unopened[name]
        if not sends:
            return "opened", None
        began = monotonic()
        async with session.manager().start(
            ContextState(workflow_name=_NAME, run_id=f"check-{os.urandom(8).hex()}")
        ):
            with step("custom", _NAME, input="A test span, which may be deleted."):
                pass
        while monotonic() < began + seconds:
            health = session.health()[name]
            if health.ledger.delivered:
                return f"opened, one test span delivered in {1000 * (monotonic() - began):.0f} ms", None
            if health.last_error is not None or health.ledger.failed or health.ledger.dropped:
                break
            await asyncio.sleep(_EVERY)
        health = session.health()[name]
        if health.last_error is not None:
            return "", health.last_error
        dropped = ", ".join(health.ledger.dropped)
        return "", f"the test span was dropped ({dropped})" if dropped else f"no answer within {seconds:g} s"


def _full_disk(entry: ExporterSettings) -> SinkError | None:
    path = getattr(entry, "path", None)
    if path is None:
        return None
    directory = Path(path).absolute()
    while not directory.exists():
        directory = directory.parent
    usage = shutil.disk_usage(directory)
    if usage.free >= _LEAST_FREE or not usage.total:  # a file system that has no size, such as /proc
        return None
    return SinkError(str(path), f"its disk is full: {usage.free:,} bytes are free", ANOTHER_DISK)


def _state(path: Path, seconds: float) -> str:
    """
    Return what a store is before anything is written to it: missing, sound, or too large to be looked through.

    Raises:
        SinkError: What is there is damaged, or no store.
    """
    if not has_store(os.path.abspath(path)):
        return _MISSING
    with Store(path) as store:
        try:
            problems = store.problems(seconds)
        except SinkError as error:
            if is_out_of_time(error):
                return f"was not looked through within {seconds:g} s"
            raise
    if problems:
        # SQLite puts several lines, and a heading, into one.
        found = [line for each in problems for line in each.splitlines() if not line.startswith("***")]
        raise SinkError(
            str(path), f"is damaged: {'; '.join(found[:2])}", "Move it away, and a new one is made."
        )
    return "is sound"


def _looked_into(path: Path, state: str) -> str:
    """Remove the test span; return what the store holds."""
    with Store(path) as store:
        ids = [run.run.run_id for run in store.runs(20, id_prefix="check-") if run.run.workflow_name == _NAME]
    erase_runs(path, ids)
    with Store(path) as store:
        version = store.version
        counts = store.counts() if version > 1 else None
    if state == _MISSING:
        return "; the store was made"
    runs = "" if counts is None else f" with {counts['runs']:,} runs"
    old = "" if version > 1 else f" (version 1: nat-observability migrate {path})"
    return f"; the store{runs} {state}{old}"
