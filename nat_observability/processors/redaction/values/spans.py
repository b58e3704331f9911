"""Where the value of a field begins and ends in text: in quotes, brackets or lines, or at the end of a word."""

from __future__ import annotations

import re

from nat_observability.processors.redaction.names.keys import UNSURE
from nat_observability.processors.redaction.text.windows import matches, search
from nat_observability.processors.redaction.values.verdicts import is_mixed, is_passing
from nat_observability.processors.redaction.values.words import (
    IN_VALUE,
    OPENING,
    QUOTES,
    WORD,
    backslashes,
    end_at,
    end_of_pieces,
    end_of_quotes,
    end_of_word,
)

# Blanks and line ends, also escaped ones, as in JSON inside a text. In a form, a plus sign is a blank.
SPACE = rb"(?:[\s+]|\\++[nrt]){0,64}+"

_QUOTED = re.compile(
    SPACE + rb"""[*_]{0,3}+(?:[rR]#{1,3}|u8|[bBrRuUfFNEL@$]{0,2})(\\*+)(\"{3}|'{3}|["']|`(?!`))"""
)
# Two backticks or more, around text with single ones. Those on the next line enclose a block of code.
# YAML: what a value is, before it.
_KIND = re.compile(rb"[ \t+]{1,64}+(?:!{1,2}[A-Za-z][\w:./-]{0,40}+|&[A-Za-z][\w-]{0,40}+)(?=[ \t](?!=)\S)")
_HEREDOC = re.compile(rb"[ \t]{0,64}<<[-~]?[\"']?([A-Za-z_]\w{0,30})[\"']?[ \t]{0,8}\r?\n")
_LONGEST_HEREDOC = 8192  # bytes
_CODE = re.compile(rb"[ \t+]{0,64}+[*_]{0,3}+(`{2,16}+)")
# The end of Markdown emphasis: **password:** x
_EMPHASIS = re.compile(rb"[*_`]{1,5}+(?=[\s+]|\\++[nrt]|\Z)")
_LONGEST_BEFORE_CLOSING = 4  # bytes between a sign and a quote
_LONGEST_EMPHASIS = 64  # bytes before the name
_BRACKET = re.compile(SPACE + rb"(?=[{\[]|\([\s\\nr]{0,16}[bBrRuUfF]{0,2}\\{0,16}[\"'])(?!\[redacted:)")
_BLANKS = re.compile(rb"[ \t+]{0,64}+")
# t=1767225600,v1=5257a8
_STAMPED = re.compile(
    rb"(?:t|ts|timestamp|v[0-9]{1,2}|sha[0-9]{1,3})=[^\s,;\"'`\\\[]{1,256}"
    rb"(?:[,;](?:[A-Za-z][\w-]{0,15}|[ ](?:v[0-9]{1,2}|s|t|ts|sig|signature|sha[0-9]{1,3}|hmac))=[^\s,;\"'`\\]{1,256}"
    rb"){1,16}"
)
# <x> is mostly the name of what is to be put there.
_IN_ANGLES = re.compile(rb"<(?![/!?])([^\s<>\"'=]{8,200})>(?![^\n]{0,400}</)")
_LINE = re.compile(rb"[^\r\n]*+")
_ITEM = re.compile(rb"(?:[^\r\n;\"']|;(?!\s|\Z|[\w .-]{1,64}=))*+")
# YAML: the sign of a block, and the beginning of a line.
_BLOCK = re.compile(rb"[|>][0-9]?[+-]?[ \t+]*+(?=\r?\n|\\++[rn])")
_NEW_LINE = re.compile(rb"(?:\r?\n|(?:\\++r)?(\\++)n)([ \t+]*+)(-(?=[ +]))?")
_FIRST_ON_LINE = re.compile(rb"""(?:^|\n|\\n|["'`])((?:[ \t+-]|\*(?=[ +]))*+)(?:\\*+["']|\*{1,3}+)?\Z""")
_FIRST_WITH_QUOTES = re.compile(rb"""(?:^|\n|\\n)((?:[ \t+-]|\*(?=[ +]))*+)\\*+["'`]\Z""")
_IN_MAP = re.compile(rb"""[{,](?:\s|\\[nrt]){0,64}\\*+["'`]\Z""")
_PAIR = re.compile(rb"[\w.-]=[^\s=]")
_LONGEST_INDENT = 256  # bytes
_BEFORE_PASS = re.compile(
    rb"""(?:(?:^|\n|\\[nr]|[,;({\[&?|/>])[ \t+]*+(?:[-*][ +]+)?[*_]{0,3}+\\*+["'`]?|["'`][*_]{0,3}+)\Z"""
)
_BEHIND_PASS = re.compile(rb"""[ \t+]*+(?:\Z|[\r\n,;)}\]"'`|&#<>\\*])""")
_ESCAPED_LINE_END = re.compile(rb"\\[nr]")
# Starts only at the first of several backslashes: a try from each of them would take quadratic time.
_ESCAPED_END = re.compile(rb"""(?<!\\)(\\*+)([nr"'`])""")
_ESCAPED_SPACE = re.compile(rb"\\++[nrt]")
_BEFORE_QUOTE = frozenset(b" \t+:,-[{(=")
_LONGEST_LOOK_AHEAD = 80  # bytes: behind a comma or an ampersand, whether another field follows
_FURTHER_LINES = frozenset((b"", b"\r", b"\n", b"\\", b"|", b">"))
_EMPTY = frozenset((b"null", b"none", b"nil", b"true", b"false", b"undefined"))
_TEXT = re.compile(rb"[A-Za-z0-9\x80-\xff]")
_BEHIND_STRUCTURE = frozenset((b")", b"]", b"}", b",", b";", b":", b"."))
_IN_STRUCTURE = frozenset((b'"', b"'", b"\\", b"{", b"[", b" ", b"\n", b"\r", b"\t"))
_AFTER_QUOTE = re.compile(rb"""(["'])?+(?=[A-Za-z0-9\x80-\xff])(?![\w.-]{1,64}[=:])""")
_FOLDED = re.compile(rb"(\r\n|\n)([ \t]++)(?=\S)[^\r\n]*+")
_MOST_FOLDED = 32  # lines
_STRUCTURE = re.compile(rb"[\"'\[\]{}()]")
_LONGEST_HEADER = 8192  # bytes
_CONTEXT = 1024  # bytes before a name on which the end of its value depends
_LONGEST_VERDICT = 2048  # bytes: anything longer on one line is a password
# Their values have spaces, quotes and commas in them.
_HEADERS = ("authorization", "cookie", "cookies", "websocket_protocol")


