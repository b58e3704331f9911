"""walked(): any value copied, each class that is known in its own way."""

from __future__ import annotations

import array
import collections
import contextvars
import dataclasses
import decimal
import enum
import functools
import itertools
import math
import re
import threading
import time
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from nat_observability.foreign_errors import reraise_signal
from nat_observability.recording.capture.arrays import array_array, arrays, buffer, frame
from nat_observability.recording.capture.budget import (
    BITS,
    CONVERTED,
    DIGITS,
    FLOAT,
    MAX_COLUMNS,
    MAX_DEPTH,
    MAX_REPR,
    MODEL,
    OBJECT,
    OPAQUE,
    SCANNED,
    UNHASHED,
)
from nat_observability.recording.capture.class_fields import (
    HIDDEN,
    fields_of_attrs,
    fields_of_dataclass,
    fields_of_struct,
)
from nat_observability.recording.capture.kinds import BYTES, LEAVES, NATIVE, SEQUENCES, VIEWS
from nat_observability.recording.capture.models import (
    Scan,
    look_for_generator,
    model_info,
    telling_names,
)
from nat_observability.recording.capture.reprs import own_methods
from nat_observability.recording.capture.text import capture_name, is_json
from nat_observability.recording.capture.walk import Walk
from nat_observability.recording.capture.web import is_web_class

_BUILTIN = (str, int, float, list, tuple, dict, *BYTES)
_HEADERS = ("Headers", "HeaderDict", "HTTPMessage", "CaseInsensitiveDict")
_COOKIE_MODULES = ("http.cookie", "litestar.")
_WRAPT = ("wrapt.proxies", "wrapt.wrappers", "_wrappers")

# Without a hook for unknown objects: it would run Python code, an application's `__repr__` for example, while the
# encoder walks through a list or dict, and if that code or another thread changes the list the process crashes.
_encode = msgspec.json.Encoder().encode

_Copy = Callable[[Walk, Any, int], Any]

# An object that records a step when it is looked at makes captures inside a capture, without end if the step has it as
# its input: they all spend what the outermost has.
_active = threading.local()


def walked(value: object) -> Any:
    """Return a copy of any `value` that JSON can hold. Never raises, except what a signal handler raised."""
    outer: Walk | None = getattr(_active, "walk", None)
    _active.walk = walk = Walk(how, outer)
    try:
        return walk.value(value)
    finally:
        _active.walk = outer
        if outer is not None:
            outer.nodes_left, outer.bytes_left = walk.nodes_left, walk.bytes_left


def _named_tuple(walk: Walk, value: Any, depth: int) -> Any:
    if hasattr(type(value), "geturl"):
        walk.nodes_left -= OPAQUE
        return walk.value(value.geturl(), depth)
    return walk.fields_of(
        value,
        depth,
        lambda value: zip(type(value)._fields, tuple.__iter__(value), strict=False),
    )


def _struct_sequence(walk: Walk, value: Any, depth: int) -> Any:
    return walk.fields_of(
        value, depth, lambda value: zip(type(value).__match_args__, tuple.__iter__(value), strict=False)
    )


def _dataclass(walk: Walk, value: Any, depth: int) -> Any:
    return walk.fields_of(value, depth, fields_of_dataclass)


def _attrs(walk: Walk, value: Any, depth: int) -> Any:
    return walk.fields_of(value, depth, fields_of_attrs)


def _struct(walk: Walk, value: Any, depth: int) -> Any:
    return walk.fields_of(value, depth, fields_of_struct)


def _row(walk: Walk, value: Any, depth: int) -> Any:
    return walk.fields_of(value, depth, lambda value: value._mapping.items())


def _model(walk: Walk, value: Any, depth: int) -> Any:
    walk.nodes_left -= MODEL
    shown = walk.masked(value)
    if shown is not None:
        return shown
    return walk.inside(value, depth, functools.partial(_model_fields, walk))


