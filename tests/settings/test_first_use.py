"""Models of settings are built when they are first used, in any thread, and no others."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, cast

import pytest

from nat_observability.errors import SettingsError
from nat_observability.settings import ExporterSettings, ObservabilitySettings
from tests.processes import run_program


def test_a_model_is_built_once_by_many_threads_at_once() -> None:
    """All of them get settings that are validated by the model's own fields."""

    class OwnSettings(ExporterSettings):
        place: int = 1

    barrier = threading.Barrier(8)
    made: list[OwnSettings] = []

    def make() -> None:
        barrier.wait(10)
        made.append(OwnSettings.model_validate({"type": "own", "place": "7"}) if len(made) % 2 else own())

    def own() -> OwnSettings:
        return OwnSettings(type="own", place=7)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert [(each.type, each.place, each.queue_items) for each in made] == [("own", 7, 8192)] * 8


def test_a_json_schema_of_all_settings_has_every_type_of_exporter() -> None:
    """What is validated by its type alone is described as before."""
    schema = ObservabilitySettings.model_json_schema()
    assert {"OtlpExporterSettings", "CustomExporterSettings"} <= set(schema["$defs"])
    assert len(schema["properties"]["exporters"]["additionalProperties"]["oneOf"]) == 10


def test_names_in_an_entry_are_in_either_case() -> None:
    """As those of variables are; those of an application's own type of exporter stay as they are."""
    entries: dict[str, Any] = {
        "a": {"TYPE": "file", "Path": "x", "QUEUE_ITEMS": 7},
        "b": {"Type": "own", "Region": "eu"},
    }
    settings = ObservabilitySettings(exporters=entries)
    assert (settings.exporters["a"].queue_items, settings.exporters["a"].type) == (7, "file")
    assert cast(Any, settings.exporters["b"]).options() == {"Region": "eu"}


def test_what_is_wrong_in_an_entry_names_its_variable() -> None:
    """Problems of several exporters are reported together, each with the name of its variable."""
    with pytest.raises(SettingsError) as caught:
        ObservabilitySettings(
            exporters={"a": {"type": "otlp", "timeout": "never"}, "b": {"type": "file", "nothing": 1}, "c": 7}  # type: ignore[dict-item]
        )
    lines = str(caught.value)
    assert "NAT_OBSERVABILITY_EXPORTERS__A__TIMEOUT " in lines
    assert "NAT_OBSERVABILITY_EXPORTERS__B__NOTHING is not a setting" in lines
    assert "NAT_OBSERVABILITY_EXPORTERS__C is not a group of settings" in lines
    with pytest.raises(SettingsError, match="EXPORTERS__A__TYPE"):
        ObservabilitySettings(exporters={"a": {"TYPE": ["otlp"]}})


def test_starting_a_container_builds_and_imports_only_what_its_exporters_need(tmp_path: Path) -> None:
    """Neither clients of back ends nor other exporters; and once it is open nothing is imported any more.

    A process that is forked while another thread imports a module can never import that itself.
    """
    run_program(
        """
import asyncio, os, sys

def ours():
    return {name for name in sys.modules if name.startswith("nat_observability.")}

import nat_observability
assert ours() == {"nat_observability.lazy_names"}
# dependency-injector imports FastAPI, which imports OpenTelemetry; and pydantic-settings much of the standard library
sys.modules["fastapi"] = None
import dependency_injector.containers, dependency_injector.providers, pydantic_settings, structlog
before = set(sys.modules)
os.environ["NAT_OBSERVABILITY_EXPORTERS__MAIN__TYPE"] = "file"
os.environ["NAT_OBSERVABILITY_EXPORTERS__MAIN__PATH"] = sys.argv[1]
from nat_observability.containers import ObservabilityContainer

UNUSED = (
    "aiohttp", "click", "difflib", "email", "grpc", "importlib.metadata", "opentelemetry", "sqlite3", "ssl", "tomllib",
    *(
        f"nat_observability.{name}"
        for name in (
            "cli",
            "containers.script",
            "dialects",
            "integrations",
            "processors.pricing",
            "settings.example_env",
            "settings.exporters.custom",
            "settings.exporters.sending",
            "settings.presets",
            "settings.standard_variables.configuration_file",
            "settings.standard_variables.makers",
            "sinks.console",
            "sinks.memory",
            "sinks.otlp",
            "sinks.sqlite",
            "spool.spool",
            "store",
            "testing",
            "viewer",
        )
    ),
)

async def main():
    container = ObservabilityContainer()
    await container.init_resources()
    found = {name for name in set(sys.modules) - before if name in UNUSED or name.rpartition(".")[0] in UNUSED}
    assert not found, found
    assert len(ours()) <= 240, sorted(ours())

    class Refusing:
        def find_spec(self, name, path=None, target=None):
            raise AssertionError(f"{name} is imported late")

    sys.meta_path.insert(0, Refusing())
    for name in nat_observability.__all__:
        getattr(nat_observability, name)
    from nat_observability import ContextState, step
    async with container.exporter_manager().start(ContextState()) as manager:
        with step("tool", "work", input={"password": "hunter2", "other": object}):
            pass
        assert (await manager.flush(10)).complete
    assert "nat_observability.processors.redaction.scrubber" in sys.modules
    await container.shutdown_resources()
    del sys.meta_path[0]
    from nat_observability.settings import FileExporterSettings, OtlpExporterSettings, SqliteExporterSettings

    assert FileExporterSettings.__pydantic_complete__
    assert not OtlpExporterSettings.__pydantic_complete__
    assert not SqliteExporterSettings.__pydantic_complete__
    from nat_observability.sinks import FileSink

    FileSink(sys.argv[1] + "l", format="otlp_json")
    assert "nat_observability.sinks.otlp.json" in sys.modules  # before the first batch
    written = open(sys.argv[1]).read()
    assert "[redacted:password]" in written and "hunter2" not in written, written

asyncio.run(main())
""",
        tmp_path / "spans.jsonl",
        fresh=True,
    )
