"""G20: a configuration that records nothing says so once, with what may have been meant."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.warm_interpreter import Ended, run_warm

P = "NAT_OBSERVABILITY_"
TYPE = f"{P}EXPORTERS__MAIN__TYPE"

SCRIPT = """
from containers import observability
from nat_observability import step
for _ in range(3):
    with observability():
        with step("tool", "t"):
            pass
"""
RUNTIME = """
import asyncio
from containers import ObservabilityContainer
async def main():
    for _ in range(3):
        container = ObservabilityContainer()
        await container.init_resources()
        container.exporter_manager()
        await container.shutdown_resources()
asyncio.run(main())
"""


def ran(directory: Path, variables: dict[str, str], code: str = SCRIPT, *, status: int = 0) -> Ended:
    """A program in `directory`, with these variables and no others of ours or OpenTelemetry's."""
    others = {
        name: value for name, value in os.environ.items() if not name.upper().startswith(("NAT_", "OTEL_"))
    }
    done = run_warm(code, cwd=directory, env={**others, **variables}, timeout=50.0, strict=False)
    assert done.returncode == status, done.stderr
    return done


def warned(directory: Path, variables: dict[str, str], code: str = SCRIPT) -> str:
    """What the one warning of a program says."""
    stderr = ran(directory, variables, code).stderr
    lines = [line for line in stderr.splitlines() if line.startswith("no_exporter_configured ")]
    assert len(lines) == 1, stderr
    return lines[0]


@pytest.mark.parametrize("code", [SCRIPT, RUNTIME], ids=["observability", "runtime"])
def test_g20_nothing_configured_is_said_once(tmp_path: Path, code: str) -> None:
    """However often the process opens a runtime; the line says how to configure one, and how to be silent."""
    line = warned(tmp_path, {}, code)
    assert "seen=[]" in line
    assert f"Set {TYPE}, or {P}ENABLED=false." in line


@pytest.mark.parametrize("exporters", ["{}", '{"main": {"type": "memory"}}'], ids=["none", "one"])
def test_an_empty_object_of_exporters_is_none(tmp_path: Path, exporters: str) -> None:
    """What counts is whether there is an exporter."""
    stderr = ran(tmp_path, {f"{P}EXPORTERS": exporters}).stderr
    assert ("no_exporter_configured" in stderr) == (exporters == "{}")


@pytest.mark.parametrize(
    "variables",
    [
        {TYPE: "memory"},
        {TYPE.lower(): "memory"},
        {"Nat_Observability_Exporters__Main__Type": "memory"},
        {f"{P}ENABLED": "false"},
        {f"{P}ENABLED": "false", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a"},
        {"OTEL_SDK_DISABLED": "true"},
    ],
    ids=lambda variables: " ".join(variables),
)
def test_no_warning_if_configured_or_switched_off(tmp_path: Path, variables: dict[str, str]) -> None:
    """Names are not case-sensitive."""
    assert ran(tmp_path, variables).stderr == ""


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("NAT_OBSERVABILTY_EXPORTERS__MAIN__TYPE", TYPE),
        ("nat_observabilty_exporters__main__type", TYPE),
        ("NAT_OBSERVABILITIES_EXPORTERS__MAIN__TYPE", TYPE),
        ("NATOBSERVABILITY_EXPORTERS__MAIN__TYPE", TYPE),
        ("NAT_OBSERVABILITYEXPORTERS__MAIN__TYPE", TYPE),
        ("NAT__OBSERVABILITY__EXPORTERS__MAIN__TYPE", TYPE),
        ("OBSERVABILITY_EXPORTERS__MAIN__TYPE", TYPE),
        ("EXPORTERS__MAIN__TYPE", TYPE),
        ("NAT_OBS_EXPORTERS__MAIN__TYPE", TYPE),
        ("NAT_OBSERVABILTY_EXPORTER__MAIN__TYPE", TYPE),
        ("NAT_OBSERVABILITY_EXPORTER__MAIN__TYPE", TYPE),
        ("NAT_OBSERVABILITY__EXPORTERS__MAIN__TYPE", TYPE),
        ("NAT_OBSERVABILITY_EXPORTERS_MAIN_TYPE", TYPE),
        ("NAT_OBSERVABILTY_ENV_FILE", f"{P}ENV_FILE"),
        ("NAT_OBSERVABILITY_ENVFILE", f"{P}ENV_FILE"),
    ],
)
def test_a_misspelt_variable_is_named_with_what_was_meant(tmp_path: Path, name: str, meant: str) -> None:
    """The variable's value is not shown."""
    line = warned(tmp_path, {name: "s3cr3t"})
    assert f"{name} is not a setting. Did you mean {meant}?" in line
    assert "s3cr3t" not in line


