"""parse_traceparent(): what the W3C header says, and what of it is valid."""

from __future__ import annotations

import re

_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII
)
_TRACE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}", re.ASCII)
# Sampled and random-trace-id; others are set to zero (W3C Trace Context Level 2, section 3.2.2.5).
_DEFINED_FLAGS = 0x03


def parse_traceparent(header: object) -> tuple[str, str, str] | None:
    """
    Return trace id, parent span id and flags (32, 16 and 2 hex digits) of a W3C `traceparent`.

    None if it is missing or malformed, in which case the receiver starts a new trace (W3C Trace Context,
    section 3.2). Version 00 must end after the flags; a later version may go on.
    """
    match = _TRACEPARENT.fullmatch(header.strip()) if isinstance(header, str) else None
    if match is None or (match.string.startswith("00") and match[4]):
        return None
    return match[1], match[2], match[3]


def defined_flags(flags: str) -> str:
    """Return trace flags, 2 hex digits, as they are passed on: those that the specification does not define are 0."""
    return f"{int(flags, 16) & _DEFINED_FLAGS:02x}"


def is_trace_id(text: str) -> bool:
    """Whether it is 32 lower-case hex digits, not all zero (W3C Trace Context, section 3.2.2.3)."""
    return _TRACE_ID.fullmatch(text) is not None
