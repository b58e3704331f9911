"""find_assignments(): secret values in text, behind the names of their fields."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nat_observability.processors.keys import UNSURE, KeyMatcher, is_verdict
from nat_observability.processors.tokens import Found
from nat_observability.processors.windows import matches, search

# A name, in quotes or not, and what assigns: password=x, "password": "x", 'password' => 'x', [("password", "x")],
# --password=x, and in Markdown **password**: x. With escaped quotes and escaped line ends too, where JSON is in a text
# of which it is a part. A name begins where the word begins, and takes the whole word at once, so that no word is
# looked at twice.
_NAME = rb"[A-Za-z0-9_\x80-\xff][A-Za-z0-9_.\-\x80-\xff]*+"
_BEGIN = rb"(?:(?<![A-Za-z0-9_.\-\x80-\xff\\])|(?<=\\)(?![nrtbf])|(?<=\\[nrtbf]))[.-]*+"
# Blanks and line ends, escaped ones too, where JSON is in a text of which it is a part; of a form a plus sign is one.
_SPACE = rb"(?:[\s+]|\\++[nrt]){0,64}+"
_ASSIGNED = re.compile(
    _BEGIN
    + b"("
    + _NAME
    + rb""")(?:(?:\\{0,256}+["'\]]){1,3}+"""
    + _SPACE
    + rb"""(?:=>|:=|={1,3}+|:|,)|(?:\\{0,256}+["'])?+[*`]{1,8}+[ \t+]{0,8}+(?:=>|:=|={1,3}+|:)"""
    + rb"""|(?:\s{0,8}+|\+(?=[=:]\+))(?:=>|:=|={1,3}+|:(?!//)))"""
)
# {"name": "password", "value": "x"}, <a name="password" value="x"/>, and in YAML name: password and value: x, each on
# a line of its own.
_NAMED = re.compile(
    rb"""(?:["']([A-Za-z0-9_. +\-\x80-\xff]{1,80}+)\\{0,256}+["']"""
    + rb"""|(?<![A-Za-z0-9])(?:[Nn]ame|[Kk]ey|header):[ \t+]{1,8}+([A-Za-z0-9_. +\-\x80-\xff]{1,80}+)(?=\s|\\|,))"""
    + _SPACE
    + b",?"
    + _SPACE
    + rb"""(?:\\{0,256}+["'])?[Vv]alue(?:\\{0,256}+["'])?"""
    + _SPACE
    + b"[:=]"
)
# [["password", "x"]] in YAML.
_ITEMS = re.compile(
    rb"""-[ +]-[ +](?:\\{0,256}+["'])?([A-Za-z0-9_. +\-\x80-\xff]{1,80}+)(?:\\{0,256}+["'])?(?:\s|\\++[nr])"""
    + _SPACE
    + b"-[ +]"
)
_TAG = re.compile(rb"<([\w.:-]++)(?:\s[^<>]{0,512})?>(?!</)")
_FLAG = re.compile(
    rb"""(?:(?<![\w.-])|(?<=\\[nrtbf]))--([A-Za-z][\w.-]*+)(?:[ \t+]{1,8}+(?!-)|\\{0,256}+["']"""
    + _SPACE
    + b","
    + _SPACE
    + rb"""(?!\\*+["']-)|(?:\\{0,256}+["'])?(?:\r?\n|\\++n)"""
    + _SPACE
    + rb"""-[ +](?!\\*+["']?-))"""
)

_QUOTED = re.compile(_SPACE + rb"""[*_]{0,3}+[bBrRuUfF]{0,2}(\\*+)(\"{3}|'{3}|["']|`(?!`))""")
# In two backticks or more, with single ones in it. Those on the next line are around a block of code.
_CODE = re.compile(rb"[ \t+]{0,64}+[*_]{0,3}+(`{2,16}+)")
# What ends an emphasis: **password:** x
_EMPHASIS = re.compile(rb"[*_`]{1,5}+(?=[\s+]|\\++[nrt]|\Z)")
_LONGEST_EMPHASIS = 64  # bytes before the name
_BRACKET = re.compile(_SPACE + rb"(?=[{\[])(?!\[redacted:)")
_BLANKS = re.compile(rb"[ \t+]{0,64}+")
# To the end of a line, or of the quotes around name and value.
_LINE = re.compile(rb"[^\r\n]*+")
# A comma, semicolon or ampersand ends a value where something else begins.
_WORD = re.compile(
    rb"""(?:[^\s"'`<>&;,]|&(?![\w.%\[\]-]{1,64}=)|;(?!\s|\Z|[\w .-]{1,64}=)|,(?!\s|\Z|[\w."'-]{1,64}[=:]))++"""
)
_ITEM = re.compile(rb"(?:[^\r\n;\"']|;(?!\s|\Z|[\w .-]{1,64}=))*+")
# Of YAML: what a block begins with, and the beginning of a line.
_BLOCK = re.compile(rb"[|>][0-9]?[+-]?[ \t+]*+(?=\r?\n|\\++[rn])")
_NEW_LINE = re.compile(rb"(?:\r?\n|(?:\\++r)?(\\++)n)([ \t+]*+)(-(?=[ +]))?")
_FIRST_ON_LINE = re.compile(rb"""(?:^|\n|\\n|["'`])((?:[ \t+-]|\*(?=[ +]))*+)(?:\\*+["']|\*{1,3}+)?\Z""")
_LONGEST_INDENT = 256  # bytes
_QUOTES = frozenset((b'"', b"'", b"`"))
_BEFORE_PASS = re.compile(
    rb"""(?:(?:^|\n|\\[nr]|[,;({\[&?|/>])[ \t+]*+(?:[-*][ +]+)?[*_]{0,3}+\\*+["'`]?|["'`][*_]{0,3}+)\Z"""
)
_BEHIND_PASS = re.compile(rb"""[ \t+]*+(?:\Z|[\r\n,;)}\]"'`|&#<>\\*])""")
_ESCAPED_LINE_END = re.compile(rb"\\[nr]")
# Not in the middle of backslashes: each would be the beginning of another look at the rest of them.
_ESCAPED_END = re.compile(rb"""(?<!\\)(\\*+)([nr"'`])""")
_ESCAPED_SPACE = re.compile(rb"\\++[nrt]")
_BEFORE_QUOTE = frozenset(b" \t+:,-[{(=")
_EMPTY = frozenset((b"null", b"none", b"nil", b"true", b"false", b"undefined"))
_OPENING = {ord("{"): ord("}"), ord("["): ord("]")}
_PAIR = re.compile(
    rb"""[(\[]""" + _SPACE + rb"""[bBrRuUfF]{0,2}\\{0,256}+["'][A-Za-z0-9_. +\-\x80-\xff]{0,80}\Z"""
)
_BLANK = b" +"
_IN_NAMES = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-" + bytes(range(0x80, 0x100))
_IN_WORDS = _IN_NAMES + _BLANK
_CLOSING_BRACKETS = b")]}"
_TEXT = re.compile(rb"[A-Za-z0-9\x80-\xff]")
_BEHIND_STRUCTURE = frozenset((b")", b"]", b"}", b",", b";", b":", b"."))
_IN_STRUCTURE = frozenset((b'"', b"'", b"\\", b"{", b"[", b"]", b"}", b" ", b"\n", b"\r", b"\t"))
_CLOSING = {close: open_ for open_, close in _OPENING.items()} | {ord(")"): ord("(")}
_STRUCTURE = re.compile(rb"[\"'\[\]{}]")
_LONGEST_HEADER = 8192  # bytes
_LONGEST_BEFORE = 1024  # bytes before a name that say what it is
_LONGEST_VERDICT = 2048  # bytes: what is longer, on one line, is a password
_MOST_WORDS = 4  # of a name without quotes: x amz security token: x
_HEADERS = ("authorization", "cookie", "cookies")  # with spaces, quotes and commas in their values


def find_assignments(
    data: bytes, keys: KeyMatcher, start: int = 0, stop: int | None = None
) -> Iterator[Found]:
    """Find the values in `data` that belong to secret names which end between `start` and `stop`."""
    stop = len(data) if stop is None else stop
    reached = start
    while reached < stop and (match := search(_ASSIGNED, data, reached, stop)) is not None:
        reached = match.end()
        found = _label(data, match, keys)
        if found is None:
            continue
        label, name_begin = found
        if data[match.end() - 1] == 0x2C and not _opens_pair(data, match.start()):
            continue
        if label == UNSURE:
            begin, end = _password(data, match, name_begin)
        else:
            begin, end = _value(data, name_begin, match.end(), label)
        if end > begin:
            yield begin, end, label
            reached = end


def find_others(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    """Find the values in `data` that belong to secret names without an assignment: flags, tags, pairs by name."""
    if b"alue" in data:
        yield from _behind(_NAMED, data, keys)
    if b"- - " in data or b"-+-+" in data:
        yield from _behind(_ITEMS, data, keys)
    if b"--" in data:
        yield from _behind(_FLAG, data, keys)
    # What ends the value may be behind a cut.
    if b"</" in data or b"[cut:" in data:
        reached = 0
        for match in matches(_TAG, data):
            if match.start() >= reached and (label := keys.label(_text(match[1]))) is not None:
                end = data.find(b"</", match.end())
                reached = end if end >= 0 else len(data)
                if not is_verdict(label, data[match.end() : reached]):
                    yield match.end(), reached, label


def _behind(expression: re.Pattern[bytes], data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    reached = 0
    for match in matches(expression, data):
        # Not inside a value that was found: each byte is looked at once.
        if match.start() < reached:
            continue
        name = _text(match[match.lastindex or 0].replace(b"+", b""))
        if (label := keys.label(name)) is not None:
            start, end = _value(data, match.start(), match.end(), label)
            if end > start and not is_verdict(label, data[start:end]):
                reached = end
                yield start, end, label


def _is_password(data: bytes, match: re.Match[bytes], start: int, end: int, *, is_cut: bool) -> bool:
    """
    Say whether what stands behind the name `pass` is a password, and not what has passed, or a word in a sentence.

    Behind an equals sign it is one. Behind a colon the name begins a line or a phrase, and an unquoted value ends it:
    neither "first pass: compile it", nor "pass: it is right", nor "PASS: test_it".
    """
    value = data[start:end]
    if is_verdict(UNSURE, value) or b"\n" in value or value.startswith((b"\\", b"{", b"[")):
        return value.startswith(b"[redacted:")
    assigns = data[match.end() - 1 : match.end()]
    if assigns != b":":
        return assigns == b"="
    name_begin = match.start(1)
    is_quoted = data[name_begin - 1 : name_begin] in _QUOTES
    if match[1].isupper() and not is_quoted:
        return False
    if _BEFORE_PASS.search(data, max(0, name_begin - _LONGEST_INDENT), name_begin) is None:
        return False
    if data[start - 1 : start] in _QUOTES or is_cut:
        return True
    line_end = _ESCAPED_LINE_END.search(data, start, end)
    return line_end is not None or _BEHIND_PASS.match(data, end) is not None


def _label(data: bytes, match: re.Match[bytes], keys: KeyMatcher) -> tuple[str, int] | None:
    """Return what the mark for a value says, and where the name of it begins; None where it is not secret."""
    name = _text(match[1])
    label = keys.label(name)
    start = match.start(1)
    if label is not None and label != UNSURE:
        return label, match.start()
    if start:
        before = data[start - 1]
        if before in b" +":
            # Several words, in quotes or not: {'shared access key': 'x'}, API key: x. What stands behind a bracket or a
            # comma begins anew.
            words = data[max(0, start - 64) : start]
            quote = max(words.rfind(b'"'), words.rfind(b"'"))
            quoted = words[quote + 1 :] if quote >= 0 else b""
            for further in (
                *([quoted] if quoted and not quoted.strip(_IN_WORDS) else []),
                *_last_words(words),
            ):
                longer = keys.label(_text(further.translate(None, _BLANK)) + name)
                if longer is not None and longer != UNSURE:
                    return longer, start - len(further.lstrip(_BLANK))
        elif label is None and data[max(0, start - 2) : start - 1] == b"\\":
            # No escape, but a name after a backslash: DOMAIN\token=x.
            label = keys.label(chr(before) + name)
    return None if label is None else (label, match.start())


def _last_words(text: bytes) -> Iterator[bytes]:
    """Return the last word of `text`, the last two, and so on, each to the end of `text`."""
    at = len(text)
    for _ in range(_MOST_WORDS - 1):
        word_end = len(text[:at].rstrip(_BLANK))
        at = len(text[:word_end].rstrip(_IN_NAMES))
        if at == word_end:
            return
        yield text[at:]


def _opens_pair(data: bytes, start: int) -> bool:
    """Say whether a quoted name is the first of a pair: [("password", "x")], [b"password", b"x"]."""
    return _PAIR.search(data, max(0, start - 512), start) is not None


def _password(data: bytes, match: re.Match[bytes], begin: int) -> tuple[int, int]:
    """
    Return what `_value` does for the name `pass`, an empty place if what follows it is not a password.

    That is decided by the next few kilobytes: what follows each of many names may be the same long text.
    """
    first, at = max(0, begin - _LONGEST_BEFORE), match.end()
    window = data[first : at + _LONGEST_VERDICT]
    start, end = (place + first for place in _value(window, begin - first, at - first, UNSURE))
    is_cut = end == first + len(window) < len(data)
    if not _is_password(data, match, start, end, is_cut=is_cut):
        return start, start
    return _value(data, begin, at, UNSURE) if is_cut else (start, end)


def _value(data: bytes, begin: int, at: int, label: str) -> tuple[int, int]:
    """Return where the value at `at` begins and ends, of a name that begins at `begin`."""
    at = _end_of_emphasis(data, begin, at)
    code = _CODE.match(data, at)
    if code is not None:
        return code.end(), _end_of_quotes(data, code.end(), code[1], 0)
    quoted = _QUOTED.match(data, at)
    if quoted is not None:
        start = quoted.end()
        return start, _end_of_quotes(data, start, quoted[2], len(quoted[1]))
    start = _end(_BLANKS, data, at)
    around = data[begin - 1 : begin] if begin else b""
    if around in (b'"', b"'", b"`") and around not in data[begin:at]:
        # The quotes are around both: -H "Authorization: Basic x".
        end = data.find(around, start, start + _LONGEST_HEADER)
        if end >= 0 and data.find(b"\n", start, end) < 0:
            return start, end - _backslashes(data, end)
    block = _BLOCK.match(data, start)
    if label == UNSURE and (
        _BRACKET.match(data, at) is not None or (block is None and _NEW_LINE.match(data, start) is not None)
    ):
        return start, start  # no password, however far it goes
    lines = start if block is None else block.end()
    lines_end = _end_of_lines(data, begin, lines, is_block=block is not None)
    if lines_end > start:
        return start, lines_end
    bracket = _BRACKET.match(data, at)
    if label.endswith(_HEADERS) and (bracket is None or bracket.end() > start):
        return start, _end(_LINE, data, start)
    if bracket is not None:
        start = bracket.end()
        return start, _end_behind_brackets(data, start, _end_of_brackets(data, start))
    if around == b";":
        # Of a connection string, where a value may have spaces in it.
        return start, _end(_ITEM, data, start)
    end = _end_of_word(data, start)
    return (start, start) if data[start:end].lower().rstrip(b")]},;.") in _EMPTY else (start, end)


def _end_of_emphasis(data: bytes, begin: int, at: int) -> int:
    """Return where an emphasis of Markdown ends that ends at `at`, and began before the name at `begin` or with it."""
    match = _EMPHASIS.match(data, at)
    if match is None:
        return at
    before = data[max(0, begin - _LONGEST_EMPHASIS) : at].rpartition(b"\n")[2]
    opening = match[0][::-1]
    # What is in backticks may be a value too: password=`x`.
    is_open = before.count(b"`") % 2 == 1 if b"`" in opening else opening in before
    return match.end() if is_open else at


def _end_of_lines(data: bytes, begin: int, at: int, *, is_block: bool) -> int:
    """
    Return where the lines end that belong to a name of YAML at `begin` for being further to the right, or `at`.

    Without the sign of a block, they begin with an item of a list, or the name is the first on its line: what follows
    `if password:` is something else.
    """
    line = _NEW_LINE.match(data, at)
    if line is None:
        return at
    before = _FIRST_ON_LINE.search(data, max(0, begin - _LONGEST_INDENT), begin)
    if before is not None:
        indent = len(before[1])
    elif is_block or line[3] is not None:
        indent = len(line[2]) - 1
    else:
        return at
    if line.end() < len(data) and data[line.end()] in _OPENING and line[3] is None:
        return at
    end = at
    escapes = len(line[1] or b"")
    while (
        line is not None and len(line[2]) + (line[3] is not None) > indent and len(line[1] or b"") == escapes
    ):
        end = (
            _end(_LINE, data, line.end()) if not escapes else _end_of_escaped_line(data, line.end(), escapes)
        )
        line = _NEW_LINE.match(data, end)
    return end


def _end_of_escaped_line(data: bytes, at: int, escapes: int) -> int:
    """Return where a line ends in a text in quotes, before the line end with so many backslashes or the last quote."""
    inner: tuple[bytes, bytes] | None = (
        None  # the quotes of a value on that line, where others are around all lines
    )
    for match in matches(_ESCAPED_END, data, at):
        if match[2] == b"n" or match[2] == b"r":
            if len(match[1]) == escapes:
                return match.start()
        elif len(match[1]) < escapes:
            quote = (match[1], match[2])
            if quote == inner:
                inner = None
            elif inner is None:
                if data[match.start() - 1] not in _BEFORE_QUOTE:
                    return match.start()
                inner = quote
    return len(data)


def _end_of_word(data: bytes, start: int) -> int:
    """Return where a word ends, before the brackets at its end that were opened before it: f(password=x)."""
    end = _end(_WORD, data, start)
    word_end = start + len(data[start:end].rstrip(_CLOSING_BRACKETS))
    if word_end == end:
        return end
    unopened = {
        close: data.count(close, start, end) - data.count(open_, start, end)
        for close, open_ in _CLOSING.items()
    }
    while end > word_end and unopened[data[end - 1]] > 0:
        end -= 1
        unopened[data[end]] -= 1
    return end


def _end_behind_brackets(data: bytes, start: int, end: int) -> int:
    """
    Return where a value ends that begins with brackets, which end at `end`: {SSHA}x, [a]x.

    What follows those of a list or an object is not part of the value if it closes or separates something.
    """
    if data[end : end + 1] in _BEHIND_STRUCTURE and data[start + 1 : start + 2] in _IN_STRUCTURE:
        return end
    if _ESCAPED_SPACE.match(data, end) is not None:
        return end
    word_end = _end_of_word(data, end)
    return word_end if _TEXT.search(data, end, word_end) is not None else end


def _end_of_quotes(data: bytes, start: int, quote: bytes, depth: int) -> int:
    """Return where the text ends that was opened by a quote after `depth` backslashes, or where everything ends."""
    end = data.find(quote, start)
    while end >= 0:
        escapes = _backslashes(data, end)
        # As many as before the opening one, or an even number of them before a plain quote, or the quotes around.
        if escapes <= depth or (depth == 0 and escapes % 2 == 0):
            return end - (escapes if depth else 0)
        end = data.find(quote, end + 1)
    return len(data)


def _backslashes(data: bytes, at: int) -> int:
    """Return how many backslashes there are before `at`."""
    window = data[max(0, at - 4096) : at]
    return len(window) - len(window.rstrip(b"\\"))


def _end_of_brackets(data: bytes, start: int) -> int:
    """Return where the bracket at `start` is closed, or where everything ends."""
    open_brackets: list[int] = []
    at = start
    while (match := search(_STRUCTURE, data, at)) is not None:
        at = match.end()
        code = data[at - 1]
        if code in _OPENING:
            open_brackets.append(_OPENING[code])
        elif code in (0x22, 0x27):
            at = _end_of_quotes(data, at, match[0], _backslashes(data, at - 1)) + 1
            at += _escapes_after(data, at - 1)
        elif open_brackets and code == open_brackets[-1]:
            open_brackets.pop()
            if not open_brackets:
                return at
    return len(data)


def _escapes_after(data: bytes, at: int) -> int:
    """Return how many backslashes stand at `at`: those of the quote that follows them."""
    window = data[at : at + 4096]
    return len(window) - len(window.lstrip(b"\\"))


def _end(expression: re.Pattern[bytes], data: bytes, at: int) -> int:
    match = expression.match(data, at)
    return at if match is None else match.end()


def _text(name: bytes) -> str:
    return name.decode(errors="replace")