@pytest.mark.parametrize("name", ["DATABASE_URL", "PATHS", "NAT_GATEWAY_ID", "EXPORTER_HOME", "NATS_URL"])
def test_what_belongs_to_others_is_not_named(tmp_path: Path, name: str) -> None:
    """Only what begins nearly as ours do."""
    assert "seen=[]" in warned(tmp_path, {name: "x"})


def test_a_standard_variable_that_names_no_exporter_is_named(tmp_path: Path) -> None:
    """`none` is a choice, and the line says how to take it back; an endpoint beside it changes nothing."""
    variables = {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}
    ours = warned(tmp_path, {"OTEL_TRACES_EXPORTER": "nat_observability"})
    assert (
        "OTEL_TRACES_EXPORTER hands the SDK's spans to this package, whose exporters are set by other" in ours
    )
    line = warned(tmp_path, variables)
    assert "OTEL_TRACES_EXPORTER names no exporter of this package: set it to otlp or console." in line


def test_an_env_file_that_is_not_read_is_named(tmp_path: Path) -> None:
    """One of the usual name, in the working directory."""
    (tmp_path / ".env").write_text(f"{TYPE}=memory\n")
    assert f"{tmp_path / '.env'} is not read: set {P}ENV_FILE=.env." in warned(tmp_path, {})
    assert ran(tmp_path, {f"{P}ENV_FILE": ".env"}).stderr == ""


def test_an_env_file_that_names_no_exporter_is_named(tmp_path: Path) -> None:
    """With what was misspelt in it."""
    (tmp_path / ".env").write_text("NAT_OBSERVABILTY_EXPORTERS__MAIN__TYPE=memory\nOBSERVABILITY_X=1\n")
    done = ran(tmp_path, {f"{P}ENV_FILE": ".env"})
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("no_exporter_configured")]
    assert f"{tmp_path / '.env'} was read, and names no exporter." in line
    assert f"NAT_OBSERVABILTY_EXPORTERS__MAIN__TYPE is not a setting. Did you mean {TYPE}?" in line
    assert "not read" not in line
    assert "OBSERVABILITY_X" not in line


@pytest.mark.parametrize("name", [f"{P}ENV_FILE", f"{P}env_file".lower()])
@pytest.mark.parametrize("code", [SCRIPT, RUNTIME], ids=["observability", "runtime"])
def test_a_missing_env_file_stops_the_start(tmp_path: Path, name: str, code: str) -> None:
    """It names the variable and the path, relative to what."""
    stderr = ran(tmp_path, {name: "deep/nowhere.env"}, code, status=1).stderr
    assert f"{P}ENV_FILE names deep/nowhere.env, which does not exist in {tmp_path}; allowed:" in stderr


def test_a_services_own_env_file_counts_as_read(tmp_path: Path) -> None:
    """Settings that are derived from ours may have one of their own."""
    (tmp_path / ".env").write_text("OTHER=1\n")
    code = f"""
from containers import ObservabilityContainer
from nat_observability.settings import ObservabilitySettings
class Shop(ObservabilitySettings):
    model_config = {{"env_file": ".env"}}
container = ObservabilityContainer()
container.settings.override(Shop())
{SCRIPT.replace("observability():", "observability(container=container):")}
"""
    line = warned(tmp_path, {}, code)
    assert f"{tmp_path / '.env'} was read, and names no exporter." in line
    assert "not read" not in line
