"""What is recorded of objects of some sixty kinds, and that redaction finds a secret in each of them."""

from __future__ import annotations

import argparse
import array
import collections
import configparser
import contextlib
import contextvars
import ctypes
import dataclasses
import datetime
import decimal
import email.message
import enum
import fractions
import http.client
import http.cookies
import importlib
import importlib.util
import inspect
import io
import ipaddress
import mmap
import os
import pathlib
import pwd
import re
import sqlite3
import subprocess
import types
import typing
import urllib.parse
import urllib.request
import uuid
import warnings
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from nat_observability.events import Run, Span, Status, StepKind
from nat_observability.processors import Redactor
from nat_observability.recording.capture import capture

SECRET = "hunter2-and-more"
BYTES = SECRET.encode()
PASSWORD = {"password": "[redacted:password]"}
MOST = 2048  # bytes; each of these objects is small, or is to be recorded by its shape


def sent(value: object) -> str:
    """Return what is left of `value` after capture and redaction, as text."""
    run = Run(run_id="1", trace_id="1" * 32)
    span = Span(run, StepKind.TOOL, "tool", "1" * 16, None, 0, 1, Status.OK, input=capture(value))
    redacted = Redactor()(span)
    assert isinstance(redacted, Span)
    return redacted.input if isinstance(redacted.input, str) else bytes(redacted.input or b"").decode()


@dataclasses.dataclass(frozen=True)
class Shown:
    """An object that is recorded by its class and its repr, or a part of that."""

    kind: str
    part: str = ""


@dataclasses.dataclass
class Row:
    """A kind of objects: the packages that it needs, how one is made, and what is left of it."""

    make: Callable[..., Any]
    recorded: Any
    packages: tuple[str, ...] = ()


ROWS: dict[str, Row] = {}


