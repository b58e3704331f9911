"""Exporters: the destinations that take part in a run."""

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
