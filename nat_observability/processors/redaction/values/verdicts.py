"""What the value of a secret name may be besides a secret: a verdict, a type, a placeholder, a reference, or prose."""

from __future__ import annotations

import re
from functools import cache

from nat_observability.processors.redaction.names.keys import (
    LIKELY,
    STRONG,
    UNSURE,
    KeyMatcher,
    with_letters_apart,
)
from nat_observability.processors.redaction.tables.secret_names import (
    DEFAULT_KEYS,
    FIRST_WORDS,
    KEYWORDS,
    SENTENCE_WORDS,
    TYPES,
    VERDICTS,
)
from nat_observability.processors.redaction.text.randomness import LEAST_CHANGES
from nat_observability.processors.redaction.values.words import is_indexed, is_type

_VERDICTS, _TYPES, _WORDS = frozenset(VERDICTS), frozenset(TYPES), frozenset(SENTENCE_WORDS)
_FIRST_WORDS = frozenset(FIRST_WORDS)
# Their values are words.
_OF_PHRASES = ("mnemonic", "seed", "recovery", "wallet")
# Longer ones would not fit an expression that has no limit.
_LONGEST = 512  # bytes

# How much has passed.
_COUNT = re.compile(rb"[0-9]{0,5}(?:[./,:][0-9]{1,6})?\s?(?:%|m?s)?|n/?a", re.IGNORECASE)
_SMALL = re.compile(rb"-?[0-9]{1,3}(?:\.[0-9]{0,18})?(?:e-?[0-9]{1,3})?")
_SHORT_WORD = re.compile(rb"[A-Z]?[a-z]{1,6}")
_LEAST_DIGITS = 3  # of a code
_NUMBERS = (
    "pass",
    "pin",
    "otp",
    "cvv",
    "cvc",
    "csc",
    "code",
    "pw",
    "pwd",
    "passwd",
    "word",
    "phrase",
    "mfa",
    "2fa",
)
_DURATION = re.compile(
    rb"[0-9.,]{1,12}\s?(?:ms|s|m|h|d|sec|min|hours?|days?|seconds?|minutes?|weeks?|%|kb|mb)", re.IGNORECASE
)
_PLACEHOLDER = re.compile(
    rb"""
    -[A-Za-z]|--[a-z][a-z-]{0,30}            # an option
    |\{[a-z_-]{1,32}(?:(?:\|[a-z_-]{1,32}){1,20}|(?:,[a-z_-]{1,32}){2,20})\} # a choice of words
    |\$\((?!echo\b|printf\b)[a-z][\w./-]{0,40}[ ][^\n]{1,200}\)| # what a command says
    [*.\-_?#~=+/|!:;,\s\\]{1,256}            # ***, ..., ---
    |x{3,64}|X{3,64}|x{2,64}(?:[-_]x{2,64}){1,16}
    |\$\{[A-Za-z_][\w.]{0,100}\}|\$\(?[A-Z_][A-Z0-9_]{0,100}\)?|\$env:\w{1,100}|%[A-Z_][A-Z0-9_]{0,100}%
    |\$?\{\{[^{}]{0,200}(?:\}\})?|\$\{\{?|\{[A-Za-z_][A-Za-z_.]{0,100}\}|%\([a-z_]{1,64}\)s|%[+#]?[a-zA-Z@]|\$[0-9]{1,2}|:[a-z_]{1,64}|[{}\[\]()<>]{1,4}
    |<[A-Za-z_][\w .-]{0,100}/?>|\[[A-Z_a-z][A-Za-z_ .-]{0,100}\]|@[a-z_]{2,64}
    |(?:<|\[)?(?:your|my-own|insert|enter|put|replace|paste|choose|fill)[-_ ].{0,100}
    |.{0,60}[-_ ](?:here|goes[-_ ]here|placeholder)(?:>|\])?
    |[\w-]{0,24}(?:\.{3}|x{4,64}|X{4,64}|\*{3,64}|\xe2\x80\xa6|(?:\xe2\x80\xa2){3,64})[\w]{0,6}
    |change[-_ ]?me(?:[-_ ](?:or|not|set|now|please|later|before|use|in|production)){0,4}
    |vault:[\w/.:-]{1,100}|op://[\w/. -]{1,100}|arn:aws:[\w:/.*-]{1,200}|secretref:[\w-]{1,100}|projects/[\w/.-]{1,200}
    """,
    re.VERBOSE | re.DOTALL,
)
_SCHEME = re.compile(rb"(?:Bearer|Basic|Token|bearer|basic|token) (?=\S)")
_WORDLIKE = re.compile(
    rb"[A-Za-z\x80-\xff]{1,40}(?:[ _-][A-Za-z\x80-\xff]{1,40}){0,1}|(?i:mot de passe)|[A-Za-z_]{1,60}"
)
# Words about a secret, as the labels of forms have them: Create API key.
_ABOUT_IT = re.compile(
    rb"(?:[A-Z]{2,4}|[A-Za-z\x80-\xff][a-z\x80-\xff']{0,23})"
    rb"(?: (?:[A-Z]{2,4}|[A-Za-z\x80-\xff][a-z\x80-\xff']{0,23})){1,4}[.:?!]?"
)
_VERBS = frozenset(
    b"create enter confirm new current old forgot reset change repeat show hide update set your choose invalid missing "
    b"wrong api access copy generate add remove delete view edit manage please retype use save incorrect".split()
)
_ALGORITHM = re.compile(
    rb"(?:sha|md|hs|rs|es|ps|aes|hmac|hmac-sha|pbkdf|argon|oauth|tls|utf|base)[-_]?[0-9]{1,4}(?:[-_./](?:[0-9]{1,4}|bit|[cegx][cbft][bcmrs]|hmac|sha[0-9]{0,3}|pkcs[0-9]{0,2}|rsa|padding|url|id|v[0-9])){0,3}"
    rb"|(?:sha|md)-?[0-9]{1,3}[-_]?with[-_]?(?:rsa|dsa|ecdsa)(?:[-_]?(?:encryption|[0-9]{2,4}|pss|and[-_]?mgf1))?"
    rb"|ed25519|rsa|ecdsa|eddsa|bcrypt|scrypt|pbkdf2|argon2(?:id|i|d)?|oauth2?|basic|bearer|digest|saml|oidc|ldap|jwt",
    re.IGNORECASE,
)
_WINDOWS_ID = re.compile(rb"S-1-[0-9]{1,2}(?:-[0-9]{1,10}){1,15}")
# What matches texts, rather than being one: (?i)\S+, [A-Za-z0-9]{20}; all of it, as passwords have brackets too.
_QUANTITY = rb"(?:[*+?]{1,2}|\{[0-9]{1,4}(?:,[0-9]{0,4})?\})"
_CLASS = rb"(?:\[\^?[^\]\s]{1,40}\]|\\{1,2}[sSwWdDb.])"
_PATTERN = re.compile(
    rb"(?=.{0,200}?" + _CLASS + _QUANTITY + rb")"
    rb"/?(?:"
    + _CLASS
    + _QUANTITY
    + rb"?|\(\?(?:[a-z]{1,4}\)|[:=!]|<[=!])|[()|$^]|[A-Za-z_:.-]{1,8}){1,40}(?:/[gimsuy]{0,4})?"
)
_PLAIN_URL = re.compile(rb"(?:https?|file|wss?)://[^\s@]{1,400}")
# Names under which a word is more often a word than a secret.
_OF_WORDS = frozenset(
    [
        "token",
        "tokens",
        "auth",
        "cookie",
        "cookies",
        "signature",
        "sig",
        "sid",
        "pat",
        "jwt",
        "jwe",
        "csrf",
        "xsrf",
        "bearer",
        "bearertoken",
        "otp",
        "totp",
        "pin",
        "cvv",
        "cvc",
        "csc",
        "hmac",
        "sign",
    ]
)
_WORD_ALONE = re.compile(rb"[A-Za-z]?[a-z']{1,7}")
_CODES = ("pin", "otp", "cvv", "cvc", "csc", "sms_code", "mfa_code", "door_code", "access_code", "unlock_code",
          "verification_code",           "security_code", "pin_code", "pin_number")  # fmt: skip
