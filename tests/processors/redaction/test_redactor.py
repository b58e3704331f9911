"""Redactor: what it replaces and how, what it keeps, and what it refuses."""

from __future__ import annotations

import json
import re
import threading
from typing import Any

import msgspec
import pytest

from nat_observability.errors import InvalidPatternError, UnknownPersonalSetError
from nat_observability.events import Boundary, Captured, Run
from nat_observability.processors import DEFAULT_KEYS, DEFAULT_PATTERNS, Pattern, Redactor, Rule
from tests.processors.builders import RUN, a_span, a_step, an_error

KEY = "sk-proj-" + "a1B2c3D4" * 6
# It takes longer to make one than to redact with it; in a service, too, there is one for all spans.
DEFAULT = Redactor()


def plain(value: Captured) -> Any:
    """Return what was recorded, decoded if it is JSON."""
    return json.loads(bytes(value)) if isinstance(value, msgspec.Raw) else value


def redacted(value: object, redactor: Redactor | None = None) -> Any:
    return plain((redactor or DEFAULT)(a_span(value)).input)


# -- What is replaced ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"password": "x"}, {"password": "[redacted:password]"}),
        (
            {"API-Key": "x", "apikey": 12345},
            {"API-Key": "[redacted:api_key]", "apikey": "[redacted:api_key]"},
        ),
        ({"a": [{"clientSecret": {"b": 1}}]}, {"a": [{"clientSecret": "[redacted:secret]"}]}),
        ({"headers": [["Cookie", "a=b"]]}, {"headers": [["Cookie", "[redacted:cookie]"]]}),
        (
            {"key": "Authorization", "value": "x"},
            {"key": "Authorization", "value": "[redacted:authorization]"},
        ),
        (["sh", "--token", "x", "y"], ["sh", "--token", "[redacted:token]", "y"]),
        ({KEY: 1, "a": 2}, {"[redacted:openai_key]": 1, "a": 2}),
        (f"use {KEY}, please", "use [redacted:openai_key], please"),
        ("password=x&user=me", "password=[redacted:password]&user=me"),
        ("password = 'a b' # mine", "password = '[redacted:password]' # mine"),
        ("Authorization: Basic eDp5\nHost: a", "Authorization: [redacted:authorization]\nHost: a"),
        ("postgres://me:x@db/app", "postgres://me:[redacted:url_password]@db/app"),
        ("https://a:80/x?mail=b@c", "https://a:80/x?mail=b@c"),
        ("-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\n", "[redacted:private_key]"),
        ("pass\\u0077ord=x y", "password=[redacted:password] y"),
        (
            'E: \'a:\\n  cookies:\\n    x: "y"\\n    z: "v"\\n  b: 1\'',
            "E: 'a:\\n  cookies:[redacted:cookies]\\n  b: 1'",
        ),
        ("password:\n  - x\n  - y\nuser: me", "password:[redacted:password]\nuser: me"),
        ("if password:\n    login()\nn = 1", "if password:\n    login()\nn = 1"),
        ("a password, n=1 or (token) m=2", "a password, n=1 or (token) m=2"),
        ("q=%7B%22token%22%3A+%22x+y%22%7D", 'q={"token":+"[redacted:token]"}'),
        ("https://a/?q=password%3Dx%20y", "https://a/?q=password=[redacted:password] y"),
    ],
)
def test_a_secret_is_replaced_by_a_mark(value: object, expected: object) -> None:
    """The mark says how it was found; what surrounds it stays."""
    assert redacted(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        {"password": None, "token": True, "secret": "", "api_key": [], "cookies": {}},
        {"max_tokens": 100, "usage": {"prompt_tokens": 3, "total_tokens": 5}, "tokens": ["a"]},
        {"next_page_token": "abc", "eos_token": "</s>", "keyboard": "de", "author": "me", "monkey": 1},
        "sk-learn-pipeline-with-many-words",
        "The token is spent: what remains is a memory.",
        "see https://example.com:8080/a/b?c=d and me@example.com",
        "3f2b1c9e-7a4d-4e1f-9b2a-0c8d7e6f5a4b",
        {"id": "chatcmpl-A1b2C3d4E5f6G7h8I9j0", "created": 1700000000},
        "f(x) = y: 1 = 2",
        "[redacted:password] and [redacted:openai_key]",
    ],
)
def test_what_is_not_secret_stays(value: object) -> None:
    """The same object is returned, not a new encoding of it."""
    span = a_span(value)
    assert DEFAULT(span) is span


@pytest.mark.parametrize(
    "text",
    [
        "API key: {}",
        "my shared access key: {}",
        "x amz signature: {}",
        'run:\n  x amz signature:\n    - "{}"',
        "of our app the x amz security signature = {}",
    ],
)
def test_a_name_may_be_of_several_words_without_quotes(text: str) -> None:
    """As people write in YAML and prose, even if only all words together are a secret name."""
    redacted = DEFAULT(a_span(text.format("7xYlJlES8pUzfNuy"))).input
    assert isinstance(redacted, str)
    assert "7xYl" not in redacted
    assert redacted.startswith(text.partition("{}")[0].rstrip(' "-\n'))


