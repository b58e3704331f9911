"""From settings to processors: which are made, in which order, and what a service adds in code."""

from __future__ import annotations

import os
from typing import Any

import pytest
from pydantic import SecretStr

from nat_observability.builders import build_exporters
from nat_observability.builders.processing import OwnProcessing, processors_of, sampling_of
from nat_observability.containers import ObservabilityContainer
from nat_observability.context import ContextState
from nat_observability.delivery.delivery import Delivery
from nat_observability.errors import (
    InvalidPatternError,
    RuntimeStateError,
    SettingsError,
    UnknownExporterError,
)
from nat_observability.events import Item, Span
from nat_observability.exporter.sampling import Sampling
from nat_observability.exporter.span_exporter import SpanExporter
from nat_observability.exporter.step_exporter import StepExporter
from nat_observability.processors import Pattern, Rule, Tagger
from nat_observability.settings import ObservabilitySettings
from nat_observability.settings.processing import ProcessingSettings
from nat_observability.sinks import MemorySink
from nat_observability.testing import CapturingExporter
from tests.sinks.builders import RUN, make_span

KEY = "sk-proj-" + "Zx81kQ" * 8
MEMORY = {"main": {"type": "memory"}}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment that the tests run in does not leak into them."""
    for name in list(os.environ):
        if name.startswith(("NAT_OBSERVABILITY_", "OTEL_")):
            monkeypatch.delenv(name)


def settings_of(exporters: Any, **process: Any) -> ObservabilitySettings:
    return ObservabilitySettings(exporters=exporters, **process)


def names(processors: Any) -> list[str]:
    return [getattr(processor, "name", getattr(processor, "__name__", "")) for processor in processors]


def mine(item: Item) -> Item:
    return item


def applied(item: Item, processors: Any) -> Any:
    for processor in processors:
        item = processor(item)
    return item


def test_the_order_is_content_own_redaction_limits_tags() -> None:
    """What is not captured is not searched, what a service adds is redacted, and a cut comes after redaction."""
    settings = ProcessingSettings(capture_inputs=False, tags={"a": "b"})
    assert names(processors_of(settings, processors=[mine])) == [
        "content",
        "mine",
        "redact",
        "truncate",
        "tag",
    ]
    assert names(processors_of(ProcessingSettings())) == ["redact", "truncate"]
    assert names(processors_of(ProcessingSettings(redact=False, privacy="low"))) == ["truncate", "tag"]


def test_each_setting_reaches_its_processor() -> None:
    """Keys, patterns, personal data, content by kind, limits, tags and the privacy level do what they say."""
    settings = ProcessingSettings(
        redact_keys=("shoe_size",),
        redact_patterns={"ticket": "TCK-[0-9]+"},
        redact_personal=("email",),
        capture_outputs_not_of=("function",),
        attribute_value_length_limit=100,
        tags={"team": "search", "plan": "none"},
        privacy="high",
    )
    run = ContextState(tags={"plan": "gold"}).run
    span: Span = applied(
        make_span(
            run=run,
            input=f"shoe_size=44 TCK-123 me@example.org {KEY} " + "x" * 500,
            output="an answer",
            metadata=None,
        ),
        processors_of(settings),
    )
    assert isinstance(span.input, str)
    for secret in ("44", "TCK-123", "me@example.org", KEY):
        assert secret not in span.input
    assert "[redacted:ticket]" in span.input
    assert len(span.input) < 200
    assert span.output is None
    assert dict(span.run.tags) == {"plan": "gold", "team": "search", "privacy.level": "high"}


def test_a_hash_key_makes_equal_values_equal() -> None:
    """With it, equal values get equal marks, and different values different ones."""
    settings = ProcessingSettings(
        redact_hash_key=SecretStr("k" * 16), redact_patterns={"ticket": "TCK-[0-9]+"}
    )
    span = applied(make_span(input="TCK-1 TCK-1 TCK-2"), processors_of(settings))
    first, second, third = span.input.split()
    assert first == second != third
    assert "TCK" not in span.input


def test_a_pattern_of_the_package_can_be_left_out() -> None:
    """By its name; an unknown name is a mistake that names the exporter's variables."""
    from nat_observability.processors import DEFAULT_PATTERNS

    settings = ProcessingSettings(redact_without=tuple(DEFAULT_PATTERNS), redact_keys=())
    assert applied(make_span(input=KEY), processors_of(settings)).input == KEY
    with pytest.raises(
        SettingsError, match=r"NAT_OBSERVABILITY_EXPORTERS__MAIN__REDACT_WITHOUT: pattern 'nothing'"
    ):
        build_exporters(settings_of({"main": {"type": "memory", "redact_without": ("nothing",)}}))


def test_a_bad_pattern_is_refused_with_the_name_of_its_variable() -> None:
    """One that takes exponential time, of the process or of an exporter."""
    settings = ProcessingSettings(redact_patterns={"ticket": "(a+)+b"})
    with pytest.raises(
        InvalidPatternError, match=r"NAT_OBSERVABILITY_REDACT_PATTERNS__TICKET: pattern 'ticket': it "
    ) as raised:
        processors_of(settings)
    assert raised.value.variables == ("NAT_OBSERVABILITY_REDACT_PATTERNS__TICKET",)
    with pytest.raises(InvalidPatternError, match="EXPORTERS__MAIN__REDACT_PATTERNS__TICKET"):
        processors_of(settings, exporter="main")


