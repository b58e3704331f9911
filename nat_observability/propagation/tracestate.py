"""passed_on(): the W3C tracestate of a caller, as far as it may be passed on."""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_MEMBERS = 32  # W3C Trace Context, section 3.3.1.1
MAX_CHARACTERS = 512  # what every participant should pass on at least, section 3.3.1.5
_LONG = 128  # characters of a member from which on it is the first to be removed
_MOST_READ = 32 * 1024  # characters of a header; the longest that is valid has half of them

_MEMBER = re.compile(
    r"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]",
    re.ASCII,
)


def passed_on(headers: Sequence[object]) -> str | None:
    """
    Return the `tracestate` that these headers, which are one list, make; None if there is none to pass on.

    One that is malformed is discarded as a whole, and so is one of more than 32 members (section 3.3). Of members with
    the same key the first is kept, which is the newest. Of one of more than 512 characters whole members are removed:
    those of more than 128 first, then the last ones (section 3.3.1.5).
    """
    members = [
        member.strip()
        for header in headers
        if isinstance(header, str)
        for member in header[:_MOST_READ].split(",")
    ]
    members = [member for member in members if member]
    if len(members) > MAX_MEMBERS or not all(_MEMBER.fullmatch(member) for member in members):
        return None
    of_keys: dict[str, str] = {}
    for member in members:
        of_keys.setdefault(member.partition("=")[0], member)
    members = list(of_keys.values())
    if _length(members) > MAX_CHARACTERS:
        for member in [member for member in reversed(members) if len(member) > _LONG]:
            if _length(members) > MAX_CHARACTERS:
                members.remove(member)
        while _length(members) > MAX_CHARACTERS:
            members.pop()
    return ",".join(members) or None


def _length(members: Sequence[str]) -> int:
    return sum(len(member) + 1 for member in members) - 1
