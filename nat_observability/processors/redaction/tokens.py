"""The table of secrets with a form of their own: tokens of providers, private keys, credentials in headers and URLs."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from nat_observability.processors.redaction.marks import Found
from nat_observability.processors.redaction.triggers import Trigger
from nat_observability.processors.redaction.windows import matches

# Token characters, with the separators inside tokens. Natural language has almost no words of 16 such characters, so a
# text without a run of them holds no token.
LEAST_RUN = 16
_CHARACTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.+/~"
_RUN = bytes(97 if code in _CHARACTERS else 32 for code in range(256))
_LONG = b"a" * LEAST_RUN
_PIECE = 256 * 1024  # bytes: the interpreter cannot switch threads while it scans a piece
# Bytes before a run, and of its beginning, that say what it is: "Bearer ", "Basic+", a Telegram bot's number.
_LEAD = 24
_LEAD_INSIDE = 8

# At the beginning of a word, or after an escape, as in JSON or a repr inside a text.
_BEGIN = rb"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf])|(?<=\\x[0-9a-f]{2}))"


@dataclass(frozen=True, slots=True)
class Token:
    """
    A kind of token that begins with fixed letters.

    The prefilter is derived from `begins` and `is_word`.

    Attributes:
        name: The label of its mark.
        begins: The letters, several separated by blanks.
        rest: What follows them.
        is_word: Whether the letters up to a separator make a whole word; if not, they are searched for anywhere.
        is_checked: Whether the letters are so common that the prefilter tries the whole expression.
        before: What must stand before it, besides the beginning of a word.
    """

    name: str
    begins: str
    rest: str
    is_word: bool = True
    is_checked: bool = False
    before: str = ""

    @property
    def expression(self) -> str:
        """The regular expression of such tokens."""
        return f"{self.before}(?:{'|'.join(map(re.escape, self.begins.split()))}){self.rest}"


TOKENS: tuple[Token, ...] = (
    Token("anthropic_key", "sk-ant-", r"[\w-]{16,}"),
    Token("openai_key", "sk-", r"[\w-]{16,}"),
    Token("openai_key", "sess-", r"[A-Za-z0-9]{30,}"),
    Token("stripe_key", "sk_live_ sk_test_ rk_live_ rk_test_", r"[A-Za-z0-9]{12,}"),
    Token("stripe_key", "whsec_", r"[A-Za-z0-9+/=]{16,}"),
    Token("github_token", "ghp_ gho_ ghu_ ghs_ ghr_", r"[A-Za-z0-9]{16,}"),
    Token("github_token", "github_pat_", r"\w{16,}"),
    Token(
        "gitlab_token",
        "glpat- glptt- gldt- glrt- glcbt- glft- glsoat- glimt- glagent- glffct- gloas- glwt-",
        r"[\w=.-]{16,}",
    ),
    Token("gitlab_token", "GR1348941", r"[\w-]{16,}", is_word=False),
    Token("slack_token", "xoxa xoxb xoxc xoxe xoxo xoxp xoxr xoxs", r"(?:\.xox[bp])?-[\w-]{10,}"),
    Token("slack_token", "xapp-", r"[\w-]{10,}"),
    Token("slack_webhook", "hooks.slack.com/", r"(?:services|workflows|triggers)/[\w+/-]{16,}"),
    Token("huggingface_token", "hf_", r"[A-Za-z0-9]{20,}"),
    Token("huggingface_token", "api_org_", r"[A-Za-z0-9]{20,}", is_word=False),
    Token("nvidia_key", "nvapi-", r"[\w-]{16,}"),
    Token("npm_token", "npm_", r"[A-Za-z0-9]{30,}"),
    Token("pypi_token", "pypi-Ag", r"[\w-]{14,}"),
    Token("google_key", "AIza", r"[\w-]{30,}", is_word=False),
    Token("google_key", "GOCSPX-", r"[\w-]{16,}"),
    Token("google_key", "ya29.", r"[\w.-]{16,}"),
    Token("google_key", "1//0", r"[\w-]{20,}", is_word=False),
    Token("aws_key", "AKIA ASIA ABIA ACCA", r"[A-Z0-9]{12,}", is_word=False),
    Token("aws_key", "ABSK", r"[A-Za-z0-9+/=]{40,}", is_word=False),
    # Not after a hyphen: each of many would be tried to its end.
    Token(
        "jwt",
        "eyJ",
        r"[\w-]{8,}\.[\w-]{4,}(?:\.[\w-]*){0,3}",
        is_word=False,
        before=r"(?:(?<![\w-])|(?<=\\[nrtbf])|(?<=\\x[0-9a-f]{2}))",
    ),
    Token("sendgrid_key", "SG.", r"[\w-]{16,}\.[\w-]{16,}"),
    Token("twilio_key", "SK", r"[0-9a-f]{32}", is_word=False, is_checked=True),
    Token("databricks_token", "dapi", r"[0-9a-f]{32}", is_word=False),
    Token("digitalocean_token", "doo_v1_ dop_v1_ dor_v1_", r"[0-9a-f]{32,}"),
    Token("shopify_token", "shpat_ shpca_ shppa_ shpss_", r"[0-9a-fA-F]{20,}"),
    Token("atlassian_token", "ATATT3", r"[\w=-]{20,}", is_word=False),
    Token("docker_token", "dckr_pat_", r"[\w-]{16,}"),
    Token("vault_token", "hvb. hvs. hvr.", r"[\w-]{20,}"),
    Token("grafana_token", "glsa_", r"\w{20,}"),
    Token("grafana_token", "glc_", r"[A-Za-z0-9+/=]{20,}"),
    Token("sentry_token", "sntrys_ sntryu_", r"[\w+/=.-]{20,}"),
    Token("linear_key", "lin_api_", r"[A-Za-z0-9]{20,}"),
    Token("notion_token", "ntn_", r"[A-Za-z0-9]{20,}"),
    Token("new_relic_key", "NRAK-", r"[A-Z0-9]{20,}"),
    Token("postman_key", "PMAK-", r"[a-f0-9-]{20,}"),
    Token("supabase_key", "sbp_", r"[a-f0-9]{32,}"),
    Token("supabase_key", "sb_secret_", r"[\w-]{16,}"),
    Token("rubygems_key", "rubygems_", r"[a-f0-9]{32,}"),
    Token("model_api_key", "gsk_ r8_ pcsk_ csk_ fw_", r"\w{20,}"),
    Token("model_api_key", "xai- pplx- tvly- csk-", r"[\w-]{16,}"),
    Token("model_api_key", "lsv2_pt_ lsv2_sk_ wandb_v1_", r"\w{16,}"),
    Token("age_key", "AGE-SECRET-KEY-1", r"[0-9A-Z]{40,}"),
)
"""The tokens that begin with fixed letters, in the order in which they are tried."""

# `\w` in bytes is ASCII.
_TOKEN = re.compile(
    _BEGIN
    + b"(?:"
    + "|".join(f"(?P<t{number}>{token.expression})" for number, token in enumerate(TOKENS)).encode()
    + b")"
)
_NAMES = {f"t{number}": token.name for number, token in enumerate(TOKENS)}

# The words with which tokens begin, also directly after an escape: a run has one of them between two separators.
_FIRST_WORDS = frozenset(
    escape + re.split(r"[_.+/~-]", begin)[0].encode()
    for token in TOKENS
    if token.is_word
    for begin in token.begins.split()
    for escape in (b"", b"n", b"r", b"t", b"b", b"f")
)
_SEPARATORS = bytes.maketrans(b"_.+/~", b"-----")
_CHECKED = [
    (begin.encode(), re.compile(f"{re.escape(begin)}{token.rest}".encode()))
    for token in TOKENS
    if token.is_checked
    for begin in token.begins.split()
]

_SCHEME = re.compile(_BEGIN + rb"(bearer|basic)[ \t+]{1,16}+([\w.~+/=-]{6,})", re.IGNORECASE)
_TELEGRAM = re.compile(rb"(?<!\d)\d{6,12}:AA[\w-]{30,}")
_AZURE_SECRET = re.compile(rb"[\w.~-]{3}\d?Q~[\w.~-]{30,}")
_DIGIT = re.compile(rb"[0-9]")
# Some random tokens have no digit: one in thirty of 20 letters and digits. Their case tells them from words.
_LETTERS_ALONE = re.compile(rb"[A-Za-z]{10,}+")
# words, WORDS, AutoModelForCausalLM, nameOfIt: two or more small letters follow capitals, but for a few words.
_CASED = re.compile(
    rb"[a-z]*+(?:(?:As|At|By|If|In|Is|My|Of|On|Or|To)(?=[A-Z])|[A-Z]++(?:[a-z]{2,}+|s))*+[A-Z]*+"
)
# All tokens of Hugging Face are letters, and those of AWS capitals, as words may be: their length tells them apart.
_LENGTHS = {"huggingface_token": (len("hf_") + 34, len("api_org_") + 34), "aws_key": (len("AKIA") + 16,)}
_INSIDE = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
_KEY_HEADER = re.compile(rb"-----BEGIN[ +][A-Z0-9 +]{0,40}PRIVATE[ +]KEY(?:[ +]BLOCK)?-----")
_AUTHORITY = re.compile(rb"[^\s/?#\\\"'<>`]*+")
_REST_OF_URL = re.compile(rb"[^\s\"'<>`]{0,512}+")


class Runs(msgspec.Struct, frozen=True, gc=False):
    """The long runs of token characters in a text: their places, all of them joined, and what comes before each."""

    places: tuple[tuple[int, int], ...]
    joined: bytes
    leads: bytes

    @staticmethod
    def of(data: bytes) -> Runs | None:
        """Return the runs in `data`, None if there are none."""
        places: list[tuple[int, int]] = []
        for begin in range(0, len(data) or 1, _PIECE):
            classes = data[begin : begin + _PIECE + LEAST_RUN].translate(_RUN)
            at = classes.find(_LONG)
            while at >= 0:
                end = classes.find(b" ", at)
                if end < 0:
                    end = len(classes)
                if at and data[begin + at - 1] == 0x5C:
                    # An escape, such as \u2028 or \xa9, is not part of what follows.
                    at += 5 if data[begin + at] == 0x75 else 3 if data[begin + at] == 0x78 else 0
                if places and begin + at <= places[-1][1]:
                    places[-1] = (places[-1][0], begin + end)
                else:
                    places.append((begin + at, begin + end))
                at = classes.find(_LONG, end)
        if not places:
            return None
        return Runs(
            tuple(places),
            b"-".join([data[start:end] for start, end in places]),
            b" ".join([data[max(0, start - _LEAD) : start + _LEAD_INSIDE] for start, end in places]).lower(),
        )

    @property
    def may_have_token(self) -> bool:
        """Whether one of them may be a token, or may follow the words that make it one."""
        joined = self.joined
        if not _FIRST_WORDS.isdisjoint(joined.translate(_SEPARATORS).split(b"-")):
            return True
        if has_any(joined, _LETTERS) or self.has_lead(_LEADS):
            return True
        return any(
            joined.find(begin) >= 0 and checked.search(joined) is not None for begin, checked in _CHECKED
        )

    def has_lead(self, leads: Sequence[bytes]) -> bool:
        """Say whether one of `leads` is before a run, at its beginning, or before a plus sign inside it."""
        if has_any(self.leads, leads):
            return True
        return self.joined.find(b"+") >= 0 and has_any(self.joined.lower(), leads)


def has_any(data: bytes, needles: Sequence[bytes]) -> bool:
    """Say whether `data` has one of `needles`."""
    find = data.find  # twice as fast as `in`, which tries bytes as a number first
    for needle in needles:  # noqa: SIM110  any() takes longer
        if find(needle) >= 0:
            return True
    return False


def _find_by_beginning(data: bytes, runs: Runs) -> Iterator[Found]:
    for start, end in runs.places:
        for begun in matches(_TOKEN, data, start, end):
            # Some go on after the run, with an equals sign.
            match = _TOKEN.match(data, begun.start())
            if match is None or match.lastgroup is None:
                continue
            name, token = _NAMES[match.lastgroup], match[0]
            if _is_random(token) or (len(token) in _LENGTHS.get(name, ()) and not token.islower()):
                yield match.start(), match.end(), name


def _find_around(letters: bytes, name: str) -> Callable[[bytes, Runs], Iterator[Found]]:
    def find(data: bytes, runs: Runs) -> Iterator[Found]:
        at = data.find(letters)
        while at >= 0:
            start, end = at - _inside_before(data, at), at + _inside_after(data, at)
            if end - start >= 32:
                yield start, end, name
            at = data.find(letters, end)

    return find


def _find_azure_secrets(data: bytes, runs: Runs) -> Iterator[Found]:
    for start, end in runs.places:
        for match in matches(_AZURE_SECRET, data, start, end):
            yield *match.span(), "azure_key"


def _find_schemes(data: bytes, runs: Runs) -> Iterator[Found]:
    for match in matches(_SCHEME, data):
        basic, token = match[1].lower() == b"basic", match[2].rstrip(b".~")
        # Shorter ones are not told from words: "basic authentication".
        if len(token.partition(b"=")[0]) < LEAST_RUN:
            continue
        if _is_basic(token) if basic else _is_random(token):
            start = match.start(2)
            yield start, start + len(token), "basic_auth" if basic else "bearer_token"


def _find_telegram_tokens(data: bytes, runs: Runs) -> Iterator[Found]:
    for match in matches(_TELEGRAM, data):
        yield *match.span(), "telegram_token"


def _find_private_keys(data: bytes) -> Iterator[Found]:
    # From the first line to the last, or to the end of the text if the last is missing.
    at = data.find(b"-----BEGIN")
    while at >= 0:
        header = _KEY_HEADER.match(data, at)
        if header is None:
            at = data.find(b"-----BEGIN", at + 1)
            continue
        end = data.find(b"-----END", header.end())
        closing = data.find(b"-----", end + 8) if end >= 0 else -1
        end = closing + 5 if closing >= 0 else len(data)
        yield at, end, "private_key"
        at = data.find(b"-----BEGIN", end)


def _find_url_credentials(data: bytes) -> Iterator[Found]:
    # The password in scheme://user:password@host, and a token in place of both.
    at = data.find(b"://")
    while at >= 0:
        begin = at + 3
        authority = _end(_AUTHORITY, data, begin)
        host, colon = data.rfind(b"@", begin, authority), data.find(b":", begin, authority)
        if host < 0 <= colon and not data[colon + 1 : authority].isdigit():
            # Not a port: a password with a slash that should be encoded and is not.
            host = data.rfind(b"@", authority, _end(_REST_OF_URL, data, authority))
        if host > begin:
            colon = data.find(b":", begin, host)
            if 0 <= colon < host - 1:
                yield colon + 1, host, "url_password"
            elif colon < 0 and host - begin >= LEAST_RUN and _is_random(data[begin:host]):
                yield begin, host, "url_token"
        at = data.find(b"://", max(host, begin))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecogniser:
    """
    What finds tokens in the long runs of a text.

    Attributes:
        letters: One of them is in a run, or
        leads: one of them is before a run or at its beginning, in lower case; or a run has one of the first words.
        find: Finds them.
    """

    letters: tuple[bytes, ...] = ()
    leads: tuple[bytes, ...] = ()
    find: Callable[[bytes, Runs], Iterator[Found]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRecogniser:
    """
    What finds secrets anywhere in a text.

    Attributes:
        names: The labels of its marks.
        triggers: All of them are in every text in which it finds something.
        find: Finds them.
    """

    names: tuple[str, ...]
    triggers: tuple[Trigger, ...]
    find: Callable[[bytes], Iterator[Found]]


RUN_RECOGNISERS = (
    RunRecogniser(
        letters=tuple(
            begin.encode()
            for token in TOKENS
            if not token.is_word and not token.is_checked
            for begin in token.begins.split()
        ),
        find=_find_by_beginning,
    ),
    RunRecogniser(letters=(b"JQQJ9",), find=_find_around(b"JQQJ9", "azure_key")),
    RunRecogniser(letters=(b"T3BlbkFJ",), find=_find_around(b"T3BlbkFJ", "openai_key")),
    RunRecogniser(letters=(b"Q~",), find=_find_azure_secrets),
    RunRecogniser(leads=(b"bearer", b"basic"), find=_find_schemes),
    RunRecogniser(leads=(b":aa",), find=_find_telegram_tokens),
)
TEXT_RECOGNISERS = (
    TextRecogniser(names=("private_key",), triggers=(Trigger(b"-", b"----BEGIN"),), find=_find_private_keys),
    TextRecogniser(
        names=("url_password", "url_token"),
        triggers=(Trigger(b"@"), Trigger(b"://")),
        find=_find_url_credentials,
    ),
)
_LETTERS = tuple(letters for each in RUN_RECOGNISERS for letters in each.letters)
_LEADS = tuple(lead for each in RUN_RECOGNISERS for lead in each.leads)

DEFAULT_PATTERNS: tuple[str, ...] = (
    *dict.fromkeys(token.name for token in TOKENS),
    "azure_key",
    "basic_auth",
    "bearer_token",
    "private_key",
    "telegram_token",
    "url_password",
    "url_token",
)
"""The names of what is redacted by its form by default."""


def may_have_token(data: bytes) -> bool:
    """Say whether `data` may have anything that `find_tokens` finds."""
    for recogniser in TEXT_RECOGNISERS:
        for trigger in recogniser.triggers:
            at = data.find(trigger.literal)
            if at < 0 or not trigger.is_in(data, at):
                break
        else:
            return True
    runs = Runs.of(data)
    return runs is not None and runs.may_have_token


def find_tokens(data: bytes, *, prefilter: bool = True) -> Iterator[Found]:
    """
    Find what shows by its form that it is secret.

    Args:
        prefilter: Whether to skip recognisers whose leads are missing. The result is the same.
    """
    runs = Runs.of(data)
    if runs is not None:
        for each in RUN_RECOGNISERS:
            if not (prefilter and each.leads) or runs.has_lead(each.leads):
                yield from each.find(data, runs)
    for recogniser in TEXT_RECOGNISERS:
        yield from recogniser.find(data)


def _is_random(token: bytes) -> bool:
    """Say whether `token` is not made of words and separators, as sk-learn-pipeline-example is."""
    if _DIGIT.search(token) is not None:
        return True
    return any(_CASED.fullmatch(letters) is None for letters in _LETTERS_ALONE.findall(token))


def _is_basic(token: bytes) -> bool:
    try:
        return b":" in base64.b64decode(token + b"=" * (-len(token) % 4), validate=True)
    except binascii.Error:
        return False


def _inside_before(data: bytes, at: int) -> int:
    window = data[max(0, at - 256) : at]
    return len(window) - len(window.rstrip(_INSIDE))


def _inside_after(data: bytes, at: int) -> int:
    window = data[at : at + 512]
    return len(window) - len(window.lstrip(_INSIDE))


def _end(expression: re.Pattern[bytes], data: bytes, at: int) -> int:
    match = expression.match(data, at)
    return at if match is None else match.end()
