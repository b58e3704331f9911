"""The settings of what may leave the process: for all exporters and for one, the standard variables, and mistakes."""

from __future__ import annotations

import os
import re
import traceback
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat_observability.builders.processing import processors_of
from nat_observability.errors import SettingsError, SettingsWarning
from nat_observability.events import StepKind
from nat_observability.processors import PERSONAL_SETS, Limits, PrivacyLevel, Truncator
from nat_observability.settings import FileExporterSettings, MemoryExporterSettings, ObservabilitySettings
from nat_observability.settings.example_env import describe_variables, setting_rows
from nat_observability.settings.processing import KINDS, PERSONAL, ProcessingSettings
from nat_observability.settings.standard_variables.opentelemetry import processing_defaults

PREFIX = "NAT_OBSERVABILITY_"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts without any of our variables and the standard ones."""
    for name in os.environ:
        if name.upper().startswith((PREFIX, "OTEL_")):
            monkeypatch.delenv(name)


def settings_of(monkeypatch: pytest.MonkeyPatch, **variables: str) -> ObservabilitySettings:
    """The settings from these variables; ours are named without their prefix."""
    for name, value in variables.items():
        monkeypatch.setenv(name if name.startswith("OTEL_") else PREFIX + name, value)
    return ObservabilitySettings()


def problems(monkeypatch: pytest.MonkeyPatch, **variables: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        settings_of(monkeypatch, **variables)
    assert caught.value.__context__ is None
    return caught.value.problems


def test_what_is_known_is_what_the_processors_know() -> None:
    """The names that settings take are those of the processors, and so are the defaults of the limits."""
    defaults = ProcessingSettings()
    assert PERSONAL == PERSONAL_SETS
    assert {kind.upper() for kind in KINDS} == set(StepKind)
    assert Limits() == Limits(**{field: getattr(defaults, field) for field in Limits.__dataclass_fields__})
    for level in PrivacyLevel:
        assert ProcessingSettings(privacy=level.value).privacy == level


def test_by_default_secrets_are_redacted_and_all_runs_leave() -> None:
    """Nothing has to be set to be safe, and nothing is lost by default."""
    settings = ObservabilitySettings(exporters={"main": {"type": "memory"}}).exporters["main"]
    assert (settings.redact, settings.redact_personal, settings.redact_chunks) == (True, (), "withhold")
    assert (settings.sampling_ratio, settings.sampling_rules, settings.run_bytes) == (1.0, {}, None)
    assert (settings.capture_inputs, settings.capture_outputs) == (True, True)


def test_an_exporter_has_what_the_process_has_unless_it_is_set_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its own value wins, even if it is the default; a list or pairs win as a whole."""
    settings = settings_of(
        monkeypatch,
        REDACT="false",
        REDACT_PERSONAL="email, PHONE",
        TAGS="team=a%2Cb,plan=free",
        SAMPLING_RATIO="0.25",
        EXPORTERS__ONE__TYPE="memory",
        EXPORTERS__TWO__TYPE="kafka",
        EXPORTERS__TWO__REDACT="true",
        EXPORTERS__TWO__REDACT_PERSONAL="ip",
        EXPORTERS__TWO__TAGS="team=c",
        EXPORTERS__TWO__SAMPLING_RATIO="1",
    )
    one, two = settings.exporters["one"], settings.exporters["two"]
    assert (one.redact, one.redact_personal, one.sampling_ratio) == (False, ("email", "phone"), 0.25)
    assert one.tags == {"team": "a,b", "plan": "free"}
    assert (two.redact, two.redact_personal, two.sampling_ratio, two.tags) == (
        True,
        ("ip",),
        1.0,
        {"team": "c"},
    )


def test_an_exporter_that_is_an_object_is_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """What code says in full is not changed from outside, as with the other settings."""
    monkeypatch.setenv(PREFIX + "REDACT_PERSONAL", "email")
    given = MemoryExporterSettings()
    assert ObservabilitySettings(exporters={"main": given}).exporters["main"] is given


