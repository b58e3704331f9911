"""Walk: copies any object graph into what JSON can hold, within a number of visits and of bytes."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import msgspec

from nat_observability.foreign_errors import reraise_signal
from nat_observability.recording.capture.budget import (
    BITS,
    CHARACTERS,
    CONTAINER,
    CONVERTED,
    DIGITS_WRITTEN,
    ESCAPED,
    FAILED,
    KEY,
    LARGE,
    MAX_DEPTH,
    MAX_REPR,
    NODE_NS,
    OBJECT,
    OPAQUE,
    QUICK_NS,
    RAISED,
    SCATTERED,
    SCOPE,
    SLOW_CALLS,
    SLOW_NS,
    TRIES,
    VALUE,
)
from nat_observability.recording.capture.kinds import (
    BYTES,
    FOREIGN_TRIES,
    SEQUENCES,
    VIEWS,
    first,
    is_short_key,
    iterator,
    kinds_of,
    length_of,
)
from nat_observability.recording.capture.limits import limits
from nat_observability.recording.capture.plain import (
    CONTAINERS,
    FEW,
    NUMBERS,
    PLAIN,
    numbers_json,
    plain_part,
    text_json,
)
from nat_observability.recording.capture.reprs import MASK, masks_more, own_methods
from nat_observability.recording.capture.slow import report_slow
from nat_observability.recording.capture.text import class_name, cut_text, module_name, nodes_of_escapes
from nat_observability.recording.capture.web import (
    is_scope,
    looks_like_web,
    scope_items,
    scope_summary,
    web_summary,
)

_LONGEST_KEY = 2048  # bits of an integer
_PIECE = 512  # items of a list that are looked at together
_SMALL_PIECE = 32
_SHORT = 32  # characters of a text whose length in JSON does not matter
_SEEN = "<seen above>"
_RECURSIVE = "<recursive>"
_encode = msgspec.json.Encoder().encode

How = Callable[[Any], Callable[["Walk", Any, int], Any]]


class Walk:
    """
    One capture: what it has visited, and what it may still visit.

    Looks at types and not at `isinstance`, and calls the methods of built-in types by their name, because a subclass
    may raise there. An object that has been walked appears once; a mark replaces it if it comes again. What is left out
    is marked with its size, as the `Truncator` does: `[cut:12345]`, characters of a text, items, fields.

    Args:
        how: Finds what copies values of a class.
        outer: The capture inside which this one is made, whose bounds it has.

    Attributes:
        nodes_left: What may still be visited, see `budget`.
        bytes_left: What may still be kept.
    """

    __slots__ = ("_above", "_how", "_seen", "_tries", "_waited", "bytes_left", "nodes_left")

    def __init__(self, how: How, outer: Walk | None = None) -> None:
        self._how = how
        self.nodes_left: int = limits.walked_nodes if outer is None else outer.nodes_left
        self.bytes_left: int = limits.size if outer is None else outer.bytes_left
        self._tries = TRIES
        self._waited = 0  # nanoseconds, for the code of objects that takes long
        self._above: set[int] = set()  # the ids of the containers around the value
        # By their ids, which other objects may get as soon as nothing keeps these alive.
        self._seen: dict[int, object] = {}

    def value(self, value: Any, depth: int = 0) -> Any:
        """Return a copy of `value` that can be encoded. Never raises, except what a signal handler raised."""
        kind = type(value)
        self.nodes_left -= VALUE
        if value is None or kind is bool:
            return value
        if kind is str:
            return self.text(value) if len(value) <= _SHORT else self._long_text(value)
        if self.nodes_left <= 0:
            return "[cut]"
        try:
            return self._how(kind)(self, value, depth)
        except BaseException as error:  # noqa: BLE001  foreign code: whatever the object does when it is looked at
            reraise_signal(error)
            self.nodes_left -= FAILED
            return self.opaque(value)

    def took(self, began_ns: int, value: object) -> None:
        """Charge for the time that an object's own code has taken, if that is long."""
        # Called beside that code and not around it: `reraise_signal` looks through the frames of what it raises.
        took = time.perf_counter_ns() - began_ns
        if took > QUICK_NS:
            self.nodes_left -= min(took // NODE_NS, limits.nodes // SLOW_CALLS)
            self._waited += took
            if self._waited > SLOW_NS:
                self.nodes_left = min(0, self.nodes_left)
                report_slow(value)

    def text(self, text: str) -> str:
        """Return an exact `str` as UTF-8 can hold it, in the length that is left."""
        left = self.bytes_left
        if len(text) > LARGE:
            left = max(0, left - limits.reserved_size)
        kept = cut_text(text, left)
        if kept.isascii():
            self.bytes_left -= len(kept)
            if len(kept) > len(text):
                self.nodes_left -= ESCAPED
        else:
            self.bytes_left -= len(kept.encode())
        return kept

    def _long_text(self, text: str) -> msgspec.Raw:
        """Return an exact `str` as JSON, which may be six times as long, in the length that is left."""
        left = max(0, self.bytes_left - (limits.reserved_size if len(text) > LARGE else 0))
        data = text_json(text, left)
        self.bytes_left -= len(data)
        self.nodes_left -= nodes_of_escapes(text, data)
        return msgspec.Raw(data)

    # -- What is a container -----------------------------------------------------------------------------------------

    def inside(self, value: Any, depth: int, copy: Callable[[Any, int], Any]) -> Any:
        """Return what `copy` makes of a container, unless it is too deep or has been seen."""
        key = id(value)
        if key in self._above:
            return _RECURSIVE
        if key in self._seen:
            return _SEEN
        if depth >= MAX_DEPTH:
            return "<too deep>"
        self.nodes_left -= CONTAINER
        self._seen[key] = value
        self._above.add(key)
        try:
            return copy(value, depth + 1)
        finally:
            self._above.discard(key)

    def _room(self, count: int) -> int:
        """Return how many of so many items there is room for."""
        left = self.nodes_left if count <= LARGE else self.nodes_left - limits.reserved_nodes
        return count if count <= left else max(0, left)

    def _plain(self, value: Any, depth: int) -> msgspec.Raw | None:
        """Return a container of plain data, None if it is anything else. It may come again, as other data may."""
        if depth == 0 or type(value) not in CONTAINERS:
            return None  # at the top it has been tried
        left = self.bytes_left - limits.reserved_size
        found = plain_part(value, left, max(0, self.nodes_left) // 4, small=self._tries <= 0)
        if found is None or len(found[0]) > left:
            self._tries -= 1
            return None
        return self._kept(*found)

    def _plain_piece(self, piece: list[Any]) -> msgspec.Raw | None:
        """Return the JSON of items of plain data, without the brackets around it; None if they are anything else."""
        if len(piece) <= FEW or not kinds_of([piece[0], piece[-1]]) <= PLAIN:
            return None
        left = self.bytes_left - limits.reserved_size
        if type(piece[0]) in NUMBERS and len(piece) <= self.nodes_left:
            data = numbers_json(piece, left)
            if data is not None:
                self.bytes_left -= len(data)
                self.nodes_left -= max(len(piece), len(data) // DIGITS_WRITTEN)
                return msgspec.Raw(data[1:-1])
        if self._tries <= 0:
            return None
        # A part of both: it may be in vain.
        found = plain_part(piece, left // 2, max(0, self.nodes_left) // 4, small=False)
        if found is None:
            if kinds_of(piece) <= PLAIN:
                self._tries -= 1
            return None
        data, nodes = found
        return self._kept(data[1:-1], nodes)

    def _kept(self, data: bytes, nodes: int) -> msgspec.Raw:
        self.bytes_left -= len(data)
        self.nodes_left -= nodes
        return msgspec.Raw(data)

    def sequence(self, value: Any, depth: int) -> Any:
        plain = self._plain(value, depth)
        return self.inside(value, depth, self._items) if plain is None else plain

    def _items(self, value: Any, depth: int) -> Any:
        kind = type(value)
        count = length_of(kind)(value)
        room = self._room(count)
        # A copy first: what the items do while they are looked at may change the container that they come from.
        if issubclass(kind, list):
            items = list.__getitem__(value, slice(room))
        elif issubclass(kind, tuple):
            items = list(tuple.__getitem__(value, slice(room)))
        else:
            self.nodes_left -= OBJECT
            room = min(room, self._room(count * (SCATTERED + 1)) // (SCATTERED + 1))
            self.nodes_left -= SCATTERED * room
            began_ns = time.perf_counter_ns()
            if issubclass(kind, VIEWS):
                items = first(lambda: iterator(value), room, FOREIGN_TRIES)
                self.took(began_ns, value)
            else:
                items = first(lambda: iterator(value), room)
        if count <= LARGE and (shown := self.masked(value, items)) is not None:
            return shown
        copies: list[Any] = []
        add = copies.append
        taken = 0
        reserved = limits.reserved_size if count > LARGE else 0
        for start in range(0, len(items), _PIECE):
            piece = items[start : start + _PIECE]
            if self.nodes_left <= 0 or self.bytes_left <= reserved:
                break
            plain = self._plain_piece(piece)
            if plain is not None:
                add(plain)
                taken += len(piece)
                continue
            for part in _parts(piece):
                plain = self._plain_piece(part) if part is not piece else None
                if plain is not None:
                    add(plain)
                    taken += len(part)
                    continue
                for item in part:
                    if self.nodes_left <= 0 or self.bytes_left <= reserved:
                        break
                    add(self.value(item, depth))
                    taken += 1
        if taken < count:
            add(f"[cut:{count}]")
        return copies

    def dictionary(self, value: Any, depth: int) -> Any:
        if dict.__contains__(value, "path") or dict.__contains__(value, "REQUEST_METHOD"):
            scope = dict(scope_items(value))
            if is_scope(scope):
                self.nodes_left -= SCOPE
                return self.value(scope_summary(scope), depth)
        plain = self._plain(value, depth)
        return self.inside(value, depth, self._dict_fields) if plain is None else plain

    def _dict_fields(self, value: Any, depth: int) -> Any:
        count = dict.__len__(value)
        # The repr of a larger one takes too long.
        shown = self.masked(value, dict.items(value)) if count <= LARGE else None
        return self.fields(dict.items(value), count, depth) if shown is None else shown

    def mapping(self, value: Any, depth: int, *, is_headers: bool = False) -> Any:
        def copy(value: Any, depth: int) -> Any:
            self.nodes_left -= OBJECT
            began_ns = time.perf_counter_ns()
            try:
                count = len(value)
                items = first(value.items, self._fields_room(count), FOREIGN_TRIES)
            finally:
                self.took(began_ns, value)
            # The repr of httpx's headers masks one of them; the others would be lost.
            if count <= LARGE and not is_headers and (shown := self.masked(value, items)) is not None:
                return shown
            return self.fields(items, count, depth)

        return self.inside(value, depth, copy)

    def _fields_room(self, count: int) -> int:
        return min(self._room(count), max(0, self.nodes_left) // KEY)

    def fields(self, items: Iterable[tuple[object, object]], count: int, depth: int) -> dict[str, Any]:
        room = self._fields_room(count)
        copies: dict[str, Any] = {}
        again: set[str] = set()
        taken = 0
        for key, item in first(lambda: items, room):
            if self.nodes_left <= 0 or self.bytes_left <= 0:
                break
            name, copy = self.key(key), self.value(item, depth)
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

    def key(self, key: object) -> str:
        self.nodes_left -= KEY
        if type(key) is str:
            return self.text(key) if len(key) <= LARGE else self._long_key(key)
        # By the type: `isinstance` asks the object for its class, and a lazy one may raise then.
        kind = type(key)
        if issubclass(kind, enum.Enum):
            key = cast(enum.Enum, key)._value_
            kind = type(key)
        if issubclass(kind, str):
            return self.key(str.__str__(cast(str, key)))
        if issubclass(kind, BYTES):
            return self.key(self.value(key))
        if kind is int:
            bits = cast(int, key).bit_length()
            if bits > _LONGEST_KEY:
                return f"<integer of {bits} bits>"  # Python may not print it
            self.nodes_left -= CONVERTED + bits // BITS
            return self.text(str(key))
        if (issubclass(kind, (*SEQUENCES, dict)) and not is_short_key(key)) or module_name(kind) == "numpy":
            return _encode(self.value(key)).decode()  # its repr has those of all that is in it, or its class
        return self.shown(key)

    def _long_key(self, key: str) -> str:
        data = text_json(key, max(0, self.bytes_left - limits.reserved_size))
        self.bytes_left -= len(data)
        return msgspec.json.decode(data, type=str)

    # -- What has fields ---------------------------------------------------------------------------------------------

    def fields_of(
        self, value: Any, depth: int, names: Callable[[Any], Iterable[tuple[object, object]]]
    ) -> Any:
        self.nodes_left -= OBJECT
        shown = self.masked(value)
        if shown is not None:
            return shown

        def copy(value: Any, depth: int) -> Any:
            began_ns = time.perf_counter_ns()
            try:
                fields = list(names(value))
            finally:
                self.took(began_ns, value)
            return self.fields(fields, len(fields), depth)

        return self.inside(value, depth, copy)

    def summary(self, value: object, depth: int, **facts: Any) -> Any:
        return self.value({"__type__": class_name(type(value)), **facts}, depth)

    def opaque(self, value: object, depth: int = 0) -> Any:
        self.nodes_left -= OPAQUE
        try:
            if looks_like_web(value):
                return self.web(value, depth)
        except BaseException as error:  # noqa: BLE001  foreign code: its properties
            reraise_signal(error)
        kind = type(value)
        # The repr of a container has those of all that is in it.
        shown = "<container>" if issubclass(kind, (*SEQUENCES, dict)) else self.shown(value)
        return {"__type__": self.text(class_name(kind)), "__repr__": shown}

    def web(self, value: object, depth: int) -> Any:
        self.nodes_left -= OPAQUE
        began_ns = time.perf_counter_ns()
        try:
            summary = web_summary(value)
        finally:
            self.took(began_ns, value)
        return self.value(summary, depth)

    def masked(self, value: object, items: Iterable[object] = ()) -> str | None:
        """Return the repr of an object if it masks something, and not only what its items mask; None otherwise."""
        for name in own_methods(type(value)):
            self.nodes_left -= OPAQUE
            began_ns = time.perf_counter_ns()
            try:
                shown = repr(value) if name == "__repr__" else str(value)
            except BaseException as error:  # noqa: BLE001  foreign code
                reraise_signal(error)
                self.nodes_left -= RAISED
                continue
            finally:
                self.took(began_ns, value)
            self.nodes_left -= str.__len__(shown) // CHARACTERS
            if MASK.search(shown, 0, limits.size):
                began_ns = time.perf_counter_ns()
                is_own = masks_more(shown, items)
                self.took(began_ns, value)
                if is_own:
                    return self.text(cut_text(str.__str__(shown), MAX_REPR))
        return None

    def shown(self, value: object) -> str:
        self.nodes_left -= OPAQUE
        began_ns = time.perf_counter_ns()
        try:
            shown = repr(value)
            self.nodes_left -= str.__len__(shown) // CHARACTERS
            return self.text(cut_text(str.__str__(shown), MAX_REPR))
        except BaseException as error:  # noqa: BLE001  foreign code: a __repr__ of the application's
            reraise_signal(error)
            self.nodes_left -= RAISED
            return f"repr raised {class_name(type(error))}"
        finally:
            self.took(began_ns, value)


def _parts(piece: list[Any]) -> Iterator[list[Any]]:
    """Return items that are not plain data, or not all of them, in parts of which some may be."""
    if len(piece) <= _SMALL_PIECE or kinds_of(piece) <= PLAIN:
        yield piece
        return
    for start in range(0, len(piece), _SMALL_PIECE):
        yield piece[start : start + _SMALL_PIECE]
