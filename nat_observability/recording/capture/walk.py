"""Walk: copies any object graph into what JSON can hold, within a number of visits and of bytes."""

from __future__ import annotations

import array
import codecs
import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import itertools
import math
import re
import types
import uuid
from collections import deque
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Final

import msgspec

from nat_observability.errors import reraise_signal
from nat_observability.recording.capture.plain import CONTAINERS, MAX_BYTES, MAX_NODES, plain_json
from nat_observability.recording.capture.web import (
    is_scope,
    is_web_class,
    looks_like_web,
    scope_summary,
    web_summary,
)

# What is left for the values behind one that would take all.
_RESERVED_NODES = 10_000
_RESERVED_BYTES = 64 * 1024
_LARGE = 1024  # items or characters: what may not take of the reserve
_TRIES = 2  # to encode what is in a container at once, which cost the time of it where they fail
_MAX_DEPTH = 32
_MAX_REPR = 1024
_MAX_ITEMS = 1024  # of an array that is recorded in full
_MAX_COLUMNS = 256
_LONGEST_SECRET = 4096  # characters; a private key of 4096 bits has 3300

# Visits that a value is charged with, by how long it takes in comparison to a number in a list: one is about 100 ns.
_VALUE = 10
_KEY = 6
_PLAIN = 10
_CONTAINER = 30
_OBJECT = 50
_MODEL = 200
_OPAQUE = 60
_RAISED = 200
_FAILED = 1000
_BITS = 8  # of a long integer, for each visit
_PIECE = 512  # items of a list that are looked at together

_LEAVES = frozenset({str, int, float, bool, type(None)})
_NUMBERS = frozenset({int, float, bool, type(None)})
_INTEGERS = {int}
_LONG = 1 << 128
_BYTES = (bytes, bytearray, memoryview)
_SEQUENCES = (list, tuple, set, frozenset, deque)
_VIEWS = (KeysView, ValuesView, ItemsView)
_TIMES = (datetime.datetime, datetime.date, datetime.time, datetime.timedelta)
_NATIVE = frozenset({*_TIMES, decimal.Decimal, uuid.UUID})
_BUILTIN = (str, int, float, list, tuple, dict, *_BYTES)
_HIDDEN = "<hidden>"
_SEEN = "<seen above>"
_RECURSIVE = "<recursive>"

# What a repr shows in the place of a secret.
_MASK = re.compile(r"\*{3}|[\u2022\u25cf\u25cb\u2588]{3}|(?i:<hidden>|redacted|\[secure\]|<secret>)")
# Whose reprs show all fields, and are not worth a call.
_PLAIN_REPRS = (
    "builtins",
    "collections",
    "dataclasses",
    "enum",
    "msgspec",
    "pydantic",
    "types",
    "typing",
    "_collections_abc",
)
# Of what these make, pydantic's own serializers know the form.
_SERIALIZED = (
    "ipaddress",
    "pathlib",
    "pydantic.networks",
    "pydantic.types",
    "pydantic_core",
    "uuid",
)

# Without a hook for unknown objects: it would run Python code, an application's `__repr__` for example, while the
# encoder walks through a list or dict, and if that code or another thread changes the list the process crashes.
_encode = msgspec.json.Encoder().encode

_How = Callable[["Walk", Any, int], Any]


