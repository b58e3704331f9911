"""Builders: what the settings say is what the exporters are, and what is wrong with them is said at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from nat_observability.builders import BUILT_IN_TYPES, ExporterBuilder, build_exporters, required_exporters
from nat_observability.delivery.limits import DeliveryLimits
from nat_observability.errors import (
    InvalidExporterError,
    MissingExtraError,
    SettingsError,
    SinkError,
    UnknownExporterTypeError,
)
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter.span_exporter import SpanExporter
from nat_observability.exporter.step_exporter import StepExporter
from nat_observability.settings.observability import BUILT_IN, ObservabilitySettings
from nat_observability.testing import CapturingExporter


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment that the tests run in does not leak into them."""
    for name in list(os.environ):
        if name.startswith(("NAT_OBSERVABILITY_", "OTEL_")):
            monkeypatch.delenv(name)


def settings_of(
    *, process: dict[str, Any] | None = None, **exporters: dict[str, Any]
) -> ObservabilitySettings:
    values: dict[str, Any] = {"exporters": exporters, **(process or {})}
    return ObservabilitySettings(**values)


def one(entry: dict[str, Any], **process: Any) -> StepExporter:
    exporter = build_exporters(settings_of(process=process, main=entry))["main"]
    assert isinstance(exporter, StepExporter)
    return exporter


def raising(error: Exception) -> ExporterBuilder:
    def build(name: str, own: Any, settings: ObservabilitySettings) -> BaseExporter:
        raise error

    return build


def test_each_type_that_has_settings_has_a_builder() -> None:
    """And the other way round."""
    assert BUILT_IN_TYPES.keys() == BUILT_IN.keys()


LOCAL: dict[str, dict[str, Any]] = {
    "memory": {"type": "memory", "limit": 3},
    "console": {"type": "console", "stream": "stdout"},
    "file": {"type": "file", "path": "{}/deep/spans.jsonl"},
    "sqlite": {"type": "sqlite", "path": "{}/deep/store.sqlite3"},
}


@pytest.mark.parametrize("kind", LOCAL)
def test_building_opens_and_creates_nothing(tmp_path: Path, kind: str) -> None:
    """Constructors only: everything is opened when the process or a run starts."""
    entry = {
        key: value.format(tmp_path) if isinstance(value, str) else value for key, value in LOCAL[kind].items()
    }
    exporter = one(entry)
    assert exporter.name == "main"
    assert exporter.delivery.health().state == "new"
    assert list(tmp_path.iterdir()) == []


# What each limit may be set to, other than its default.
OTHER: dict[str, Any] = {
    "queue_items": st.integers(100, 10**6),
    "queue_bytes": st.integers(1, 2**40),
    "queue_policy": st.just("drop_oldest"),
    "batch_items": st.integers(1, 100),
    "batch_bytes": st.integers(1, 2**30),
    "batch_age": st.floats(0, 1000),
    "batches_in_flight": st.integers(1, 64),
    "write_timeout": st.floats(0.1, 1000),
    "run_bytes": st.integers(1, 2**30),
    "chunk_bytes": st.integers(1, 2**30),
    "retry_initial": st.floats(0.1, 1000),
    "retry_max": st.floats(0.1, 1000),
    "retry_for": st.floats(0, 1000),
    "breaker_failures": st.integers(1, 1000),
    "breaker_open_for": st.floats(0.1, 1000),
    "spool": st.sampled_from(["spill", "always"]),
    "spool_path": st.just(Path("/var/spool/of-a-test")),
    "spool_bytes": st.integers(10**6, 2**40),
    "spool_age": st.floats(1, 1000),
}


@given(st.fixed_dictionaries(OTHER))
def test_every_limit_that_is_set_reaches_the_delivery(values: dict[str, Any]) -> None:
    """None of them is forgotten, at any value."""
    limits = one({"type": "memory", **values}).delivery.limits
    assert {field: getattr(limits, field) for field in values} == values


def test_every_limit_can_be_set_or_is_the_process_own() -> None:
    """Every limit of a delivery is in the settings."""
    assert set(DeliveryLimits.__struct_fields__) == OTHER.keys() | {"open_timeout", "drain_timeout"}


def test_what_is_not_set_is_as_the_delivery_has_it() -> None:
    """The settings take their defaults from the delivery's limits; the process has a shorter shutdown."""
    assert one({"type": "memory"}).delivery.limits == DeliveryLimits(drain_timeout=20.0)


def test_the_process_timeouts_are_those_of_each_sink() -> None:
    """A sink has the start timeout to open, and the shutdown timeout is that of the drain at interpreter exit too."""
    limits = one({"type": "memory"}, start_timeout=77.0, shutdown_timeout=55.0).delivery.limits
    assert (limits.open_timeout, limits.drain_timeout) == (77.0, 55.0)


