"""Runs: the long runs of token characters in a text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

# Token characters, with the separators inside tokens. Natural language has almost no words of 16 such characters, so a
# text without a run of them holds no token.
LEAST_RUN = 16
RUN_CHARACTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.+/~"
_RUN = bytes(97 if code in RUN_CHARACTERS else 32 for code in range(256))
_LONG = b"a" * LEAST_RUN
_PIECE = 256 * 1024  # bytes: the interpreter cannot switch threads while it scans a piece
# Bytes before a run, and of its beginning, that say what it is: "Bearer ", "Basic+", a Telegram bot's number.
_LEAD = 24
_LEAD_INSIDE = 8


class Runs(msgspec.Struct, frozen=True, gc=False):
    """The long runs of token characters in a text: their places, all of them joined, and what comes before each."""

    places: tuple[tuple[int, int], ...]
    joined: bytes
    leads: bytes

    @staticmethod
    def of(data: bytes) -> Runs | None:
        """Return the runs in `data`, None if there are none."""
        places: list[tuple[int, int]] = []
        for begin in range(0, len(data) or 1, _PIECE):
            classes = data[begin : begin + _PIECE + LEAST_RUN].translate(_RUN)
            at = classes.find(_LONG)
            while at >= 0:
                end = classes.find(b" ", at)
                if end < 0:
                    end = len(classes)
                if at and data[begin + at - 1] == 0x5C:
                    # An escape, such as \u2028 or \xa9, is not part of what follows.
                    at += 5 if data[begin + at] == 0x75 else 3 if data[begin + at] == 0x78 else 0
                if places and begin + at <= places[-1][1]:
                    places[-1] = (places[-1][0], begin + end)
                else:
                    places.append((begin + at, begin + end))
                at = classes.find(_LONG, end)
        if not places:
            return None
        return Runs(
            tuple(places),
            b" ".join([data[start:end] for start, end in places]),
            b" ".join([data[max(0, start - _LEAD) : start + _LEAD_INSIDE] for start, end in places]).lower(),
        )

    def has_lead(self, leads: Sequence[bytes]) -> bool:
        """Say whether one of `leads` is before a run, at its beginning, or before a plus sign inside it."""
        if has_any(self.leads, leads):
            return True
        return self.joined.find(b"+") >= 0 and has_any(self.joined.lower(), leads)


def lower_case(data: bytes) -> bytes:
    """Return a text in lower case, also its letters beyond ASCII."""
    return data.lower() if data.isascii() else data.decode(errors="replace").lower().encode()


def has_any(data: bytes, needles: Iterable[bytes]) -> bool:
    """Say whether `data` has one of `needles`."""
    find = data.find  # twice as fast as `in`, which tries bytes as a number first
    for needle in needles:  # noqa: SIM110  any() takes longer
        if find(needle) >= 0:
            return True
    return False
