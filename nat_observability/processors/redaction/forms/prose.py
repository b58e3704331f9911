"""Prose: values that a sentence or a heading names."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nat_observability.processors.redaction.forms.near import STRONG, is_telling, label_before, label_of
from nat_observability.processors.redaction.marks import Found
from nat_observability.processors.redaction.names.keys import LIKELY, UNSURE, KeyMatcher
from nat_observability.processors.redaction.text.windows import matches
from nat_observability.processors.redaction.values.verdicts import (
    is_cased,
    is_harmless,
    is_mixed,
    is_passphrase,
    is_random,
    is_strong,
    is_word_of_prose,
    is_words,
)

IS = (
    rb"(?:(?:[ ]|'s[ ]?|\xe2\x80\x99s[ ]?)(?:(?:is|are|was|to|as|=|ist|war|lautet|est|es|era|\xc3\xa9|\xc3\xa8|jest|"
    rb"\xc3\xa4r)(?: now| still| set to| currently)?:?(?=[ ])"
    rb"|(?:(?:has been|have been|was|is|now) )?(?:created|generated|set|reset|changed|updated|issued|assigned)(?"
    rb": to| as| successfully)?:?(?=[ ]))|[ ]?(?:->|\xe2\x86\x92|=>)|[ ]for"
    rb" [\w ]{1,40}? is:?|(?:'s|\xe2\x80\x99s)?[ ](?=\\{0,64}[\"'`])|'s(?=[ ]))[ ]{0,2}(?:\*\*)?"
    rb"(?:(\\{0,64}[\"'`]|\xe2\x80\x9c)([^\"'`\n]{3,300}?)(?:\1|\xe2\x80\x9d)|(?=(?:[^\s]{0,200}[0-9!@"
    rb"#$%^&*+~])|(?:[a-z]{3,20}-){2}|(?:[a-z]{3,14}[ ]){3}|[A-Za-z]{10,64}(?![A-Za-z]))(?!\[redacted:)([^\s\"'`"
    rb"<>]{4,512}))"
)
_IS = re.compile(IS)
_AS = re.compile(
    rb"(?:(\\{0,64}[\"'`])((?:(?!\1)[^\n]){4,300}?)\1|(?<![^\s(>])()((?:(?=[^\s]{0,64}[0-9])|(?=(?:[a-z]{3,20}-){2}))["
    rb"^\s\"'`<>()]{4,128}?)),? "
    rb"(?:(?:as|for|is) |(?=the |\())\(?(?:(?:not )?(?:the|your|my|our|its|an?)(?: new| valid)? )?([\w \x80-\xff"
    rb"]{1,60})"
)
# password k9Xm2Qw7Tz, password (k9Xm2Qw7Tz), password - k9Xm2Qw7Tz, creds bob:k9Xm2Qw7Tz
BESIDE = (
    rb"(?:(?:[ ]{1,2}|\t|\?[ ])(?:[\w.@-]{1,40}[:/])?|[ ]?[(\[<]|[ ](?:-|\xe2\x80\x93|\xe2\x80\x94|\xe2\x87\x92|"
    rb"\xe2\x89\x94)"
    rb"[ ]?[\"'`]?"
    rb"|[ ]?(?:~|/|<<=)[ ]?[\"'`]?)((?:(?=[^\s]{0,64}[0-9][^\s]{0,64}[A-Za-z])|(?=[^\s]{0,64}[A-Za-z][^\s]{0,64}[0-9])"
    rb"|(?=[0-9]{6,12}(?![\w:/.-]*[\w:/-]))|(?=(?:[a-z]{3,20}-){2}))(?!\[redacted:)[^\s\"'`<>()\[\]]{6,256})"
)
_BESIDE = re.compile(BESIDE)
# password (bob): x1y2z3, api key (staging) = x1y2z3, token[prod]: x1y2z3
QUALIFIED = (
    rb"[*`]{0,3}[ ]?(?:\([^()\n\"'`\\]{1,48}\)|\[[A-Za-z][^\[\]\n\"'`\\]{0,48}\])[*`]{0,3}[ \t]{0,4}"
    rb"(?::|=(?![=>~]))[*]{0,3}[ \t]{1,16}"
    rb"(\\{0,64}[\"'`]?)(?!\[redacted:)(?=[^\s]{0,64}[0-9])(?=[^\s]{0,64}[A-Za-z])([^\s\"'`<>()]{6,512})"
)
_QUALIFIED = re.compile(QUALIFIED)
# my+password+is+x1y2z3, in a form
# Not over what a blank, a quote, a comma, a colon or a bracket is encoded as, nor told by the digits of a code.
_IN_FORM = rb"(?:[^\s&+\"'\\%]|%(?!2[027Cc]|3[Aa]|[57][BbDd])[0-9A-Fa-f]{2})"
SAID_IN_FORM = (
    rb"(?:\+for\+\w{1,20})?\+(?:is|was|are|=)\+(?!\[redacted:)(?="
    + _IN_FORM
    + rb"{0,64}?[0-9])(?="
    + _IN_FORM
    + rb"{0,64}?[A-Za-z])("
    + _IN_FORM
    + rb"{5,256})"
)
_SAID_IN_FORM = re.compile(SAID_IN_FORM)
_DECLARES = (b"def ", b"func ", b"function ", b"fn ", b"fun ", b"sub ", b"void ", b"async ")
FROM = rb"(?: \w{1,12}){1,3} from [\"'`]?([^\s\"'`]{5,200})[\"'`]? to [\"'`]?([^\s\"'`]{5,200})"
_FROM = re.compile(FROM)
# Codes and words that are listed below their name.
LISTED = (
    rb":?(?:\*\*)?(?:\r?\n|\\{1,8}n){1,2}((?:[ \t>]{0,8}(?:[-*]|\d{1,2}[.)])?[ \t]{0,4}[`\"']?[A-Za-z0-9][A-Za-z"
    rb"0-9-]{2,40}"
    rb"(?: [A-Za-z0-9-]{3,12}){0,3}[`\"']?[ \t]{0,4}(?:\r?\n|\\{1,8}n|\Z|(?=[\"'])){1,2}){2,32})"
)
_LISTED = re.compile(LISTED)
_LISTED_LABELS = ("backup", "recovery", "mnemonic", "seed", "wallet")
# Words without a blank between them.
SPELLED = (
    rb"(?:\xe5\xaf\x86(?:\xe7\xa0\x81|\xe7\xa2\xbc|\xe9\x92\xa5)|\xe5\x8f\xa3\xe4\xbb\xa4|\xe3\x83\x91\xe3\x82\xb9\xe3\x83\xaf\xe3\x83\xbc\xe3\x83\x89|\xe6\x9a\x97\xe8\xa8\xbc\xe7\x95\xaa\xe5\x8f\xb7"
    rb"|\xeb\xb9\x84\xeb\xb0\x80\xeb\xb2\x88\xed\x98\xb8|\xec\x95\x94\xed\x98\xb8)"
    rb"(?:\xe6\x98\xaf|\xe4\xb8\xba|\xe7\x82\xba|\xe3\x81\xaf|\xeb\x8a\x94|\xec\x9d\x80|\xef\xbc\x9a)?[ :=]{0,3}"
    rb"([!-~]{5,128})"
)
_SPELLED = re.compile(SPELLED)
BELOW = (
    rb":(?:\*\*)?(?:\r?\n|\\{1,8}n){1,2}[ >]{0,4}(?:```\w{0,10}(?:\r?\n|\\{1,8}n))?(\\{0,64}[`\"']?)"
    rb"((?:(?=[^\s]{0,200}[0-9])(?=[^\s]{0,200}[A-Za-z])|(?=(?:[a-z]{3,20}-){2}))[^\s\"'`<>\\:={}()\[\]]{8,512}={0,2}"
    rb"|[0-9]{6,64}|[a-z]{3,14}(?: [a-z]{3,14}){2,11})\1(?=\r?\n|\\{1,8}[nr]|[\"'`]|\s{0,2}\Z|\\{1,8}\")"
)
_BELOW = re.compile(BELOW)
UNDER_HEADING = (
    rb"(?:\r?\n|\\{1,8}n){1,2}(\\{0,64}`?)((?![#>|*-])(?:[^\s`\"'"
    rb"\\]{6,300}|[a-z]{3,14}(?:[ ][a-z]{3,14}){2,11}))\1(?=\r?\n|\\{1,8}[nr]|\"|\Z|\\{1,8}\")"
)
_UNDER_HEADING = re.compile(UNDER_HEADING)
_HEADING = re.compile(rb"(?:^|(?<=\n)|(?<=\\n)|(?<=\"))#{1,6} ([\w \x80-\xff-]{2,120})")


# Twelve words or more, as the keys of wallets are written.
_SEED = re.compile(rb"(?:[ ](?:is|was|are)|:)?[ ]{1,2}((?:[a-z]{3,8} ){11,23}[a-z]{3,8})")


# As a sentence says it, four words or more to its end.
_PHRASE = re.compile(
    rb"[ ](?:is|was|are)[ ]((?:[a-z]{3,14}[ ]){3,11}[a-z]{3,14})(?=[.!?]?\s*(?:\n|\Z|\\|\"))"
)


_SIGNED = re.compile(rb"(?=[^\s]{0,64}[!@#$%^&*+])(?!/|[a-z]{1,12}://)[^\s\"'`<>()\[\]:]{8,256}")


_CASED_AND_SIGNED = re.compile(
    rb"(?=[^\s]{0,64}[0-9])(?=[^\s]{0,64}[a-z])(?=[^\s]{0,64}[A-Z])(?=[^\s]{0,64}[!@#$%^&*+=])[^\s\"'`<>()\[\]:]{8,256}"
)
_PASSWORDS = (
    "password",
    "passwd",
    "pwd",
    "passcode",
    "passwort",
    "senha",
    "contrase_a",
    "kennwort",
    "wachtwoord",
    "_",
)
_DIGITS = re.compile(rb"[0-9]{6,12}")
# Words of compounds about passwords: reset-link-sent, man-in-the-middle.
_OF_COMPOUNDS = frozenset(
    rb"""reset change based manager policy free less protected only hash hashing strength checker generator recovery
    rotation auth login user token key access api grant flow end man state brute force sent link required update
    encrypted secure safe field form input page screen dialog file secret password stuffing spraying cracking guessing
    rule rules length limit time one two multi single first last sign log out""".split()
)


def _is_passphrase(text: bytes) -> bool:
    """Say whether a text is words with dashes between them, none of which is about passwords or of a sentence."""
    return _is_dashed(text) and all(
        word.islower() and word not in _OF_COMPOUNDS and not is_word_of_prose(word)
        for word in text.split(b"-")
    )


def _is_dashed(text: bytes) -> bool:
    return is_telling(text) and text.count(b"-") >= 2


def _is_value(text: bytes) -> bool:
    return STRONG.fullmatch(text) is not None or text.count(b"-") >= 2 or is_passphrase(text)


_CODE = re.compile(rb"[0-9]{4,8}")
_LEAST_STATED = 5  # characters
_WHEN = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}|(?:[0-9]{1,5}(?:ms|[smhdwy])){1,4}\Z")  # it was changed
# Names before which, or behind which, the name of a kind often stands.
_OF_KINDS = frozenset(("token", "auth_token", "signature", "cookie", "private_key"))


def find_stated(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_IS, data):
        named = label_before(data, match.start(), keys)
        if named is None:
            continue
        label = named[0]
        phrase = _PHRASE.match(data, match.start()) if label.endswith("phrase") else None
        if phrase is not None and is_passphrase(phrase[1]):
            yield *phrase.span(1), label
            continue
        listed = _SEED.match(data, match.start())
        if listed is not None and label.startswith(_LISTED_LABELS):
            yield *listed.span(1), label
            continue
        quote, value = match[1], match[2]
        if quote is not None:
            if (
                match[0].startswith(b" ")
                and match[0].lstrip(b" ")[:1] in b"\\\"'`"
                and (
                    (not is_telling(value) and value.count(b"-") < 2 and not is_passphrase(value))
                    or data[match.end() : match.end() + 2].lstrip()[:1] in (b":", b"=")
                )
            ):
                continue
            if (named[0].startswith(_LISTED_LABELS) and is_words(value)) or (
                not is_harmless(keys, label, value) and (b" " not in value or not value[:1].isupper())
            ):
                yield *match.span(2), label
        elif match[3] is not None:
            text = match[3].rstrip(b".,;:!?*_`\\")
            if _WHEN.match(text) is not None:
                continue
            if b"(" in text and match[0].startswith(b" ="):
                continue  # a call, whose texts are found by themselves
            if text.rpartition(b"[redacted:")[0].endswith((b"=", b":")):
                continue  # the value of another name
            if text.endswith((b")", b"]", b"}")) and not any(sign in text for sign in b"([{"):
                text = text.rstrip(b")]}.,;")
            if label.endswith(_CODES) and _CODE.fullmatch(text) is not None:
                yield match.start(3), match.start(3) + len(text), label
            elif len(text) < _LEAST_STATED:
                continue
            elif (not is_harmless(keys, label, text) and is_telling(text)) or text.count(b"-") >= 2:
                yield match.start(3), match.start(3) + len(text), label


def find_beside(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_BESIDE, data):
        named = label_before(data, match.start(), keys)
        text = match[1].rstrip(b".,;:!?*_`\\")
        if (
            named is not None
            and named[0] in _OF_KINDS
            and not (is_random(text) or is_cased(text) or _CASED_AND_SIGNED.fullmatch(text) is not None)
        ):
            continue  # token gpt4o-mini-2024x
        if named is None or named[0] == LIKELY or b"=" in text.rstrip(b"="):
            continue
        if (
            is_mixed(text)
            or _SIGNED.fullmatch(text) is not None
            or (
                named[0].endswith(_PASSWORDS)
                and (_is_number(data, match.start(1), text) or _is_passphrase(text))
            )
        ):
            yield match.start(1), match.start(1) + len(text), named[0]


_COUNTED = re.compile(
    rb" (?:characters|chars|digits|bytes|times|attempts|resets|users|entries|rows|seconds|ms)\b"
)


def _is_number(data: bytes, start: int, text: bytes) -> bool:
    """Say whether a text is digits that count nothing."""
    return _DIGITS.fullmatch(text) is not None and _COUNTED.match(data, start + len(text)) is None


_REFUSED = re.compile(
    rb"\b(?:[Ii]nvalid|[Uu]nknown|[Bb]ad|[Ee]xpired|[Rr]evoked|[Uu]nrecogni[sz]ed|[Ww]rong)(?: [\w-]{1,16}){0,2}"
    rb"? (?:token|key|secret|"
    rb"credential|session|signature)s?:?[ ](\\{0,64}[\"'`])([\w+/=.~-]{8,512})\1"
)


def find_qualified(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_QUALIFIED, data):
        named = label_before(data, match.start(), keys)
        if (
            named is None
            or named[0] == LIKELY
            or data[max(0, named[1] - 16) : named[1]].endswith(_DECLARES)
            or data[match.end() : match.end() + 1] == b"("
        ):
            continue
        text = match[2].rstrip(b".,;:")
        if (
            not is_harmless(keys, named[0], text)
            and is_telling(text)
            and (match[0].find(b"[", 0, 2) < 0 or is_strong(text))
        ):
            yield match.start(2), match.start(2) + len(text), named[0]


def find_said_in_forms(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_SAID_IN_FORM, data):
        named = label_before(data, match.start(), keys)
        if named is not None and named[0] != LIKELY and not is_harmless(keys, named[0], match[1]):
            yield *match.span(1), named[0]


def find_refused(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    """Find what an error quotes: Invalid token 'x'. Those of parsers quote words and signs."""
    for match in matches(_REFUSED, data):
        if is_random(match[2]) or is_cased(match[2]):
            yield *match.span(2), "token"


def find_changed(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_FROM, data):
        named = label_before(data, match.start(), keys)
        if named is not None and named[0] != LIKELY:
            for group in (1, 2):
                if STRONG.fullmatch(match[group]) is not None:
                    yield *match.span(group), named[0]


def find_listed(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_LISTED, data):
        named = label_before(data, match.start(), keys)
        if named is not None and named[0].startswith(_LISTED_LABELS):
            yield match.start(1), match.start(1) + len(match[1].rstrip()), named[0]


def find_spelled(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_SPELLED, data):
        if is_telling(match[1]):
            yield *match.span(1), "password"


_CODES = ("pin", "otp", "code", "cvv", "cvc", "csc", "mfa", "2fa")


def find_described(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_AS, data):
        group = 2 if match[2] is not None else 4
        words = match[5].split()
        for count in range(min(4, len(words)), 0, -1):
            is_kept, known = keys.of(b" ".join(words[:count]).decode(errors="replace"))
            if is_kept:
                break  # 4096 as the token limit
            if known is not None and known not in (UNSURE, LIKELY):
                is_code = (
                    known.endswith(_CODES)
                    and re.fullmatch(rb"(?:[A-Z]-)?[0-9]{4,8}|[0-9]{3}[- ][0-9]{3}", match[group]) is not None
                )
                if known.endswith(_PASSWORDS) and _DIGITS.fullmatch(match[group]) is not None:
                    is_code = True
                is_said = (
                    re.search(rb" (?:as|for|is) ", match[0][match.end(group) - match.start() :]) is not None
                )
                is_said = is_said and (b" " not in match[group] or is_passphrase(match[group]))
                if not is_harmless(keys, known, match[group]) and (
                    (group == 2 and is_said)
                    or is_mixed(match[group])
                    or is_code
                    or (is_said and _is_dashed(match[group]))
                ):
                    yield *match.span(group), known
                break


def find_below(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_BELOW, data):
        named = label_before(data, match.start(), keys)
        if named is None or named[0] == LIKELY or is_harmless(keys, named[0], match[2]):
            continue
        if b" " not in match[2] or is_passphrase(match[2]):
            yield *match.span(2), named[0]


def find_under_headings(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for heading in matches(_HEADING, data):
        value = _UNDER_HEADING.match(data, heading.end())
        if value is None:
            continue
        known = label_of(heading[1], keys)
        if known is not None and known != UNSURE and _is_value(value[2]):
            yield *value.span(2), known
