"""Propagation in headers: the trace, the ids and the tags of a run, in the headers of requests and messages."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, MutableMapping
from typing import Any, NamedTuple, Protocol, TypedDict

from nat_observability.events import Run
from nat_observability.foreign_errors import reraise_signal
from nat_observability.logs import RepeatedEvent, get_logger
from nat_observability.propagation.b3 import (
    B3,
    read_multiple,
    read_single,
    write_multiple,
    write_single,
)
from nat_observability.propagation.baggage import (
    MAX_BYTES,
    encoded,
    encoded_key,
    fitting,
    key_of,
    members_of,
    parse_baggage,
)
from nat_observability.propagation.formats import (
    BAGGAGE,
    CONVERSATION_KEYS,
    TRACEPARENT,
    TRACESTATE,
    USER_KEYS,
    formats,
)
from nat_observability.propagation.traceparent import parse_traceparent
from nat_observability.propagation.tracestate import passed_on

_MAX_ID = _MAX_TAG = 256  # characters: every span of the run carries them, and the caller may choose them

_log = get_logger()
_too_long = RepeatedEvent()


class Sender(Protocol):
    """What is continued elsewhere: a run's state, with the step that runs now."""

    @property
    def run(self) -> Run: ...

    @property
    def traceparent(self) -> str: ...

    @property
    def tracestate(self) -> str | None: ...

    @property
    def carried_baggage(self) -> str: ...

    @property
    def propagated_tags(self) -> Collection[str]: ...


class Ids(TypedDict, total=False):
    """What the caller says about a run: arguments of `ContextState`. Unknown values are left out."""

    traceparent: str
    conversation_id: str
    user_id: str


class Incoming(NamedTuple):
    """The headers that this package reads; those that are missing or malformed are None, or empty."""

    traceparent: str | None
    baggage: Mapping[str, str]
    tracestate: str | None = None
    baggage_header: str = ""

    def arguments(self, propagated_tags: Collection[str] = ()) -> dict[str, Any]:
        """Return everything as arguments of `ContextState`, with those members of the baggage that become tags."""
        arguments: dict[str, Any] = {**self.ids}
        if self.tracestate is not None:
            arguments["tracestate"] = self.tracestate
        if self.baggage_header:
            arguments["baggage"] = self.baggage_header
            if propagated_tags and (tags := tags_of(self.baggage, propagated_tags)):
                arguments["tags"] = tags
        return arguments

    @property
    def ids(self) -> Ids:
        """Return them as arguments of `ContextState`, which starts a new trace if `traceparent` is malformed."""
        ids: Ids = {}
        if self.traceparent is not None:
            ids["traceparent"] = self.traceparent
        if (conversation_id := _first(self.baggage, CONVERSATION_KEYS)) is not None:
            ids["conversation_id"] = conversation_id
        if (user_id := _first(self.baggage, USER_KEYS)) is not None:
            ids["user_id"] = user_id
        return ids


def read_headers(headers: Mapping[Any, object] | Iterable[tuple[object, object]] | None) -> Incoming:
    """
    Read the headers of a request or a message. Never raises.

    Names are not case-sensitive; names and values are text or bytes, anything else is ignored. Of several
    `traceparent` none counts (W3C Trace Context, section 3.2.1), several `baggage` are one list (W3C Baggage, 3.2),
    and so are several `tracestate`. Only what the propagators of the process know is read; of several that find a
    trace the last one counts, and one whose headers are malformed finds none.

    Args:
        headers: A mapping, or pairs, as ASGI has them; None if there are none.
    """
    known = formats()
    traceparents: list[str] = []
    tracestates: list[str] = []
    baggage: list[str] = []
    others: dict[str, str] = {}
    try:
        for pair in headers.items() if isinstance(headers, Mapping) else headers or ():
            try:
                name, value = pair
            except (TypeError, ValueError):  # not a pair
                continue
            # Most headers are not ours: their length rules them out.
            if not isinstance(name, str | bytes) or len(name) not in known.lengths:
                continue
            lower = _text(name).lower()
            if lower not in known.read:
                continue
            if lower == TRACEPARENT:
                traceparents.append(_text(value))
            elif lower == BAGGAGE:
                baggage.append(_text(value))
            elif lower == TRACESTATE:
                tracestates.append(_text(value))
            else:
                others[lower] = _text(value)
    except BaseException as error:  # noqa: BLE001  foreign code: a collection of a framework or the application
        reraise_signal(error)
    traceparent = traceparents[0] if len(traceparents) == 1 else None
    if others:
        traceparent, tracestates = _with_b3(traceparent, tracestates, others)
    header = ",".join(baggage) if len(baggage) != 1 else baggage[0]
    if len(header) > MAX_BYTES:
        # Those that are cut, as far as a look at a part of them goes, the one in the middle included.
        cut = header[header.rfind(",", 0, MAX_BYTES) + 1 : MAX_BYTES + 1024].split(",")
        _note_cut("incoming", len(header), [key for each in cut if (key := key_of(each))])
        header = ",".join(members_of(header))
    return Incoming(
        traceparent or None,
        parse_baggage(header) if header else {},
        passed_on(tracestates) if tracestates else None,
        header,
    )