def _model_fields(walk: Walk, value: Any, depth: int) -> Any:
    kind: Any = type(value)
    if not isinstance(getattr(kind, "model_fields", None), dict):
        if _holds_generator(walk, value):
            return walk.opaque(value)
        return walk.value(_dumped(walk, value, mode="json"), depth)
    # A part of what there is: it may be in vain, and once more for each model inside.
    given = max(0, walk.nodes_left) // 4
    scan = Scan(given, walk.bytes_left)
    is_simple = scan.simple(value)
    walk.nodes_left -= given - max(0, scan.nodes)
    if is_simple:
        try:
            dumped = _dumped(walk, value, mode="python" if scan.has_bytes else "json")
            if scan.has_bytes:
                return walk.value(dumped, depth)
            data = _encode(dumped)
        except BaseException as error:  # noqa: BLE001  foreign code: serializers, and what pydantic does not know
            reraise_signal(error)
        else:
            if len(data) <= walk.bytes_left:
                walk.bytes_left -= len(data)
                return msgspec.Raw(data)
    how = model_info(kind)
    if how.whole and not _holds_generator(walk, value):
        return walk.value(_dumped(walk, value), depth)
    extra = getattr(value, "__pydantic_extra__", None)
    fields = [*value.__dict__.items(), *(extra.items() if isinstance(extra, dict) else ())]
    shown_fields: list[tuple[object, object]] = []
    for name, item in fields:
        if name in how.excluded:
            continue
        if name in how.hidden:
            item = HIDDEN
        elif name in how.serialized and not _holds_generator(walk, item):
            item = _dumped(walk, value, include={name}).get(name, HIDDEN)
        shown_fields.append((how.renamed.get(name, name), item))
    return walk.fields(shown_fields, len(shown_fields), depth)


