"""Embedded: a container inside a service's own, as dependency-injector declares it."""

from __future__ import annotations

from typing import Any, Protocol


class Embedded(Protocol):
    """
    The provider of an `ObservabilityContainer` in another container: `service.observability`.

    A type checker knows only that it has providers; what it lacks is an error when it is passed.
    """

    def __getattr__(self, name: str) -> Any: ...
