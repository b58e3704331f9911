"""StepDetails: the attributes, events and links of an open step, captured as they are given, within limits."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from itertools import islice
from typing import Any

import msgspec

from nat_observability.events import IntermediateStep, Span, SpanEvent, SpanKind, SpanLink, Status
from nat_observability.foreign_errors import reraise_signal
from nat_observability.recording.capture import MAX_BYTES, capture_label
from nat_observability.recording.details.attributes import (
    MAX_INT,
    attribute_name,
    attribute_value,
    pairs_of,
    plain_attributes,
    report_problem,
    size_of,
)
from nat_observability.recording.details.links import linked, several_links

DEFAULT_COUNT = 128
"""The specification's default for each limit of a count."""

_MAX_NS = 2**63 - 1
_SHORT = 1024  # characters of a name or a text
_ROOM = 2 * _SHORT
_encode = msgspec.json.Encoder().encode
_set = msgspec.structs.force_setattr


class CountLimits:
    """
    The most attributes, events and links of one step, and attributes of one event and one link, that are recorded.

    These bound the memory of an open step. An exporter's own limits may be lower, and are applied on its way; if they
    are higher, they raise these.
    """

    __slots__ = ("attributes", "event_attributes", "events", "link_attributes", "links")

    def __init__(self) -> None:
        self.attributes = self.events = self.links = DEFAULT_COUNT
        self.event_attributes = self.link_attributes = DEFAULT_COUNT

    def allow(
        self, *, attributes: int, events: int, links: int, event_attributes: int, link_attributes: int
    ) -> None:
        """Raise each limit to this number, if it is lower; no limit ever falls."""
        self.attributes = max(self.attributes, attributes)
        self.events = max(self.events, events)
        self.links = max(self.links, links)
        self.event_attributes = max(self.event_attributes, event_attributes)
        self.link_attributes = max(self.link_attributes, link_attributes)


LIMITS = CountLimits()
"""Those of this process."""


