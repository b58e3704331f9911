"""Redactor: removes from an item what must not leave the process."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from nat_observability.errors import InvalidPatternError, UnknownPersonalSetError
from nat_observability.events import ErrorDetails, Item, Run, Span, SpanEvent, SpanLink, SpanOrigin
from nat_observability.processors.redaction.marks import Marks
from nat_observability.processors.redaction.oversized import roughly_cut, without_margin
from nat_observability.processors.redaction.personal import PERSONAL_SETS
from nat_observability.processors.redaction.rules import Pattern, Rule
from nat_observability.processors.redaction.scrubber import Scrubber
from nat_observability.processors.redaction.tables.secret_names import DEFAULT_KEYS
from nat_observability.processors.redaction.tokens import DEFAULT_PATTERNS

Chunks = Literal["withhold", "scan"]
"""What happens to the chunks of raw steps: each is replaced by a mark, or searched on its own."""

_WITHHELD = "[redacted:chunk]"
_REMEMBERED = 256  # runs
_LARGE = 8 * 1024  # bytes: a larger span is looked at alone
_TOGETHER = 32 * 1024  # bytes
_MOST_TOGETHER = 128  # items
_LEAST_BYTES = 1024  # of the limit


class Redactor:
    """
    Replaces what is secret in an item, in every text and every JSON value of it, by a mark.

    Keys are compared without regard to case and to the separators `-`, `_`, `.` and space. `*` and `?` stand for any
    characters and for one, and a `!` marks names that are not secret although another key matches them. The value of
    a key is replaced as a whole: in JSON, in JSON inside strings, in query strings, headers and assignments in text.
    What a pattern matches is replaced wherever it stands.

    Ids, times and counts stay as they are; the texts that an application gives a run (user, conversation, name and
    tags) are redacted as texts. A redactor has no observable state and may be called from several threads.

    Args:
        keys: Names of fields whose values are secret.
        patterns: What is secret wherever it stands: names of `DEFAULT_PATTERNS`, and patterns of your own.
        personal: Sets of personal data to remove too, of `PERSONAL_SETS`.
        hash_key: Adds to each mark a hash of what it replaces, keyed with this, so that equal values have equal marks.
            Only someone with the key can test what a hash stands for. 16 bytes or more, never shown in a repr.
        rules: Changes to the above in some runs, in order.
        chunks: A secret can be split over two chunks of raw steps, which are separate items, so that no search of one
            finds it. Chunks are therefore withheld unless this is "scan". A span has its chunks joined.
        bytes_limit: How many bytes of one item are searched at most; the rest is left out, with marks like
            `[cut:12345]`, and so is what ends next to a cut. None for no limit: searching 50 MB takes seconds.

    Raises:
        InvalidPatternError: A key or a pattern is invalid, or two patterns have the same name.
        UnknownPersonalSetError: No set of personal data has that name.
        ValueError: The key of the hash is too short, or the limit too small.
    """

    __slots__ = (
        "_bytes_limit",
        "_chunks",
        "_clean",
        "_keys",
        "_marks",
        "_memo",
        "_patterns",
        "_personal",
        "_rules",
        "_scrubbers",
        "_seen",
    )

    name = "redact"

    def __init__(
        self,
        *,
        keys: Iterable[str] = DEFAULT_KEYS,
        patterns: Iterable[str | Pattern] = DEFAULT_PATTERNS,
        personal: Iterable[str] = (),
        hash_key: bytes | None = None,
        rules: Iterable[Rule] = (),
        chunks: Chunks = "withhold",
        bytes_limit: int | None = None,
    ) -> None:
        if chunks not in ("withhold", "scan"):
            raise ValueError(f"chunks must be 'withhold' or 'scan', not {chunks!r}.")
        if bytes_limit is not None and bytes_limit < _LEAST_BYTES:
            raise ValueError(f"bytes_limit must be {_LEAST_BYTES} or more, or None, not {bytes_limit!r}.")
        self._chunks = chunks
        self._bytes_limit = bytes_limit
        self._keys = _several(keys, "keys")
        self._patterns = _known_patterns(_several(patterns, "patterns"))
        self._personal = _known_sets(_several(personal, "personal"))
        self._marks = Marks(hash_key)
        self._rules = tuple(rules)
        _known_patterns((*self._patterns, *(each for rule in self._rules for each in rule.patterns)))
        # One scrubber for each combination of rules that some run has had. Each rule's own is made now, so that an
        # invalid rule raises here.
        self._scrubbers: dict[tuple[int, ...], Scrubber] = {}
        for applied in ((), *((index,) for index in range(len(self._rules)))):
            self._scrubbers[applied] = self._scrubber(applied)
        self._memo: dict[int, tuple[Run, Run, Scrubber]] = {}
        # By their ids, with the items, so that no other item gets its id.
        self._seen: dict[int, Item] = {}
        self._clean: dict[int, Item] = {}

    def look_ahead(self, items: Sequence[Item]) -> int:
        """
        Look at the first of some items together, before each is passed in: one look takes less time than many.

        Returns:
            How many they were. Those in which nothing was found are remembered until the next ones.
        """
        seen = 0
        for item in items:
            if self._seen.get(id(item)) is not item:
                break
            seen += 1
        if seen:
            return seen  # the last time, and they did not get their turn
        group: _Group | None = None
        bare: dict[int, Item] = {}
        size = count = 0
        run: Run | None = None
        scrubber: Scrubber | None = None
        names: Collection[str] = ()
        for item in items:
            count += 1
            if item.run is not run:
                run = item.run
                scrubber = self._clean_run(run)
                if scrubber is not None:
                    names = scrubber.search.clean_names
            if scrubber is not None and type(item) is Span:
                if item.name in names and _is_bare(item):
                    bare[id(item)] = item
                else:
                    group = _Group(scrubber) if group is None else group
                    size += group.add(item, scrubber)
            if size >= _TOGETHER or count >= _MOST_TOGETHER:
                break
        self._seen = {id(item): item for item in items[:count]}
        if group is not None:
            bare.update(group.clean())
        self._clean = bare
        return count

    def _clean_run(self, run: Run) -> Scrubber | None:
        """Return the scrubber for the items of a run that has nothing to redact itself."""
        remembered = self._memo.get(id(run))
        if remembered is None:
            try:
                remembered = self._remember(run)
            except Exception:  # noqa: BLE001  a rule raises: it does so again when the item is passed in
                return None
        return remembered[2] if remembered[1] is run else None

    def __call__(self, item: Item) -> Item:
        """Return `item` without its secrets: the same object if it has none."""
        if self._clean.get(id(item)) is item:
            return item
        remembered = self._memo.get(id(item.run))
        if remembered is None:
            remembered = self._remember(item.run)
        _, scrubbed_run, scrubber = remembered
        if self._bytes_limit is not None and (cut := roughly_cut(item, self._bytes_limit)):
            item = msgspec.structs.replace(item, **cut)
            return without_margin(self._searched(item, scrubbed_run, scrubber), cut)
        return self._searched(item, scrubbed_run, scrubber)

    def _searched(self, item: Item, scrubbed_run: Run, scrubber: Scrubber) -> Item:
        if isinstance(item, Span):
            changes = _common_changes(item, scrubber)
            if _is_chunked(item):
                changes["output"] = scrubber.chunked(item.output)
        else:
            changes = _common_changes(item, scrubber)
            if item.chunk is not None:
                changes["chunk"] = _WITHHELD if self._chunks == "withhold" else scrubber.value(item.chunk)
        changes["run"] = scrubbed_run
        if all(getattr(item, field) is value for field, value in changes.items()):
            return item
        return msgspec.structs.replace(item, **changes)

    def attributes(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return attributes of no run, such as a resource's, without their secrets; of types that JSON has."""
        given = msgspec.Raw(msgspec.json.encode(values))
        scrubbed = self._scrubbers[()].value(given)
        return dict(values) if scrubbed is given else msgspec.json.decode(scrubbed or b"{}")

    def __repr__(self) -> str:
        personal = ", ".join(self._personal) or "none"
        return (
            f"Redactor({len(self._keys)} keys, {len(self._patterns)} patterns, personal data: {personal}, "
            f"{len(self._rules)} rules)"
        )

    def _remember(self, run: Run) -> tuple[Run, Run, Scrubber]:
        applied = tuple(index for index, rule in enumerate(self._rules) if rule.when(run))
        scrubber = self._scrubbers.get(applied)
        if scrubber is None:
            scrubber = self._scrubbers[applied] = self._scrubber(applied)
        if len(self._memo) >= _REMEMBERED:
            self._memo.clear()
        # This keeps the run alive, so that no other run gets its id.
        remembered = self._memo[id(run)] = (run, _scrubbed_run(run, scrubber), scrubber)
        return remembered

    def _scrubber(self, applied: Sequence[int]) -> Scrubber:
        keys, patterns, personal = list(self._keys), list(self._patterns), list(self._personal)
        for rule in (self._rules[index] for index in applied):
            keys += _several(rule.keys, "keys")
            patterns += _several(rule.patterns, "patterns")
            personal += _known_sets(_several(rule.personal, "personal"))
            without = set(_several(rule.without_patterns, "without_patterns"))
            keys = _without(keys, _several(rule.without_keys, "without_keys"))
            patterns = [each for each in patterns if _name(each) not in without]
            personal = _without(personal, _known_sets(_several(rule.without_personal, "without_personal")))
        return Scrubber(keys, patterns, tuple(dict.fromkeys(personal)), self._marks)


