"""The prefilter changes nothing: what is redacted with it is what is redacted without it."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nat_observability.processors import DEFAULT_KEYS, DEFAULT_PATTERNS, PERSONAL_SETS
from nat_observability.processors.mark import Marks
from nat_observability.processors.scrubber import Scrubber

KEYS = (*DEFAULT_KEYS, "patient_*", "?x")
WITH, WITHOUT = (
    Scrubber(KEYS, DEFAULT_PATTERNS, (), Marks(None), prefilter=prefilter) for prefilter in (True, False)
)
PERSONAL_WITH, PERSONAL_WITHOUT = (
    Scrubber(KEYS, DEFAULT_PATTERNS, PERSONAL_SETS, Marks(None), prefilter=prefilter)
    for prefilter in (True, False)
)

PROSE = "Once upon a time there were four little rabbits, and they lived with their mother in a sand bank. "
# What stands before and behind a name, what assigns, and what a value is: every form, whole and in parts, so that
# what comes out is one of them, or nearly.
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

prose = st.integers(0, 8).map(lambda count: PROSE * count)
assigned = st.tuples(
    *(
        st.sampled_from(parts)
        for parts in (OPENINGS, SPACES, PREFIXES, QUOTES, PREFIXES, NAMES, PREFIXES, QUOTES)
    ),
    *(
        st.sampled_from(parts)
        for parts in (SPACES, ASSIGNMENTS, SPACES, PREFIXES, QUOTES, VALUES, QUOTES, SPACES)
    ),
).map("".join)
pairs = st.tuples(
    *(
        st.sampled_from(parts)
        for parts in (OPENINGS, PREFIXES, QUOTES, ("name", "Key", "header", "value", "x"), QUOTES)
    ),
    *(
        st.sampled_from(parts)
        for parts in (ASSIGNMENTS, SPACES, QUOTES, NAMES, QUOTES, ("", ","), SPACES, QUOTES)
    ),
    *(
        st.sampled_from(parts)
        for parts in (("value", "Value", "name"), QUOTES, SPACES, ASSIGNMENTS, QUOTES, VALUES)
    ),
).map("".join)
anything = st.lists(
    st.sampled_from(
        sorted(
            {
                *QUOTES,
                *PREFIXES,
                *SPACES,
                *NAMES,
                *ASSIGNMENTS,
                *OPENINGS,
                *VALUES,
                *FORMS,
                *ESCAPES,
                *PERSONAL,
            }
        )
    ),
    max_size=8,
).map("".join)
texts = st.lists(prose | assigned | pairs | anything, min_size=1, max_size=6).map("".join)


@given(texts)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_text_is_redacted_alike_with_and_without_the_prefilter(text: str) -> None:
    """Whatever is in it, in whatever form, alone or in long prose."""
    assert WITH.text(text) == WITHOUT.text(text)


@given(texts)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_personal_data_is_redacted_alike_with_and_without_the_prefilter(text: str) -> None:
    """The sets of personal data have a prefilter of their own."""
    assert PERSONAL_WITH.text(text) == PERSONAL_WITHOUT.text(text)
