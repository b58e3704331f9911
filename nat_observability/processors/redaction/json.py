"""JsonScrubber: replaces what is secret in JSON, which otherwise stays as it was, byte by byte."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from nat_observability.processors.redaction.forms.argument_lists import find_in_words, is_command
from nat_observability.processors.redaction.marks import Marks, is_mark
from nat_observability.processors.redaction.names.keys import LIKELY, UNSURE, KeyMatcher
from nat_observability.processors.redaction.values.verdicts import (
    is_harmless,
    is_harmless_structure,
    is_strong,
)

_MAX_DEPTH = 48  # of JSON in JSON, including strings that hold JSON
_BEFORE_COMMAND = 8  # words, such as sudo and its options
_TOO_DEEP = b'"[redacted:too_deep]"'
_QUOTE, _BRACKET = ord('"'), ord("[")
_SURE_NAMES = frozenset(("name", "key", "Name", "Key", "header", "k"))
_NOT_IN_WORDS = re.compile(r"[^\w-]+")
_OF_FORMS = frozenset((
    "input", "field", "textbox", "box", "text", "type", "form", "the", "of", "div", "label", "id", "name", "class",
))  # fmt: skip
_MARK = b"[redacted:"
_TELLS_NOTHING = frozenset((b"null", b"true", b"false", b'""', b"[]", b"{}"))
_NAMES = (
    "name", "key", "Name", "Key", "header", "field", "label", "selector", "id", "element", "placeholder", "locator",
    "target", "param", "parameter", "property", "variable", "setting", "title", "Field", "Label", "css", "xpath", "ref",
    "column", "k",
)  # fmt: skip
_VALUES = (
    "value", "Value", "val", "text", "content", "input", "input_text", "keys", "data", "body", "Text", "Val", "v",
)  # fmt: skip
# Columns of a table beside its rows, as databases and data frames answer.
_HEADS = (
    "columns", "column_names", "columnNames", "cols", "header", "headers", "fields", "field_names", "names", "keys",
    "schema", "head", "thead", "labels", "Columns", "index",
)  # fmt: skip
_ROWS = frozenset((
    "row", "rows", "values", "data", "records", "record", "result", "results", "body", "tbody", "items", "tuples",
    "tuple", "cells", "Rows", "sample", "samples", "examples",
))  # fmt: skip
_NAMES_OF_COLUMNS = ("name", "column", "column_name", "columnName", "field", "key", "label", "title", "id")

# What is private in a key of JSON Web Key.
_PRIVATE = frozenset(("d", "p", "q", "dp", "dq", "qi", "k"))
# A token of a model, not of a service.
_BESIDE_WORDS = frozenset(
    (
        "logprob",
        "logprobs",
        "top_logprobs",
        "bytes",
        "score",
        "entity",
        "label",
        "token_id",
        "probability",
        "prob",
    )
)
_SCHEMA = re.compile(
    rb"""\{(?:[^{}]{0,512},)?\s*"(?:type"\s*:\s*(?:\[\s*)?"(?:string|object|array|number|integer|bo"""
    rb"""olean|null|apiKey|http|oauth2)"|\$ref"|anyOf"|oneOf"|allOf")"""
)
# {"value": "x", "type": "string"} describes no value, but is one.
_HOLDS_VALUE = re.compile(rb'"(?:value|current|plaintext|secret_?value)"\s*:\s*"[^"]')
_LARGE = 512  # bytes: the prefilter takes less time than decoding
_WITH_TEXT = b'{["'
_LONGEST_NAME = 256  # bytes
_CODE = re.compile(rb'"(?=[^"]*[0-9A-Z])[^"\s]{6,512}"')  # and not "invalid_grant", or a status
_FLAT_NAME = re.compile(rb'"[A-Za-z][\w.:-]{0,64}"')
_DIGITS = re.compile(rb'"?[0-9]{7,19}"?')
_NOT_A_WORD = re.compile(rb"[^A-Za-z_ -]")
_MOST_FLAT = 256  # names and values in turn
_LONGEST_HEAD = 16 * 1024  # bytes of the names of columns

# A dict or a list, and the key or index of a string in it.
Place = tuple[Any, str | int]

_encode = msgspec.json.Encoder().encode
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_string = msgspec.json.Decoder(str).decode
_any = msgspec.json.Decoder().decode
# The number of keys, counting equal ones.
_count = json.JSONDecoder(object_pairs_hook=len, parse_int=str, parse_float=str).decode


class JsonScrubber:
    """
    Replaces the values of secret names in JSON, and what is secret in its strings.

    Args:
        keys: Says which names are secret.
        marks: Makes what replaces a secret.
        labels: The labels of marks that may already be there.
        text: Takes a string and the depth, and returns the string without its secrets.
        name: Does the same for the name of a field.
        number: Does the same for encoded numbers; None if they stay.
        passes: Says whether encoded JSON can hold anything to redact.
    """

    __slots__ = ("_keys", "_labels", "_marks", "_name", "_number", "_passes", "_text")

    def __init__(
        self,
        *,
        keys: KeyMatcher,
        marks: Marks,
        labels: Collection[str],
        text: Callable[[str, int], str],
        name: Callable[[str, int], str],
        number: Callable[[bytes], bytes] | None,
        passes: Callable[[bytes], bool],
    ) -> None:
        self._keys, self._marks, self._labels = keys, marks, labels
        self._text, self._name, self._number, self._passes = text, name, number, passes

    def scrub(self, data: bytes, depth: int = 0) -> bytes:
        """
        Return JSON without its secrets: `data` if it has none.

        Args:
            depth: The number of JSON values around it.

        Raises:
            msgspec.DecodeError: It is not JSON.
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
            scrubbed = self._text(text, depth)
            return data if scrubbed == text else _encode(scrubbed)
        # A number, true, false or null: personal data at most.
        if depth == 0:
            _any(data)
        if self._number is not None:
            cut = self._number(data)
            if cut != data:
                return _encode(cut.decode())
        return data

    def _object(self, data: bytes, depth: int) -> bytes:
        fields = _fields(data)
        changed = False
        scrubbed: dict[str, msgspec.Raw] = {}
        named = self._label_of_value(fields)
        columns = self._columns_beside(fields)
        for key, raw in fields.items():
            value = bytes(raw)
            label = self._keys.label(key)
            beside: Collection[str] = fields
            if label is None and named is not None and key in _VALUES:
                label, beside = named, ()
            if label is None and key in _PRIVATE and "kty" in fields and value[0] == _QUOTE:
                label = "private_key"
            elif (
                label is None
                and key == "code"
                and "grant_type" in fields
                and _CODE.fullmatch(value) is not None
            ):
                label = "authorization_code"
            if label is not None and self._is_harmless(label, value, beside, key):
                label = None
            if columns and label is None and key in _ROWS and value[:1] == b"[":
                new = self._rows(value, columns, depth)
            else:
                new = self._field(key, value, depth) if label is None else self._marked(label, value)
            new_key = self._name(key, depth)
            changed = changed or new != value or new_key != key
            scrubbed[new_key] = msgspec.Raw(new)
        # Of equal keys only the last was searched, which is also the one that readers of JSON take.
        return _encode(scrubbed) if changed or _has_equal_keys(data, fields) else data

    def _is_harmless(self, label: str, value: bytes, fields: Collection[str], name: str = "") -> bool:
        """Say whether the value of a secret name is not secret."""
        if value[0] == _QUOTE:
            text = _string(value)
            if label.endswith("token") and not _BESIDE_WORDS.isdisjoint(fields):
                return True
            return len(value) <= _LONGEST_NAME * 8 and is_harmless(
                self._keys, label, text.encode(errors="replace"), name=name.encode(errors="replace")
            )
        if label == UNSURE and value[0] == _BRACKET:
            # Forms and headers have a list of values for each name.
            values = [bytes(raw) for raw in _items(value)]
            return len(values) != 1 or values[0][0] != _QUOTE or self._is_harmless(label, values[0], ())
        if label in (UNSURE, LIKELY):
            return True
        if value[0] in _WITH_TEXT:
            return (_SCHEMA.match(value) is not None and _HOLDS_VALUE.search(value, 0, _LARGE) is None) or (
                len(value) <= _LONGEST_NAME * 8 and is_harmless_structure(self._keys, label, _any(value))
            )
        return is_harmless(self._keys, label, value)

    def _label_of_value(self, fields: dict[str, msgspec.Raw]) -> str | None:
        """Return the label for the value in {"name": "password", "value": "x"}."""
        if not any(key in fields for key in _VALUES):
            return None
        for key in _NAMES:
            name = bytes(fields.get(key, b""))
            if name.startswith(b'"') and len(name) <= _LONGEST_NAME:
                label = self._named(_string(name), is_loose=key not in _SURE_NAMES)
                if label is not None:
                    return label
        return None

    def _named(self, name: str, *, is_loose: bool) -> str | None:
        """Return the label of a name that is the value of a field, or of what it describes: #password."""
        label = self._keys.label(name)
        if label is not None or not is_loose:
            return label
        words = [word for word in _NOT_IN_WORDS.split(name) if word and word.lower() not in _OF_FORMS]
        for count in range(min(4, len(words)), 0, -1):
            label = self._keys.label(" ".join(words[-count:]))
            if label is not None and label != UNSURE:
                return label
        return None

    def _array(self, data: bytes, depth: int) -> bytes:
        items = [bytes(raw) for raw in _items(data)]
        columns = self._columns_of_first(items)
        if columns:
            return self._rows(data, columns, depth)
        is_flat = _is_flat(items)
        scrubbed: list[msgspec.Raw] = []
        changed = False
        label: str | None = None
        for index, value in enumerate(items):
            if label is not None and self._is_harmless(label, value, ()):
                label = None
            new = self._part(value, depth) if label is None else self._marked(label, value)
            label = None
            if is_flat and index % 2 == 0:
                label = self._label_of_flat(value, items[index + 1])
            elif (
                len(value) <= _LONGEST_NAME
                and _MARK not in value
                and (value.startswith(b'"--') or (index == 0 and len(items) == 2 and value.startswith(b'"')))
            ):
                # ["--password", "x"], ["password", "x"]
                name = _string(value)
                if len(items) == 2 or (name.startswith("--") and "=" not in name):
                    label = self._keys.label(name.lstrip("-"))
                    if label in (UNSURE, LIKELY) and not name.startswith("--"):
                        is_password = (
                            label == UNSURE and index + 1 < len(items) and is_strong(items[index + 1])
                        )
                        label = UNSURE if is_password else None  # ["pass", "fail"]
            changed = changed or new != value
            scrubbed.append(msgspec.Raw(new))
        for index, new in self._arguments([bytes(raw) for raw in scrubbed]):
            changed = True
            scrubbed[index] = msgspec.Raw(new)
        return _encode(scrubbed) if changed else data

    def _arguments(self, items: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
        """Return what changes in ["mysql", "-px1"], by its places."""
        first = next((at for at, item in enumerate(items[:_BEFORE_COMMAND]) if is_command(item[1:-1])), None)
        if first is None:
            return
        words = [_string(item).encode() if item[0] == _QUOTE else item for item in items[first:]]
        reached = (len(words), 0)
        # From the last to the first, so that the places of those before stay what they are.
        for number, start, end, label in sorted(find_in_words(words, self._keys), reverse=True):
            word = words[number]
            if (number, end) <= reached and not word.startswith(b"[redacted:", start):
                reached = number, start
                words[number] = word[:start] + self._marks.mark(label, word[start:end]).encode() + word[end:]
                yield first + number, _encode(words[number].decode(errors="replace"))

    def _label_of_flat(self, name: bytes, value: bytes) -> str | None:
        """Return the label of a value in ["user", "bob", "password", "x1"], unless it may be a further name."""
        label = self._keys.label(_string(name)) if _NOT_A_WORD.search(value, 1, len(value) - 1) else None
        return None if label in (UNSURE, LIKELY) else label

    def has_columns(self, fields: dict[str, msgspec.Raw]) -> bool:
        """Say whether one field of an object names secret columns, whose values are in the rows of another."""
        return bool(self._columns_beside(fields))

    def _columns_beside(self, fields: dict[str, msgspec.Raw]) -> dict[int, str]:
        """Return the labels of the columns in {"columns": ["user", "password"], "rows": [...]}, by their places."""
        if _ROWS.isdisjoint(fields):
            return {}
        for key in _HEADS:
            head = bytes(fields.get(key, b""))
            if head.startswith(b"[") and len(head) <= _LONGEST_HEAD:
                found = self._columns(_any(head))
                if found:
                    return found
        return {}

    def _columns_of_first(self, items: Sequence[bytes]) -> dict[int, str]:
        """Return the labels of the columns if the first of several rows has their names."""
        if (
            len(items) < 2
            or not all(item.startswith(b"[") for item in items[:2])
            or len(items[0]) > _LONGEST_HEAD
        ):
            return {}
        names = _any(items[0])
        if len(names) < 2 or not all(isinstance(name, str) for name in names):
            return {}
        found = self._columns(names)
        # [["password", "x"], ["user", "y"]] are pairs.
        is_pair = len(names) == 2 and 0 in found
        return {} if is_pair or any(len(_items(item)) != len(names) for item in items[1:3]) else found

    def _columns(self, names: Sequence[Any]) -> dict[int, str]:
        found: dict[int, str] = {}
        for index, name in enumerate(names):
            each = name
            if isinstance(name, dict):
                each = next((name[key] for key in _NAMES_OF_COLUMNS if isinstance(name.get(key), str)), None)
            elif isinstance(name, list) and name:
                each = name[0]
            label = self._keys.label(each) if isinstance(each, str) and len(each) <= _LONGEST_NAME else None
            if label is not None:
                found[index] = label
        return found

    def _rows(self, data: bytes, columns: Mapping[int, str], depth: int) -> bytes:
        """Return rows, or one, without the values of secret columns."""
        rows = [bytes(raw) for raw in _items(data)]
        if not any(row.startswith(b"[") for row in rows):
            return self._row(data, columns, depth)
        new = [
            self._row(row, columns, depth + 1) if row.startswith(b"[") else self._part(row, depth)
            for row in rows
        ]
        return data if new == rows else _encode([msgspec.Raw(row) for row in new])

    def _row(self, data: bytes, columns: Mapping[int, str], depth: int) -> bytes:
        cells = [bytes(raw) for raw in _items(data)]
        new: list[bytes] = []
        for index, cell in enumerate(cells):
            label = columns.get(index)
            is_name = (
                cell.startswith(b'"')
                and len(cell) <= _LONGEST_NAME
                and self._keys.label(_string(cell)) == label
            )
            if label is None or is_name or self._is_harmless(label, cell, ()):
                new.append(self._part(cell, depth))
            else:
                new.append(self._marked(label, cell))
        return data if new == cells else _encode([msgspec.Raw(cell) for cell in new])

    def _field(self, key: str, value: bytes, depth: int) -> bytes:
        """Return the value of a name that is not secret, without what is personal in digits under such a name."""
        if self._number is not None and _DIGITS.fullmatch(value) is not None:
            name = key.encode(errors="replace") + b": "
            cut = self._number(name + value.strip(b'"'))
            if cut.startswith(name) and cut[len(name) :] != value.strip(b'"'):
                return _encode(cut[len(name) :].decode())
        return self._part(value, depth)

    def _part(self, value: bytes, depth: int) -> bytes:
        if value[0] not in _WITH_TEXT and self._number is None:
            return value
        if len(value) >= _LARGE and not self._passes(value):
            return value
        return self.scrub(value, depth + 1)

    def _marked(self, label: str, value: bytes) -> bytes:
        """Return the mark for all of a JSON value."""
        if value in _TELLS_NOTHING:
            return value
        secret = value
        if value.startswith(b'"'):
            text = _string(value)
            if is_mark(text, self._labels):
                return value
            secret = text.encode()
        return _encode(self._marks.mark(label, secret))


def _is_flat(items: Sequence[bytes]) -> bool:
    """Say whether items may be names and values in turn."""
    return (
        4 <= len(items) <= _MOST_FLAT
        and len(items) % 2 == 0
        and all(item.startswith(b'"') for item in items)
        and all(_FLAT_NAME.fullmatch(item) is not None for item in items[::2])
    )


def places_of_strings(chunks: list[Any]) -> Sequence[Sequence[Place]]:
    """Return the strings that have the same place in several chunks, each with what contains it."""
    places: dict[tuple[str | int, ...], list[Place]] = {}
    for index in range(len(chunks)):
        _collect(chunks, index, (), places)
    return list(places.values())


def _collect(
    container: Any,
    place: str | int,
    path: tuple[str | int, ...],
    places: dict[tuple[str | int, ...], list[Place]],
) -> None:
    """Put each string under its path inside the chunk."""
    value = container[place]
    if isinstance(value, str):
        places.setdefault(path, []).append((container, place))
    elif isinstance(value, dict):
        for key in value:
            _collect(value, key, (*path, key), places)
    elif isinstance(value, list):
        for index in range(len(value)):
            _collect(value, index, (*path, index), places)


def _has_equal_keys(data: bytes, fields: dict[str, msgspec.Raw]) -> bool:
    """Say whether an object has equal keys, of which `fields` has only one."""
    once = _encode(fields)
    if len(data) == len(once) or len(msgspec.json.format(data, indent=-1)) == len(
        msgspec.json.format(once, indent=-1)
    ):
        return False
    # A key with an escape that it does not need is longer too.
    return b"\\" not in data or _count(data.decode()) != len(fields)