class _Group:
    """
    Items that are looked at together.

    Args:
        scrubber: Looks at them.
    """

    __slots__ = ("_parts", "_scrubber", "_spans")

    def __init__(self, scrubber: Scrubber) -> None:
        self._scrubber = scrubber
        self._spans: list[Span] = []
        self._parts: list[bytes] = []

    def add(self, span: Span, scrubber: Scrubber) -> int:
        """Add a span, unless it is large or has other rules than the first; return its size in bytes."""
        if scrubber is not self._scrubber or _is_chunked(span):
            return 0
        parts = _parts(span)
        if max(map(len, parts)) > _LARGE:
            return 0
        part = b"\n".join(parts)
        self._spans.append(span)
        self._parts.append(part)
        return len(part) + 1

    def clean(self) -> dict[int, Item]:
        """Return those in which nothing is found, by their ids."""
        search = self._scrubber.search
        found: dict[int, Item] = {}
        for span, passes in zip(self._spans, search.lines_that_pass(self._parts), strict=True):
            if not passes:
                found[id(span)] = span
                if span.name not in search.clean_names:
                    search.add_clean_name(span.name)
        return found


def _is_bare(span: Span) -> bool:
    """Say whether nothing of its own is recorded in a span but its name."""
    return (
        span.input is None
        and span.output is None
        and span.metadata is None
        and span.attributes is None
        and span.error is None
        and span.status_message is None
        and not span.tags
        and not span.events
        and not span.links
    )


