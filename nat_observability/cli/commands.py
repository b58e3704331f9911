"""The commands: their arguments, and what each of them does, in order."""

from __future__ import annotations

import asyncio
import functools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from nat_observability.cli import output
from nat_observability.cli.command_error import CommandError
from nat_observability.cli.demo.demo import Demo, check_demo, own_file, run_demo
from nat_observability.cli.demo.questions import ABOUT_THE_PROJECT, questions
from nat_observability.cli.demo.report import print_demo, print_one_run
from nat_observability.cli.demo.text_folder import TextFolder
from nat_observability.cli.logging import log_to_stderr
from nat_observability.cli.replay.event_file import EventFile
from nat_observability.cli.replay.replay import Replayed, replay
from nat_observability.cli.replay.report import (
    complain_of_skipped,
    print_replayed,
    replay_object,
)
from nat_observability.cli.session import Session, build_container, open_session, read_settings, store_paths
from nat_observability.cli.ui import ui
from nat_observability.containers import ObservabilityContainer
from nat_observability.errors import (
    ExporterStartError,
    MissingExtraError,
    SettingsError,
    SinkError,
    UnknownExporterTypeError,
)
from nat_observability.settings import ObservabilitySettings
from nat_observability.settings.example_env import example_env, setting_rows
from nat_observability.store import RunStatus, Store, StoredRun

_EXAMPLE = "settings.example.env"
_BAD_INPUT = (ExporterStartError, MissingExtraError, SettingsError, SinkError, UnknownExporterTypeError)

Command = Callable[..., None]


def _command(function: Command) -> Command:
    """Add what every command has: `--verbose`, and errors as one line and an exit code."""

    @click.option("-v", "--verbose", is_flag=True, help="Log each step of every lifecycle to stderr.")
    @functools.wraps(function)
    def command(*, verbose: bool, **arguments: Any) -> None:
        log_to_stderr(verbose=verbose)
        try:
            function(**arguments)
        except CommandError as error:
            output.complain(str(error), kind="error")
            raise SystemExit(error.exit_code) from None
        except _BAD_INPUT as error:
            output.complain(str(error), kind="error")
            raise SystemExit(2) from None

    return command


_env_file = click.option(
    "--env-file",
    type=click.Path(path_type=Path),
    help="Read settings from this file too; the environment wins over it. Else the one that "
    "NAT_OBSERVABILITY_ENV_FILE names.",
)
_store_option = click.option(
    "--store",
    "store_path",
    type=click.Path(path_type=Path),
    help="The SQLite store; else the one in the settings.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="nat-observability")
def cli() -> None:
    """Carries the steps of workflow runs to where people look at them."""


@cli.command("demo")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--runs", type=click.IntRange(min=1), default=200, show_default=True, help="How many runs.")
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="How many of them at once.",
)
@_command
def _demo(folder: Path | None, runs: int, concurrency: int) -> None:
    """
    Answer questions about a FOLDER of text files, and show what was recorded.

    FOLDER is this project's documentation by default. The configuration is settings.example.env alone: the
    environment is left out. What is recorded goes below var/ in the current directory; what an earlier
    demonstration has left there stays, and is not counted.
    """
    known = () if folder is not None else ABOUT_THE_PROJECT
    texts = TextFolder(folder if folder is not None else _own_docs())
    settings, origin = _example_settings()
    paths = store_paths(settings)
    if not paths:
        raise CommandError(f"{_EXAMPLE} names no exporter of type sqlite. Restore it with: make example-env")
    asked = questions(texts, known)
    container = build_container(settings)
    output.say(
        f"{runs} runs, {min(runs, concurrency)} at a time: questions about the text files in {texts.path}"
    )
    output.say(f"Settings: {origin}")
    began = time.perf_counter()
    session, demo = asyncio.run(_demonstrate(container, texts, asked, runs, concurrency))
    took = time.perf_counter() - began
    path = next(iter(paths.values()))
    with Store(path) as store:
        problems = check_demo(demo, session, store)
        print_one_run(demo, store)
        print_demo(demo, session, store, took)
    output.say()
    output.say(f"Look further: nat-observability runs --store {_shown(path)}")
    _end(problems)


async def _demonstrate(
    container: ObservabilityContainer, texts: TextFolder, asked: list[str], runs: int, concurrency: int
) -> tuple[Session, Demo]:
    async with open_session(container) as session:
        if session.unopened:
            names = ", ".join(session.unopened)
            raise CommandError(f"The demonstration needs its exporters, and these did not open: {names}.")
        with output.progress("Running", runs) as advance:
            demo = await run_demo(
                session, texts, asked, runs=runs, concurrency=concurrency, advance=lambda: advance(1)
            )
    return session, demo


def _own_docs() -> Path:
    if (docs := own_file("docs")) is None:
        raise CommandError("The documentation is not installed here. Give a folder of text files.")
    return docs


def _example_settings() -> tuple[ObservabilitySettings, str]:
    if (example := own_file(_EXAMPLE)) is not None:
        return read_settings(example, only=True)[0], _shown(example)
    with tempfile.TemporaryDirectory() as folder:
        example = Path(folder) / _EXAMPLE
        example.write_text(example_env(), encoding="utf-8")
        return read_settings(example, only=True)[
            0
        ], "those that `nat-observability settings --example` prints"