def _holds_generator(walk: Walk, value: Any) -> bool:
    found, visits = look_for_generator([value], max(0, walk.nodes_left) // SCANNED)
    walk.nodes_left -= visits * SCANNED
    return found


def _dumped(walk: Walk, value: Any, **options: Any) -> Any:
    began_ns = time.perf_counter_ns()
    try:
        return value.model_dump(warnings=False, **options)
    finally:
        walk.took(began_ns, value)


def _earlier_model(walk: Walk, value: Any, depth: int) -> Any:
    """Return what a model of the first version of pydantic holds."""
    return walk.fields_of(value, depth, _earlier_fields)


def _earlier_fields(value: Any) -> Iterator[tuple[object, object]]:
    known = type(value).__fields__
    renamed = telling_names({name: getattr(each, "alias", None) for name, each in known.items()})
    for name, item in value.__dict__.items():
        info = getattr(known.get(name), "field_info", None)
        if getattr(info, "exclude", None) is not True:
            yield renamed.get(name, name), HIDDEN if getattr(info, "repr", True) is False else item


def _cookies(walk: Walk, value: Any, depth: int) -> Any:
    names = [getattr(each, "name", each) for each in itertools.islice(iter(value), MAX_COLUMNS)]
    return walk.summary(value, depth, names=[walk.key(each) for each in names])


def _enum(walk: Walk, value: Any, depth: int) -> Any:
    return walk.value(value._value_, depth + 1) if depth < MAX_DEPTH else "<too deep>"


def _string(walk: Walk, value: Any, depth: int) -> Any:
    walk.nodes_left -= CONVERTED
    return walk.value(str.__str__(value), depth)


def _integer(walk: Walk, value: Any, depth: int) -> Any:
    number = int.__index__(value)
    walk.nodes_left -= number.bit_length() // BITS
    try:
        data = _encode(number)
    except ValueError:  # too many digits for Python to print, see sys.set_int_max_str_digits
        return f"<integer of {number.bit_length()} bits>"
    walk.bytes_left -= len(data)
    return number if len(data) < 32 else msgspec.Raw(data)


def _float(walk: Walk, value: Any, depth: int) -> Any:
    number = float.__float__(value)
    walk.bytes_left -= FLOAT
    return number if math.isfinite(number) else None


def _encoded(walk: Walk, value: Any, depth: int) -> Any:
    walk.nodes_left -= CONVERTED
    walk.bytes_left -= 40
    return msgspec.Raw(_encode(value))


def _decimal(walk: Walk, value: Any, depth: int) -> Any:
    shown = str(value)
    walk.nodes_left -= CONVERTED + len(shown) // DIGITS
    return walk.text(shown)


def _exception(walk: Walk, value: Any, depth: int) -> Any:
    # Its repr has those of its arguments, however long they are.
    args = value.args
    if own_methods(type(value)) or all(
        type(each) in LEAVES and (type(each) is not str or len(each) <= MAX_REPR) for each in args
    ):
        return walk.opaque(value)
    return walk.inside(value, depth, lambda value, depth: walk.summary(value, depth, args=list(args)))


def _match(walk: Walk, value: Any, depth: int) -> Any:
    walk.nodes_left -= OBJECT
    names = value.groupdict()
    return walk.summary(value, depth, span=list(value.span()), groups=names) if names else walk.opaque(value)


def _context_variable(walk: Walk, value: Any, depth: int) -> Any:
    # Its repr shows the default beside the name in a way that redaction does not know.
    return walk.summary(value, depth, name=value.name)


def _sqlite_row(walk: Walk, value: Any, depth: int) -> Any:
    return walk.fields_of(value, depth, lambda value: zip(value.keys(), tuple(value), strict=False))


def _raw(walk: Walk, value: Any, depth: int) -> Any:
    with memoryview(value) as view:
        size = view.nbytes
    if size > walk.bytes_left:
        return f"[cut:{size}]"
    if not is_json(value):
        return walk.value(bytes(value), depth)
    walk.bytes_left -= size
    return value


def _proxy(walk: Walk, value: Any, depth: int) -> Any:
    return walk.value(value._get_current_object(), depth + 1) if depth < MAX_DEPTH else "<too deep>"


def _wrapped(walk: Walk, value: Any, depth: int) -> Any:
    return walk.value(value.__wrapped__, depth + 1) if depth < MAX_DEPTH else "<too deep>"


def _headers(walk: Walk, value: Any, depth: int) -> Any:
    return walk.mapping(value, depth, is_headers=True)


def _cookie(walk: Walk, value: Any, depth: int) -> Any:
    name = getattr(value, "key", None)
    return walk.summary(value, depth, name=walk.key(getattr(value, "name", "") if name is None else name))


def _data(walk: Walk, value: Any, depth: int) -> Any:
    return walk.inside(value, depth, lambda value, depth: walk.value(value.data, depth))


def _partial(walk: Walk, value: Any, depth: int) -> Any:
    # Its repr is as long as those of all its arguments.
    parts = {"function": value.func, "args": value.args, "keywords": value.keywords}
    return walk.inside(value, depth, lambda _, depth: walk.fields(parts.items(), len(parts), depth))


def _namespace(walk: Walk, value: Any, depth: int) -> Any:
    return walk.fields_of(value, depth, lambda value: value.__dict__.items())


def _method(walk: Walk, value: Any, depth: int) -> Any:
    # Its repr has that of its object in it.
    walk.nodes_left -= OPAQUE
    return {"__type__": "method", "__repr__": walk.text(f"<method {capture_name(value.__func__)}>")}


def how(kind: Any) -> _Copy:
    try:
        return _method_of(kind)
    except BaseException as error:  # noqa: BLE001  foreign code: a metaclass without a hash, or whose own raises
        reraise_signal(error)
        return functools.partial(_unhashed, _chosen(kind))


def _unhashed(copy: _Copy, walk: Walk, value: Any, depth: int) -> Any:
    walk.nodes_left -= UNHASHED
    return copy(walk, value, depth)


@functools.lru_cache(maxsize=2048)
def _method_of(kind: Any) -> _Copy:
    return _chosen(kind)


def _chosen(kind: Any) -> _Copy:
    """Return the method for values of this class."""
    for known, method in _BY_BASE:
        if issubclass(kind, known):
            return method
    if kind is decimal.Decimal:
        return _decimal
    if kind in NATIVE:
        return _encoded
    if kind is msgspec.Raw:
        return _raw
    if is_web_class(kind):
        return Walk.web
    module = kind.__module__ if isinstance(kind.__module__, str) else ""
    if kind.__name__.endswith(("Cookies", "CookieJar", "SimpleCookie")) and hasattr(kind, "__iter__"):
        return _cookies
    if kind.__name__ in ("Cookie", "Morsel") and module.startswith(_COOKIE_MODULES):
        return _cookie
    if kind.__name__ == "LocalProxy" and module.startswith("werkzeug"):
        return _proxy
    if any(map(_is_wrapt, kind.__mro__)):
        # One that prints itself may hide what it stands for.
        return Walk.opaque if _prints_itself(kind) else _wrapped
    if hasattr(kind, "model_dump"):
        return _model
    if hasattr(kind, "__fields_set__") and isinstance(getattr(kind, "__fields__", None), dict):
        return _earlier_model
    if issubclass(kind, tuple) and isinstance(getattr(kind, "_fields", None), tuple):
        return _named_tuple
    if issubclass(kind, tuple) and _names_all_items(kind):
        return _struct_sequence
    if module.startswith("sqlalchemy") and hasattr(kind, "_mapping"):
        return _row
    if module == "sqlite3" and kind.__name__ == "Row":
        return _sqlite_row
    if hasattr(kind, "columns") and hasattr(kind, "shape"):
        return frame
    if issubclass(kind, (*SEQUENCES, *VIEWS)):
        return Walk.sequence
    if issubclass(kind, dict):
        return Walk.dictionary
    if kind.__name__.endswith(_HEADERS) and hasattr(kind, "items"):
        return _headers
    if issubclass(kind, Mapping):
        return Walk.mapping
    if dataclasses.is_dataclass(kind):
        return _dataclass
    if issubclass(kind, msgspec.Struct):
        return _struct
    if isinstance(getattr(kind, "__attrs_attrs__", None), tuple):
        return _attrs
    found = arrays(kind, module)
    if found is not None:
        return found
    for known, method in _BY_BASE_LAST:
        if issubclass(kind, known):
            return method
    return Walk.opaque


def _is_wrapt(kind: Any) -> bool:
    return kind.__name__ == "ObjectProxy" and kind.__module__ in _WRAPT


def _prints_itself(kind: Any) -> bool:
    """Return whether a class of proxies has a `__repr__` or a `__str__` that is not that of its proxy base."""
    own = itertools.takewhile(lambda base: not _is_wrapt(base), kind.__mro__)
    return any(name in base.__dict__ for base in own for name in ("__repr__", "__str__"))


def _names_all_items(kind: Any) -> bool:
    """Return whether it is a tuple as the interpreter's own modules give them, such as `pwd.struct_passwd`."""
    count = getattr(kind, "n_sequence_fields", None)
    return type(count) is int and len(kind.__match_args__) == count


_BY_BASE: tuple[tuple[Any, _Copy], ...] = (
    (enum.Enum, _enum),
    (str, _string),
    (int, _integer),
    (float, _float),
    (BYTES, buffer),
    (array.array, array_array),
)


_BY_BASE_LAST: tuple[tuple[Any, _Copy], ...] = (
    (collections.UserList, _data),
    (collections.UserString, _data),
    (functools.partial, _partial),
    (types.SimpleNamespace, _namespace),
    (types.MethodType, _method),
    (BaseException, _exception),
    (re.Match, _match),
    (contextvars.ContextVar, _context_variable),
)
