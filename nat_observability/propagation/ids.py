"""new_span_id() and new_run_id(): random ids, which neither a seed nor a fork repeats."""

from __future__ import annotations

import random

from nat_observability.system.fork_hooks import at_fork

# A generator of our own: an application that calls random.seed() would otherwise repeat the ids of its last start.
_random = random.Random()
_bits = _random.getrandbits

_NO_ID = "0" * 16

# Made so many at once, which takes a fifth of the time.
_SPARE_IDS = 64

spare_span_ids: list[str] = []
"""Pop from it, as `new_span_id` does; call `more_span_ids` if it is empty. Each operation of a list is atomic."""


def new_span_id() -> str:
    """Return 16 random hex digits, not all zero."""
    try:
        return spare_span_ids.pop()
    except IndexError:
        return more_span_ids()


def more_span_ids() -> str:
    """Return a new one, and fill up the spare ones."""
    digits = f"{_bits(64 * _SPARE_IDS):0{16 * _SPARE_IDS}x}"
    ids = [digits[start : start + 16] for start in range(0, len(digits), 16)]
    span_id, *spare = [each for each in ids if each != _NO_ID] or [f"{1:016x}"]
    spare_span_ids.extend(spare)
    return span_id


def new_run_id() -> str:
    """Return a random UUID: version 4, and of the four digits that its variant allows always the same."""
    first, second = new_span_id(), new_span_id()
    return f"{first[:8]}-{first[8:12]}-4{first[13:]}-a{second[1:4]}-{second[4:]}"


def _begin_anew() -> None:
    """In a forked child: repeat no id of the parent's."""
    _random.seed()
    spare_span_ids.clear()


at_fork(after_in_child=_begin_anew)