def test_patterns_come_as_pairs_or_as_variables_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both merge, for the process as for an exporter; a variable of its own needs no encoding."""
    settings = settings_of(
        monkeypatch,
        REDACT_PATTERNS="ticket=TCK-%5B0-9%5D%2B",
        REDACT_PATTERNS__ORDER="order=[0-9]{4,}%",
        EXPORTERS__MAIN__TYPE="memory",
        EXPORTERS__OTHER__TYPE="memory",
        EXPORTERS__OTHER__REDACT_PATTERNS="a=b",
        EXPORTERS__OTHER__REDACT_PATTERNS__C="d,e",
    )
    both = {"ticket": "TCK-[0-9]+", "order": "order=[0-9]{4,}%"}
    assert settings.redact_patterns == settings.exporters["main"].redact_patterns == both
    assert settings.exporters["other"].redact_patterns == {"a": "b", "c": "d,e"}


def test_the_listing_gives_the_settings_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command shows is a set of variables that means the same, and has no key in it."""
    settings = settings_of(
        monkeypatch,
        REDACT_KEYS="ssn,!max_tokens",
        REDACT_PATTERNS__ORDER="a,b%=c",
        SAMPLING_RULES="chat-*=0.5",
        CAPTURE_INPUTS_NOT_OF="llm,tool",
        PRIVACY="high",
        EXPORTERS__MAIN__TYPE="file",
        EXPORTERS__MAIN__PATH="a",
        EXPORTERS__MAIN__TAGS="a=b",
        EXPORTERS__MAIN__REDACT="false",
    )
    for name, value in setting_rows(settings):
        monkeypatch.setenv(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ObservabilitySettings() == settings
    keyed = settings_of(monkeypatch, REDACT_HASH_KEY="s3cr3t-s3cr3t-s3cr3t")
    assert keyed.exporters["main"].redact_hash_key == keyed.redact_hash_key is not None
    assert "s3cr3t" not in f"{keyed!r} {setting_rows(keyed)} {keyed.model_dump()} {keyed.model_dump_json()}"


WRONG = {
    "REDACT": ("perhaps", "is neither true nor false"),
    "REDACT_PATTERNS__TICKET": ("TCK-(", "holds the pattern ticket, which does not compile (character 4)"),
    "REDACT_PATTERNS__EMPTY": ("x*", "holds the pattern empty, which matches an empty text"),
    "REDACT_PATTERNS": ("A B=c", "holds a pattern whose name is not made of lower-case letters"),
    "REDACT_PERSONAL": (
        "email,adress",
        "holds a name that is not known; allowed: email, phone, card, iban, ip",
    ),
    "REDACT_HASH_KEY": ("s3cr3t", "is too short; allowed: text of 16 bytes or more"),
    "REDACT_CHUNKS": ("keep", "is not valid; allowed: withhold or scan"),
    "CAPTURE_INPUTS_NOT_OF": ("llm,models", "holds a name that is not known; allowed: llm, tool"),
    "ATTRIBUTE_COUNT_LIMIT": ("-7", "is too small; allowed: a whole number from 0"),
    "ATTRIBUTE_VALUE_LENGTH_LIMIT": ("long", "is not a whole number; allowed: a whole number from 0"),
    "SPAN_BYTES_LIMIT": ("100", "is too small; allowed: a whole number from 1024"),
    "SAMPLING_RATIO": ("1.5", "is too large; allowed: a number from 0 to 1"),
    "SAMPLING_RULES": ("chat=2", "holds a ratio that is not a number from 0 to 1"),
    "TAGS": ("tenant", "holds a member that is not key=value; allowed: name=value pairs"),
    "PRIVACY": ("secret", "is not valid; allowed: none, low, medium or high"),
}


@pytest.mark.parametrize("of", ["", "EXPORTERS__MAIN__"])
@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_names_the_variable_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, of: str
) -> None:
    """For the process and for an exporter alike, in one line, and without the value."""
    value, problem = WRONG[name]
    shown = name.partition("__")[0]
    monkeypatch.setenv(f"{PREFIX}EXPORTERS__MAIN__TYPE", "memory")
    (said,) = problems(monkeypatch, **{of + name: value})
    assert said.startswith(f"{PREFIX}{of}{shown} {problem}")
    assert value not in said


def test_a_key_is_described_as_it_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example and the error say the same of what a key may be."""
    allowed = {each.allowed for each in describe_variables() if each.name.endswith("REDACT_HASH_KEY")}
    assert allowed == {"text of 16 bytes or more, such as that of openssl rand -hex 32"}
    (said,) = problems(monkeypatch, REDACT_HASH_KEY="s3cr3t")
    assert said.endswith(f"; allowed: {allowed.pop()}.")


def test_what_is_set_for_an_unknown_exporter_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt name of an exporter makes no rule that is silently never applied."""
    (said,) = problems(monkeypatch, EXPORTERS__MAIN__TYPE="memory", EXPORTERS__MIAN__SAMPLING_RATIO="0.5")
    assert said.startswith(f"{PREFIX}EXPORTERS__MIAN__TYPE is not set")


@pytest.mark.parametrize(
    ("name", "near"),
    [("REDACT_PERSONNAL", " Did you mean NAT_OBSERVABILITY_REDACT_PERSONAL?"), ("SAMPLING__RATIO", "")],
)
def test_an_unknown_variable_is_warned_about(monkeypatch: pytest.MonkeyPatch, name: str, near: str) -> None:
    """With the name that was probably meant, if one is close."""
    with pytest.warns(SettingsWarning) as caught:
        settings_of(monkeypatch, **{name: "1"})
    (said,) = [str(warning.message) for warning in caught]
    assert said.startswith(f"{PREFIX}{name} is not a setting.{near}")


def refusal(pattern: str) -> str:
    """Return the error for a pattern, without the position; empty if it is accepted."""
    try:
        ObservabilitySettings(redact_patterns={"mine": pattern})
    except SettingsError as error:
        said = "".join(traceback.format_exception_only(error))
        return re.sub(r" \(character \d+\)", "", said)
    return ""


@given(st.text(max_size=200))
def test_no_pattern_breaks_the_error(text: str) -> None:
    """Whatever is written for a pattern, it is taken or refused in words that do not show it: always the same."""
    assert refusal(f"({text}") in {"", refusal("("), refusal("()")}


