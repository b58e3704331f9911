"""capture(): a value as it is at this moment, as text or JSON, whatever the application does to it later."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import GeneratorType
from typing import Any

import msgspec

from nat_observability.events import Captured

_MAX_DEPTH = 32
_MAX_REPR = 1024
_SEQUENCES = (list, tuple, set, frozenset, deque)
_LEAVES = frozenset({str, int, float, bool, type(None)})
_BUILTIN = (str, int, float, list, tuple, dict)

# Without a hook for unknown objects: it would run Python code, an application's `__repr__` for example, while the
# encoder walks through a list or dict, and if that code or another thread changes the list the process crashes.
_encode = msgspec.json.Encoder().encode


def capture(value: Any) -> Captured:
    """
    Return `value` as it is now.

    Text is kept as text, None stays None; anything else becomes JSON at once, so a list that grows or a dict that
    is cleared afterwards changes nothing. Never raises: what JSON cannot hold (a lone surrogate, a recursive
    structure, an object of an unknown class, a dict key that is no text) is replaced by a readable mark, and only
    that part of the value. Iterators are not consumed. A `msgspec.Raw` is JSON already and taken as it is.
    """
    if value is None:
        return None
    kind = type(value)
    if kind is str:
        return value if value.isascii() else capture_text(value)
    if issubclass(kind, str):
        return capture_text(str.__str__(value))
    return capture_json(value)


def capture_json(value: object) -> msgspec.Raw:
    """Return `value` as JSON, text included. Never raises."""
    try:
        return msgspec.Raw(_encode(value))
    except Exception:  # noqa: BLE001  foreign code: properties of the application's objects; and what JSON lacks
        return msgspec.Raw(_encode(_plain(value, 0, set())))


def merged_json(first: msgspec.Raw | None, second: msgspec.Raw | None) -> msgspec.Raw | None:
    """Merge the JSON objects of a step's START and its END: of the same key the END's value, unless it is null."""
    if first is None or second is None:
        return first if second is None else second
    before: Any = msgspec.json.decode(first)
    after: Any = msgspec.json.decode(second)
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return second
    return capture_json(
        before | {key: value for key, value in after.items() if value is not None or key not in before}
    )


def capture_text(text: str) -> str:
    """Return `text` with lone surrogates, which UTF-8 cannot hold, as backslash escapes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def capture_label(value: object) -> str:
    """Return what was given for a name, an id or a tag, which should be text, as text. Never raises."""
    if isinstance(value, str):
        return capture_text(str.__str__(value))
    try:
        return capture_text(str(value))
    except Exception:  # noqa: BLE001  foreign code: a __str__ of the application's
        return f"<{type(value).__name__}>"


def holds_generator(*values: Any) -> bool:
    """Whether there is a generator in what pydantic looks into when it serializes: it would consume it."""
    left, seen = [*values], set()
    while left:
        value = left.pop()
        kind = type(value)
        if kind in _LEAVES:
            continue
        if kind is GeneratorType:
            return True
        if id(value) in seen:
            continue
        seen.add(id(value))
        if issubclass(kind, dict):
            left.extend(dict.values(value))
        elif issubclass(kind, _SEQUENCES):
            left.extend(value)
        elif hasattr(kind, "model_dump") or dataclasses.is_dataclass(kind):
            left.extend(getattr(value, "__dict__", {}).values())
            left.append(getattr(value, "__pydantic_extra__", None))
    return False


def _plain(value: Any, depth: int, above: set[int]) -> Any:
    """
    Copy `value` into what can be encoded, with marks for what cannot.

    Looks at types and not at `isinstance`, and calls the methods of built-in types by their name, because a
    subclass may raise there. `above` holds the ids of the containers around it.
    """
    kind = type(value)
    if value is None or kind is bool:
        return value
    try:
        if issubclass(kind, enum.Enum):
            return _plain(value._value_, depth + 1, above)
        if issubclass(kind, str):
            return capture_text(str.__str__(value))
        if issubclass(kind, int):
            return _integer(int.__index__(value))
        if issubclass(kind, float):
            number = float.__float__(value)
            return number if math.isfinite(number) else None
        if id(value) in above:
            return "<recursive>"
        if depth >= _MAX_DEPTH:
            return "<too deep>"
        above.add(id(value))
        try:
            return _container(value, depth + 1, above)
        finally:
            above.discard(id(value))
    except Exception:  # noqa: BLE001  foreign code: whatever the application's object does when it is looked at
        return _opaque(value)


def _container(value: Any, depth: int, above: set[int]) -> Any:
    kind = type(value)
    if hasattr(kind, "model_dump"):
        return _model(value, depth, above)
    if issubclass(kind, _SEQUENCES):
        return [_plain(item, depth, above) for item in list(value)]
    if issubclass(kind, Mapping):
        return _fields(value.items(), depth, above)
    if depth > 1:  # at the top it was tried
        with suppress(Exception):  # the value is of no known kind, or a part of it is what cannot be encoded
            return msgspec.Raw(_encode(value))
    if dataclasses.is_dataclass(kind):
        return _fields(
            ((field.name, getattr(value, field.name)) for field in dataclasses.fields(kind)), depth, above
        )
    if issubclass(kind, msgspec.Struct):
        return _fields(msgspec.structs.asdict(value).items(), depth, above)
    for method in ("tolist", "isoformat"):
        convert = getattr(kind, method, None)
        converted = convert(value) if callable(convert) else None
        # What a mock returns is another mock, and so on.
        if isinstance(converted, _BUILTIN):
            return _plain(converted, depth, above)
    return _opaque(value)


def _model(value: Any, depth: int, above: set[int]) -> Any:
    """Return a pydantic model, by its own serializers where they can do it."""
    with suppress(Exception):  # foreign code, and parts that pydantic or JSON does not know
        if not holds_generator(value):
            return msgspec.Raw(_encode(value.model_dump(mode="json", warnings=False)))
    return _fields(iter(value), depth, above)


def _fields(items: Iterable[tuple[object, object]], depth: int, above: set[int]) -> dict[str, Any]:
    # A list first: what the items do while they are looked at may change the mapping that they come from.
    return {_key(key): _plain(item, depth, above) for key, item in list(items)}


def _key(key: object) -> str:
    if type(key) is str and key.isascii():
        return key
    if isinstance(key, enum.Enum):
        key = key._value_
    return capture_text(str.__str__(key)) if isinstance(key, str) else _repr(key)


def _integer(number: int) -> Any:
    try:
        _encode(number)
    except ValueError:  # too many digits for Python to print, see sys.set_int_max_str_digits
        return f"<integer of {number.bit_length()} bits>"
    return number


def _opaque(value: object) -> dict[str, str]:
    return {
        "__type__": capture_text(type.__dict__["__qualname__"].__get__(type(value))),
        "__repr__": _repr(value),
    }


def _cut(text: str) -> str:
    """Return a text in a bearable length, with a mark like `[cut:12345]` where it was longer: of so many characters."""
    if len(text) <= _MAX_REPR:
        return text
    kept = text[:_MAX_REPR]
    if not (kept[-1].isspace() or text[_MAX_REPR].isspace()):
        # The word at the cut goes as a whole: nothing that looks for secrets would know the half of one.
        kept = kept[: -len(kept.split()[-1])]
    return f"{kept}[cut:{len(text)}]"


def _repr(value: object) -> str:
    try:
        return capture_text(_cut(repr(value)))
    except Exception as error:  # noqa: BLE001  foreign code: a __repr__ of the application's
        return f"repr raised {type(error).__name__}"
