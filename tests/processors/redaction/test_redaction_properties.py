"""Secrets planted anywhere, in any encoding, are missing from the result."""

from __future__ import annotations

import base64
import json
import re
import string
import urllib.parse
from dataclasses import dataclass
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nat_observability.events import Boundary, Item, Run
from nat_observability.processors import DEFAULT_KEYS, Redactor
from tests.processors.builders import RUN, a_span, a_step, an_error, identity
from tests.processors.redaction.nestings import NESTINGS

REDACTOR = Redactor()

ALNUM = string.ascii_letters + string.digits


def letters(characters: str, length: int) -> st.SearchStrategy[str]:
    return st.text(characters, min_size=length, max_size=length)


# The beginning of each form, the characters of the rest, and their number.
FORMS = (
    ("sk-", ALNUM, 48),
    ("sk-proj-", ALNUM + "_-", 64),
    ("sk-ant-api03-", ALNUM + "_-", 95),
    ("AKIA", string.ascii_uppercase + "234567", 16),
    ("ASIA", string.ascii_uppercase + "234567", 16),
    ("AIza", ALNUM + "_-", 35),
    ("ya29.", ALNUM + "_-", 60),
    ("GOCSPX-", ALNUM + "_-", 28),
    ("ghp_", ALNUM, 36),
    ("gho_", ALNUM, 36),
    ("github_pat_", ALNUM + "_", 82),
    ("glpat-", ALNUM + "_-", 20),
    ("xoxb-", string.digits, 24),
    ("xoxp-", ALNUM + "-", 48),
    ("sk_live_", ALNUM, 24),
    ("rk_test_", ALNUM, 24),
    ("whsec_", ALNUM, 32),
    ("hf_", ALNUM, 34),
    ("nvapi-", ALNUM + "_-", 64),
    ("npm_", ALNUM, 36),
    ("pypi-AgEIcHlwaS5vcmc", ALNUM + "_-", 100),
    ("gsk_", ALNUM, 52),
    ("dapi", "0123456789abcdef", 32),
    ("SK", "0123456789abcdef", 32),
    ("hvs.", ALNUM + "_-", 24),
)
# The same without digits.
FORMS_OF_LETTERS = (
    ("hf_", string.ascii_letters, 34),
    ("api_org_", string.ascii_letters, 34),
    ("AKIA", string.ascii_uppercase, 16),
    ("ASIA", string.ascii_uppercase, 16),
    ("sk-", string.ascii_letters, 48),
    ("glpat-", string.ascii_letters + "_-", 20),
    ("sk_live_", string.ascii_letters, 24),
    ("rk_test_", string.ascii_letters, 24),
    ("GOCSPX-", string.ascii_letters + "_-", 28),
    ("ghp_", string.ascii_letters, 36),
    ("AIza", string.ascii_letters + "_-", 35),
)


@st.composite
def tokens(draw: st.DrawFn) -> str:
    """Keys and tokens of providers."""
    if draw(st.integers(0, 3)) == 0:
        begin, characters, length = draw(st.sampled_from(FORMS_OF_LETTERS))
        if characters == string.ascii_uppercase:
            return begin + draw(letters(characters, length))
        # No word alternates between small letters and capitals.
        pairs = st.tuples(letters("bcdfgkmpqvwxz", 1), letters(string.ascii_uppercase, 1)).map("".join)
        return begin + "".join(draw(pairs) for _ in range(5)) + draw(letters(characters, length - 10))
    form = draw(st.sampled_from(FORMS))
    # A digit first, because hyphenated words are not tokens.
    return (
        form[0]
        + draw(st.sampled_from("234567" if form[0] != "SK" else "01234567"))
        + draw(letters(form[1], form[2] - 1))
    )


def jwt(body: dict[str, str], signature: str) -> str:
    parts = (json.dumps({"alg": "HS256", "typ": "JWT"}), json.dumps(body))
    encoded = [base64.urlsafe_b64encode(part.encode()).rstrip(b"=").decode() for part in parts]
    return ".".join((*encoded, signature))


jwts = st.builds(
    jwt, st.dictionaries(letters("abc", 3), letters(ALNUM, 8), min_size=1), letters(ALNUM + "_-", 43)
)
passwords = letters(ALNUM + "!#$%*+-._~", 14).map(lambda tail: "7x" + tail)


@dataclass(frozen=True)
class Planted:
    """A value, and the text that must be missing from the result."""

    value: Any
    secret: str


# -- How a secret stands in a text -----------------------------------------------------------------------------------

AROUND = st.sampled_from(
    (
        "",
        " ",
        "\n",
        "\t",
        "key: ",
        "the key is ",
        "(",
        '"',
        "'",
        "=",
        "é",
        "x=",
        "\r\n",
        "<",
        "`",
        ",",
        "[",
        "|",
    )
)
BEHIND = st.sampled_from(("", " ", "\n", ".", ")", '"', "'", ", and", " é", "\\", "</a>", "`", "]", "|"))

