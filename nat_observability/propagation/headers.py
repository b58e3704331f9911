"""Propagation in headers: the trace and the ids of a run, in the headers of requests and messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, NamedTuple, Protocol, TypedDict
from urllib.parse import quote, unquote

from nat_observability.events import Run

TRACEPARENT = "traceparent"
BAGGAGE = "baggage"

# The attributes' names in OpenTelemetry and OpenInference. The first of each is written, all of them are read.
_CONVERSATION_KEYS = ("session.id", "gen_ai.conversation.id")
_USER_KEYS = ("user.id", "enduser.id")

_MAX_BAGGAGE_BYTES = (
    8192  # what every participant has to pass on (W3C Baggage, section 3.3.2); more is not read
)
_VALUE_SAFE = "!#$&'()*+-./:<=>?@[]^_`{|}~"  # baggage-octet without the percent sign, section 3.2.1.2


class Sender(Protocol):
    """What is continued elsewhere: a run's state, with the step that runs now."""

    @property
    def run(self) -> Run: ...

    @property
    def traceparent(self) -> str: ...


class Ids(TypedDict, total=False):
    """What the caller says about a run: arguments of `ContextState`. Unknown values are left out."""

    traceparent: str
    conversation_id: str
    user_id: str


class Incoming(NamedTuple):
    """The headers that this package reads; those that are missing or malformed are None, or empty."""

    traceparent: str | None
    baggage: Mapping[str, str]

    @property
    def ids(self) -> Ids:
        """Return them as arguments of `ContextState`, which starts a new trace if `traceparent` is malformed."""
        ids: Ids = {}
        if self.traceparent is not None:
            ids["traceparent"] = self.traceparent
        if (conversation_id := _first(self.baggage, _CONVERSATION_KEYS)) is not None:
            ids["conversation_id"] = conversation_id
        if (user_id := _first(self.baggage, _USER_KEYS)) is not None:
            ids["user_id"] = user_id
        return ids


def read_headers(headers: Mapping[Any, object] | Iterable[tuple[object, object]] | None) -> Incoming:
    """
    Read the headers of a request or a message. Never raises.

    Names are not case-sensitive; names and values are text or bytes, anything else is ignored. Of several
    `traceparent` none counts (W3C Trace Context, section 3.2.1), several `baggage` are one list (W3C Baggage, 3.2).

    Args:
        headers: A mapping, or pairs, as ASGI has them; None if there are none.
    """
    traceparents: list[str] = []
    baggage: list[str] = []
    pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
    for name, value in pairs:
        # Most headers are not ours: their length rules them out.
        if not isinstance(name, str | bytes) or len(name) not in (7, 11):
            continue
        known = _text(name).lower()
        if known == TRACEPARENT:
            traceparents.append(_text(value))
        elif known == BAGGAGE:
            baggage.append(_text(value))
    traceparent = traceparents[0] if len(traceparents) == 1 else None
    return Incoming(traceparent or None, parse_baggage(",".join(baggage)) if baggage else {})


def parse_baggage(header: str) -> dict[str, str]:
    """
    Return the values of a W3C `baggage` by their keys, decoded, without their properties.

    Of a key that is there twice the last one counts. Members that are malformed are left out, and so is what lies
    beyond 8192 bytes.
    """
    members = header[:_MAX_BAGGAGE_BYTES].split(",")
    if len(header) > _MAX_BAGGAGE_BYTES:
        members.pop()  # cut off in its middle
    found: dict[str, str] = {}
    for member in members:
        key, equals, value = member.partition(";")[0].partition("=")
        if equals and (key := key.strip()):
            found[key] = unquote(value.strip(), errors="replace")
    return found


def inject_headers(headers: MutableMapping[str, Any], sender: Sender) -> None:
    """
    Put the trace of a run, and its conversation's and user's ids, into the headers of what it sends.

    The receiver continues the trace: its parent is the step that sends. What else is in a `baggage` stays; a
    `traceparent` of before is replaced.

    Args:
        headers: Names are written in lower case; another spelling of the same name is removed.
        sender: The run that sends.
    """
    members: list[str] = []
    for name in [each for each in headers if each.lower() in (TRACEPARENT, BAGGAGE)]:
        value = _text(headers.pop(name))
        if name.lower() == BAGGAGE and value.strip():
            members += value.split(",")
    headers[TRACEPARENT] = sender.traceparent
    for keys, own in ((_CONVERSATION_KEYS, sender.run.conversation_id), (_USER_KEYS, sender.run.user_id)):
        if own is not None:
            members = [each for each in members if each.partition("=")[0].strip() not in keys]
            members.append(f"{keys[0]}={quote(own, safe=_VALUE_SAFE)}")
    if members:
        headers[BAGGAGE] = ",".join(members)


def _first(baggage: Mapping[str, str], keys: tuple[str, ...]) -> str | None:
    return next((baggage[key] for key in keys if baggage.get(key)), None)


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else ""
