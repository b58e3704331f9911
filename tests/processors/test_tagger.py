"""Tagger: tags of the exporter, and a privacy level."""

from __future__ import annotations

import msgspec
import pytest

from nat_observability.errors import UnknownPrivacyLevelError
from nat_observability.processors import PrivacyLevel, Tagger
from tests.processors.builders import RUN, a_span, a_step, identity


def test_tags_are_added_to_the_run() -> None:
    """By name, in order; the items of a run share it, as before."""
    tagger = Tagger({"team": "search", "env": "prod"}, privacy="high")
    span, step = a_span("a"), a_step("b")
    tagged = tagger(span)
    assert tagged.run.tags == (("env", "prod"), ("privacy.level", "high"), ("team", "search"))
    assert tagger(step).run is tagged.run
    assert identity(tagged) == identity(span)
    assert tagged.input == span.input


def test_a_tag_of_the_run_takes_precedence() -> None:
    """Except for the privacy level, which the exporter decides."""
    run = msgspec.structs.replace(RUN, tags=(("env", "test"), ("privacy.level", "none")))
    tagged = Tagger({"env": "prod", "team": "a"}, privacy=PrivacyLevel.LOW)(a_span(run=run))
    assert dict(tagged.run.tags) == {"env": "test", "team": "a", "privacy.level": "low"}


def test_without_anything_to_add_the_same_object_goes_on() -> None:
    """A tagger without tags changes nothing."""
    span = a_span("a")
    assert Tagger()(span) is span


def test_many_runs_have_their_own_tags() -> None:
    """However many runs there are, none gets the tags of another."""
    tagger = Tagger({"env": "prod"})
    runs = [
        msgspec.structs.replace(RUN, run_id=f"run-{number}", tags=(("n", str(number)),))
        for number in range(700)
    ]
    for _ in range(2):
        for number, run in enumerate(runs):
            tagged = tagger(a_span(run=run)).run
            assert (tagged.run_id, tagged.tags) == (f"run-{number}", (("env", "prod"), ("n", str(number))))


def test_invalid_arguments_are_refused() -> None:
    """A level that does not exist, and tags without names."""
    with pytest.raises(UnknownPrivacyLevelError, match="Did you mean 'high'"):
        Tagger(privacy="hig")
    with pytest.raises(TypeError, match="tags must be a mapping of names to values, not list"):
        Tagger(["a"])  # type: ignore[arg-type]


def test_it_shows_the_names_of_its_tags_and_not_their_values() -> None:
    """In alphabetical order, and whether a privacy level is set."""
    assert repr(Tagger({"b": "secret", "a": "x"}, privacy="high")) == "Tagger(a, b; privacy: high)"
    assert repr(Tagger()) == "Tagger(no tags; privacy: not set)"