class StepDetails:
    """
    What one step has beside its input and output. Made when the first of it is given; hardly any step needs one.

    All of it together may take `MAX_BYTES`. What goes over that, or over a count, is dropped and counted; the first of
    it is kept. Nothing here raises for anything that an application passes.

    Args:
        attributes: What the step begins with; captured by `begin`.
        links: Likewise.
        span_kind: A `SpanKind` or its name; None for that of the step's kind.

    Attributes:
        said: The output that was captured for the step already; None if there is none.
        span_kind: None for that of the step's kind.
        status: As it was set; None if it was not.
        status_message: What describes it.
    """

    __slots__ = (
        "_attributes",
        "_bytes_left",
        "_dropped_attributes",
        "_dropped_events",
        "_dropped_links",
        "_events",
        "_given",
        "_links",
        "_over",
        "_started",
        "said",
        "span_kind",
        "status",
        "status_message",
    )

    def __init__(self, attributes: object = None, links: object = None, span_kind: object = None) -> None:
        self._given: tuple[object, object] | None = (attributes, several_links(links, LIMITS.links))
        self.span_kind = None if span_kind is None else _span_kind(span_kind)
        self.said: object = None
        self.status: Status | None = None
        self.status_message: str | None = None
        self._attributes: dict[str, Any] = {}
        self._events: list[SpanEvent] = []
        self._links: list[SpanLink] = []
        self._dropped_attributes = self._dropped_events = self._dropped_links = 0
        self._over: tuple[str, ...] = ()  # what is over its limit
        self._bytes_left = MAX_BYTES
        # What the START had: attributes, and the number of links, dropped attributes and dropped links.
        self._started: tuple[dict[str, Any], int, int, int] | None = None

    @property
    def arguments(self) -> tuple[object, object, SpanKind | None]:
        """The attributes, links and span kind that a step which has not begun was given."""
        return (*(self._given or (None, None)), self.span_kind)

    def begin(self) -> None:
        """Capture what the step was given before it began."""
        given, self._given = self._given, None
        if given is None:
            return
        attributes, links = given
        if attributes is not None:
            # What was set on the step before its block came later.
            later, self._attributes = self._attributes, {}
            self.set_attributes(attributes)
            if later:
                self._attributes |= later
        if isinstance(links, list | tuple):
            # Twice as many, because those that name no span do not count against the limit.
            for each in links[: 2 * LIMITS.links]:
                self.link(each, None, None)
            if len(links) > 2 * LIMITS.links:
                self._dropped_links += len(links) - 2 * LIMITS.links
                self._report_limit("links")

    def has(self, name: str) -> bool:
        """Whether an attribute of this name is set."""
        return name in self._attributes

    def forget(self) -> None:
        """Let go of what the step was given: there is no subscriber."""
        self._given = None

    def mark_start(self) -> None:
        """Note that the START carries what there is now."""
        dropped = self._dropped_attributes, self._dropped_links
        self._started = (self._attributes.copy(), len(self._links), *dropped)

    # -- What the application says ------------------------------------------------------------------------------------

    def set_attribute(self, name: object, value: object) -> None:
        """Set an attribute; it replaces an earlier one of that name."""
        if type(name) is not str or not name or not name.isascii():
            name = attribute_name(name)
        attributes = self._attributes
        before = attributes.get(name, _MISSING)
        if before is not _MISSING:
            self._bytes_left += size_of(before)
        elif len(attributes) >= LIMITS.attributes or self._bytes_left <= len(name):
            self._drop_attributes(1)
            return
        else:
            self._bytes_left -= len(name)
        kind = type(value)
        if kind is bool or (kind is int and -MAX_INT <= value < MAX_INT):  # type: ignore[operator]
            self._bytes_left -= 8
            attributes[name] = value
            return
        captured = attribute_value(value)
        size = size_of(captured)
        if size > self._bytes_left:
            captured = f"[cut:{size}]"
            size = len(captured)
        self._bytes_left -= size
        attributes[name] = captured

    def set_attributes(self, attributes: object) -> None:
        """Set several attributes."""
        own = self._attributes
        if type(attributes) is dict and len(own) + len(attributes) <= LIMITS.attributes:
            # As below, without a call for each that is usual: a third of the time.
            left = self._bytes_left
            for name, value in list(attributes.items()):
                kind = type(value)
                if (
                    type(name) is str
                    and name
                    and name.isascii()
                    and name not in own
                    and left > _ROOM
                    and len(name) < _SHORT
                    and (
                        (kind is str and len(value) < _SHORT and value.isascii())
                        or kind is bool
                        or (kind is int and -MAX_INT <= value < MAX_INT)
                        or (kind is float and value - value == 0.0)  # finite
                    )
                ):
                    left -= len(name) + (len(value) if kind is str else 8)
                    own[name] = value
                else:
                    self._bytes_left = left
                    self.set_attribute(name, value)
                    left = self._bytes_left
            self._bytes_left = left
            return
        pairs, left_out = pairs_of(attributes, 2 * LIMITS.attributes)
        for name, value in pairs:
            self.set_attribute(name, value)
        if left_out:
            self._drop_attributes(left_out)

    def event(self, name: object, attributes: object, time: object, now_ns: int) -> None:
        """Add an event; `time` is None for now, nanoseconds since the epoch, or a `datetime`."""
        if len(self._events) >= LIMITS.events or self._bytes_left <= 0:
            self._dropped_events += 1
            self._report_limit("events")
            return
        named = name if type(name) is str and name and name.isascii() else attribute_name(name)
        recorded, dropped = self._of_part(attributes, LIMITS.event_attributes)
        self._bytes_left -= len(named) + 16
        time_ns = now_ns if time is None else _nanoseconds(time, now_ns)
        self._events.append(SpanEvent(named, time_ns, recorded, dropped))

    def link(self, target: object, attributes: object, tracestate: object) -> None:
        """Add a link to the span that a `traceparent`, or anything that has one, names."""
        if len(self._links) >= LIMITS.links or self._bytes_left <= 0:
            self._dropped_links += 1
            self._report_limit("links")
            return
        found = linked(target, attributes, tracestate)
        if found is None:
            self._dropped_links += 1
            report_problem("a link was not a traceparent, and was dropped")
            return
        (trace_id, span_id, flags), state, attributes, is_remote = found
        recorded, dropped = self._of_part(attributes, LIMITS.link_attributes)
        self._bytes_left -= 48
        self._links.append(SpanLink(trace_id, span_id, recorded, state, int(flags, 16), dropped, is_remote))

    def set_status(self, status: object, message: object) -> None:
        """Set how the step ends, unless it ends with an exception."""
        try:
            known = Status(str(status).lower().rpartition(".")[2])
        except BaseException as error:  # noqa: BLE001  foreign code: its __str__
            reraise_signal(error)
            known = None
        if known is None or known is Status.INCOMPLETE:
            report_problem("a status was neither ok nor error, and was ignored")
            return
        self.status = known
        self.status_message = None if message is None else capture_label(message)

    # -- What is recorded ---------------------------------------------------------------------------------------------

    def add_to_span(self, span: Span) -> None:
        """Add what was recorded here to a new span, which no other code has seen."""
        if self.status is not None and span.error is None:
            _set(span, "status", self.status)
        if self.span_kind is not None:
            _set(span, "span_kind", self.span_kind)
        self._add(span, self._attributes, self._links, self._dropped_attributes, self._dropped_links)

    def add_to_step(self, step: IntermediateStep) -> None:
        """Add what was recorded here to a new START or END, to the END without what the START had."""
        attributes, links = self._attributes, self._links
        dropped_attributes, dropped_links = self._dropped_attributes, self._dropped_links
        if self._started is not None:
            before, first, dropped_attributes_before, dropped_links_before = self._started
            attributes = {
                name: value for name, value in attributes.items() if before.get(name, _MISSING) is not value
            }
            links = links[first:]
            dropped_attributes -= dropped_attributes_before
            dropped_links -= dropped_links_before
        _set(step, "span_kind", self.span_kind)
        _set(step, "status", self.status)
        self._add(step, attributes, links, dropped_attributes, dropped_links)

    def _add(
        self,
        item: Span | IntermediateStep,
        attributes: dict[str, Any],
        links: list[SpanLink],
        dropped_attributes: int,
        dropped_links: int,
    ) -> None:
        # Set in place, and only what there is: a copy would take ten times as long.
        if attributes:
            _set(item, "attributes", msgspec.Raw(_encode(attributes)))
        if self._events:
            _set(item, "events", tuple(self._events))
        if links:
            _set(item, "links", tuple(links))
        if self.status_message is not None:
            _set(item, "status_message", self.status_message)
        if dropped_attributes or self._dropped_events or dropped_links:
            _set(item, "dropped_attributes_count", dropped_attributes)
            _set(item, "dropped_events_count", self._dropped_events)
            _set(item, "dropped_links_count", dropped_links)

    def _of_part(self, attributes: object, most: int) -> tuple[msgspec.Raw | None, int]:
        """Return the attributes of an event or a link, and how many were left out."""
        if attributes is None:
            return None, 0
        if type(attributes) is dict and len(attributes) <= most:
            data = plain_attributes(attributes)
            if data is not None and len(data) <= self._bytes_left:
                self._bytes_left -= len(data)
                return msgspec.Raw(data), 0
        pairs, left_out = pairs_of(attributes, most)
        captured: dict[str, Any] = {}
        for name, value in pairs:
            if self._bytes_left <= 0:
                left_out += 1
                continue
            named = name if type(name) is str and name and name.isascii() else attribute_name(name)
            kept = attribute_value(value)
            size = size_of(kept)
            if size > self._bytes_left:
                kept = f"[cut:{size}]"
                size = len(kept)
            self._bytes_left -= size + len(named)
            captured[named] = kept
        return msgspec.Raw(_encode(captured)) if captured else None, left_out

    def _drop_attributes(self, count: int) -> None:
        self._dropped_attributes += count
        self._report_limit("attributes")

    def _report_limit(self, what: str) -> None:
        # Once for each step: it may be one of millions in a loop.
        if what not in self._over:
            self._over = (*self._over, what)
            report_problem(f"a step had more {what} than its limits allow, and the rest was dropped")