def value_span(data: bytes, begin: int, at: int, label: str) -> tuple[int, int]:
    """
    Return where the value at `at` begins and ends.

    Args:
        begin: Where the name of the field begins.
        label: The label of the name: headers such as cookies have spaces in their values.
    """
    at = _end_of_emphasis(data, begin, at)
    at = end_at(_KIND, data, at) if data[at - 1 : at] == b":" else at
    code = _CODE.match(data, at)
    if code is not None:
        return code.end(), end_of_quotes(data, code.end(), code[1], 0)
    heredoc = _HEREDOC.match(data, at)
    if heredoc is not None:
        return heredoc.end(), _end_of_heredoc(data, heredoc)
    quoted = _QUOTED.match(data, at)
    if quoted is not None and _closes(data, begin, at, quoted):
        # print("token:", "x1"), "password=" + "x1"
        apart = _IN_NEXT_QUOTES.match(data, quoted.end(), quoted.end() + _LONGEST_APART)
        return (at, at) if apart is None else apart.span(2)
    if quoted is not None:
        start = quoted.end()
        signs = quoted[0].count(b"#")
        if signs:
            # r#"x"#, in which there may be quotes.
            end = data.find(quoted[2] + b"#" * signs, start)
            return start, len(data) if end < 0 else end
        end = end_of_quotes(data, start, quoted[2], len(quoted[1]))
        return (start, end) if quoted[1] else _with_what_follows(data, start, end, quoted[2])
    start = end_at(_BLANKS, data, at)
    around = data[begin - 1 : begin] if begin else b""
    if around in QUOTES and around not in data[begin:at]:
        # The quotes enclose both name and value: -H "Authorization: Basic x".
        end = data.find(around, start, start + _LONGEST_HEADER)
        if end >= 0 and data.find(b"\n", start, end) < 0:
            return start, end - backslashes(data, end)
    block = _BLOCK.match(data, start)
    lines = start if block is None else block.end()
    lines_end = _end_of_lines(data, begin, lines, is_block=block is not None)
    if lines_end > start:
        return start, lines_end
    bracket = _BRACKET.match(data, at)
    if label.endswith(_HEADERS) and (bracket is None or bracket.end() > start):
        return start, _end_of_header(data, begin, start)
    if bracket is not None:
        start = bracket.end()
        return start, _end_behind_brackets(data, start, _end_of_brackets(data, start))
    if around == b";":
        # In a connection string, a value may have spaces.
        return start, end_at(_ITEM, data, start)
    stamped = _STAMPED.match(data, start, start + _LONGEST_HEADER) if label.endswith("signature") else None
    if stamped is not None:
        return stamped.span()
    angled = _IN_ANGLES.match(data, start, start + 256)
    if angled is not None and is_mixed(angled[1]):
        return angled.span(1)
    end = end_of_word(data, start)
    return (start, start) if data[start:end].lower().rstrip(b")]},;.") in _EMPTY else (start, end)