def test_a_bad_key_is_refused_with_the_name_of_its_variable() -> None:
    """A text without letters."""
    with pytest.raises(InvalidPatternError, match=r"NAT_OBSERVABILITY_REDACT_KEYS: pattern '-_': "):
        processors_of(ProcessingSettings(redact_keys=("-_",)))


def test_sampling_is_made_only_if_it_leaves_something_out() -> None:
    """If every run is sampled, there is nothing to decide."""
    assert sampling_of(ProcessingSettings()) is None
    sampling = sampling_of(
        ProcessingSettings(
            sampling_ratio=0.0,
            sampling_rules={"chat-*": 1.0},
            sampling_keep_errors=True,
            sampling_run_bytes=7,
            sampling_all_bytes=8,
        )
    )
    assert sampling is not None
    assert (sampling.keep_errors, sampling.run_bytes, sampling.all_bytes) == (True, 7, 8)
    assert sampling.samples(ContextState(workflow_name="chat-eu"))
    assert not sampling.samples(ContextState(workflow_name="report"))
    assert sampling_of(ProcessingSettings(sampling_parent_based=True)) is not None


def exporter_of(settings: ObservabilitySettings, *more: Any, name: str = "main") -> StepExporter:
    exporter = build_exporters(settings, *more)[name]
    assert isinstance(exporter, StepExporter)
    return exporter


def test_what_a_service_adds_is_for_one_exporter_or_for_every_one() -> None:
    """`*` stands for every exporter, and comes first."""
    other = Tagger({"a": "b"})
    own = {"*": OwnProcessing(processors=[mine]), "two": OwnProcessing(processors=[other])}
    exporters = build_exporters(
        settings_of({"one": {"type": "memory"}, "two": {"type": "memory", "record": "steps"}}), {}, own
    )
    one, two = exporters["one"], exporters["two"]
    assert isinstance(one, StepExporter)
    assert isinstance(two, StepExporter)
    assert names(one.delivery.processors) == ["mine", "redact", "truncate"]
    assert names(two.delivery.processors) == ["mine", "tag", "redact", "truncate"]


def test_a_rule_changes_what_is_redacted_in_some_runs() -> None:
    """By the run's user, conversation or tags: the others are redacted as ever."""
    rule = Rule(
        when=lambda run: ("tenant", "acme") in run.tags,
        patterns=[Pattern("ticket", "TCK-[0-9]+")],
        personal=["email"],
    )
    exporter = exporter_of(settings_of(MEMORY), {}, {"main": OwnProcessing(rules=[rule])})
    text = "TCK-1 me@example.org"
    acme = make_span(run=ContextState(tags={"tenant": "acme"}).run, input=text)
    assert applied(make_span(run=RUN, input=text), exporter.delivery.processors).input == text
    assert "TCK-1" not in applied(acme, exporter.delivery.processors).input
    assert "example.org" not in applied(acme, exporter.delivery.processors).input


def test_something_for_an_unknown_exporter_is_a_mistake() -> None:
    """A rule that would never be applied is refused at the start, by the name of the exporter."""
    with pytest.raises(UnknownExporterError, match=r"No exporter named 'mian'. Registered: main"):
        build_exporters(settings_of(MEMORY), {}, {"mian": OwnProcessing()})


def test_a_type_of_a_services_own_is_redacted_too() -> None:
    """Its builder need not think of it; what it brought itself comes before, and its own sampling stays."""
    sampling = Sampling(0.5)

    def build(name: str, own: Any, settings: ObservabilitySettings) -> SpanExporter:
        return SpanExporter(MemorySink(10), name=name, processors=[mine], sampling=sampling)

    exporter = exporter_of(settings_of({"main": {"type": "queue"}}), {"queue": build})
    assert names(exporter.delivery.processors) == ["mine", "redact", "truncate"]
    assert exporter.sampling is sampling


def test_exporters_that_share_a_delivery_process_once() -> None:
    """Two exporters of one delivery do not redact twice; one without a delivery is left as it is."""
    delivery = Delivery("shared", MemorySink(10))

    def build(name: str, own: Any, settings: ObservabilitySettings) -> Any:
        return CapturingExporter() if name == "plain" else SpanExporter(delivery)

    queue = {"type": "queue"}
    build_exporters(settings_of({"one": queue, "two": queue, "plain": queue}), {"queue": build})
    assert names(delivery.processors) == ["redact", "truncate"]


async def test_processors_are_given_before_the_first_lease() -> None:
    """A delivery that has been opened keeps its processors: what it has delivered was processed by them."""
    delivery = Delivery("main", MemorySink(10))
    lease = delivery.lease()
    with pytest.raises(RuntimeStateError, match="before its first lease"):
        delivery.process_with([mine])
    lease.release()


def test_the_container_takes_what_a_service_adds() -> None:
    """`processing` is a provider as `exporter_types` is, and a wrong name shows when the container is validated."""
    container = ObservabilityContainer()
    container.settings.override(settings_of(MEMORY))
    container.processing.override({"main": OwnProcessing(processors=[mine])})
    container.validate()
    exporter = container.exporters()["main"]
    assert isinstance(exporter, StepExporter)
    assert names(exporter.delivery.processors) == ["mine", "redact", "truncate"]
    wrong = ObservabilityContainer()
    wrong.settings.override(settings_of(MEMORY))
    wrong.processing.override({"mian": OwnProcessing()})
    with pytest.raises(UnknownExporterError):
        wrong.validate()
