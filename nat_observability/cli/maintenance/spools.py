"""Which spools the settings name."""

from __future__ import annotations

from pathlib import Path

from nat_observability.settings import ObservabilitySettings


def spool_directories(settings: ObservabilitySettings) -> dict[str, Path]:
    """Return the directory of each exporter's spool, also of those that are switched off by now, by exporter."""
    found: dict[str, Path] = {}
    for name, entry in settings.exporters.items():
        path = getattr(entry, "spool_path", None)
        if path is not None:
            found[name] = Path(path)
    return found
