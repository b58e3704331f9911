"""OTLP: spans to collectors and back ends, over HTTP and over gRPC."""