@cli.command("replay")
@click.argument("file", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--concurrency", type=click.IntRange(min=1), default=50, show_default=True, help="How many runs at once."
)
@_env_file
@_command
def _replay(file: str, as_json: bool, concurrency: int, env_file: Path | None) -> None:
    """
    Send a recorded event stream of the reference toolkit through the configured exporters.

    FILE is what the toolkit's file exporter writes, one step a line, with or without the run beside it. Each of
    its runs gets a manager and a context of its own. A line that is not a step is counted and skipped.

    Exit code 0: all was delivered. 1: it was not, or the ledger does not add up. 2: bad input.
    """
    settings, ignored = read_settings(env_file)
    for each in ignored:
        output.complain(each)
    container = build_container(settings)
    with EventFile(file) as events:
        with output.progress("Reading", events.size, count=False) as advance:
            events.index(advance)
        session, replayed = asyncio.run(_replay_all(container, events, concurrency))
    if not session.exporters:
        state = "No exporter is configured" if settings.enabled else "Observability is switched off"
        output.complain(f"{state}: the runs are only counted.")
    complain_of_skipped(events)
    if as_json:
        click.echo(msgspec.json.encode(replay_object(events, replayed)).decode())
    else:
        print_replayed(events, session, replayed)
    problems = session.problems(replayed.accepted, replayed.spans)
    if replayed.steps + events.skipped_count != events.lines:
        problems.append(f"{events.path}: {replayed.steps} of {events.lines} lines were published.")
    _end(problems)


async def _replay_all(
    container: ObservabilityContainer, events: EventFile, concurrency: int
) -> tuple[Session, Replayed]:
    async with open_session(container) as session:
        with output.progress("Replaying", events.lines - events.skipped_count) as advance:
            replayed = await replay(events, session, concurrency=concurrency, advance=advance)
    return session, replayed


@cli.command("settings")
@click.option("--example", is_flag=True, help="Print an env file that works, with every setting in it.")
@_env_file
@_command
def _settings(example: bool, env_file: Path | None) -> None:
    """Show the settings that hold now, with secrets as asterisks."""
    if example:
        click.echo(example_env(), nl=False)
        return
    settings, ignored = read_settings(env_file)
    for each in ignored:
        output.complain(each)
    output.to_stdout().print(output.facts(setting_rows(settings)))


@cli.command("runs")
@_store_option
@click.option("--status", type=click.Choice(["ok", "error", "open"]), help="Only runs with this status.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many at most.")
@_env_file
@_command
def _runs(store_path: Path | None, status: RunStatus | None, limit: int, env_file: Path | None) -> None:
    """List the newest runs in a store."""
    with Store(store_or_configured(store_path, env_file)) as store:
        stored = store.runs(limit + 1, status)
    if not stored:
        output.say("No runs.")
        return
    console = output.to_stdout(whole=True)
    console.print(output.runs(stored[:limit], console.width))
    if len(stored) > limit:
        output.say(f"There are more: --limit {2 * limit}")


@cli.command("show")
@click.argument("run_id")
@_store_option
@_env_file
@_command
def _show(run_id: str, store_path: Path | None, env_file: Path | None) -> None:
    """Show one run as a tree, with durations. RUN_ID may be the beginning of an id."""
    path = store_or_configured(store_path, env_file)
    with Store(path) as store:
        run = _find(store, run_id)
        nodes = store.tree(run.run.run_id)
    console = output.to_stdout(whole=True)
    console.print(output.facts(output.run_facts(run)))
    output.say()
    console.print(output.tree(nodes, console.width))
    for span, rows in output.span_details(nodes):
        output.say()
        output.say(f"{span.name} ({span.kind.value.lower()}, {span.span_id})")
        console.print(output.facts(rows))


cli.add_command(ui)


def _find(store: Store, run_id: str) -> StoredRun:
    found = store.runs(5, id_prefix=run_id)
    exact = [run for run in found if run.run.run_id == run_id]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if not found:
        raise CommandError(
            f"{store.path} holds no run {run_id!r}. See: nat-observability runs --store {store.path}"
        )
    ids = ", ".join(run.run.run_id for run in found)
    raise CommandError(f"{run_id!r} is the beginning of several ids: {ids}. Give more of it.")


def store_or_configured(given: Path | None, env_file: Path | None) -> Path:
    """Return the store that was given, or else the one in the settings, or of the demonstration."""
    if given is not None:
        return given
    configured = store_paths(read_settings(env_file)[0])
    if configured:
        return next(iter(configured.values()))
    if env_file is None:
        demonstration = next(iter(store_paths(_example_settings()[0]).values()), None)
        if demonstration is not None and demonstration.exists():
            return demonstration
    where = "The settings name" if env_file is None else f"{env_file} names"
    raise CommandError(f"{where} no exporter of type sqlite. Give a store: --store PATH")


def _end(problems: list[str]) -> None:
    for problem in problems:
        output.complain(problem, kind="error")
    if problems:
        raise SystemExit(1)


def _shown(path: Path) -> str:
    """Return a path relative to the current directory if it is inside it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
