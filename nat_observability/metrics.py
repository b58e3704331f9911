"""watch(): the health of deliveries as OpenTelemetry metrics, if the application uses those."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from nat_observability.delivery.delivery import Delivery
from nat_observability.delivery.state import DeliveryHealth
from nat_observability.delivery.threads.worker import loaded
from nat_observability.foreign_errors import describe, reraise_signal
from nat_observability.logs import get_logger
from nat_observability.system.weak_registry import WeakRegistry

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


def watch(deliveries: Iterable[Delivery]) -> None:
    """
    Report the health of `deliveries` to the application's meter provider, as long as they exist.

    Deliveries of the same name, in two containers for example, are added up. An application that has a meter provider
    has imported `opentelemetry.metrics`. If it does so later, they are reported from their next batch on; if it never
    does, nothing happens. An export never produces spans. Never raises.
    """
    for delivery in deliveries:
        _watched.add(delivery)
        delivery.measured_as = _attributes(delivery.name, {})
        delivery.measure = _record or _record_if_loaded
    _instruments()


_watched: WeakRegistry[Delivery] = WeakRegistry()
_tried = False
_record: Callable[..., object] | None = None  # the histogram's own, once that is there
_log = get_logger()


def _instruments() -> Callable[..., object] | None:
    """
    Return what records a duration, and make the instruments if OpenTelemetry is there; None if it is not.

    They are made once in a process: the SDK would never read a second one of the same name.
    """
    global _tried, _record
    if _tried:
        return _record
    # Not imported here: another thread may be importing it, and this one would have to wait until that is done.
    metrics = loaded("opentelemetry.metrics")
    if metrics is None:
        return None
    _tried = True
    try:
        _record = _make_instruments(metrics)
    except BaseException as error:  # noqa: BLE001  foreign code: the application's meter provider may raise anything
        reraise_signal(error)
        _log.warning("metrics_not_reported", error=describe(error))
    for delivery in _watched.all():
        delivery.measure = _record  # each batch calls it without us
    return _record


def _make_instruments(metrics: Any) -> Callable[..., object]:
    meter = metrics.get_meter("nat_observability")
    for name, (unit, description, read) in _COUNTERS.items():
        meter.create_observable_counter(name, [_callback(metrics, read)], unit, description)
    for name, (unit, description, read) in _GAUGES.items():
        meter.create_observable_up_down_counter(name, [_callback(metrics, read)], unit, description)
    record: Callable[..., object] = meter.create_histogram(
        _DURATION, "s", "How long the export of a batch took."
    ).record
    return record


def _callback(metrics: Any, read: _Read) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_: CallbackOptions) -> Iterable[Observation]:
        sums: Counter[tuple[tuple[str, str], ...]] = Counter()
        for delivery in _watched.all():
            for value, more in read(delivery.health()):
                sums[tuple(_attributes(delivery.name, more).items())] += int(value)
        return [metrics.Observation(value, dict(attributes)) for attributes, value in sums.items()]

    return observe


def _record_if_loaded(seconds: float, attributes: Mapping[str, str]) -> None:
    """Record what a batch took, if the application has loaded OpenTelemetry meanwhile."""
    record = _instruments()
    if record is not None:
        record(seconds, attributes)


def _attributes(name: str, more: Mapping[str, str]) -> dict[str, str]:
    return {
        "otel.component.type": "nat_observability",
        "otel.component.name": f"nat_observability/{name}",
        **more,
    }
