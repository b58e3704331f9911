"""The sinks, one module per kind of back end, each loaded on demand, and their common protocol."""

from importlib import import_module
from typing import TYPE_CHECKING

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
    "Batch": "protocol",
    "BlockingSink": "protocol",
    "ConsoleSink": "console",
    "FileSink": "file",
    "LoopSink": "loop",
    "MemorySink": "memory",
    "OtlpGrpcSink": "otlp.grpc",
    "OtlpHttpSink": "otlp.http",
    "Sink": "protocol",
    "SqliteSink": "sqlite",
}

if not TYPE_CHECKING:  # a type checker would accept every name as one of the module's

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