def row(recorded: Any, *packages: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add a row of the name of a function, which is passed the packages."""

    def add(make: Callable[..., Any]) -> Callable[..., Any]:
        ROWS[make.__name__] = Row(make, recorded, packages)
        return make

    return add


def simple(name: str, make: Callable[[], Any], recorded: Any) -> None:
    """Add a row that needs no package."""
    ROWS[name] = Row(make, recorded)


VARIABLE = contextvars.ContextVar("password", default=SECRET)


class Color(enum.Enum):
    RED = "red"


class Typed(typing.TypedDict):
    password: str


class Named(typing.NamedTuple):
    user: str
    password: str


@dataclasses.dataclass
class Hiding:
    user: str
    pin: str = dataclasses.field(default=SECRET, repr=False)


class Slots:
    __slots__ = ("password",)


# -- The standard library --------------------------------------------------------------------------------------------

simple("bytes", lambda: b"password=" + BYTES, "password=[redacted:password]")
simple("bytes of an image", lambda: b"\x89PNG\r\n\x1a\n" + bytes(5000), "<5008 bytes of image/png>")
simple("bytes of a sound", lambda: b"RIFF\x00\x00\x00\x00WAVE" + bytes(5000), "<5012 bytes of audio/wav>")
simple("other bytes", lambda: b"\xff\x00" * 3000, "<6000 bytes>")
simple("key of bytes", lambda: {b"password": BYTES}, PASSWORD)
simple("array of bytes", lambda: array.array("B", b"password=" + BYTES), "password=[redacted:password]")
simple(
    "array", lambda: array.array("d", bytes(80_000)), {"__type__": "array", "dtype": "d", "shape": [10_000]}
)
simple("memoryview", lambda: memoryview(b"password=" + BYTES), "password=[redacted:password]")
simple("mmap", lambda: mmap.mmap(-1, 4096), Shown("mmap"))
simple("ctypes array", lambda: (ctypes.c_ubyte * 30)(*BYTES), Shown("c_ubyte_Array_30"))
simple("BytesIO", lambda: io.BytesIO(b"password=" + BYTES), Shown("BytesIO"))
simple("StringIO", lambda: io.StringIO("password=" + SECRET), Shown("StringIO"))
simple("named tuple", lambda: Named("u", SECRET), {"user": "u", **PASSWORD})
simple(
    "struct sequence",
    lambda: pwd.struct_passwd(("u", SECRET, 1, 2, "", "/", "/bin/sh")),
    {
        "pw_name": "u",
        "pw_passwd": "[redacted:passwd]",
        "pw_uid": 1,
        "pw_gid": 2,
        "pw_gecos": "",
        "pw_dir": "/",
        "pw_shell": "/bin/sh",
    },
)
simple(
    "struct sequence without all names",
    lambda: os.stat_result(range(10)),
    list(range(10)),
)
simple("key of a long integer", lambda: {10**5000: 1, "a": 2}, {"<integer of 16610 bits>": 1, "a": 2})
simple("typed dict", lambda: Typed(password=SECRET), PASSWORD)
simple("mapping proxy", lambda: types.MappingProxyType({"password": SECRET}), PASSWORD)
simple("chain map", lambda: collections.ChainMap({"password": SECRET}), PASSWORD)
simple("ordered dict", lambda: collections.OrderedDict(password=SECRET), PASSWORD)
simple("counter", lambda: collections.Counter("aab"), {"a": 2, "b": 1})
simple("dataclass", lambda: Hiding("u"), {"user": "u", "pin": "<hidden>"})
simple("namespace", lambda: types.SimpleNamespace(password=SECRET), PASSWORD)
simple("arguments", lambda: argparse.Namespace(password=SECRET), Shown("Namespace", "[redacted:password]"))
simple("object with slots", Slots, Shown("Slots"))
simple("enum", lambda: Color.RED, "red")
simple("date", lambda: datetime.date(2026, 1, 2), "2026-01-02")
simple("duration", lambda: datetime.timedelta(days=1), "P1D")
simple("decimal", lambda: decimal.Decimal("1.10"), "1.10")
simple("fraction", lambda: fractions.Fraction(1, 3), Shown("Fraction", "Fraction(1, 3)"))
simple("uuid", lambda: uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001")
simple("path", lambda: pathlib.PurePosixPath("/x"), Shown("PurePosixPath", "/x"))
simple("address", lambda: ipaddress.ip_address("10.0.0.1"), Shown("IPv4Address", "10.0.0.1"))
simple("pattern", lambda: re.compile("password=" + SECRET), Shown("Pattern", "[redacted:password]"))
simple(
    "match",
    lambda: re.match("(?P<password>.*)", SECRET),
    {"__type__": "Match", "span": [0, len(SECRET)], "groups": PASSWORD},
)
simple("query", lambda: urllib.parse.parse_qs("password=" + SECRET), PASSWORD)
simple(
    "URL", lambda: urllib.parse.urlsplit(f"https://u:{SECRET}@h/x"), "https://u:[redacted:url_password]@h/x"
)
simple(
    "completed process",
    lambda: subprocess.CompletedProcess(["x"], 0, b"password=" + BYTES),
    Shown("CompletedProcess"),
)
simple("exception", lambda: ValueError({"password": SECRET}), {"__type__": "ValueError", "args": [PASSWORD]})
simple("bound arguments", lambda: inspect.signature(Hiding).bind("u", pin="1"), Shown("BoundArguments"))
simple("generator", lambda: (each for each in [SECRET]), Shown("generator"))
simple("function", lambda: sent, Shown("function"))
simple("context variable", lambda: VARIABLE, {"__type__": "ContextVar", "name": "password"})


@row(PASSWORD)
def section_of_a_configuration() -> Any:
    """As read from a file."""
    parser = configparser.ConfigParser()
    parser.read_dict({"db": {"password": SECRET}})
    return parser["db"]


@row({"__type__": "SimpleCookie", "names": ["session"]})
def cookies_of_the_library() -> Any:
    """As servers set them."""
    cookie = http.cookies.SimpleCookie()
    cookie["session"] = SECRET
    return cookie


@row(Shown("EmailMessage"))
def mail() -> Any:
    """With a header that is secret."""
    message = email.message.EmailMessage()
    message["Authorization"] = "Bearer " + SECRET
    return message


@row({"id": 1, **PASSWORD})
def row_of_sqlite() -> Any:
    """With the names of its columns."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.row_factory = sqlite3.Row
        return connection.execute(f"select 1 as id, '{SECRET}' as password").fetchone()


@row({"__type__": "Request", "method": "POST", "url": "https://h/?api_key=[redacted:api_key]"})
def request_of_urllib() -> Any:
    """With a body and a header."""
    return urllib.request.Request(
        f"https://h/?api_key={SECRET}",
        headers={"Authorization": "Bearer " + SECRET},
        data=b"password=" + BYTES,
    )


# -- Numbers and tables ----------------------------------------------------------------------------------------------


@row({"__type__": "ndarray", "dtype": "uint8", "shape": [1024, 1024, 3]}, "numpy")
def numpy_image(numpy: Any) -> Any:
    """Three million numbers."""
    return numpy.zeros((1024, 1024, 3), dtype="uint8")


@row({"__type__": "ndarray", "dtype": "uint8", "shape": [25]}, "numpy")
def numpy_bytes_of_text(numpy: Any) -> Any:
    """Numbers that are a secret."""
    return numpy.frombuffer(b"password=" + BYTES, dtype="uint8")


@row([["2026-01-01", "NaT"], "2026-01-01", ["2 seconds"], [0] * 20], "numpy")
def numpy_times(numpy: Any) -> Any:
    """As text, whatever their unit; and numbers that are none."""
    times = numpy.array(["2026-01-01", "NaT"], dtype="datetime64[D]")
    return [times, times[0], numpy.array([2], dtype="timedelta64[s]"), numpy.zeros(20, dtype="uint8")]


@row([[1, 2], [3, 4]], "numpy")
def numpy_small(numpy: Any) -> Any:
    """In full."""
    return numpy.array([[1, 2], [3, 4]])


@row([{"user": "u", **PASSWORD}], "numpy")
def numpy_records(numpy: Any) -> Any:
    """An array of records."""
    return numpy.array([("u", SECRET)], dtype=[("user", "U20"), ("password", "U20")])


@row({"user": "u", **PASSWORD}, "numpy")
def numpy_record(numpy: Any) -> Any:
    """One of them."""
    return numpy_records(numpy)[0]


@row([PASSWORD], "numpy")
def numpy_objects(numpy: Any) -> Any:
    """An array of anything."""
    return numpy.array([{"password": SECRET}], dtype=object)


@row({"__type__": "DataFrame", "shape": [1, 1], "columns": ["password"]}, "pandas")
def pandas_frame(pandas: Any) -> Any:
    """By its columns."""
    return pandas.DataFrame({"password": [SECRET]})


@row({"__type__": "Series", "name": "password", "dtype": "object", "shape": [1]}, "pandas")
def pandas_series(pandas: Any) -> Any:
    """A column, whose name says what it holds."""
    return pandas.Series([SECRET], name="password", dtype="object")


@row({"Index": 0, **PASSWORD}, "pandas")
def pandas_row(pandas: Any) -> Any:
    """A named tuple."""
    return next(pandas.DataFrame({"password": [SECRET]}).itertuples())


@row({"__type__": "DataFrame", "shape": [1, 1], "columns": ["password"]}, "polars")
def polars_frame(polars: Any) -> Any:
    """By its columns."""
    return polars.DataFrame({"password": [SECRET]})


@row({"__type__": "Series", "name": "password", "dtype": "String", "shape": [1]}, "polars")
def polars_series(polars: Any) -> Any:
    """A column."""
    return polars.Series("password", [SECRET])


@row({"__type__": "Tensor", "dtype": "torch.float32", "shape": [64, 1536]}, "torch")
def torch_tensor(torch: Any) -> Any:
    """Embeddings."""
    return torch.zeros(64, 1536)


@row({"__type__": "Image", "mode": "RGB", "size": [640, 480]}, "PIL.Image")
def pillow_image(image: Any) -> Any:
    """By its size."""
    return image.new("RGB", (640, 480))


HIDDEN_KEY = {"__type__": "SecretStr", "__repr__": "SecretStr('**********')"}

# -- Models and databases --------------------------------------------------------------------------------------------


@row({"key": HIDDEN_KEY, "hidden": "<hidden>", **PASSWORD}, "pydantic")
def pydantic_model(pydantic: Any) -> Any:
    """With a field that hides itself, and one that is hidden."""
    return pydantic.create_model(
        "Model",
        key=(pydantic.SecretStr, pydantic.SecretStr(SECRET)),
        hidden=(str, pydantic.Field(SECRET, repr=False)),
        password=(str, SECRET),
    )()


@row(Shown("SecretStr", "**********"), "pydantic")
def pydantic_secret(pydantic: Any) -> Any:
    """By its repr."""
    return pydantic.SecretStr(SECRET)


@row(Shown("PostgresDsn", "[redacted:url_password]"), "pydantic")
def pydantic_dsn(pydantic: Any) -> Any:
    """An address with a password."""
    return pydantic.PostgresDsn(f"postgres://u:{SECRET}@h/db")


@row(PASSWORD, "pydantic")
def pydantic_root(pydantic: Any) -> Any:
    """A model of a dict."""
    return pydantic.RootModel[dict[str, str]]({"password": SECRET})


@row({"hidden": "<hidden>", **PASSWORD}, "attrs")
def attrs_object(attrs: Any) -> Any:
    """With a hidden field."""
    return attrs.make_class("Defined", {"hidden": attrs.field(repr=False), "password": attrs.field()})(
        SECRET, SECRET
    )


@row(PASSWORD, "msgspec")
def msgspec_struct(package: Any) -> Any:
    """By its fields."""
    return package.defstruct("Record", [("password", str)])(SECRET)


@row("postgresql://u:***@h/db", "sqlalchemy")
def sqlalchemy_address(sqlalchemy: Any) -> Any:
    """By its repr."""
    return sqlalchemy.make_url(f"postgresql://u:{SECRET}@h/db")


@row({"id": 1, **PASSWORD}, "sqlalchemy")
def sqlalchemy_row(sqlalchemy: Any) -> Any:
    """With the names of its columns."""
    engine = sqlalchemy.create_engine("sqlite://")
    try:
        with engine.connect() as connection:
            return connection.execute(sqlalchemy.text(f"select 1 as id, '{SECRET}' as password")).one()
    finally:
        engine.dispose()


@row(PASSWORD, "google.protobuf.struct_pb2")
def protobuf_struct(package: Any) -> Any:
    """A message that is a mapping."""
    message = package.Struct()
    message.update({"password": SECRET})
    return message


# -- The web ---------------------------------------------------------------------------------------------------------

HEADERS = {"Authorization": "Bearer " + SECRET, "X-Api-Key": SECRET}
KEY = {"X-Api-Key": "[redacted:api_key]"}


def scope() -> dict[str, Any]:
    """Return the scope of a request."""
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "method": "POST",
        "scheme": "https",
        "path": "/chat",
        "query_string": b"",
        "headers": [
            (b"host", b"h"),
            (b"content-length", b"42"),
            *((name.lower().encode(), text.encode()) for name, text in HEADERS.items()),
        ],
        "server": ("127.0.0.1", 80),
    }