bearing: st.SearchStrategy[Planted] = st.builds(
    lambda before, token, behind: Planted(f"{before}{token}{behind}", token), AROUND, tokens() | jwts, BEHIND
)
headers: st.SearchStrategy[Planted] = st.builds(
    lambda form, secret: Planted(form.format(secret), secret),
    st.sampled_from(
        (
            "Authorization: Bearer {}",
            "authorization: {}\r\nAccept: */*",
            "curl -H 'Authorization: Bearer {}' https://example.com",
            'curl -H "X-API-Key: {}" https://example.com',
            "Proxy-Authorization: Basic {}",
            "GET / HTTP/1.1\nCookie: session={}; other=1",
            "headers={{'x-api-key': '{}'}}",
            "[(b'authorization', b'Bearer {}')]",
            "postgres://app:{}@db.example.com:5432/app",
            "redis://:{}@localhost/0",
            "https://user:{}@example.com/path?query=1",
            "password={}",
            "export PGPASSWORD='{}'",
            "--api-key {} --verbose",
            "--password={}",
            "client_secret={}&grant_type=client_credentials",
            "https://example.com/?a=1&access_token={}&b=2",
            "Server=db;Database=app;Password={};Timeout=30",
            "AccountName=a;AccountKey={};EndpointSuffix=core.windows.net",
            "<config><password>{}</password></config>",
            "password: {}\nuser: me",
            'error: {{"user": "me", "password": "{}", "n": 1}} was refused',
            "Client(api_key='{}', timeout=3)",
            "KeyError: {{'passwd': '{}'}}",
            'data: {{"api_key": "{}"}}\n\ndata: [DONE]',
            "users:\n  - name: me\n    password: {}\n    n: 1",
            "env:\n  - name: API_KEY\n    value: {}\n",
            "password: |\n  {}\nuser: me",
            "password: >-\n    {}\n    and more\nuser: me",
            "secrets:\n  - x\n  - {}\nuser: me",
            "secrets:\n- {}\nuser: me",
            "args:\n  - --password\n  - {}\n",
            '<input name="password" value="{}"/>',
            "headers = [Header(name='Cookie', value='{}')]",
            "level=info api_key={} n=1",
            'level=info password="{}" n=1',
            "+    'token': '{}',",
            "set PASSWORD {}".replace(" {}", "={}"),
            "[client]\nuser = me\npassword = {}\n",
            "machine example.com login me password={}",
            "Set-Cookie: session={}; HttpOnly; Path=/",
            "Basic auth failed: Authorization: Basic {}",
            "\x1b[36mpassword\x1b[0m=\x1b[35m{}\x1b[0m \x1b[36mn\x1b[0m=\x1b[35m1\x1b[0m",
            "smtp:\n  user: me\n  pass: {}\n  host: a",
            "user=me&pass={}&n=1",
            '{{"user": "me", "pass": "{}"}}',
            "- **Password:** `{}`\n- **User:** me",
            "# Access\n\n**Password**: {}\n",
            "Set `DB_PASSWORD`: `{}`, then go on.",
            "* **API Key:** {}\n* **User:** me",
            "__Secret:__ {}",
            "**Token:** **`{}`**",
            "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----\n",
        )
    ),
    letters(ALNUM, 14).map(lambda tail: "7x" + tail),
)


# The nestings after which JSON is still JSON.
JSON_NESTINGS = frozenset(
    (
        "field",
        "item",
        "JSON",
        "JSON in a field",
        "indented JSON in a field",
        "compact JSON in a field",
        "message",
        "slashes escaped",
    )
)


def spelled(key: str, style: int) -> str:
    """Return the name of a field in another style."""
    words = key.replace("^", "").strip("*").replace("*", "amz").split("_")
    return (
        "_".join(words),
        "-".join(words),
        "".join(words),
        words[0] + "".join(word.title() for word in words[1:]),
        "-".join(word.title() for word in words),
        "_".join(words).upper(),
        " ".join(words),
    )[style]


secret_names = st.builds(
    spelled,
    st.sampled_from([key for key in DEFAULT_KEYS if key[0] not in "!~" and key != "pass"]),
    st.integers(0, 6),
)
named: st.SearchStrategy[Planted] = st.builds(
    lambda name, secret, form: Planted(form(name, secret), secret),
    secret_names,
    passwords,
    st.sampled_from(
        (
            lambda name, secret: {name: secret},
            lambda name, secret: {"a": 1, name: [secret]},
            lambda name, secret: {name: {"value": secret, "n": 1}},
            lambda name, secret: [[name, secret]],
            lambda name, secret: [[name, secret], ["accept", "*/*"]],
            lambda name, secret: {"name": name, "value": secret},
            lambda name, secret: ["run", f"--{name.replace(' ', '-')}", secret],
        )
    ),
)


@st.composite
def planted(draw: st.DrawFn) -> Planted:
    """A secret at some depth of some value."""
    inner = draw(bearing | headers | named)
    value = inner.value
    for name in draw(st.lists(st.sampled_from(sorted(NESTINGS)), max_size=3)):
        value = NESTINGS[name](value)
    return Planted(value, inner.secret)


