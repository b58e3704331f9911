"""What has been captured, in whatever form it was in the program, is something in which redaction finds the secrets."""

from __future__ import annotations

import array
import base64
import collections
import dataclasses
import enum
import functools
import types
import typing
import urllib.parse
import urllib.request
import warnings
import wsgiref.headers
from typing import Any

import aiohttp
import attrs
import fastapi
import flask
import httpx
import msgspec
import multidict
import numpy
import pydantic
import pydantic.dataclasses
import pydantic.v1
import pytest
import quart
import requests.structures
import sqlalchemy
import starlette.datastructures
import starlette.requests
import starlette.websockets
import werkzeug.datastructures
import werkzeug.test
from aiohttp.test_utils import make_mocked_request
from litestar import Litestar
from litestar.testing import RequestFactory

from nat_observability import ContextState, step
from nat_observability.events import Run, Span, Status, StepKind
from nat_observability.processors import Redactor
from nat_observability.recording.capture import capture, capture_json

SECRET = "hunter2-and-more"
BYTES = SECRET.encode()
DEFAULT = Redactor()


def sent(value: object) -> str:
    """Return what is left of `value` after capture and redaction, as text."""
    recorded = capture(value)
    run = Run(run_id="1", trace_id="1" * 32)
    span = Span(run, StepKind.TOOL, "tool", "1" * 16, None, 0, 1, Status.OK, input=recorded)
    redacted = DEFAULT(span)
    assert isinstance(redacted, Span)
    return redacted.input if isinstance(redacted.input, str) else bytes(redacted.input or b"").decode()


def scope(kind: str = "http") -> dict[str, Any]:
    """Return the scope of a connection whose headers are secret, as servers make it."""
    return {
        "type": kind,
        "asgi": {"version": "3.0"},
        "method": "POST",
        "scheme": "https",
        "path": "/chat",
        "raw_path": b"/chat",
        "query_string": b"page=2&token=" + BYTES,
        "headers": [
            (b"host", b"example.org"),
            (b"authorization", b"Bearer " + BYTES),
            (b"cookie", b"s=" + BYTES),
        ],
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 1),
        "app": object(),
    }


@dataclasses.dataclass
class Data:
    api_key: Any
    number: int = 1


class Model(pydantic.BaseModel):
    api_key: bytes
    other: pydantic.SecretStr = pydantic.SecretStr(SECRET)
    third: pydantic.SecretBytes = pydantic.SecretBytes(BYTES)


class Base64Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(ser_json_bytes="base64")

    api_key: bytes


class Record(msgspec.Struct):
    api_key: bytes


@attrs.define
class Defined:
    api_key: bytes
    shown: str = attrs.field(default=SECRET, repr=lambda _: "***")
    hidden: str = attrs.field(default=SECRET, repr=False)


class Own(typing.NamedTuple):
    user: str
    password: str


Collected = collections.namedtuple("Collected", "user password")


class Body(enum.Enum):
    JSON = b'{"api_key": "' + BYTES + b'"}'


class SubBytes(bytes):
    pass


@dataclasses.dataclass
class Masked:
    user: str
    pin: str

    def __repr__(self) -> str:
        return f"Masked({self.user}, ***)"


@dataclasses.dataclass
class HiddenField:
    user: str
    pin: str = dataclasses.field(repr=False)


class Excluding(pydantic.BaseModel):
    hidden: str = pydantic.Field(SECRET, exclude=True)
    unshown: str = pydantic.Field(SECRET, repr=False)
    beside: Any = None


class Serializing(pydantic.BaseModel):
    pin: str = SECRET
    other: typing.Annotated[str, pydantic.PlainSerializer(lambda _: "***")] = SECRET
    beside: Any = None

    @pydantic.field_serializer("pin")
    def mask(self, _: str) -> str:
        return "***"


