"""What the tests of workers share: a container whose spans are kept in memory, and the spans of a store."""

from __future__ import annotations

from dataclasses import dataclass

from nat_observability.containers import ObservabilityContainer
from nat_observability.events import Span
from nat_observability.exporter.span_exporter import SpanExporter
from nat_observability.health import RuntimeState
from nat_observability.settings import ObservabilitySettings
from nat_observability.sinks.memory import MemorySink


@dataclass(frozen=True)
class Observed:
    """A container with one exporter, whose spans can be looked at."""

    container: ObservabilityContainer
    sink: MemorySink

    def state(self) -> RuntimeState:
        """The state of the container's runtime."""
        return self.container.runtime_object().state

    def spans(self, name: str | None = None) -> list[Span]:
        """What was delivered until now, of one name or of all."""
        return [span for span in self.sink.spans if name in (None, span.name)]

    def span(self, name: str) -> Span:
        """The only span of that name that was delivered."""
        (span,) = self.spans(name)
        return span


def observed(settings: ObservabilitySettings | None = None) -> Observed:
    """Return a container of its own, not yet opened; by default with the settings of the environment."""
    container = ObservabilityContainer() if settings is None else ObservabilityContainer(settings=settings)
    sink = MemorySink()
    container.exporters.override({"memory": SpanExporter(sink)})
    return Observed(container, sink)
