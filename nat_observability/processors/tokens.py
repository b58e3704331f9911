"""Secrets that show by their form: the keys and tokens of common providers, private keys, credentials in URLs."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Sequence

import msgspec

from nat_observability.processors.windows import matches

Found = tuple[int, int, str]
"""Where something begins and ends, in bytes, and what the mark says."""

# What tokens are made of, and the separators that they have inside. Natural language has next to no words of 16 such
# characters, so a text without a run of them holds no token.
LEAST_RUN = 16
_CHARACTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.+/~"
_RUN = bytes(97 if code in _CHARACTERS else 32 for code in range(256))
_LONG = b"a" * LEAST_RUN
_PIECE = 256 * 1024  # bytes: the interpreter can do nothing else while it looks through a piece
_LEAD = 24  # bytes before a run that say what it is: "Bearer ", "PRIVATE KEY-----", a Telegram bot's number

# At the beginning of a word, or after an escape in a text of which only parts are JSON, or of which it is a repr.
_BEGIN = rb"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf])|(?<=\\x[0-9a-f]{2}))"

_PREFIXED: dict[str, str] = {
    "anthropic_key": r"sk-ant-[\w-]{16,}",
    "openai_key": r"sk-[\w-]{16,}|sess-[A-Za-z0-9]{30,}",
    "stripe_key": r"[sr]k_(?:live|test)_[A-Za-z0-9]{12,}|whsec_[A-Za-z0-9+/=]{16,}",
    "github_token": r"gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}",
    "gitlab_token": r"gl(?:pat|ptt|dt|rt|cbt|ft|soat|imt|agent|ffct|oas|wt)-[\w=.-]{16,}|GR1348941[\w-]{16,}",
    "slack_token": r"xox[abceoprs](?:\.xox[bp])?-[\w-]{10,}|xapp-[\w-]{10,}",
    "slack_webhook": r"hooks\.slack\.com/(?:services|workflows|triggers)/[\w+/-]{16,}",
    "huggingface_token": r"hf_[A-Za-z0-9]{20,}|api_org_[A-Za-z0-9]{20,}",
    "nvidia_key": r"nvapi-[\w-]{16,}",
    "npm_token": r"npm_[A-Za-z0-9]{30,}",
    "pypi_token": r"pypi-Ag[\w-]{14,}",
    "google_key": r"AIza[\w-]{30,}|GOCSPX-[\w-]{16,}|ya29\.[\w.-]{16,}|1//0[\w-]{20,}",
    "aws_key": r"A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{12,}|ABSK[A-Za-z0-9+/=]{40,}",
    # A hyphen before it makes it a part of something else; else each of many would be looked at to its end.
    "jwt": r"(?:(?<![\w-])|(?<=\\[nrtbf])|(?<=\\x[0-9a-f]{2}))eyJ[\w-]{8,}\.[\w-]{4,}(?:\.[\w-]*){0,3}",
    "sendgrid_key": r"SG\.[\w-]{16,}\.[\w-]{16,}",
    "twilio_key": r"SK[0-9a-f]{32}",
    "databricks_token": r"dapi[0-9a-f]{32}",
    "digitalocean_token": r"do[opr]_v1_[0-9a-f]{32,}",
    "shopify_token": r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{20,}",
    "atlassian_token": r"ATATT3[\w=-]{20,}",
    "docker_token": r"dckr_pat_[\w-]{16,}",
    "vault_token": r"hv[bsr]\.[\w-]{20,}",
    "grafana_token": r"glsa_\w{20,}|glc_[A-Za-z0-9+/=]{20,}",
    "sentry_token": r"sntry[su]_[\w+/=.-]{20,}",
    "linear_key": r"lin_api_[A-Za-z0-9]{20,}",
    "notion_token": r"ntn_[A-Za-z0-9]{20,}",
    "new_relic_key": r"NRAK-[A-Z0-9]{20,}",
    "postman_key": r"PMAK-[a-f0-9-]{20,}",
    "supabase_key": r"sbp_[a-f0-9]{32,}|sb_secret_[\w-]{16,}",
    "rubygems_key": r"rubygems_[a-f0-9]{32,}",
    "model_api_key": (
        r"(?:gsk|r8|pcsk|csk|fw)_\w{20,}|(?:xai|pplx|tvly|csk)-[\w-]{16,}|lsv2_(?:pt|sk)_\w{16,}|wandb_v1_\w{16,}"
    ),
    "age_key": r"AGE-SECRET-KEY-1[0-9A-Z]{40,}",
}

DEFAULT_PATTERNS: tuple[str, ...] = (
    *_PREFIXED,
    "azure_key",
    "basic_auth",
    "bearer_token",
    "private_key",
    "telegram_token",
    "url_password",
    "url_token",
)
"""The names of what is redacted by its form by default."""

_NAMES = {f"p{number}": name for number, name in enumerate(_PREFIXED)}
# `\w` in bytes is ASCII.
_TOKEN = re.compile(
    _BEGIN
    + b"(?:"
    + "|".join(f"(?P<p{number}>{form})" for number, form in enumerate(_PREFIXED.values())).encode()
    + b")"
)

# Words by which such tokens begin: of the parts of a run between its separators, one is among them.
_SEGMENTS = frozenset(
    escape + word
    for escape in (b"", b"n", b"r", b"t", b"b", b"f")
    for word in (
        b"sk rk sess whsec ghp gho ghu ghs ghr github glpat glptt gldt glrt glcbt glft glsoat glimt glagent glffct "
        b"gloas glwt xoxa xoxb xoxc xoxe xoxo xoxp xoxr xoxs xapp hooks hf nvapi npm pypi GOCSPX ya29 SG doo dop dor "
        b"shpat shpca shppa shpss dckr hvb hvs hvr glsa glc sntrys sntryu lin ntn NRAK PMAK sbp sb rubygems gsk r8 "
        b"pcsk csk fw xai pplx tvly lsv2 wandb AGE"
    ).split()
)
_SPLIT = bytes.maketrans(b"_.+/~", b"-----")
# Others are told by these letters, or by what stands before them.
_LETTERS = (
    b"AKIA", b"ASIA", b"ABIA", b"ACCA", b"ABSK", b"AIza", b"eyJ", b"GR1348941", b"1//0", b"api_org_", b"ATATT3",
    b"dapi", b"Q~", b"JQQJ9", b"T3BlbkFJ",
)  # fmt: skip
_LEADS = (b"bearer", b"basic", b":aa")
_TWILIO = re.compile(rb"SK[0-9a-f]{32}")

_SCHEME = re.compile(_BEGIN + rb"(bearer|basic)[ \t+]{1,16}+([\w.~+/=-]{6,})", re.IGNORECASE)
_TELEGRAM = re.compile(rb"(?<!\d)\d{6,12}:AA[\w-]{30,}")
_AZURE_SECRET = re.compile(rb"[\w.~-]{3}\d?Q~[\w.~-]{30,}")
_INFIX = (b"JQQJ9", b"T3BlbkFJ")
_DIGIT = re.compile(rb"[0-9]")
# Some random tokens have no digit: of 20 letters and digits one in thirty. Then their case tells them from words.
_LETTERS_ALONE = re.compile(rb"[A-Za-z]{10,}+")
# words, WORDS, AutoModelForCausalLM, nameOfIt: after capitals there are two small letters or more, but for a few words.
_CASED = re.compile(
    rb"[a-z]*+(?:(?:As|At|By|If|In|Is|My|Of|On|Or|To)(?=[A-Z])|[A-Z]++(?:[a-z]{2,}+|s))*+[A-Z]*+"
)
# All tokens of Hugging Face are letters, and those of AWS are capitals, as words may be: their length tells them.
_LENGTHS = {"huggingface_token": (len("hf_") + 34, len("api_org_") + 34), "aws_key": (len("AKIA") + 16,)}
_INSIDE = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
_KEY_HEADER = re.compile(rb"-----BEGIN[ +][A-Z0-9 +]{0,40}PRIVATE[ +]KEY(?:[ +]BLOCK)?-----")
_AUTHORITY = re.compile(rb"[^\s/?#\\\"'<>`]*+")
_REST_OF_URL = re.compile(rb"[^\s\"'<>`]{0,512}+")


class Runs(msgspec.Struct, frozen=True, gc=False):
    """Where a text has its long runs of token characters: all of them, joined, and what stands before each."""

    places: tuple[tuple[int, int], ...]
    joined: bytes
    leads: bytes

    @staticmethod
    def of(data: bytes) -> Runs | None:
        """Return the runs in `data`, None where it has none."""
        places: list[tuple[int, int]] = []
        for begin in range(0, len(data) or 1, _PIECE):
            classes = data[begin : begin + _PIECE + LEAST_RUN].translate(_RUN)
            at = classes.find(_LONG)
            while at >= 0:
                end = classes.find(b" ", at)
                if end < 0:
                    end = len(classes)
                if at and data[begin + at - 1] == 0x5C:
                    # An escape, \u2028 or \xa9 for example, is not part of what follows.
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
            b" ".join([data[max(0, start - _LEAD) : start + 2] for start, end in places]).lower(),
        )

    @property
    def may_be_secret(self) -> bool:
        """Say whether one of them may be, or may follow what says that it is."""
        joined, leads = self.joined, self.leads
        return (
            not _SEGMENTS.isdisjoint(joined.translate(_SPLIT).split(b"-"))
            or has_any(joined, _LETTERS)
            or has_any(leads, _LEADS)
            or (joined.find(b"SK") >= 0 and _TWILIO.search(joined) is not None)
        )


def has_any(data: bytes, needles: Sequence[bytes]) -> bool:
    """Say whether one of `needles` is in `data`."""
    find = data.find  # in half the time of `in`, which takes bytes for a number first
    for needle in needles:  # noqa: SIM110  any() takes longer
        if find(needle) >= 0:
            return True
    return False


def find_tokens(data: bytes, runs: Runs) -> Iterator[Found]:
    """Find the tokens of providers, and those that follow the name of an authentication scheme."""
    for start, end in runs.places:
        for begun in matches(_TOKEN, data, start, end):
            # Some go on behind the run, with an equals sign.
            match = _TOKEN.match(data, begun.start())
            if match is None or match.lastgroup is None:
                continue
            name, token = _NAMES[match.lastgroup], match[0]
            if _is_random(token) or (len(token) in _LENGTHS.get(name, ()) and not token.islower()):
                yield match.start(), match.end(), name
    for letters in _INFIX:
        at = data.find(letters)
        while at >= 0:
            start, end = at - _inside_before(data, at), at + _inside_after(data, at)
            if end - start >= 32:
                yield start, end, "openai_key" if letters == b"T3BlbkFJ" else "azure_key"
            at = data.find(letters, end)
    if any(lead in runs.leads for lead in _LEADS):
        for match in matches(_SCHEME, data):
            basic, token = match[1].lower() == b"basic", match[2].rstrip(b".~")
            if _is_basic(token) if basic else len(token) >= LEAST_RUN and _is_random(token):
                start = match.start(2)
                yield start, start + len(token), "basic_auth" if basic else "bearer_token"
        for match in matches(_TELEGRAM, data):
            yield *match.span(), "telegram_token"
    if b"Q~" in runs.joined:
        for start, end in runs.places:
            for match in matches(_AZURE_SECRET, data, start, end):
                yield *match.span(), "azure_key"


def find_private_keys(data: bytes) -> Iterator[Found]:
    """Find private keys in PEM, from their first line to their last, or to the end where that is missing."""
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


def find_url_credentials(data: bytes) -> Iterator[Found]:
    """Find the password in `scheme://user:password@host`, and a token that stands for both."""
    at = data.find(b"://")
    while at >= 0:
        begin = at + 3
        authority = _end(_AUTHORITY, data, begin)
        host, colon = data.rfind(b"@", begin, authority), data.find(b":", begin, authority)
        if host < 0 <= colon and not data[colon + 1 : authority].isdigit():
            # No port: a password with a slash in it, which should be encoded and is not.
            host = data.rfind(b"@", authority, _end(_REST_OF_URL, data, authority))
        if host > begin:
            colon = data.find(b":", begin, host)
            if 0 <= colon < host - 1:
                yield colon + 1, host, "url_password"
            elif colon < 0 and host - begin >= LEAST_RUN and _is_random(data[begin:host]):
                yield begin, host, "url_token"
        at = data.find(b"://", max(host, begin))


def _is_random(token: bytes) -> bool:
    """Say whether `token` is no words with hyphens or the like between them, as sk-learn-pipeline-example is."""
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