_COLOUR = re.compile(rb"#[0-9a-fA-F]{3}(?:[0-9a-fA-F]{3})?")
_OF_COOKIES = ("cookie", "cookies")
_ABOUT_COOKIES = frozenset(
    b"chocolate strictly necessary essential functional performance analytics advertising tracking consent accepted "
    b"rejected declined allowed blocked disabled enabled required optional preferences third party policy".split()
)
_WORDS_ALONE = re.compile(rb"[A-Za-z]{2,20}(?: [A-Za-z]{2,20}){1,5}")
_SENTENCE = re.compile(rb"[A-Za-z'][A-Za-z']*+")
_IS_PATH = re.compile(rb"(?:[A-Za-z]:[\\/]|~?/|\./|\.\./)[^\s]{0,500}")
_FUNCTION = re.compile(rb"(?:async )?(?:def|function|fn|func)(?:[ ]?\(|[ ]\w).{0,400}", re.DOTALL)

_TOKEN_CHARACTERS = re.compile(rb"[A-Za-z0-9_+/=~.:$-]{16,512}")
_UUID = re.compile(rb"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_LEAST_MIXED = 8
_PIECE = re.compile(rb"[A-Za-z0-9+/=]{10,}")
# Letters and digits in one word, as sentences do not have them.
_MIXED_WORD = re.compile(rb"(?<![A-Za-z0-9_])(?=[A-Za-z_]*[0-9])(?=[0-9_]*[A-Za-z])[A-Za-z0-9_]{8,64}")
_MIXED = re.compile(rb"[0-9](?=[A-Za-z])|[A-Za-z](?=[0-9])")


def is_random(value: bytes) -> bool:
    """Say whether a value looks like a token: long, of letters and digits that change again and again."""
    if _TOKEN_CHARACTERS.fullmatch(value) is None or _IS_PATH.fullmatch(value) is not None:
        return False
    if _UUID.fullmatch(value) is not None:
        return False
    return any(len(_MIXED.findall(piece)) >= LEAST_CHANGES for piece in _PIECE.findall(value))


def is_mixed(value: bytes) -> bool:
    """Say whether a value is letters and digits that change again and again, as no word is; however short."""
    plain = value[:_LONGEST].strip(b" \t\r\n)]},;.!?*\"'`")
    return (
        len(plain) >= _LEAST_MIXED
        and len(_MIXED.findall(plain)) >= LEAST_CHANGES
        and _UUID.fullmatch(plain) is None
        and _IS_PATH.fullmatch(plain) is None
        and _ALGORITHM.fullmatch(plain) is None
    )


def is_cased(value: bytes) -> bool:
    """Say whether small letters, capitals and digits change again and again in a value, with no sign between them."""
    return _CASED.fullmatch(value) is not None and len(_MIXED.findall(value)) > LEAST_CHANGES


_CASED = re.compile(rb"(?=[^A-Z]*[A-Z][^A-Z]*[A-Z])(?=[^a-z]*[a-z][^a-z]*[a-z])[A-Za-z0-9]{10,64}")


def is_strong(value: bytes) -> bool:
    """Say whether a value can only be a password: one word with letters, digits and more."""
    plain = value.strip(b" \t\r\n)]},;.!?*\"'`")
    return (_ONE_WORD.fullmatch(plain) is not None and is_mixed(plain)) or (
        _STRONG.fullmatch(plain) is not None
        and _IS_PATH.fullmatch(plain) is None
        and _ALGORITHM.fullmatch(plain) is None
        and _PLACEHOLDER.fullmatch(plain) is None
    )


# Signs that code and the names of files have inside of words count for nothing.
_SIGN = rb"[!@#$%^&*?~+]"
_IN_WORD = rb"[^\s\"'`<>(){}\[\]]"
_ONE_WORD = re.compile(_IN_WORD + rb"{8,256}")
_STRONG = re.compile(
    rb"(?=[^\s]{0,128}[0-9])(?=[^\s]{0,128}[A-Za-z])(?=[^\s]{0,128}" + _SIGN + b")" + _IN_WORD + b"{8,128}"
)
_DIGIT, _REST_OF_WORD = re.compile(rb"[0-9]"), re.compile(_IN_WORD + b"*+")
_OF_WORDS_ALONE = bytes(code for code in range(256) if code not in b" \t\n\r\x0b\x0c\"'`<>(){}[]")
_TELLS = re.compile(_SIGN)


def next_strong(data: bytes, start: int, end: int) -> int:
    """Return where the next word begins, or one of its parts, in which `is_strong` may hold; -1 if there is none."""
    end = min(end, len(data))
    while (digit := _DIGIT.search(data, start, end)) is not None:
        at = digit.start()
        before = data[max(0, at - _LONGEST) : at]
        rest = _REST_OF_WORD.match(data, at)
        word = before[len(before.rstrip(_OF_WORDS_ALONE)) :] + (b"" if rest is None else rest[0])
        if len(word) >= _LEAST_MIXED and (
            len(_MIXED.findall(word)) >= LEAST_CHANGES or _TELLS.search(word) is not None
        ):
            return at
        start = at + 1 if rest is None else max(at + 1, rest.end())
    return -1


def _has_mixed_part(url: bytes) -> bool:
    return any(map(is_mixed, _PARTS_OF_URL.split(url)))


_PARTS_OF_URL = re.compile(rb"[/?&=%#:;,.]")


def is_prose(text: bytes) -> bool:
    """Say whether a text is a sentence: several words, of which some are those of sentences, not of passphrases."""
    words = _SENTENCE.findall(text[:_LONGEST])
    if (
        len(words) < 3
        or b" " not in text
        or _COOKIES.match(text) is not None
        or _MIXED_WORD.search(text, 0, _LONGEST) is not None
    ):
        return False
    common = sum(word.lower() in _WORDS for word in words)
    return (
        common >= 1
        and common * 8 >= len(words)
        and sum(map(len, words)) * 3 > len(text[:_LONGEST].strip()) * 2
    )


_COOKIES = re.compile(rb"[\w.-]{1,64}=[^\s;]{0,256};")
_PASSPHRASE = re.compile(rb"[a-z]{3,14}(?:[ ][a-z]{3,14}){2,11}")


def is_passphrase(text: bytes) -> bool:
    """Say whether a text is words alone, of which none is one of those of sentences."""
    return _PASSPHRASE.fullmatch(text) is not None and not any(word in _WORDS for word in text.split(b" "))


_SEED = re.compile(rb"(?:[a-z]{3,8} ){5,23}[a-z]{3,8}")


def is_words(text: bytes) -> bool:
    """Say whether a text is words alone, as many as the key of a wallet has."""
    return _SEED.fullmatch(text) is not None


@cache
def _labels() -> frozenset[str]:
    return KeyMatcher(with_letters_apart(DEFAULT_KEYS)).labels | {STRONG}


def is_harmless(
    keys: KeyMatcher, label: str, value: bytes, *, name: bytes = b"", may_be_prose: bool = True
) -> bool:
    """
    Say whether a value is not secret although its name has `label`.

    What the users' own keys name is secret whatever it is.

    Args:
        name: The name itself, if it is known: under some that are one word, words are no secrets.
    """
    if label not in _labels():
        return False
    plain = value.strip(b" \t\r\n)]},;.!*\"'`")
    if label == LIKELY:
        return not is_random(plain) and not (
            _PLAIN_URL.fullmatch(plain) is not None and _has_mixed_part(plain)
        )
    if len(plain) > _LONGEST:
        return False
    if not plain:
        return not value.strip() or _PLACEHOLDER.fullmatch(value.strip()) is not None
    lower = plain.lower().lstrip(b"([<")
    bare = lower.rstrip(b"):")
    if bare in _VERDICTS or bare in _TYPES or is_type(plain) or is_indexed(plain):
        return True
    if _ALGORITHM.fullmatch(plain) is not None:
        return True
    if _WINDOWS_ID.fullmatch(plain) is not None or _PATTERN.fullmatch(plain) is not None:
        return True
    if label in _CODES and _SHORT_WORD.fullmatch(plain) is not None:
        return True
    if (
        name
        and name.lower().translate(None, b"_-. ").decode(errors="replace") in _OF_WORDS
        and _WORD_ALONE.fullmatch(plain) is not None
    ):
        return True
    if label == UNSURE and _COUNT.fullmatch(plain) is not None:
        return True
    if _SMALL.fullmatch(plain) is not None:
        return len(plain) < _LEAST_DIGITS or not label.endswith(_NUMBERS)
    stripped = _SCHEME.sub(b"", value.strip())
    if stripped.startswith(b"<") and is_mixed(stripped.strip(b"<>/")):
        return False
    if _PLACEHOLDER.fullmatch(stripped) is not None or _DURATION.fullmatch(plain) is not None:
        return True
    if label.endswith("pwd") and _IS_PATH.fullmatch(plain) is not None:
        return True
    if (
        _WORDLIKE.fullmatch(plain.rstrip(b":? ")) is not None
        and lower != b"pepper"
        and keys.label(plain.rstrip(b":? ").decode(errors="replace")) is not None
    ):
        return True
    if _PLAIN_URL.fullmatch(plain) is not None and not is_random(plain) and not _has_mixed_part(plain):
        return True
    if label.startswith(_OF_PHRASES):
        return False
    if label.endswith("token") and _COLOUR.fullmatch(plain) is not None:
        return True
    if (
        label.endswith(_OF_COOKIES)
        and _WORDS_ALONE.fullmatch(plain) is not None
        and not _ABOUT_COOKIES.isdisjoint(lower.split(b" "))
    ):
        return True
    if may_be_prose and _ABOUT_IT.fullmatch(plain) is not None and lower.split(b" ")[0] in _VERBS:
        words = plain.decode(errors="replace").strip(".:?!").split()
        pairs = (" ".join(words[at : at + 2]) for at in range(len(words)))
        if any(keys.label(each) not in (None, LIKELY, UNSURE) for each in (*words, *pairs)):
            return True
    return (may_be_prose and is_prose(plain)) or _FUNCTION.fullmatch(plain) is not None


def is_word_of_prose(word: bytes) -> bool:
    """Say whether a word begins a sentence rather than being a password."""
    return word.lower() in _WORDS or word.lower() in _FIRST_WORDS


def is_keyword(word: bytes) -> bool:
    """Say whether a word is one of programming languages."""
    return word in _KEYWORDS


_KEYWORDS = frozenset(KEYWORDS)


def is_passing(value: bytes) -> bool:
    """Say whether a value means, after the name `pass`, that something has passed, or how much."""
    plain = value.strip(b" \t\r\n)]},;.!*")
    return plain.lower() in _VERDICTS or _COUNT.fullmatch(plain) is not None


_LINE = re.compile(rb"[ \t]*+(?:-[ \t]+)?(?:[\"']?([\w.-]{1,60})[\"']?[ \t]*+:(?:[ \t]+|\Z))?(.*)")


def is_harmless_block(keys: KeyMatcher, label: str, text: bytes) -> bool:
    """
    Say whether nothing is secret by the name of all in the lines of YAML below a name.

    They are about it, or refer to it; what has a name of its own is found by that.
    """
    if label not in _labels() or len(text) > _LONGEST * 4:
        return False
    items = 0
    for line in text.split(b"\n"):
        match = _LINE.fullmatch(line.rstrip())
        if match is None:
            return False
        value = match[2].strip()
        items += 1
        if match[1] is None:
            # The name of a secret that is elsewhere.
            if value and keys.label(value.decode(errors="replace")) is None:
                return False
        elif value and not _is_about(keys, match[1].decode(), value):
            return False
    return items > 0


def _is_about(keys: KeyMatcher, name: str, value: bytes) -> bool:
    """Say whether a value is about the secret whose name its object has: its length, whether it is on."""
    plain = value.strip(b"\"' ,")
    lower = plain.lower()
    if not keys.is_kept(f"secret_{name}"):
        return lower in _FLAGS
    return (
        lower in _FLAGS
        or lower in _VERDICTS
        or lower in _TYPES
        or _NUMBER.fullmatch(plain) is not None
        or _DURATION.fullmatch(plain) is not None
        or _ALGORITHM.fullmatch(plain) is not None
        or _ABOUT_PATH.fullmatch(plain) is not None
        or (name in _OF_KINDS and _PLAIN_NAME.fullmatch(plain) is not None)
        or is_prose(plain)
    )


_FLAGS = frozenset((b"true", b"false", b"yes", b"no", b"on", b"off", b"lax", b"strict"))
_NUMBER = re.compile(
    rb"-?[0-9]{1,6}(?:\.[0-9]{1,6})?|[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9:.]{5,15}(?:Z|[+-][0-9:]{4,6})?)?"
)
_ABOUT_PATH = re.compile(rb"\.{0,2}/(?:[a-z_.-]{1,40}/){0,12}[a-z_.-]{1,40}")
_OF_KINDS = frozenset(("name", "provider", "type", "kind", "method", "strategy", "driver", "mode"))
_PLAIN_NAME = re.compile(rb"[a-z]{1,12}(?:[-_][a-z]{1,12}){0,3}")


def is_harmless_structure(keys: KeyMatcher, label: str, value: object, depth: int = 0) -> bool:
    """Say whether nothing is secret by the name of all in a JSON value: {"min_length": 12}, ["must have a digit"]."""
    if label not in _labels() or depth > _DEEPEST:
        return False
    if not value:
        return False
    if isinstance(value, dict):
        return all(
            is_harmless_structure(keys, label, each, depth + 1)
            if isinstance(each, dict | list)
            else keys.label(name) not in (None, LIKELY, UNSURE) or _is_about(keys, name, _encoded(each))
            for name, each in value.items()
        )
    if isinstance(value, list):
        if label.startswith(_OF_PHRASES):
            return False
        return all(
            is_harmless_structure(keys, label, each, depth + 1)
            if isinstance(each, dict | list)
            else isinstance(each, str) and is_prose(each.encode(errors="replace"))
            for each in value
        )
    return False


_DEEPEST = 8


def _encoded(value: object) -> bytes:
    return value.encode(errors="replace") if isinstance(value, str) else str(value).encode()