def seen(item: Item) -> str:
    """Return everything in an item, as it is and with escapes of every kind removed."""
    text = msgspec.json.encode(item).decode()
    layers = [text]
    for _ in range(6):
        text = urllib.parse.unquote(text, errors="replace")
        text = re.sub(r"\\+u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)
        layers.append(text)
        layers.append(text.replace("\\", ""))
    return "\n".join(layers)


EXAMPLES = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(planted(), st.sampled_from(("input", "output", "metadata", "message", "traceback", "name", "tags")))
@EXAMPLES
def test_a_secret_is_in_nothing_of_a_span(plant: Planted, place: str) -> None:
    """Wherever it is planted, at any depth and in any encoding."""
    text = plant.value if isinstance(plant.value, str) else repr(plant.value)
    span = {
        "input": lambda: a_span(plant.value),
        "output": lambda: a_span(None, plant.value),
        "metadata": lambda: a_span(metadata={"given": plant.value}),
        "message": lambda: a_span(error=an_error(text)),
        "traceback": lambda: a_span(
            error=an_error("failed", f'  File "a.py", line 1\n    f({text})\n{text}')
        ),
        "name": lambda: a_span(name=text),
        "tags": lambda: a_span(tags=("a", text)),
    }[place]()
    redacted = REDACTOR(span)
    assert plant.secret not in seen(redacted)
    assert identity(redacted) == identity(span)
    assert REDACTOR(redacted) == redacted, "nothing is left to redact the second time"


@given(
    secret_names,
    st.sampled_from(("name", "key", "Name", "Key", "header")),
    passwords,
    st.lists(st.sampled_from(sorted(JSON_NESTINGS)), max_size=3),
)
@EXAMPLES
def test_a_value_before_its_name_is_in_nothing_of_a_span(
    name: str, key: str, secret: str, nestings: list[str]
) -> None:
    """In JSON, however deep inside strings of JSON."""
    value: Any = {"id": 1, "Value" if key.istitle() else "value": secret, "type": "text", key: name}
    for nesting in nestings:
        value = NESTINGS[nesting](value)
    assert secret not in seen(REDACTOR(a_span(value)))


@given(planted(), st.sampled_from((Boundary.START, Boundary.CHUNK, Boundary.END)))
@EXAMPLES
def test_a_secret_is_in_nothing_of_a_step(plant: Planted, boundary: Boundary) -> None:
    """The boundaries of a step are redacted like its span."""
    step = a_step(
        plant.value, output=plant.value, chunk=plant.value, metadata=[plant.value], boundary=boundary
    )
    redacted = REDACTOR(step)
    assert plant.secret not in seen(redacted)
    assert identity(redacted) == identity(step)


@given(planted(), st.data())
@EXAMPLES
def test_a_secret_that_is_split_over_chunks_is_in_nothing_of_the_span(
    plant: Planted, data: st.DataObject
) -> None:
    """A span has its chunks joined, whether they are texts or JSON."""
    text = plant.value if isinstance(plant.value, str) else json.dumps(plant.value)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), min_size=1, max_size=5)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    joined = a_span(None, "".join(pieces), chunks=len(pieces))
    assert plant.secret not in seen(REDACTOR(joined))
    deltas = [{"id": "c-1", "choices": [{"delta": {"content": piece}}]} for piece in pieces]
    redacted = REDACTOR(a_span(None, deltas, chunks=len(pieces)))
    assert plant.secret not in seen(redacted)
    output = msgspec.json.decode(redacted.output)  # type: ignore[arg-type]
    assert plant.secret not in "".join(chunk["choices"][0]["delta"]["content"] for chunk in output)


@given(planted())
@EXAMPLES
def test_a_secret_is_in_nothing_of_a_run(plant: Planted) -> None:
    """The names of user, conversation, workflow and tags are texts too."""
    text = plant.value if isinstance(plant.value, str) else repr(plant.value)
    run = Run("run-1", "1" * 32, text, text, text, "4" * 16, (("plan", text),))
    span = a_span("fine", run=run)
    redacted = REDACTOR(span)
    assert plant.secret not in seen(redacted)
    assert identity(redacted) == identity(span)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text('abc é\n"\\{}[]', max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abcdé\n ", max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(json_values, json_values)
@EXAMPLES
def test_what_has_no_secret_is_the_same_object(value: object, output: object) -> None:
    """Nothing is changed or encoded again if there is nothing to redact."""
    span = a_span(value, output)
    assert REDACTOR(span) is span


@given(json_values)
@EXAMPLES
def test_what_is_beside_a_secret_stays_as_it_was(value: object) -> None:
    """Only the secret is replaced."""
    redacted = REDACTOR(a_span({"kept": value, "password": "x", "again": [value]}))
    assert isinstance(redacted.input, msgspec.Raw)
    assert json.loads(bytes(redacted.input)) == {
        "kept": value,
        "password": "[redacted:password]",
        "again": [value],
    }
    assert RUN is redacted.run
