"""Shared sinks: a warning about exporters that write one file, or through one sink."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache

from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.logs import get_logger

_log = get_logger()
# They hold nothing that could be there twice; what is in /dev/shm are files.
_DEVICES = ("/dev/null", "/dev/std", "/dev/fd/", "/dev/tty", "/dev/pts/", "/proc/self/fd/")


def warn_if_shared(name: str, exporter: BaseExporter, others: Mapping[str, BaseExporter]) -> None:
    """
    Log that another exporter writes the same file, or through the same sink.

    Paths are compared as they are, without a look at the disk, which may hang. An exporter that takes part in some runs
    only may share its file, as those of tenants do; and exporters may share a whole delivery.
    """
    if (key := _key_of(exporter)) is None:
        return
    for other, each in others.items():
        if other != name and each.delivery is not exporter.delivery and _key_of(each) == key:
            _warn(name, other, key)
            return


def warn_of_shared(exporters: Mapping[str, BaseExporter]) -> None:
    """Log likewise of all the exporters of a process."""
    seen: dict[str | int, str] = {}
    for name, exporter in exporters.items():
        if (key := _key_of(exporter)) is not None:
            other = seen.setdefault(key, name)
            if exporters[other].delivery is not exporter.delivery:
                _warn(name, other, key)


@lru_cache(maxsize=256)  # once for each pair, not for each manager
def _warn(name: str, other: str, key: str | int) -> None:
    _log.warning(
        "exporter_sink_shared",
        exporter=name,
        other=other,
        shared=key if isinstance(key, str) else "a sink",
        cure="Give each exporter a sink and a file of its own, or both of them one Delivery.",
    )


def _key_of(exporter: object) -> str | int | None:
    """Return the path of an exporter's sink, or else the sink's identity; None if it may share it."""
    if not isinstance(exporter, BaseExporter) or exporter.delivery is None or exporter.select is not None:
        return None
    sink = exporter.delivery.sink
    if sink is None:
        return None
    # Of others, a path may be anything, and asking for it may do anything.
    path = (
        getattr(sink, "path", None) if type(sink).__module__.startswith("nat_observability.sinks.") else None
    )
    if type(path) is not str:
        return id(sink)
    return None if path.startswith(_DEVICES) else os.path.normpath(path)
