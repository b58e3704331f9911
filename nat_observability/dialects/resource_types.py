"""Resource, ResourceValue: the attributes of a resource, of the types that OpenTelemetry allows there."""

from __future__ import annotations

from collections.abc import Mapping

ResourceValue = str | bool | int | float | list[str] | list[bool] | list[int] | list[float]
"""A value of the types that OpenTelemetry allows there."""

Resource = Mapping[str, ResourceValue]
"""By name."""