def _parts(span: Span) -> list[bytes]:
    """Return everything that is recorded in a span."""
    parts = [
        each.encode(errors="replace") if isinstance(each, str) else bytes(each)
        for each in (span.name, span.input, span.output, span.metadata, span.attributes)
        if each is not None
    ]
    texts: list[str] = [*span.tags] if span.tags else []
    if span.events or span.links or span.status_message is not None:
        texts += (event.name for event in span.events)
        texts += (link.trace_state or "" for link in span.links)
        texts.append(span.status_message or "")
        parts += (bytes(event.attributes) for event in span.events if event.attributes is not None)
        parts += (bytes(link.attributes) for link in span.links if link.attributes is not None)
    if span.origin is not None:
        texts += (span.origin.scope_name, span.origin.trace_state or "")
        if span.origin.scope_attributes is not None:
            parts.append(bytes(span.origin.scope_attributes))
    error = span.error
    if error is not None:
        texts += (error.type, error.message, error.traceback or "")
    if texts:
        parts += (text.encode(errors="replace") for text in texts)
    return parts


def _is_chunked(span: Span) -> bool:
    return span.chunks > 1 and isinstance(span.output, msgspec.Raw)


def _common_changes(item: Item, scrubber: Scrubber) -> dict[str, Any]:
    """Return the fields common to both kinds of items, without secrets."""
    changes: dict[str, Any] = {
        "name": scrubber.name(item.name),
        "input": scrubber.value(item.input),
        "output": scrubber.value(item.output),
    }
    if item.metadata is not None:
        changes["metadata"] = _object(item.metadata, scrubber)
    if item.attributes is not None:
        changes["attributes"] = _object(item.attributes, scrubber)
    if item.events:
        events = tuple(_event(each, scrubber) for each in item.events)
        changes["events"] = item.events if events == item.events else events
    if item.links:
        links = tuple(_link(each, scrubber) for each in item.links)
        changes["links"] = item.links if links == item.links else links
    if item.status_message is not None:
        changes["status_message"] = scrubber.text(item.status_message)
    if item.origin is not None:
        origin = _origin(item.origin, scrubber)
        changes["origin"] = item.origin if origin == item.origin else origin
    if item.tags:
        tags = tuple(scrubber.name(tag) for tag in item.tags)
        changes["tags"] = item.tags if tags == item.tags else tags
    if item.error is not None:
        error = item.error
        scrubbed = ErrorDetails(
            scrubber.name(error.type),
            scrubber.text(error.message),
            None if error.traceback is None else scrubber.text(error.traceback),
        )
        changes["error"] = error if scrubbed == error else scrubbed
    return changes