# The standard variables


@pytest.mark.parametrize(
    ("sampler", "argument", "ratio", "parent_based"),
    [
        ("always_on", "0.1", 1.0, False),
        ("always_off", None, 0.0, False),
        ("traceidratio", "0.25", 0.25, False),
        ("traceidratio", None, 1.0, False),
        ("parentbased_always_on", None, 1.0, True),
        ("parentbased_always_off", None, 0.0, True),
        (" ParentBased_TraceIdRatio ", "0.5", 0.5, True),
    ],
)
def test_the_standard_sampler_is_honoured(
    monkeypatch: pytest.MonkeyPatch,
    sampler: str | None,
    argument: str | None,
    ratio: float,
    parent_based: bool,
) -> None:
    """Each of the samplers of the specification that has a ratio, for every exporter."""
    given = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument}
    settings = settings_of(
        monkeypatch,
        EXPORTERS__MAIN__TYPE="memory",
        **{name: value for name, value in given.items() if value is not None},
    )
    for each in (settings, settings.exporters["main"]):
        assert (each.sampling_ratio, each.sampling_parent_based) == (ratio, parent_based)


def test_the_standard_samplers_argument_alone_is_warned_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the specification it has no effect; unless ours say what is sampled."""
    with pytest.warns(SettingsWarning, match="OTEL_TRACES_SAMPLER_ARG has no effect without"):
        settings = settings_of(monkeypatch, EXPORTERS__MAIN__TYPE="memory", OTEL_TRACES_SAMPLER_ARG="0.5")
    assert settings.exporters["main"].sampling_ratio == 1.0
    monkeypatch.setenv("NAT_OBSERVABILITY_SAMPLING_RATIO", "0.25")
    assert ObservabilitySettings().exporters["main"].sampling_ratio == 0.25


def test_ours_win_over_the_standard_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the ratio is set, the standard sampler is ignored; a limit of ours stands."""
    settings = settings_of(
        monkeypatch,
        OTEL_TRACES_SAMPLER="parentbased_always_off",
        SAMPLING_RATIO="0.5",
        OTEL_SPAN_EVENT_COUNT_LIMIT="7",
        OTEL_SPAN_LINK_COUNT_LIMIT="8",
        LINK_COUNT_LIMIT="9",
    )
    assert (settings.sampling_ratio, settings.sampling_parent_based) == (0.5, False)
    assert (settings.event_count_limit, settings.link_count_limit) == (7, 9)


def test_a_limit_of_spans_wins_over_one_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the specification says; each is honoured if the other is not set."""
    settings = settings_of(
        monkeypatch,
        OTEL_ATTRIBUTE_COUNT_LIMIT="10",
        OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT="20",
        OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT="300",
    )
    assert (settings.attribute_count_limit, settings.attribute_value_length_limit) == (20, 300)
    assert (settings.event_attribute_count_limit, settings.link_attribute_count_limit) == (10, 10)


def test_events_and_links_have_limits_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each standard variable is honoured, and a setting of ours or of one exporter wins."""
    settings = settings_of(
        monkeypatch,
        OTEL_ATTRIBUTE_COUNT_LIMIT="10",
        OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT="3",
        OTEL_LINK_ATTRIBUTE_COUNT_LIMIT="4",
        LINK_ATTRIBUTE_COUNT_LIMIT="5",
    )
    assert (settings.event_attribute_count_limit, settings.link_attribute_count_limit) == (3, 5)
    (truncator,) = [each for each in processors_of(settings) if isinstance(each, Truncator)]
    assert truncator.limits.event_attribute_count_limit == 3
    assert truncator.limits.link_attribute_count_limit == 5
    assert truncator.limits.attribute_count_limit == 10


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "-5"),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "long"),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "1.5"),
    ],
)
def test_a_standard_variable_that_is_not_valid_is_warned_about(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """And ignored, as the specification says; the warning does not show the value."""
    with pytest.warns(SettingsWarning) as caught:
        settings = settings_of(monkeypatch, **{name: value})
    (said,) = [str(warning.message) for warning in caught]
    assert said.startswith(f"{name} is ")
    assert value not in said.removeprefix(name)
    monkeypatch.delenv(name)
    assert settings == ObservabilitySettings()


def test_a_wrong_argument_of_the_sampler_counts_as_none() -> None:
    """By the specification, the ratio is then 1."""
    variables = {"otel_traces_sampler": "traceidratio", "otel_traces_sampler_arg": "2"}
    found, ignored = processing_defaults(variables, {})
    assert found == {"sampling_ratio": 1.0, "sampling_parent_based": False}
    assert ignored == ["OTEL_TRACES_SAMPLER_ARG is not a number from 0 to 1."]


def test_defaults_in_code_are_those_of_an_exporter_alone() -> None:
    """An exporter's own settings, made in code, have the same defaults as the process's."""
    alone: dict[str, Any] = dict(FileExporterSettings(path=Path("a")))
    assert {key: alone[key] for key in ProcessingSettings.model_fields} == dict(ProcessingSettings())
