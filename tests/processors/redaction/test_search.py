"""The prefilter changes nothing: what is redacted with it is what is redacted without it."""

from __future__ import annotations

import inspect
import json
import random
import urllib.request

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.redaction_corpus.score import cases
from nat_observability.processors import DEFAULT_KEYS, DEFAULT_PATTERNS, PERSONAL_SETS
from nat_observability.processors.redaction.marks import Marks
from nat_observability.processors.redaction.recognisers import RECOGNISERS, Recogniser
from nat_observability.processors.redaction.scrubber import Scrubber
from tests.thorough import examples

KEYS = (*DEFAULT_KEYS, "patient_*", "?x")
WITH, WITHOUT = (
    Scrubber(KEYS, DEFAULT_PATTERNS, (), Marks(None), prefilter=prefilter) for prefilter in (True, False)
)
PERSONAL_WITH, PERSONAL_WITHOUT = (
    Scrubber(KEYS, DEFAULT_PATTERNS, PERSONAL_SETS, Marks(None), prefilter=prefilter)
    for prefilter in (True, False)
)

PROSE = "Once upon a time there were four little rabbits, and they lived with their mother in a sand bank. "
# The parts of every form: what surrounds a name, the signs between name and value, and values. Random combinations make
# each form, and much that is nearly one.
QUOTES = (*"\"'`", '"""', '\\"', "\\'", '\\\\\\"', "\\" * 7 + '"', "\\" * 15 + '"', "\\" * 31 + '"', "")
PREFIXES = (*"bBrRuUfF", "rb", "Rb", "*", "**", "__", "", "", "")
SPACES = (
    "",
    "",
    " ",
    "  ",
    "\t",
    "\n",
    "\r\n",
    "+",
    "\\n",
    "\\r\\n",
    "\\\\n",
    "\\t",
    " " * 9,
    " " * 60,
    "\\n " * 30,
)
NAMES = (
    "password", "PASSWORD", "api_key", "x-api-key", "Api Key", "apiKey", "token", "pass", "secret", "auth", "otp",
    "cvc", "DB_PASS", "db.password", "user[password]", "x amz signature", "Authorization", "cookie", "sig",
    "ssh_key", "pwd",
    "password_of_" + "the_" * 20 + "service", "a." * 40 + "secret", "shared access key", "x_a_signature",
    "patient_name", "name", "Name", "key", "value", "Value", "header", "note", "n", "--password", "--api-key",
    "--user", "a\\token",
)  # fmt: skip
ASSIGNMENTS = (
    *"=:,",
    "=>",
    ":=",
    "==",
    "===",
    ", ",
    ": ",
    " = ",
    "://",
    ":**",
    "`:",
    "**:",
    "*: ",
    "]",
    "]=",
    " ",
)
OPENINGS = (
    "(",
    "[",
    "{",
    "[(",
    "<",
    "</",
    "- - ",
    "-+-+",
    "  - ",
    "- ",
    "--",
    "|\n ",
    ">-\n  ",
    "? ",
    ";",
    "&",
    "",
)
VALUES = (
    "hunter2x", "7xabc", "a1B2c3D4e5F6g7H8", "null", "true", "12", "ok", "{SSHA}W6ph5", "[a]x", "Bearer ", "Basic ",
    "[redacted:password]", "[redacted:", "a b", "a,b", "a;b", ">", "</password>", "[cut:12]",
)  # fmt: skip
FORMS = (
    "sk-", "sk-ant-", "ghp_", "hf_", "AKIA", "eyJ", "csk-", "csk_", "glpat-", "xoxb-", "AIza", "SG.", "SK", "Q~",
    "1//0", "JQQJ9", "T3BlbkFJ", "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "postgres://me:",
    "https://", "@",
    "example.com", "12345678:AA", "0123456789abcdef", "A2B3C4D5E6F7G2H3", "a1B2c3D4e5F6g7H8" * 3,
    "hooks.slack.com/services/",
)  # fmt: skip
ESCAPES = (
    "%22",
    "%3D",
    "%3A",
    "%70assword",
    "\\u0022",
    "\\u003d",
    "\\u0070assword",
    "\x1b[31m",
    "\\x1b[0m",
    "%2522",
    "\\/",
)
PERSONAL = (
    "me@example.com",
    "+49 30 1234567",
    "4111 1111 1111 1111",
    "DE89370400440532013000",
    "10.1.2.3",
    "fe80::1",
)