def bare_value(data: bytes, begin: int, at: int, label: str) -> tuple[int, re.Pattern[bytes]] | None:
    """
    Return where a value without quotes around it begins, and what it goes on with, without a search for its end.

    None if it is in quotes, on further lines, or empty.

    Args:
        begin: Where the name of the field begins.
        label: The label of the name.
    """
    at = _end_of_emphasis(data, begin, at)
    at = end_at(_KIND, data, at) if data[at - 1 : at] == b":" else at
    if any(form.match(data, at) is not None for form in (_CODE, _QUOTED, _HEREDOC)):
        return None
    start = end_at(_BLANKS, data, at)
    around = data[begin - 1 : begin] if begin else b""
    if data[start : start + 1] in _FURTHER_LINES or (around in QUOTES and around not in data[begin:at]):
        return None
    rest = _LINE if label.endswith(_HEADERS) else _ITEM if around == b";" else WORD
    return (start, rest) if goes_on(data, start, rest) else None


def goes_on(data: bytes, at: int, rest: re.Pattern[bytes]) -> bool:
    """Say whether a value whose rest matches an expression goes on at a place."""
    return end_at(rest, data, at, at + _LONGEST_LOOK_AHEAD) > at


def password_span(data: bytes, match: re.Match[bytes], begin: int) -> tuple[int, int]:
    """
    Return where the value of the name `pass` begins and ends: an empty span if it is not a password.

    The next few kilobytes decide that. Looking further would take quadratic time if many such names stand before the
    same long text.

    Args:
        match: Ends where the value begins; its first group is the name.
        begin: Where the name begins, with the words before it.
    """
    at = match.end()
    blanks = end_at(_BLANKS, data, at)
    if _QUOTED.match(data, at) is None and (
        _BRACKET.match(data, at) is not None
        or (_BLOCK.match(data, blanks) is None and _NEW_LINE.match(data, blanks) is not None)
    ):
        return at, at
    first = max(0, begin - _CONTEXT)
    window = data[first : at + _LONGEST_VERDICT]
    start, end = (place + first for place in value_span(window, begin - first, at - first, UNSURE))
    is_cut = end == first + len(window) < len(data)
    if not _is_password(data, match, start, end, is_cut=is_cut):
        return start, start
    return value_span(data, begin, at, UNSURE) if is_cut else (start, end)


