"""Given: what an embedding container gives, some of it asynchronously, and what the exporters were made from."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, cast

from dependency_injector import providers, resources

from nat_observability.errors import AsynchronousProviderError
from nat_observability.logs import get_logger

T = TypeVar("T")
_log = get_logger()
_RESOURCE = getattr(providers, "BaseResource", providers.Resource)  # 4.49 has the former
_CALLING = (providers.Callable, providers.Factory, providers.BaseSingleton)


class CountedDependency(providers.Dependency[T]):
    """A dependency that says, with one object for all of them, whether any has been overridden since."""

    state = object()

    @classmethod
    def _changed(cls) -> None:
        # After the change, so that whoever has seen this state has seen the change.
        CountedDependency.state = object()

    def override(self, provider: Any) -> Any:
        """Override it, as any provider."""
        try:
            return super().override(provider)
        finally:
            self._changed()

    def reset_last_overriding(self) -> None:
        """Take the last override back."""
        try:
            super().reset_last_overriding()
        finally:
            self._changed()

    def reset_override(self) -> Any:
        """Take all overrides back."""
        try:
            return super().reset_override()
        finally:
            self._changed()


class Given:
    """
    What the embedding container gives, some of which may have to be awaited first.

    Attributes:
        awaited: By name, what has been awaited since the runtime was last opened.
        inputs: By name, what gives that from which the exporters were made last.
    """

    def __init__(self) -> None:
        self.awaited: dict[str, Any] = {}
        self.inputs: Mapping[str, providers.Provider[Any]] = {}
        self._links: list[tuple[str, providers.Provider[Any], tuple[providers.Provider[Any], ...]]] = []
        self._last: list[tuple[providers.Provider[Any], providers.Provider[Any] | None]] = []
        self._foreign = self._last
        self._state: object = None
        self._warned = False
        self._keeps = False
        self._reset_put_off = False
        self._made: dict[str, tuple[object, Any]] = {}
        self._resources: list[tuple[Any, object]] = []

    def keep(self, is_open: bool) -> bool:
        """
        Keep what is made from now on, and what was, if a runtime is open.

        Returns:
            Whether something is to be reset now, because that was put off.
        """
        self._keeps = is_open
        put_off = self._reset_put_off and not is_open
        if put_off:
            self._reset_put_off = False
            self._made.clear()
        return put_off

    def once(self, name: str, make: Callable[[], T], *, used_with: object = None) -> T:
        """
        Return what `make` gives; while a runtime is open, what it gave before, whatever was reset meanwhile.

        Args:
            name: Of what is made.
            make: Makes it.
            used_with: What it belongs to: with another one it is made anew.
        """
        if self._keeps and name in self._made:
            other, kept = self._made[name]
            if other is used_with:
                self._reset_put_off = True
                return cast(T, kept)
        made = make()
        self._made[name] = used_with, made
        return made

    def made_from(self, **given: providers.Provider[Any]) -> None:
        """Note which providers give what the exporters are made from."""
        # Before the providers are looked at: an override meanwhile is then a change.
        self._state = CountedDependency.state
        self._links = [(name, *link) for name, provider in given.items() for link in _overriding(provider)]
        self.inputs = given
        self._last = [(provider, provider.last_overriding) for _, provider, _ in self._links]
        self._foreign = [each for each in self._last if not isinstance(each[0], CountedDependency)]
        self._warned = False

    def note_resources(self) -> None:
        """Note the synchronous resources that the exporters have been made from, with what each gave."""
        self._resources = [
            (each, each())
            for provider in self.inputs.values()
            for each in _sources(provider)
            if isinstance(each, _RESOURCE) and each.initialized and not _is_asynchronous(each)
        ]

    def resources_closed(self) -> bool:
        """Whether a resource that the exporters have been made from was closed since."""
        return any(not each.initialized or each() is not gave for each, gave in self._resources)

    def overridden(self) -> bool:
        """Whether other providers give now what the exporters were made from."""
        return any(provider.last_overriding is not last for provider, last in self._last)

    def warn_if_overridden(self) -> None:
        """
        Log, once, that an override came too late for the exporters, unless it was there when they were made.

        Called for each new manager.
        """
        if self._state is CountedDependency.state:
            for provider, last in self._foreign:  # the service's own, which say nothing
                if provider.last_overriding is not last:
                    break
            else:
                return
        self._look_for_late()

    def _look_for_late(self) -> None:
        self._state = CountedDependency.state
        if self._warned:
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


def _overriding(
    provider: providers.Provider[Any],
) -> Iterator[tuple[providers.Provider[Any], tuple[providers.Provider[Any], ...]]]:
    each: Any = provider
    while each is not None:
        yield each, tuple(each.overridden)
        each = each.last_overriding


def asynchronous(provider: providers.Provider[Any]) -> list[str]:
    """Return the names of the asynchronous resources and functions that a provider gets objects from."""
    return [_name(each) for each in _sources(provider) if _is_asynchronous(each)]


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


def _is_asynchronous(provider: Any) -> bool:
    if not isinstance(provider, (_RESOURCE, *_CALLING)) or provider.provides is None:
        return False
    provides = inspect.unwrap(provider.provides)
    if not isinstance(provider, _RESOURCE):
        return inspect.iscoroutinefunction(provides)
    if isinstance(provides, type):
        return issubclass(provides, resources.AsyncResource) or (
            hasattr(provides, "__aenter__") and not hasattr(provides, "__enter__")
        )
    return inspect.iscoroutinefunction(provides) or inspect.isasyncgenfunction(provides)


def _name(provider: Any) -> str:
    provides = inspect.unwrap(provider.provides)
    return getattr(provides, "__qualname__", repr(provides))