# The parts of a field, and of a name and a value in two fields, in their order.
FIELD = (
    OPENINGS, SPACES, PREFIXES, QUOTES, PREFIXES, NAMES, PREFIXES, QUOTES,
    SPACES, ASSIGNMENTS, SPACES, PREFIXES, QUOTES, VALUES, QUOTES, SPACES,
)  # fmt: skip
TWO_FIELDS = (
    OPENINGS, PREFIXES, QUOTES, ("name", "Key", "header", "value", "x"), QUOTES,
    ASSIGNMENTS, SPACES, QUOTES, NAMES, QUOTES, ("", ","), SPACES, QUOTES,
    ("value", "Value", "name"), QUOTES, SPACES, ASSIGNMENTS, QUOTES, VALUES,
)  # fmt: skip
TAG = (
    ("<", "</"), NAMES, ("", " a='1'", " ", "/"), (">", "> ", ""), VALUES, ("</", "</a>", "[cut:12]", ""),
)  # fmt: skip
PARTS = sorted(
    {*QUOTES, *PREFIXES, *SPACES, *NAMES, *ASSIGNMENTS, *OPENINGS, *VALUES, *FORMS, *ESCAPES, *PERSONAL}
)


def joined(parts: tuple[tuple[str, ...], ...]) -> st.SearchStrategy[str]:
    return st.tuples(*map(st.sampled_from, parts)).map("".join)


prose = st.integers(0, 8).map(lambda count: PROSE * count)
anything = st.lists(st.sampled_from(PARTS), max_size=8).map("".join)
texts = st.lists(
    prose | joined(FIELD) | joined(TWO_FIELDS) | joined(TAG) | anything, min_size=1, max_size=6
).map("".join)
EXAMPLES = settings(
    max_examples=examples(60, thoroughly=150), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@given(texts)
@EXAMPLES
def test_the_prefilter_does_not_change_what_is_redacted(text: str) -> None:
    """In a text that has any of the forms, alone or in long prose."""
    assert WITH.text(text) == WITHOUT.text(text)


@given(texts)
@EXAMPLES
def test_the_prefilter_does_not_change_what_is_redacted_in_json(text: str) -> None:
    """In an object, a list of pairs, a list of flags, and a text in JSON in JSON."""
    value = {
        "a": [text, "x"],
        text: "y",
        "b": [[text, "z"], ["c", text]],
        "d": json.dumps({"name": text, "value": "v"}),
    }
    raw = msgspec.Raw(json.dumps(value).encode())
    assert WITH.value(raw) == WITHOUT.value(raw)


@pytest.mark.parametrize(
    "letters",
    [
        "<password_of_the_the_service>hunter2x</",
        "a b;auth[(",
        "<db.password> null",
        ";apiKey`user[password]",
        "the pwd of it",
    ],
)
def test_a_sentence_in_place_of_a_name_is_no_name(letters: str) -> None:
    """Only its end counts, with and without the prefilter, however many letters of a name are further in front."""
    for text in (PROSE * 4 + letters + PROSE, PROSE * 4 + letters + PROSE * 4):
        for value in ({"name": text, "value": "v"}, {text: "y"}, [[text, "z"], ["c", text]]):
            raw = msgspec.Raw(json.dumps(value).encode())
            assert WITH.value(raw) == WITHOUT.value(raw) == raw


@given(texts)
@EXAMPLES
def test_the_prefilter_does_not_change_which_personal_data_is_redacted(text: str) -> None:
    """The sets of personal data are part of the prefilter too."""
    assert PERSONAL_WITH.text(text) == PERSONAL_WITHOUT.text(text)


def random_text(chosen: random.Random) -> str:
    """Return a text of up to six parts, half of the time one part in long prose."""

    def part() -> str:
        kind = chosen.randrange(6)
        if kind == 0:
            return PROSE * chosen.randint(0, 8)
        if kind == 1:
            return "".join(chosen.choices(PARTS, k=chosen.randint(0, 8)))
        form = (FIELD, FIELD, TWO_FIELDS, TAG)[kind - 2]
        return "".join(map(chosen.choice, form))

    if chosen.random() < 0.5:
        return PROSE * chosen.randint(3, 8) + part() + PROSE * chosen.randint(0, 8)
    return "".join(part() for _ in range(chosen.randint(1, 6)))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100))
def test_the_prefilter_changes_none_of_a_thousand_random_texts(seed: int) -> None:
    """One of a hundred runs, each with other texts."""
    chosen = random.Random(seed)
    redacted = 0
    for _ in range(1000):
        text = random_text(chosen)
        without = WITHOUT.text(text)
        assert WITH.text(text) == without
        redacted += without != text
    assert redacted > 100, "the texts have secrets"