def basic_auth() -> aiohttp.BasicAuth:
    """Return aiohttp's credentials, which newer versions warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return aiohttp.BasicAuth("u", SECRET)


HEADERS = [
    ("authorization", f"Bearer {SECRET}"),
    ("x-api-key", SECRET),
    ("proxy-authorization", f"Basic {base64.b64encode(BYTES).decode()}"),
    ("x-amz-security-token", SECRET),
    ("sec-websocket-protocol", f"bearer,{SECRET}"),
    ("x-goog-iap-jwt-assertion", SECRET),
    ("x-amz-server-side-encryption-customer-key", SECRET),
]

HIDDEN: dict[str, Any] = {
    "bytes": b'{"api_key": "' + BYTES + b'"}',
    "bytes in a list": [b"password=" + BYTES],
    "bytearray in a dict": {"a": [{"b": bytearray(b'{"api_key": "' + BYTES + b'"}')}]},
    "memoryview": memoryview(b"password=" + BYTES),
    "subclass of bytes": SubBytes(b"password=" + BYTES),
    "key of bytes": {b"x-api-key": SECRET},
    "key and value of bytes": {b"x-api-key": BYTES},
    "key of bytes among many": {**{str(number): number for number in range(50)}, b"x-api-key": SECRET},
    "key of a memoryview": {memoryview(b"x-api-key"): SECRET},
    "bytes among many": [*range(100), {"a": [b"password=" + BYTES]}],
    "bytes in a set": {b"password=" + BYTES},
    "bytes in a deque": collections.deque([b"password=" + BYTES]),
    "bytes in an array": array.array("B", b"password=" + BYTES),
    "bytes in a larger array": array.array("B", b"password=" + BYTES + bytes(40)),
    "long bytes in an array": array.array("B", b"words " * 20 + b"password=" + BYTES),
    "bytes in an array of numpy's": numpy.frombuffer(b"password=" + BYTES + bytes(40), dtype="uint8"),
    "bytes in a numpy array": numpy.array([b"password=" + BYTES]),
    "bytes in an enum": Body.JSON,
    "dataclass": Data(BYTES),
    "dataclass in a list": [Data(BYTES)],
    "model": Model(api_key=BYTES),
    "model beside an object": [Model(api_key=BYTES), object()],
    "model that writes Base64": Base64Model(api_key=BYTES),
    "struct": Record(BYTES),
    "attrs": Defined(BYTES),
    "pairs of bytes": [(b"authorization", b"Bearer " + BYTES), (b"cookie", b"s=" + BYTES)],
    "tuple of pairs": ((b"x-api-key", BYTES),),
    "httpx.Headers": httpx.Headers(HEADERS),
    "httpx.Headers.raw": httpx.Headers(HEADERS).raw,
    "starlette Headers": starlette.datastructures.Headers(dict(HEADERS)),
    "starlette Headers.raw": starlette.datastructures.Headers(dict(HEADERS)).raw,
    "headers of a scope": {"type": "websocket", "headers": [(b"sec-websocket-protocol", b"bearer," + BYTES)]},
    "subprotocols of a scope": {"type": "websocket", "subprotocols": ["bearer", SECRET]},
    "accepted subprotocol": {"type": "websocket.accept", "subprotocol": SECRET},
    "headers in an environ": {"HTTP_" + name.upper().replace("-", "_"): value for name, value in HEADERS},
    "headers of a HTTP message": "".join(f"{name}: {value}\r\n" for name, value in HEADERS),
    "headers of a command": [f"-H '{name}: {value}'" for name, value in HEADERS],
    "names and values": [{"name": name, "value": value} for name, value in HEADERS],
    "multidict of headers": multidict.CIMultiDict(HEADERS),
    "items of a multidict": multidict.CIMultiDict(HEADERS).items(),
    "requests headers": requests.structures.CaseInsensitiveDict(HEADERS),
    "pairs in the repr of an error": ValueError(HEADERS),
    "multidict": multidict.CIMultiDict([("set-cookie", f"a={SECRET}"), ("set-cookie", f"b={SECRET}")]),
    "werkzeug Headers": werkzeug.datastructures.Headers(HEADERS),
    "wsgiref Headers": wsgiref.headers.Headers(HEADERS),
    "cookies": httpx.Cookies({"sid": SECRET}),
    "scope": scope(),
    "scope of a websocket": scope("websocket"),
    "scope in a dict": {"request": scope()},
    "WSGI environ": werkzeug.test.EnvironBuilder(path=f"/?token={SECRET}", headers=HEADERS).get_environ(),
    "starlette Request": starlette.requests.Request(scope()),
    "fastapi Request": {"request": fastapi.Request(scope())},
    "starlette HTTPConnection": starlette.requests.HTTPConnection(scope()),
    "werkzeug Request": werkzeug.test.EnvironBuilder(path=f"/?token={SECRET}", headers=HEADERS).get_request(),
    # An application, which would configure the logging of the process otherwise.
    "litestar Request": RequestFactory(Litestar([], logging_config=None)).post("/", headers=dict(HEADERS)),
    "aiohttp web request": make_mocked_request("GET", f"/?token={SECRET}", headers=dict(HEADERS)),
    "httpx.Request": httpx.Request("GET", f"https://user:{SECRET}@host/?api_key={SECRET}", headers=HEADERS),
    "httpx.Response": httpx.Response(
        200, headers=HEADERS, request=httpx.Request("GET", f"https://host/?api_key={SECRET}", headers=HEADERS)
    ),
    "httpx.Response alone": httpx.Response(200, headers={"set-cookie": f"a={SECRET}"}),
    "urllib request": urllib.request.Request(f"https://host/?api_key={SECRET}", headers=dict(HEADERS)),
    "named tuple": Own("u", SECRET),
    "named tuples": [Collected("u", SECRET)],
    "BasicAuth": basic_auth(),
    "urlsplit": urllib.parse.urlsplit(f"https://u:{SECRET}@host/path?token={SECRET}"),
    "urlparse in a dict": {"url": urllib.parse.urlparse(f"https://u:{SECRET}@host/path")},
    "urlsplit of bytes": urllib.parse.urlsplit(b"https://u:" + BYTES + b"@host/path"),
    "SQLAlchemy URL": sqlalchemy.make_url(f"postgresql://u:{SECRET}@host/db"),
    "SQLAlchemy URL in a list": [sqlalchemy.make_url(f"postgresql://u:{SECRET}@host/db")],
    "keys of tuples": {("db", "password"): SECRET, (b"api_key",): SECRET},
    "masked by its repr": [Masked("u", SECRET)],
    "field that the repr leaves out": HiddenField("u", SECRET),
    "excluded field": Excluding(),
    "excluded field beside an object": Excluding(beside=object()),
    "serialized field": Serializing(),
    "serialized field beside an object": Serializing(beside=object()),
    "mapping proxy": types.MappingProxyType({"password": BYTES}),
    "chain map": collections.ChainMap({"password": BYTES}),
    "default dict": collections.defaultdict(bytes, password=BYTES),
    "user dict": collections.UserDict(password=BYTES),
    "user list": collections.UserList([{"password": BYTES}]),
    "items": {"password": BYTES}.items(),
    "values": {"x": b"password=" + BYTES}.values(),
    "partial": functools.partial(print, password=BYTES),
    "namespace": types.SimpleNamespace(password=BYTES),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_redaction_finds_a_secret_in_any_form(name: str) -> None:
    """In bytes, named tuples, headers, requests and objects that mask it: beside others, too, and in metadata."""
    for value in (HIDDEN[name], [HIDDEN[name]], {"a": 1, "b": HIDDEN[name], "c": object()}):
        text = sent(value)
        assert SECRET not in text
        assert "aHVudGVy" not in text  # in Base64
        assert "104, 117" not in text
        assert "104,117" not in text  # as numbers


def text(value: object) -> Any:
    """Return what has been captured, decoded."""
    recorded = capture(value)
    return recorded if isinstance(recorded, str) else msgspec.json.decode(recorded or b"null")


def test_bytes_are_recorded_as_text() -> None:
    """Of UTF-8; of anything else by their number."""
    assert text(b"some text") == "some text"
    assert text("Zoë".encode()) == "Zoë"
    assert text([bytearray(b"a"), memoryview(b"b"), SubBytes(b"c"), b""]) == ["a", "b", "c", ""]
    assert text({b"a": b"b", memoryview(b"c"): 1}) == {"a": "b", "c": 1}
    assert text(b"\xff\xfe") == "<2 bytes>"
    assert text({b"\xff": [b"\xff\xfe"]}) == {"<1 bytes>": ["<2 bytes>"]}
    assert text(Data(b"a")) == {"api_key": "a", "number": 1}
    assert text(Record(b"a")) == {"api_key": "a"}
    assert text(memoryview(b"abcdef")[::2]) == "ace"
    assert msgspec.json.decode(capture_json(b"a")) == "a"


def test_names_of_a_named_tuple_are_kept() -> None:
    """It is recorded as an object; the parts of a URL as the URL."""
    assert text(Own("a", "b")) == {"user": "a", "password": "b"}
    assert text([Collected(1, (2, 3))]) == [{"user": 1, "password": [2, 3]}]
    assert text(urllib.parse.urlsplit("https://host/path?a=b#c")) == "https://host/path?a=b#c"
    assert text(basic_auth())["login"] == "u"


def test_rows_of_a_database_keep_their_names() -> None:
    """A row of SQLAlchemy is recorded by its columns."""
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection:
        row = connection.execute(sqlalchemy.text("select 'u' as name, 'x' as password")).one()
    engine.dispose()
    assert text(row) == {"name": "u", "password": "x"}


def test_a_name_that_comes_twice_keeps_both_values() -> None:
    """Collections of headers may have it so."""
    assert text(multidict.CIMultiDict([("a", "1"), ("b", "2"), ("a", "3")])) == {"a": ["1", "3"], "b": "2"}
    assert text({1: "a", "1": object, "2": "b"})["1"][0] == "a"


REQUESTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "starlette": (
        starlette.requests.Request(scope() | {"query_string": b"page=2"}),
        {"__type__": "Request", "method": "POST", "url": "https://127.0.0.1:8000/chat?page=2"},
    ),
    "websocket": (
        starlette.websockets.WebSocket(
            {key: each for key, each in scope("websocket").items() if key not in ("method", "query_string")}
            | {"query_string": b"", "scheme": "ws"},
            print,  # type: ignore[arg-type]
            print,  # type: ignore[arg-type]
        ),
        {"__type__": "WebSocket", "url": "ws://127.0.0.1:8000/chat"},
    ),
    "scope": (
        scope() | {"query_string": b""},
        {"__type__": "ASGI scope", "method": "POST", "url": "https://127.0.0.1:8000/chat"},
    ),
    "werkzeug": (
        werkzeug.test.EnvironBuilder(method="PUT", path="/p?a=1").get_request(),
        {"__type__": "Request", "method": "PUT", "url": "http://localhost/p?a=1"},
    ),
    "environ": (
        werkzeug.test.EnvironBuilder(method="PUT", path="/p?a=1").get_environ(),
        {"__type__": "WSGI environ", "method": "PUT", "url": "http://localhost:80/p?a=1"},
    ),
    "httpx": (
        httpx.Request("GET", "https://host/a?b=c"),
        {"__type__": "Request", "method": "GET", "url": "https://host/a?b=c"},
    ),
    "httpx response": (
        httpx.Response(404, request=httpx.Request("GET", "https://host/a")),
        {"__type__": "Response", "method": "GET", "url": "https://host/a", "status": 404},
    ),
    "urllib": (
        urllib.request.Request("https://host/a", data=b"x"),
        {"__type__": "Request", "method": "POST", "url": "https://host/a"},
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_are_recorded_by_method_and_url(name: str) -> None:
    """A request, a response and a connection of a web framework is not walked: at any depth."""
    value, recorded = REQUESTS[name]
    assert text(value) == recorded
    assert text({"request": value}) == {"request": recorded}


def test_a_request_behind_a_proxy_is_found() -> None:
    """Flask's `request` stands for the one of this context."""
    app = flask.Flask("app")
    with app.test_request_context("/p", method="POST", headers={"authorization": SECRET}):
        recorded = text({"request": flask.request})
    assert recorded == {"request": {"__type__": "Request", "method": "POST", "url": "http://localhost/p"}}


