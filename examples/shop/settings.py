"""The shop's settings, and what they mean for its telemetry."""

# Annotations are not postponed: pydantic evaluates them.
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from nat_observability.settings import ObservabilitySettings


class ShopSettings(BaseSettings):
    """The shop's variables: `SHOP_DATABASE`, `SHOP_TENANTS={"acme": "acme.sqlite3"}`."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_ignore_empty=True, frozen=True)

    name: str = Field(default="shop", description="The name of this service.")
    database: Path = Field(
        default=Path("shop.sqlite3"), description="Holds orders, and the spans of every run."
    )
    pool_size: int = Field(default=2, ge=1, description="Connections to the database.")
    redis_url: str | None = Field(
        default=None, description="The queue of the worker; without it, this process works."
    )
    suppliers_url: str = Field(default="http://localhost:8001", description="Where prices are asked for.")
    tenants: dict[str, Path] = Field(
        default_factory=dict, description="The store of each tenant that wants its own."
    )


def observability_settings(shop: ShopSettings) -> ObservabilitySettings:
    """
    Return the settings of the shop's telemetry; NAT_OBSERVABILITY_ variables set everything else.

    Every span goes to the shop's own database, through its pool; those of a tenant's runs to the tenant's store, too.
    The tag `tenant` travels to the worker, and to the suppliers.
    """
    exporters: dict[str, Any] = {"database": {"type": "database"}}
    for tenant, path in shop.tenants.items():
        exporters[f"tenant-{tenant}"] = {"type": "sqlite", "path": path, "select": f"tenant={tenant}"}
    return ObservabilitySettings(service_name=shop.name, exporters=exporters, propagate_tags=["tenant"])