def _with_b3(
    traceparent: str | None, tracestates: list[str], others: Mapping[str, str]
) -> tuple[str | None, list[str]]:
    """Return the trace that the last of the propagators finds, and its `tracestate`."""
    # The single header takes precedence (OpenTelemetry, API Propagators, B3 Extract).
    single = others.get(B3)
    found = (read_single(single) if single is not None else None) or read_multiple(others)
    if found is None:
        return traceparent, tracestates
    order = formats().propagators
    is_last = "tracecontext" not in order or order.index("tracecontext") < max(
        order.index(each) for each in order if each in ("b3", "b3multi")
    )
    if not is_last and parse_traceparent(traceparent) is not None:
        return traceparent, tracestates
    return found, []


def tags_of(baggage: Mapping[str, str], names: Collection[str]) -> dict[str, str]:
    """Return the members of a baggage that become tags of the run, by the tags' names."""
    found: dict[str, str] = {}
    for name in names:
        value = baggage.get(encoded_key(name))
        if value is not None and len(value) <= _MAX_TAG:
            found[name] = value
    return found


def inject_headers(headers: MutableMapping[str, Any], sender: Sender) -> None:
    """
    Put the trace of a run, its conversation's and user's ids and its propagated tags into the headers of what it sends.

    The receiver continues the trace: its parent is the step that sends. What else is in a `baggage` stays, followed by
    what the run's own caller has sent along; a `traceparent` and a `tracestate` of before are replaced. The baggage is
    kept within 8192 bytes and 64 members, ours first.

    Args:
        headers: Names are written in lower case; another spelling of the same name is removed.
        sender: The run that sends.
    """
    propagators, written, _, _ = formats()
    there: list[str] = []
    for name in [each for each in headers if each.lower() in written]:
        value = _text(headers.pop(name))
        if name.lower() == BAGGAGE and value.strip():
            there += value.split(",")
    if "tracecontext" in propagators:
        headers[TRACEPARENT] = sender.traceparent
        if (tracestate := sender.tracestate) is not None:
            headers[TRACESTATE] = tracestate
    if "b3" in propagators or "b3multi" in propagators:
        _inject_b3(headers, sender.traceparent, propagators)
    if "baggage" not in propagators:
        return
    if carried := sender.carried_baggage:
        there += carried.split(",")
    own: list[str] = []
    ours: set[str] = set()
    run = sender.run
    for keys, known in ((CONVERSATION_KEYS, run.conversation_id), (USER_KEYS, run.user_id)):
        if known is not None:
            own.append(encoded(keys[0], known))
            ours.update(keys)
    if names := sender.propagated_tags:
        for name, value in run.tags:
            if name in names and (key := encoded_key(name)) not in ours:
                own.append(encoded(key, value))
                ours.add(key)
    if not (own or there):
        return
    members = [*own, *(member for member in there if key_of(member) not in ours)]
    kept = fitting(members, lambda keys: _note_cut("outgoing", sum(map(len, members)), keys))
    if kept:
        headers[BAGGAGE] = ",".join(sorted(kept, key=lambda member: key_of(member) in ours))


def _inject_b3(headers: MutableMapping[str, Any], traceparent: str, propagators: Collection[str]) -> None:
    if (ids := parse_traceparent(traceparent)) is not None:
        trace_id, span_id, flags = ids
        sampled = bool(int(flags, 16) & 1)
        if "b3" in propagators:
            headers.update(write_single(trace_id, span_id, sampled))
        if "b3multi" in propagators:
            headers.update(write_multiple(trace_id, span_id, sampled))


def _note_cut(direction: str, size: int, keys: Collection[str]) -> None:
    if (suppressed := _too_long.due()) is not None:
        named = [key[:64] for key in list(keys)[:8]]
        _log.warning("baggage_cut", direction=direction, bytes=size, left_out=named, suppressed=suppressed)


def _first(baggage: Mapping[str, str], keys: tuple[str, ...]) -> str | None:
    key = next((key for key in keys if baggage.get(key)), None)
    if key is not None and len(baggage[key]) > _MAX_ID:
        _note_cut("incoming", len(baggage[key]), [key])
        return None
    return None if key is None else baggage[key]


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else ""
