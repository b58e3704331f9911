"""The dependency-injection container of nat_observability."""

from containers.observability import ObservabilityContainer

__all__ = ["ObservabilityContainer"]
