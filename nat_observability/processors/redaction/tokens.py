"""The table of secrets with a form of their own: tokens of providers, private keys, credentials in headers and URLs."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from nat_observability.processors.redaction.logins import (
    find_url_credentials,
    find_userinfo,
    may_have_userinfo,
)
from nat_observability.processors.redaction.marks import Found
from nat_observability.processors.redaction.tables.models import MODEL_AROUND, MODEL_TOKENS
from nat_observability.processors.redaction.tables.services import SERVICE_AROUND, SERVICE_TOKENS
from nat_observability.processors.redaction.tables.shapes import (
    HASH_BESIDE,
    LEAD_EXPRESSIONS,
    LEADS,
    LED,
    SHAPE_EXPRESSIONS,
    SHAPES,
)
from nat_observability.processors.redaction.tables.token import Around, Token, TokenStart, expression_of
from nat_observability.processors.redaction.text.runs import LEAST_RUN, RUN_CHARACTERS, Runs, has_any
from nat_observability.processors.redaction.text.token_words import is_mixed_token, is_random_token
from nat_observability.processors.redaction.text.windows import matches

# At the beginning of a word, or after an escape, as in JSON or a repr inside a text.
_BEGIN = rb"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf])|(?<=\\x[0-9a-f]{2}))"
_BEGINS = re.compile(_BEGIN)
# The same in runs, which the backslash is not part of.
_BEGINS_RUN = re.compile(rb"(?<![A-Za-z0-9])|(?<=(?<![A-Za-z0-9])[nrtbf])")

_ESCAPED = re.compile(rb"(?<=(?<![\w-])[nrtbf])")

TOKENS: tuple[Token, ...] = (*MODEL_TOKENS, *SERVICE_TOKENS)
"""The tokens that begin with fixed letters, in the order in which they are tried."""

AROUND: tuple[Around, ...] = (*MODEL_AROUND, *SERVICE_AROUND)
"""The tokens that have fixed letters inside."""

_ALL_BEGINS = [
    (token, TokenStart(order, letters.encode(), token))
    for order, token in enumerate(TOKENS)
    for letters in token.begins.split()
]
# The words with which tokens begin, also directly after an escape: a run has one of them between two separators.
_BY_WORD: dict[bytes, list[TokenStart]] = {}
for _token, _begin in _ALL_BEGINS:
    if _token.is_word:
        for _escape in ("", "n", "r", "t", "b", "f"):
            _BY_WORD.setdefault(_escape.encode() + re.split(rb"[_.+/~$:-]", _begin.letters)[0], []).append(
                _begin
            )
_ANYWHERE = [begin for token, begin in _ALL_BEGINS if not token.is_word and not token.is_checked]
_CHECKED = [begin for token, begin in _ALL_BEGINS if token.is_checked]
_LEAST_CHECKED = 17  # characters between two separators of a token with common letters
_SEPARATORS = bytes.maketrans(b" _.+/~$", b"-------")
_AROUND = [
    (
        each.letters.encode(),
        re.compile(
            rb"(?:(?<![A-Za-z0-9\\])|(?<=\\[nrtbf])|(?<=\\)(?![nrtbf]))(?:"
            + expression_of(each.before).encode()
            + rb")\Z"
        ),
        re.compile(expression_of(each.after).encode()),
        each.name,
    )
    for each in AROUND
]
_LONGEST_BEFORE = 512  # bytes
_WHOLE = 4096  # bytes: shorter texts are searched as a whole
_REST_OF_TOKEN = re.compile(rb"[A-Za-z0-9_\-.+/~=:$]*+")

_SCHEME = re.compile(_BEGIN + rb"(bearer|basic)[ \t+]{1,16}+([\w.~+/=-]{6,})", re.IGNORECASE)
_TELEGRAM = re.compile(rb"(?<!\d)\d{6,12}:AA[\w-]{30,}")
_SALESFORCE = re.compile(_BEGIN + rb"00D[A-Za-z0-9]{12,15}![\w.]{60,}")
# What goes on with percent-encoded signs of base64.
_ENCODED_REST = re.compile(rb"(?:%(?:2[BbFf]|3[Dd])[A-Za-z0-9_.~=-]{0,512}+){1,64}+")
_DISCORD = re.compile(rb"(?<![\w.-])[MNO][\w-]{23,27}\.[\w-]{6}\.[\w-]{27,}")
_LEAST_DISCORD = 59  # characters
_AZURE_SECRET = re.compile(rb"[\w.~-]{3}\d?Q~[\w.~-]{30,}")
# All tokens of Hugging Face are letters, and those of AWS capitals, as words may be: their length tells them apart.
_LENGTHS = {
    "huggingface_token": (len("hf_") + 34, len("api_org_") + 34),
    "aws_key": (len("AKIA") + 16,),
    "gitlab_token": (len("glpat-") + 20, len("glsoat-") + 20),
}
_KEY_HEADER = re.compile(
    rb"-----BEGIN[ +](?:[A-Z0-9 +_-]{0,60}PRIVATE[ +]KEY(?:[ +]BLOCK)?|OpenVPN Static key V1)-----|---- BEGIN SS"
    rb"H2 ENCRYPTED PRIVATE KEY ----"
)


def _tokens_in(
    data: bytes,
    start: int,
    end: int,
    begins_word: re.Pattern[bytes],
    anywhere: Sequence[TokenStart] = _ANYWHERE,
    checked: Sequence[TokenStart] = _CHECKED,
) -> Iterator[Found]:
    """Find the tokens that begin with fixed letters, in a part of `data` that has only token characters and blanks."""
    run = data[start:end]
    words = run.translate(_SEPARATORS).split(b"-")
    known = _BY_WORD.keys() & set(words)
    begins = [begin for word in known for begin in _BY_WORD[word]]
    begins += [begin for begin in anywhere if run.find(begin.letters) >= 0]
    if len(max(words, key=len)) >= _LEAST_CHECKED:
        begins += checked
    if not begins:
        return
    seen: set[int] = set()
    for begin in sorted({(each.order, each.letters): each for each in begins}.values(), key=_order):
        letters, name = begin.letters, begin.name
        at = data.find(letters, start, end)
        if at < 0:
            continue
        rest, before = begin.expressions()
        if begins_word is _BEGINS_RUN:
            rest = begin.in_run()
        while at >= 0:
            after = at + len(letters)
            if (
                at not in seen
                and begins_word.match(data, at) is not None
                and (
                    before.match(data, at) is not None
                    or (begins_word is _BEGINS_RUN and _ESCAPED.match(data, at))
                )
            ):
                # Some go on after the run, with an equals sign.
                match = rest.match(data, after)
                if match is not None:
                    after = match.end()
                    token = data[at:after]
                    # As the documentation of AWS writes them.
                    if token.endswith(b"EXAMPLE"):
                        at = data.find(letters, after, end)
                        continue
                    if is_random_token(token) or (
                        len(token) in _LENGTHS.get(name, ()) and not token.islower()
                    ):
                        seen.add(at)
                        after = _end(_ENCODED_REST, data, after)
                        yield at, after, name
            at = data.find(letters, after, end)


def _find_by_beginning(data: bytes, runs: Runs) -> Iterator[Found]:
    anywhere, checked = (
        [begin for begin in begins if runs.joined.find(begin.letters) >= 0]
        for begins in (_ANYWHERE, _CHECKED)
    )
    words = _BY_WORD.keys() & set(runs.joined.translate(_SEPARATORS).split(b"-"))
    letters = {
        begin.letters
        for begins in (anywhere, checked, *(_BY_WORD[word] for word in words))
        for begin in begins
    }
    if not letters:
        return
    for start, end in runs.places:
        if has_any(data[start:end], letters):
            yield from _tokens_in(data, start, end, _BEGINS, anywhere, checked)


def _find_around(data: bytes, runs: Runs) -> Iterator[Found]:
    for letters, before, after, name in _AROUND:
        if runs.joined.find(letters) < 0:
            continue
        at = data.find(letters)
        while at >= 0:
            match = before.search(data, max(0, at - _LONGEST_BEFORE), at)
            behind = after.match(data, at + len(letters))
            if match is not None and behind is not None:
                yield match.start(), behind.end(), name
                at = data.find(letters, behind.end())
            else:
                at = data.find(letters, at + len(letters))


def _find_azure_secrets(data: bytes, runs: Runs) -> Iterator[Found]:
    for start, end in runs.places:
        for match in matches(_AZURE_SECRET, data, start, end):
            yield *match.span(), "azure_key"


def _find_schemes(data: bytes, runs: Runs) -> Iterator[Found]:
    for match in matches(_SCHEME, data):
        basic, token = match[1].lower() == b"basic", match[2].rstrip(b".~")
        if len(token.partition(b"=")[0]) < LEAST_RUN:
            continue
        if (_is_basic(token) or is_mixed_token(token)) if basic else is_random_token(token):
            start = match.start(2)
            yield start, start + len(token), "basic_auth" if basic else "bearer_token"


def _find_discord_tokens(data: bytes, runs: Runs) -> Iterator[Found]:
    for start, end in runs.places:
        if end - start >= _LEAST_DISCORD:
            for match in matches(_DISCORD, data, start, end):
                yield *match.span(), "discord_token"


def _find_led(data: bytes, runs: Runs) -> Iterator[Found]:
    for match in matches(LED, data):
        if match.lastgroup is not None:
            yield *match.span(), match.lastgroup


def _find_shapes(data: bytes, runs: Runs) -> Iterator[Found]:
    for start, end in (place for place in runs.places if place[1] - place[0] >= _LEAST_SHAPE):
        # Their first part may stand before the run.
        first, last = max(0, start - _LONGEST_FIRST), min(len(data), end + _LONGEST_LAST)
        for match in matches(SHAPES, data, first, last):
            token, label = match[0], match.lastgroup
            if label is not None and is_random_token(token) and not HASH_BESIDE.fullmatch(token):
                yield *match.span(), label


_LEAST_SHAPE, _LONGEST_FIRST, _LONGEST_LAST = 24, 40, 80  # characters


def _finder(expression: re.Pattern[bytes], name: str) -> Callable[[bytes, Runs], Iterator[Found]]:
    return lambda data, runs: ((*match.span(), name) for match in matches(expression, data))


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


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecogniser:
    """
    What finds tokens in the long runs of a text.

    Attributes:
        letters: One of them is in a run, or
        leads: one of them is before a run or at its beginning, in lower case; or a run has one of the first words.
        expressions: One of them matches at a lead and what follows it, in either case.
        shapes: It matches near a long run.
        find: Finds them.
    """

    letters: tuple[bytes, ...] = ()
    leads: tuple[bytes, ...] = ()
    expressions: tuple[bytes, ...] = ()
    shapes: re.Pattern[bytes] | None = None
    find: Callable[[bytes, Runs], Iterator[Found]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRecogniser:
    """
    What finds secrets anywhere in a text.

    Attributes:
        names: The labels of its marks.
        triggers: All of them are in every text in which it finds something.
        expressions: One of them matches somewhere in it, in this case.
        find: Finds them.
    """

    names: tuple[str, ...]
    triggers: tuple[bytes, ...]
    expressions: tuple[bytes, ...]
    find: Callable[[bytes], Iterator[Found]]


RUN_RECOGNISERS = (
    RunRecogniser(find=_find_by_beginning),
    RunRecogniser(letters=tuple(dict.fromkeys(each.letters.encode() for each in AROUND)), find=_find_around),
    RunRecogniser(letters=(b"Q~",), find=_find_azure_secrets),
    RunRecogniser(
        leads=(b"bearer", b"basic"),
        expressions=(rb"(?:bearer|basic)[ \t+]{1,16}[\w.~+/=-]{16}",),
        find=_find_schemes,
    ),
    RunRecogniser(
        leads=(b"00d",),
        expressions=(rb"00D[A-Za-z0-9]{12,15}![A-Za-z0-9_.]{8}",),
        find=_finder(_SALESFORCE, "salesforce_token"),
    ),
    RunRecogniser(
        leads=(b":aa",), expressions=(rb"[0-9]{6}:AA[\w-]{16}",), find=_finder(_TELEGRAM, "telegram_token")
    ),
    RunRecogniser(leads=LEADS, expressions=LEAD_EXPRESSIONS, find=_find_led),
    RunRecogniser(find=_find_discord_tokens),
    RunRecogniser(shapes=SHAPES, expressions=SHAPE_EXPRESSIONS, find=_find_shapes),
)  # fmt: skip
TEXT_RECOGNISERS = (
    TextRecogniser(
        names=("private_key",),
        triggers=(b"-----BEGIN",),
        expressions=(b"----BEGIN",),
        find=_find_private_keys,
    ),
    TextRecogniser(
        names=("url_password", "url_token"),
        triggers=(b"@", b"://"),
        expressions=(rb"://[^\s\"'<>`]*@",),
        find=find_url_credentials,
    ),
    TextRecogniser(
        names=("url_password",),
        triggers=(b"@", b":"),
        expressions=(rb":[^\s:@/\"'`<>,;()]{4,128}@[\w]",),
        find=find_userinfo,
    ),
)
_LETTERS = tuple(letters for each in RUN_RECOGNISERS for letters in each.letters)
_LEADS = tuple(lead for each in RUN_RECOGNISERS for lead in each.leads)

DEFAULT_PATTERNS: tuple[str, ...] = (
    *sorted(
        {
            *(token.name for token in TOKENS),
            *(token.name for token in AROUND),
            *LED.groupindex,
            *SHAPES.groupindex,
            "basic_auth",
            "bearer_token",
            "discord_token",
            "private_key",
            "telegram_token",
            "url_password",
            "url_token",
        }
    ),
)
"""The names of what is redacted by its form by default."""


def may_have_token(data: bytes) -> bool:
    """Say whether `data` may have anything that `find_tokens` finds."""
    for recogniser in TEXT_RECOGNISERS:
        if all(data.find(trigger) >= 0 for trigger in recogniser.triggers) and (
            recogniser.find is not find_userinfo or may_have_userinfo(data)
        ):
            return True
    runs = Runs.of(data)
    return runs is not None and _may_have_token(runs)


def _may_have_token(runs: Runs) -> bool:
    """Say whether one of the runs may be a token, or may follow the words that make it one."""
    joined = runs.joined
    if next(_tokens_in(joined, 0, len(joined), _BEGINS_RUN), None) is not None:
        return True
    return (
        has_any(joined, _LETTERS)
        or runs.has_lead(_LEADS)
        or any(end - start >= _LEAST_SHAPE for start, end in runs.places)
    )


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


def find_tokens_at(data: bytes, places: Iterable[int]) -> Iterator[Found]:
    """Find what `find_tokens` does, near the places at which the engine saw the beginning of something."""
    if len(data) <= _WHOLE:
        yield from find_tokens(data)
        return
    begun = reached = -1
    for at in places:
        if at <= reached:
            continue
        start = _outside(data, max(0, at - _LONGEST_BEFORE - LEAST_RUN), begun=True)
        if begun >= 0 and start > reached:
            yield from _tokens_within(data, begun, reached)
            begun = -1
        if begun < 0:
            begun = start
        rest = _REST_OF_TOKEN.match(data, at)
        reached = _outside(data, (at if rest is None else rest.end()) + _LONGEST_BEFORE, begun=False)
    if begun >= 0:
        yield from _tokens_within(data, begun, reached)


def _outside(data: bytes, at: int, *, begun: bool) -> int:
    """Return a place near `at` that is not inside a run: before it to begin there, behind it to end there."""
    if begun:
        window = data[max(0, at - _WHOLE) : at]
        rest = window.rstrip(RUN_CHARACTERS + b"=:$")
        # In a longer one, everything is looked at.
        return at - (len(window) - len(rest)) if rest or at <= _WHOLE else 0
    match = _REST_OF_TOKEN.match(data, min(at, len(data)))
    return at if match is None else match.end()


def _tokens_within(data: bytes, start: int, end: int) -> Iterator[Found]:
    for begin, stop, name in find_tokens(_with_private_key(data, start, end)):
        yield start + begin, start + stop, name


def _with_private_key(data: bytes, start: int, end: int) -> bytes:
    """Return a part of a text, with the rest of a private key that begins in it."""
    at = data.rfind(b"-----BEGIN", start, end)
    if at >= 0 and _KEY_HEADER.match(data, at) is not None:
        closing = data.find(b"-----END", at)
        end = max(end, len(data) if closing < 0 else min(len(data), closing + 64))
    return data[start:end]


def _is_basic(token: bytes) -> bool:
    try:
        return b":" in base64.b64decode(token + b"=" * (-len(token) % 4), validate=True)
    except binascii.Error:
        return False


def _order(begin: TokenStart) -> tuple[int, int]:
    return begin.order, -len(begin.letters)


def _end(expression: re.Pattern[bytes], data: bytes, at: int) -> int:
    match = expression.match(data, at)
    return at if match is None else match.end()
