"""The dependency-injection container of nat_observability, and what opens one for a whole script."""

from containers.observability import ObservabilityContainer
from containers.script import observability, run

__all__ = ["ObservabilityContainer", "observability", "run"]
