"""Promise G13 in logs and reports: what foreign code says about an item before redaction is not repeated."""

from __future__ import annotations

import re

from structlog.testing import capture_logs

from nat_observability import ContextState, step
from nat_observability.events import IntermediateStep, Run
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter_manager import ExporterManager

SECRET = "sk-proj-" + "a1B2c3D4" * 6
PLACE = re.compile(r"OSError at .*test_logged_errors\.py:\d+")


class Telling(BaseExporter):
    """An exporter whose errors repeat what it was given."""

    def __init__(self, *, fails_at: str) -> None:
        super().__init__()
        self.fails_at = fails_at
        self.held: list[object] = []

    def export(self, event: IntermediateStep) -> None:
        self.held.append(event.input)
        if self.fails_at == "export":
            raise OSError(f"refused: {event.input!r}")

    def wants(self, run: Run) -> bool:
        raise OSError(f"no tenant of {run.user_id}")


async def recorded(exporter: BaseExporter) -> tuple[list[str], str, list[str]]:
    """Record a step with a secret; return the events of the log, all that it says with the report, and its errors."""
    manager = ExporterManager.from_exporters({"own": exporter})
    with capture_logs() as lines:
        async with manager.start(ContextState(user_id=SECRET)) as running:
            with step("tool", "search", input={"query": SECRET}):
                pass
    errors = [str(line["error"]) for line in lines if "error" in line]
    events = [line["event"] for line in lines if "error" in line]
    report = running.report
    errors += [each.error for each in report.exporters.values() if each.error is not None]
    return events, f"{lines} {report}", errors


async def test_g13_an_exporter_that_fails_is_named_without_its_message() -> None:
    """`export` saw the step before redaction: the class of its error and its place say what happened."""
    events, everything, errors = await recorded(Telling(fails_at="export"))
    assert SECRET not in everything
    assert events == ["export_failed"]
    assert len(errors) == 2
    assert all(PLACE.fullmatch(error) for error in errors)


async def test_g13_a_choice_that_fails_is_named_without_its_message() -> None:
    """So did what chooses the runs: it saw who the user is."""
    exporter = Telling(fails_at="select")
    exporter.select = exporter.wants
    events, everything, errors = await recorded(exporter)
    assert SECRET not in everything
    assert set(events) <= {
        "exporter_selection_failed"
    }  # repeated ones are summarised, those of other tests too
    assert all(PLACE.fullmatch(error) for error in errors)


class Holding(Telling):
    """An exporter that stops with an error about what it has left."""

    async def stop(self) -> None:
        raise OSError(f"not sent: {self.held!r}")


async def test_g13_an_exporter_that_fails_to_stop_is_named_without_its_message() -> None:
    """By then it has seen the steps."""
    events, everything, errors = await recorded(Holding(fails_at="stop"))
    assert SECRET not in everything
    assert events == ["exporter_stop_failed"]
    assert all(PLACE.fullmatch(error) for error in errors)


async def test_g13_a_subscriber_that_fails_is_named_without_its_message() -> None:
    """It is called with the step as it was recorded."""
    state = ContextState()

    def tell(event: IntermediateStep) -> None:
        raise OSError(f"refused: {event.input!r}")

    state.stream.subscribe("own", tell)
    with capture_logs() as lines:
        async with ExporterManager.from_exporters({}).start(state):
            with step("tool", "search", input=SECRET):
                pass
    assert SECRET not in str(lines)
    failures = [line["error"] for line in lines if line["event"] == "subscriber_failed"]
    assert all(PLACE.fullmatch(error) for error in failures)