def test_numbers_beside_a_secret_stay_as_they_were_written() -> None:
    """What is not redacted is not decoded: not a digit of it changes."""
    span = a_span()
    raw = msgspec.Raw(b'{"a":1.50,"b":123456789012345678901234567890,"c":1e400,"password":"x"}')
    output = DEFAULT(msgspec.structs.replace(span, input=raw)).input
    assert bytes(output or b"") == (  # type: ignore[arg-type]
        b'{"a":1.50,"b":123456789012345678901234567890,"c":1e400,"password":"[redacted:password]"}'
    )


def test_every_text_of_an_item_is_redacted() -> None:
    """Name, input, output, metadata, tags, error and chunk; and the texts that an application gives its run."""
    run = Run("run-1", "1" * 32, KEY, KEY, KEY, None, (("note", KEY), ("password", "x")))
    redactor = Redactor(chunks="scan")
    span = redactor(
        a_span(KEY, KEY, run=run, metadata=[KEY], name=KEY, tags=(KEY,), error=an_error(KEY, f"at\n{KEY}"))
    )
    step = redactor(a_step(KEY, output=KEY, chunk=KEY, run=run, metadata={"a": KEY}, name=KEY, tags=(KEY,)))
    for item in (span, step):
        assert KEY not in msgspec.json.encode(item).decode()
    assert span.run.tags == (("note", "[redacted:openai_key]"), ("password", "[redacted:password]"))
    assert span.run is step.run, "the items of a run share it"


def test_invalid_json_is_redacted_as_text() -> None:
    """A Raw made by the application may be anything."""
    span = msgspec.structs.replace(a_span(), input=msgspec.Raw(b'{"password": "x", oops'))
    assert DEFAULT(span).input == '{"password": "[redacted:password]", oops'


def test_json_that_is_too_deep_is_withheld() -> None:
    """What cannot be searched is not passed on."""
    deep = msgspec.Raw(b"[" * 500 + b'{"password":"x"}' + b"]" * 500)
    output = DEFAULT(msgspec.structs.replace(a_span(), input=deep)).input
    assert isinstance(output, msgspec.Raw)
    assert b"[redacted:too_deep]" in bytes(output)
    assert b'"x"' not in bytes(output)
    json.loads(bytes(output))


class Shown:
    """An object with a given repr."""

    def __init__(self, shown: str) -> None:
        self._shown = shown

    def __repr__(self) -> str:
        return self._shown


@pytest.mark.parametrize(
    "text",
    [
        f"<Client key {KEY} of mine>",
        "Client(password='Zq7kx Zq7ky Zq7kz', n=1)",
        'Client({"password": "Zq7kx Zq7ky", "token": "Zq7kz"}, n=1)',
        "Client(url=postgres://me:Zq7kx@db/app)",
        "-----BEGIN RSA PRIVATE KEY-----\nZq7kxZq7kyZq7kzZq7kx\nZq7kxZq7kyZq7kz\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\\nZq7kxZq7kyZq7kzZq7kx\\nZq7kxZq7kyZq7kz\\n-----END PRIVATE KEY-----",
        "Authorization: Bearer Zq7kxZq7kyZq7kzZq7kx\nHost: a",
        "Server=db;Password=Zq7kx Zq7ky Zq7kz;Timeout=30",
        "<a><password>Zq7kx Zq7ky Zq7kz</password></a>",
        "password: |\n  Zq7kx\n  Zq7ky\nn: 1",
        "**Password:** `Zq7kx Zq7ky` and more",
        "run --password Zq7kx --token Zq7ky -v",
        "Cookie: a=Zq7kx; b=Zq7ky",
    ],
    ids=lambda text: text[:24],
)
def test_a_secret_at_the_cut_of_a_repr_is_not_halved(text: str) -> None:
    """Wherever the cut falls: a repr is cut before it is searched for secrets."""
    redactor = Redactor()
    for before in range(1024 - len(text), 1025):
        for filler in ("a", "a "):
            shown = (filler * before)[: before - 1] + " " + text + " b" * 600
            left = plain(redactor(a_span(Shown(shown))).input)["__repr__"]
            assert "Zq7k" not in left
            assert "sk-" not in left


# -- Chunks ----------------------------------------------------------------------------------------------------------


def test_chunks_of_steps_are_withheld() -> None:
    """No search of a single chunk can find what is split over two."""
    step = a_step(chunk="any", boundary=Boundary.CHUNK)
    assert DEFAULT(step).chunk == "[redacted:chunk]"  # type: ignore[union-attr]


def test_chunks_of_steps_are_searched_on_request() -> None:
    """Each on its own."""
    redactor = Redactor(chunks="scan")
    step = a_step(chunk="any", boundary=Boundary.CHUNK)
    assert redactor(step) is step
    assert redactor(a_step(chunk=KEY)).chunk == "[redacted:openai_key]"  # type: ignore[union-attr]