async def test_a_request_of_quart_is_found() -> None:
    """As Flask's."""
    app = quart.Quart("app")
    async with app.test_request_context(
        f"/p?token={SECRET}", method="POST", headers={"authorization": SECRET}
    ):
        recorded = sent({"request": quart.request})
    assert '"method":"POST"' in recorded
    assert SECRET not in recorded


async def test_a_handler_may_take_its_request() -> None:
    """A FastAPI handler that is a step and takes the request records neither its headers nor its body."""
    app = fastapi.FastAPI()
    state = ContextState()

    @app.post("/chat")
    @step("function", "handler")
    async def handler(request: fastapi.Request) -> dict[str, str]:
        return {"path": request.url.path}

    @app.middleware("http")
    async def recorded(request: fastapi.Request, call_next: Any) -> Any:
        with state.attach():
            return await call_next(request)

    steps: list[Any] = []
    state.stream.subscribe("test", steps.append)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        await client.post("/chat", headers={"authorization": f"Bearer {SECRET}"}, json={"api_key": SECRET})
    assert steps
    for each in steps:
        assert SECRET not in bytes(each.input or b"").decode()


class Unknown:
    """A request of an unknown framework."""

    def __init__(self) -> None:
        self.method, self.url, self.headers = "GET", "https://host/a", {"authorization": SECRET}

    def __repr__(self) -> str:
        return f"<Unknown {self.headers}>"


