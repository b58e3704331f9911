"""Ranker: a small local model, BM25, and the tokenizer behind its token counts."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import msgspec

from nat_observability.cli.demo.text_folder import Passage

_WORD = re.compile(r"\w+")
_K1, _B = 1.2, 0.75  # the usual values: Robertson and Zaragoza, "The Probabilistic Relevance Framework", 3.1

_STOP_WORDS = frozenset(
    _WORD.findall(
        "a about above after all also an and any are as at be been before but by can did do does for from get give had "
        "happen happens "
        "has have how i if in into is it its last may me more most much my no not of on once one only or other our out "
        "say says should so some such tell than that the their them then there these they this to up use used was we "
        "were what when where which while who whose why will with would you your"
    )
)


class Ranked(msgspec.Struct, frozen=True):
    """A passage, its score, and which of the question's terms it has."""

    passage: Passage
    score: float
    terms: frozenset[str]


def tokens(text: str) -> list[str]:
    """Return the tokens of a text: its words, in lower case."""
    return _WORD.findall(text.lower())


def terms(text: str) -> list[str]:
    """Return the tokens that carry meaning, each once and in the singular."""
    return list(dict.fromkeys(_singular(token) for token in tokens(text) if token not in _STOP_WORDS))


class Ranker:
    """
    Ranks passages for a question by Okapi BM25.

    The rarity of a term comes from all passages of the folder; a passage's heading counts as part of the passage.
    """

    def __init__(self, folder: Sequence[Passage]) -> None:
        self._documents = len(folder)
        self._frequencies: Counter[str] = Counter()
        length = 0
        for passage in folder:
            words = _words(passage)
            length += len(words)
            self._frequencies.update(set(words))
        self._mean_length = length / self._documents if self._documents else 1.0

    def rank(self, question: Sequence[str], candidates: Sequence[Passage]) -> list[Ranked]:
        """Return the candidates that contain a term of the question, best first."""
        ranked: list[Ranked] = []
        for passage in candidates:
            words = _words(passage)
            counted = Counter(words)
            matched = frozenset(term for term in question if counted[term])
            if matched:
                norm = _K1 * (1 - _B + _B * len(words) / self._mean_length)
                score = sum(
                    self.weight(term) * counted[term] * (_K1 + 1) / (counted[term] + norm) for term in matched
                )
                ranked.append(Ranked(passage, score, matched))
        return sorted(ranked, key=lambda each: (-each.score, each.passage.file, each.passage.text))

    def weight(self, term: str) -> float:
        """Return the weight of a term: the rarer, the higher."""
        frequency = self._frequencies[term]
        return math.log(1 + (self._documents - frequency + 0.5) / (frequency + 0.5))


def _words(passage: Passage) -> list[str]:
    return [_singular(token) for token in tokens(f"{passage.heading} {passage.text}")]


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    plural = len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is"))
    return word[:-1] if plural else word