def test_a_key_over_two_chunks_is_caught_in_the_joined_span() -> None:
    """If the chunks are texts, and if they are objects, whose strings in the same place belong together."""
    assert DEFAULT(a_span(None, KEY, chunks=2)).output == "[redacted:openai_key]"
    chunks = [{"n": 1, "delta": {"text": f"a {KEY[:20]}"}}, {"n": 2, "delta": {"text": f"{KEY[20:]} b"}}]
    assert plain(DEFAULT(a_span(None, chunks, chunks=2)).output) == [
        {"n": 1, "delta": {"text": "a [redacted:openai_key] b"}},
        {"n": 2, "delta": {"text": ""}},
    ]


# -- Your own keys and patterns -------------------------------------------------------------------------------------


def test_the_value_of_a_tag_ends_at_its_end() -> None:
    """In XML: other tags before and after it stay."""
    text = "<a>1</a><password>7xsecret</password> after <b>2</b>"
    assert DEFAULT(a_span(text)).input == text.replace("7xsecret", "[redacted:password]")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Server=db;Password=two words of it;Timeout=30",
            "Server=db;Password=[redacted:password];Timeout=30",
        ),
        ("call(password=7xabc) and (b)", "call(password=[redacted:password]) and (b)"),
        (
            'said {"password": {"a": [1, {"c": 2}], "b": "x]"}, "d": 1} and more',
            'said {"password": [redacted:password], "d": 1} and more',
        ),
        (
            f"https://{'0123456789abcdef' * 2}@example.com:8443/x",
            "https://[redacted:url_token]@example.com:8443/x",
        ),
    ],
    ids=["connection string", "call", "brackets", "port"],
)
def test_what_surrounds_a_value_decides_where_it_ends(text: str, expected: str) -> None:
    """Not earlier, which would leave a part of it, nor later, which would remove what is not secret."""
    assert DEFAULT(a_span(text)).input == expected


@pytest.mark.parametrize(
    "secret",
    [
        "{SSHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
        "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
        "{bcrypt}$2a$10$W6phabcdefghijkl",
        "{CRYPT}$6$rounds=5000$W6ph/x$y",
        "{PBKDF2}10000$W6ph$y.z",
        "{x}{y}W6ph",
        "[a]W6ph",
        "[W6ph]{a}",
        "{a}[b](W6ph)x",
        "[a])W6ph",
        "{a}/W6ph",
        "{a}}W6ph",
        "{a},W6ph",
        "{a}:W6ph",
        "{a};W6ph",
        "{a}éW6ph",
        "{a}&W6ph",
        "[a]\\W6ph",
        "{}W6ph",
    ],
)
@pytest.mark.parametrize(
    "text",
    [
        "LDAP_PASSWORD={}",
        "LDAP_PASSWORD={} and",
        "export LDAP_PASSWORD={}\nHOST=a",
        "userPassword: {}\nhost: a",
        "run --password {} -v",
        "f(password={})",
        "user=me&password={}&n=1",
        "('password', '{}')",
        "**Password:** {}",
        "Server=db;Password={};Timeout=30",
    ],
)
def test_a_value_that_begins_with_brackets_goes_to_its_end(text: str, secret: str) -> None:
    """An LDAP hash with the name of its scheme, or another password that begins with a bracket, leaves nothing."""
    left = DEFAULT(a_span(text.replace("{}", secret))).input
    assert isinstance(left, str)
    assert "[redacted:password]" in left
    assert "W6ph" not in left


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("password='it''s 7xabc' and 'b'", "password='[redacted:password]' and 'b'"),
        ("password: 'it''s ''7xabc''' # a", "password: '[redacted:password]''' # a"),
        ("password='it'7xabc and 'b'", "password=[redacted:password] and 'b'"),
        ('password="it"7xabc', "password=[redacted:password]"),
        ("password=''7xabc", "password=[redacted:password]"),
        ('a="1"password="7x"user="me"', 'a="1"password="[redacted:password]"user="me"'),
        ("(password='7x')", "(password='[redacted:password]')"),
        ("f(password='7x'), 'b' and 'c'", "f(password='[redacted:password]'), 'b' and 'c'"),
        ("say 'password='7x'' twice", "say 'password='[redacted:password]'' twice"),
        ("password=[]7x", "password=[redacted:password]"),
        ("password={}}7x", "password=[redacted:password]"),
    ],
)
def test_nothing_of_a_value_is_left_beside_its_mark(text: str, expected: str) -> None:
    """After a closing quote a value may go on, and a doubled quote does not close it."""
    output = DEFAULT(a_span(text))
    assert output.input == expected
    assert DEFAULT(output) == output


@pytest.mark.parametrize(
    "text",
    [
        'said {"password": %s, "n": 1} and',
        'said [{"password":%s},{"n":1}] and',
        'said [{"password":%s},1,2] and',
        "f(password=%s).go()",
        'said "{\\"password\\": %s\\n}" and',
        "password=%s, and more",
        "password=%s.",
    ],
)
def test_what_follows_a_list_or_an_object_stays(text: str) -> None:
    """It is the structure around the value."""
    for value in ('["7x", {"a": "7y"}]', '{"a": ["7x"], "b": 1}'):
        given = value.replace('"', '\\"') if "\\" in text else value
        assert DEFAULT(a_span(text % given)).input == text % "[redacted:password]"


