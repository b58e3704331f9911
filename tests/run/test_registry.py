"""G10: a copy is independent; and the registry's errors for unknown names."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from nat_observability import ContextState, ExporterManager, ExporterStartError, UnknownExporterError
from nat_observability.testing import CapturingExporter
from tests import scenarios
from tests.scenarios import OURS
from tests.virtual_time import elapsed_since, now, run_virtual


def test_copies_do_not_see_each_other() -> None:
    """After `get()`, additions and removals on either side are invisible to the other."""
    scenarios.copies_do_not_see_each_other(OURS)


def test_all_exporters_are_the_callers_own() -> None:
    """`get_all_exporters()` returns a dict that the caller may change."""
    scenarios.all_exporters_are_the_callers_own(OURS)


def test_registering_meanwhile_is_safe() -> None:
    """A thread that registers while this one iterates does not disturb it."""
    scenarios.registering_meanwhile_is_safe(OURS)


def test_registering_under_stress_is_safe() -> None:
    """Threads that register and remove all the time do not disturb each other, and no change is lost."""
    scenarios.registering_under_stress_is_safe(OURS)


async def test_copy_of_a_copy() -> None:
    """Three generations are as independent as two, and share the exporters themselves."""
    first, exporter = ExporterManager(), CapturingExporter()
    first.add_exporter("shared", exporter)
    second = first.get()
    third = second.get()
    second.remove_exporter("shared")
    assert set(await first.get_all_exporters()) == set(await third.get_all_exporters()) == {"shared"}
    assert first.get_exporter("shared") is third.get_exporter("shared") is exporter


async def test_registry_that_was_given_is_not_changed() -> None:
    """Neither is the dictionary that a manager was made from, nor does changing it later change the manager."""
    exporters = {"first": CapturingExporter()}
    manager = ExporterManager.from_exporters(exporters)
    manager.add_exporter("second", CapturingExporter())
    assert set(exporters) == {"first"}
    exporters["third"] = CapturingExporter()
    assert set(await manager.get_all_exporters()) == {"first", "second"}


def test_copy_has_the_same_configuration() -> None:
    """Timeouts and required exporters are copied, and then stay each side's own."""

    async def main() -> None:
        original = ExporterManager(shutdown_timeout=3, start_timeout=2)
        original.add_exporter("hangs", scenarios.StartHangs(), required=True)  # type: ignore[arg-type]
        copy = original.get()
        original.add_exporter("hangs", scenarios.StartHangs())  # type: ignore[arg-type]
        began = now()
        with pytest.raises(ExporterStartError):
            async with copy.start(ContextState()):
                pass
        assert elapsed_since(began) == pytest.approx(2)
        async with original.start(ContextState()):
            pass

    run_virtual(main())


def test_same_name_replaces_with_a_warning() -> None:
    """The last one is kept; one line warns of it."""
    manager, first, second = ExporterManager(), CapturingExporter(), CapturingExporter()
    with capture_logs() as lines:
        manager.add_exporter("name", first)
        manager.add_exporter("other", CapturingExporter())
        manager.add_exporter("name", second)
    assert manager.get_exporter("name") is second
    assert [(line["event"], line["exporter"], line["log_level"]) for line in lines] == [
        ("exporter_replaced", "name", "warning")
    ]


def test_a_second_name_for_one_exporter_is_warned_about() -> None:
    """It gets everything twice, which is hardly meant; under the name that it has already, nothing changes."""
    manager, exporter = ExporterManager(), CapturingExporter()
    with capture_logs() as lines:
        manager.add_exporter("name", exporter)
        manager.get().add_exporter("other", CapturingExporter())
        assert lines == []
        manager.add_exporter("other", exporter)
    [line] = lines
    assert (line["event"], line["exporter"], line["other"], line["log_level"]) == (
        "exporter_registered_twice",
        "other",
        "name",
        "warning",
    )


def test_removed_one_is_no_longer_required() -> None:
    """The same goes for one that is replaced by one that is not required."""

    async def main() -> None:
        manager = ExporterManager(start_timeout=1)
        manager.add_exporter("name", scenarios.RaisesBeforeStart(), required=True)  # type: ignore[arg-type]
        manager.remove_exporter("name")
        manager.add_exporter("name", scenarios.RaisesBeforeStart())  # type: ignore[arg-type]
        async with manager.start(ContextState()):
            pass

    run_virtual(main())


def test_unknown_name_is_an_error_that_lists_what_there_is() -> None:
    """Getting or removing an unknown name raises an error that lists the known ones."""
    manager = ExporterManager.from_exporters({"a": CapturingExporter(), "b": CapturingExporter()})
    for use in (manager.get_exporter, manager.remove_exporter):
        with pytest.raises(
            UnknownExporterError, match=r"No exporter named 'c'\. Registered: a, b\."
        ) as raised:
            use("c")
        assert isinstance(raised.value, ValueError)
        assert (raised.value.name, raised.value.known) == ("c", ("a", "b"))
        assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_isolated_exporters_are_new_and_bound() -> None:
    """One for each exporter, all of one run, even if no state is given."""
    manager = ExporterManager.from_exporters({"a": CapturingExporter(), "b": CapturingExporter()})
    for given in (ContextState(), None):
        isolated = manager.create_isolated_exporters(given)
        assert set(isolated) == {"a", "b"}
        for name, exporter in isolated.items():
            assert exporter is not manager.get_exporter(name)
            assert exporter.is_isolated_instance
