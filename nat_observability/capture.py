"""capture(): a value as it is at this moment, as text or JSON, whatever the application does to it later."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from nat_observability.events import Captured

_MAX_DEPTH = 32
_MAX_REPR = 1024
_MAX_INT = 2**63


def _foreign(value: Any) -> Any:
    """Turn what msgspec does not know into something that it does: a pydantic model, an array, else its repr."""
    for method in ("model_dump", "tolist", "isoformat"):
        convert = getattr(value, method, None)
        if convert is not None and not isinstance(value, type):
            return convert(mode="json") if method == "model_dump" else convert()
    return _opaque(value)


def _opaque(value: object) -> dict[str, str]:
    try:
        text = repr(value)[:_MAX_REPR].encode("utf-8", "backslashreplace").decode()
    except Exception as error:  # foreign code: a __repr__ of the application's
        text = f"repr raised {type(error).__name__}"
    return {"__type__": type(value).__qualname__, "__repr__": text}


_encoder = msgspec.json.Encoder(enc_hook=_foreign)
_encode = _encoder.encode


def capture(value: object) -> Captured:
    """
    Return `value` as it is now.

    A `str` is kept as it is, None stays None; anything else becomes JSON at once, so a list that grows or a
    dict that is cleared afterwards changes nothing. Never raises: what JSON cannot hold (a lone surrogate, a
    recursive structure, an object of an unknown class, a dict key that is no text) is replaced by a readable
    mark, and only that part of the value.
    """
    if value is None:
        return None
    if type(value) is str:
        return value if value.isascii() else capture_text(value)
    return capture_json(value)


def capture_json(value: object) -> msgspec.Raw:
    """Return `value` as JSON, text included. Never raises."""
    try:
        return msgspec.Raw(_encode(value))
    except Exception:  # foreign code: properties and hooks of the application's objects, and what JSON lacks
        return msgspec.Raw(_encode(_sanitised(value, 0, set())))


def capture_text(text: str) -> str:
    """Return `text` with lone surrogates, which UTF-8 cannot hold, as backslash escapes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def _sanitised(value: object, depth: int, above: set[int]) -> Any:
    """Copy `value`, with what cannot be encoded replaced; `above` holds the ids of the enclosing containers."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return capture_text(str(value))
    if isinstance(value, int):
        return int(value) if -_MAX_INT <= value < 2 * _MAX_INT else str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if id(value) in above:
        return "<recursive>"
    if depth == _MAX_DEPTH:
        return "<too deep>"
    above.add(id(value))
    try:
        if isinstance(value, Mapping):
            return {
                capture_text(key if isinstance(key, str) else repr(key)): _sanitised(item, depth + 1, above)
                for key, item in list(value.items())
            }
        if isinstance(value, list | tuple | set | frozenset):
            return [_sanitised(item, depth + 1, above) for item in list(value)]
        try:
            return msgspec.Raw(_encode(value))
        except Exception:  # the value itself is what cannot be encoded
            builtin = msgspec.to_builtins(value) if isinstance(value, msgspec.Struct) else _foreign(value)
            return _sanitised(builtin, depth + 1, above)
    except Exception:  # foreign code again: an `items` or `__iter__` that raises
        return _opaque(value)
    finally:
        above.discard(id(value))