@pytest.mark.parametrize("prefix", ["b", "u", "B", "U", "r", "f", "rb", "Rb", "bR", ""])
@pytest.mark.parametrize(
    "before", ["", "It was said again and again, and by everyone, that there is nothing here. " * 8]
)
@pytest.mark.parametrize("behind", ["", " and that this is the end of it, as everyone knows" * 10])
@pytest.mark.parametrize(
    "form",
    ["(%s'password', %s'hunter2x')", "[%s'password' , %s'hunter2x']", '[(%s"api key",\n %s"hunter2x")]'],
)
def test_a_pair_is_found_whatever_the_prefix_of_its_strings(
    form: str, before: str, behind: str, prefix: str
) -> None:
    """As in the repr of a list of headers, alone and in long prose."""
    left = DEFAULT(a_span(before + form % (prefix, prefix) + behind)).input
    assert isinstance(left, str)
    assert "hunter2x" not in left


@pytest.mark.parametrize(
    ("value", "left"),
    [
        ({"pass": ["hunter2x"]}, {"pass": "[redacted:pass]"}),
        ({"pass": ["ok"]}, None),
        ({"pass": ["hunter2x", "b"]}, None),
        (["user", "bob", "password", "hunter2x"], ["user", "bob", "password", "[redacted:password]"]),
        (["password", "email", "first", "last"], None),
        (["token", "a1", "b2", "password"], ["token", "[redacted:token]", "b2", "password"]),
        ([{"k": "password", "v": "hunter2x"}], [{"k": "password", "v": "[redacted:password]"}]),
        ({"k": "count", "v": "12"}, None),
    ],
    ids=str,
)
def test_a_pair_has_many_shapes(value: Any, left: Any) -> None:
    """Several values of one name, names and values in turn, and short names for both."""
    given = bytes(DEFAULT(a_span(value)).input or b"")  # type: ignore[arg-type]
    assert msgspec.json.decode(given) == (value if left is None else left)


@pytest.mark.parametrize(
    "value",
    [
        {"value": "opaque9f8c", "name": "token"},
        [{"value": "opaque9f8c", "name": "X-Auth-Token"}],
        {"fields": [{"value": "opaque9f8c", "key": "access_token"}], "n": 1},
        {"Value": "opaque9f8c", "Key": "db_pwd"},
        {"value": "opaque9f8c" + " and more" * 200, "n": 1, "header": "Authorization"},
        {"a": [{"value": "opaque9f8c " * 40_000, "name": "the password"}]},
        {"arguments": '{"value": "opaque9f8c", "type": "text", "name": "client_secret"}'},
        '{"\\u0076alue": "opaque9f8c", "name": "\\u0074oken"}',
        {"value": {"x": "opaque9f8c"}, "name": "cookie"},
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_value_may_stand_before_its_name(value: object) -> None:
    """In JSON, at any depth, however long the value is."""
    assert "opaque9f8c" not in str(redacted(value))


def test_what_stands_before_the_name_of_something_else_stays() -> None:
    """A value beside a name that is not secret."""
    span = a_span([{"value": "x", "name": "tokenizer"}, {"value": "the token", "name": "title"}])
    assert DEFAULT(span) is span


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"token": "hunter2x", "token": null}', '{"token":null}'),
        ('{"token":"hunter2x","token":true}', '{"token":true}'),
        ('{"token":"hunter2x", "\\u0074oken":"", "n":1.50}', '{"token":"","n":1.50}'),
        (f'{{"note": "{KEY}", "note": "ok"}}', '{"note":"ok"}'),
        ('[1, {"a": {"token": "hunter2x", "token": null}}]', '[1,{"a":{"token":null}}]'),
        (
            '{"a": [{"b\\u0061": {"token": "x"}, "ba": 1}], "password": null}',
            '{"a":[{"ba":1}],"password":null}',
        ),
        (
            '{"b\\u0061": 1, "token": null,\n "c": [1.50, "\\u0061"]}',
            '{"b\\u0061": 1, "token": null,\n "c": [1.50, "\\u0061"]}',
        ),
        ('{"a": {"a": 1}, "token": []}', '{"a": {"a": 1}, "token": []}'),
    ],
)
def test_of_equal_keys_only_the_last_is_left(text: str, expected: str) -> None:
    """As readers of JSON do; if no keys are equal, nothing is encoded again."""
    raw = msgspec.structs.replace(a_span(), input=msgspec.Raw(text.encode()))
    output = DEFAULT(raw).input
    assert isinstance(output, msgspec.Raw)
    assert bytes(output).decode() == expected
    assert redacted(text) == expected
    assert json.loads(redacted({"a": text})["a"]) == json.loads(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- **Password:** `hunter2x`", "- **Password:** `[redacted:password]`"),
        ("- **Password:** hunter2x\n- **User:** me", "- **Password:** [redacted:password]\n- **User:** me"),
        ("**Password**: hunter2x", "**Password**: [redacted:password]"),
        ("**The database password:** hunter2x", "**The database password:** [redacted:password]"),
        ("**API Key:** hunter2x, and", "**API Key:** [redacted:api_key], and"),
        ("**`token`** = hunter2x", "**`token`** = [redacted:token]"),
        ("**`token:`** hunter2x", "**`token:`** [redacted:token]"),
        ('**"token"**: "hunter2x y"', '**"token"**: "[redacted:token]"'),
        ("__Secret:__ hunter2x", "__Secret:__ [redacted:secret]"),
        ("*Passcode:* hunter2x", "*Passcode:* [redacted:passcode]"),
        ("Set `DB_PASSWORD`: `hunter2x y`.", "Set `DB_PASSWORD`: `[redacted:password]`."),
        ("Set `DB_PASSWORD:` `hunter2x y`.", "Set `DB_PASSWORD:` `[redacted:password]`."),
        ("Password: **hunter2x**", "Password: [redacted:password]"),
        ("Password: **`hunter2x y`** z", "Password: **`[redacted:password]`** z"),
        ("Password: ``hunter2x`y`` z", "Password: ``[redacted:password]`` z"),
        ("- **Cookie:** a=b; c=d\n- e", "- **Cookie:** [redacted:cookie]\n- e"),
        ("**Passwords:**\n  - hunter2x\n\nEnd", "**Passwords:**[redacted:password]\n\nEnd"),
        ("* **Passwords:**\n    * hunter2x\n* End", "* **Passwords:**[redacted:password]\n* End"),
        ("Set your **password:**\n```sh\npasswd\n```", "Set your **password:**\n```sh\npasswd\n```"),
        ("password=*** user=me", "password=*** user=me"),
        ("the `password=` a `token` has", "the `password=` [redacted:password] `token` has"),
        ("f(Token*, size) and (see **token**, below)", "f(Token*, size) and (see **token**, below)"),
        ('token = """hunter2x "y" z"""', 'token = """[redacted:token]"""'),
    ],
)
def test_markdown_around_a_name_or_a_value_hides_nothing(text: str, expected: str) -> None:
    """Emphasis and backticks stay, and what they enclose is found."""
    assert DEFAULT(a_span(text)).input == expected
    assert redacted({"a": [f"# Notes\n\n{text}"]}) == {"a": [f"# Notes\n\n{expected}"]}