def _is_password(data: bytes, match: re.Match[bytes], start: int, end: int, *, is_cut: bool) -> bool:
    """
    Say whether the value of the name `pass` is a password, and neither a verdict nor a word in a sentence.

    After an equals sign it is one. After a colon, it is one if the name begins a line or a phrase and an unquoted value
    ends it, which excludes "first pass: compile it", "pass: it is right" and "PASS: test_it".

    Args:
        is_cut: Whether the value goes on after `end`.
    """
    value = data[start:end]
    if is_passing(value) or b"\n" in value or value.startswith((b"\\", b"{", b"[")):
        return value.startswith(b"[redacted:")
    sign = data[match.end() - 1 : match.end()]
    if sign != b":":
        return sign == b"="
    name_begin = match.start(1)
    is_quoted = data[name_begin - 1 : name_begin] in QUOTES
    if match[1].isupper() and not is_quoted:
        return False
    if _BEFORE_PASS.search(data, max(0, name_begin - _LONGEST_INDENT), name_begin) is None:
        return is_mixed(value)
    if data[start - 1 : start] in QUOTES or is_cut:
        return True
    line_end = _ESCAPED_LINE_END.search(data, start, end)
    return is_mixed(value) or line_end is not None or _BEHIND_PASS.match(data, end) is not None


def _end_of_emphasis(data: bytes, begin: int, at: int) -> int:
    """Return the end of the Markdown emphasis that closes at `at` and opened at or before the name, or `at`."""
    match = _EMPHASIS.match(data, at)
    if match is None:
        return at
    before = data[max(0, begin - _LONGEST_EMPHASIS) : at].rpartition(b"\n")[2]
    opening = match[0][::-1]
    # Backticks may also enclose the value: password=`x`.
    is_open = before.count(b"`") % 2 == 1 if b"`" in opening else opening in before
    return match.end() if is_open else at


def _end_of_lines(data: bytes, begin: int, at: int, *, is_block: bool) -> int:
    """
    Return the end of the YAML lines that belong to the name at `begin` because they are indented further, or `at`.

    Without the sign of a block, they must begin with a list item, or the name must be the first on its line: the lines
    after `if password:` are not its value.
    """
    line = _NEW_LINE.match(data, at)
    if line is None:
        return at
    begins = max(0, begin - _LONGEST_INDENT)
    around = data[begin - 1 : begin] if begin else b""
    if around in QUOTES and around in data[begin:at]:
        # A name in quotes: if it is no key of a map, it is the end of a statement, such as `case 'token':`.
        before = _FIRST_WITH_QUOTES.search(data, begins, begin)
        indent = -1 if before is None else len(before[1])
        if before is None and _IN_MAP.search(data, begins, begin) and data[at - 2 : at] == around + b":":
            indent = 0
    else:
        before = _FIRST_ON_LINE.search(data, begins, begin)
        indent = -1 if before is None else len(before[1])
    if indent >= 0:
        pass
    elif is_block or line[3] is not None:
        indent = len(line[2]) - 1
    else:
        return at
    if line.end() < len(data) and data[line.end()] in OPENING and line[3] is None:
        return at
    end = at
    escapes = len(line[1] or b"")
    while (
        line is not None and len(line[2]) + (line[3] is not None) > indent and len(line[1] or b"") == escapes
    ):
        end = (
            end_at(_LINE, data, line.end())
            if not escapes
            else _end_of_escaped_line(data, line.end(), escapes)
        )
        line = _NEW_LINE.match(data, end)
    return end


def _end_of_escaped_line(data: bytes, at: int, escapes: int) -> int:
    """
    Return the end of a line inside quotes: the next line end with that many backslashes, or the closing quote.
    """
    # The quotes of a value on that line, if others enclose all lines.
    inner: tuple[bytes, bytes] | None = None
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


_IN_NEXT_QUOTES = re.compile(
    rb"\s{0,8}[,+]?\s{0,8}[bBfFrRuU]{0,2}(\\{0,64}[\"'`])((?=[^\s\"'`]{0,128}[0-9])(?=[^\s\"'`]{0,128}[A-Za-z])[^\s\"'`\\]{6,256})\1"
)
_LONGEST_APART = 360  # bytes


