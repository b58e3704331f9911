"""Score: what a redactor leaves of secrets, and what it marks in texts without any."""

from __future__ import annotations

import html
import json
import random
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.redaction_corpus.contexts.all import CONTEXTS, NOTHING
from benchmarks.redaction_corpus.contexts.base import Context
from benchmarks.redaction_corpus.harmless import HARMLESS
from benchmarks.redaction_corpus.kinds import FORM_KINDS, NAME_KINDS, Kind, Secret
from benchmarks.redaction_corpus.personal import PERSONAL, Sample

Redact = Callable[[Any], str]
"""Takes a text or JSON data, and returns all that leaves of it, as a text."""

# A redactor that leaves as many characters of a secret in a row has not redacted it.
_LEAST = 5
_SEED = 20260501


@dataclass(frozen=True, slots=True)
class Case:
    """One secret in one context, as text or as data."""

    kind: Kind
    context: Context
    secret: Secret
    given: Any
    without: str


@dataclass(slots=True)
class Recall:
    """How many secrets were redacted, of how many; those missed by context and by kind."""

    tried: Counter[tuple[str, bool]] = field(default_factory=Counter)
    found: Counter[tuple[str, bool]] = field(default_factory=Counter)
    missed: list[Case] = field(default_factory=list)

    def percent(self, group: str, *, by_form: bool) -> float:
        """The recall of a group of contexts."""
        return 100 * self.found[group, by_form] / max(1, self.tried[group, by_form])

    def percent_where_something_tells(self, *, by_form: bool) -> float:
        """The recall of all groups but that in which nothing tells."""
        groups = {group for group, _ in self.tried} - {NOTHING}
        found = sum(self.found[group, by_form] for group in groups)
        return 100 * found / max(1, sum(self.tried[group, by_form] for group in groups))


def cases(share: float = 1.0, contexts: Sequence[Context] = CONTEXTS) -> Iterator[Case]:
    """
    Return secrets in contexts, the same each time.

    Args:
        share: How many of them to choose. Of a kind that is known by its name, each context gets one shape.
    """
    chosen = random.Random(_SEED)
    by_name: dict[str, list[Kind]] = {}
    for kind in NAME_KINDS:
        by_name.setdefault(kind.field, []).append(kind)
    number = 0
    for context in contexts:
        named = [chosen.choice(kinds) for kinds in by_name.values()]
        if context.tells:
            named = [kind for kind in NAME_KINDS if kind.field == "password"]
        for kind in (*FORM_KINDS, *named):
            if share < 1 and chosen.random() >= share:
                continue
            secret = kind.make(chosen)
            if context.takes(secret.value):
                number += 1
                yield _case(kind, context, secret, number)


def _case(kind: Kind, context: Context, secret: Secret, number: int) -> Case:
    name = context.spell(kind.field)
    given = context.render(name, secret.value)
    if isinstance(given, str):
        # As text, inside a message, and inside the arguments of a call.
        if number % 4 == 2:
            given = {"messages": [{"role": "user", "content": given}]}
        elif number % 4 == 3:
            given = {"name": "run", "arguments": json.dumps({"text": given}, ensure_ascii=False)}
    return Case(kind, context, secret, given, text_of(context.render(name, "")))


def text_of(given: Any) -> str:
    """Return a text, or data as JSON."""
    return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)


def leaks(case: Case, left: str) -> str | None:
    """Return the first characters of a secret that are left."""
    encode = case.context.encode
    parts = case.secret.parts if encode is None else (encode(case.secret.value), *case.secret.parts)
    for part in parts:
        for written in _written(part):
            for at in range(max(1, len(written) - _LEAST + 1)):
                piece = written[at : at + _LEAST]
                if piece in left and piece not in case.without:
                    return piece
    return None


def _written(part: str) -> Iterable[str]:
    quoted = urllib.parse.quote(part, safe="")
    escaped = json.dumps(part)[1:-1]
    return dict.fromkeys(
        (
            part,
            quoted,
            html.escape(part),
            escaped,
            json.dumps(part, ensure_ascii=False)[1:-1],
            part.replace("'", "''"),
        )
    )


def recall(redact: Redact, tried: Iterable[Case]) -> Recall:
    """Redact each, and count."""
    counted = Recall()
    for case in tried:
        key = case.context.group, case.kind.has_form
        counted.tried[key] += 1
        if leaks(case, redact(case.given)) is None:
            counted.found[key] += 1
        else:
            counted.missed.append(case)
    return counted


def false_marks(redact: Redact) -> dict[str, list[Any]]:
    """Return the kinds of harmless texts in which something was redacted, with these texts."""
    marked: dict[str, list[Any]] = {}
    for name, samples in HARMLESS.items():
        for sample in samples:
            if redact(sample) != text_of(sample):
                marked.setdefault(name, []).append(sample)
    return marked


@dataclass(slots=True)
class PersonalScore:
    """How many texts with personal data of a set were redacted, and how many without any were left."""

    found: int = 0
    tried: int = 0
    marked: int = 0
    harmless: int = 0
    missed: list[Sample] = field(default_factory=list)
    wrong: list[Sample] = field(default_factory=list)


def personal(redact: Callable[[str, str], str]) -> dict[str, PersonalScore]:
    """
    Score each set of personal data.

    Args:
        redact: Takes the name of a set and a text, and returns the text without personal data of that set.
    """
    scores: dict[str, PersonalScore] = {}
    for sample in PERSONAL:
        score = scores.setdefault(sample.set, PersonalScore())
        left = redact(sample.set, sample.text)
        if sample.secret:
            score.tried += 1
            if sample.secret in left or (len(sample.secret) > 8 and sample.secret[-6:] in left):
                score.missed.append(sample)
            else:
                score.found += 1
        else:
            score.harmless += 1
            if left != sample.text:
                score.marked += 1
                score.wrong.append(sample)
    return scores
