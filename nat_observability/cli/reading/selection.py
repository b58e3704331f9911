"""Options that select runs, and what they say as a RunFilter."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import click

from nat_observability.cli.command_error import CommandError
from nat_observability.events import StepKind
from nat_observability.store import RunFilter

_UNITS = {"ms": 1e6, "s": 1e9, "m": 60e9, "h": 3_600e9, "d": 86_400e9, "w": 604_800e9}
_SPAN_OF_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
_MOST_NS = 2**63 - 1


def run_filters(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that select runs; the function gets them as `wanted`."""
    options = (
        click.option(
            "--status",
            type=click.Choice(["ok", "error", "open", "running", "died"]),
            help="Only runs with this status; running and died are open.",
        ),
        click.option(
            "--name", help="Only runs whose first root step has this name; * and ? stand for any letters."
        ),
        click.option("--workflow", "workflow_name", help="Only runs of this workflow."),
        click.option("--user", "user_id", help="Only runs of this user."),
        click.option("--conversation", "conversation_id", help="Only runs of this conversation."),
        click.option("--trace", "trace_id", help="Only runs of this trace."),
        click.option(
            "--tag",
            "tags",
            multiple=True,
            metavar="NAME=VALUE",
            help="Only runs with this tag; may be repeated.",
        ),
        click.option(
            "--kind",
            type=click.Choice([kind.value.lower() for kind in StepKind], case_sensitive=False),
            metavar="KIND",
            help="Only runs with a step of this kind: llm, tool, agent, ...",
        ),
        click.option(
            "--since",
            help="Only runs that started at this time or later: 2h (ago), 2026-11-30, or with time.",
        ),
        click.option("--until", help="Only runs that started before this time."),
        click.option("--min-duration", help="Only runs that took so long or longer: 500ms, 2s, 1.5m."),
        click.option("--max-duration", help="Only runs that took so long or less."),
    )

    @functools.wraps(function)
    def with_filter(**arguments: Any) -> None:
        given = {name: arguments.pop(name) for name in _NAMES}
        function(wanted=_run_filter(given), **arguments)

    for option in reversed(options):
        with_filter = option(with_filter)
    return with_filter


_NAMES = (
    "status", "name", "workflow_name", "user_id", "conversation_id", "trace_id", "tags", "kind", "since", "until",
    "min_duration", "max_duration",
)  # fmt: skip


_TIMES = ("since", "until", "min_duration", "max_duration")


def moment_ns(text: str, option: str) -> int:
    """
    Return a time in nanoseconds since the epoch: an ISO 8601 date or time, local unless it says otherwise, or an age.

    Raises:
        CommandError: It is neither.
    """
    if _SPAN_OF_TIME.fullmatch(text.strip()):
        return time.time_ns() - duration_ns(text, option)
    try:
        seconds = datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError):
        raise CommandError(
            f"{option} {text!r} is not a time. Give an age such as 90m, 2h or 7d, or a time such as 2026-11-30T14:00."
        ) from None
    return max(-_MOST_NS, min(_MOST_NS, int(seconds * 1e9)))


def duration_ns(text: str, option: str) -> int:
    """
    Return a duration in nanoseconds.

    Raises:
        CommandError: It is none.
    """
    match = _SPAN_OF_TIME.fullmatch(text.strip())
    if match is None:
        raise CommandError(
            f"{option} {text!r} is not a duration. Give a number and its unit: 500ms, 2s, 1.5m, 3h, 7d."
        )
    return min(_MOST_NS, int(float(match[1]) * _UNITS[match[2]]))


def _run_filter(given: dict[str, Any]) -> RunFilter:
    tags: list[tuple[str, str]] = []
    for tag in given.pop("tags"):
        name, equals, value = tag.partition("=")
        if not equals:
            raise CommandError(f"--tag {tag!r} has no value. Give a name and a value: --tag tenant=acme")
        tags.append((name, value))
    found: dict[str, Any] = {
        key: read(given[option], f"--{option.replace('_', '-')}")
        for key, option, read in (
            ("since_ns", "since", moment_ns),
            ("until_ns", "until", moment_ns),
            ("min_duration_ns", "min_duration", duration_ns),
            ("max_duration_ns", "max_duration", duration_ns),
        )
        if given[option] is not None
    }
    found |= {key: value for key, value in given.items() if key not in _TIMES}
    return RunFilter(tags=tuple(tags), **found)