class Walk:
    """
    One capture: what it has visited, and what it may still visit.

    Looks at types and not at `isinstance`, and calls the methods of built-in types by their name, because a subclass
    may raise there. What has been walked through appears once; a mark stands where it comes again. What is left out
    is marked with its size, as the `Truncator` does it: `[cut:12345]`, characters of a text, items, fields.
    """

    __slots__ = ("_above", "_bytes", "_nodes", "_seen", "_tries")

    def __init__(self) -> None:
        self._nodes = MAX_NODES
        self._bytes = MAX_BYTES
        self._tries = _TRIES
        self._above: set[int] = set()  # the ids of the containers around the value
        # By their ids, which belong to other objects as soon as nothing keeps these alive.
        self._seen: dict[int, object] = {}

    def value(self, value: Any, depth: int = 0) -> Any:
        """Return a copy of `value` that can be encoded. Never raises, except what a signal handler raised."""
        kind = type(value)
        self._nodes -= _VALUE
        if value is None or kind is bool:
            return value
        if kind is str:
            return self.text(value)
        try:
            return _how(kind)(self, value, depth)
        except BaseException as error:  # noqa: BLE001  foreign code: whatever the object does when it is looked at
            reraise_signal(error)
            self._nodes -= _FAILED
            return self._opaque(value)

    def text(self, text: str) -> str:
        """Return an exact `str` as UTF-8 can hold it, in the length that is left."""
        left = self._bytes
        if len(text) > _LARGE:
            left = max(0, left - _RESERVED_BYTES)
        kept = cut_text(text, left)
        self._bytes -= len(kept) if kept.isascii() else len(kept.encode())
        return kept

    # -- What is a container -----------------------------------------------------------------------------------------

    def _inside(self, value: Any, depth: int, copy: Callable[[Any, int], Any]) -> Any:
        """Return what `copy` makes of a container, unless it is too deep or has been seen."""
        key = id(value)
        if key in self._above:
            return _RECURSIVE
        if key in self._seen:
            return _SEEN
        if depth >= _MAX_DEPTH:
            return "<too deep>"
        self._nodes -= _CONTAINER
        self._seen[key] = value
        self._above.add(key)
        try:
            return copy(value, depth + 1)
        finally:
            self._above.discard(key)

    def _room(self, count: int) -> int:
        """Return how many of so many items there is room for."""
        left = self._nodes if count <= _LARGE else self._nodes - _RESERVED_NODES
        return count if count <= left else max(0, left)

    def _plain(self, value: Any, depth: int) -> msgspec.Raw | None:
        """Return a container of plain data, None if it is anything else. It may come again, as other data may."""
        if depth == 0 or type(value) not in CONTAINERS:
            return None  # at the top it has been tried
        left = self._bytes - _RESERVED_BYTES
        data = plain_json(value, left, max(0, self._nodes) // 4, small=self._tries <= 0)
        if data is None or len(data) > left:
            self._tries -= 1
            return None
        self._bytes -= len(data)
        self._nodes -= _PLAIN + data.count(b",")  # no fewer than the values in it
        return msgspec.Raw(data)

    def _list(self, value: Any, depth: int) -> Any:
        plain = self._plain(value, depth)
        return self._inside(value, depth, self._items) if plain is None else plain

    def _items(self, value: Any, depth: int) -> list[Any]:
        kind = type(value)
        count = _length(kind)(value)
        room = self._room(count)
        # A copy first: what the items do while they are looked at may change the container that they come from.
        if issubclass(kind, list):
            items = list.__getitem__(value, slice(room))
        elif issubclass(kind, tuple):
            items = list(tuple.__getitem__(value, slice(room)))
        else:
            items = _first(lambda: _iterator(value), room)
        copies: list[Any] = []
        add = copies.append
        for start in range(0, len(items), _PIECE):
            piece = items[start : start + _PIECE]
            kinds = set(map(type, piece))
            if kinds <= _NUMBERS and self._nodes >= len(piece) and (int not in kinds or _are_short(piece, kinds)):
                self._nodes -= len(piece)
                copies += piece
                continue
            for item in piece:
                if self._nodes <= 0 or self._bytes <= 0:
                    break
                add(self.value(item, depth))
        if len(copies) < count:
            add(f"[cut:{count}]")
        return copies

    def _dict(self, value: Any, depth: int) -> Any:
        if dict.__contains__(value, "path") or dict.__contains__(value, "REQUEST_METHOD"):
            scope = dict(_text_items(value))
            if is_scope(scope):
                return self.value(scope_summary(scope), depth)
        plain = self._plain(value, depth)
        return self._inside(value, depth, self._dict_fields) if plain is None else plain

    def _dict_fields(self, value: Any, depth: int) -> Any:
        shown = self._masked(value)
        return self._fields(dict.items(value), dict.__len__(value), depth) if shown is None else shown

    def _mapping(self, value: Any, depth: int) -> Any:
        def copy(value: Any, depth: int) -> Any:
            items, count = value.items(), len(value)
            return self._fields(items, count, depth)

        return self._inside(value, depth, copy)

    def _fields(self, items: Iterable[tuple[object, object]], count: int, depth: int) -> dict[str, Any]:
        room = min(self._room(count), max(0, self._nodes) // _KEY)
        copies: dict[str, Any] = {}
        again: set[str] = set()
        taken = 0
        for key, item in _first(lambda: items, room):
            if self._nodes <= 0 or self._bytes <= 0:
                break
            name, copy = self._key(key), self.value(item, depth)
            taken += 1
            if name in copies:
                # Collections of headers have a name more than once, and so has {1: "a", "1": "b"}.
                if name not in again:
                    again.add(name)
                    copies[name] = [copies[name]]
                copies[name].append(copy)
                continue
            copies[name] = copy
        if taken < count:
            copies["[cut]"] = f"[cut:{count}]"
        return copies

    def _key(self, key: object) -> str:
        self._nodes -= _KEY
        if type(key) is str:
            return self.text(key)
        if isinstance(key, enum.Enum):
            key = key._value_
        if isinstance(key, str):
            return self.text(str.__str__(key))
        if isinstance(key, _BYTES):
            return str(self._buffer(key, 0))
        return self._repr(key)

    # -- What has fields ---------------------------------------------------------------------------------------------

    def _object(self, value: Any, depth: int, names: Callable[[Any], Iterable[tuple[object, object]]]) -> Any:
        self._nodes -= _OBJECT
        shown = self._masked(value)
        if shown is not None:
            return shown

        def copy(value: Any, depth: int) -> Any:
            fields = list(names(value))
            return self._fields(fields, len(fields), depth)

        return self._inside(value, depth, copy)

    def _named_tuple(self, value: Any, depth: int) -> Any:
        if hasattr(type(value), "geturl"):
            return self.value(value.geturl(), depth)
        return self._object(
            value,
            depth,
            lambda value: zip(type(value)._fields, tuple.__iter__(value), strict=False),
        )

    def _dataclass(self, value: Any, depth: int) -> Any:
        return self._object(value, depth, _dataclass_fields)

    def _attrs(self, value: Any, depth: int) -> Any:
        return self._object(value, depth, _attrs_fields)

    def _struct(self, value: Any, depth: int) -> Any:
        return self._object(
            value,
            depth,
            lambda value: ((name, getattr(value, name)) for name in type(value).__struct_fields__),
        )

    def _row(self, value: Any, depth: int) -> Any:
        return self._object(value, depth, lambda value: value._mapping.items())

    def _model(self, value: Any, depth: int) -> Any:
        self._nodes -= _MODEL
        shown = self._masked(value)
        if shown is not None:
            return shown
        return self._inside(value, depth, self._model_fields)

    def _model_fields(self, value: Any, depth: int) -> Any:
        kind: Any = type(value)
        if not isinstance(getattr(kind, "model_fields", None), dict):
            if holds_generator(value):
                return self._opaque(value)
            return self.value(value.model_dump(mode="json", warnings=False), depth)
        scan = _Scan(self._nodes, self._bytes)
        if scan.simple(value):
            try:
                dumped = value.model_dump(mode="python" if scan.has_bytes else "json", warnings=False)
                if scan.has_bytes:
                    return self.value(dumped, depth)
                data = _encode(dumped)
            except BaseException as error:  # noqa: BLE001  foreign code: serializers, and what pydantic does not know
                reraise_signal(error)
            else:
                if len(data) <= self._bytes:
                    self._nodes = scan.nodes
                    self._bytes -= len(data)
                    return msgspec.Raw(data)
        how = _model_info(kind)
        if how.whole and not holds_generator(value):
            return self.value(value.model_dump(warnings=False), depth)
        extra = getattr(value, "__pydantic_extra__", None)
        fields = [*value.__dict__.items(), *(extra.items() if isinstance(extra, dict) else ())]
        shown_fields: list[tuple[object, object]] = []
        for name, item in fields:
            if name in how.excluded:
                continue
            if name in how.hidden:
                item = _HIDDEN
            elif name in how.serialized and not holds_generator(item):
                item = value.model_dump(include={name}, warnings=False).get(name, _HIDDEN)
            shown_fields.append((name, item))
        return self._fields(shown_fields, len(shown_fields), depth)

    # -- What is recorded by a summary -------------------------------------------------------------------------------

    def _web(self, value: Any, depth: int) -> Any:
        self._nodes -= _OPAQUE
        return self.value(web_summary(value), depth)

    def _cookies(self, value: Any, depth: int) -> Any:
        names = [getattr(each, "name", each) for each in itertools.islice(iter(value), _MAX_COLUMNS)]
        return self._summary(value, depth, names=[self._key(each) for each in names])

    def _frame(self, value: Any, depth: int) -> Any:
        columns = list(itertools.islice(value.columns, _MAX_COLUMNS))
        return self._summary(
            value, depth, shape=list(value.shape), columns=[self._key(each) for each in columns]
        )

    def _array(self, value: Any, depth: int) -> Any:
        shape = value.shape
        if isinstance(shape, tuple | list) and math.prod(map(int, shape)) <= _MAX_ITEMS:
            return self._converted(value, depth)
        return self._summary(value, depth, dtype=str(value.dtype), shape=[int(each) for each in shape])

    def _array_array(self, value: Any, depth: int) -> Any:
        if value.typecode in "uw":
            return self.text(value[: MAX_BYTES + 1].tounicode())
        if value.typecode in "bB":
            text = self._buffer(value, depth)
            if type(text) is str and text.isprintable():
                return text
        if len(value) > _MAX_ITEMS:
            return self._summary(value, depth, dtype=value.typecode, shape=[len(value)])
        return self.value(value.tolist(), depth)

    def _buffer(self, value: Any, depth: int) -> Any:
        self._nodes -= _CONTAINER
        with memoryview(value) as view:
            if view.ndim != 1 or view.format not in ("B", "b", "c"):
                if view.nbytes <= _MAX_ITEMS and view.ndim <= 1:
                    return self.value(view.tolist(), depth)
                return self._summary(value, depth, dtype=view.format, shape=list(view.shape or ()))
            size = view.nbytes
            head = view[: MAX_BYTES + 1].tobytes()
        try:
            text, _ = codecs.utf_8_decode(head, "strict", size <= len(head))
        except UnicodeDecodeError:
            return f"<{size} bytes>"
        if size > len(head):
            # The mark counts all of it, the text is what has been looked at.
            kept = cut_text(text, min(len(text) - 1, max(0, self._bytes - _RESERVED_BYTES)))
            text = f"{kept[: kept.rindex('[cut:')]}[cut:{size}]"
            self._bytes -= len(text.encode())
            return text
        return self.text(text)

    def _summary(self, value: object, depth: int, **facts: Any) -> Any:
        return self.value({"__type__": class_name(type(value)), **facts}, depth)

    def _converted(self, value: Any, depth: int) -> Any:
        for method in ("tolist", "isoformat"):
            convert = getattr(type(value), method, None)
            converted = convert(value) if callable(convert) else None
            # What a mock returns is another mock, and so on.
            if isinstance(converted, _BUILTIN):
                return self._inside(value, depth, functools.partial(self._other, converted))
        return self._opaque(value)

    def _other(self, converted: Any, _: Any, depth: int) -> Any:
        return self.value(converted, depth)

    def _enum(self, value: Any, depth: int) -> Any:
        return self.value(value._value_, depth + 1) if depth < _MAX_DEPTH else "<too deep>"

    def _string(self, value: Any, depth: int) -> Any:
        return self.text(str.__str__(value))

    def _integer(self, value: Any, depth: int) -> Any:
        number = int.__index__(value)
        self._nodes -= number.bit_length() // _BITS
        try:
            self._bytes -= len(_encode(number))
        except ValueError:  # too many digits for Python to print, see sys.set_int_max_str_digits
            return f"<integer of {number.bit_length()} bits>"
        return number

    def _float(self, value: Any, depth: int) -> Any:
        number = float.__float__(value)
        return number if math.isfinite(number) else None

    def _encoded(self, value: Any, depth: int) -> Any:
        self._bytes -= 40
        return msgspec.Raw(_encode(value))

    def _raw(self, value: Any, depth: int) -> Any:
        with memoryview(value) as view:
            size = view.nbytes
        if size > self._bytes:
            return f"[cut:{size}]"
        self._bytes -= size
        return value

    def _proxy(self, value: Any, depth: int) -> Any:
        return self.value(value._get_current_object(), depth + 1) if depth < _MAX_DEPTH else "<too deep>"

    def _data(self, value: Any, depth: int) -> Any:
        return self._inside(value, depth, lambda value, depth: self.value(value.data, depth))

    def _partial(self, value: Any, depth: int) -> Any:
        # Its repr is as long as those of all its arguments.
        parts = {"function": value.func, "args": value.args, "keywords": value.keywords}
        return self._inside(value, depth, lambda _, depth: self._fields(parts.items(), len(parts), depth))

    def _namespace(self, value: Any, depth: int) -> Any:
        return self._object(value, depth, lambda value: value.__dict__.items())

    def _method(self, value: Any, depth: int) -> Any:
        # Its repr has that of its object in it.
        return {"__type__": "method", "__repr__": self.text(f"<method {capture_name(value.__func__)}>")}

    def _opaque(self, value: object, depth: int = 0) -> Any:
        self._nodes -= _OPAQUE
        try:
            if looks_like_web(value):
                return self.value(web_summary(value), depth)
        except BaseException as error:  # noqa: BLE001  foreign code: its properties
            reraise_signal(error)
        return {"__type__": self.text(class_name(type(value))), "__repr__": self._repr(value)}

    def _masked(self, value: object) -> str | None:
        """Return the repr of an object with fields if it masks something, None otherwise."""
        for name in _own_methods(type(value)):
            self._nodes -= _OPAQUE
            try:
                shown = repr(value) if name == "__repr__" else str(value)
            except BaseException as error:  # noqa: BLE001  foreign code
                reraise_signal(error)
                self._nodes -= _RAISED
                continue
            if _MASK.search(shown, 0, MAX_BYTES):
                return self.text(cut_text(str.__str__(shown), _MAX_REPR))
        return None

    def _repr(self, value: object) -> str:
        self._nodes -= _OPAQUE
        try:
            return self.text(cut_text(str.__str__(repr(value)), _MAX_REPR))
        except BaseException as error:  # noqa: BLE001  foreign code: a __repr__ of the application's
            reraise_signal(error)
            self._nodes -= _RAISED
            return f"repr raised {class_name(type(error))}"


def _first(items: Callable[[], Iterable[Any]], count: int) -> list[Any]:
    """Return the first items; again if another thread changed the container between two instructions."""
    for _ in range(100):
        try:
            return list(itertools.islice(items(), count))
        except RuntimeError:
            continue
    return list(itertools.islice(items(), count))


def _are_short(numbers: list[Any], kinds: set[type]) -> bool:
    """Return whether no integer may have more digits than Python prints."""
    if kinds == _INTEGERS:
        return min(numbers) > -_LONG and max(numbers) < _LONG
    return all(type(each) is not int or each.bit_length() < 128 for each in numbers)


def cut_text(text: str, most: int) -> str:
    """
    Return an exact `str` as UTF-8 can hold it, in at most so many bytes (characters, if it was not too long).

    Where it was longer a mark like `[cut:12345]` says of how many characters.
    """
    kept = text[:most]
    following = text[most : most + 1]
    if kept.isascii():
        if not following:
            return kept
    else:
        # It may take more bytes than characters. A repr is measured in characters.
        encoded = utf8_text(kept).encode()
        if len(encoded) <= most or most <= _MAX_REPR:
            kept = encoded.decode()
            if not following:
                return kept
        else:
            kept = encoded[:most].decode("utf-8", "ignore")
            following = "x"
    if kept and not (kept[-1].isspace() or following.isspace()):
        # The word at the cut goes as a whole: nothing that looks for secrets would know the half of one.
        tail = kept[-_LONGEST_SECRET:]
        words = tail.split()
        kept = kept[: -len(words[-1])]
    return f"{kept}[cut:{len(text)}]"


def utf8_text(text: str) -> str:
    """Return `text` with lone surrogates, which UTF-8 cannot hold, as backslash escapes."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def class_name(kind: type) -> str:
    """Return the qualified name of a class, whatever its metaclass does."""
    return utf8_text(str.__str__(type.__dict__["__qualname__"].__get__(kind)))


def capture_name(function: object) -> str:
    """Return the qualified name of a function."""
    name = getattr(function, "__qualname__", None)
    return utf8_text(name) if type(name) is str else class_name(type(function))


def holds_generator(*values: Any) -> bool:
    """
    Whether there may be a generator in what pydantic looks into when it serializes: it would consume it.

    Also true if there is more than can be looked at.
    """
    left, seen, visits = [*values], set(), 0
    while left:
        value = left.pop()
        kind = type(value)
        visits += 1
        if visits > MAX_NODES:
            return True
        if kind in _LEAVES:
            continue
        if kind is types.GeneratorType:
            return True
        if id(value) in seen:
            continue
        seen.add(id(value))
        if issubclass(kind, dict):
            left.extend(itertools.islice(dict.values(value), MAX_NODES))
        elif issubclass(kind, _SEQUENCES):
            left.extend(itertools.islice(_iterator(value), MAX_NODES))
        elif hasattr(kind, "model_dump") or dataclasses.is_dataclass(kind):
            left.extend(getattr(value, "__dict__", {}).values())
            left.append(getattr(value, "__pydantic_extra__", None))
    return False


class _Scan:
    """Whether pydantic's own serializers can be let loose on a model: they know no bound."""

    __slots__ = ("_bytes", "has_bytes", "nodes")

    def __init__(self, nodes: int, size: int) -> None:
        self.nodes = nodes
        self._bytes = size
        self.has_bytes = False

    def simple(self, model: Any) -> bool:
        """Return whether all of it is of known kinds, each object is there once, and there is room for it."""
        left, seen = [model], set()
        while left:
            value = left.pop()
            kind: Any = type(value)
            self.nodes -= 1
            if kind in _LEAVES:
                if kind is str:
                    self._bytes -= len(value)
                elif kind is int and value.bit_length() > 1024:
                    return False
                if self.nodes < 0 or self._bytes < 0:
                    return False
                continue
            if issubclass(kind, _BYTES):
                self.has_bytes = True
                self._bytes -= len(value)
                continue
            if kind in _NATIVE or issubclass(kind, enum.Enum) or _is_serialized(kind):
                if issubclass(kind, enum.Enum):
                    left.append(value._value_)
                continue
            if id(value) in seen:
                return False
            seen.add(id(value))
            if issubclass(kind, tuple) and hasattr(kind, "_fields"):
                return False
            if issubclass(kind, _SEQUENCES):
                if _length(kind)(value) > self.nodes:
                    return False
                left.extend(_iterator(value))
            elif issubclass(kind, dict):
                if dict.__len__(value) * 2 > self.nodes:
                    return False
                left.extend(dict.keys(value))
                left.extend(dict.values(value))
            elif isinstance(getattr(kind, "model_fields", None), dict):
                if _model_info(kind).hidden or (value is not model and _own_method(kind, "__repr__")):
                    return False
                left.extend(value.__dict__.values())
                left.append(getattr(value, "__pydantic_extra__", None))
            else:
                return False
        return self.nodes >= 0 and self._bytes >= 0


@dataclasses.dataclass(frozen=True, slots=True)
class _ModelInfo:
    """What a model class says of how its fields are to be shown: by their names."""

    excluded: frozenset[str]
    hidden: frozenset[str]
    serialized: frozenset[str]
    whole: bool  # by a serializer for all of it


@functools.lru_cache(maxsize=1024)
def _model_info(kind: Any) -> _ModelInfo:
    fields = kind.model_fields
    decorators = getattr(kind, "__pydantic_decorators__", None)
    serialized: set[str] = set()
    for each in getattr(decorators, "field_serializers", {}).values():
        serialized.update(fields if "*" in each.info.fields else each.info.fields)
    for name, info in fields.items():
        if any(type(each).__name__.endswith("Serializer") for each in info.metadata):
            serialized.add(name)
    return _ModelInfo(
        frozenset(name for name, info in fields.items() if info.exclude is True),
        frozenset(name for name, info in fields.items() if info.repr is False),
        frozenset(serialized),
        bool(getattr(decorators, "model_serializers", {})),
    )


@functools.lru_cache(maxsize=2048)
def _is_serialized(kind: Any) -> bool:
    return str(kind.__module__).startswith(_SERIALIZED)


def _dataclass_fields(value: Any) -> Iterator[tuple[object, object]]:
    fields = getattr(value, "__dict__", {})
    for field in dataclasses.fields(value):
        if not field.repr:
            yield field.name, _HIDDEN
        elif field.name in fields:
            yield field.name, fields[field.name]
        elif isinstance(getattr(type(value), field.name, None), types.MemberDescriptorType):
            yield field.name, getattr(value, field.name, None)
        # Else it has been deleted, or its attribute fetches it from somewhere.


def _attrs_fields(value: Any) -> Iterator[tuple[object, object]]:
    for field in type(value).__attrs_attrs__:
        if field.repr is False:
            yield field.name, _HIDDEN
        else:
            item = getattr(value, field.name, None)
            yield field.name, field.repr(item) if callable(field.repr) else item


def _text_items(value: Any) -> Iterator[tuple[str, object]]:
    """Return what shows whether a dict is the scope of a request, and what of it is recorded then."""
    for name in _OF_SCOPES:
        if dict.__contains__(value, name):
            yield name, dict.__getitem__(value, name)


_OF_SCOPES: Final = (
    "type",
    "path",
    "headers",
    "asgi",
    "method",
    "scheme",
    "server",
    "query_string",
    "REQUEST_METHOD",
    "SERVER_PROTOCOL",
    "SERVER_NAME",
    "SERVER_PORT",
    "SCRIPT_NAME",
    "PATH_INFO",
    "QUERY_STRING",
    "wsgi.version",
    "wsgi.input",
    "wsgi.url_scheme",
)


def _length(kind: type) -> Callable[[Any], int]:
    for base in _SEQUENCES:
        if issubclass(kind, base):
            return base.__len__
    return len


def _iterator(value: Any) -> Iterator[Any]:
    for base in _SEQUENCES:
        if issubclass(type(value), base):
            return base.__iter__(value)
    return iter(value)


def _how(kind: Any) -> _How:
    try:
        return _method_of(kind)
    except TypeError:  # a metaclass without a hash
        return _chosen(kind)


@functools.lru_cache(maxsize=2048)
def _method_of(kind: Any) -> _How:
    return _chosen(kind)


def _chosen(kind: Any) -> _How:
    """Return the method for values of this class."""
    for known, method in _BY_BASE:
        if issubclass(kind, known):
            return method
    if kind in _NATIVE:
        return Walk._encoded
    if kind is msgspec.Raw:
        return Walk._raw
    if is_web_class(kind):
        return Walk._web
    module = kind.__module__ if isinstance(kind.__module__, str) else ""
    if kind.__name__.endswith(("Cookies", "CookieJar", "SimpleCookie")) and hasattr(kind, "__iter__"):
        return Walk._cookies
    if kind.__name__ == "LocalProxy" and module.startswith("werkzeug"):
        return Walk._proxy
    if hasattr(kind, "model_dump"):
        return Walk._model
    if issubclass(kind, tuple) and isinstance(getattr(kind, "_fields", None), tuple):
        return Walk._named_tuple
    if module.startswith("sqlalchemy") and hasattr(kind, "_mapping"):
        return Walk._row
    if hasattr(kind, "columns") and hasattr(kind, "shape"):
        return Walk._frame
    if issubclass(kind, (*_SEQUENCES, *_VIEWS)):
        return Walk._list
    if issubclass(kind, dict):
        return Walk._dict
    if issubclass(kind, Mapping) or (kind.__name__.endswith("Headers") and hasattr(kind, "items")):
        return Walk._mapping
    if dataclasses.is_dataclass(kind):
        return Walk._dataclass
    if issubclass(kind, msgspec.Struct):
        return Walk._struct
    if isinstance(getattr(kind, "__attrs_attrs__", None), tuple):
        return Walk._attrs
    if hasattr(kind, "shape") and hasattr(kind, "dtype"):
        return Walk._array
    if hasattr(kind, "tolist") or hasattr(kind, "isoformat"):
        return Walk._converted
    for known, method in _BY_BASE_LAST:
        if issubclass(kind, known):
            return method
    return Walk._opaque


_BY_BASE: tuple[tuple[Any, _How], ...] = (
    (enum.Enum, Walk._enum),
    (str, Walk._string),
    (int, Walk._integer),
    (float, Walk._float),
    (_BYTES, Walk._buffer),
    (array.array, Walk._array_array),
)
_BY_BASE_LAST: tuple[tuple[Any, _How], ...] = (
    (collections.UserList, Walk._data),
    (functools.partial, Walk._partial),
    (types.SimpleNamespace, Walk._namespace),
    (types.MethodType, Walk._method),
)


def _own_method(kind: type, name: str) -> object | None:
    """Return a class's own `__repr__` or `__str__`, None if it is that of the standard library or of a generator."""
    for base in kind.__mro__:
        method = base.__dict__.get(name)
        if method is None:
            continue
        if base is object or not isinstance(method, types.FunctionType):
            return None
        code = getattr(method, "__wrapped__", method).__code__
        module = method.__globals__.get("__name__", "")
        if code.co_filename.startswith("<") or str(module).partition(".")[0] in _PLAIN_REPRS:
            return None
        return method
    return None


def _own_methods(kind: Any) -> tuple[str, ...]:
    """Return which of `__repr__` and `__str__` are a class's own."""
    try:
        return _methods_of(kind)
    except TypeError:  # a metaclass without a hash
        return tuple([name for name in ("__repr__", "__str__") if _own_method(kind, name) is not None])


@functools.lru_cache(maxsize=2048)
def _methods_of(kind: Any) -> tuple[str, ...]:
    return tuple([name for name in ("__repr__", "__str__") if _own_method(kind, name) is not None])
