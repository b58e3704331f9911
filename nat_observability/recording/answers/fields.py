"""field(), items(), text_of(), count_of(): foreign objects read by name, whatever they do when they are read."""

from __future__ import annotations

import decimal
import enum
import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from nat_observability.foreign_errors import reraise_signal
from nat_observability.recording.capture import MAX_BYTES

MAX_ITEMS = 1000
"""Most items that are read of one list."""

MAX_CHOICES = 128
"""Most messages of one answer that are read."""

_MAX_COUNT = 2**63 - 1
# Classes of what stands for a field or a parameter that was not given.
_NOT_GIVEN = frozenset({"NotGiven", "NotGivenType", "Omit", "OmitType", "Unset", "UnsetType"})
_NUMBERS = (int, float, decimal.Decimal, str)
_PROTOBUF = ("google.protobuf", "google._upb", "proto.")


def field(value: Any, *names: str) -> Any:
    """Return the first of these fields that is not None, of a mapping or an object. Never raises."""
    kind: Any = type(value)
    if value is None or kind is str:
        return None
    held = fields_of(value)
    for name in names:
        try:
            if held is not None and (kind is dict or name[0] != "_"):
                # Not by `getattr`, which takes a model twenty times as long to say that there is none.
                found = held.get(name)
            elif issubclass(kind, Mapping):
                found = value.get(name)
            else:
                found = getattr(value, name, None)
        except BaseException as error:  # noqa: BLE001  foreign code: a property of a model client's object
            reraise_signal(error)
            continue
        if found is not None:
            return found
    return None


def reader(value: Any) -> Callable[[str], Any]:
    """Return what reads one field after the other of a value with many, and never raises."""
    held = fields_of(value)
    return functools.partial(field, value) if held is None else held.get


def first_of(read: Callable[[str], Any], *names: str) -> Any:
    """Return the first of these fields that is not None, by the reader of a value."""
    for name in names:
        found = read(name)
        if found is not None:
            return found
    return None


def is_given(value: object) -> bool:
    """Return whether a value is neither None nor a client's own stand-in for a field that is not there."""
    kind = type(value)
    return kind is str or (value is not None and type.__dict__["__name__"].__get__(kind) not in _NOT_GIVEN)


def fields_of(value: Any) -> dict[str, Any] | None:
    """Return the fields of a dict or a model by their names, None of anything else. Not to be changed; never raises."""
    kind: Any = type(value)
    if kind is dict:
        return value  # type: ignore[no-any-return]
    try:
        if is_model(kind):
            more = value.__pydantic_extra__
            return value.__dict__ | more if more else value.__dict__  # type: ignore[no-any-return]
    except BaseException as error:  # noqa: BLE001  foreign code
        reraise_signal(error)
    return None


@functools.lru_cache(maxsize=1024)
def is_model(kind: Any) -> bool:
    """Return whether values of a class are models of pydantic, which keep their fields in a dict."""
    return (
        isinstance(getattr(kind, "__pydantic_fields__", None), dict)
        and "__getattribute__" not in kind.__dict__
    )


def path(value: object, *names: str) -> Any:
    """Return the field of a field. Never raises."""
    for name in names:
        if value is None:
            return None
        value = field(value, name)
    return value


def items(value: Any, most: int = MAX_ITEMS) -> list[Any]:
    """Return the first items of a list, none of anything else. Never raises."""
    return some_items(value, most) or []


def some_items(value: Any, most: int = MAX_ITEMS) -> list[Any] | None:
    """Return the first items of a list, None of anything else. Never raises."""
    kind: Any = type(value)
    if value is None:
        return None
    try:
        if issubclass(kind, list):
            return list(list.__getitem__(value, slice(most)))
        if issubclass(kind, tuple):
            return list(tuple.__getitem__(value, slice(most)))
        if str(kind.__module__).startswith(_PROTOBUF) and hasattr(kind, "__len__"):
            return list(itertools.islice(value, most))
    except BaseException as error:  # noqa: BLE001  foreign code: a repeated field of a message
        reraise_signal(error)
    return None


def length_of(value: Any) -> int:
    """Return the length of a list or tuple, 0 of anything else."""
    if issubclass(type(value), list):
        return int(list.__len__(value))
    return tuple.__len__(value) if issubclass(type(value), tuple) else 0


def text_of(value: Any) -> str | None:
    """Return a text, or what an enumeration member stands for; None of anything else."""
    kind: Any = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]
    if value is None:
        return None
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, enum.Enum):
        name = value._name_
        return name if type(name) is str else None
    return None


def count_of(value: Any) -> int | None:
    """
    Return a count: an integer from 0 to 2^63-1, or a float without a fraction; None of anything else.

    A bool is not a count, nor is a negative number or a stand-in's attribute.
    """
    kind: Any = type(value)
    if kind is float:
        if not value.is_integer():
            return None
        value = int(value)
    elif kind is not int:
        return None
    return value if 0 <= value <= _MAX_COUNT else None


def is_number(value: Any) -> bool:
    """Return whether a value is meant as a number, be it a count or not."""
    return issubclass(type(value), _NUMBERS)


def json_or_text(value: str) -> Any:
    """Return the object or array that a text is the JSON of, or the text."""
    if value[:1] in ("{", "[") and len(value) <= MAX_BYTES:
        try:
            return msgspec.json.decode(value)
        except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError, ValueError):
            pass
    return value


def type_name(value: Any) -> str:
    """Return the module and the qualified name of a value's class."""
    kind: Any = type(value)
    try:
        module, name = str(kind.__module__), str(type.__dict__["__qualname__"].__get__(kind))
    except BaseException as error:  # noqa: BLE001  foreign code: a metaclass
        reraise_signal(error)
        return "object"
    return name if module == "builtins" else f"{module}.{name}"


def module_of(value: Any) -> str:
    """Return the module of a value's class, empty if that is not text."""
    try:
        module = getattr(type(value), "__module__", "")
    except BaseException as error:  # noqa: BLE001  foreign code: a metaclass
        reraise_signal(error)
        return ""
    return module if type(module) is str else ""
