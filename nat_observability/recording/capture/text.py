"""cut_text(): text and names as UTF-8 can hold them, cut between two words."""

from __future__ import annotations

import msgspec

from nat_observability.recording.capture.budget import (
    CONTROLS,
    ESCAPED,
    ESCAPES,
    LOOKED_THROUGH,
    MAX_REPR,
)

_PIECE = 16 * 1024  # characters
_ESCAPE = len("\\ud800")
_skip = msgspec.json.Decoder(msgspec.Raw).decode
_MOST_ESCAPED = 32 * 1024  # lone surrogates of one text: each is found by code that is slow
_LONGEST_SECRET = 4096  # characters; a private key of 4096 bits has 3300


def cut_text(text: str, most: int) -> str:
    """
    Return an exact `str` as UTF-8 can hold it, in at most so many bytes (characters, if it was not too long).

    If it was longer, a mark like `[cut:12345]` says how many characters it had.
    """
    following = text[most : most + 1]
    if text.isascii():
        kept = text[:most]
        if not following:
            return kept
    else:
        # It may take more bytes than characters. A repr is measured in characters.
        encoded, is_whole = _encoded(text if most > MAX_REPR else text[:most], most)
        if is_whole and (len(encoded) <= most or most <= MAX_REPR):
            kept = encoded.decode()
            if not following:
                return kept
        else:
            kept = encoded[:most].decode("utf-8", "ignore")
            following = "x"
    if kept and not (kept[-1].isspace() or following.isspace()):
        # The word at the cut goes as a whole: redaction would not recognise half a secret.
        tail = kept[-_LONGEST_SECRET:]
        words = tail.split()
        kept = kept[: -len(words[-1])]
    return f"{kept}[cut:{len(text)}]"


def _encoded(text: str, most: int) -> tuple[bytes, bool]:
    """Return a text as UTF-8, not much more than so many bytes of it, and whether that is all."""
    if len(text) <= _PIECE:
        try:
            return text.encode(), True
        except UnicodeEncodeError:
            pass
    pieces: list[bytes] = []
    size = escaped = taken = 0
    for start in range(0, len(text), _PIECE):
        if size > most or escaped > _MOST_ESCAPED:
            break
        piece = text[start : start + _PIECE]
        taken += len(piece)
        try:
            encoded = piece.encode()
        except UnicodeEncodeError:
            encoded = piece.encode("utf-8", "backslashreplace")
            escaped += (len(encoded) - len(piece.encode("utf-8", "ignore"))) // _ESCAPE
        pieces.append(encoded)
        size += len(encoded)
    return b"".join(pieces), taken == len(text)


def utf8_text(text: str) -> str:
    """Return `text` with lone surrogates, which UTF-8 cannot hold, as backslash escapes."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def nodes_of_escapes(text: str, data: bytes) -> int:
    """Return what it costs that a text has characters which its JSON has in another form."""
    escapes = len(data) if len(data) > len(text) * 2 else 0
    if not text.isascii() and b"\\\\ud" in data:
        return ESCAPED + max(escapes // ESCAPES, len(text) // LOOKED_THROUGH)
    return escapes // CONTROLS


def is_json(data: msgspec.Raw) -> bool:
    """Return whether what is said to be JSON is that; anything else would spoil what it becomes a part of."""
    try:
        _skip(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def class_name(kind: type) -> str:
    """Return the qualified name of a class, whatever its metaclass does."""
    return utf8_text(str.__str__(type.__dict__["__qualname__"].__get__(kind)))


def module_name(kind: type) -> str:
    """Return the module of a class, whatever its metaclass does; empty if it is not text."""
    try:
        module = type.__dict__["__module__"].__get__(kind)
    except AttributeError:  # it has been deleted
        return ""
    return utf8_text(str.__str__(module)) if issubclass(type(module), str) else ""


def capture_name(function: object) -> str:
    """Return the qualified name of a function."""
    name = getattr(function, "__qualname__", None)
    return utf8_text(name) if type(name) is str else class_name(type(function))
