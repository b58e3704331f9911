"""The formats in which a trace travels, for the whole process: W3C by default, as `OTEL_PROPAGATORS` names them."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from nat_observability.propagation import b3

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
BAGGAGE = "baggage"

# The keys in a baggage, which are the attributes' names in OpenTelemetry and OpenInference. The first of each is
# written, all of them are read, and none is a tag's.
CONVERSATION_KEYS = ("session.id", "gen_ai.conversation.id")
USER_KEYS = ("user.id", "enduser.id")

PROPAGATORS = ("tracecontext", "baggage", "b3", "b3multi")
"""The propagators that there are, by the names that OpenTelemetry gives them."""

DEFAULT = ("tracecontext", "baggage")

_HEADERS = {
    "tracecontext": (TRACEPARENT, TRACESTATE),
    "baggage": (BAGGAGE,),
    "b3": (b3.B3,),
    "b3multi": b3.MULTIPLE,
}


class Formats(NamedTuple):
    """
    What is read and written.

    Attributes:
        propagators: In their order; of several that read a trace the last one counts.
        written: The names of the headers that are written, in lower case.
        read: The names of those that are read. Each of the two forms of B3 is read if either is configured.
        lengths: The lengths of those that are read, which rule most headers of a request out.
    """

    propagators: tuple[str, ...]
    written: tuple[str, ...]
    read: frozenset[str]
    lengths: frozenset[int]


def _formats(propagators: Collection[str]) -> Formats:
    chosen = tuple(dict.fromkeys(name for name in propagators if name in _HEADERS))
    written = tuple(name for each in chosen for name in _HEADERS[each])
    read = set(written)
    if {"b3", "b3multi"} & set(chosen):
        read |= {b3.B3, *b3.MULTIPLE}
    return Formats(chosen, written, frozenset(read), frozenset(map(len, read)))


_W3C = _formats(DEFAULT)
_current = _W3C


def use_propagators(propagators: Collection[str]) -> None:
    """
    Read and write these formats from now on, in the whole process; none if there are none.

    Args:
        propagators: Some of `PROPAGATORS`, in their order; other names are ignored.
    """
    global _current
    _current = _formats(propagators)


def formats() -> Formats:
    """Return the formats that hold now."""
    return _current


def is_w3c() -> bool:
    """Whether the formats are the default ones: W3C Trace Context and Baggage."""
    return _current.written == _W3C.written