def _object(value: msgspec.Raw | None, scrubber: Scrubber) -> msgspec.Raw | None:
    """Return a JSON object without its secrets: the same if it has none."""
    scrubbed = scrubber.value(value)
    # Invalid JSON has become a text.
    return msgspec.Raw(msgspec.json.encode(scrubbed)) if isinstance(scrubbed, str) else scrubbed


def _event(event: SpanEvent, scrubber: Scrubber) -> SpanEvent:
    return msgspec.structs.replace(
        event, name=scrubber.name(event.name), attributes=_object(event.attributes, scrubber)
    )


def _link(link: SpanLink, scrubber: Scrubber) -> SpanLink:
    state = None if link.trace_state is None else scrubber.text(link.trace_state)
    return msgspec.structs.replace(link, trace_state=state, attributes=_object(link.attributes, scrubber))


def _origin(origin: SpanOrigin, scrubber: Scrubber) -> SpanOrigin:
    state = None if origin.trace_state is None else scrubber.text(origin.trace_state)
    return msgspec.structs.replace(
        origin,
        scope_name=scrubber.name(origin.scope_name),
        scope_attributes=_object(origin.scope_attributes, scrubber),
        trace_state=state,
    )


def _scrubbed_run(run: Run, scrubber: Scrubber) -> Run:
    if not (run.tags or run.conversation_id or run.user_id or run.workflow_name):
        return run
    scrubbed = msgspec.structs.replace(
        run,
        conversation_id=None if run.conversation_id is None else scrubber.text(run.conversation_id),
        user_id=None if run.user_id is None else scrubber.text(run.user_id),
        workflow_name=None if run.workflow_name is None else scrubber.text(run.workflow_name),
        tags=tuple((scrubber.text(name), scrubber.named(name, value)) for name, value in run.tags),
    )
    return run if scrubbed == run else scrubbed


def _several(values: Iterable[Any], argument: str) -> tuple[Any, ...]:
    if isinstance(values, str | bytes):
        raise TypeError(f"{argument} must be a list or a tuple, not the single text {values!r}.")
    return tuple(values)


def _known_patterns(patterns: Iterable[str | Pattern]) -> tuple[str | Pattern, ...]:
    known: dict[str, str | Pattern] = {}
    for pattern in patterns:
        if not isinstance(pattern, str | Pattern):
            raise InvalidPatternError(
                pattern,
                "it is not a pattern",
                "Use Pattern(name, expression), or a name of DEFAULT_PATTERNS.",
            )
        if isinstance(pattern, str) and pattern not in DEFAULT_PATTERNS:
            raise InvalidPatternError(
                pattern,
                "there is no default pattern of that name",
                f"Use Pattern({pattern!r}, expression), or one of: {', '.join(DEFAULT_PATTERNS)}.",
            )
        before = known.setdefault(_name(pattern), pattern)
        if before is not pattern and before != pattern:
            raise InvalidPatternError(_name(pattern), "another pattern has that name", "Use another name.")
    return tuple(known.values())


def _known_sets(names: Iterable[str]) -> tuple[str, ...]:
    names = tuple(names)
    for name in names:
        if name not in PERSONAL_SETS:
            raise UnknownPersonalSetError(name, PERSONAL_SETS)
    return names


def _name(pattern: str | Pattern) -> str:
    return pattern if isinstance(pattern, str) else pattern.name


def _without(values: Sequence[str], left_out: Iterable[str]) -> list[str]:
    left_out = set(left_out)
    return [value for value in values if value not in left_out]
