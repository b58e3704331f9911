"""Providers for what lives as long as the exporters are open."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from dependency_injector import providers

from nat_observability.containers.given import Given, resources_of
from nat_observability.errors import MissingContainerError, NoEventLoopError
from nat_observability.health import RuntimeState
from nat_observability.runtime import ObservabilityRuntime
from nat_observability.system.fork_hooks import at_fork
from nat_observability.system.weak_registry import WeakRegistry

T = TypeVar("T")
_AT_REST = (RuntimeState.NEW, RuntimeState.CLOSED)


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


def holding(
    given: Given, held: Iterable[HeldSingleton[Any]], kept: Iterable[providers.BaseSingleton[Any]]
) -> Callable[[RuntimeState], None]:
    """
    Return a function that keeps what a runtime is used with while it is open, to be called when its state changes.

    Args:
        given: Keeps what is asked for with each manager: a singleton of a Python class takes three times as long.
        held: Keep their objects themselves.
        kept: The singletons of what `given` keeps.
    """
    held, kept = tuple(held), tuple(kept)

    def changed(state: RuntimeState) -> None:
        is_open = state not in _AT_REST
        if given.keep(is_open):
            for each in kept:
                each.reset()
        for each in held:
            if is_open:
                each.hold()
            else:
                each.let_go()

    return changed


def container_of(feature: str, settings: Any) -> Any:
    """
    Return the container that settings belong to. A `Self` would be the class, in a container of a subclass.

    Raises:
        MissingContainerError: The class of the container was used, and not an object of it.
        TypeError: A subclass replaces the settings, of which its other providers know nothing.
    """
    container = getattr(settings, "parent", None)  # which only a dependency has
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
        TypeError: What overrides the exporters makes new ones each time, or a subclass replaces them, or what they are
            made from.
    """
    for name, provider in container.given().inputs.items():
        if getattr(container, name, None) is not provider:
            raise _replaced(name)
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
        self._waiting: list[Future[None]] = []  # for the opening, in other event loops than its own
        super().__init__(runtime, *made, **awaited)
        self.enable_async_mode()  # so that there is always something to await
        _resources.add(self)

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
        with _turn:
            opening, opened = self._opening, self._opened
            if opening is None:
                return _Nothing()
            if opened is None and opening.get_loop().is_closed():  # it never will be
                self._opening = None
                return _Nothing()
            loop = _loop("shutdown_resources()")
            ready = None if opened is not None else self._ready(opening, loop)
            self._opening = self._opened = None
        closing = loop.create_task(_close(opening, opened, ready))

        def ended(task: asyncio.Task[None]) -> None:
            # Its first step may never have been executed.
            if task.cancelled():
                if opening.get_loop() is loop:
                    opening.cancel()
                else:
                    with suppress(RuntimeError):  # its loop is closed
                        opening.get_loop().call_soon_threadsafe(opening.cancel)
                if opened is not None:
                    opened.begin_shutdown()

        closing.add_done_callback(ended)
        return closing

    def _provide(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with _turn:
            if self._opened is not None:
                return self._opened
            loop = _loop("init_resources()")
            opening = self._opening
            if opening is None or opening.get_loop().is_closed():
                self._opening = opening = loop.create_task(self._open())
                opening.add_done_callback(self._has_opened)
            ready = self._ready(opening, loop)
        return opening if ready is None else loop.create_task(self._opened_elsewhere(ready))

    def _ready(self, opening: asyncio.Task[Any], loop: asyncio.AbstractEventLoop) -> Future[None] | None:
        """Return what is done when the opening is, if that belongs to another event loop than this."""
        if opening.get_loop() is loop:
            return None
        ready = Future[None]()
        self._waiting.append(ready)
        return ready

    async def _opened_elsewhere(self, ready: Future[None]) -> ObservabilityRuntime:
        await asyncio.wrap_future(ready)
        # If that has failed, this tries it itself.
        found = self._provide((), {})
        runtime: ObservabilityRuntime = await found if asyncio.isfuture(found) else found
        return runtime

    def _has_opened(self, opening: asyncio.Task[ObservabilityRuntime]) -> None:
        # It may have been cancelled before its first step. After a shutdown, this is not the current one.
        failed = opening.cancelled() or opening.exception() is not None
        with _turn:
            if self._opening is opening:
                if failed:
                    self._opening = None
                else:
                    self._opened = opening.result()
            waiting, self._waiting = self._waiting, []
        for each in waiting:
            if each.set_running_or_notify_cancel():
                each.set_result(None)

    def forget_opening(self) -> None:
        """In a forked child: what the parent was opening is not opened here."""
        self._waiting = []
        if self._opened is None:
            self._opening = None

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
            former: ObservabilityRuntime = runtime()
            if (
                awaited
                or given().overridden()
                or given().resources_closed()
                or not former.was_made_with(exporters())
            ):
                for each in (exporters, runtime, options):
                    each.reset()
                runtime().take_changes_of(former)
        opened: ObservabilityRuntime = runtime()
        return opened


async def _close(
    opening: asyncio.Task[ObservabilityRuntime],
    opened: ObservabilityRuntime | None,
    ready: Future[None] | None,
) -> None:
    if opened is None:
        await asyncio.wait([opening if ready is None else asyncio.wrap_future(ready)])
        # What went wrong is raised by its own `init()`.
        if opening.done() and not opening.cancelled() and opening.exception() is None:
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


_resources: WeakRegistry[RuntimeResource] = WeakRegistry()
# For a moment each: threads may open one container, each in its own event loop. Reentrant: an eager task runs in it.
_turn = threading.RLock()


def _start_clean_in_child() -> None:
    global _turn
    _turn = threading.RLock()
    for resource in _resources.all():
        resource.forget_opening()
    # One of each for all of dependency-injector's providers: a singleton that a thread was making which is not in this
    # process would block every other for ever.
    kinds: Any = providers  # of whose locks its stubs say nothing
    for lock in (kinds.ThreadSafeSingleton.storage_lock, kinds.Provider.overriding_lock):
        if lock.acquire(blocking=False):
            lock.release()  # free, or held by the thread that forked, which goes on
        else:
            lock._at_fork_reinit()  # as the standard library does with its own


at_fork(after_in_child=_start_clean_in_child)
