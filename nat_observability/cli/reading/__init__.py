"""The commands that read a store and leave it as it is."""

from nat_observability.cli.reading.export import export
from nat_observability.cli.reading.runs import runs
from nat_observability.cli.reading.show import show
from nat_observability.cli.reading.stats import stats
from nat_observability.cli.reading.tail import tail

__all__ = ["READING", "export", "runs", "show", "stats", "tail"]

READING = (runs, show, tail, export, stats)
