"""Table: the figures of one redactor on the corpus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.redaction_corpus.contexts.all import GROUPS
from benchmarks.redaction_corpus.harmless import HARMLESS
from benchmarks.redaction_corpus.score import (
    PersonalScore,
    Recall,
    Redact,
    cases,
    false_marks,
    personal,
    recall,
)

SHARE = 0.1
"""How many of the cases are tried for the table in the documentation."""


@dataclass(frozen=True, slots=True)
class Table:
    """What was measured; None or empty for what a redactor does not do."""

    recall: Recall | None = None
    marked: int | None = None
    personal: Mapping[str, PersonalScore] = field(default_factory=dict)

    def print(self) -> None:
        """Print a row for each figure."""
        if self.recall is not None:
            print_recall(self.recall)
        if self.marked is not None:
            print(f"harmless texts with a mark in them: {self.marked} of {len(HARMLESS)} kinds")
        for name, score in self.personal.items():
            print(
                f"{name}: {score.found} of {score.tried} found, "
                f"{score.marked} of {score.harmless} harmless texts marked"
            )


def measured(
    redact: Redact, redact_personal: Callable[[str, str], str] | None = None, share: float = SHARE
) -> Table:
    """Measure a redactor."""
    return Table(
        recall(redact, cases(share)),
        len(false_marks(redact)),
        {} if redact_personal is None else personal(redact_personal),
    )


def print_recall(counted: Recall) -> None:
    """Print the recall of each group of contexts."""
    print(f"{'recall, %':20} {'by form':>8} {'by name':>8} {'tried':>8}")
    for group in GROUPS:
        tried = counted.tried[group, True] + counted.tried[group, False]
        if tried:
            form, name = (counted.percent(group, by_form=by_form) for by_form in (True, False))
            print(f"{group:20} {form:8.1f} {name:8.1f} {tried:8}")
    form, name = (counted.percent_where_something_tells(by_form=by_form) for by_form in (True, False))
    print(f"{'all but the first':20} {form:8.1f} {name:8.1f} {counted.tried.total():8}")
