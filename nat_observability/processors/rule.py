"""Rule: what is redacted besides, or is not, in the runs that a predicate chooses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nat_observability.events import Run
from nat_observability.processors.pattern import Pattern


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """
    A change of what a `Redactor` looks for, in some runs.

    Attributes:
        when: Takes a run (its conversation, user, workflow and tags) and says whether the rule applies to it.
            It is called once or a few times for a run, on the delivery thread. Where it raises, the item is dropped.
        keys: Further keys.
        patterns: Further patterns.
        personal: Further sets of personal data.
        without_keys: Keys, as they were given, that are not redacted in these runs.
        without_patterns: Names of patterns that are not looked for in these runs.
        without_personal: Sets of personal data that are not looked for in these runs.
    """

    when: Callable[[Run], bool]
    keys: Iterable[str] = ()
    patterns: Iterable[str | Pattern] = ()
    personal: Iterable[str] = ()
    without_keys: Iterable[str] = ()
    without_patterns: Iterable[str] = ()
    without_personal: Iterable[str] = ()
