"""Models of settings are built when they are first used, in any thread, and no others."""

from __future__ import annotations

import threading

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


def test_starting_a_container_builds_and_imports_only_what_its_exporters_need() -> None:
    """Neither clients of back ends nor OpenTelemetry nor the models of other exporters."""
    run_program(
        """
import asyncio, os, sys
sys.modules["fastapi"] = None  # dependency-injector imports it, and it imports OpenTelemetry
os.environ["NAT_OBSERVABILITY_EXPORTERS__MAIN__TYPE"] = "memory"
from nat_observability.containers import ObservabilityContainer
from nat_observability.settings import MemoryExporterSettings, OtlpExporterSettings, SqliteExporterSettings

async def main():
    container = ObservabilityContainer()
    await container.init_resources()
    await container.shutdown_resources()

asyncio.run(main())
for module in ("aiohttp", "click", "grpc", "opentelemetry"):
    assert module not in sys.modules, module
assert MemoryExporterSettings.__pydantic_complete__
assert not OtlpExporterSettings.__pydantic_complete__
assert not SqliteExporterSettings.__pydantic_complete__
""",
        fresh=True,
    )
