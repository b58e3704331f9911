"""Tokens of providers: each form is found under its name, and lookalikes are not."""

from __future__ import annotations

import base64

import pytest

from nat_observability.processors import DEFAULT_PATTERNS, Redactor
from nat_observability.processors.redaction.tables.token import Around, Token
from nat_observability.processors.redaction.tokens import AROUND, TOKENS
from tests.processors.builders import a_span

HEX = "0123456789abcdef" * 4
MIXED = "a1B2c3D4e5F6g7H8" * 8
UPPER = "A2B3C4D5E6F7G2H3" * 4
DIGITS = "1234567890123"
LETTERS = "qXzQwYvKjHbNcRtLpMdGfSkWxZnBvTgPhD"
CAPITALS = "QXZAWYVKJHBNCRTL"

_ID = "3d6e0853-3ced-4e61-a513-468010b6fb75"
EXAMPLES = [
    # By their shape.
    ("mailgun_key", f"{HEX[:32]}-{HEX[:8]}-{HEX[8:16]}"),
    ("budibase_key", f"{HEX[:32]}-{HEX[:40]}{HEX[:39]}"),
    ("zhipu_key", f"{HEX[:32]}.{MIXED[:16]}"),
    ("twitter_token", f"1234567890123456789-{MIXED[:40]}"),
    ("ngrok_token", f"2{MIXED[:26]}_5{MIXED[:20]}"),
    ("ditto_key", f"{_ID}.{HEX[:40]}"),
    ("webex_token", f"{(MIXED * 2)[:64]}_{MIXED[:4]}_{_ID}"),
    ("storyblok_token", f"{MIXED[:22]}tt-123456-{MIXED[:20]}"),
    ("segment_key", f"{MIXED[:43]}.{MIXED[:43]}"),
    ("fal_key", f"{_ID}:{HEX[:32]}"),
    ("ghost_key", f"{HEX[:24]}:{HEX[:64]}"),
    ("facebook_token", f"123456789012345|{MIXED[:27]}"),
    ("laravel_token", f"12|{MIXED[:40]}"),
    ("ably_key", f"{MIXED[:6]}.{MIXED[6:12]}:{MIXED[:43]}"),
    ("ngc_key", f"{'a1b2c3d4e5' * 2}f6g7h8:{_ID}"),
    ("amazon_token", f"Atza|{MIXED[:40]}"),
    ("twitch_token", f"oauth:{'a1b2c3d4e5' * 3}"),
    ("openai_key", f"sk-{MIXED[:48]}"),
    ("openai_key", f"sk-proj-{MIXED[:40]}_{MIXED[:20]}-T3BlbkFJ{MIXED[:40]}"),
    ("openai_key", f"sk-or-v1-{HEX}"),
    ("anthropic_key", f"sk-ant-api03-{MIXED[:90]}-AA"),
    ("aws_key", f"AKIA{UPPER[:16]}"),
    ("aws_key", f"ASIA{UPPER[:16]}"),
    ("aws_key", f"ABSK{MIXED[:100]}=="),
    ("google_key", f"AIza{MIXED[:35]}"),
    ("google_key", f"ya29.a0{MIXED}"),
    ("google_key", f"GOCSPX-{MIXED[:28]}"),
    ("google_key", f"1//0g{MIXED[:60]}"),
    ("azure_key", f"abc8Q~{MIXED[:34]}"),
    ("azure_key", f"{MIXED[:52]}JQQJ99BAAC{MIXED[:20]}"),
    ("github_token", f"ghp_{MIXED[:36]}"),
    ("github_token", f"ghs_{MIXED[:36]}"),
    ("github_token", f"github_pat_11{MIXED[:20]}_{MIXED[:59]}"),
    ("gitlab_token", f"glpat-{MIXED[:20]}"),
    ("gitlab_token", f"glrt-{MIXED[:20]}"),
    ("slack_token", f"xoxb-{DIGITS}-{DIGITS}-{MIXED[:24]}"),
    ("slack_token", f"xapp-1-A0123-{DIGITS}-{HEX}"),
    ("slack_webhook", f"hooks.slack.com/services/T01234567/B01234567/{MIXED[:24]}"),
    ("stripe_key", f"sk_live_{MIXED[:24]}"),
    ("stripe_key", f"rk_test_{MIXED[:24]}"),
    ("stripe_key", f"whsec_{MIXED[:32]}"),
    ("huggingface_token", f"hf_{MIXED[:34]}"),
    ("nvidia_key", f"nvapi-{MIXED[:64]}"),
    ("npm_token", f"npm_{MIXED[:36]}"),
    ("pypi_token", f"pypi-AgEIcHlwaS5vcmc{MIXED}"),
    ("jwt", f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.{MIXED[:43]}"),
    ("jwt", "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxMjM0NTY3ODkwIn0."),
    ("sendgrid_key", f"SG.{MIXED[:22]}.{MIXED[:43]}"),
    ("twilio_key", f"SK{HEX[:32]}"),
    ("databricks_token", f"dapi{HEX[:32]}"),
    ("digitalocean_token", f"dop_v1_{HEX}"),
    ("shopify_token", f"shpat_{HEX[:32]}"),
    ("atlassian_token", f"ATATT3xFfGF0{MIXED}=ABCDEF01"),
    ("docker_token", f"dckr_pat_{MIXED[:27]}"),
    ("vault_token", f"hvs.{MIXED[:90]}"),
    ("grafana_token", f"glsa_{MIXED[:32]}_{HEX[:8]}"),
    ("sentry_token", f"sntrys_{MIXED}=_{MIXED[:43]}"),
    ("linear_key", f"lin_api_{MIXED[:40]}"),
    ("notion_token", f"ntn_{MIXED[:46]}"),
    ("new_relic_key", f"NRAK-{UPPER[:27]}"),
    ("postman_key", f"PMAK-{HEX[:24]}-{HEX[:34]}"),
    ("supabase_key", f"sbp_{HEX[:40]}"),
    ("rubygems_key", f"rubygems_{HEX[:48]}"),
    ("model_api_key", f"gsk_{MIXED[:52]}"),
    ("model_api_key", f"csk-{MIXED[:48].lower()}"),
    ("model_api_key", f"csk_{MIXED[:48]}"),
    ("model_api_key", f"xai-{MIXED[:80]}"),
    ("model_api_key", f"pplx-{MIXED[:48]}"),
    ("model_api_key", f"r8_{MIXED[:37]}"),
    ("model_api_key", f"tvly-dev-{MIXED[:32]}"),
    ("model_api_key", f"lsv2_pt_{HEX[:32]}_{HEX[:10]}"),
    ("age_key", f"AGE-SECRET-KEY-1{UPPER[:58]}"),
    ("telegram_token", f"123456789:AA{MIXED[:33]}"),
    ("astra_token", f"AstraCS:{MIXED[:24]}:{HEX}"),
    ("paypal_token", f"access_token$production${MIXED[:16].lower()}${HEX[:32]}"),
    ("firebase_key", f"dQw4w9WgXcQ:APA91b{MIXED}{MIXED}"),
    ("snowflake_token", f"ver:1-hint:1234-ETMsDgAAA{MIXED}"),
    ("discord_token", f"M{MIXED[:23]}.{MIXED[:6]}.{MIXED[:27]}"),
]

# A random token may happen to have no digit, and some tokens never have one.
LETTERS_ALONE = [
    ("huggingface_token", f"hf_{LETTERS}"),
    ("huggingface_token", f"api_org_{LETTERS}"),
    ("huggingface_token", "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"),  # indistinguishable from a token
    ("aws_key", f"AKIA{CAPITALS}"),
    ("aws_key", f"ASIA{CAPITALS}"),
    ("gitlab_token", f"glpat-{LETTERS[:20]}"),
    ("gitlab_token", f"glpat-{LETTERS[:12]}-{LETTERS[12:20]}"),
    ("gitlab_token", "glsoat-GW-CONImrSPZ-Uz_WM_N"),
    ("stripe_key", f"sk_live_{LETTERS[:24]}"),
    ("stripe_key", f"rk_test_{LETTERS[:24]}"),
    ("openai_key", f"sk-{LETTERS}"),
    ("google_key", f"GOCSPX-{LETTERS[:28]}"),
    ("google_key", f"AIza{LETTERS}q"),
    ("github_token", f"ghp_{LETTERS}qX"),
    ("docker_token", f"dckr_pat_{LETTERS[:27]}"),
    ("model_api_key", f"xai-{LETTERS}"),
]


TABLE: tuple[Token | Around, ...] = (*TOKENS, *AROUND)
BY_FORM = Redactor(keys=())


def redacted(text: str) -> object:
    return BY_FORM(a_span(text)).input


def test_each_pattern_has_an_example() -> None:
    """Except those that depend on what is around them, which have their own tests."""
    apart = {"basic_auth", "bearer_token", "private_key", "url_password", "url_token"}
    rows = {row.name for row in TABLE}
    assert {name for name, _ in EXAMPLES} | rows == set(DEFAULT_PATTERNS) - apart


CONTEXTS = ("{}", "the key is {}, you know", '"{}"', "x={}&y=1", "é{}é", "({})", "a\n{}\nb", "a\\n{}\\nb")
ROWS = [
    pytest.param(row.name, letters + row.example[len(row.begins.split()[0]) :], id=f"{row.maker} {letters}")
    for row in TOKENS
    for letters in row.begins.split()
] + [pytest.param(row.name, row.example, id=f"{row.maker} {row.letters}") for row in AROUND]


@pytest.mark.parametrize(("name", "token"), ROWS)
def test_the_example_of_each_row_is_replaced(name: str, token: str) -> None:
    """Every beginning of every kind, in every context; and not in the middle of a word, and not half of it."""
    for around in CONTEXTS:
        assert redacted(around.format(token)) == around.format(f"[redacted:{name}]")
    half = token[: len(token) // 3]
    assert redacted(half) == half
    assert redacted(f"Q{token}") != f"Q[redacted:{name}]"


def test_each_row_says_who_issues_the_token_and_where_its_form_is_described() -> None:
    """The table can be reviewed."""
    for row in TABLE:
        assert row.maker
        assert row.sources
        assert set(row.sources) <= set("mgtd")


@pytest.mark.parametrize(("name", "token"), EXAMPLES + LETTERS_ALONE, ids=lambda value: str(value)[:24])
def test_a_token_is_replaced_by_its_name(name: str, token: str) -> None:
    """All of it and nothing else, whatever surrounds it."""
    for around in ("{}", "the key is {}, you know", '"{}"', "x={}&y=1", "é{}é", "({})", "a\n{}\nb"):
        assert redacted(around.format(token)) == around.format(f"[redacted:{name}]")


@pytest.mark.parametrize(
    ("name", "token"),
    [
        ("salesforce_token", f"00D{'k7Xm2Q9wR4tZ'}!{'AQ4k7Xm2Q9wR.tZ8bN3_' * 5}"),
        ("sentry_token", f"sntrys_{'eyJpYXQiOpdiGdSGwFIxMj2joCVwMqgUjLN55xVSph' * 2}%2Bf71SYMZu%3D%3D"),
    ],
)
def test_a_token_with_signs_of_its_own_is_replaced_to_its_end(name: str, token: str) -> None:
    """Behind a text, and in a query."""
    for text in ("got %s back", "https://example.com/search?q=%s&page=2", '{"a":"%s"}'):
        assert redacted(text % token) == text % f"[redacted:{name}]"


@pytest.mark.parametrize("escape", "nrtbf")
def test_a_token_may_follow_an_escape(escape: str) -> None:
    """As in JSON inside a text, where a backslash and a letter stand for the line end before the token."""
    assert redacted(f"x\\{escape}sk-proj-{'a1B2c3D4e5' * 6}") == f"x\\{escape}[redacted:openai_key]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"bearer {MIXED[:20]}", "bearer [redacted:bearer_token]"),
        (f"use 'Bearer {HEX}'", "use 'Bearer [redacted:bearer_token]'"),
        (
            f"Basic {base64.b64encode(b'somebody:something').decode()}.",
            "Basic [redacted:basic_auth].",
        ),
        (f"https://{HEX}@sentry.example.com/1", "https://[redacted:url_token]@sentry.example.com/1"),
        # A single digit distinguishes it from hyphenated words.
        ("https://abcdefghijkLMNOPQRSTU0vwxyz@example.com", "https://[redacted:url_token]@example.com"),
        ("amqp://me:p@ss@mq/vhost x", "amqp://me:[redacted:url_password]@mq/vhost x"),
        ("mongodb+srv://me:a/b?c@db/x", "mongodb+srv://me:[redacted:url_password]@db/x"),
        (
            "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----\nrest",
            "[redacted:private_key]\nrest",
        ),
    ],
)
def test_a_secret_is_recognised_by_what_surrounds_it(text: str, expected: str) -> None:
    """Authentication schemes, credentials in URLs, private keys."""
    assert redacted(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "the bearer of good news and of internationalization-efforts",
        "Basic understanding of telecommunications",
        "sk-learn-pipeline-with-many-words",
        f"a{MIXED[:20]}sk-",
        "https://example.com:8443/a?mail=me@example.com",
        "git@github.com:me/project.git",
        "https://example.com/users/@me",
        "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBa\n-----END CERTIFICATE-----",
        "-----BEGIN PUBLIC KEY-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBa\n-----END PUBLIC KEY-----",
        "task-123e4567-e89b-12d3-a456-426614174000",
        "pypi-classifiers-and-metadata-2024",
        "Akialand and Asiatic",
        # Words, in every way of writing them.
        "sk-learn-Pipeline-with-OpenAI-APIs-and-LaTeX",
        "sk-MY-PROJECT-KEY-GOES-HERE",
        "sk_test_configurationOfTheServer",
        "sk_test_YOURSTRIPESECRETKEY",
        "hf_AutoModelForCausalLM, hf_TextGenerationPipeline",
        "hf_yourtokenofsomethirtyfourletters",
        "api_org_repositoryVisibilitySettings",
        "github_pat_documentation_page_template",
        "npm_packageManagerConfigurationOptions",
        "glpat-YOUR-PERSONAL-ACCESS-TOKEN",
        "nvapi-Reference-Documentation-and-APIs",
        "xai-explainable-Machine-Learning-with-LLMs",
        "fw_download_progress_callback_of_the_device",
        "AKIAYOURKEYHERE, ASIAPACIFICREGIONS, AKIAEXAMPLEKEYGOESHEREPLEASE",
        "Bearer YOUR_ACCESS_TOKEN_HERE",
        "https://ApplicationDeveloperName@example.com",
    ],
)
def test_what_only_looks_like_a_token_stays(text: str) -> None:
    """Words, ids, certificates and addresses."""
    assert redacted(text) == text


def test_what_is_between_two_private_keys_stays() -> None:
    """Each ends with its own last line; a last line before the first line ends nothing."""
    key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0\n-----END PRIVATE KEY-----"
    text = f"-----END PRIVATE KEY----- first {key} second {key} third"
    assert redacted(text) == (
        "-----END PRIVATE KEY----- first [redacted:private_key] second [redacted:private_key] third"
    )
