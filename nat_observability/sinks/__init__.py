"""The sinks: one module per kind of back end that a delivery can write to."""

from nat_observability.sinks.console import ConsoleSink
from nat_observability.sinks.file import FileSink
from nat_observability.sinks.memory import MemorySink
from nat_observability.sinks.sqlite import SqliteSink

__all__ = ["ConsoleSink", "FileSink", "MemorySink", "SqliteSink"]
