"""ObservabilityContainer: builds the objects of nat_observability and names their lifetimes; no logic."""

# Annotations are not postponed here: the container resolves them at run time.
from collections.abc import Mapping
from functools import partial
from typing import Any

from dependency_injector import containers, providers, resources

from nat_observability.builders import (
    ExporterBuilder,
    build_exporters,
    required_exporters,
    warn_of_no_exporter,
)
from nat_observability.builders.processing import OwnProcessing
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter_manager import ExporterManager
from nat_observability.run.manager_options import ManagerOptions
from nat_observability.runtime import ObservabilityRuntime
from nat_observability.settings import ObservabilitySettings


def _runtime(exporters: Mapping[str, BaseExporter], settings: ObservabilitySettings) -> ObservabilityRuntime:
    return ObservabilityRuntime(
        exporters,
        start_timeout=settings.start_timeout,
        shutdown_timeout=settings.shutdown_timeout,
        required=required_exporters(settings),
        on_empty=partial(warn_of_no_exporter, settings),
    )


class _OpenRuntime(resources.AsyncResource[ObservabilityRuntime]):
    # Not an asynchronous generator: the event loop in which one began would close it when the loop ends.

    async def init(self, runtime: ObservabilityRuntime) -> ObservabilityRuntime:
        return await runtime.init()

    async def shutdown(self, resource: ObservabilityRuntime | None) -> None:
        if resource is not None:
            await resource.shutdown()


def _manager_options(settings: ObservabilitySettings, runtime: ObservabilityRuntime) -> ManagerOptions:
    return ManagerOptions(
        shutdown_timeout=settings.shutdown_timeout,
        start_timeout=settings.start_timeout,
        required=required_exporters(settings),
        observer=runtime,
        propagate_tags=settings.propagate_tags,
    )


def _validate(container: containers.Container, exporters: Mapping[str, BaseExporter]) -> None:
    # The exporters were made on the way here, so mistakes in their settings, such as missing certificates, are
    # reported.
    container.check_dependencies()


class ObservabilityContainer(containers.DeclarativeContainer):
    """
    The container that a service embeds.

    Call `await container.init_resources()` when the process starts, `await container.shutdown_resources()` when it
    ends, `container.exporter_manager()` for each workflow run, and `container.validate()` to find a wrong configuration
    before anything is opened. `settings`, `exporter_types` and `processing` (processors and rules by exporter name, `*`
    for every exporter) may be given by the embedding container.

    `runtime` opens `runtime_object` and is the only asynchronous provider. Nothing depends on it, so all others return
    their objects and not futures. Do not use dependency-injector's `Closing` on a manager: it would shut the shared
    exporters down after one request.
    """

    __self__ = providers.Self()

    settings: providers.Provider[ObservabilitySettings] = providers.Dependency(
        instance_of=ObservabilitySettings, default=providers.ThreadSafeSingleton(ObservabilitySettings)
    )
    exporter_types: providers.Provider[Mapping[str, ExporterBuilder]] = providers.Dependency(
        default=providers.Object({})
    )
    processing: providers.Provider[Mapping[str, OwnProcessing]] = providers.Dependency(
        default=providers.Object({})
    )
    exporters: providers.Provider[dict[str, BaseExporter]] = providers.ThreadSafeSingleton(
        build_exporters, settings, exporter_types, processing
    )
    runtime_object: providers.Provider[ObservabilityRuntime] = providers.ThreadSafeSingleton(
        _runtime, exporters, settings
    )
    unopened_runtime = runtime_object  # its name in 0.1.0
    runtime: providers.Provider[Any] = providers.Resource(_OpenRuntime, runtime_object)
    manager_options: providers.Provider[ManagerOptions] = providers.ThreadSafeSingleton(
        _manager_options, settings, runtime_object
    )
    exporter_manager: providers.Provider[ExporterManager] = providers.Factory(
        ExporterManager.with_options, exporters, manager_options
    )
    validate: providers.Provider[None] = providers.Callable(_validate, __self__, exporters)
