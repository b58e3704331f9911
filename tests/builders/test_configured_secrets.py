"""Secrets that the configuration puts beside every item are redacted as items are."""

import asyncio
from pathlib import Path

import pytest

from nat_observability import ContextState, step
from nat_observability.containers import ObservabilityContainer
from nat_observability.settings import ObservabilitySettings

SECRET = "hunter2x9Lm4Qw8Tz"


async def record(container: ObservabilityContainer) -> None:
    """Record one run."""
    await container.init_resources()
    async with container.exporter_manager().start(ContextState()):
        with step("tool", "search"):
            pass
    await container.shutdown_resources()


def written(path: Path, **settings: object) -> str:
    """What a file of OTLP requests holds of one run."""
    file = {"type": "file", "path": path, "format": "otlp_json", "redact": settings.pop("redact", True)}
    given = ObservabilitySettings(exporters={"main": file}, **settings)  # type: ignore[arg-type]
    container = ObservabilityContainer(settings=given)
    container.exporters()  # looks at the disk
    asyncio.run(record(container))
    return path.read_text()


@pytest.mark.parametrize(
    "settings",
    [
        {"resource_attributes": {"api_key": SECRET}},
        {"resource_attributes": {"process.command_line": f"serve --password {SECRET} --port 80"}},
        {"resource_attributes": {"process.command_args": ["serve", "--password", SECRET]}},
        {"resource_attributes": {"db.url": f"postgresql://bob:{SECRET}@db/main"}},
        {"service_name": f"serve password={SECRET}"},
        {"tags": {"api_key": SECRET, "tier": "gold"}},
    ],
)
def test_g13_no_secret_of_the_configuration_leaves(tmp_path: Path, settings: dict[str, object]) -> None:
    """In attributes of the resource, the service's name, or tags."""
    text = written(tmp_path / "spans.json", **settings)
    assert SECRET not in text
    assert "[redacted:" in text


def test_what_is_no_secret_is_kept_with_its_type(tmp_path: Path) -> None:
    """Numbers, switches and lists too."""
    attributes = {"deployment.environment": "prod", "shard": 7, "canary": True, "zones": ["a", "b"]}
    text = written(tmp_path / "spans.json", resource_attributes=attributes, service_name="shop-of-the-north")
    for part in (
        '"stringValue":"prod"',
        '"intValue":"7"',
        '"boolValue":true',
        '"stringValue":"shop-of-the-north"',
    ):
        assert part in text.replace(" ", "")


def test_redaction_that_is_off_leaves_them(tmp_path: Path) -> None:
    """As it does with items."""
    assert SECRET in written(tmp_path / "s.json", redact=False, resource_attributes={"api_key": SECRET})
