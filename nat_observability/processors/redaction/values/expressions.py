"""Where the secrets are in the value of a field, if that is an expression of code: its literals, not its names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from nat_observability.processors.redaction.names.keys import LIKELY, KeyMatcher
from nat_observability.processors.redaction.values.sentences import (
    end_of_counted,
    end_of_passphrase,
    is_sentence,
)
from nat_observability.processors.redaction.values.spans import bare_value, goes_on, value_span
from nat_observability.processors.redaction.values.verdicts import (
    is_harmless,
    is_harmless_block,
    is_keyword,
    is_mixed,
    is_passphrase,
)
from nat_observability.processors.redaction.values.words import end_of_quotes, end_of_word

Span = tuple[int, int]

_LONGEST = 1024  # bytes of an expression
_MOST_ANNOTATIONS = 8  # before one value
_LONGEST_NAME = 96  # bytes of a value that may be the name of what follows
_LONGEST_BESIDE = 256  # bytes of a token of a model beside its probability
_MOST_JOINED = 64  # texts that are joined to one value
_QUOTES = b"\"'`"
_TYPE = (
    rb"(?:[A-Z][\w.]{0,40}|str|string|&?(?:'[a-z]{1,10} )?str|&?(?:mut )?String|bytes|int|char|byte|bo"
    rb"ol|any|unknown|text|"
    rb"varchar|nvarchar|std::string|typing\.\w{1,20}|const char|pydantic\.\w{1,20}|\[\]?u8|number|obje"
    rb"ct|undefined|null|None)"
)
# str | None = , Optional[str] = , &'static str = , [u8; 32] = ; and not a comparison.
_ANNOTATION = re.compile(
    rb"\s{0,4}(?:\*|&|\[)?"
    + _TYPE
    + rb"""(?:(?:\[|<|\()[\w.,|\[\]<>()'" ?:&;=]{0,80}?(?:\]|>|\)))?[?!*]?(?:\[[\w; ]{0,16}\])?"""
    + rb"(?:\s?\|\s?(?:None|null|undefined|"
    + _TYPE
    + rb")){0,3}\s{0,4}(?:=(?![=>~])|:=)"
)
# With no blank around the sign, what stands behind it is in quotes.
_UNLIKE_TYPE = re.compile(rb"[A-Z][\w.]{0,40}=[^\s\"'`]")
_TYPE_ALONE = re.compile(
    rb"(?:\*|&)?"
    + rb"(?:str|string|String|bytes|int|SecretStr|Optional|Option|Union|Annotated|Vec|List|Dict|Mapped)"
    + rb"(?:(?:\[|<|\()[\w.,|\[\]<>()'\" ?:&;=]{0,80}(?:\]|>|\)))?[?!]?(?=\s*(?:[,;)}|\n]|\\n|\Z))"
)
# self.token, os.environ["X"], get_token(...), &config->key, new Secret(...), await read()
_HEAD = re.compile(
    rb"(?:(?:await|new|not|return|yield|typeof|void) ){0,2}[&*!@$]{0,2}[A-Za-z_$][A-Za-z_$0-9]{0,64}(?"
    rb":(?:\.|->|::|\?\.)[A-Za-z_$][\w$]{0,64}!?)*"
    rb"(?:<[\w<>, ]{0,40}>)?(\(|\[(?=\\{0,64}[\"'$]))?"
)
_ROOTS = frozenset(
    b"self this os process config configuration settings args options opts env environ request req ct"
    b"x context event data body "
    b"state props params secrets var local module each vault user account client credentials creds se"
    b"ssion import string cfg "
    b"conf app server response res resp result input row record form flask current_app std system viper secret github "
    b"steps inputs matrix values".split()
)
_LOOKUP = re.compile(
    rb"(?:^|[.:_>])(?:getenv|get|environ|env|getEnv|config|setting|get_secret|lookup|fetch|read|open|i"
    rb"nput|prompt|ask|ask_?pass\w*|getpass\w*|"
    rb"load\w*|read\w*|find\w*|get\w*|generate\w*|create\w*|resolve\w*|require|t|i18n|gettext|_|ref|va"
    rb"r|join|Path|file|File|"
    rb"getProperty|GetEnvironmentVariable|Sys|ENV|argument|add_argument|Argument|Option|Lookup\w*|Get\w"
    rb"*|Load\w*|Read\w*)\Z"
)
_FALLBACK = re.compile(
    rb"(?:\bor|\?\?=?|\|\|=?|\?:|\belse|\b(?:default|default_value|fallback|def)\s?[=:]|:-|\?|:)\s{0,8}\(?\s{0,8}\Z"
)
# Names of functions have no other digits.
_WITH_DIGITS = re.compile(
    rb"(?:b|base|sha|md|utf|s|http|x|v|oauth|p|hs|rs|es|int|str|win|i18n|web|k)\d{1,3}", re.IGNORECASE
)
_DIGITS = re.compile(rb"\d")
_LIKELY_LONGEST = 300  # bytes
_STOP = re.compile(rb"\\{0,64}[\"'`]|[\r\n;]|\\{1,8}n|[()\[\]{},]")
_JOIN = re.compile(
    rb"""(?:[ \t]{0,64}(?:(?:\+|\.\.?|&|<>|\|\||->|\xe2\x86\x92)(?:[ \t]{0,8}\\(?=\r?\n))?(?:[\s+]|\\{1,8}[nrt])"""
    rb"""{0,64}"""
    rb"""|\.concat\([ ]{0,4})()|[ \t]{0,64}\\?(?:\r?\n|\\"""
    rb"""{1,8}n)[\s+]{0,64}|[ \t]{1,64}(?=\\{0,64}["']))[bBrRuUfF]{0,2}(\\{0,64})(["'`])"""
)
# A cast, a type in quotes, or the head of a function that returns the value.
_BEFORE = re.compile(
    rb"""\s{0,4}(?:string\([0-9]{1,6}\)\s{1,4}(?=\\{0,64}["])|<\w{1,20}>(?=\\{0,64}["'`])|["']\w{1,20}["'][ ]{0,"""
    rb"""4}=(?![=>~])[ ]{0,4}(?=\\{0,64}["'`])"""
    rb"""|lambda[\w, ]{0,40}:\s{0,4}(?=\\{0,64}["'`])|(?:async )?\([\w, :]{0,60}\)\s{0,4}=>\s{0,4}(?=\\{0,64}["'`]))"""
)
_NUMBER = rb"(?:0[xX][0-9a-fA-F]{1,2}|[0-9]{1,3})"
_BYTES = re.compile(
    rb"\s{0,4}(?:new )?(?:\w{1,24})?(?:\[[0-9]{0,4}\])?\s{0,4}[{(\[]\s{0,4}("
    + _NUMBER
    + rb"(?:\s{0,4},\s{0,4}"
    + _NUMBER
    + rb"){2,512}+\s{0,4},?\s{0,4}[})\]])"
)
_LEAST_PARTS = 3
_IDENTIFIER = re.compile(rb"[a-z_]{3,40}|[A-Z][a-z]{2,40}")
_LEAST_BYTES = 7  # commas
_SUBSTITUTED = re.compile(
    rb"""(?:\$\(|`)(?:echo|printf|cat <<<)(?: -\w{1,4}){0,2} {1,4}(["']?)([^\s"'`)]{1,300})"""
)
_CONDITIONAL = re.compile(rb"[\w.]{1,40} if [^\n]{1,100}? else (?=[\"'])")
# auth=(user, password)
_NAMES_ALONE = re.compile(rb"\([a-z_][a-z_.]{0,40}(?:,[ ]?[a-z_][a-z_.]{0,40}){1,4}\)(?![\w])")
_FIELD = re.compile(rb"\n[ \t-]{0,64}[\"']?[\w.-]{1,64}[\"']?:[ \t\r\n]")
_LIST = re.compile(rb"\.join\(\[\Z")
_KEYWORD = re.compile(rb"([A-Za-z_]\w{0,40})\s?=\s?\Z")
_HOLDING = frozenset(
    b"default default_value value secret_value fallback s data string text content key_bytes".split()
)
_STRONG = re.compile(rb"(?=.{0,200}[0-9!@#$%^&*])(?=.{0,200}[A-Za-z])[^\s/\\]{6,200}", re.DOTALL)
_LINE = re.compile(rb"[^\r\n\\]{0,160}")
# The first word of the well-known one would be taken for a verdict.
_PASSPHRASE_ONLY = re.compile(
    rb"correct (?=[a-z]{3,14} [a-z]{3,14} [a-z]{3,14}[ \t]*+(?:\r|\n|\\++[nr]|\\*+[\"'`]|\Z))"
)
# Groups that belong together: AbC1 dEf2 GhI3, 1a2b-3c4d 5e6f-7g8h; and what goes on with signs and digits.
_SCHEMA = re.compile(
    rb"""\{(?![^{}]{0,200}?["'](?:value|current|plaintext)\\{0,64}["']\s*:\s*\\{0,64}["'][^"'])[^{}]{0,200}?["']?(?:type\\{0,64}["']?\s*:\s*(?:\[\s*)?\\{0,64}["']?(?:string|object|arr"""
    rb"""ay|number|integer|boolean|apiKey|http|oauth2)\b|\$ref\b|anyOf\b)"""
)
_BESIDE_WORDS = re.compile(
    rb"""[^{}]{0,160}?\b(?:logprobs?|top_logprobs|bytes|score|entity|label|token_id|prob|probabilit"""
    rb"""y)\\{0,64}["']?\s?[:=]""",
    re.DOTALL,
)
_WORD = re.compile(rb"[A-Za-z_]\w*+")


def secret_spans(
    data: bytes, begin: int, at: int, label: str, keys: KeyMatcher, depth: int = 0
) -> Iterator[Span]:
    """
    Find what is secret in the value at `at`: mostly all of it, in an expression its literals, in prose nothing.

    Args:
        begin: Where the name of the field begins.
        label: The label of the name.
        depth: The number of annotations between the name and the value.
    """
    # What the beginning of a value decides comes first: a search for its end would take quadratic time if many names
    # stand before the same long text.
    listed = _BYTES.match(data, at, at + 4096)
    if listed is not None and (label != LIKELY or listed[0].count(b",") >= _LEAST_BYTES):
        yield at + len(listed[0]) - len(listed[0].lstrip()), listed.end()
        return
    cast = _BEFORE.match(data, at, at + 256) if depth < _MOST_ANNOTATIONS else None
    if cast is not None:
        yield from secret_spans(data, begin, cast.end(), label, keys, depth + 1)
        return
    bare = None if label == LIKELY else bare_value(data, begin, at, label)
    if bare is not None:
        start, rest = bare
        substituted = _SUBSTITUTED.match(data, start, start + 400)
        if substituted is not None:
            if not is_harmless(keys, label, substituted[2]):
                yield substituted.start(2), _end_behind_substitution(data, substituted)
            return
        if _PASSPHRASE_ONLY.match(data, start) is not None and is_passphrase(
            _LINE.match(data, start)[0].strip()  # type: ignore[index]
        ):
            end = end_of_passphrase(data, start, start + data[start : start + 32].find(b" "))
            if end > start and b" " in data[start:end]:
                yield start, end
                return
        if data[start : start + 1] in b"{[(":
            if _NAMES_ALONE.match(data, start, start + 256) is not None:
                return
            if _SCHEMA.match(data, start, start + 512) is not None:
                return
            if data[start : start + 1] == b"(":
                inside = _HEAD.match(data, start + 1, start + 256)
                if inside is not None and (b"." in inside[0] or inside[1] is not None):
                    yield from _literals(data, start + 1, label, keys)
                    return
        else:
            instead = _instead(data, begin, at, start, label, keys, depth, partial(goes_on, data, rest=rest))
            if instead is not None:
                yield from instead
                return
    if label == LIKELY:
        # Only a short value can look random, for the same reason.
        first = max(0, begin - _LIKELY_LONGEST)
        window = data[first : at + _LIKELY_LONGEST]
        start, end = (place + first for place in value_span(window, begin - first, at - first, label))
        if end == first + len(window) < len(data):
            return
    else:
        start, end = value_span(data, begin, at, label)
    if end <= start:
        return
    if start > at and data[start - 1] in _QUOTES:
        if (
            label == "token"
            and end - start <= _LONGEST_BESIDE
            and _BESIDE_WORDS.match(data, end, end + 256) is not None
        ):
            return
        if not is_harmless(keys, label, data[start:end], name=_name_at(data, begin)):
            yield start, _end_of_joined(data, end, start)
        return
    if data[start : start + 1] in b"{[(":
        if label == LIKELY or _SCHEMA.match(data, start, min(end, start + 512)) is not None:
            return
        if not (end - start <= 256 and is_harmless(keys, label, data[start:end])) and not (
            data[start : start + 1] == b"{"
            and _DECLARED_TYPE.search(data, max(0, begin - 32), begin) is not None
        ):
            yield start, end
        return
    is_block = data[at:start].find(b"\n") >= 0 or data[at : at + 1] in b"\r\n"
    if is_block and is_harmless_block(keys, label, data[start:end].strip(b"\r\n")):
        return
    if bare is None:
        instead = _instead(data, begin, at, start, label, keys, depth, end.__gt__)
        if instead is not None:
            yield from instead
            return
    if (
        end - start <= _LONGEST_NAME
        and data[end - 1 : end] == b":"
        and keys.label(data[start : end - 1].decode(errors="replace")) is not None
    ):
        return  # the name of what follows, which is found by itself: "auth: Authorization: Basic x"
    if not is_harmless(
        keys,
        label,
        data[start:end],
        name=_name_at(data, begin),
        may_be_prose=data[at - 1 : at] != b"="
        and not (is_block and _FIELD.search(data, start, end) is not None),
    ):
        yield (
            start,
            max(
                end_of_passphrase(data, start, end),
                _end_of_login(data, end, label),
                end_of_counted(data, start, end),
            ),
        )


def _instead(
    data: bytes,
    begin: int,
    at: int,
    start: int,
    label: str,
    keys: KeyMatcher,
    depth: int,
    is_inside: Callable[[int], bool],
) -> Iterable[Span] | None:
    """
    Return what is secret instead of all of a value without quotes that begins at `start`, None if it is all of it.

    Args:
        is_inside: Says whether a place behind the beginning is inside the value.
    """
    if depth < _MOST_ANNOTATIONS:
        annotation = _ANNOTATION.match(data, start, start + 256)
        if annotation is not None and _UNLIKE_TYPE.match(data, start, annotation.end() + 1) is not None:
            annotation = None  # password: A=b
        annotation = annotation or _BEFORE.match(data, start, start + 256)
        if annotation is not None:
            return secret_spans(data, begin, annotation.end(), label, keys, depth + 1)
    if _TYPE_ALONE.match(data, start, start + 160) is not None:
        return ()
    conditional = _CONDITIONAL.match(data, start, start + 256)
    if conditional is not None:
        return _literals(data, conditional.end(), label, keys)
    head = _HEAD.match(data, start, start + 256)
    if head is not None and _is_expression(data, head, keys, is_inside):
        return _literals(data, head.start(), label, keys)
    if data[at - 1 : at] == b":" and is_sentence(data, start):
        return ()
    return None


def _end_of_login(data: bytes, end: int, label: str) -> int:
    """Return where a login ends whose first word ends at `end`: creds: bob x1y2z3."""
    rest = _REST_OF_LOGIN.match(data, end) if label.startswith("cred") else None
    return end if rest is None else rest.end()


_REST_OF_LOGIN = re.compile(
    rb"(?:[ ]?[:/,])?[ ][^\s\"'`<>:=]{4,128}={0,2}(?=[ \t]*+(?:\r|\n|\\++[nr]|\\*+[\"'`]|\Z))"
)


def _end_behind_substitution(data: bytes, substituted: re.Match[bytes]) -> int:
    """Return where a value ends that begins with what a command says: $(echo x)y."""
    end = substituted.end(2)
    closing = _SUBSTITUTION_END.match(data, end)
    if closing is None:
        return end
    word_end = end_of_word(data, closing.end())
    return word_end if _LETTERS.search(data, closing.end(), word_end) is not None else end


_SUBSTITUTION_END = re.compile(rb"[\"']?[)`]")
_LETTERS = re.compile(rb"[A-Za-z0-9\x80-\xff]")


def _end_of_joined(data: bytes, end: int, start: int) -> int:
    """Return the end of the last of several quoted texts that are joined to one: 'a' + 'b', 'a' 'b', 'a' on lines."""
    quote = data[start - 1 : start]
    for _ in range(_MOST_JOINED):
        escapes = 0
        while data[end + escapes : end + escapes + 1] == b"\\":
            escapes += 1
        join = _JOIN.match(data, end + escapes + 1)
        # With an operator, they may be in different quotes.
        if join is None or (join[3] != quote and join[1] is None):
            return end
        after = end_of_quotes(data, join.end(), join[3], len(join[2]))
        behind = data[after + len(join[2]) + 1 : after + len(join[2]) + 3].lstrip()[:1]
        if after >= len(data) or behind in (b":", b"="):
            return end
        end = after
    return end


def _is_expression(
    data: bytes, head: re.Match[bytes], keys: KeyMatcher, is_inside: Callable[[int], bool]
) -> bool:
    text = head[0]
    if head[1] is not None:
        if _DIGITS.search(_WITH_DIGITS.sub(b"", text)) is not None:
            return False
        return data.find(b")" if head[1] == b"(" else b"]", head.end(), head.end() + _LONGEST) >= 0
    first = _WORD.search(text)
    if first is not None and is_keyword(first[0]) and text.find(b" ") > 0:
        return True
    behind = data[head.end() : head.end() + 12]
    if re.match(rb"\s?(?:\?\?|\|\||\bor\b|\?:|if\b|\? )\s?", behind) is not None and (
        b"." in text or b"_" in text or text.isupper()
    ):
        return True
    if data[head.end() : head.end() + 1] not in b",;)}]" and is_inside(head.end()):
        return False
    parts = re.split(rb"\.|->|::|\?\.", text.lstrip(b"&*!@$"))
    if len(parts) < 2:
        return text[:1] in b"&*!$" and keys.label(parts[0].decode()) is not None
    if parts[0].split(b" ")[-1].lower() in _ROOTS:
        return True
    # random_password.main.result
    if (
        len(parts) >= _LEAST_PARTS
        and all(_IDENTIFIER.fullmatch(part) is not None for part in parts)
        and b"_" in text
    ):
        return True
    return keys.label(parts[-1].decode()) is not None


def _literals(data: bytes, start: int, label: str, keys: KeyMatcher) -> Iterator[Span]:
    """Find the texts in quotes in the expression at `start`, except those that are names of something."""
    depth = 0
    at, limit = start, min(len(data), start + _LONGEST)
    while at < limit and (match := _STOP.search(data, at, limit)) is not None:
        at = match.end()
        sign = match[0]
        if sign in b"([{":
            depth += 1
        elif sign in b")]}":
            depth -= 1
            if depth < 0:
                return
        elif sign == b",":
            if depth == 0:
                return
        elif sign[-1:] in _QUOTES:
            end = end_of_quotes(data, at, sign[-1:], len(sign) - 1)
            if end >= len(data) or b"\n" in data[at:end]:
                return
            if _is_secret(data, start, match.start(), data[at:end], label, keys):
                yield at, _end_of_joined(data, end, at)
            at = end + len(sign)
        elif depth == 0:
            return


def _is_secret(data: bytes, start: int, at: int, value: bytes, label: str, keys: KeyMatcher) -> bool:
    if is_harmless(keys, label, value):
        return False
    before = data[max(start, at - 160) : at].rstrip(b"bBrRuUfF")
    if _FALLBACK.search(before[-24:]) is not None:
        return True
    keyword = _KEYWORD.search(before[-48:])
    if keyword is not None:
        return keyword[1] in _HOLDING or keys.label(keyword[1].decode()) is not None or is_mixed(value)
    opening = before.rstrip()
    if opening.endswith(b"["):
        return _LIST.search(opening[-16:]) is not None
    called = re.search(rb"([\w.$:>-]{1,80})(?:<[\w<>, ]{0,40}>)?\($", opening)
    if called is not None and _LOOKUP.search(called[1]) is None:
        return True
    if (
        opening.endswith(b",")
        and re.search(rb"(?:getenv|environ\.get|env|get|getProperty|GetEnv\w*)\([^()]{1,80},$", opening)
        is not None
    ):
        return True
    return _STRONG.fullmatch(value) is not None and called is None


_DECLARED_TYPE = re.compile(rb"\b(?:type|interface|enum|class|struct|typedef)[ ]\Z")
_NAME = re.compile(rb"[\w.\x80-\xff-]{1,40}+")


def _name_at(data: bytes, begin: int) -> bytes:
    """Return the name that begins at a place, if it is one word."""
    match = _NAME.match(data, begin)
    return b"" if match is None else match[0]
