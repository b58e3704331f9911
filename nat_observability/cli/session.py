"""Session: the open container of one command, and the outcome of its exporters."""

from __future__ import annotations

import os
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from nat_observability.cli.command_error import CommandError
from nat_observability.containers import ObservabilityContainer
from nat_observability.delivery.delivery import Delivery
from nat_observability.delivery.state import DeliveryHealth, DeliveryState
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter.span_exporter import SpanExporter
from nat_observability.exporter_manager import ExporterManager
from nat_observability.runtime import ObservabilityRuntime
from nat_observability.settings import ObservabilitySettings

_OURS = ("NAT_OBSERVABILITY_", "OTEL_")


class Session:
    """
    What a command works with between `open_session` and its end.

    `unopened` are the exporters that did not open, with the reason; the session's runs do without them.
    """

    def __init__(self, container: ObservabilityContainer) -> None:
        self.container = container
        self.settings: ObservabilitySettings = container.settings()
        self.exporters: dict[str, BaseExporter] = container.exporters()
        self.unopened = {
            name: health.last_error or f"was not ready within {self.settings.start_timeout:g} s"
            for name, health in self.health().items()
            if health.state is not DeliveryState.OPEN
        }

    def manager(self) -> ExporterManager:
        """Return a manager for one run, with every exporter that is open."""
        manager = self.container.exporter_manager()
        for name in self.unopened:
            manager.remove_exporter(name)
        return manager

    @property
    def deliveries(self) -> dict[str, Delivery]:
        """The deliveries of the open exporters, by name."""
        names = [name for name in self.health() if name not in self.unopened]
        deliveries = ((name, self.exporters[name].delivery) for name in names)
        return {name: delivery for name, delivery in deliveries if delivery is not None}

    def health(self) -> dict[str, DeliveryHealth]:
        """Return the current health of the exporters, also after the session's end."""
        health = self.container.runtime_object().health()
        return {name: each for name, each in health.exporters.items() if each is not None}

    def problems(self, accepted: Mapping[str, int], spans: int) -> list[str]:
        """
        Return, after the session's end, a sentence for each loss and for each ledger that does not add up.

        Args:
            accepted: What each exporter has accepted from the runs of this session, by the runs' own ledgers. The
                exporter's ledger may have more: what an earlier process left in its spool.
            spans: The number of spans that each exporter of spans has to have accepted.
        """
        problems = [f"Exporter {name!r} did not open: {error}" for name, error in self.unopened.items()]
        for name, health in self.health().items():
            ledger = health.ledger
            lost = {"failed": ledger.failed, "still pending": ledger.pending}
            lost |= {f"dropped ({reason})": number for reason, number in ledger.dropped.items()}
            said = ", ".join(f"{number} {what}" for what, number in lost.items() if number)
            if said:
                problems.append(
                    f"Exporter {name!r} delivered {ledger.delivered} of {ledger.accepted} items: {said}."
                )
            if not ledger.adds_up:
                problems.append(f"The ledger of exporter {name!r} does not add up: {ledger}.")
            takes_spans = isinstance(self.exporters[name], SpanExporter) and name not in self.unopened
            if takes_spans and accepted.get(name, 0) != spans:
                problems.append(f"Exporter {name!r} accepted {accepted.get(name, 0)} of {spans} spans.")
        return problems


def build_container(settings: ObservabilitySettings) -> ObservabilityContainer:
    """
    Return a container with these settings, checked and with its exporters built, but nothing opened.

    Raises:
        UnknownExporterTypeError: A setting names an unknown exporter type.
    """
    container = ObservabilityContainer()
    container.settings.override(settings)
    if not settings.exporters:
        # The command says so itself, in its own words.
        container.runtime_object.override(ObservabilityRuntime({}))
    container.validate()
    container.exporters()
    return container


@asynccontextmanager
async def open_session(container: ObservabilityContainer) -> AsyncIterator[Session]:
    """
    Open the container's exporters; on exit deliver everything and close them.

    Raises:
        ExporterStartError: A required exporter did not open.
    """
    if (opening := container.init_resources()) is not None:
        await opening
    try:
        yield Session(container)
    finally:
        if (closing := container.shutdown_resources()) is not None:
            await closing


def read_settings(
    env_file: Path | None = None, *, only: bool = False
) -> tuple[ObservabilitySettings, list[str]]:
    """
    Read the settings from the environment and an env file.

    Args:
        env_file: The environment wins over it. None stands for the one that `NAT_OBSERVABILITY_ENV_FILE` names, if any.
        only: Whether to ignore the environment.

    Returns:
        The settings, and a sentence for each thing that was ignored.

    Raises:
        CommandError: The env file does not exist.
        SettingsError: A value is wrong.
    """
    if env_file is not None and not env_file.is_file():
        raise CommandError(
            f"{env_file} does not exist. Write one with: nat-observability settings --example > {env_file}"
        )
    with warnings.catch_warnings(record=True) as caught, _environment(without_ours=only):
        warnings.simplefilter("always")
        # Without the argument, the variable names the file.
        settings = ObservabilitySettings() if env_file is None else ObservabilitySettings(_env_file=env_file)
    return settings, [str(each.message) for each in caught]


def store_paths(settings: ObservabilitySettings) -> dict[str, Path]:
    """Return the path of each SQLite exporter that the settings name, by the exporter's name."""
    if not settings.enabled:
        return {}
    return {
        name: Path(entry.model_dump()["path"])
        for name, entry in settings.exporters.items()
        if entry.type == "sqlite"
    }


@contextmanager
def without_variables(*names: str) -> Iterator[None]:
    """Leave these variables out of the environment for a block."""
    removed = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(removed)


@contextmanager
def _environment(*, without_ours: bool) -> Iterator[None]:
    ours = [name for name in os.environ if without_ours and name.upper().startswith(_OURS)]
    with without_variables(*ours):
        yield
