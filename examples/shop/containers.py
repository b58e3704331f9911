"""The shop's containers on three levels: the shop; settings, gateways, telemetry and work; what the work is made of."""

# Annotations are not postponed here: dependency-injector looks at them at run time.
from collections.abc import Awaitable, Callable

from dependency_injector import containers, providers
from taskiq import AsyncBroker

from examples.shop.gateways import database_builder, make_broker, open_pool, open_suppliers
from examples.shop.orders import Deliveries, Orders
from examples.shop.settings import ShopSettings, observability_settings
from nat_observability.containers import ObservabilityContainer

DELIVER = "deliver"
"""The name of the worker's task."""


class SettingsContainer(containers.DeclarativeContainer):
    """The process's configuration. Override `shop` to configure an instance from code."""

    shop = providers.ThreadSafeSingleton(ShopSettings)
    observability = providers.ThreadSafeSingleton(observability_settings, shop)


class GatewaysContainer(containers.DeclarativeContainer):
    """What the shop reaches. The asynchronous resources are opened before what needs them, and closed after it."""

    settings = providers.Dependency(instance_of=ShopSettings)
    pool = providers.Resource(open_pool, settings.provided.database, settings.provided.pool_size)
    suppliers = providers.Resource(open_suppliers, settings.provided.suppliers_url)
    broker = providers.ThreadSafeSingleton(make_broker, settings.provided.redis_url)


def _sender(broker: AsyncBroker) -> Callable[[int], Awaitable[object]]:
    async def send(order: int) -> object:
        task = broker.find_task(DELIVER)
        if task is None:
            raise LookupError(f"The broker has no task {DELIVER!r}.")
        return await task.kiq(order)

    return send


class OrdersContainer(containers.DeclarativeContainer):
    """What takes orders."""

    gateways = providers.DependenciesContainer()
    send = providers.Callable(_sender, gateways.broker)
    orders = providers.Factory(Orders, gateways.pool, gateways.suppliers, send)


class WorkContainer(containers.DeclarativeContainer):
    """What the shop does, for customers and in the worker."""

    gateways = providers.DependenciesContainer()
    counter = providers.Container(OrdersContainer, gateways=gateways)
    deliveries = providers.Factory(Deliveries, gateways.pool)


class ShopContainer(containers.DeclarativeContainer):
    """All of it. Each instance is a shop of its own: two in one process share nothing."""

    settings = providers.Container(SettingsContainer)
    gateways = providers.Container(GatewaysContainer, settings=settings.shop)
    observability = providers.Container(
        ObservabilityContainer,
        settings=settings.observability,
        exporter_types=providers.Dict(database=providers.Factory(database_builder, gateways.pool)),
    )
    work = providers.Container(WorkContainer, gateways=gateways)
