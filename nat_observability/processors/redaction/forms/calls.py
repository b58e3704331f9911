"""Calls: passwords and keys that are arguments of functions by their place, and what functions of that name return."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nat_observability.processors.redaction.forms.near import (
    QUOTE,
    is_telling,
    label_before,
    label_of,
    quoted,
)
from nat_observability.processors.redaction.marks import Found
from nat_observability.processors.redaction.names.keys import LIKELY, UNSURE, KeyMatcher
from nat_observability.processors.redaction.text.windows import matches

# Each function, and which of its arguments is secret. The first column says where the others may be names alone.
_ARGUMENTS = {
    1: b"""login signIn sign_in authenticate auth set_basic_auth setBasicAuth SetBasicAuth basic_auth basicAuth
        BasicAuth HTTPBasicAuth HTTPDigestAuth DigestAuth HTTPProxyAuth NTLMAuth HttpNtlmAuth Credentials Credential
        NetworkCredential
        UsernamePasswordCredentials UsernamePasswordAuthenticationToken PasswordAuthentication PlainTextAuthProvider
        UserPassAuth jwt.encode jwt.sign jwt.verify jwt.decode JWT.encode JWT.decode createHmac pgp_sym_encrypt
        pgp_sym_decrypt pbkdf2_hmac AES_ENCRYPT AES_DECRYPT aes_encrypt aes_decrypt PSCredential""".split(),
    2: b"PlainAuth getConnection mysqli_connect mysql_connect PDO hash_hmac".split(),
    0: b"""hmac.new Fernet AES.new cookieParser hashpw checkpw gensalt_hash password_hash password_verify bcrypt.hash
        bcrypt.hashSync bcrypt.compare bcrypt.compareSync argon2.hash argon2.verify crypt ChaCha20Poly1305 AESGCM
        HMAC pbkdf2Sync pbkdf2 scrypt scryptSync""".split(),
}
_PLACE_OF = {name: place for place, names in _ARGUMENTS.items() for name in names}
# What ends in one of these is one too: proxyAuth, MyCredentials.
_ENDINGS = re.compile(rb"(?:Auth|Credentials?)\Z")
_CALL = re.compile(
    rb"(?<![A-Za-z0-9_])((?:[A-Za-z_]\w{0,40}\.)?[A-Za-z_]\w{0,60})\((?:\s|\\{1,8}n){0,8}"
    rb"(?=[bBrRuUfF@$]{0,2}(?:\\{0,64}[\"'`]|[\w$.]{1,60}\s?,))"
)
_ARGUMENT = re.compile(
    rb"(?:\s|\\{1,8}n){0,8}(?:(?:Some\()?[bBrRuUfF@$]{0,2}(\\{0,64}[\"'`])|[\w$.]{1,60}(?=\s?[,)]))"
)
_NEXT = re.compile(rb"\s?,")
LITERALS = (
    b"Auth(", b"auth(", b"redential(", b"redentials(", b"ogin(", b"ign_in(", b"ignIn(", b"uthenticate(", b"Token(",
    b"Authentication(", b"Provider(", b"_connect(", b"etConnection(", b"PDO(", b"wt.", b"WT.", b"mac(", b"mac.new(",
    b"ernet(", b"ES.new(", b"ookieParser(", b"ashpw(", b"eckpw(", b"password_hash(", b"password_verify(", b"bcrypt.",
    b"argon2.", b"crypt(", b"CRYPT(", b"bkdf2", b"cryptSync(", b"20Poly1305(", b"AESGCM(", b"HMAC(",
)  # fmt: skip


def find_positional(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_CALL, data):
        name = match[1]
        place = _PLACE_OF.get(name, _PLACE_OF.get(name.rpartition(b".")[2]))
        if place is None:
            if _ENDINGS.search(name) is None:
                continue
            place = 1
        at = match.end()
        argument = None
        for _ in range(place):
            argument = _ARGUMENT.match(data, at)
            if argument is None:
                break
            at = _end_of_argument(data, argument)
            behind = _NEXT.match(data, at)
            if behind is None:
                argument = None
                break
            at = behind.end()
        else:
            argument = _ARGUMENT.match(data, at)
        if argument is None or argument[1] is None:
            continue
        for start, end, label in quoted(data, argument.end(), argument[1], "password", keys):
            # After names alone it may be anything: login(request, "home").
            is_sure = place == 1 and data[match.end() : match.end() + 1] in (b'"', b"'", b"`", b"\\")
            if is_sure or is_telling(data[start:end]):
                yield start, end, label


def _end_of_argument(data: bytes, argument: re.Match[bytes]) -> int:
    if argument[1] is None:
        return argument.end()
    quote = argument[1]
    end = data.find(quote, argument.end(), argument.end() + 512)
    return argument.end() if end < 0 else end + len(quote)


BEHIND_RETURNED = (
    rb"(?:\(\)|\([^()\"'\n]{1,80}\))?(?:\s?(?:->|:)\s?[\w.<>\[\]?]{1,30})?(?: by lazy| string| String)?\s{0,4}"
    rb"(?:\{|:|=>|=\s?\([^()\"'\n]{0,60}\)\s?=>)(?:\s|\\{1,8}n){0,16}(?:return\s{1,4})?(?=\\{0,64}[\"'`])"
)
_RETURNED = re.compile(
    rb"(?<![A-Za-z0-9_\x80-\xff])([A-Za-z_\x80-\xff][\w\x80-\xff]{0,60})" + BEHIND_RETURNED
)
_QUOTE = re.compile(QUOTE)


def find_returned(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_RETURNED, data):
        label = label_of(match[1], keys)
        quote = _QUOTE.match(data, match.end())
        if label in (None, UNSURE, LIKELY) or quote is None:
            continue
        for start, end, _ in quoted(data, quote.end(), quote[0], label, keys):
            if is_telling(data[start:end]):
                yield start, end, label


# A name as one argument, and its value as the next or as the default: setattr(x, "password", "y").
BEHIND_ARGUMENT = (
    rb"(?:\\{0,64}[\"']\])?\\{0,64}[\"'`](?:,\s?[^()\n]{0,200}?\bdefault\s?=\s?|,\s{0,4})(?=\\{0,64}[\"'`])"
)
_ARGUED = re.compile(
    rb"\b(?:getattr|setattr|type|fill|sendKeys|send_keys|setValue|set_value|add_argument|option|Option|Argument|argument|buildConfigField|resValue|\w{0,20}[Mm]ap\.?[Oo]f|ofEntries|json_object|JSON_OBJECT"
    rb"|jsonb_build_object|hset|HSET|hmset|HMSET|set_default|SetDefault|getOrDefault|updateIn|assoc|config\.set|cfg\.set|conf\.set|parser\.set|settings\.set|props\.put|settings\.put)(?:\s?\(|(?<"
    rb"=Field) |(?<=resValue) )([^()\n]{0,300}?)"
    rb"\\{0,64}[\"'`]([\w.\x80-\xff-]{1,60})" + BEHIND_ARGUMENT
)


def find_arguments(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_ARGUED, data):
        label = label_of(match[2].lstrip(b"-"), keys)
        quote = _QUOTE.match(data, match.end())
        if label not in (None, UNSURE) and quote is not None:
            yield from quoted(data, quote.end(), quote[0], label, keys)


# 'x' == password
COMPARED_BEFORE = rb"[\"'`]\s{0,4}(?:===?|!==?|\beq\b|\bin\b)\s{0,4}[\w.$]{0,60}"
_COMPARED = re.compile(
    rb"(\\{0,64}[\"'`])([^\"'`\n]{4,200})\1\s{0,4}(?:===?|!==?|\beq\b|\bin\b)\s{0,4}([\w.$]{1,60})"
)


def find_compared(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_COMPARED, data):
        named = label_before(data, match.end(3), keys, 1)
        if named is not None and named[0] != LIKELY and is_telling(match[2]):
            yield *match.span(2), named[0]