_MISSING = object()


def _span_kind(kind: object) -> SpanKind | None:
    if type(kind) is SpanKind:
        return kind
    try:
        # The name of one of OpenTelemetry's too.
        text = kind if isinstance(kind, str) else getattr(kind, "name", "")
        return SpanKind(str(text).lower())
    except BaseException as error:  # noqa: BLE001  foreign code: what it does when it is looked at
        reraise_signal(error)
        report_problem(f"a span kind was none of {', '.join(SpanKind)}, and was ignored")
        return None


def _nanoseconds(time: object, now_ns: int) -> int:
    try:
        if type(time) is int and 0 <= time <= _MAX_NS:
            return time
        if isinstance(time, datetime.datetime):
            since = time.astimezone(datetime.UTC) - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
            nanoseconds = (since.days * 86400 + since.seconds) * 10**9 + since.microseconds * 1000
            if 0 <= nanoseconds <= _MAX_NS:
                return nanoseconds
    except BaseException as error:  # noqa: BLE001  foreign code: a time zone of the application's
        reraise_signal(error)
    report_problem("the time of an event was not nanoseconds since the epoch, and is that of the call")
    return now_ns


_MOST_TAGS = 1000


def labels(tags: Iterable[object]) -> tuple[str, ...]:
    """Return tags as text. Never raises."""
    try:
        if isinstance(tags, str):
            return (capture_label(tags),)
        return tuple([capture_label(tag) for tag in islice(tags, _MOST_TAGS)])
    except BaseException as error:  # noqa: BLE001  foreign code: an iterable of the application's
        reraise_signal(error)
        return ()