@pytest.mark.parametrize("recogniser", RECOGNISERS, ids=lambda recogniser: recogniser.name)
def test_each_recogniser_finds_its_form_in_long_prose(recogniser: Recogniser) -> None:
    """Also if a first look decides where it is tried."""
    example = {
        "quoted name": '{"token" : "hunter2x"}',
        "pair": "[(u'token', u'hunter2x')]",
        "Markdown": "**token**: hunter2x",
        "assignment": "token=hunter2x",
        "name and value": "<a name='token' value='hunter2x'/>",
        "YAML pair": "- - token\n  - hunter2x",
        "flag": "--token hunter2x",
        "tag": "<token>hunter2x</token>",
    }[recogniser.name]
    assert "hunter2x" not in WITH.text(f"{PROSE * 5}\n{example}\n{PROSE * 5}")


def test_a_value_before_its_name_is_found_in_json() -> None:
    """With other fields between them."""
    fields = {"said": PROSE * 5, "a": {"value": "hunter2x", "n": 1, "name": "token"}}
    assert b"hunter2x" not in bytes(WITH.value(msgspec.Raw(json.dumps(fields).encode())))  # type: ignore[arg-type]


def test_the_words_of_a_name_may_be_in_different_pieces() -> None:
    """Of a long text, which is looked at in pieces of 4 KB."""
    filler = "nothing of note " * 600
    for at in range(4096 - 140, 4096 + 80, 9):
        text = f"{filler[:at]} saml response: hunter2x {filler[at:]}"
        assert "hunter2x" not in WITH.text(text)
        assert WITH.text(text) == WITHOUT.text(text)


def test_the_prefilter_does_not_change_what_is_redacted_in_code() -> None:
    """Where there are many names, most of them without a value: secrets of the corpus between lines of code."""
    chosen = random.Random(11)
    code = inspect.getsource(urllib.request)
    redacted = 0
    for case in chosen.sample([case for case in cases(0.001) if isinstance(case.given, str)], 24):
        at = chosen.randrange(2000, len(code) - 2000)
        text = f"{code[at - 1500 : at]}\n{case.given}\n{code[at : at + 1500]}"
        without = WITHOUT.text(text)
        assert WITH.text(text) == without
        redacted += without != text
    assert redacted > 12


# Each once passed the first look although something was in it: what is around the name is unusual.
NEARLY_MISSED = (
    "<pass a>x</",
    '"pass\\\\"value:a',
    '"pass "value\\n:x',
    'pass\\\\\\\\"  \\n \\n \\n \\n \\n :d',
    "pass" + "\\" * 14 + '"`:a',
    "accesskey" + "\\" * 13 + ",e\\ns,",
    "a\\ttoken\\n=\\tW",
    "pass=PASSWD a=u",
    "PASSORD         V=a",
    '{"chave - de - acesso":"hunter2x"}',
    "PRIVATEKEY->10.1ti",
    "PRIVATEKEY-->pard10",
    "Bearer ]=sig==%",
    "e,Value\n:apiKey,e",
    "r,value\n;pwd,V",
    "e,value\\npasswd],b",
    "a,**password**\n1,hunter2x\n",
    "password\u2192k9Xm2Qw7Tz",
    "token\u00a0=\u00a0k9Xm2Qw7Tz",
    "api-------key: hunter2x",
    "suite,pass\nunit,k9Xm2Qw7Tz\n",
)


@pytest.mark.parametrize("text", NEARLY_MISSED)
def test_unusual_surroundings_of_a_name_are_near_it(text: str) -> None:
    """What stands around it is looked at as far as what finds its value looks."""
    without = WITHOUT.text(text)
    assert WITH.text(text) == without != text


@pytest.mark.parametrize("sign", ["\uff1a", "\uff1d", " \u2192 "])
def test_a_sign_beyond_ascii_may_be_between_name_and_value(sign: str) -> None:
    """It is in one word with both of them."""
    text = f"{PROSE * 5} pypi_token{sign}9RWtOyJl8Xc1 {PROSE}"
    assert "9RWtOyJl8Xc1" not in WITH.text(text)
    assert WITH.text(text) == WITHOUT.text(text)


@pytest.mark.parametrize(
    "text", ["machine\napi\nlogin\nbob\npassword\nhunter2x", "AKIAZX81KQZX81KQZX81", "step\nx\npass\nhunter2"]
)
def test_short_words_alone_are_searched_as_any_text(text: str) -> None:
    """If they can hold something: a login of one word a line, or a token."""
    assert WITH.text(text) == WITHOUT.text(text)
    default = Scrubber(DEFAULT_KEYS, DEFAULT_PATTERNS, (), Marks(None))
    assert default.text(text) == WITHOUT.text(text)


def test_blanks_may_be_where_a_key_has_an_asterisk() -> None:
    """Also where the first look sees only the letters beside it."""
    scrubber = Scrubber(("patient*id",), (), (), Marks(None))
    assert (
        scrubber.text(f"{PROSE * 3} patient my id: abc7")
        == f"{PROSE * 3} patient my id: [redacted:patient_id]"
    )
