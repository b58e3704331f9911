"""ObservabilityContainer: builds the objects of nat_observability and names their lifetimes; no logic."""

# Annotations are not postponed here: the container resolves them at run time.
from collections.abc import Awaitable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from dependency_injector import containers, providers

# By its own name: from Python 3.14 on annotations are evaluated in the class's namespace, where `providers` is that of
# dependency-injector's containers.
from dependency_injector.providers import Provider

from nat_observability.builders import (
    ExporterBuilder,
    build_exporters,
    check_exporter_types,
    required_exporters,
    warn_of_no_exporter,
)
from nat_observability.builders.processing import OwnProcessing
from nat_observability.containers.given import CountedDependency, Given, asynchronous, names_given
from nat_observability.containers.lifetimes import (
    HeldSingleton,
    RuntimeResource,
    check_mapping,
    check_same,
    container_of,
    holding,
)
from nat_observability.errors import SettingsError
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter_manager import ExporterManager
from nat_observability.run.manager_options import ManagerOptions
from nat_observability.runtime import ObservabilityRuntime
from nat_observability.settings import EnvFile, ObservabilitySettings


def _settings(env_file: EnvFile | None) -> ObservabilitySettings:
    return ObservabilitySettings() if env_file is None else ObservabilitySettings(_env_file=env_file)


def _settings_of(given: Given, settings: providers.Provider[ObservabilitySettings]) -> ObservabilitySettings:
    found: object = given.get("settings", settings)
    if not isinstance(found, ObservabilitySettings):
        # Not its repr, which may hold secrets.
        kind = (
            f"the class {found.__qualname__}" if isinstance(found, type) else f"a {type(found).__qualname__}"
        )
        raise SettingsError(
            [f"settings= is {kind}: pass ObservabilitySettings(...), or a provider that gives one."]
        )
    return found


def _exporters(
    given: Given,
    settings: providers.Provider[ObservabilitySettings],
    types: providers.Provider[Mapping[str, ExporterBuilder]],
    processing: providers.Provider[Mapping[str, OwnProcessing]],
) -> dict[str, BaseExporter]:
    def make() -> dict[str, BaseExporter]:
        given.made_from(settings=settings, exporter_types=types, processing=processing)
        made = build_exporters(
            _settings_of(given, settings),
            given.get("exporter_types", types),
            given.get("processing", processing),
        )
        given.note_resources()
        return made

    return given.once("exporters", make)


def _runtime(
    exporters: Mapping[str, BaseExporter],
    given: Given,
    settings: providers.Provider[ObservabilitySettings],
) -> ObservabilityRuntime:
    check_mapping(exporters)
    container = container_of("exporter_manager()", settings)
    check_same(container, exporters)
    found = _settings_of(given, settings)
    return ObservabilityRuntime(
        exporters,
        start_timeout=found.start_timeout,
        shutdown_timeout=found.shutdown_timeout,
        required=required_exporters(found),
        on_empty=partial(warn_of_no_exporter, found) if found.enabled else None,
        on_manager=given.warn_if_overridden,
        on_state=holding(
            given,
            held=(container.given, container.runtime_object),
            kept=(container.exporters, container.manager_options),
        ),
    )


def _manager_options(
    given: Given, settings: providers.Provider[ObservabilitySettings], runtime: ObservabilityRuntime
) -> ManagerOptions:
    def make() -> ManagerOptions:
        found = _settings_of(given, settings)
        return ManagerOptions(
            shutdown_timeout=found.shutdown_timeout,
            start_timeout=found.start_timeout,
            required=required_exporters(found),
            observer=runtime,
            propagate_tags=found.propagate_tags,
        )

    return given.once("manager_options", make, used_with=runtime)


def _validate(settings: providers.Provider[ObservabilitySettings]) -> None:
    container = container_of("validate()", settings)
    container.check_dependencies()
    given = {name: getattr(container, name) for name in ("settings", "exporter_types", "processing")}
    if not any(map(asynchronous, given.values())):
        # Making the exporters reports mistakes in their settings, such as missing certificates.
        exporters = container.exporters()
        check_mapping(exporters)
        check_same(container, exporters)
    elif not asynchronous(given["settings"]):
        # Nothing is opened here, so the exporters cannot be made: those that do not open are reported when they do.
        check_exporter_types(container.settings(), names_given(given["exporter_types"]))


class ObservabilityContainer(containers.DeclarativeContainer):
    """
    The container that a service embeds.

    Call `await container.init_resources()` when the process starts, `await container.shutdown_resources()` when it
    ends, `container.exporter_manager()` for each workflow run, and `container.validate()` to find a wrong configuration
    before anything is opened. `settings`, `exporter_types` and `processing` (processors and rules by exporter name, `*`
    for every exporter) may be given by the embedding container, or instead of the settings an `env_file`.

    `runtime` opens `runtime_object` and is the only asynchronous provider. Nothing depends on it, so all others return
    their objects and not futures. Do not use dependency-injector's `Closing` on a manager: it would shut the shared
    exporters down after one request.
    """

    if TYPE_CHECKING:  # dependency-injector's own says that there may be nothing to await

        def init_resources(
            self, resource_type: type[providers.BaseResource[Any]] = ...
        ) -> Awaitable[None]: ...

        def shutdown_resources(
            self, resource_type: type[providers.BaseResource[Any]] = ...
        ) -> Awaitable[None]: ...

    env_file: Provider[EnvFile | None] = providers.Object(None)
    settings: Provider[ObservabilitySettings] = CountedDependency(
        default=providers.ThreadSafeSingleton(_settings, env_file)
    )
    exporter_types: Provider[Mapping[str, ExporterBuilder]] = CountedDependency(default=providers.Object({}))
    processing: Provider[Mapping[str, OwnProcessing]] = CountedDependency(default=providers.Object({}))
    given: Provider[Given] = HeldSingleton(Given)
    exporters: Provider[dict[str, BaseExporter]] = providers.ThreadSafeSingleton(
        _exporters, given, settings.provider, exporter_types.provider, processing.provider
    )
    runtime_object: HeldSingleton[ObservabilityRuntime] = HeldSingleton(
        _runtime, exporters, given, settings.provider
    )
    unopened_runtime = runtime_object  # its name in 0.1.0
    manager_options: Provider[ManagerOptions] = providers.ThreadSafeSingleton(
        _manager_options, given, settings.provider, runtime_object
    )
    runtime: Provider[Any] = RuntimeResource(
        runtime_object,
        exporters,
        manager_options,
        given,
        settings=settings,
        exporter_types=exporter_types,
        processing=processing,
    )
    exporter_manager: Provider[ExporterManager] = providers.Factory(
        ExporterManager.with_options, exporters, manager_options
    )
    validate: Provider[None] = providers.Callable(_validate, settings.provider)
