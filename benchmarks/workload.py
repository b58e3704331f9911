"""What every contender records: runs of one step with further ones inside, all with input, output and metadata."""

from __future__ import annotations

import random
from dataclasses import dataclass

STEPS = 10
"""Steps of a run by default: one, and the others inside it. Recorded agents have 9 on average."""

_WORDS = """
    order invoice delivery customer refund address parcel status warehouse carrier today tomorrow delayed shipped
    confirmed missing the a of for with and please check whether is was not yet been sent returned to from by
""".split()  # noqa: SIM905  a list of so many lines would hide the rest


@dataclass(frozen=True)
class Work:
    """What one step is given: about 120 and 240 characters of text, and a small mapping."""

    name: str
    input: str
    output: str
    metadata: dict[str, object]


def _works(count: int) -> list[Work]:
    words = random.Random(7)
    return [
        Work(
            f"tool_{index % 12}",
            " ".join(words.choices(_WORDS, k=20)),
            " ".join(words.choices(_WORDS, k=40)),
            {"attempt": index % 3, "region": "eu-west-1", "request": f"{words.getrandbits(64):016x}"},
        )
        for index in range(count)
    ]


WORKS = _works(1000)
"""In a row: a run takes the next ones."""


def works_of_run(run: int, steps: int = STEPS) -> list[Work]:
    """Return what the run of this number records; the numbers go round. `steps` divides the number of works."""
    start = run * steps % len(WORKS)
    return WORKS[start : start + steps]
