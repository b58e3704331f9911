"""Scrubber: one set of keys, patterns and personal data, applied to texts and to JSON."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from nat_observability.events import Captured
from nat_observability.processors.assignments import find_assignments, find_others
from nat_observability.processors.encodings import decoded
from nat_observability.processors.hints import MOST_LAYERS, Hints
from nat_observability.processors.keys import UNSURE, KeyMatcher, is_verdict
from nat_observability.processors.mark import MARK, Marks
from nat_observability.processors.pattern import Pattern
from nat_observability.processors.personal import FINDERS
from nat_observability.processors.tokens import (
    LEAST_RUN,
    Found,
    Runs,
    find_private_keys,
    find_tokens,
    find_url_credentials,
)
from nat_observability.recording.capture import capture_json, capture_text

_SHORTEST = 5  # characters: sig=x
_MAX_DEPTH = 48  # of JSON in JSON, strings that hold JSON included
_MARK = b"[redacted:"
_TOO_DEEP = b'"[redacted:too_deep]"'
_QUOTE = ord('"')
_TELLS_NOTHING = frozenset((b"null", b"true", b"false", b'""', b"[]", b"{}"))
_NAMES = ("name", "key", "Name", "Key", "header")
_VALUES = ("value", "Value")
_LARGE = 512  # bytes: a part of JSON that is worth a look before it is decoded

# Where the strings of chunks are: under the path that is the same in each, the container and the place in it.
_Places = dict[tuple[str | int, ...], list[tuple[Any, str | int]]]

_WITH_TEXT = b'{["'
_ENDED = re.compile(rb"""\s*+(?:[\])}]|\\++[nrt])""")
_TEXT = re.compile(rb"[A-Za-z0-9\x80-\xff]")
_OPENINGS = frozenset((b"{", b"[", b'"'))
_REMEMBERED = 4096  # names of fields
_LONGEST_REMEMBERED = 128  # characters
_LONGEST_NAME = 256  # bytes

_encode = msgspec.json.Encoder().encode
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_string = msgspec.json.Decoder(str).decode
_any = msgspec.json.Decoder().decode
_count = json.JSONDecoder(
    object_pairs_hook=len, parse_int=str, parse_float=str
).decode  # of keys, equal ones too


class Scrubber:
    """
    Replaces what is secret in texts and JSON values.

    Args:
        keys: Names of fields whose values are secret.
        patterns: Names of `DEFAULT_PATTERNS`, and patterns.
        personal: Names of sets of personal data.
        marks: Makes what stands in the place of a secret.
        prefilter: Whether values are searched only if a quick look says that they can hold a secret. The result is
            the same without it.
    """

    __slots__ = (
        "_builtin",
        "_clean_names",
        "_finders",
        "_keys",
        "_labels",
        "_marks",
        "_patterns",
        "_plain_words",
        "_shortest",
        "hints",
    )

    def __init__(
        self,
        keys: Sequence[str],
        patterns: Sequence[str | Pattern],
        personal: Sequence[str],
        marks: Marks,
        *,
        prefilter: bool = True,
    ) -> None:
        self._keys = KeyMatcher(keys)
        self._builtin = frozenset(name for name in patterns if isinstance(name, str))
        self._patterns = tuple(pattern for pattern in patterns if isinstance(pattern, Pattern))
        self._finders = tuple(FINDERS[name] for name in personal)
        self._marks = marks
        self._clean_names: set[str] = set()
        # What stands in a text already is taken for a mark where it says one of these, and else for a text.
        self._labels = (
            self._keys.labels | self._builtin | {*personal, *(each.name for each in self._patterns)}
        )
        # A short word of letters and digits is nothing that shows by its form.
        self._plain_words = not self._patterns and not personal
        self._shortest = 1 if self._patterns else _SHORTEST
        self.hints = Hints(
            keys=self._keys.needles,
            tokens=bool(self._builtin),
            literals=[literal for pattern in self._patterns for literal in pattern.literals],
            personal=personal,
            always=any(not pattern.literals for pattern in self._patterns),
            disabled=not prefilter,
        )

    def value(self, value: Captured) -> Captured:
        """Return a recorded value without its secrets: the same object where it has none."""
        if value is None:
            return None
        if isinstance(value, str):
            return self.text(value)
        data = bytes(value)
        if not self.hints.in_any(data):
            return value
        try:
            scrubbed = self._json(data, 0)
        except (msgspec.DecodeError, UnicodeDecodeError):
            # An application's own Raw, which nobody has checked.
            return self.text(data.decode(errors="replace"))
        return value if scrubbed == data else msgspec.Raw(scrubbed)

    def chunked(self, value: Captured) -> Captured:
        """
        Return what `value` does, of the JSON list that the chunks of a span are where they are no texts.

        A secret may be split over them: what stands in the same place of each is looked at in one piece too, and is
        all in the first of them where there was something.
        """
        if not isinstance(value, msgspec.Raw):
            return self.value(value)
        try:
            chunks = _any(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self.value(value)
        if not isinstance(chunks, list):
            return self.value(value)
        places: _Places = {}
        for index in range(len(chunks)):
            _collect(chunks, index, (), places)
        changed = False
        for parts in places.values():
            pieces = [container[place] for container, place in parts]
            joined = "".join(pieces)
            scrubbed = self.text(joined)
            if scrubbed != joined:
                changed = True
                for container, place in parts:
                    container[place] = ""
                container, place = parts[0]
                container[place] = scrubbed
        return self.value(capture_json(chunks) if changed else value)

    def text(self, text: str, depth: int = 0) -> str:
        """Return `text` without its secrets: the same object where it has none."""
        if len(text) < self._shortest or (self._plain_words and len(text) < LEAST_RUN and text.isalnum()):
            return text
        try:
            data = text.encode()
        except UnicodeEncodeError:
            text = capture_text(text)
            data = text.encode()
        if not self.hints.in_any(data):
            return text
        if data.lstrip()[:1] in _OPENINGS:
            try:
                scrubbed = self._json(data, depth + 1)
            except (msgspec.DecodeError, UnicodeDecodeError):
                pass
            else:
                return text if scrubbed == data else scrubbed.decode()
        scrubbed = self._plain(data)
        return text if scrubbed == data else scrubbed.decode(errors="replace")

    def name(self, name: str, depth: int = 0) -> str:
        """Return what `text` does, of a text that comes again and again: the name of a step, or of a field."""
        if name in self._clean_names:
            return name
        scrubbed = self.text(name, depth)
        if scrubbed == name and len(name) <= _LONGEST_REMEMBERED and len(self._clean_names) < _REMEMBERED:
            self._clean_names.add(name)
        return scrubbed

    def named(self, name: str, text: str) -> str:
        """Return the text of a field of that name without its secrets."""
        label = self._keys.label(name)
        if (
            label is None
            or not text
            or self._is_mark(text)
            or is_verdict(label, text.encode(errors="replace"))
        ):
            return self.text(text)
        return self._marks.mark(label, text.encode(errors="backslashreplace"))

    # -- JSON --------------------------------------------------------------------------------------------------------

    def _json(self, data: bytes, depth: int) -> bytes:
        """
        Return JSON without its secrets, and otherwise as it was.

        Raises:
            msgspec.DecodeError: It is no JSON.
        """
        if depth > _MAX_DEPTH:
            return _TOO_DEEP
        first = data.lstrip()[:1]
        try:
            if first == b"{":
                return self._object(data, depth)
            if first == b"[":
                return self._array(data, depth)
        except RecursionError:
            return _TOO_DEEP
        if first == b'"':
            text = _string(data)
            scrubbed = self.text(text, depth)
            return data if scrubbed == text else _encode(scrubbed)
        # A number, true, false or null: personal data at most.
        if depth == 0:
            _any(data)
        if self._finders:
            cut = self._cut(data)
            if cut != data:
                return _encode(cut.decode())
        return data

    def _object(self, data: bytes, depth: int) -> bytes:
        fields = _fields(data)
        changed = False
        scrubbed: dict[str, msgspec.Raw] = {}
        named = self._names_of_values(fields)
        for key, raw in fields.items():
            value = bytes(raw)
            label = self._keys.label(key)
            if label is None and named is not None and key in _VALUES:
                label = named
            if label == UNSURE and (value[0] != _QUOTE or is_verdict(label, _string(value).encode())):
                label = None
            new = self._part(value, depth) if label is None else self._marked(label, value)
            new_key = self.name(key, depth)
            changed = changed or new != value or new_key != key
            scrubbed[new_key] = msgspec.Raw(new)
        # Of equal keys nobody has looked at the values but the last, which is the one that counts.
        return _encode(scrubbed) if changed or _has_equal_keys(data, fields) else data

    def _names_of_values(self, fields: dict[str, msgspec.Raw]) -> str | None:
        """Return the label for the value in {"name": "password", "value": "x"}."""
        if not any(key in fields for key in _VALUES):
            return None
        for key in _NAMES:
            name = bytes(fields.get(key, b""))
            if name.startswith(b'"') and (label := self._keys.label(_string(name))) is not None:
                return label
        return None

    def _array(self, data: bytes, depth: int) -> bytes:
        items = [bytes(raw) for raw in _items(data)]
        scrubbed: list[msgspec.Raw] = []
        changed = False
        label: str | None = None
        for index, value in enumerate(items):
            new = self._part(value, depth) if label is None else self._marked(label, value)
            label = None
            if len(value) <= _LONGEST_NAME and (
                value.startswith(b'"--') or (index == 0 and len(items) == 2 and value.startswith(b'"'))
            ):
                # ["--password", "x"], ["password", "x"]
                name = _string(value)
                if len(items) == 2 or (name.startswith("--") and "=" not in name):
                    label = self._keys.label(name.lstrip("-"))
                    if label == UNSURE and not name.startswith("--"):
                        label = None  # ["pass", "fail"]
            changed = changed or new != value
            scrubbed.append(msgspec.Raw(new))
        return _encode(scrubbed) if changed else data

    def _part(self, value: bytes, depth: int) -> bytes:
        if value[0] not in _WITH_TEXT and not self._finders:
            return value
        if len(value) >= _LARGE and not value.startswith(b'"') and not self.hints.in_any(value):
            return value
        return self._json(value, depth + 1)

    def _marked(self, label: str, value: bytes) -> bytes:
        """Return the mark for the whole of a JSON value."""
        if value in _TELLS_NOTHING:
            return value
        secret = value
        if value.startswith(b'"'):
            text = _string(value)
            if self._is_mark(text):
                return value
            secret = text.encode()
        return _encode(self._marks.mark(label, secret))

    # -- Text --------------------------------------------------------------------------------------------------------

    def _plain(self, data: bytes) -> bytes:
        """Return text without its secrets; decoded, where some were behind escapes."""
        scrubbed = layer = self._cut(data)
        for _ in range(MOST_LAYERS):
            deeper = decoded(layer).decode(errors="replace").encode()
            if deeper == layer:
                break
            layer = self._cut(deeper)
            if layer != deeper:
                scrubbed = layer
        return scrubbed

    def _cut(self, data: bytes) -> bytes:
        """Replace what is found in `data` as it is."""
        found = sorted(self._find(data))
        if found:
            data = self._replaced(data, found)
        if not self._patterns:
            return data
        text = data.decode(errors="replace")
        for pattern in self._patterns:
            text = self._replaced_in_text(text, pattern)
        return text.encode()

    def _find(self, data: bytes) -> Iterator[Found]:
        if self.hints.has_name(data):
            reached = 0
            for start, stop in self.hints.with_names(data):
                # Not inside a value that began in another part: each byte is looked at once.
                for found in find_assignments(data, self._keys, max(start, reached), stop):
                    reached = found[1]
                    yield found
            yield from find_others(data, self._keys)
        builtin = self._builtin
        if builtin and self.hints.has_token(data):
            runs = Runs.of(data)
            if runs is not None:
                yield from (found for found in find_tokens(data, runs) if found[2] in builtin)
            if "private_key" in builtin:
                yield from find_private_keys(data)
            yield from (found for found in find_url_credentials(data) if found[2] in builtin)
        for find in self._finders:
            yield from find(data)

    def _replaced(self, data: bytes, found: list[Found]) -> bytes:
        # In Latin-1 each byte is a character: places are the same.
        marks = self._marks_in(data.decode("latin-1")) if _MARK in data else ()
        pieces: list[bytes] = []
        reached = 0
        for start, end, label in _merged(found):
            mark = _mark_at(start, marks)
            if mark is not None:
                if end <= mark[1] or _ENDED.match(data, mark[1]) or not _TEXT.search(data, mark[1], end):
                    continue
                # What goes on behind a mark is secret too.
                start = max(mark[0], reached)
            pieces += (data[reached:start], self._marks.mark(label, data[start:end]).encode())
            reached = end
        pieces.append(data[reached:])
        return b"".join(pieces)

    def _replaced_in_text(self, text: str, pattern: Pattern) -> str:
        marks = self._marks_in(text)
        pieces: list[str] = []
        reached = 0
        for start, end in pattern.find(text):
            if start >= reached and not _meets(start, end, marks):
                pieces += (text[reached:start], self._marks.mark(pattern.name, text[start:end].encode()))
                reached = end
        return "".join((*pieces, text[reached:])) if pieces else text

    def _marks_in(self, text: str) -> Sequence[tuple[int, int]]:
        return [match.span() for match in MARK.finditer(text) if match[1] in self._labels]

    def _is_mark(self, text: str) -> bool:
        match = MARK.fullmatch(text)
        return match is not None and match[1] in self._labels


def _has_equal_keys(data: bytes, fields: dict[str, msgspec.Raw]) -> bool:
    """Say whether an object has keys that are the same, of which `fields` has one."""
    once = _encode(fields)
    if len(data) == len(once) or len(msgspec.json.format(data, indent=-1)) == len(
        msgspec.json.format(once, indent=-1)
    ):
        return False
    # A key with an escape that it does not need is longer too.
    return b"\\" not in data or _count(data.decode()) != len(fields)


def _mark_at(at: int, marks: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """Return the mark which a place in a text is inside, or at the beginning of."""
    after = bisect_left(marks, (at + 1, 0))
    return marks[after - 1] if after > 0 and marks[after - 1][1] > at else None


def _meets(start: int, end: int, marks: Sequence[tuple[int, int]]) -> bool:
    """Say whether a part of a text has a part of one of its marks in it."""
    after = bisect_left(marks, (end, 0))
    return after > 0 and marks[after - 1][1] > start


def _merged(found: list[Found]) -> Iterator[Found]:
    """Return what was found without overlaps: the one that begins first, as far as any of them reaches."""
    current: Found | None = None
    for start, end, label in found:
        if current is None:
            current = (start, end, label)
        elif start < current[1]:
            current = (current[0], max(end, current[1]), current[2])
        else:
            yield current
            current = (start, end, label)
    if current is not None:
        yield current


def _collect(
    container: Any,
    place: str | int,
    path: tuple[str | int, ...],
    places: _Places,
) -> None:
    """Put each string below `place` under its path, which is the same in each chunk."""
    value = container[place]
    if isinstance(value, str):
        places.setdefault(path, []).append((container, place))
    elif isinstance(value, dict):
        for key in value:
            _collect(value, key, (*path, key), places)
    elif isinstance(value, list):
        for index in range(len(value)):
            _collect(value, index, (*path, index), places)
