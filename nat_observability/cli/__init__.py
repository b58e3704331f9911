"""The nat-observability command."""

from nat_observability.cli.entry import main

__all__ = ["main"]
