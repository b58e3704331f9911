"""web_summary(): a request, a response or a connection of a web framework as its method and URL, and nothing else."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, Final

from nat_observability.foreign_errors import reraise_signal

_MISSING: Final = object()
_MODULES = frozenset(
    (
        "aiohttp",
        "blacksheep",
        "botocore",
        "bottle",
        "django",
        "falcon",
        "fastapi",
        "flask",
        "httpcore",
        "httpx",
        "litestar",
        "pyramid",
        "quart",
        "requests",
        "rest_framework",
        "sanic",
        "starlette",
        "tornado",
        "urllib",
        "urllib3",
        "webob",
        "werkzeug",
    )
)
_ENDINGS = ("Request", "Response", "WebSocket", "Websocket", "Connection", "RequestInfo")
_URLS = ("url", "full_url", "uri", "_url")
_STATUSES = ("status_code", "status")
_ADDRESSES = frozenset((*_URLS, "path"))
_ACTIONS = frozenset(("method", "get_method", *_STATUSES))
_TELLING = frozenset(("headers",)) | _ADDRESSES | _ACTIONS
_LONGEST_URL = 8192  # characters
_MAX_HEADERS = 256


def is_web_class(kind: type) -> bool:
    """Return whether `kind` is a request, response or connection of a known framework, by the names of its bases."""
    for base in kind.__mro__:
        if str(base.__module__).partition(".")[0] in _MODULES and base.__name__.endswith(_ENDINGS):
            return True
    return False


def looks_like_web(value: object) -> bool:
    """Return whether `value` has headers, an address, and a method or a status. Calls no code of its class."""
    kind: Any = type(value)
    try:
        names = _names_of(kind)
    except BaseException as error:  # noqa: BLE001  foreign code: a metaclass without a hash, or whose own raises
        reraise_signal(error)
        names = _names(kind)
    try:
        fields = object.__getattribute__(value, "__dict__")
    except AttributeError:
        fields = None
    if type(fields) is dict:
        if "headers" not in names and "headers" not in fields:
            return False
        names |= _TELLING & fields.keys()
    return "headers" in names and not names.isdisjoint(_ADDRESSES) and not names.isdisjoint(_ACTIONS)


def _names(kind: type) -> frozenset[str]:
    return frozenset(name for base in kind.__mro__ for name in _TELLING & base.__dict__.keys())


@functools.lru_cache(maxsize=2048)
def _names_of(kind: Any) -> frozenset[str]:
    return _names(kind)


def is_scope(value: Mapping[Any, Any]) -> bool:
    """Return whether a mapping is the scope of an ASGI connection or the environment of a WSGI request."""
    if "REQUEST_METHOD" in value:
        return "wsgi.version" in value or "wsgi.input" in value or "SERVER_PROTOCOL" in value
    kind = value.get("type")
    return (
        isinstance(kind, str)
        and kind in ("http", "websocket")
        and "path" in value
        and ("headers" in value or "asgi" in value)
    )


def scope_summary(value: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the method and the URL of such a mapping."""
    if "REQUEST_METHOD" in value:
        name, port = _text(value.get("SERVER_NAME")), _text(value.get("SERVER_PORT"))
        path = _text(value.get("SCRIPT_NAME")) + _text(value.get("PATH_INFO"))
        return _summary(
            "WSGI environ",
            value["REQUEST_METHOD"],
            _address(value.get("wsgi.url_scheme", "http"), name, port, path, value.get("QUERY_STRING")),
            value.get("CONTENT_LENGTH"),
        )
    server = value.get("server")
    host, port = (
        (_text(server[0]), _text(server[1]))
        if isinstance(server, list | tuple) and len(server) == 2
        else ("", "")
    )
    scheme = value.get("scheme") or ("ws" if value["type"] == "websocket" else "http")
    return _summary(
        "ASGI scope",
        value.get("method", _MISSING),
        _address(scheme, host, port, _text(value["path"]), value.get("query_string")),
        _length_in(value.get("headers")),
    )


def web_summary(value: Any) -> dict[str, Any]:
    """Return the method and the URL of a request, and the status of a response."""
    request = value
    status: Any = _MISSING
    for name in _STATUSES:
        found = _read(value, name)
        if type(found) is int or (isinstance(found, int) and not isinstance(found, bool)):
            status = int(found)
            break
    method = _read(value, "method")
    if method is _MISSING and status is not _MISSING:
        inner = _read(value, "request")
        if inner is not _MISSING and inner is not None:
            request = inner
            method = _read(inner, "method")
    if method is _MISSING:
        get_method = _read(request, "get_method")
        method = get_method() if callable(get_method) else _MISSING
    summary = _summary(type(value).__qualname__, method, _url(value) or _url(request), _length(value))
    if status is not _MISSING:
        summary["status"] = status
    return summary


def _url(value: Any) -> str:
    scope = _read(value, "scope")
    if type(scope) is dict and is_scope(scope):
        # The framework's own URL takes the host from the headers.
        return str(scope_summary(scope).get("url", ""))
    for name in _URLS:
        found = _read(value, name)
        if found is _MISSING or found is None or callable(found):
            continue
        if isinstance(found, bytes):
            return _text(found)
        # httpx shows a password in a URL as it is in its str, for the redaction to find by its place.
        text = str(found)
        if text:
            return text
    full = _read(value, "get_full_path")
    if callable(full):
        return str(full())
    return _text(_read(value, "path"))


def _read(value: Any, name: str) -> Any:
    try:
        return getattr(value, name, _MISSING)
    except BaseException as error:  # noqa: BLE001  foreign code: httpx raises for a response without a request
        reraise_signal(error)
        return _MISSING


def _length(value: Any) -> Any:
    """Return the size of the body of a request or response, as its headers have it."""
    scope = _read(value, "scope")
    if type(scope) is dict:
        return _length_in(scope.get("headers"))
    length = _read(value, "content_length")
    if length is _MISSING or callable(length):
        get = _read(_read(value, "headers"), "get")
        try:
            length = get("content-length") if callable(get) else None
        except BaseException as error:  # noqa: BLE001  foreign code
            reraise_signal(error)
            return None
    return length


def _length_in(headers: Any) -> Any:
    if isinstance(headers, list | tuple):
        for header in headers[:_MAX_HEADERS]:
            if isinstance(header, list | tuple) and len(header) == 2 and header[0] == b"content-length":
                return header[1]
    return None


def _summary(kind: str, method: Any, url: str, length: Any = None) -> dict[str, Any]:
    summary: dict[str, Any] = {"__type__": kind}
    if isinstance(method, str | bytes) and method:
        summary["method"] = _text(method)
    if len(url) > _LONGEST_URL:
        # The query goes as a whole: redaction would not recognise half a secret.
        url = f"{url.partition('?')[0][:_LONGEST_URL]}[cut:{len(url)}]"
    if url:
        summary["url"] = url
    size = _text(length) if isinstance(length, str | bytes | int) else ""
    if size.isdecimal() and 0 < len(size) < 20 and int(size):
        summary["size"] = int(size)
    return summary


def _address(scheme: Any, host: str, port: str, path: str, query: Any) -> str:
    server = f"{host}:{port}" if host and port and port != "None" else host
    url = f"{_text(scheme)}://{server}{path}" if server else path
    query = _text(query)
    return f"{url}?{query}" if query else url


def _text(value: Any) -> str:
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "backslashreplace")
    return "" if value is None or value is _MISSING else str(value)


def scope_items(value: Any) -> Iterator[tuple[str, object]]:
    """Yield what tells whether a dict is the scope of a request, and what is recorded of it then."""
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
    "CONTENT_LENGTH",
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