def test_what_looks_like_a_request_is_recorded_as_one() -> None:
    """An object with a method, a URL and headers; one with fields of its own keeps them."""
    assert text(Unknown()) == {"__type__": "Unknown", "method": "GET", "url": "https://host/a"}
    assert text({"type": "http", "path": "/", "size": object})["path"] == "/"


class MaskedList(list[str]):
    """A list that hides what it holds."""

    def __repr__(self) -> str:
        return "[***]"


class MaskedSet(frozenset[str]):
    """A set that does."""

    def __repr__(self) -> str:
        return "{***}"


class MaskedMapping(collections.UserDict[str, str]):
    """A mapping that does."""

    def __repr__(self) -> str:
        return "{pin: ***}"


@pytest.mark.parametrize(
    ("value", "recorded"),
    [
        (MaskedList(["0000"]), "[***]"),
        (MaskedSet(["0000"]), "{***}"),
        (MaskedMapping(pin="0000"), "{pin: ***}"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_container_that_masks_itself_is_its_repr(value: object, recorded: str) -> None:
    """As an object with fields is, alone and in other containers."""
    for holder in (value, [value], {"a": value}, [1, [2, value]]):
        captured = bytes(capture(holder) or b"").decode()  # type: ignore[arg-type]
        assert "0000" not in captured
        assert recorded in captured


class Attributes(dict[str, Any]):
    """A dict with a repr of its own, which masks nothing."""

    def __repr__(self) -> str:
        return f"Attributes({dict(self)})"


class Listed(list[Any]):
    """A list with one."""

    def __repr__(self) -> str:
        return f"Listed({list(self)})"


def test_what_the_items_mask_is_not_their_container_s() -> None:
    """A mark in the data, or an object inside that masks itself, leaves the other items their names."""
    secret = pydantic.SecretStr("0000")
    recorded = msgspec.json.decode(bytes(capture(Attributes(user="ann", pin="***", key=secret)) or b""))  # type: ignore[arg-type]
    assert (recorded["user"], recorded["pin"]) == ("ann", "***")
    assert "0000" not in str(recorded)
    assert msgspec.json.decode(bytes(capture(Listed(["***", 1])) or b"")) == ["***", 1]  # type: ignore[arg-type]
    assert msgspec.json.decode(bytes(capture(collections.UserDict(pin="***")) or b"")) == {"pin": "***"}  # type: ignore[arg-type]


class Mixin:
    """Hides what a class with it is."""

    def __repr__(self) -> str:
        return "***"


def test_a_proxy_that_prints_itself_is_not_opened() -> None:
    """Whatever it stands for, alone and in other values; one that does not is what it stands for."""
    wrapt = pytest.importorskip("wrapt")

    def proxy(*bases: Any, **methods: Any) -> Any:
        return types.new_class("Proxy", bases, exec_body=lambda body: body.update(methods))

    hiding = proxy(wrapt.ObjectProxy, __repr__=lambda _: "***")
    for kind in (
        hiding,
        proxy(hiding),
        proxy(wrapt.ObjectProxy, __str__=lambda _: "<hidden>"),
        proxy(wrapt.CallableObjectProxy, __repr__=lambda _: "<hidden>"),
        proxy(Mixin, wrapt.ObjectProxy),
    ):
        for held in ({"x": "0000"}, "0000", ["0000"], functools.partial(print, "0000"), Data(b"0000")):
            for value in (kind(held), {"a": kind(held)}, [1, kind(held)], {kind("0000"): 1}):
                recorded = bytes(capture_json(value)).decode()
                assert "0000" not in recorded
                assert "***" in recorded or "<hidden>" in recorded or "Proxy at 0x" in recorded
    assert text({"a": hiding({"x": 1})}) == {"a": {"__type__": "Proxy", "__repr__": "***"}}
    assert text({"a": proxy(wrapt.ObjectProxy)({"x": 1})}) == {"a": {"x": 1}}


class Account:
    """An object with attributes, one of which hides a field."""

    def __init__(self, count: int) -> None:
        self.__dict__.update({f"a{number}": number for number in range(count)})
        self.login = Login("ann", "0000")


@dataclasses.dataclass
class Login:
    """Hides its password."""

    user: str
    password: str = dataclasses.field(repr=False)


def test_the_attributes_of_a_living_object_are_looked_at() -> None:
    """Python 3.13 does not tell the garbage collector what they are, beside dicts of which it tells more, too."""
    many, *few = [Account(25), *[Account(2) for _ in range(20)]]
    plain = [{"a": 1, "b": 2, "c": 3} for _ in range(20)]
    numbered = {1: "x", 2: "y", 3: "z"}
    values: list[Any] = [
        vars(many),
        {"a": {"b": vars(many)}, **{str(number): number for number in range(20)}},
        [vars(each) for each in few],
        [numbered, vars(few[0]), *plain],
        [*plain, vars(few[0]), numbered, {"a": 1}],
        {"a": vars(few[0]), "b": numbered, **{str(number): [number] for number in range(20)}},
    ]
    for value in values:
        recorded = bytes(capture_json(value)).decode()
        assert '"login":{"user":"ann","password":"<hidden>"}' in recorded
        assert "0000" not in recorded


# mypy's plugin does not know these two as aliases.
_CHOICES: Any = {"validation_alias": pydantic.AliasChoices("VENDOR_API_KEY", "VENDOR")}
_PATH: Any = {"validation_alias": pydantic.AliasPath("login", 0, "password")}


class Aliased(pydantic.BaseModel):
    """Nothing but the aliases says what is secret."""

    key: str = pydantic.Field(SECRET, alias="api_key")
    vendor: str = pydantic.Field(SECRET, **_CHOICES)
    login: str = pydantic.Field(SECRET, **_PATH)
    sent: str = pydantic.Field(SECRET, serialization_alias="client_secret")


class AliasedParts(pydantic.BaseModel):
    parts: list[Aliased]
    raw: bytes = b"some"


class AliasedStruct(msgspec.Struct):
    key: str = msgspec.field(default=SECRET, name="api_key")


@attrs.define
class AliasedAttrs:
    key: str = attrs.field(default=SECRET, alias="api_key")


@pydantic.dataclasses.dataclass
class AliasedDataclass:
    key: str = pydantic.Field(SECRET, alias="api_key")


@pytest.mark.parametrize(
    "value",
    [
        AliasedAttrs(),
        AliasedDataclass(api_key=SECRET),
        [AliasedDataclass(api_key=SECRET)],
        Aliased(),
        AliasedParts(parts=[Aliased()]),
        AliasedStruct(),
        [AliasedStruct()],
        pydantic.v1.create_model("Earlier", key=(str, pydantic.v1.Field(SECRET, alias="api_key")))(),
    ],
    ids=[
        "attrs",
        "dataclass",
        "dataclass in a list",
        "model",
        "model in a model",
        "struct",
        "struct in a list",
        "model of pydantic's first version",
    ],
)
def test_a_name_that_is_only_an_alias_tells_too(value: object) -> None:
    """A field is recorded by an alias that is another word."""
    left = sent(value)
    assert SECRET not in left
    assert "[redacted:" in left


def test_an_alias_in_another_spelling_changes_no_name() -> None:
    """Nor does one that another field has as its name, or that two have."""

    class Spelled(pydantic.BaseModel):
        model_name: str = pydantic.Field("a", alias="modelName")
        from_: str = pydantic.Field("b", alias="from")
        first: str = pydantic.Field("c", alias="second")
        second: str = "d"

    class Twice(msgspec.Struct):
        one: int = msgspec.field(default=1, name="x")
        two: int = 2

    recorded = msgspec.json.decode(capture_json(Spelled()) or b"")
    assert recorded == {"model_name": "a", "from_": "b", "first": "c", "second": "d"}
    assert msgspec.json.decode(capture_json(Twice()) or b"") == {"x": 1, "two": 2}


def test_a_field_that_is_no_argument_is_recorded() -> None:
    """Its default is the class's, and in no object."""

    @dataclasses.dataclass
    class Message:
        content: str
        role: str = dataclasses.field(default="assistant", init=False)
        made: list[int] = dataclasses.field(default_factory=list, init=False)

    recorded = msgspec.json.decode(capture_json(Message("hi")) or b"")
    assert recorded == {"content": "hi", "role": "assistant", "made": []}
