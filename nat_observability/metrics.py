"""SelfMetrics: how the exporters are doing, as OpenTelemetry metrics, where opentelemetry-api is installed."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from nat_observability.delivery.delivery import Delivery, DeliveryHealth

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Observation

_Read = Callable[[DeliveryHealth], Iterable[tuple[float, dict[str, str]]]]


def _exported(health: DeliveryHealth) -> Iterable[tuple[float, dict[str, str]]]:
    yield health.ledger.delivered, {}
    yield health.ledger.failed, {"error.type": "rejected"}


def _processed(health: DeliveryHealth) -> Iterable[tuple[float, dict[str, str]]]:
    dropped = health.ledger.dropped
    yield health.ledger.accepted - sum(dropped.values()) - health.queue_depth, {}
    for reason, count in dropped.items():
        yield count, {"error.type": reason}


# Names, units and meanings: OpenTelemetry semantic conventions for SDK metrics (status: development). The breaker has
# no convention; its instrument is ours.
_COUNTERS: Mapping[str, tuple[str, str, _Read]] = {
    "otel.sdk.exporter.span.exported": (
        "{span}",
        "Spans whose export has finished, well or badly.",
        _exported,
    ),
    "otel.sdk.processor.span.processed": (
        "{span}",
        "Spans whose processing has finished, well or badly.",
        _processed,
    ),
}
_GAUGES: Mapping[str, tuple[str, str, _Read]] = {
    "otel.sdk.exporter.span.inflight": (
        "{span}",
        "Spans being exported now.",
        lambda health: [(health.in_flight, {})],
    ),
    "otel.sdk.processor.span.queue.size": (
        "{span}",
        "Spans in the queue.",
        lambda health: [(health.queue_depth, {})],
    ),
    "otel.sdk.processor.span.queue.capacity": (
        "{span}",
        "Spans that the queue holds at most.",
        lambda health: [(health.queue_capacity, {})],
    ),
    "nat_observability.exporter.breaker.open": (
        "1",
        "1 while the circuit breaker lets nothing through, else 0.",
        lambda health: [(int(health.breaker != "closed"), {})],
    ),
}
_DURATION = "otel.sdk.exporter.operation.duration"


class SelfMetrics:
    """
    Instruments that read the health of deliveries, registered with the application's meter provider.

    Where opentelemetry-api is not installed it does nothing. No span is ever made of an export.

    Args:
        deliveries: By exporter name. They are held weakly: the OpenTelemetry API cannot take a callback back.
    """

    def __init__(self, deliveries: Mapping[str, Delivery]) -> None:
        self._deliveries = weakref.WeakValueDictionary(deliveries)
        try:
            from opentelemetry import metrics  # an optional dependency, imported where it is first needed
        except ImportError:
            return
        meter = metrics.get_meter("nat_observability")
        for name, (unit, description, read) in _COUNTERS.items():
            meter.create_observable_counter(name, [self._callback(read)], unit, description)
        for name, (unit, description, read) in _GAUGES.items():
            meter.create_observable_up_down_counter(name, [self._callback(read)], unit, description)
        duration = meter.create_histogram(_DURATION, "s", "How long the export of a batch took.")
        for name, delivery in deliveries.items():
            delivery.on_batch = self._recorder(duration, name)

    def _attributes(self, name: str, more: Mapping[str, str]) -> dict[str, Any]:
        return {
            "otel.component.type": "nat_observability",
            "otel.component.name": f"nat_observability/{name}",
            **more,
        }

    def _callback(self, read: _Read) -> Callable[[CallbackOptions], Iterable[Observation]]:
        from opentelemetry.metrics import Observation

        deliveries, attributes = self._deliveries, self._attributes

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            for name, delivery in sorted(deliveries.items()):
                for value, more in read(delivery.health()):
                    yield Observation(value, attributes(name, more))

        return observe

    def _recorder(self, duration: Any, name: str) -> Callable[[float, BaseException | None], None]:
        def record(seconds: float, error: BaseException | None) -> None:
            more = {"error.type": type(error).__name__} if error is not None else {}
            duration.record(seconds, self._attributes(name, more))

        return record