@pytest.mark.parametrize(
    "text", ["password: null", "f(token=None)", "api_key=true; x", "secret = undefined."]
)
def test_an_empty_value_stays(text: str) -> None:
    """That a value is missing is useful to know, and not secret."""
    assert DEFAULT(a_span(text)).input == text


def test_a_very_long_name_is_secret_if_it_contains_the_letters_of_a_key() -> None:
    """It is not compared in detail."""
    name = "x" * 300 + "password"
    assert plain(DEFAULT(a_span({name: "7xabcdef"})).input) == {name: "[redacted:password]"}


def test_your_own_keys() -> None:
    """Exact names, and globs."""
    redactor = Redactor(keys=(*DEFAULT_KEYS, "ssn", "patient_*", "?x"))
    assert redacted({"SSN": 1, "patientName": "a", "ax": "b", "axx": "c", "password": "d"}, redactor) == {
        "SSN": "[redacted:ssn]",
        "patientName": "[redacted:patient]",
        "ax": "[redacted:x]",
        "axx": "c",
        "password": "[redacted:password]",
    }


@pytest.mark.parametrize(
    "value", [{"anything": "x1y2z3"}, "anything: x1y2z3", "a=b" * 2000 + " anything=x1y2z3 c"]
)
def test_a_key_of_an_asterisk_alone_is_every_name(value: object) -> None:
    """In short and long texts too."""
    assert "x1y2z3" not in str(plain(Redactor(keys=["*"], patterns=[])(a_span(value)).input))


def test_a_key_can_be_kept() -> None:
    """An exclamation mark before a name means that it is not secret although another key matches it."""
    redactor = Redactor(keys=(*DEFAULT_KEYS, "!password_hint"))
    assert redacted({"password_hint": "a", "password": "b"}, redactor) == {
        "password_hint": "a",
        "password": "[redacted:password]",
    }


def test_your_own_patterns() -> None:
    """The group named secret is replaced, or else the whole match; a check can refuse it."""
    redactor = Redactor(
        patterns=[
            *DEFAULT_PATTERNS,
            Pattern("ticket", r"TICKET-\d+", literals=["ticket-"]),
            Pattern("customer", r"customer (?P<secret>\w+)", check=lambda text: text != "service"),
            Pattern("word", re.compile("ünïcode", re.IGNORECASE)),
        ]
    )
    text = f"TICKET-1 of customer anna, customer service, ÜNÏCODE, {KEY}, ünïcode and more"
    expected = (
        "[redacted:ticket] of customer [redacted:customer], customer service, [redacted:word], "
        "[redacted:openai_key], [redacted:word] and more"
    )
    assert redacted(text, redactor) == expected
    assert redacted({"a": [text]}, redactor) == {"a": [expected]}
    assert redacted(expected, redactor) == expected