def posted(kind: str, url: str, **more: Any) -> dict[str, Any]:
    """Return what is recorded of a request."""
    return {"__type__": kind, "method": "POST", "url": url, **more}


simple("ASGI scope", scope, posted("ASGI scope", "https://127.0.0.1:80/chat", size=42))


@row(posted("Request", "https://127.0.0.1:80/chat", size=42), "starlette.requests")
def starlette_request(package: Any) -> Any:
    """With headers."""
    return package.Request(scope())


@row({"__type__": "JSONResponse", "size": 31, "status": 200}, "starlette.responses")
def starlette_response(package: Any) -> Any:
    """With a body and headers."""
    return package.JSONResponse({"password": SECRET}, headers=HEADERS)


@row([PASSWORD], "starlette.datastructures")
def starlette_form(package: Any) -> Any:
    """A mapping in which a name may come again."""
    return [package.FormData([("password", SECRET)])]


@row(posted("Request", "https://127.0.0.1:80/chat", size=42), "fastapi")
def fastapi_request(fastapi: Any) -> Any:
    """Starlette's."""
    return fastapi.Request(scope())


@row(posted("Request", "http://localhost/x", size=4), "werkzeug.test")
def werkzeug_request(package: Any) -> Any:
    """With headers and a body."""
    return package.EnvironBuilder(method="POST", path="/x", data=b"body", headers=HEADERS).get_request()


