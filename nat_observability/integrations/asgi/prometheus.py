"""prometheus_text(): the health of the exporters in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nat_observability.delivery.sending.circuit_breaker import BreakerState
from nat_observability.delivery.state import DeliveryHealth
from nat_observability.health import RuntimeHealth, RuntimeState

_Sample = tuple[Mapping[str, str], float]


def prometheus_text(health: RuntimeHealth) -> bytes:
    """Return the text, in the format of version 0.0.4, for a `/metrics` route."""
    exporters = {name: found for name, found in health.exporters.items() if found is not None}
    lines: list[str] = []
    for name, kind, words, samples in _metrics(health, exporters):
        lines += [f"# HELP {name} {words}", f"# TYPE {name} {kind}"]
        lines += [f"{name}{_labels(labels)} {value:g}" for labels, value in samples]
    return ("\n".join(lines) + "\n").encode()


def _metrics(
    health: RuntimeHealth, exporters: Mapping[str, DeliveryHealth]
) -> Iterator[tuple[str, str, str, list[_Sample]]]:
    prefix = "nat_observability"

    def each(value: str) -> list[_Sample]:
        return [({"exporter": name}, getattr(found.ledger, value)) for name, found in exporters.items()]

    is_open = health.state is RuntimeState.OPEN
    yield f"{prefix}_runtime_open", "gauge", "Whether the runtime is open.", [({}, is_open)]
    yield (
        f"{prefix}_live_runs",
        "gauge",
        "Runs that have started and not ended.",
        [({}, health.live_managers)],
    )
    for value, words in (
        ("accepted", "Items that exporters accepted."),
        ("delivered", "Items that back ends have taken."),
        ("failed", "Items that back ends have refused."),
    ):
        yield f"{prefix}_items_{value}_total", "counter", words, each(value)
    dropped: list[_Sample] = [
        ({"exporter": name, "reason": reason}, items)
        for name, found in exporters.items()
        for reason, items in found.ledger.dropped.items()
    ]
    yield f"{prefix}_items_dropped_total", "counter", "Items that were dropped, by reason.", dropped
    yield f"{prefix}_items_pending", "gauge", "Items that are accepted and not decided.", each("pending")
    failing = health.failing()
    up: list[_Sample] = [({"exporter": name}, name not in failing) for name in exporters]
    yield f"{prefix}_exporter_up", "gauge", "Whether an exporter delivers.", up
    breaker: list[_Sample] = [
        ({"exporter": name}, found.breaker is not BreakerState.CLOSED) for name, found in exporters.items()
    ]
    yield f"{prefix}_breaker_open", "gauge", "Whether nothing is sent for a while.", breaker
    ages: list[_Sample] = [
        ({"exporter": name}, found.last_success_s)
        for name, found in exporters.items()
        if found.last_success_s is not None
    ]
    yield f"{prefix}_last_success_seconds", "gauge", "Seconds since a back end last took something.", ages


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    listed = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{listed}}}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
