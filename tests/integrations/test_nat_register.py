"""`_type: nat_observability` in the toolkit's YAML: it is registered, checked, shown, and records runs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nat.builder", reason="the NeMo Agent Toolkit is installed apart. Cure: make test-nat")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the packages that it imports
    from nat.builder.workflow_builder import WorkflowBuilder
    from nat.data_models.config import Config, GeneralConfig, TelemetryConfig
    from nat.observability.exporter_manager import ExporterManager as ToolkitManager
    from pydantic import ValidationError

    from nat_observability.integrations.nat.register import NatObservabilityTelemetryExporter
    from tests.integrations.nat_workflows import DoConfig

from nat_observability import ExporterManager
from nat_observability.integrations.nat import close_deliveries
from nat_observability.store import Store

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the packages that the toolkit imports
    pytest.mark.timeout(60),
]


def config(**section: Any) -> Any:
    tracing = {"ours": NatObservabilityTelemetryExporter(**section)}
    return Config(
        general=GeneralConfig(telemetry=TelemetryConfig(tracing=tracing)), workflow=DoConfig(does="shout")
    )


def texts_of(path: Path) -> list[str]:
    """What a store has of the inputs and outputs of its one run."""
    with Store(path) as store:
        (run,) = store.runs()
        return [f"{span.input!r}{span.output!r}" for span in store.spans(run.run.run_id)]


async def test_a_run_is_in_the_store(tmp_path: Path) -> None:
    """What the section says holds: the file, redaction, and that a run's end waits for the store."""
    path = tmp_path / "spans.sqlite3"
    exporter = {"type": "sqlite", "path": str(path), "flush": "delivered", "redact_personal": "email"}
    async with WorkflowBuilder.from_config(config(exporter=exporter)) as builder:
        built = await builder.build()
        assert isinstance(built.exporter_manager, ExporterManager)
        async with built.run("to ann@example.org") as runner:
            assert await runner.result() == "TO ANN@EXAMPLE.ORG"
        texts = await asyncio.to_thread(texts_of, path)
    assert texts
    assert not any("ann@example.org" in text.lower() for text in texts)
    close_deliveries()


async def test_the_toolkit_s_manager_stays_if_the_section_says_so(tmp_path: Path) -> None:
    """And its own is back when the builder has ended."""
    exporter = {"type": "file", "path": str(tmp_path / "spans.jsonl"), "flush": "delivered"}
    async with WorkflowBuilder.from_config(config(exporter=exporter, manager=False)) as builder:
        built = await builder.build()
        assert isinstance(built.exporter_manager, ToolkitManager)
    from nat.builder import workflow

    assert workflow.ExporterManager is ToolkitManager


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"type": "sqlite"}, "exporter.path is not set"),
        (
            {"type": "sqlite", "path": "x", "flush": "s3cr3t"},
            "exporter.flush is not valid; allowed: handed_over",
        ),
        (
            {"type": "sqlite", "path": "x", "flushed": "x"},
            "exporter.flushed is not a setting. Did you mean exporter.flush?",
        ),
        ({}, "exporter.type is not set"),
        ({"type": "sqlit"}, "exporter.type: no exporter type 'sqlit'. Did you mean 'sqlite'?"),
    ],
)
def test_a_wrong_section_is_refused_in_the_file_s_words(section: dict[str, Any], said: str) -> None:
    """As `nat validate` shows it, without the value."""
    with pytest.raises(ValidationError) as caught:
        NatObservabilityTelemetryExporter(exporter=section)
    (error,) = caught.value.errors(include_input=False)
    assert said in error["msg"]
    assert "s3cr3t" not in error["msg"]


# In one process: each costs seconds.
COMMANDS = """
import sys
from pathlib import Path
from unittest.mock import patch
from nat.cli.entrypoint import cli
from click.testing import CliRunner
good, bad = sys.argv[1:]
for arguments in (["validate", "--config_file", good], ["validate", "--config_file", bad],
                  ["info", "components", "-t", "tracing", "-q", "nat_observability"]):
    done = CliRunner().invoke(cli, arguments)
    print("=====", done.exit_code)
    print(done.output)
"""


@pytest.mark.slow
def test_the_toolkit_s_command_knows_it(tmp_path: Path) -> None:
    """`nat validate` accepts it and names a mistake; `nat info components -t tracing` shows it."""
    metadata = tmp_path / "metadata" / "nat_observability_checkout-0.0.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: nat-observability-checkout\nVersion: 0.0.0\n"
    )
    module = "nat_observability = nat_observability.integrations.nat.register"
    assert module.replace("= ", '= "') in (ROOT / "pyproject.toml").read_text("utf-8")
    (metadata / "entry_points.txt").write_text(f"[nat.components]\n{module}\n")
    workflow = "workflow: {_type: current_datetime}\n"
    tracing = "general: {telemetry: {tracing: {ours: {_type: nat_observability, exporter: %s}}}}\n"
    good, bad = tmp_path / "good.yml", tmp_path / "bad.yml"
    good.write_text(tracing % "{type: sqlite, path: x.sqlite3, flush: delivered}" + workflow)
    bad.write_text(tracing % "{type: sqlite}" + workflow)
    ran = subprocess.run(
        [sys.executable, "-c", COMMANDS, str(good), str(bad)],
        cwd=tmp_path,
        env={
            "PYTHONPATH": f"{ROOT}:{metadata.parent}",
            "PATH": "/usr/bin:/bin",
            "COLUMNS": "200",
            "HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    _, validated, refused, listed = ran.stdout.split("=====")
    assert validated.startswith(" 0"), ran.stdout + ran.stderr
    assert "exporter.path is not set" in refused + ran.stderr, ran.stdout + ran.stderr
    assert "nat_observability" in listed
    assert "NAT_OBSERVABILITY_EXPORTERS__NAME__" in listed
