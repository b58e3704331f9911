"""Shared sinks: a warning about exporters that write one file, or through one sink."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache

from nat_observability.delivery.threads.worker import call_elsewhere
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.logs import get_logger

_log = get_logger()


def warn_if_shared(name: str, exporter: BaseExporter, others: Mapping[str, BaseExporter]) -> None:
    """
    Log that another exporter writes the same file, or through the same sink.

    Paths are compared as they are, without a look at the disk. An exporter that takes part in some runs only may share
    its file, as those of tenants do; and exporters may share a whole delivery.
    """
    if (key := _key_of(exporter)) is None:
        return
    for other, each in others.items():
        if other != name and each.delivery is not exporter.delivery and _key_of(each) == key:
            _warn(name, other, key)
            return


async def warn_of_shared(exporters: Mapping[str, BaseExporter]) -> None:
    """Log likewise of all the exporters of a process, for files under any of their paths."""
    keys = {name: key for name, each in exporters.items() if (key := _key_of(each)) is not None}
    if len(keys) < 2:
        return

    def look() -> None:
        seen: dict[object, str] = {}
        for name, key in keys.items():
            other = seen.setdefault(_place(key) if isinstance(key, str) else key, name)
            if exporters[other].delivery is not exporters[name].delivery:
                _warn(name, other, key)

    if any(isinstance(key, str) for key in keys.values()):
        await call_elsewhere(look)  # it reads the disk
    else:
        look()


@lru_cache(maxsize=256)  # once for each pair, not for each manager
def _warn(name: str, other: str, key: str | int) -> None:
    if isinstance(key, str) and os.path.exists(key) and not os.path.isfile(key):
        return  # a device holds nothing that could be there twice
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
    path = getattr(sink, "path", None)
    return path if type(path) is str else None if sink is None else id(sink)


def _place(path: str) -> object:
    try:
        found = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    return found.st_dev, found.st_ino
