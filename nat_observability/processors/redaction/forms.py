"""Forms of code, tools and documents in which the name of a field stands near its value: commands, tags, tables, prose."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from nat_observability.processors.redaction.expressions import secret_spans
from nat_observability.processors.redaction.keys import LIKELY, UNSURE, KeyMatcher
from nat_observability.processors.redaction.marks import Found
from nat_observability.processors.redaction.recognisers import NAME_CHARACTERS
from nat_observability.processors.redaction.values import end_of_quotes
from nat_observability.processors.redaction.verdicts import is_harmless
from nat_observability.processors.redaction.windows import matches

Find = Callable[[bytes, KeyMatcher], Iterator[Found]]

_LONGEST_NAME = 96  # bytes
_LONGEST_VALUE = 1024  # bytes
_MOST_WORDS = 5  # of a name
# What may stand between a name and what follows it.
_AROUND_NAMES = b" 	:*`\"'\\"
_MOST_AROUND = 12
_QUOTE = rb"\\{0,64}[\"'`]"
_STRONG = re.compile(
    rb"(?=[^\s]{0,200}[0-9!@#$%^&*+_~])(?=[^\s]{0,200}[A-Za-z])[^\s\"'`<>]{6,512}|[0-9]{6,64}(?![0-9:.])"
)
_BLANKS = re.compile(rb"[ \t]{0,32}")
_WORD = re.compile(rb"[^\s\"'`<>,;|)\]}\\]{1,512}")


def label_before(
    data: bytes, end: int, keys: KeyMatcher, most_words: int = _MOST_WORDS
) -> tuple[str, int] | None:
    """Return the label of the name that ends at `end`, but for a few quotes and signs, and where the name begins."""
    window = data[max(0, end - _LONGEST_NAME) : end]
    window = window[window.rfind(b"\n") + 1 :]
    trimmed = window.rstrip(_AROUND_NAMES)
    if len(window) - len(trimmed) > _MOST_AROUND or not trimmed:
        return None
    found: tuple[str, int] | None = None
    at = len(trimmed)
    for count in range(most_words):
        begin = len(trimmed[:at].rstrip(NAME_CHARACTERS))
        if begin == at:
            break
        is_kept, label = keys.of(trimmed[begin:].decode(errors="replace"))
        if is_kept and count < 2:
            return None
        if label is not None and (found is None or found[0] in (LIKELY, UNSURE)):
            found = label, end - len(window) + begin
        if trimmed[begin - 1 : begin] != b" ":
            break
        at = begin - 1
    return None if found is None or found[0] == UNSURE else found


def _label(name: bytes, keys: KeyMatcher) -> str | None:
    return keys.label(name.replace(b"+", b" ").decode(errors="replace").strip())


# -- Tags ------------------------------------------------------------------------------------------------------------

_TAG = re.compile(rb"<([A-Za-z][\w:.-]{0,40})([ \t=][^<>]{1,600}|(?=>))>")
_ATTRIBUTE = re.compile(rb"([\w:.-]{1,40})\s?=\s?(\\{0,64}[\"'])(.{0,512}?)\2|=([\w.:-]{1,80})\Z", re.DOTALL)
_NAMING = frozenset(
    (
        b"name",
        b"key",
        b"id",
        b"placeholder",
        b"aria-label",
        b"label",
        b"data-name",
        b"data-testid",
        b"itemprop",
        b"property",
        b"param",
        b"field",
        b"autocomplete",
    )
)
_HOLDING = frozenset((b"value", b"content", b"data-value", b"default", b"val"))
_VOID = frozenset(
    (
        b"input",
        b"meta",
        b"link",
        b"img",
        b"br",
        b"label",
        b"button",
        b"select",
        b"form",
        b"svg",
        b"a",
        b"script",
        b"option",
    )
)


def _find_tags(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_TAG, data):
        label = None
        held: list[tuple[int, int]] = []
        for attribute in _ATTRIBUTE.finditer(match[2]):
            name = (attribute[1] or b"").lower()
            if attribute[4] is not None:
                label = label or _label(attribute[4], keys)
            elif name in _NAMING:
                label = label or _label(attribute[3], keys)
            elif name == b"type" and attribute[3] == b"password":
                label = label or "password"
            elif name in _HOLDING:
                held.append((match.start(2) + attribute.start(3), match.start(2) + attribute.end(3)))
        if label is None or label == UNSURE:
            continue
        for start, end in held:
            if end > start and not is_harmless(keys, label, data[start:end]):
                yield start, end, label
        if match[1].lower() not in _VOID and not held:
            yield from _until_tag(data, match.end(), label, keys)


def _until_tag(data: bytes, at: int, label: str, keys: KeyMatcher) -> Iterator[Found]:
    end = data.find(b"<", at, at + _LONGEST_VALUE * 8)
    end = len(data) if end < 0 else end
    text = data[at:end]
    body = re.sub(rb"\\{1,8}[nrt]\Z", b"", text.strip())
    if not body:
        return
    start = at + text.find(body)
    lead = re.match(rb"(?:\\{1,8}[nrt]|\s)+", body)
    if lead is not None:
        start += lead.end()
        body = body[lead.end() :]
    if body and not is_harmless(keys, label, body):
        yield start, start + len(body), label


# The end of a cell or an emphasis, and the beginning of the next in the same row.
_CELL_END = re.compile(
    rb"</(td|th|dt|key|name|arg_key|b|strong|em|i|code|span|label|h[1-6])>\s{0,8}:?(?:\s|\\{1,8}[nrt]|&nbsp;){0,16}((?:<(?!tr|/|input|br|th)[a-z_]{1,12}[^<>]{0,200}>(?:\s|\\{1,8}[nrt]){0,8}){0,3})",
    re.IGNORECASE,
)


def _find_cells(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_CELL_END, data):
        tag = match[1].lower()
        is_inline = tag in (b"b", b"strong", b"em", b"i", b"code", b"span") or tag.startswith(b"h")
        before = data[max(0, match.start() - 2) : match.start()]
        if is_inline and b":" not in before and b":" not in match[0][: match.start(2) - match.start()]:
            continue
        if not is_inline and not match[2]:
            continue
        named = label_before(data, match.start(), keys)
        if named is not None:
            yield from _until_tag(data, match.end(), named[0], keys)


_ROWS = re.compile(rb"<tr[^<>]{0,100}>(.{0,4000}?)</tr>", re.DOTALL | re.IGNORECASE)
_CELLS = re.compile(rb"<t[hd][^<>]{0,100}>(.{0,1000}?)</t[hd]>", re.DOTALL | re.IGNORECASE)
_MARKUP = re.compile(rb"<[^<>]{0,100}>")


def _find_html_columns(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    columns: dict[int, str] = {}
    for row in matches(_ROWS, data):
        cells = list(_CELLS.finditer(row[1]))
        heads = {
            index: label
            for index, cell in enumerate(cells)
            if len(cell[1]) <= _LONGEST_NAME
            and (label := _label(_MARKUP.sub(b"", cell[1]), keys)) not in (None, UNSURE)
        }
        if b"<th" in row[1].lower():
            columns = (
                {index: label for index, label in heads.items() if label is not None}
                if len(cells) > 1
                else {}
            )
            continue
        for index, label in columns.items():
            if index < len(cells):
                start = row.start(1) + cells[index].start(1)
                text = cells[index][1]
                inner = _MARKUP.match(text)
                lead = 0 if inner is None else inner.end()
                end = text.find(b"<", lead)
                end = len(text) if end < 0 else end
                if text[lead:end].strip() and not is_harmless(keys, label, text[lead:end]):
                    yield start + lead, start + end, label


# -- Tables ----------------------------------------------------------------------------------------------------------

_LINE = re.compile(rb"(.*?)(\r?\n|\\{1,8}r\\{1,8}n|\\{1,8}n|\Z)", re.DOTALL)
_RULE = re.compile(rb"[-+|:= \t\xe2\x94\x80-\x8c\xbc\xa4\xb4\x9c\xac\xb8\x90\x98\x94]{2,4000}")
_BAR = re.compile(rb"\||\xe2\x94\x82|\xe2\x95\x91")
_DECORATION = b" \t`*_\"'\\"
_MOST_CELLS = 256


def _lines(data: bytes) -> Iterator[tuple[int, int]]:
    at = 0
    for match in re.finditer(rb"\r?\n|\\{1,8}r\\{1,8}n|\\{1,8}n", data):
        yield at, match.start()
        at = match.end()
    yield at, len(data)


def _cells(data: bytes, start: int, end: int, separator: re.Pattern[bytes]) -> list[tuple[int, int]]:
    """Return where the cells of a line are, without blanks and decoration."""
    cells: list[tuple[int, int]] = []
    at = start
    for match in separator.finditer(data, start, end):
        cells.append((at, match.start()))
        at = match.end()
        if len(cells) >= _MOST_CELLS:
            break
    cells.append((at, end))
    stripped = []
    for begin, stop in cells:
        text = data[begin:stop]
        lead = len(text) - len(text.lstrip(_DECORATION))
        stripped.append((begin + lead, begin + max(lead, len(text.rstrip(_DECORATION)))))
    return stripped


def _heads(data: bytes, cells: list[tuple[int, int]], keys: KeyMatcher) -> dict[int, str]:
    found = {}
    for index, (start, end) in enumerate(cells):
        if 0 < end - start <= _LONGEST_NAME:
            label = _label(data[start:end], keys)
            if label is not None and label != UNSURE:
                found[index] = label
    return found


def _find_bars(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    """Find the values in tables with bars between their cells: Markdown, psql, MySQL, boxes."""
    columns: dict[int, str] = {}
    count = 0
    before: list[tuple[int, int]] | None = None
    lines = list(_lines(data))
    for (start, end), (next_start, next_end) in zip(lines, [*lines[1:], (0, 0)], strict=True):
        line = data[start:end]
        if _BAR.search(line) is None:
            if line.strip() and _RULE.fullmatch(line.strip(b"\"' ")) is None:
                columns, before = {}, None
            elif line.strip() and before is not None and not columns:
                columns, count = _heads(data, before, keys), len(before)
            elif not line.strip():
                columns, before = {}, None
            continue
        if _RULE.fullmatch(line.strip(b"\"'{}:, ")) is not None:
            if before is not None and not columns:
                columns, count = _heads(data, before, keys), len(before)
            continue
        cells = _cells(data, start, end, _BAR)
        if columns and len(cells) == count:
            for index, label in columns.items():
                yield from _cell(data, cells[index], label, keys)
        filled = [cell for cell in cells if cell[1] > cell[0]]
        is_head = (
            next_end > next_start
            and _RULE.fullmatch(data[next_start:next_end].strip(b"\"'{}:, ")) is not None
        )
        if is_head and not line.strip().startswith(b"+"):
            columns = {}
        elif len(filled) == 2 and not columns:
            label = _heads(data, filled[:1], keys).get(0)
            if label is not None and label != LIKELY:
                yield from _cell(data, filled[1], label, keys)
        elif columns and len(filled) == 2:
            label = _heads(data, filled[:1], keys).get(0)
            if label is not None:
                yield from _cell(data, filled[1], label, keys)
        before = cells


def _cell(data: bytes, cell: tuple[int, int], label: str, keys: KeyMatcher) -> Iterator[Found]:
    start, end = cell
    if end > start and end - start <= _LONGEST_VALUE * 4 and _RULE.fullmatch(data[start:end]) is None:
        if _heads(data, [cell], keys) or is_harmless(keys, label, data[start:end]):
            return
        yield start, end, label


_SEPARATED = re.compile(rb",|;|\t|\\{1,8}t")
_CSV_HEAD = re.compile(rb"[\"'\\]{0,8}[A-Za-z_][\w .\"'\\-]{0,60}(?:[,;\t]|\\{1,8}t)")
_MOST_ROWS = 10_000


def _find_columns(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    """Find the values in comma-separated values and the like, under the name of their column or beside their own."""
    lines = list(_lines(data)) if len(data) < 1024 * 1024 else []
    index = 0
    while index < len(lines):
        start, end = lines[index]
        index += 1
        # In JSON inside a text the table begins after a quote.
        quote = (
            max(data.rfind(b'"', start, end - 2), start - 1)
            if b": " in data[start:end] or b'":' in data[start:end]
            else start - 1
        )
        for begin in dict.fromkeys((quote + 1, start)):
            if end - begin > 2000 or _CSV_HEAD.match(data, begin, end) is None:
                continue
            found = _SEPARATED.search(data, begin, end)
            if found is None:
                continue
            separator = re.compile(re.escape(found[0]))
            head = _cells(data, begin, end, separator)
            columns = _heads(data, head, keys)
            names = [data[first:last].lower() for first, last in head]
            if not all(re.fullmatch(rb"[A-Za-z_\x80-\xff][\w .\x80-\xff-]{0,60}", name) for name in names):
                continue
            is_pairs = len(head) == 2 and names[1] in (b"value", b"val") and not columns
            if not columns and not is_pairs:
                continue
            while index < len(lines):
                start, end = lines[index]
                row = _cells(data, start, end, separator)
                if len(row) < 2 or len(row) < len(head):
                    break
                index += 1
                if is_pairs:
                    label = _heads(data, row[:1], keys).get(0)
                    if label is not None:
                        yield from _cell(data, row[1], label, keys)
                elif len(row) == len(head):
                    for column, label in columns.items():
                        yield from _cell(data, row[column], label, keys)
                else:
                    for column, label in columns.items():
                        yield from _cell(data, (row[column][0], row[-1][1]), label, keys)
            break


_ALIGNED_HEAD = re.compile(
    rb"[A-Z][A-Za-z0-9_-]{0,40}(?: {2,64}[A-Za-z][\w-]{0,60}){1,12}[ ]{0,64}|[ ]{1,64}[a-z_][\w]{0,40}(?: {1,64}[A-Za-z_][\w]{0,60}){0,12}"
)


# -- Commands --------------------------------------------------------------------------------------------------------

_SETTING = re.compile(
    rb"(?:\bsetx|#define|\bENV|\bARG|\bSetEnv|\bset(?:env)?(?: -\w{1,8}){0,3}|\b(?:configure|config|secrets?|variables?|env) (?:set|add|put|create)|"
    rb"\bgit config(?: --\w{1,20}){0,3}|\bproxy_set_header|\badd_header|\bRequestHeader set|\bfastcgi_param|\brequire)[ \t]{1,16}"
    rb"(\\{0,64}[\"']?)([A-Za-z_][\w./:-]{0,100})\1[ \t]{1,64}(?:--(?:body|value|data)[ =]|-[bv] )?(?=[^\s=:])"
)


_FLAG = re.compile(rb"(?<![\w-])()-([A-Za-z][\w-]{2,60})[ \t]{1,8}(?![-\s])")


def _find_settings(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in (*matches(_SETTING, data), *matches(_FLAG, data)):
        label = _label(match[2], keys)
        if label is not None and label != UNSURE:
            for start, end in secret_spans(data, match.start(2), match.end(), label, keys):
                yield start, end, label


# Options of some commands that have a password: after a blank, or directly behind the letter.
_COMMAND = re.compile(
    rb"\b(sshpass|mysql|mysqldump|mysqladmin|mariadb|7z|7za|rar|unrar|zip|unzip|sqlcmd|bcp|mosquitto_pub|mosquitto_sub|snowsql|"
    rb"redis-cli|docker|podman|helm|buildah|skopeo|nerdctl|oras|crane|az|mongo|mongosh|mongodump|mongorestore|ldapsearch|ldapmodify|"
    rb"ldapadd|ldappasswd|curl|wget|http|https|xh|smbclient|openssl|htpasswd|keytool|jarsigner|vault|npm|gh|rabbitmqctl|ansible|cqlsh|"
    rb"clickhouse-client|clickhouse|impala-shell|beeline|hdbsql|isql|tsql|ftp|lftp|ncftp|rclone|restic|borg|gpg|ssh-keygen|kinit|"
    rb"net use|psql|influx|oc|kubectl|doctl|rsync|svn|hg|cadaver|expect|passwd|chpasswd|wpa_passphrase|nmcli|iwconfig|sqlplus)\b"
    rb"((?:[^\r\n\\|]|\\(?:\r?\n|\\n|[\"'$ \\])){1,1000})"
)
_ATTACHED = re.compile(rb"[ \t]-p(\\{0,64}[\"']?)([^\s\"'\\-][^\s\"'\\]{2,200})")
_OPTIONS = {
    b"p": b"sshpass docker podman helm buildah skopeo nerdctl oras crane az mongo mongosh mongodump mongorestore cqlsh hdbsql influx oc beeline snowsql mysql mysqldump mysqladmin mariadb keytool".split(),
    b"P": b"zip unzip sqlcmd bcp mosquitto_pub mosquitto_sub isql tsql ssh-keygen 7z".split(),
    b"a": b"redis-cli".split(),
    b"w": b"ldapsearch ldapmodify ldapadd ldappasswd beeline".split(),
    b"N": b"ssh-keygen".split(),
    b"k": b"openssl".split(),
}
_OPTION_OF = {
    command: [letter for letter, commands in _OPTIONS.items() if command in commands]
    for commands in _OPTIONS.values()
    for command in commands
}
_USER = re.compile(
    rb"[ \t](?:-u|-U|-a|--user|--proxy-user|--auth)(?:[ \t=]{1,8}|(?=[\"']))(\\{0,64}[\"']?)([^\s:\"'\\%]{1,100})[:%]([^\s\"'\\]{1,300})"
)
_USER_QUOTED = re.compile(
    rb"[ \t](?:-u|-U|-a|--user|--proxy-user|--auth)(?:[ \t=]{1,8}|(?=[\"']))(\\{0,64}[\"'])([^:\"'\\%\n]{1,100})[:%](.{1,300}?)\1"
)
_PASS_IN = re.compile(
    rb"(?:-pass(?:in|out|word)?|-passin|-passout)[ \t](\\{0,64}[\"']?)pass:([^\s\"'\\]{1,200})"
)
_WORDS = re.compile(
    rb"htpasswd (?:-\w{1,8} ){1,4}\S{1,200} \S{1,100} (\\{0,64}[\"']?)([^\s\"'\\]{1,200})|vault login (?:-\S{1,80} ){0,4}()([^\s\"'\\-][^\s\"'\\]{5,200})|rabbitmqctl (?:add_user|change_password) \S{1,100} (\\{0,64}[\"']?)([^\s\"'\\]{1,200})"
)


def _find_commands(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for command in matches(_COMMAND, data):
        name, begin, end = command[1], command.start(2), command.end(2)
        for letter in _OPTION_OF.get(name, ()):
            option = re.compile(
                rb"[ \t]-" + letter + rb"[ \t]{1,8}(\\{0,64}[\"']?)([^\s\"'\\-][^\s\"'\\]{0,300})"
            )
            for match in option.finditer(data, begin, end):
                if name in (b"docker", b"podman", b"nerdctl") and (
                    b"login" not in command[2] or re.fullmatch(rb"[\d:./-]+", match[2])
                ):
                    continue
                if (
                    name in (b"mysql", b"mysqldump", b"mysqladmin", b"mariadb", b"helm", b"az", b"oc")
                    and b"login" not in command[2]
                    and name not in (b"mysql",)
                ):
                    continue
                if name == b"mysql" and re.search(rb"[ \t]-p\s+\S+\s*(?:$|[;&])", command[2]) is not None:
                    continue
                yield from _argument(data, match.start(2), match.end(2), match[1], keys)
        if name in (b"mysql", b"mysqldump", b"mysqladmin", b"mariadb", b"7z", b"7za", b"rar", b"unrar"):
            for match in _ATTACHED.finditer(data, begin, end):
                yield from _argument(data, match.start(2), match.end(2), match[1], keys)
        if name in (b"curl", b"wget", b"http", b"https", b"xh", b"smbclient", b"rclone", b"lftp"):
            for match in _USER_QUOTED.finditer(data, begin, end):
                yield from _argument(data, match.start(3), match.end(3), b"", keys)
            for match in _USER.finditer(data, begin, end):
                yield from _argument(data, match.start(3), match.end(3), match[1], keys)
        for match in _PASS_IN.finditer(data, begin, end):
            yield from _argument(data, match.start(2), match.end(2), match[1], keys)
    for match in matches(_WORDS, data):
        group = next(group for group in (2, 4, 6) if match[group] is not None)
        yield from _argument(data, match.start(group), match.end(group), match[group - 1], keys)


def _argument(data: bytes, start: int, end: int, quote: bytes, keys: KeyMatcher) -> Iterator[Found]:
    if quote:
        end = max(end, end_of_quotes(data, start, quote[-1:], len(quote) - 1))
        if end - start > _LONGEST_VALUE or b"\n" in data[start:end]:
            return
    if not is_harmless(keys, "password", data[start:end]):
        yield start, end, "password"


# -- Protocols and files ---------------------------------------------------------------------------------------------

_NETRC = re.compile(
    rb"(?:\b(?:login|user)\s{1,8}\S{1,100}|\bmachine\s{1,8}\S{1,200}|\bdefault)(?:\s|\\{1,8}n){1,16}(?:account\s{1,8}\S{1,100}\s{1,8})?password\s{1,16}(\\{0,64}[\"']?)([^\s\"'\\]{1,300})"
)
_PGPASS = re.compile(
    rb"(?:[\w.*-]{1,200}):(?:5432|5433|6432|3306|\*):(?:[\w.*-]{1,100}):(?:[\w.*@-]{1,100}):((?:[^\s:\\]|\\[:\\]){1,300})(?=\s|\\{1,8}[nr]|[\"'`]|\Z)"
)
_MAIL = re.compile(
    rb"(?:(?<=\n)|(?<=\\n)|(?<![\w.]))(?:[CS>]: ?)?(?:PASS[ ]|AUTH (?:PLAIN|LOGIN|XOAUTH2|CRAM-MD5|NTLM)[ ]|(?:\w{1,10} )?LOGIN \S{1,100} |AUTH (?:default )?)(\\{0,64}[\"']?)([^\s\"'\\]{3,2000})(?=\\{0,64}[\"']?(?:\s|\\{1,8}[nr]|\Z))"
)
_SQL = re.compile(
    rb"(?:\bIDENTIFIED\s{1,8}(?:WITH\s{1,8}\S{1,64}\s{1,8})?(?:BY|AS)(?:\s{1,8}PASSWORD)?|\bPASSWORD|\bPWD|\bWITH SECRET\s?=|\bSECRET)\s{1,8}N?(\\{0,64}['\"])",
    re.IGNORECASE,
)
_COMPARED = re.compile(
    rb"([A-Za-z_][\w.]{0,60})\\{0,64}[`\"\]]?\s{1,4}(?:I?LIKE|IN\s?\(|<>|!=|IS|SIMILAR TO|REGEXP)\s{0,4}\(?N?(\\{0,64}')",
    re.IGNORECASE,
)
_INSERT = re.compile(
    rb"\binto\s{1,8}[\w.`\"\[\]\\]{1,100}\s{0,8}\(([^()]{1,2000})\)\s{0,8}(?:\\{1,8}n\s{0,8})?(?:OUTPUT [^()]{1,100})?values\s{0,8}",
    re.IGNORECASE,
)
_TUPLE = re.compile(rb"\s{0,8},?(?:\s|\\{1,8}n){0,16}\(")
_SQL_VALUE = re.compile(
    rb"(?:\s|\\{1,8}n){0,8}(?:N?(\\{0,64}')((?:[^'\\]|''|\\{1,64}[^'n])*+)\\{0,64}'|((?:[^,()']|\([^()]{0,200}\)){0,500}))(?:\s|\\{1,8}n){0,8}(,|\))"
)


def _find_netrc(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_NETRC, data):
        yield from _argument(data, match.start(2), match.end(2), match[1], keys)


def _find_pgpass(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_PGPASS, data):
        yield from _argument(data, match.start(1), match.end(1), b"", keys)


def _find_mail(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_MAIL, data):
        value = match[2]
        is_pass = match[0].lstrip(b"CS>: ").startswith(b"PASS")
        if (
            is_pass and (b"USER " not in data[max(0, match.start() - 300) : match.start()] or b"/" in value)
        ) or (
            not is_pass
            and b"LOGIN " in match[0]
            and _STRONG.fullmatch(value) is None
            and b" LOGIN " in match[0]
            and value.isalpha()
            and b'"' not in match[1]
        ):
            continue
        if b"AUTH " in match[0] and _STRONG.fullmatch(value) is None and b"=" not in value:
            continue
        yield from _argument(data, match.start(2), match.end(2), match[1], keys)


def _find_sql(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_SQL, data):
        yield from _quoted(data, match.end(), match[1], "password", keys)


def _find_comparisons(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_COMPARED, data):
        label = _label(match[1].rpartition(b".")[2], keys)
        if label is not None and label != UNSURE:
            yield from _quoted(data, match.end(), match[2], label, keys)
    for match in matches(_INSERT, data):
        names = [name.strip(b' \t\r\n`"[]\\') for name in match[1].replace(b"\\n", b" ").split(b",")]
        columns = {
            index: label
            for index, name in enumerate(names)
            if (label := _label(name, keys)) not in (None, UNSURE)
        }
        if not columns:
            continue
        at = match.end()
        for _ in range(1000):
            opening = _TUPLE.match(data, at)
            if opening is None:
                break
            at = opening.end()
            for index in range(len(names) + 1):
                value = _SQL_VALUE.match(data, at)
                if value is None:
                    break
                label = columns.get(index)
                group = 2 if value[1] is not None else 3
                if (
                    label is not None
                    and value[group].strip()
                    and not is_harmless(keys, label, value[group])
                    and (group == 2 or value[3].strip().isdigit())
                ):
                    yield value.start(group), value.end(group), label
                at = value.end()
                if value[4] == b")":
                    break
            else:
                break


def _quoted(data: bytes, start: int, quote: bytes, label: str, keys: KeyMatcher) -> Iterator[Found]:
    end = end_of_quotes(data, start, quote[-1:], len(quote) - 1)
    while data[end + len(quote) : end + 2 * len(quote)] == quote:
        end = end_of_quotes(data, end + 2 * len(quote), quote[-1:], len(quote) - 1)
    if (
        start < end < len(data)
        and end - start <= _LONGEST_VALUE * 8
        and not is_harmless(keys, label, data[start:end])
    ):
        yield start, end, label


_MULTIPART = re.compile(
    rb"form-data;\s?name=\\{0,64}\"([^\"\\]{1,100})\\{0,64}\"[^\r\n\\]{0,200}(?:(?:\r?\n|(?:\\{1,8}r)?\\{1,8}n)[^\r\n\\]{1,200}){0,6}(?:\r?\n|(?:\\{1,8}r)?\\{1,8}n){2}([^\r\n\\]{1,4000})"
)
_INPUT_VALUE = re.compile(
    rb"(?:\A|\n|\\n)[ \t]{0,8}([\w.\[\]-]{1,120})(?:\r?\n|\\{1,8}n)[ \t]{1,8}[^\n\\]{0,300}?input_value=(?=(\\{0,64}['\"])?)"
)
_AUTOMATED = re.compile(
    rb"\)\)?\.(?:first\.|nth\(\d\)\.|clear\(\)\.|last\.)?(?:fill|type|send_?[kK]eys|set_?[vV]alue|press_sequentially|pressSequentially|input|val|enter_text|addValue|clear_and_type)\((?:\s|\\{1,8}n){0,8}(\\{0,64}[\"'`])"
)
_SELECTED = re.compile(rb"([A-Za-z_][\w -]{0,80})[^A-Za-z0-9_]{0,8}\Z")
_TYPED = re.compile(
    rb"(?:[Tt]yped|[Ee]ntered|[Ff]illed|[Tt]yping|[Ff]ill(?:ing)?|[Ii]nput)\s{1,4}(\\{0,64}[\"'`])([^\"'`\n]{1,300}?)\1\s{1,4}(?:in|into|to|for|as)\s{1,4}(?:the\s{1,4})?(\\{0,64}[\"'`]?)([\w #.-]{1,80})"
)
_VARIABLE = re.compile(
    rb"\b(?:variable|output|resource|data|secret|parameter)\s{1,4}\\{0,64}\"([\w-]{1,100})\\{0,64}\"\s{0,4}\{[^{}]{0,600}?\b(?:default|value)\s{0,16}=\s{0,4}(\\{0,64}\")"
)
_JWK = re.compile(rb"(\\{0,64}[\"'])(?:d|p|q|dp|dq|qi|k)\1\s{0,4}:\s{0,4}(\\{0,64}[\"'])([\w-]{16,2000})")
_KIND = re.compile(rb"\bkind\\{0,64}[\"']?:[ \t]{0,4}\\{0,64}[\"']?Secret\b")
_DATA = re.compile(rb"(?:stringData|data)\\{0,64}[\"']?:(?:[ \t]{0,4}\{)?(?:\s|\\{1,8}n){1,16}")
_ENTRY = re.compile(
    rb"([ \t]{0,32}\\{0,64}[\"']?)([\w.-]{1,100})\\{0,64}[\"']?:[ \t]{1,4}(\\{0,64}[\"']?)([^\s\"'\\,{}|>][^\s\"'\\,{}]{0,8000})\\{0,64}[\"']?,?(?:\r?\n|\\{1,8}n|\Z|(?=\s|\}))"
)


def _find_multipart(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_MULTIPART, data):
        label = _label(match[1], keys)
        if label is not None and label != UNSURE and not is_harmless(keys, label, match[2]):
            yield *match.span(2), label


def _find_input_values(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_INPUT_VALUE, data):
        label = _label(match[1], keys)
        if label is None or label == UNSURE:
            continue
        if match[2] is not None:
            yield from _quoted(data, match.end() + len(match[2]), match[2], label, keys)
        else:
            end = data.find(b", input_type=", match.end(), match.end() + 2000)
            if end > 0 and not is_harmless(keys, label, data[match.end() : end]):
                yield match.end(), end, label


def _find_automated(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_AUTOMATED, data):
        window = data[max(0, match.start() - 120) : match.start()]
        window = window[max(window.rfind(b"\n"), window.rfind(b";")) + 1 :]
        selected = _SELECTED.search(window)
        label = None if selected is None else _label(selected[1], keys)
        if label is None and b"password" in window.lower():
            label = "password"
        if label is not None and label != UNSURE:
            yield from _quoted(data, match.end(), match[1], label, keys)
    for match in matches(_TYPED, data):
        named = label_before(data, match.end(4), keys) or label_before(
            data, match.start(4) + len(match[4].rpartition(b" ")[0]), keys
        )
        if named is not None and not is_harmless(keys, named[0], match[2]):
            yield *match.span(2), named[0]


def _find_variables(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_VARIABLE, data):
        label = _label(match[1], keys)
        if label is not None and label != UNSURE:
            yield from _quoted(data, match.end(), match[2], label, keys)


def _find_jwk(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_JWK, data):
        yield *match.span(3), "private_key"


def _find_kubernetes(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    reached = 0
    for kind in matches(_KIND, data):
        for block in _DATA.finditer(
            data, max(reached, kind.start() - 4096), min(len(data), kind.end() + 4096)
        ):
            reached = at = block.end()
            while (entry := _ENTRY.match(data, at)) is not None:
                yield *entry.span(4), "secret"
                reached = at = entry.end()


# -- Code ------------------------------------------------------------------------------------------------------------

_DECLARED = re.compile(
    rb"(?:(?:\[[\w ]{0,16}\])|\s{1,4}(?:\*|\[\])?(?:string|String|byte|char|str|text|VARCHAR(?:\(\w{1,8}\))?|NVARCHAR(?:\(\w{1,8}\))?)|\s?\{\s?get;[^{}]{0,40}\}|\?\s?:\s?[\w |<>]{1,60}?|\s{0,2}(?:\|\||\?\?|&&|\+|\.)|:\s?[A-Z]\w{1,30}<\w{1,30}>)"
    rb"\s{0,4}:?=\s{0,4}(?=\\{0,64}[\"'`@$])"
)
_CALLED = re.compile(rb"([A-Za-z_][\w.]{0,80})\((?:\s|\\{1,8}n){0,8}[bBrRuUfF]{0,2}(?=\\{0,64}[\"'`])")
_SETTER = re.compile(
    rb"(?:^|[._])(?:set|with|add|use|update|change|reset|put|from|Set|With|Add|Use|Update|Change|Reset)(?=[A-Z_])"
)
_WRAPPER = frozenset((b"SecretStr", b"SecretBytes", b"Secret", b"secret", b"Password", b"SecureString"))
_CREDENTIALS = re.compile(
    rb"(?:\b|[._])(?:HTTP)?(?:Basic|Digest|Proxy|Plain)?(?:Auth|Credentials?|UserPassAuth|UsernamePasswordCredentials|NTLMAuth|PlainTextAuthProvider|login|authenticate|auth|basic_auth|set_basic_auth|setBasicAuth|SetBasicAuth|PlainAuth|Login)\((?:\s|\\{1,8}n){0,8}(\\{0,64}[\"'`])([^\"'`\n]{1,100}?)\1\s?,(?:\s|\\{1,8}n){0,8}(\\{0,64}[\"'`])"
)
_OF_LOOKUP = re.compile(
    rb"(?:getenv|environ\.get|environ|env|ENV|process\.env|import\.meta\.env|Deno\.env\.get|Sys\.getenv|os\.Getenv|get|fetch|config|GetEnvironmentVariable|getProperty)\s?[(\[.]\s?\\{0,64}[\"'`]?([A-Za-z_]\w{0,100})\\{0,64}[\"'`]?\s?[)\]]{0,2}\s{0,4}(?:\bor\b|\?\?=?|\|\|=?|\?:|,|\.unwrap_or\(|\.orElse\(|\{)\s{0,4}(?:default\s?=\s?)?\(?(\\{0,64}[\"'`])"
)


def _find_declared(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_DECLARED, data):
        named = label_before(data, match.start(), keys, 1)
        if named is not None:
            for start, end in secret_spans(data, named[1], match.end(), named[0], keys):
                yield start, end, named[0]


def _find_calls(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_CALLED, data):
        function = match[1].rpartition(b".")[2]
        if function not in _WRAPPER and _SETTER.search(match[1]) is None:
            continue
        label = "secret" if function in _WRAPPER else _label(function, keys)
        if label is None or label == UNSURE:
            continue
        quote = re.compile(_QUOTE).match(data, match.end())
        if quote is not None:
            end = end_of_quotes(data, quote.end(), quote[0][-1:], len(quote[0]) - 1)
            # f("name", "value") is a pair.
            if data[end + len(quote[0]) : end + len(quote[0]) + 8].lstrip()[:1] != b",":
                yield from _quoted(data, quote.end(), quote[0], label, keys)
    for match in matches(_OF_LOOKUP, data):
        label = _label(match[1], keys)
        if label is not None and label != UNSURE:
            yield from _quoted(data, match.end(), match[2], label, keys)


def _find_credentials(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_CREDENTIALS, data):
        yield from _quoted(data, match.end(), match[3], "password", keys)


# -- Prose -----------------------------------------------------------------------------------------------------------

_IS = re.compile(
    rb"(?:[ ](?:is|was|to|as|=)(?: now| still| set to| currently)?:?|[ ]?(?:->|\xe2\x86\x92|=>)|[ ]for [\w ]{1,40}? is:?|[ ](?=\\{0,64}[\"'`]))[ ]{0,2}(?:\*\*)?"
    rb"(?:(\\{0,64}[\"'`]|\xe2\x80\x9c)([^\"'`\n]{3,300}?)(?:\1|\xe2\x80\x9d)|(?=(?:[^\s]{0,200}[0-9!@#$%^&*+~])|(?:[a-z]{3,20}-){2})(?!\[redacted:)([^\s\"'`<>]{5,512}))"
)
_AS = re.compile(
    rb"(\\{0,64}[\"'`])([^\"'`\n ]{4,300})\1 (?:as|for|is) (?:the|your|my|our|its|a)(?: new)? ([\w ]{1,60})"
)
_BELOW = re.compile(
    rb":(?:\*\*)?(?:\r?\n|\\{1,8}n){1,2}[ >]{0,4}(?:```\w{0,10}(?:\r?\n|\\{1,8}n))?(\\{0,64}[`\"']?)(?:(?=[^\s]{0,200}[0-9])(?=[^\s]{0,200}[A-Za-z])|(?=(?:[a-z]{3,20}-){2}))([^\s\"'`<>\\:={}()\[\],]{8,512})\1(?=\r?\n|\\{1,8}[nr]|[\"'`]|\s{0,2}\Z|\\{1,8}\")"
)
_HEADING = re.compile(
    rb"(?:^|(?<=\n)|(?<=\\n)|(?<=\"))#{1,6} ([\w -]{2,60})(?:\r?\n|\\{1,8}n){1,2}(\\{0,64}`?)([^\s`\"'\\#]{6,300})\2(?=\r?\n|\\{1,8}[nr]|\"|\Z|\\{1,8}\")"
)


def _find_prose(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_IS, data):
        named = label_before(data, match.start(), keys)
        if named is None:
            continue
        label = named[0]
        quote, value = match[1], match[2]
        if quote is not None:
            if (
                match[0].startswith(b" ")
                and match[0].lstrip(b" ")[:1] in b"\\\"'`"
                and (
                    (_STRONG.fullmatch(value) is None and value.count(b"-") < 2)
                    or data[match.end() : match.end() + 2].lstrip()[:1] in (b":", b"=")
                )
            ):
                continue
            if not is_harmless(keys, label, value) and (b" " not in value or not value[:1].isupper()):
                yield *match.span(2), label
        elif match[3] is not None:
            text = match[3].rstrip(b".,;:!?*_`\\")
            if text.endswith((b")", b"]", b"}")) and not any(sign in text for sign in b"([{"):
                text = text.rstrip(b")]}.,;")
            if (
                (not is_harmless(keys, label, text)
                and _STRONG.fullmatch(text) is not None)
                or text.count(b"-") >= 2
            ):
                yield match.start(3), match.start(3) + len(text), label
    for match in matches(_AS, data):
        words = match[3].split()
        for count in range(min(4, len(words)), 0, -1):
            label = keys.label(b" ".join(words[:count]).decode())
            if label is not None and label not in (UNSURE, LIKELY):
                if not is_harmless(keys, label, match[2]):
                    yield *match.span(2), label
                break
    for match in matches(_BELOW, data):
        named = label_before(data, match.start(), keys)
        if named is not None and named[0] != LIKELY and not is_harmless(keys, named[0], match[2]):
            yield *match.span(2), named[0]
    for match in matches(_HEADING, data):
        label = _label(match[1], keys)
        if label is not None and label != UNSURE and _STRONG.fullmatch(match[3]) is not None:
            yield *match.span(3), label


_NAMED: tuple[Find, ...] = (
    _find_tags,
    _find_cells,
    _find_html_columns,
    _find_bars,
    _find_columns,
    _find_settings,
    _find_netrc,
    _find_comparisons,
    _find_multipart,
    _find_input_values,
    _find_automated,
    _find_variables,
    _find_declared,
    _find_calls,
    _find_prose,
)
# Those without a name: one of the texts is in every text in which they find something.
UNNAMED: tuple[tuple[tuple[bytes, ...], Find], ...] = (
    (
        (
            b" -u",
            b" -p",
            b" -P",
            b" -a",
            b" -w ",
            b" -k ",
            b" -N ",
            b" -U",
            b"--user",
            b"--proxy-user",
            b"-pass",
            b"htpasswd -",
            b"vault login",
            b"rabbitmqctl",
        ),
        _find_commands,
    ),
    ((b":5432:", b":5433:", b":6432:", b":3306:", b":*:"), _find_pgpass),
    ((b"PASS ", b"AUTH ", b"LOGIN "), _find_mail),
    ((b"DENTIFIED", b"dentified", b"PASSWORD '", b"PASSWORD \\"), _find_sql),
    ((b"kty",), _find_jwk),
    ((b"Secret",), _find_kubernetes),
    ((b"Auth(", b"redentials(", b"ogin(", b"authenticate(", b"auth("), _find_credentials),
)
# Letters that are in the names that these forms are looked for with, in lower case, and whether a letter may follow.
STEMS = (
    (b"pass", True), (b"pwd", False), (b"secret", True), (b"token", False), (b"key", False), (b">pw<", False), (b"cred", True), (b"psk", False),
    (b"mnemonic", False), (b"seed", True), (b"cookie", True), (b"signature", False), (b"senha", False), (b"wort", False),
    (b"parola", False), (b"contras", True), (b"otp", False), (b"pin", False), (b"_pw", False), (b" pw", False), (b"jwt", False),
    (b"heslo", True), (b"haslo", True), (b"salasana", True), (b"lozink", True), (b"senord", True), (b"sifre", False),
    (b"clave", False), (b"sess", True), (b"hmac", False), (b"pepper", False), (b"bearer", False), (b"adgangskode", True),
    ("пароль".encode(), True), ("密码".encode(), True), ("パスワード".encode(), True), ("비밀번호".encode(), True),
)  # fmt: skip
_BEFORE, _BEHIND = 700, 4096  # bytes around a name in which these forms are looked for
_REST_OF_WORD = re.compile(rb"[A-Za-z0-9_.\-\x80-\xff]{0,80}+")
_LETTER = re.compile(rb"[a-z]")


def may_have_form(data: bytes, keys: KeyMatcher) -> bool:
    """Say whether `data` may have a secret in one of these forms: it has the name of one, or a word of a command."""
    return next(_names(data, keys), None) is not None or any(
        _has_any(data, literals) for literals, _ in UNNAMED
    )


def find_forms(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    """Find the values of secret names in all of these forms."""
    for literals, find in UNNAMED:
        if _has_any(data, literals):
            yield from find(data, keys)
    begun = reached = -1
    for at in sorted(_names(data, keys)):
        if begun >= 0 and at - _BEFORE > reached:
            yield from _find_in(data, begun, reached, keys)
            begun = -1
        if begun < 0:
            begun = max(0, at - _BEFORE, data.rfind(b"\n", max(0, at - _BEFORE), at) - _BEFORE)
        reached = at + _BEHIND
    if begun >= 0:
        yield from _find_in(data, begun, reached, keys)


def _find_in(data: bytes, start: int, end: int, keys: KeyMatcher) -> Iterator[Found]:
    part = data[start:end]
    for find in _NAMED:
        for begin, stop, label in find(part, keys):
            yield start + begin, start + stop, label


def _names(data: bytes, keys: KeyMatcher) -> Iterator[int]:
    """Find where secret names end, except those without one of the stems."""
    lowered = data.lower()
    for stem, may_go_on in STEMS:
        at = lowered.find(stem)
        while at >= 0:
            end = at + len(stem)
            if may_go_on or _LETTER.match(lowered, end) is None:
                word = _REST_OF_WORD.match(data, end)
                end = end if word is None else word.end()
                if (
                    label_before(data, end, keys) is not None
                    or label_before(data, at + len(stem), keys) is not None
                ):
                    yield end
            at = lowered.find(stem, end)


def _has_any(data: bytes, needles: tuple[bytes, ...]) -> bool:
    find = data.find
    return any(find(needle) >= 0 for needle in needles)