def test_a_pattern_without_a_match_leaves_everything_as_it_is() -> None:
    """Its literal alone is not a match."""
    redactor = Redactor(patterns=[Pattern("ticket", r"TICKET-\d+", literals=["ticket-"])])
    span = a_span({"a": "no ticket-number here"})
    assert redactor(span) is span


def test_without_keys_and_patterns_nothing_is_replaced() -> None:
    """Redaction can be reduced to what you want."""
    span = a_span({"password": "x", "a": KEY, "b": "me@example.com"})
    assert Redactor(keys=(), patterns=())(span) is span
    only = Redactor(keys=(), patterns=(), personal=["email"])
    assert redacted({"password": "x", "b": "me@example.com"}, only) == {
        "password": "x",
        "b": "[redacted:email]",
    }


def test_one_default_pattern_can_be_left_out() -> None:
    """By its name."""
    redactor = Redactor(patterns=[name for name in DEFAULT_PATTERNS if name != "jwt"])
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijk"
    assert redacted(token, redactor) == token
    assert redacted(token) == "[redacted:jwt]"


# -- Hashes ----------------------------------------------------------------------------------------------------------


def test_equal_secrets_have_equal_hashes() -> None:
    """Wherever and however they are found, so that they can be correlated; with another key they differ."""
    redactor = Redactor(hash_key=b"k" * 16)
    by_pattern = redacted(f"a {KEY} b", redactor).split()[1]
    by_name = redacted({"api_key": KEY, "password": "x"}, redactor)
    assert re.fullmatch(r"\[redacted:openai_key:[0-9a-f]{16}\]", by_pattern)
    assert by_name["api_key"] == by_pattern.replace("openai_key", "api_key")
    assert by_name["password"][-17:] != by_name["api_key"][-17:]
    assert redacted(f"a {KEY} b", Redactor(hash_key=b"l" * 16)).split()[1] != by_pattern


def test_the_key_of_the_hash_shows_nowhere() -> None:
    """Neither in the repr nor in the error about one that is too short."""
    assert "sesame" not in repr(Redactor(hash_key=b"open sesame, now"))
    with pytest.raises(ValueError, match="16 bytes or more") as caught:
        Redactor(hash_key=b"sesame")
    assert "sesame" not in str(caught.value)


# -- Rules for some runs ---------------------------------------------------------------------------------------------


def test_a_rule_changes_what_is_redacted_in_its_runs() -> None:
    """By conversation, user or tags; several rules apply in order."""
    redactor = Redactor(
        rules=[
            Rule(
                when=lambda run: dict(run.tags).get("tenant") == "clinic",
                keys=["diagnosis"],
                personal=["email"],
                patterns=[Pattern("case", r"case \d+")],
            ),
            Rule(
                when=lambda run: run.user_id == "tester",
                without_keys=["*password*"],
                without_patterns=["jwt"],
            ),
            Rule(when=lambda run: run.conversation_id == "open", without_personal=["email"]),
        ]
    )
    value = {"diagnosis": "a", "b": "me@example.com case 7", "password": "c"}

    def of(**fields: Any) -> Any:
        return plain(redactor(a_span(value, run=msgspec.structs.replace(RUN, **fields))).input)

    clinic = (("tenant", "clinic"),)
    assert of() == value | {"password": "[redacted:password]"}
    assert of(tags=clinic) == {
        "diagnosis": "[redacted:diagnosis]",
        "b": "[redacted:email] [redacted:case]",
        "password": "[redacted:password]",
    }
    assert of(tags=clinic, user_id="tester")["password"] == "c"
    assert of(tags=clinic, conversation_id="open")["b"] == "me@example.com [redacted:case]"


def test_a_predicate_that_raises_is_not_swallowed() -> None:
    """The delivery then drops the item."""

    def when(run: Run) -> bool:
        raise LookupError("no such tenant")

    with pytest.raises(LookupError):
        Redactor(rules=[Rule(when=when)])(a_span("a"))


# -- Threads ---------------------------------------------------------------------------------------------------------


def test_threads_may_share_a_redactor() -> None:
    """Each thread gets the same result as alone, however many runs there are."""
    redactor = Redactor(rules=[Rule(when=lambda run: run.user_id == "u-1", keys=["mine"])])
    runs = [msgspec.structs.replace(RUN, user_id=f"u-{index % 2}") for index in range(400)]
    wrong: list[object] = []

    def work() -> None:
        for run in runs:
            mine = plain(redactor(a_span({"mine": 1, "password": "x"}, run=run)).input)["mine"]
            if mine != ("[redacted:mine]" if run.user_id == "u-1" else 1):
                wrong.append(run)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# -- Bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "ticket", "expression": "("}, "'ticket': it does not compile"),
        ({"name": "ticket", "expression": "a*"}, "'ticket': it matches an empty text"),
        ({"name": "ticket", "expression": "(a+)+b"}, "'ticket': it takes time that doubles"),
        ({"name": "ticket", "expression": r"ID:(\w+\s?)*!"}, "'ticket': it takes time that doubles"),
        ({"name": "My Ticket", "expression": "a"}, "'My Ticket': the name of a pattern"),
        ({"name": "ticket", "expression": "a", "literals": [""]}, "'ticket': '' is not a literal"),
        ({"name": "ticket", "expression": "a", "literals": ["ä"]}, "'ticket': 'ä' is not a literal"),
    ],
)
def test_an_invalid_pattern_is_refused(arguments: dict[str, Any], message: str) -> None:
    """When it is made; the message names it."""
    with pytest.raises(InvalidPatternError, match=re.escape(message)):
        Pattern(**arguments)


