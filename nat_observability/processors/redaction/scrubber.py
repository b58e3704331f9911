"""Scrubber: one set of keys, patterns and personal data, applied to recorded values."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import suppress

import msgspec

from nat_observability.events import Captured
from nat_observability.processors.redaction.first_look.engine import engine_of
from nat_observability.processors.redaction.json import JsonScrubber, places_of_strings
from nat_observability.processors.redaction.marks import (
    Found,
    Marks,
    is_mark,
    mark_at,
    marks_in,
    overlaps_mark,
    without_labels,
)
from nat_observability.processors.redaction.memory import Beginnings, Memory
from nat_observability.processors.redaction.names.keys import KeyMatcher, with_letters_apart
from nat_observability.processors.redaction.names.needles import joined_letters, needles_of
from nat_observability.processors.redaction.personal import FINDERS
from nat_observability.processors.redaction.rules import Pattern
from nat_observability.processors.redaction.search import TOO_MANY, Search
from nat_observability.processors.redaction.tables.secret_names import DEFAULT_KEYS
from nat_observability.processors.redaction.text.encodings import MOST_LAYERS, decoded, escapes
from nat_observability.processors.redaction.text.folding import fold
from nat_observability.processors.redaction.text.runs import LEAST_RUN
from nat_observability.processors.redaction.text.windows import around
from nat_observability.processors.redaction.values.verdicts import is_harmless
from nat_observability.recording.capture import capture_text, joined_json

_SHORTEST = 5  # characters: sig=x
_MARK = b"[redacted:"
_ENDED = re.compile(rb"""\s*+(?:[\])}]|\\++[nrt])""")
_TEXT = re.compile(rb"[A-Za-z0-9\x80-\xff]")
_OPENINGS = frozenset((b"{", b"[", b'"'))

_DEFAULT = frozenset(DEFAULT_KEYS)
_any = msgspec.json.Decoder().decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
# In place of a list of objects in which there is nothing: under the name of a secret it is one, as the list would be.
_OBJECTS = msgspec.Raw(b'[{"-":0}]')
_LONG = 2048  # bytes: it takes longer to look for a shorter one
_LONGEST = 1024 * 1024  # bytes that are kept


class Scrubber:
    """
    Replaces what is secret in texts and JSON values.

    Args:
        keys: Names of fields whose values are secret.
        patterns: Names of `DEFAULT_PATTERNS`, and patterns.
        personal: Names of sets of personal data.
        marks: Makes what replaces a secret.
        prefilter: Whether values are searched only if a quick look says that they can hold a secret. The result is
            the same without it.

    Attributes:
        search: Finds what is secret in a text.
    """

    __slots__ = (
        "_beginnings",
        "_builtin",
        "_clean",
        "_json",
        "_keys",
        "_labels",
        "_marks",
        "_patterns",
        "_plain_words",
        "_shortest",
        "search",
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
        joined = joined_letters(key for key in keys if key not in _DEFAULT)
        keys = with_letters_apart(keys)
        self._keys = KeyMatcher(keys)
        self._builtin = frozenset(name for name in patterns if isinstance(name, str))
        self._patterns = tuple(pattern for pattern in patterns if isinstance(pattern, Pattern))
        self._marks = marks
        self._clean: Memory[int, int] = Memory()
        self._beginnings = Beginnings()
        # Text that looks like a mark is one only if it has one of these labels.
        self._labels = (
            self._keys.labels | self._builtin | {TOO_MANY, *personal, *(each.name for each in self._patterns)}
        )
        # A short word of letters and digits has no form that shows.
        self._plain_words = not self._patterns and not personal
        self._shortest = 1 if self._patterns else _SHORTEST
        literals = [literal for pattern in self._patterns for literal in pattern.literals]
        # A pattern without literals may match anything.
        is_enabled = prefilter and all(pattern.literals for pattern in self._patterns)
        self.search = Search(
            names=self._keys,
            needles=needles_of(keys),
            joined=joined,
            tokens=self._builtin,
            literals=literals,
            finders=[FINDERS[name] for name in personal],
            is_enabled=is_enabled,
            engine=engine_of(keys, tokens=bool(self._builtin), literals=literals) if is_enabled else None,
        )
        self._json = JsonScrubber(
            keys=self._keys,
            marks=self._marks,
            labels=self._labels,
            text=self.text,
            name=self.name,
            number=self._cut if personal else None,
            passes=self.search.part_passes,
        )

    def passes(self, data: bytes) -> bool:
        """Say whether text or encoded JSON can hold anything to redact, in any encoding."""
        return self.search.passes(data)

    def is_clean(self, key: int) -> bool:
        """Say whether nothing was found in a value with this hash of its bytes."""
        return self._clean.get(key) is not None

    def add_clean(self, key: int) -> None:
        """Remember that nothing is to be found in a value with this hash of its bytes."""
        self._clean.put(key, 1)

    def value(self, value: Captured) -> Captured:
        """Return a recorded value without its secrets: the same object if it has none."""
        if value is None:
            return None
        if isinstance(value, str):
            return self.text(value)
        data = bytes(value)
        search = self.search
        if len(data) >= _LONG:
            # If it cannot be read, it is taken as text below.
            with suppress(msgspec.DecodeError, UnicodeDecodeError):
                if self._is_clean_history(data):
                    return value
        if search.is_clean(data):
            return value
        key = hash(data)
        if self.is_clean(key) or not search.passes(data):
            return value
        try:
            with search.taken_apart(data):
                scrubbed = self._json.scrub(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            # The application made this Raw itself, so it may be anything.
            return self.text(data.decode(errors="replace"))
        if scrubbed != data:
            return msgspec.Raw(scrubbed)
        self.add_clean(key)
        return value

    def _is_clean_history(self, data: bytes) -> bool:
        """
        Say whether nothing is in a list of objects, such as messages, or in an object that holds one; raise if the data
        cannot be read.

        What such a list began with before is not looked at again, nor is any of its objects: in a list, what is secret
        in an object depends on that object alone.
        """
        if data.startswith(b"[{"):
            return self._is_clean_list(data)
        if not data.startswith(b"{") or data.find(b":[{") < 0:
            return False
        fields = _fields(data)
        lists = {
            name: bytes(raw)
            for name, raw in fields.items()
            if memoryview(raw).nbytes >= _LONG and bytes(raw).startswith(b"[{")
        }
        # The columns in one field decide what is secret in the rows of another.
        if not lists or self._json.has_columns(fields) or not all(map(self._is_clean_list, lists.values())):
            return False
        rest = msgspec.json.encode({**fields, **dict.fromkeys(lists, _OBJECTS)})
        return len(rest) + sum(map(len, lists.values())) == len(data) + len(lists) * len(
            bytes(_OBJECTS)
        ) and not self._holds(rest)

    def _is_clean_list(self, data: bytes) -> bool:
        if self._beginnings.is_new(data):
            return not self.search.passes(data)
        known = self._beginnings.length(data)
        rest = data
        if known:
            if data[known:] == b"]":
                return True
            rest = b"[" + data[known + 1 :] if data[known : known + 1] == b"," else data
        if not self._is_clean_rest(rest):
            return False
        if len(data) <= _LONGEST:
            self._beginnings.put(data[:-1])
        return True

    def _is_clean_rest(self, data: bytes) -> bool:
        items = _items(data)
        if not data.endswith(b"]"):
            return False
        # All of it at once takes less time than one object after the other, but more than those that are known.
        if (not items or not self.is_clean(hash(bytes(items[0])))) and not self.search.passes(data):
            return True
        with self.search.taken_apart(data):
            for raw in items:
                item = bytes(raw)
                key = hash(item)
                if not self.is_clean(key):
                    if not item.startswith(b"{") or self._holds(item):
                        return False
                    self.add_clean(key)
        return True

    def _holds(self, data: bytes) -> bool:
        """Say whether something is secret in valid JSON."""
        return self.search.part_passes(data) and self._json.scrub(data) != data

    def chunked(self, value: Captured) -> Captured:
        """
        Return what `value` does, for the chunks of a span, which are a JSON list if they are not texts.

        A secret may be split over several chunks. Strings in the same place of each are therefore also searched as one
        text; if that has a secret, all of it goes into the first of them.
        """
        if not isinstance(value, msgspec.Raw):
            return self.value(value)
        try:
            chunks = _any(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self.value(value)
        if not isinstance(chunks, list):
            return self.value(value)
        changed = False
        for parts in places_of_strings(chunks):
            pieces = [container[place] for container, place in parts]
            joined = "".join(pieces)
            scrubbed = self.text(joined)
            if scrubbed != joined:
                changed = True
                for container, place in parts:
                    container[place] = ""
                container, place = parts[0]
                container[place] = scrubbed
        return self.value(joined_json(chunks) if changed else value)

    def text(self, text: str, depth: int = 0) -> str:
        """
        Return `text` without its secrets: the same object if it has none.

        Args:
            depth: The number of JSON values around it.
        """
        if len(text) < self._shortest or (
            self._plain_words and len(text) < LEAST_RUN and text.isalnum() and text.isascii()
        ):
            return text
        try:
            data = text.encode()
        except UnicodeEncodeError:
            text = capture_text(text)
            data = text.encode()
        if self.search.is_clean(data):
            return text
        key = hash(data)
        if self.is_clean(key):
            return text
        scrubbed = self._without_secrets(data, depth)
        if scrubbed != data:
            return scrubbed.decode(errors="replace")
        self.add_clean(key)
        return text

    def _without_secrets(self, data: bytes, depth: int) -> bytes:
        if data.lstrip()[:1] in _OPENINGS:
            with suppress(msgspec.DecodeError, UnicodeDecodeError), self.search.taken_apart(data):
                return self._json.scrub(data, depth + 1)
        return self._plain(data)

    def name(self, name: str, depth: int = 0) -> str:
        """Return what `text` does, for a text that recurs, such as the name of a step or of a field."""
        if name in self.search.clean_names:
            return name
        scrubbed = self.text(name, depth)
        if scrubbed == name:
            self.search.add_clean_name(name)
        return scrubbed

    def named(self, name: str, text: str) -> str:
        """Return the text of a field of that name without its secrets."""
        label = self._keys.label(name)
        if (
            label is None
            or not text
            or is_mark(text, self._labels)
            or is_harmless(self._keys, label, text.encode(errors="replace"))
        ):
            return self.text(text)
        return self._marks.mark(label, text.encode(errors="backslashreplace"))

    def _plain(self, data: bytes) -> bytes:
        """Return text without its secrets, and without its escapes if they hid some."""
        is_escaped = self.search.may_be_escaped(data)
        scrubbed = layer = self._cut(data)
        if not is_escaped:
            return scrubbed
        # In a long text with few escapes, what is around them is looked at first; but what a user's own pattern matches
        # may be longer than that.
        parts = (layer,) if self._patterns else around(layer, escapes(layer))
        if not any(map(self._hides, parts)):
            return scrubbed
        for _ in range(MOST_LAYERS):
            deeper = decoded(layer).decode(errors="replace").encode()
            if deeper == layer:
                break
            layer = self._cut(deeper)
            if layer != deeper:
                scrubbed = layer
        return scrubbed

    def _hides(self, layer: bytes) -> bool:
        """Say whether there is a secret behind the escapes of a text."""
        for _ in range(MOST_LAYERS):
            deeper = decoded(layer).decode(errors="replace").encode()
            if deeper == layer:
                return False
            if self._cut(deeper) != deeper:
                return True
            layer = deeper
        return False

    def _cut(self, data: bytes) -> bytes:
        """Replace what is found in `data` as it is."""
        searched = without_labels(data, self._labels) if _MARK in data else data
        search = self.search
        found = list(search.find(searched))
        if search.may_be_folded(searched) and (folded := fold(searched)) is not None:
            parts = folded.parts_around_changes()
            # If one part is all of it, looking at that first would take the time twice.
            if len(parts) == 1 or any(map(self._finds, parts)):
                found += [
                    (*folded.original(start, end), label) for start, end, label in search.find(folded.data)
                ]
        found.sort()
        if found:
            data = self._replaced(data, found)
        if not self._patterns:
            return data
        text = data.decode(errors="replace")
        for pattern in self._patterns:
            text = self._replaced_in_text(text, pattern)
        return text.encode()

    def _finds(self, data: bytes) -> bool:
        return next(self.search.find(data), None) is not None

    def _replaced(self, data: bytes, found: list[Found]) -> bytes:
        # In Latin-1 each byte is a character, so places are the same.
        marks = marks_in(data.decode("latin-1"), self._labels) if _MARK in data else ()
        pieces: list[bytes] = []
        reached = 0
        for start, end, label in _merged(found):
            mark = mark_at(start, marks)
            if mark is not None:
                if end <= mark[1] or _ENDED.match(data, mark[1]) or not _TEXT.search(data, mark[1], end):
                    continue
                # The value goes on after the mark, and that is secret too.
                start = max(mark[0], reached)
            elif marks and _is_mark_alone(data, start, end, marks):
                continue
            pieces += (data[reached:start], self._marks.mark(label, data[start:end]).encode())
            reached = end
        pieces.append(data[reached:])
        return b"".join(pieces)

    def _replaced_in_text(self, text: str, pattern: Pattern) -> str:
        marks = marks_in(text, self._labels)
        pieces: list[str] = []
        reached = 0
        for start, end in pattern.find(text):
            if start >= reached and not overlaps_mark(start, end, marks):
                pieces += (text[reached:start], self._marks.mark(pattern.name, text[start:end].encode()))
                reached = end
        return "".join((*pieces, text[reached:])) if pieces else text


def _is_mark_alone(data: bytes, start: int, end: int, marks: Sequence[tuple[int, int]]) -> bool:
    """Say whether nothing but a mark is in a part, with brackets and quotes around it."""
    return any(
        start <= begin
        and stop <= end
        and _TEXT.search(data, start, begin) is None
        and _TEXT.search(data, stop, end) is None
        for begin, stop in marks[bisect_left(marks, (start, 0)) :][:1]
    )


def _merged(found: list[Found]) -> Iterator[Found]:
    """Return what was found without overlaps: the first of those that overlap, extended to the end of the last."""
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
