"""What overrides a container's providers is asked as often as needed, and warned about only if it has no effect."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any, cast

import pytest
from dependency_injector import containers, providers
from structlog.testing import capture_logs

from nat_observability import ContextState, ExporterManager, SpanExporter, step
from nat_observability.containers import ObservabilityContainer, observability
from nat_observability.errors import AsynchronousProviderError
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.integrations import run_scope
from nat_observability.settings import ObservabilitySettings
from nat_observability.testing import CapturingExporter

pytestmark = pytest.mark.may_block  # settings are read once, when the process starts


def configured(*names: str) -> ObservabilitySettings:
    """Settings with exporters of these names."""
    return ObservabilitySettings(exporters={name: {"type": "memory"} for name in names})


async def recorded(container: ObservabilityContainer) -> dict[str, BaseExporter]:
    """Record a step in a run of a container; return the run's exporters."""
    async with container.exporter_manager().start(ContextState()) as manager:
        with step("tool", "work"):
            pass
    return await manager.get_all_exporters()


async def test_what_makes_new_exporters_each_time_is_refused() -> None:
    """The runtime would open others than those that the managers use."""
    kinds = (providers.Factory, providers.Callable)
    for kind in kinds:
        container = ObservabilityContainer(settings=configured("main"))
        container.exporters.override(kind(lambda: {"captured": CapturingExporter()}))
        with pytest.raises(TypeError, match=r"providers\.Singleton instead of providers\.Factory"):
            await container.init_resources()
        with pytest.raises(TypeError, match=r"providers\.Singleton instead of providers\.Factory"):
            container.exporter_manager()


async def test_what_would_have_to_be_awaited_is_refused() -> None:
    """Nothing that runs is left behind."""

    async def later() -> dict[str, BaseExporter]:
        raise AssertionError("it has begun")

    given: list[Any] = [providers.Coroutine(later), providers.Callable(later), providers.Object(None)]
    for provider in given:
        container = ObservabilityContainer(settings=configured("main"))
        container.exporters.override(provider)
        with pytest.raises(
            TypeError, match=r"What overrides the exporters gives a (Task|coroutine|NoneType), "
        ):
            await container.init_resources()


async def test_settings_of_an_asynchronous_function_are_awaited() -> None:
    """As those of an asynchronous resource are, each time it is opened."""

    async def make(name: str) -> ObservabilitySettings:
        made.append(name)
        return configured(name)

    for kind in (providers.Coroutine, providers.Callable, providers.Factory, providers.Singleton):
        made: list[str] = []
        container = ObservabilityContainer(settings=kind(make, "main"))
        container.validate()
        with pytest.raises(AsynchronousProviderError, match=r"'settings' gives a future.*make\.provider"):
            container.exporters()
        await container.init_resources()
        assert [*await recorded(container)] == ["main"]
        await container.shutdown_resources()
        assert made == ["main"]


async def test_what_keeps_its_exporters_is_asked_each_time() -> None:
    """So a singleton that is reset between two runs gives its new ones to the next."""
    container = ObservabilityContainer(settings=configured("main"))
    own = providers.Singleton(lambda: {"captured": CapturingExporter()})
    container.exporters.override(own)
    first = container.exporters()
    assert container.exporters() is first
    own.reset()
    assert await recorded(container) is not first
    assert container.exporters() is own()


async def test_an_override_that_has_ended_is_no_late_one() -> None:
    """A block in which the container was opened; another that begins while it is open is named."""
    container = ObservabilityContainer(settings=configured("main"))
    with capture_logs() as logs:
        with container.settings.override(providers.Object(configured("other"))):
            with container.settings.override(providers.Object(configured("inner"))):
                await container.init_resources()
            assert [*await recorded(container)] == ["inner"]
        assert [*await recorded(container)] == ["inner"]
        await container.shutdown_resources()
        await container.init_resources()
        assert [*await recorded(container)] == ["main"]
        assert _warnings(logs) == []
        with container.settings.override(providers.Object(configured("late"))):
            assert [*await recorded(container)] == ["main"]
        await container.shutdown_resources()
    assert _warnings(logs) == ["override_came_late"]


