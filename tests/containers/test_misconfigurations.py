"""Every misconfiguration in docs/misconfigurations.md: an error, a warning or a log line, in few words."""

from __future__ import annotations

import asyncio
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from dependency_injector import providers
from fastapi import FastAPI
from structlog.testing import capture_logs

from nat_observability import ContextState, ExporterManager, ObservabilityRuntime, SpanExporter, step
from nat_observability.containers import ObservabilityContainer
from nat_observability.errors import (
    InvalidExporterError,
    InvalidSelectionError,
    ObservabilityError,
    SettingsWarning,
    UnknownStepKindError,
)
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.integrations.fastapi import instrument
from nat_observability.settings import ObservabilitySettings
from nat_observability.settings.sources import unused_hints

_PAGE = (
    (Path(__file__).parents[2] / "docs" / "misconfigurations.md").read_text().partition("\n## In code\n")[0]
)
_CELL = re.compile(r"(?<!\\)\|")
P = "NAT_OBSERVABILITY_"


def rows() -> list[tuple[str, str]]:
    """What is configured, and a part of what is said, from the table."""
    lines = [line for line in _PAGE.splitlines() if line.startswith("| `")]
    cells = [[cell.strip().replace("\\|", "|") for cell in _CELL.split(line)[1:-1]] for line in lines]
    return [(given, said.strip("`")) for given, said in cells]


def variables(given: str) -> dict[str, str]:
    """The variables of a row, which leaves out the prefix that all of ours have."""
    found = dict(pair.partition("=")[::2] for pair in re.findall(r"`([^`]+)`", given))
    others = ("OTEL_", "NAT", "PHOENIX_")
    return {name if name.startswith(others) else P + name: value for name, value in found.items()}


def said(monkeypatch: pytest.MonkeyPatch, given: str) -> str:
    """What is said about a configuration: an error, warnings, or a log line."""
    for name in [name for name in os.environ if name.startswith((P, "OTEL_", "PHOENIX_"))]:
        monkeypatch.delenv(name)
    for name, value in variables(given).items():
        monkeypatch.setenv(name, value)
    container = ObservabilityContainer()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", SettingsWarning)
        try:
            container.validate()
        except (ObservabilityError, ValueError) as error:
            return str(error)
    if warned:
        return "\n".join(str(each.message) for each in warned)
    # What the line `no_exporter_configured` says, which is written once in a process.
    settings = container.settings()
    return "" if settings.exporters else "\n".join(unused_hints(type(settings)))


def test_the_table_is_long_enough() -> None:
    """And no row is there twice."""
    assert len({given for given, _ in rows()}) == len(rows()) >= 40


@pytest.mark.may_block  # settings are read once, when the process starts
def test_each_is_said_in_few_words(tmp_path: Path) -> None:
    """At most ten lines, of which the first says what is wrong; a secret is never shown."""
    wrong = []
    for given, message in rows():
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.chdir(tmp_path)
            found = said(monkeypatch, given).splitlines()
        if not found or message not in found[0] or len(found) > 10 or "s3cr3t" in "".join(found):
            wrong.append((given, message, found))
    assert not wrong


def coroutine(name: str, own: object, settings: object) -> Any:
    """A builder that was written as a coroutine function."""

    async def build() -> BaseExporter:
        return SpanExporter(print, name=name)

    return build()


def a_class(name: str, own: object, settings: object) -> Any:
    """A builder that returns a class instead of an exporter."""
    return SpanExporter


def a_future(name: str, own: object, settings: object) -> Any:
    """A builder that returns what will be an exporter."""
    return asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("build", [coroutine, a_class, a_future], ids=lambda build: build.__name__)
async def test_a_builder_that_makes_no_exporter_is_named(build: Callable[..., Any]) -> None:
    """By the name of the exporter, when the container validates."""
    settings = ObservabilitySettings(exporters={"main": {"type": "own"}})
    container = ObservabilityContainer(settings=settings, exporter_types=providers.Object({"own": build}))
    with pytest.raises(InvalidExporterError, match=r"^Exporter 'main' is (a|the class) \w+"):
        container.validate()


async def selects(run: Any) -> bool:
    """A selection that was written as a coroutine function."""
    return True


def instrumented(**options: Any) -> None:
    """Instrument an application with these options."""
    instrument(FastAPI(), ObservabilityContainer(), **options)


IN_CODE: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: SpanExporter(print, select=selects), InvalidSelectionError, "a coroutine function"),  # type: ignore[arg-type]
    (lambda: SpanExporter(print, flush=cast(Any, "deliverd")), ValueError, "not 'deliverd'"),
    (
        lambda: instrumented(heatlh="/health"),
        TypeError,
        "no option 'heatlh'. Known: baggage, excluded, health",
    ),
    (lambda: instrumented(health="health"), ValueError, "health: 'health' is not a path"),
    (lambda: ObservabilityRuntime([]), TypeError, "a mapping of names to exporters, not of type list"),  # type: ignore[arg-type]
    (lambda: ExporterManager().add_exporter("a", cast(Any, SpanExporter)), InvalidExporterError, "the class"),
    (lambda: ContextState(tags="tenant=acme"), TypeError, "tags is a mapping"),  # type: ignore[arg-type]
    (lambda: step("lmm", "x"), UnknownStepKindError, "Did you mean 'llm'?"),
]


@pytest.mark.may_block  # settings are read once, when the process starts
@pytest.mark.parametrize(("make", "error", "words"), IN_CODE, ids=[words for *_, words in IN_CODE])
def test_what_is_wrong_in_code_is_refused(
    make: Callable[[], object], error: type[Exception], words: str
) -> None:
    """Where it is written, in words."""
    with pytest.raises(error, match=re.escape(words)) as caught:
        make()
    assert len(str(caught.value).splitlines()) <= 10


async def test_an_exporter_that_comes_after_the_shutdown_is_warned_about() -> None:
    """It is not open, and opens with its first run; before the start nothing has to be said."""
    spans: list[Any] = []
    runtime = ObservabilityRuntime({})
    runtime.add_exporter("early", SpanExporter(print))
    with capture_logs() as logs:
        async with runtime:
            pass
        assert [line for line in logs if line["log_level"] == "warning"] == []
        runtime.add_exporter("late", SpanExporter(spans.extend, flush="delivered"))
    [said] = [line for line in logs if line["log_level"] == "warning"]
    assert (said["event"], said["feature"], said["state"]) == (
        "runtime_not_open",
        "Exporter 'late'",
        "closed",
    )
    manager = ExporterManager.from_exporters({"late": runtime.exporters["late"]})
    async with manager.start(ContextState()):
        with step("tool", "x"):
            pass
    assert [span.name for span in spans] == ["x"]
