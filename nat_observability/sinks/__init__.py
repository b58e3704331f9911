"""The sinks, one module per kind of back end, each loaded on demand, and their common protocol."""

from typing import TYPE_CHECKING

from nat_observability.lazy_names import lazily

if TYPE_CHECKING:
    from nat_observability.sinks.console import ConsoleSink
    from nat_observability.sinks.file import FileSink
    from nat_observability.sinks.loop import LoopSink
    from nat_observability.sinks.memory import MemorySink
    from nat_observability.sinks.otlp.grpc import OtlpGrpcSink
    from nat_observability.sinks.otlp.http import OtlpHttpSink
    from nat_observability.sinks.protocol import Batch, BlockingSink, Sink
    from nat_observability.sinks.sqlite import SqliteSink

__all__ = [
    "Batch",
    "BlockingSink",
    "ConsoleSink",
    "FileSink",
    "LoopSink",
    "MemorySink",
    "OtlpGrpcSink",
    "OtlpHttpSink",
    "Sink",
    "SqliteSink",
]

# A delivery needs only the protocol: SQLite and OTLP would be most of the imports.
_HOMES = {
    "nat_observability.sinks.console": ("ConsoleSink",),
    "nat_observability.sinks.file": ("FileSink",),
    "nat_observability.sinks.loop": ("LoopSink",),
    "nat_observability.sinks.memory": ("MemorySink",),
    "nat_observability.sinks.otlp.grpc": ("OtlpGrpcSink",),
    "nat_observability.sinks.otlp.http": ("OtlpHttpSink",),
    "nat_observability.sinks.protocol": ("Batch", "BlockingSink", "Sink"),
    "nat_observability.sinks.sqlite": ("SqliteSink",),
}

if not TYPE_CHECKING:  # a type checker would accept every name as one of the module's
    __getattr__, __dir__ = lazily(__name__, _HOMES)