def test_what_is_recorded_and_waited_for_is_as_set() -> None:
    """Spans or steps; handed over or delivered."""
    assert type(one({"type": "memory"})) is SpanExporter
    assert type(one({"type": "memory", "record": "steps"})) is StepExporter
    assert one({"type": "memory"}).flush == "handed_over"
    assert one({"type": "memory", "flush": "delivered"}).flush == "delivered"


def test_switched_off_nothing_is_built() -> None:
    """Not even what would fail; and nothing is required."""
    settings = settings_of(process={"enabled": False}, main={"type": "wrong", "required": True})
    assert build_exporters(settings, {"wrong": raising(ValueError("no"))}) == {}
    assert build_exporters(settings) == {}
    assert required_exporters(settings) == frozenset()


def test_required_exporters_are_those_that_say_so() -> None:
    """By name, of whatever type."""
    settings = settings_of(
        a={"type": "memory", "required": True}, b={"type": "memory"}, c={"type": "own", "required": True}
    )
    assert required_exporters(settings) == {"a", "c"}


def test_a_service_adds_types_of_its_own() -> None:
    """Its builder gets the name, the exporter's own settings with what is special to it, and the process's."""
    given_to: list[Any] = []

    def build(name: str, own: Any, settings: ObservabilitySettings) -> BaseExporter:
        given_to.extend([name, own.options(), settings.service_name])
        return CapturingExporter()

    settings = settings_of(process={"service_name": "shop"}, mine={"type": "own", "topic": "spans"})
    assert isinstance(build_exporters(settings, {"own": build})["mine"], CapturingExporter)
    assert given_to == ["mine", {"topic": "spans"}, "shop"]


def test_own_types_win_over_built_in_ones() -> None:
    """A service may replace what the package brings."""
    built = build_exporters(settings_of(main={"type": "memory"}), {"memory": lambda *_: CapturingExporter()})
    assert isinstance(built["main"], CapturingExporter)


def test_an_unknown_type_names_its_variable_and_the_nearest() -> None:
    """With the names of all that are known, the service's own among them."""
    settings = settings_of(main={"type": "memory"}, extra={"type": "consol"})
    with pytest.raises(UnknownExporterTypeError) as caught:
        build_exporters(settings, {"own": raising(ValueError())})
    assert caught.value.exporter_type == "consol"
    assert str(caught.value).startswith(
        "NAT_OBSERVABILITY_EXPORTERS__EXTRA__TYPE: no exporter type 'consol'. Did you mean 'console'? Known: arize, "
    )
    assert "own" in caught.value.known


def test_what_builders_refuse_is_said_of_all_of_them_at_once() -> None:
    """Each problem is listed under its exporter's variables, and no cause carries the values."""
    settings = settings_of(
        a={"type": "no"}, b={"type": "memory"}, c={"type": "sink"}, d={"type": "model", "key_file": "s3cret"}
    )

    class Options(BaseModel):
        port: int

    def validating(name: str, own: Any, settings: ObservabilitySettings) -> BaseExporter:
        Options.model_validate(own.options())
        raise AssertionError

    own: dict[str, ExporterBuilder] = {
        "no": raising(ValueError("the certificate does not exist. Give the path of one.")),
        "sink": raising(SinkError("/var/x", "cannot be used", "Choose another path.")),
        "model": validating,
    }
    with pytest.raises(SettingsError) as caught:
        build_exporters(settings, own)
    first, second, third = caught.value.problems
    assert first == "NAT_OBSERVABILITY_EXPORTERS__A: the certificate does not exist. Give the path of one."
    assert second == "NAT_OBSERVABILITY_EXPORTERS__C: /var/x: cannot be used. Choose another path."
    assert third.startswith("NAT_OBSERVABILITY_EXPORTERS__D__PORT")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert "s3cret" not in str(caught.value)


def test_a_missing_package_is_named_with_the_exporter_that_needs_it() -> None:
    """And how to install it."""
    with pytest.raises(MissingExtraError, match=r"Exporter 'main' of type 'grpc' .*pip install") as caught:
        build_exporters(
            settings_of(main={"type": "grpc"}), {"grpc": raising(MissingExtraError("gRPC", "grpc"))}
        )
    assert caught.value.extra == "grpc"


def test_a_builder_that_makes_no_exporter_is_found_out() -> None:
    """When it is configured, and not at the first run."""
    with pytest.raises(InvalidExporterError, match="'main' is a object, which is not an exporter"):
        build_exporters(settings_of(main={"type": "own"}), {"own": lambda *_: object()})  # type: ignore[dict-item]


def test_an_error_that_is_nobodys_fault_is_left_as_it_is() -> None:
    """A bug in a builder keeps its own type and traceback."""
    with pytest.raises(ZeroDivisionError):
        build_exporters(settings_of(main={"type": "own"}), {"own": raising(ZeroDivisionError())})
