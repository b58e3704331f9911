"""Recall: what is secret where two readings meet: escapes, operators, scripts, sentences, members, and logins."""

from __future__ import annotations

import pytest

from nat_observability.processors import DEFAULT_KEYS, DEFAULT_PATTERNS
from nat_observability.processors.redaction.marks import Marks
from nat_observability.processors.redaction.scrubber import Scrubber

SECRET = "k9Xm2Qw7Tz"
SCRUBBER = Scrubber(DEFAULT_KEYS, DEFAULT_PATTERNS, (), Marks(None))


def kept(texts: list[str], secrets: tuple[str, ...] = (SECRET,)) -> list[str]:
    """The results in which a secret is left, or that change when they are searched again."""
    once = [SCRUBBER.text(text) for text in texts]
    return [
        text
        for text in once
        if any(secret in text for secret in secrets)
        or "[redacted:" not in text
        or SCRUBBER.text(text) != text
    ]


@pytest.mark.parametrize("line_end", ["\n", "\\n", "\\\\n", "\\r\\n", "\r\n"])
def test_a_kubernetes_secret_is_redacted_whatever_its_line_ends_are(line_end: str) -> None:
    manifests = [
        'kind: Secret\ndata:\n  foo: "838717199"\n  bar: "12345678x"\n',
        "apiVersion: v1\nkind: Secret\nstringData:\n  thing: 838717199\n  other: 12345678x\n",
        "stringData:\n  foo: 838717199\n  bar: 12345678x\nkind: Secret\n",
    ]
    texts = [manifest.replace("\n", line_end) for manifest in manifests]
    assert kept(texts, ("838717199", "12345678x")) == []


@pytest.mark.parametrize(
    "operator",
    [
        "!=",
        "!==",
        "<>",
        "IS",
        "IS NOT",
        "is not",
        "IS DISTINCT FROM",
        "IS NOT DISTINCT FROM",
        "LIKE",
        "NOT LIKE",
    ],
)
def test_what_a_column_is_compared_with_is_redacted(operator: str) -> None:
    values = [f"'{SECRET}'", f"N'{SECRET}'", f"('{SECRET}')", f"\\'{SECRET}\\'", f'"{SECRET}"']
    assert kept([f"WHERE password {operator} {value}" for value in values]) == []
    assert (
        kept([f"password!='{SECRET}'", f"password<>'{SECRET}'", f"password NOT IN ('{SECRET}', 'a')"]) == []
    )


def test_names_in_which_two_scripts_meet_are_read_as_written_and_as_they_look() -> None:
    names = [
        "bot\u0442\u043e\u043a\u0435\u043d",
        "x\u0442\u043e\u043a\u0435\u043d",
        "my\u0441\u0435\u043a\u0440\u0435\u0442",
        "access\u0422\u043e\u043a\u0435\u043d",
        "\u043c\u043e\u0439p\u0430ssword",
        "p\u0430ssword",
    ]
    for form in ("{}={}", "{}: {}", '{{"{}":"{}"}}'):
        assert kept([form.format(name, SECRET) for name in names]) == []


@pytest.mark.parametrize(
    "value", ["my 2dogs", "an 8ball", "the 12345678", "use 90871234", "my 2dogs run fast", "the 4horses99"]
)
def test_a_password_that_begins_with_a_word_of_prose_is_redacted_whole(value: str) -> None:
    assert SCRUBBER.text(f"password: {value}") == "password: [redacted:password]"
    assert SCRUBBER.text(f"password: {value}\nuser: bob") == "password: [redacted:password]\nuser: bob"


@pytest.mark.parametrize(
    "text",
    [
        "password: use 12 or more",
        "password: at least 8 characters",
        "password: has 90 days",
        "password: the 3 rules apply",
        "password: at most 128 bytes",
        "cookies: strictly necessary",
        "docker login; docker run -p 8080 x",
        "signtool sign /p out.exe",
        "render pass: shadow_map_v2",
        "password 12345678 characters",
        "API key: see 1Password",
        "https://user:password@example.com/x",
        "http://user:pass@localhost:8080/",
        "postgresql://user:password@localhost/db",
    ],
)
def test_what_only_explains_is_kept(text: str) -> None:
    assert SCRUBBER.text(text) == text


@pytest.mark.parametrize(
    "members",
    [
        "t=1767225600,v1=abc123def,s={}",
        "t=1767225600,v1=abc123def,sha256={}",
        "t=1767225600,v1=abc123def;v2={}",
        "t=1767225600,v1=abc123def, v2={}",
        "ts=1767225600;v1={}",
        "v1=abc123def,v0={}",
    ],
)
def test_a_signature_of_several_members_is_one(members: str) -> None:
    assert SCRUBBER.text("X-Signature: " + members.format(SECRET)) == "X-Signature: [redacted:signature]"


def test_what_holds_a_mark_names_nothing() -> None:
    once = SCRUBBER.text('["pwd=hunter2xy","wget https://x.y/z1"]')
    assert once == '["pwd=[redacted:pwd]","wget https://x.y/z1"]'
    assert SCRUBBER.text(once) == once


def test_default_logins_of_services_are_redacted() -> None:
    urls = [
        "postgres://user:password@prod-db.example.com/x",
        "postgres://user:password@example.com/x",
        "amqp://user:pass@mq.internal/x",
        "https://login:password@host.internal/",
        "https://user:password@intranet.example.com/",
        "redis://user:pass@localhost.evil.example/0",
    ]
    assert kept(urls, (":pass",)) == []


def test_what_can_only_be_a_password_is_found_behind_many_that_passed() -> None:
    """The name of a password that also means that something has passed, near and far from what looks strong."""
    passed = "the checks pass here and there and all of it is fine. " * 400
    for form in ("<pass>{}</pass>", "| user | pass |\n|---|---|\n| bob | {} |\n", 'form.set("pass", "{}")'):
        hidden = form.format(SECRET)
        for text in (
            hidden,
            passed + "\n" + hidden,
            hidden + "\n" + passed,
            passed + "\n" + hidden + "\n" + passed,
        ):
            assert SECRET not in SCRUBBER.text(text)


def test_alike_surroundings_hide_as_much_everywhere() -> None:
    """Names in the same surroundings are looked at once if nothing is found, and all of them otherwise."""
    assert SECRET not in SCRUBBER.text(f"password: {SECRET} " * 800)
    text = "auth_token: null " * 1000
    assert SCRUBBER.text(text) == text
    assert SECRET not in SCRUBBER.text(text + f"auth_token: {SECRET}")


def test_the_words_of_a_cookie_are_redacted() -> None:
    texts = ['{"cookie":"correct horse battery staple"}', "Cookie: letmein please"]
    assert kept(texts, ("horse", "letmein")) == []
