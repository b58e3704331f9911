"""What a URL to send to, its headers and a secret may hold; no message ever shows a value."""

from __future__ import annotations

import re
from typing import overload
from urllib.parse import urlsplit

from pydantic import SecretStr

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_VALUE = re.compile(r"[\t\x20-\x7e]*")
_NEVER_IN_A_URL = re.compile(r"[\s\x00-\x1f\x7f]")


def url_problem(url: str) -> str | None:
    """Return what is wrong with a URL to send to, worded to follow its name; None if nothing is."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "is not a URL"
    if parts.scheme not in ("http", "https"):
        return "does not begin with 'http://' or 'https://'"
    if not host or port == 0 or _NEVER_IN_A_URL.search(url):
        return "has no valid host and port"
    if parts.username is not None or parts.password is not None:
        return "holds credentials, which belong in a header such as authorization"
    return None


def is_header_name(name: str) -> bool:
    """Whether this can be the name of a header."""
    return _TOKEN.fullmatch(name) is not None


def is_header_value(value: str) -> bool:
    """Whether this can be the value of a header: printable ASCII, spaces and tabs, and no line break."""
    return _VALUE.fullmatch(value) is not None


@overload
def secret_text(value: SecretStr | str) -> str: ...
@overload
def secret_text(value: object) -> object: ...
def secret_text(value: object) -> object:
    """Return a secret's text in the clear, to send or parse and never to log; anything else as it is."""
    return value.get_secret_value() if isinstance(value, SecretStr) else value