@row({"__type__": "Response", "size": 25, "status": 200}, "flask")
def flask_response(flask: Any) -> Any:
    """With a body and headers."""
    return flask.Response("password=" + SECRET, headers=HEADERS)


@row(posted("Request", "http://127.0.0.1/x"), "aiohttp.test_utils")
def aiohttp_request(package: Any) -> Any:
    """A server's."""
    return package.make_mocked_request("POST", "/x", headers={"Host": "127.0.0.1", **HEADERS})


@row({"__type__": "Response", "size": 25, "status": 200}, "aiohttp.web")
def aiohttp_response(package: Any) -> Any:
    """With a body and headers."""
    return package.Response(body=b"password=" + BYTES, headers=HEADERS)


@row({"__type__": "Response"}, "litestar")
def litestar_response(litestar: Any) -> Any:
    """With a body and headers."""
    return litestar.Response({"password": SECRET}, headers=HEADERS)


@row(posted("HTTPServerRequest", "/x"), "tornado.httputil")
def tornado_request(package: Any) -> Any:
    """A server's."""
    return package.HTTPServerRequest(
        "POST", "/x", headers=package.HTTPHeaders(HEADERS), connection=Connection()
    )


class Connection:
    """As much of one of Tornado's as a request looks at."""

    context = None

    def set_close_callback(self, _: object) -> None:
        """Never called back."""