def test_what_is_unknown_is_refused() -> None:
    """When the redactor is made, and for rules too; the message says what is known."""
    with pytest.raises(UnknownPersonalSetError, match="Did you mean 'email'"):
        Redactor(personal=["emial"])
    with pytest.raises(InvalidPatternError, match="'jwts': there is no default pattern of that name"):
        Redactor(patterns=["jwts"])
    with pytest.raises(UnknownPersonalSetError):
        Redactor(rules=[Rule(when=lambda run: False, personal=["name"])])
    with pytest.raises(InvalidPatternError, match="a key must be a non-empty text"):
        Redactor(rules=[Rule(when=lambda run: False, keys=["-"])])
    with pytest.raises(InvalidPatternError, match="another pattern has that name"):
        Redactor(patterns=[Pattern("a", "b"), Pattern("a", "c")])
    with pytest.raises(TypeError, match="keys must be a list or a tuple"):
        Redactor(keys="password")
    with pytest.raises(ValueError, match="chunks must be 'withhold' or 'scan'"):
        Redactor(chunks="keep")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    """
    password passwd_hash user_passphrase passcode pwd db_pwd secret client_secret secrets secret_key secret_value
    secret_string secret_binary secret_id secret_hash secret_data token access_token authorization auth http_auth
    basic_auth proxy_auth api_key x_api_key_id access_key private_key_id account_key auth_key encryption_key master_key
    service_key session_key shared_key signing_key ssh_key storage_key subscription_key credential aws_credentials
    pass db_pass mysql_pass wordpress_db_pass user_pass smtp_pass email_pass ansible_ssh_pass root_pass client_key_data
    cookie set_cookie cookies x_csrf bearer sig x_amz_signature x_goog_signature otp cvv cvv2 cvc
    """.split(),  # noqa: SIM905  a literal would be two pages
)
def test_a_field_with_a_secret_name_is_secret(name: str) -> None:
    """In a JSON object, in a text, and in capitals."""
    assert "v1" not in str(redacted({name: "v1", "other": "v2"}))
    assert redacted({"other": "v2"}) == {"other": "v2"}
    assert "v1" not in str(redacted({name.upper(): "v1"}))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"user": "a", "pass": "hunter2x"}, {"user": "a", "pass": "[redacted:pass]"}),
        ({"smtp": {"Pass": "12345678"}}, {"smtp": {"Pass": "[redacted:pass]"}}),
        ({"name": "pass", "value": "hunter2x"}, {"name": "pass", "value": "[redacted:pass]"}),
        (["run", "--pass", "hunter2x"], ["run", "--pass", "[redacted:pass]"]),
        ("user=a&pass=hunter2x&n=1", "user=a&pass=[redacted:pass]&n=1"),
        ("user=a pass=hunter2x n=1", "user=a pass=[redacted:pass] n=1"),
        ("PASS='hunter2x y'", "PASS='[redacted:pass]'"),
        ("export SMTP_PASS='hunter2x'", "export SMTP_PASS='[redacted:smtp_pass]'"),
        ("DB_PASS=hunter2x", "DB_PASS=[redacted:db_pass]"),
        ("smtp:\n  user: a\n  pass: hunter2x\n", "smtp:\n  user: a\n  pass: [redacted:pass]\n"),
        ("User: a\nPass: hunter2x", "User: a\nPass: [redacted:pass]"),
        ("user: a, pass: hunter2x, and", "user: a, pass: [redacted:pass], and"),
        ("- **Pass:** `hunter2x y` z", "- **Pass:** `[redacted:pass]` z"),
        ("log in with `pass: hunter2x`, then", "log in with `pass: [redacted:pass]`, then"),
        ("user/pass: hunter2x", "user/pass: [redacted:pass]"),
        ('said {"PASS": "hunter2x"} and', 'said {"PASS": "[redacted:pass]"} and'),
        (r'said "user: a\npass: hunter2x\nhost: b c" and', r'said "user: a\npass: [redacted:pass] b c" and'),
        ("my admin pass: hunter2x", "my admin pass: [redacted:admin_pass]"),
        ("the {'admin pass': 'hunter2x'} of", "the {'admin pass': '[redacted:admin_pass]'} of"),
        ("--pass hunter2x -v", "--pass [redacted:pass] -v"),
        ("--pass {SSHA}hunter2x -v", "--pass [redacted:pass] -v"),
        ('{"pass":\n  "hunter2x"} said', '{"pass":\n  "[redacted:pass]"} said'),
        ('so {"pass":\n  "hunter2x"} said', 'so {"pass":\n  "[redacted:pass]"} said'),
        ("<pass>hunter2x</pass>", "<pass>[redacted:pass]</pass>"),
        ("pass: [redacted:pass]", "pass: [redacted:pass]"),
        (
            "users: kubeconfig\n  client-key-data: LS0t",
            "users: kubeconfig\n  client-key-data: [redacted:client_key_data]",
        ),
    ],
)
def test_pass_is_a_password(value: object, expected: object) -> None:
    """In a place where a password is expected."""
    assert redacted(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        {"pass": True, "fail": False, "a": [{"pass": 12, "fail": 3}, {"pass": 0.93}, {"pass": None}]},
        {"pass": "yes", "a": [{"pass": "12/15"}, {"pass": "93%"}, {"pass": "Failed"}, {"name": "pass", "value": "ok"}]},
        {"pass": ["test_a", "test_b"], "fail": []},
        {"pass": {"count": 3, "names": ["a"]}},
        {"enum": ["pass", "fail"], "pairs": [["pass", "needs work"]]},
        {"bypass": "a", "compass": "north", "overpass": "b", "passing": "c", "passes": "d", "proxy_pass": "http://e"},
        "12 pass: 3 fail, pass: 12, pass: 0.93",
        "pass: true\nfail: false\npass: 12\n",
        "pass=12 fail=3 skip=0",
        "first pass: compile\nSecond pass: link the files",
        "Pass: the answer is right",
        "ready when `make check` and `make test` pass: `.ci/run` runs both",
        "in {'first pass': 'compile it', 'second pass': 'link it'} and",
        "PASS: test_of_something\n--- PASS: TestOther (0.00s)\nok",
        "pass:\n  - test_a\n  - test_b\n",
        'the results were {"pass": ["a"], "fail": {"n": 1}, "p": ("pass", "fail")}',
        "try:\n    pass\nexcept ValueError: pass",
        "<pass>12</pass><fail>3</fail>",
        "bypass: x, compass=north",
    ],
)  # fmt: skip
def test_pass_is_not_a_password(value: object) -> None:
    """If it says that something has passed, or how much, or is a word in a sentence."""
    span = a_span(value)
    assert DEFAULT(span) is span


