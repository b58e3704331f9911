"""The service's containers: settings, gateways, its work, and ObservabilityContainer among them."""

# Annotations are not postponed here: dependency-injector looks at them at run time.
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from dependency_injector import containers, providers

from examples.service.advisor import Advisor
from examples.service.exporters import build_journal, database_builder
from examples.service.gateways import Pool, Suppliers
from examples.service.settings import ServiceSettings, observability_settings
from nat_observability.containers import ObservabilityContainer
from nat_observability.exporter_manager import ExporterManager


class SettingsContainer(containers.DeclarativeContainer):
    """The process's configuration. Override `service` to configure an instance from code."""

    service = providers.ThreadSafeSingleton(ServiceSettings)
    observability = providers.ThreadSafeSingleton(observability_settings, service)


class GatewaysContainer(containers.DeclarativeContainer):
    """
    What the service reaches outside of itself, made but not opened.

    Not asynchronous resources: those would open only together with all others. `running` opens them, in order.
    """

    settings = providers.Dependency(instance_of=ServiceSettings)
    pool = providers.ThreadSafeSingleton(Pool, settings.provided.database, settings.provided.pool_size)
    suppliers = providers.ThreadSafeSingleton(
        Suppliers, settings.provided.suppliers_url, settings.provided.tls
    )


class WorkContainer(containers.DeclarativeContainer):
    """What the service does."""

    gateways = providers.DependenciesContainer()
    exporter_manager = providers.Dependency(instance_of=ExporterManager)
    # `.provider`: the advisor gets what makes a manager, because each run needs one of its own.
    advisor = providers.ThreadSafeSingleton(
        Advisor, exporter_manager.provider, gateways.pool, gateways.suppliers
    )


class ServiceContainer(containers.DeclarativeContainer):
    """All of it. Each instance is a service of its own: two in one process share nothing."""

    settings = providers.Container(SettingsContainer)
    gateways = providers.Container(GatewaysContainer, settings=settings.service)
    observability = providers.Container(
        ObservabilityContainer,
        settings=settings.observability,
        exporter_types=providers.Dict(
            database=providers.ThreadSafeSingleton(database_builder, gateways.pool),
            journal=providers.Object(build_journal),
        ),
    )
    work = providers.Container(
        WorkContainer, gateways=gateways, exporter_manager=observability.exporter_manager
    )


@asynccontextmanager
async def running(settings: ServiceSettings | None = None) -> AsyncGenerator[ServiceContainer, None]:
    """
    Open an instance of the service, and close it in the opposite order.

    The gateways first and last: an exporter that uses one of them needs it until the last run has ended.
    """
    container = ServiceContainer()
    if settings is not None:
        container.settings.service.override(providers.Object(settings))
    async with opened(container):
        yield container


@asynccontextmanager
async def opened(container: ServiceContainer) -> AsyncGenerator[None, None]:
    """Open an instance that was made, and overridden, before."""
    container.observability.validate()  # a wrong setting ends it here, before anything is open
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(container.gateways.pool())
        await stack.enter_async_context(container.gateways.suppliers())
        await container.observability.init_resources()
        stack.push_async_callback(container.observability.shutdown_resources)
        yield
