"""The dependency-injection container of nat_observability, and what opens one for a whole script."""

from nat_observability.containers.container import ObservabilityContainer
from nat_observability.containers.script import observability, run

__all__ = ["ObservabilityContainer", "observability", "run"]