async def test_a_late_override_is_found_in_whatever_way_it_came() -> None:
    """By the container's own providers, whole containers or the service's; changes of another container hide none."""
    service = providers.Singleton(configured, "main")
    other = ObservabilityContainer(settings=configured("other"))

    def late(container: Any) -> list[Callable[[], object]]:
        replaced = containers.DynamicContainer()
        replaced.settings = providers.Object(configured("late"))
        return [
            lambda: container.settings.override(configured("late")),
            lambda: container.override_providers(settings=configured("late")),
            lambda: container.override(replaced),
            lambda: container.processing.override({}),
            lambda: service.override(configured("late")),
        ]

    for which in range(len(late(other))):
        container = ObservabilityContainer(settings=service)
        async with container.runtime_object():
            with capture_logs() as logs:
                container.exporter_manager()
                other.settings.override(configured("other"))
                container.exporter_manager()
                assert _warnings(logs) == []
                late(container)[which]()
                other.settings.reset_override()
                for _ in range(3):
                    container.exporter_manager()
                assert _warnings(logs) == ["override_came_late"]
        service.reset_override()


def test_a_manager_takes_few_calls() -> None:
    """It is made for each run: nothing is asked for it that was not overridden since."""
    container = ObservabilityContainer(settings=configured("main"))
    container.exporter_manager()
    called: list[str] = []

    def note(frame: FrameType, event: str, arg: object) -> None:
        if event == "call":
            called.append(frame.f_code.co_name)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        container.exporter_manager()
    finally:
        sys.setprofile(before)
    assert called == ["with_options", "registry_for", "warn_if_overridden", "__init__"]


async def test_what_is_reset_while_open_stays_what_it_is() -> None:
    """Managers and runtime belong together until it is closed; what was asked for before does not outlive it."""
    container = ObservabilityContainer(settings=configured("main"))
    for _ in range(2):
        await container.init_resources()
        exporters, options = container.exporters(), container.manager_options()
        for each in (
            container.exporters,
            container.manager_options,
            container.given,
            container.runtime_object,
        ):
            cast(Any, each).reset()
            assert container.exporters() is exporters
            assert container.manager_options() is options
        assert options.observer is container.runtime_object()
        await container.shutdown_resources()
        assert container.exporters() is not exporters
        assert container.manager_options() is not options
        assert container.manager_options().observer is container.runtime_object()


async def test_what_is_left_out_on_purpose_is_not_warned_about() -> None:
    """Runs that no exporter selects, and runs and steps that are made and then not needed."""

    @step("tool", "generator")
    def generator(count: int) -> Any:
        yield from range(count)

    wrong = cast(Any, generator)
    container = ObservabilityContainer(settings=configured("main"))
    selecting = ExporterManager.from_exporters({"acme": SpanExporter(print, select={"tenant": "acme"})})
    await container.init_resources()
    with capture_logs() as logs:
        async with selecting.start(ContextState()):
            pass
        container.exporter_manager().start(ContextState())
        run_scope(container)
        observability(container=container)
        async with container.exporter_manager().start(ContextState()):
            with pytest.raises(TypeError):
                list(wrong(1, 2, 3))
            step("tool", "not needed")
    await container.shutdown_resources()
    assert _warnings(logs) == []


async def test_a_runtime_that_has_recorded_nothing_says_that_no_run_was_selected() -> None:
    """A misspelt SELECT loses every run."""
    settings = ObservabilitySettings(exporters={"main": {"type": "memory", "select": "tenant=acme"}})
    for tags, warnings in (({"tenant": "acme"}, []), ({"tenant": "acne"}, ["run_not_recorded"])):
        container = ObservabilityContainer(settings=settings)
        await container.init_resources()
        with capture_logs() as logs:
            for each in ({}, tags):
                async with container.exporter_manager().start(ContextState(tags=each)):
                    with step("tool", "work"):
                        pass
            await container.shutdown_resources()
        assert _warnings(logs) == warnings


def test_a_run_is_what_it_can_be_used_as() -> None:
    """Neither awaitable nor for `with`: containers and fixtures look at that."""
    run: Any = ExporterManager().start()
    assert not inspect.isawaitable(run)
    assert not isinstance(run, AbstractContextManager)
    with pytest.raises(TypeError, match="RunContext"), run:
        pass


def _warnings(logs: Any) -> list[str]:
    return [line["event"] for line in logs if line["log_level"] == "warning"]