def _closes(data: bytes, begin: int, at: int, quoted: re.Match[bytes]) -> bool:
    """Say whether the quote at a value is the one that closes what encloses the name too: "Password: "."""
    around = data[begin - 1 : begin] if begin else b""
    return (
        around in QUOTES
        and around == quoted[2]
        and around not in data[begin:at]
        and quoted.end() - at <= _LONGEST_BEFORE_CLOSING
        and IN_VALUE.match(data, quoted.end()) is None
    )


def _end_of_heredoc(data: bytes, opening: re.Match[bytes]) -> int:
    """Return where the lines end that one with the same word as the opening closes."""
    at = opening.end()
    stop = min(len(data), at + _LONGEST_HEREDOC)
    while at < stop:
        line_end = data.find(b"\n", at, stop)
        line_end = stop if line_end < 0 else line_end
        if data[at:line_end].strip() == opening[1]:
            return max(opening.end(), at - 1)
        at = line_end + 1
    return stop


def _end_of_header(data: bytes, begin: int, start: int) -> int:
    """Return where the value of a header ends, with the lines into which it is folded."""
    end = end_at(_LINE, data, start)
    begins_line = data[begin - 1 : begin] in (b"\n", b"")
    before = _FIRST_ON_LINE.search(data, max(0, begin - _LONGEST_INDENT), begin)
    indent = 0 if before is None else len(before[1])
    # In code, parameters are on lines that end with a comma too.
    has_pairs = data[begin:start].rstrip().endswith(b":") and _PAIR.search(data, start, end) is not None
    for _ in range(_MOST_FOLDED):
        folded = _FOLDED.match(data, end)
        if folded is None or not (
            folded[1] == b"\r\n"
            or begins_line
            or (has_pairs and len(folded[2]) > indent and data[start:end].rstrip().endswith((b",", b";")))
        ):
            break
        end = folded.end()
    return end


def _end_behind_brackets(data: bytes, start: int, end: int) -> int:
    """
    Return the end of a value that begins with brackets, which close at `end`: {SSHA}x, [a]x.

    After a list or an object, punctuation is not part of the value.
    """
    if data[end : end + 1] in _BEHIND_STRUCTURE and data[start + 1 : start + 2] in _IN_STRUCTURE:
        return end
    if _ESCAPED_SPACE.match(data, end) is not None:
        return end
    word_end = end_of_word(data, end)
    return word_end if _TEXT.search(data, end, word_end) is not None else end


def _with_what_follows(data: bytes, start: int, end: int, quote: bytes) -> tuple[int, int]:
    """
    Return a quoted value with the letters and digits directly after its closing quote: 'it''s', "a"b.

    Args:
        quote: The quote that opened the value and closes it at `end`.
    """
    while (after := _AFTER_QUOTE.match(data, end + len(quote))) is not None and len(quote) == 1:
        if after[1] is None:
            # With the opening quote, which would otherwise have no other.
            return start - 1, end_of_word(data, after.end())
        # Doubled, as SQL and YAML write a quote inside quotes.
        closing = data.find(quote, after.end(), end + _LONGEST_VERDICT) if after[1] == quote else -1
        if closing < 0 or data.find(b"\n", end, closing) >= 0:
            break
        end = closing
    joined = end_of_pieces(data, start, end + len(quote)) if len(quote) == 1 else end
    return (start - 1, joined) if joined > end + len(quote) else (start, end)


def _end_of_brackets(data: bytes, start: int) -> int:
    """Return the place after the bracket that closes the one at `start`, or the end of everything."""
    open_brackets: list[int] = []
    at = start
    while (match := search(_STRUCTURE, data, at)) is not None:
        at = match.end()
        code = data[at - 1]
        if code in OPENING:
            open_brackets.append(OPENING[code])
        elif code in (0x22, 0x27):
            at = end_of_quotes(data, at, match[0], backslashes(data, at - 1)) + 1
            at += _escapes_after(data, at - 1)
        elif open_brackets and code == open_brackets[-1]:
            open_brackets.pop()
            if not open_brackets:
                return at
    return len(data)


def _escapes_after(data: bytes, at: int) -> int:
    """Return the number of backslashes at `at`, which belong to the quote after them."""
    window = data[at : at + 4096]
    return len(window) - len(window.lstrip(b"\\"))
