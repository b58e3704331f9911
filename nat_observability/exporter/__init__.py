"""Exporters: the destinations that take part in a run."""

from typing import TYPE_CHECKING

from nat_observability.lazy_names import lazily

if TYPE_CHECKING:
    from nat_observability.exporter.base_exporter import BaseExporter
    from nat_observability.exporter.sampling import Sampling
    from nat_observability.exporter.selection import Selection
    from nat_observability.exporter.span_exporter import SpanExporter
    from nat_observability.exporter.step_exporter import StepExporter
    from nat_observability.exporter.subscription import Subscription
    from nat_observability.exporter.template import ExporterTemplate

__all__ = [
    "BaseExporter",
    "ExporterTemplate",
    "Sampling",
    "Selection",
    "SpanExporter",
    "StepExporter",
    "Subscription",
]

_HOMES = {
    "nat_observability.exporter.base_exporter": ("BaseExporter",),
    "nat_observability.exporter.sampling": ("Sampling",),
    "nat_observability.exporter.selection": ("Selection",),
    "nat_observability.exporter.span_exporter": ("SpanExporter",),
    "nat_observability.exporter.step_exporter": ("StepExporter",),
    "nat_observability.exporter.subscription": ("Subscription",),
    "nat_observability.exporter.template": ("ExporterTemplate",),
}

if not TYPE_CHECKING:  # a type checker would accept every name as one of the module's
    __getattr__, __dir__ = lazily(__name__, _HOMES)