@row(posted("WSGIRequest", "/x", size=24), "django.test")
def django_request(package: Any) -> Any:
    """With a body and headers."""
    settings = importlib.import_module("django.conf").settings
    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"])
    return package.RequestFactory().post(
        "/x", "password=" + SECRET[:15], content_type="text/plain", HTTP_AUTHORIZATION="Bearer " + SECRET
    )


@row(posted("Request", "https://h/x", size=25), "httpx")
def httpx_request(httpx: Any) -> Any:
    """With a body and headers."""
    return httpx.Request("POST", "https://h/x", headers=HEADERS, content=b"password=" + BYTES)


@row({"__type__": "Response", "size": 25, "status": 401}, "httpx")
def httpx_response(httpx: Any) -> Any:
    """Without its request."""
    return httpx.Response(401, headers=HEADERS, content=b"password=" + BYTES)


@row(posted("PreparedRequest", "https://h/x", size=25), "requests")
def requests_request(requests: Any) -> Any:
    """With a body and headers."""
    return requests.Request("POST", "https://h/x", headers=HEADERS, data="password=" + SECRET).prepare()


@row({"authorization": "Bearer [redacted:bearer_token]", "x-api-key": "[redacted:api_key]"}, "httpx")
def httpx_headers(httpx: Any) -> Any:
    """As headers."""
    return httpx.Headers(HEADERS)


@row(PASSWORD, "multidict")
def multidict_pairs(multidict: Any) -> Any:
    """A name that comes twice."""
    return multidict.CIMultiDict([("password", SECRET), ("password", SECRET)])


@row(Shown("URL", "[redacted:url_password]"), "yarl")
def yarl_address(yarl: Any) -> Any:
    """By its repr."""
    return yarl.URL(f"https://u:{SECRET}@h")


@row(PASSWORD, "wrapt")
def wrapt_proxy(wrapt: Any) -> Any:
    return wrapt.ObjectProxy({"password": SECRET})


@row({"__type__": "Request", "method": "GET", "url": "https://host/"}, "wrapt", "httpx")
def wrapt_proxy_of_a_request(wrapt: Any, httpx: Any) -> Any:
    request = httpx.Request("GET", "https://host/", headers={"authorization": SECRET})
    return wrapt.ObjectProxy(request)


@row(Shown("ObjectProxy"), "wrapt")
def wrapt_proxy_of_nothing(wrapt: Any) -> Any:
    return wrapt.ObjectProxy.__new__(wrapt.ObjectProxy)


@row({"__type__": "Morsel", "name": "session"})
def morsel() -> Any:
    return http.cookies.SimpleCookie({"session": SECRET})["session"]


@row({"__type__": "Cookie", "name": "session"}, "litestar.datastructures")
def litestar_cookie(datastructures: Any) -> Any:
    return datastructures.Cookie(key="session", value=SECRET)


@row({"X-Api-Key": "[redacted:api_key]", "Accept": ["a", "b"]})
def http_message() -> Any:
    message = http.client.HTTPMessage()
    for name, value in (("X-Api-Key", SECRET), ("Accept", "a"), ("Accept", "b")):
        message[name] = value
    return message


@pytest.mark.parametrize("name", ROWS)
def test_kinds_of_objects(name: str) -> None:
    """A table: what is left of each kind after redaction, alone and in a list; bounded, and without its secret."""
    line = ROWS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages
        value = line.make(*(pytest.importorskip(each) for each in line.packages))
    alone, inside = sent(value), sent({"a": [value, object()]})
    for text in (alone, inside):
        assert SECRET not in text
        assert len(text) <= MOST
    recorded: Any = alone if isinstance(capture(value), str) else msgspec.json.decode(alone)
    if isinstance(line.recorded, Shown):
        assert recorded["__type__"] == line.recorded.kind
        assert line.recorded.part in recorded["__repr__"]
    else:
        assert recorded == line.recorded
        assert msgspec.json.decode(inside)["a"][0] == line.recorded


def test_the_table_is_long() -> None:
    """Of every package that the tests install, at least."""
    assert len(ROWS) >= 60
    installed = {
        each
        for line in ROWS.values()
        for each in line.packages
        if importlib.util.find_spec(each.partition(".")[0])
    }
    assert len(installed) >= 12