@pytest.mark.parametrize(
    "name",
    """
    next_token next_page_token page_token continuation_token sync_token cancellation_token special_token stop_token
    cost_per_token bos_token cls_token eos_token mask_token pad_token sep_token unk_token
    """.split(),  # noqa: SIM905
)
def test_what_only_sounds_like_a_secret_stays(name: str) -> None:
    """Positions in a list, and the words of a model."""
    assert redacted({name: "v1"}) == {name: "v1"}


def test_what_follows_a_mark_in_the_same_value_is_secret_too() -> None:
    """A value that something else has redacted in part is redacted as a whole."""
    assert redacted("password=[redacted:openai_key]abcdef next") == "password=[redacted:password] next"
    assert redacted("a token=[redacted:a][redacted:b]xyz") == "a token=[redacted:token]"


@pytest.mark.parametrize(
    "text",
    [
        "auth failed: Authorization: Basic {}` first",
        "call `Basic auth failed: Authorization: Basic {}` first",
        "auth: Authorization: Basic {}",
        "password: token: {}",
        "x {{'Auth-Header': {{'value': '{}', 'n': 1}}}}",
        '{{"secret_bytes": "{}"}}',
    ],
)
@pytest.mark.parametrize("secret", ["7xtPmFOWHgtbuvUV", "7xcode_execution"])
def test_a_secret_between_names_and_prose_is_found(text: str, secret: str) -> None:
    """Neither the words around it nor a name before its name hide it."""
    assert secret not in str(DEFAULT(a_span(text.format(secret))).input)


@pytest.mark.parametrize(
    "name",
    [
        "HASŁO",
        "hasło",
        "ŞİFRE",
        "Şifre",
        "ŞIFRE",
        "LÖSENORD",
        "JELSZÓ",
        "CONTRASEÑA",
        "ПАРОЛЬ",
        "Пароль",
        "ΚΩΔΙΚΌΣ",
    ],
)
@pytest.mark.parametrize("form", ["data", "json", "{}=7x00000000000000", "--{} 7x00000000000000"])
def test_names_of_other_languages_are_found_in_either_case(name: str, form: str) -> None:
    """With letters that have a case and are not ASCII."""
    value: Any = {name: "7x00000000000000"}
    if form == "json":
        value = json.dumps(value, ensure_ascii=False)
    elif form != "data":
        value = form.format(name)
    assert "7x0000" not in str(DEFAULT(a_span(value)).input)


@pytest.mark.parametrize("name", ["password-policy & verification code", "password policy, user password"])
def test_g13_a_name_about_a_secret_beside_one_of_a_secret_keeps_nothing(name: str) -> None:
    assert "hunter2x" not in str(DEFAULT(a_span({name: "hunter2x"})).input)
