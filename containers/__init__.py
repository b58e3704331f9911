"""`nat_observability.containers` under the name it has in this repository; not part of the distribution."""

from nat_observability.containers import ObservabilityContainer, observability, run

__all__ = ["ObservabilityContainer", "observability", "run"]
