"""A container as the integrations get it: on its own or embedded in a service's, with an env file or without."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from nat_observability.errors import SettingsError

EnvFile = str | Path | Sequence[str | Path]
"""One env file, or several of which the later ones win."""


class Embedded(Protocol):
    """
    The provider of an `ObservabilityContainer` in another container: `service.observability`.

    A type checker knows only that it has providers; what it lacks is an error when it is passed.
    """

    def __getattr__(self, name: str) -> Any: ...


def read_env_file(container: Any, env_file: EnvFile | None) -> None:
    """
    Have a container read its settings from an env file, too; does nothing if there is none.

    Raises:
        SettingsError: The container has no settings of its own to read: it was given settings, or is not a container.
    """
    if env_file is None:
        return
    provider: Any = getattr(container, "env_file", None)
    settings: Any = getattr(container, "settings", None)
    if provider is None or settings is None or settings.overridden:
        raise SettingsError(
            [
                "env_file= has no effect on a container that was given its settings: "
                "pass ObservabilitySettings(_env_file=...) as those."
            ]
        )
    container.reset_singletons()
    provider.override(env_file)
    container.settings()  # a file that does not exist is an error here, not at the first run
