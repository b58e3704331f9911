"""W3C Baggage: reading a header's members, and writing those of a run beside those of others, within its limits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import quote, unquote

# What every participant has to pass on (W3C Baggage, section 3.3.2). More is neither read nor written.
MAX_BYTES = 8192
MAX_MEMBERS = 64

_VALUE_SAFE = "!#$&'()*+-./:<=>?@[]^_`{|}~"  # baggage-octet without the percent sign, section 3.2.1.2
_KEY_SAFE = "!#$&'*+-.^_`|~"  # a token without the percent sign, section 3.2.1.1
_OCTETS = re.compile(r"[\x21\x23-\x2b\x2d-\x7e \t]*")


def parse_baggage(header: str) -> dict[str, str]:
    """
    Return the values of a W3C `baggage` by their keys, decoded, without their properties.

    Of a key that is there twice the last one counts. Members that are malformed are left out, and so is what lies
    beyond 8192 bytes.
    """
    found: dict[str, str] = {}
    for member in members_of(header):
        key, equals, value = member.partition(";")[0].partition("=")
        if equals and (key := key.strip()):
            found[key] = unquote(value.strip(), errors="replace")
    return found


def members_of(header: str) -> list[str]:
    """Return the members of a header as they are; none of what lies beyond 8192 bytes."""
    members = header[:MAX_BYTES].split(",")
    if len(header) > MAX_BYTES:
        members.pop()  # cut off in its middle
    return members


def key_of(member: str) -> str:
    """Return the key of a member."""
    return member.partition(";")[0].partition("=")[0].strip()


def encoded_key(name: str) -> str:
    """Return a name as a key: percent-encoded, if it is not one."""
    return quote(name, safe=_KEY_SAFE)


def encoded(key: str, value: str) -> str:
    """Return a member."""
    return f"{key}={quote(value, safe=_VALUE_SAFE)}"


def header_of(values: Mapping[str, str]) -> str:
    """Return the header that says these values, by their names."""
    return ",".join(encoded(encoded_key(name), value) for name, value in values.items())


def fitting(members: Iterable[str], left_out: Callable[[list[str]], object]) -> list[str]:
    """
    Return of these members the first of each key, as far as the limits of the specification allow.

    Those without a key, and those that no header may hold, are left out silently: they are the sender's mistake.

    Args:
        members: The most important first.
        left_out: Is called with the keys of those for which there was no room.
    """
    kept: dict[str, str] = {}
    without_room: list[str] = []
    size = -1  # the first has no comma before it
    for member in members:
        key = key_of(member)
        member = member.strip()
        if not key or key in kept or "=" not in member or _OCTETS.fullmatch(member) is None:
            continue
        if len(kept) == MAX_MEMBERS or size + 1 + len(member) > MAX_BYTES:
            without_room.append(key)
            continue
        kept[key] = member
        size += 1 + len(member)
    if without_room:
        left_out(without_room)
    return list(kept.values())
