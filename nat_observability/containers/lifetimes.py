"""Providers for what lives as long as the exporters are open, and what an embedding container gives asynchronously."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from dependency_injector import providers, resources

from nat_observability.errors import AsynchronousProviderError, MissingContainerError, NoEventLoopError
from nat_observability.health import RuntimeState
from nat_observability.logs import get_logger
from nat_observability.runtime import ObservabilityRuntime

T = TypeVar("T")
_log = get_logger()
_AT_REST = (RuntimeState.NEW, RuntimeState.CLOSED)
_RESOURCE = getattr(providers, "BaseResource", providers.Resource)  # 4.49 has the former


class HeldSingleton(providers.ThreadSafeSingleton[T]):
    """
    A singleton that keeps its object while a runtime is open.

    A `reset()` in that time, by `container.reset_singletons()` for example, takes effect when the runtime is closed:
    until then managers, runtime and exporters belong together.
    """

    def __init__(self, provides: Callable[..., T] | None = None, *args: Any, **kwargs: Any) -> None:
        self._held = False
        self._reset_put_off = False
        super().__init__(provides, *args, **kwargs)

    @property
    def is_held(self) -> bool:
        """Whether a runtime is open."""
        return self._held

    def hold(self) -> None:
        """Keep the object from now on."""
        self._held = True

    def let_go(self) -> None:
        """Stop keeping the object, and reset if that was put off."""
        self._held = False
        put_off, self._reset_put_off = self._reset_put_off, False
        if put_off:
            self.reset()

    def reset(self) -> Any:
        """Forget the object, now or when it is no longer held."""
        if not self._held:
            return super().reset()
        self._reset_put_off = True
        return providers.SingletonResetContext(self)


def holding(*held: HeldSingleton[Any]) -> Callable[[RuntimeState], None]:
    """Return a function that holds these objects while a runtime is open, to be called when its state changes."""

    def changed(state: RuntimeState) -> None:
        for each in held:
            if state in _AT_REST:
                each.let_go()
            else:
                each.hold()

    return changed


class Given:
    """
    What the embedding container gives, some of which may have to be awaited first.

    Attributes:
        awaited: By name, what has been awaited since the runtime was last opened.
    """

    def __init__(self) -> None:
        self.awaited: dict[str, Any] = {}
        self._links: list[tuple[str, providers.Provider[Any], tuple[providers.Provider[Any], ...]]] = []
        self._last: list[tuple[providers.Provider[Any], providers.Provider[Any] | None]] = []
        self._warned = False

    def made_from(self, **given: providers.Provider[Any]) -> None:
        """Note which providers give what the exporters are made from."""
        self._links = [(name, *link) for name, provider in given.items() for link in _overriding(provider)]
        self._last = [(provider, provider.last_overriding) for _, provider, _ in self._links]
        self._warned = False

    def overridden(self) -> bool:
        """Whether other providers give now what the exporters were made from."""
        for provider, last in self._last:  # noqa: SIM110  it is asked for each manager
            if provider.last_overriding is not last:
                return True
        return False

    def warn_if_overridden(self) -> None:
        """
        Log, once, that an override came too late for the exporters, unless it was there when they were made.

        Called for each new manager.
        """
        if self._warned or not self.overridden():
            return
        for name, provider, then in self._links:
            now = provider.last_overriding
            if now is not None and all(now is not each for each in then):
                self._warned = True
                _log.warning(
                    "override_came_late",
                    provider=name,
                    cure="Override it before the exporters are made, or shut down and initialise again after it.",
                )
                return

    def get(self, name: str, provider: providers.Provider[Any]) -> Any:
        """
        Return what a provider gives.

        Raises:
            AsynchronousProviderError: It depends on an asynchronous resource, and was not awaited.
        """
        if name in self.awaited:
            return self.awaited[name]
        if names := asynchronous(provider):
            raise AsynchronousProviderError(name, names)
        given = provider()
        if inspect.isawaitable(given):
            if inspect.iscoroutine(given):
                given.close()  # it would never be awaited
            raise AsynchronousProviderError(name, ())
        return given

    async def wait_for(self, given: Mapping[str, providers.Provider[Any]]) -> bool:
        """Await those that have to be; return whether there were any."""
        waiting = {name: provider for name, provider in given.items() if asynchronous(provider)}
        self.awaited = {}
        found = {name: await provider() for name, provider in waiting.items()}
        self.awaited = found
        return bool(found)


def container_of(feature: str, settings: Any) -> Any:
    """
    Return the container that settings belong to. A `Self` would be the class, in a container of a subclass.

    Raises:
        MissingContainerError: The class of the container was used, and not an object of it.
        TypeError: A subclass replaces the settings, of which its other providers know nothing.
    """
    container = settings.parent
    if getattr(container, "settings", None) is not settings:
        raise _replaced("settings")
    if isinstance(container, type):
        raise MissingContainerError(feature, container, ["an environment of its own"])
    return container


def check_mapping(exporters: object) -> None:
    """
    Check what overrides a container's exporters.

    Raises:
        TypeError: It gives something else than a mapping.
    """
    if isinstance(exporters, Mapping):
        return
    if isinstance(exporters, asyncio.Future):
        exporters.cancel()  # it would never be awaited
    elif inspect.iscoroutine(exporters):
        exporters.close()
    raise TypeError(
        f"What overrides the exporters gives a {type(exporters).__qualname__}, not a mapping of names to exporters. "
        "Pass providers.Object({'main': exporter}), for example."
    )


def check_same(container: Any, exporters: Mapping[str, Any]) -> None:
    """
    Check that a container's managers get the exporters of its runtime.

    Raises:
        TypeError: What overrides the exporters makes new ones each time, or a subclass replaces them.
    """
    found = container.exporters()
    if not isinstance(found, Mapping) or found.keys() != exporters.keys():
        raise _replaced("exporters")
    if any(found[name] is not each for name, each in exporters.items()):
        raise TypeError(
            "What overrides the exporters gives other ones each time. Pass providers.Object({...}), or "
            "providers.Singleton instead of providers.Factory."
        )


def _replaced(name: str) -> TypeError:
    return TypeError(
        f"A subclass of ObservabilityContainer replaces {name!r}, of which its other providers know nothing. Leave it "
        f"out there, and call container.{name}.override(...)."
    )


def _overriding(
    provider: providers.Provider[Any],
) -> Iterator[tuple[providers.Provider[Any], tuple[providers.Provider[Any], ...]]]:
    each: Any = provider
    while each is not None:
        yield each, tuple(each.overridden)
        each = each.last_overriding


def asynchronous(provider: providers.Provider[Any]) -> list[str]:
    """Return the names of the asynchronous resources that a provider gets objects from."""
    return [
        _name(each) for each in _sources(provider) if isinstance(each, _RESOURCE) and _is_asynchronous(each)
    ]


def resources_of(*given: providers.Provider[Any]) -> Iterator[providers.Provider[Any]]:
    """Return the resources that these providers get objects from, or pass on as providers."""
    for provider in given:
        yield from provider.traverse(types=[_RESOURCE])


def names_given(provider: providers.Provider[Any]) -> set[str] | None:
    """Return the keys of what a provider gives, without asking it; None if they are not known."""
    source: Any = provider
    while not isinstance(source, providers.Dict):
        if not source.overridden:
            return None
        source = source.overridden[-1]
    return {str(name) for name in source.kwargs}


def _sources(provider: providers.Provider[Any]) -> Iterator[providers.Provider[Any]]:
    # A provider that is passed on as one (`pool.provider`) gives no object yet; an overridden one gives nothing itself.
    seen: set[int] = set()
    waiting: list[Any] = [provider]
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, providers.Delegate):
            continue
        seen.add(id(each))
        yield each
        waiting += [each.overridden[-1]] if each.overridden else list(each.related)


def _is_asynchronous(resource: Any) -> bool:
    provides = inspect.unwrap(resource.provides)
    if isinstance(provides, type):
        return issubclass(provides, resources.AsyncResource) or (
            hasattr(provides, "__aenter__") and not hasattr(provides, "__enter__")
        )
    return inspect.iscoroutinefunction(provides) or inspect.isasyncgenfunction(provides)


def _name(resource: Any) -> str:
    provides = inspect.unwrap(resource.provides)
    return getattr(provides, "__qualname__", repr(provides))


class RuntimeResource(providers.Resource[ObservabilityRuntime]):
    """
    Opens the runtime as `init()`, and drains and closes it as `shutdown()`; both give something to await.

    dependency-injector's own resource would forget what it has opened if the task of its shutdown were cancelled before
    it began, and it would open again what the container has replaced meanwhile.

    Args:
        runtime: Makes the runtime.
        exporters: Makes the exporters.
        options: Makes the managers' options.
        given: Makes the `Given` of the container.
        **awaited: What is to be awaited before they are made, by name.
    """

    def __init__(
        self,
        runtime: HeldSingleton[ObservabilityRuntime] | None = None,
        *made: providers.Provider[Any],
        **awaited: providers.Provider[Any],
    ) -> None:
        self._opening: asyncio.Task[ObservabilityRuntime] | None = None
        self._opened: ObservabilityRuntime | None = None
        super().__init__(runtime, *made, **awaited)
        self.enable_async_mode()  # so that there is always something to await

    @property
    def initialized(self) -> bool:
        """Whether there is something to shut down."""
        return self._opening is not None

    @property
    def related(self) -> Iterator[providers.Provider[Any]]:
        """The providers that it depends on. A resource among them is shut down after it."""
        yield from super().related
        yield from resources_of(*self.kwargs.values())

    def shutdown(self) -> Any:
        """
        Begin to drain and close; return what to wait for. If it is cancelled, the exporters finish in the background.

        Raises:
            NoEventLoopError: No event loop is running.
        """
        opening, opened = self._opening, self._opened
        if opening is None:
            return _Nothing()
        closing = _loop("shutdown_resources()").create_task(_close(opening, opened))
        self._opening = self._opened = None

        def ended(task: asyncio.Task[None]) -> None:
            # Its first step may never have been executed.
            if task.cancelled():
                opening.cancel()
                if opened is not None:
                    opened.begin_shutdown()

        closing.add_done_callback(ended)
        return closing

    def _provide(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._opening is None:
            self._opening = _loop("init_resources()").create_task(self._open())
            self._opening.add_done_callback(self._has_opened)
        return self._opening if self._opened is None else self._opened

    def _has_opened(self, opening: asyncio.Task[ObservabilityRuntime]) -> None:
        # It may have been cancelled before its first step. After a shutdown, this is not the current one.
        failed = opening.cancelled() or opening.exception() is not None
        if self._opening is not opening:
            return
        if failed:
            self._opening = None
        else:
            self._opened = opening.result()

    async def _open(self) -> ObservabilityRuntime:
        runtime = await self._current()
        if runtime.state in _AT_REST:
            await runtime.init()
        return runtime

    async def _current(self) -> ObservabilityRuntime:
        """Return the runtime of the exporters that the container has now."""
        runtime: Any = self.provides
        made: tuple[Any, ...] = self.args
        exporters, options, given = made
        if not runtime.is_held:
            awaited = await given().wait_for(self.kwargs)
            check_mapping(exporters())
            if awaited or given().overridden() or not runtime().is_for(exporters()):
                for each in (exporters, runtime, options):
                    each.reset()
        opened: ObservabilityRuntime = runtime()
        return opened


async def _close(opening: asyncio.Task[ObservabilityRuntime], opened: ObservabilityRuntime | None) -> None:
    if opened is None:
        await asyncio.wait([opening])
        # What went wrong is raised by its own `init()`.
        if not opening.cancelled() and opening.exception() is None:
            opened = opening.result()
    if opened is not None:
        await opened.shutdown()


class _Nothing:
    """Something to await that has nothing to wait for, and may be left alone."""

    def __await__(self) -> Iterator[None]:
        yield from ()


def _loop(call: str) -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise NoEventLoopError(call) from None
