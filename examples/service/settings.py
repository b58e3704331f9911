"""The service's settings, and what they mean for its telemetry."""

# Annotations are not postponed: pydantic evaluates them.
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from nat_observability.settings import ObservabilitySettings


class TlsSettings(BaseModel):
    """The certificates that the service trusts and presents, for every connection that it makes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ca_file: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None


class ServiceSettings(BaseSettings):
    """The service's variables: `TEA_DATABASE`, `TEA_TLS__CA_FILE`, `TEA_TENANTS={"acme": "a.txt"}`."""

    model_config = SettingsConfigDict(
        env_prefix="TEA_", env_nested_delimiter="__", env_ignore_empty=True, frozen=True
    )

    name: str = Field(default="tea", description="The name of this instance.")
    database: Path = Field(
        default=Path("tea.sqlite"), description="Holds the teas, and the steps of every run."
    )
    pool_size: int = Field(default=2, ge=1, description="Connections to the database.")
    tenants: dict[str, Path] = Field(
        default_factory=dict, description="The journal of each tenant that wants one."
    )
    suppliers_url: str | None = Field(
        default=None, description="Where prices are asked for; without it there are none."
    )
    collector_url: str | None = Field(default=None, description="An OTLP collector, which gets every run.")
    tls: TlsSettings = TlsSettings()


def observability_settings(service: ServiceSettings) -> ObservabilitySettings:
    """
    Return the settings of the service's telemetry.

    NAT_OBSERVABILITY_ variables set everything else, further exporters included.
    """
    exporters: dict[str, Any] = {"database": {"type": "database"}}
    for tenant, path in service.tenants.items():
        exporters[f"journal-{tenant}"] = {"type": "journal", "tenant": tenant, "path": path}
    if service.collector_url is not None:
        exporters["collector"] = {
            "type": "otlp",
            "endpoint": service.collector_url,
            **service.tls.model_dump(),
        }
    return ObservabilitySettings(service_name=service.name, exporters=exporters)
