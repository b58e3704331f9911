"""The commands: their arguments, and what each of them does, in order."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import click
import msgspec

from nat_observability.cli import output
from nat_observability.cli.command_error import CommandError
from nat_observability.cli.common import (
    EXAMPLE,
    command,
    end,
    env_file_option,
    example_settings,
    json_option,
    shown_path,
)
from nat_observability.cli.demo.demo import Demo, check_demo, own_file, run_demo
from nat_observability.cli.demo.questions import ABOUT_THE_PROJECT, questions
from nat_observability.cli.demo.report import print_demo, print_one_run
from nat_observability.cli.demo.text_folder import TextFolder
from nat_observability.cli.maintenance import MAINTENANCE
from nat_observability.cli.maintenance.sources import setting_objects, sourced_rows
from nat_observability.cli.reading import READING
from nat_observability.cli.reading.objects import print_json
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
from nat_observability.settings.example_env import example_env, setting_rows
from nat_observability.store import Store


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="nat-observability")
def cli() -> None:
    """Carries the steps of workflow runs to where people look at them."""


@cli.command("demo")
@click.argument("folder", type=click.Path(path_type=Path, readable=False), required=False)
@click.option("--runs", type=click.IntRange(min=1), default=200, show_default=True, help="How many runs.")
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="How many of them at once.",
)
@command
def _demo(folder: Path | None, runs: int, concurrency: int) -> None:
    """
    Answer questions about a FOLDER of text files, and show what was recorded.

    FOLDER is this project's documentation by default. The configuration is settings.example.env alone: the
    environment is left out. What is recorded goes below var/ in the current directory; what an earlier
    demonstration has left there stays, and is not counted.
    """
    known = () if folder is not None else ABOUT_THE_PROJECT
    texts = TextFolder(folder if folder is not None else _own_docs())
    settings, origin = example_settings()
    paths = store_paths(settings)
    if not paths:
        raise CommandError(f"{EXAMPLE} names no exporter of type sqlite. Restore it with: make example-env")
    asked = questions(texts, known)
    container = build_container(settings)
    output.say(
        f"{runs} runs, {min(runs, concurrency)} at a time: questions about the text files in {texts.path}",
        wrapped=True,
    )
    output.say(f"Settings: {origin}", wrapped=True)
    began = time.perf_counter()
    session, demo = asyncio.run(_demonstrate(container, texts, asked, runs, concurrency))
    took = time.perf_counter() - began
    path = next(iter(paths.values()))
    with Store(path) as store:
        problems = check_demo(demo, session, store)
        print_one_run(demo, store)
        print_demo(demo, session, store, took)
    output.say()
    output.say(f"Look further: nat-observability runs --store {shown_path(path)}")
    end(problems)


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


@cli.command("replay")
@click.argument("file", type=click.Path(readable=False))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--concurrency", type=click.IntRange(min=1), default=50, show_default=True, help="How many runs at once."
)
@env_file_option
@command
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
    end(problems)


async def _replay_all(
    container: ObservabilityContainer, events: EventFile, concurrency: int
) -> tuple[Session, Replayed]:
    async with open_session(container) as session:
        with output.progress("Replaying", events.lines - events.skipped_count) as advance:
            replayed = await replay(events, session, concurrency=concurrency, advance=advance)
    return session, replayed


@cli.command("settings")
@click.option("--example", is_flag=True, help="Print an env file that works, with every setting in it.")
@json_option
@env_file_option
@command
def _settings(example: bool, as_json: bool, env_file: Path | None) -> None:
    """Show the settings that hold now, with secrets as asterisks."""
    if example:
        click.echo(example_env(), nl=False)
        return
    settings, ignored = read_settings(env_file)
    if as_json:
        print_json({"settings": setting_objects(sourced_rows(settings, env_file)), "problems": ignored})
        return
    for each in ignored:
        output.complain(each)
    output.to_stdout().print(output.facts(setting_rows(settings)))


for _more in (*READING, *MAINTENANCE):
    cli.add_command(_more)
cli.add_command(ui)
