"""The table of forms: what finds values near a secret name, or after the word of a command, and where to look."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nat_observability.processors.redaction.forms.argument_lists import (
    ARGUMENT_LITERALS,
    find_in_argument_lists,
)
from nat_observability.processors.redaction.forms.calls import (
    BEHIND_ARGUMENT,
    BEHIND_RETURNED,
    COMPARED_BEFORE,
    LITERALS,
    find_arguments,
    find_compared,
    find_positional,
    find_returned,
)
from nat_observability.processors.redaction.forms.code import (
    BEHIND_CALLED,
    BEHIND_LOOKED_UP,
    DECLARED,
    find_calls,
    find_declared,
)
from nat_observability.processors.redaction.forms.commands import (
    find_answers,
    find_commands,
    find_masked,
    find_options,
    find_redirected,
    find_settings,
    may_send,
)
from nat_observability.processors.redaction.forms.comparing import NEAR_COMPARED, find_asserted, is_text
from nat_observability.processors.redaction.forms.markup import (
    LABELLED,
    find_cells,
    find_html_columns,
    find_labelled,
    find_led,
    find_tags,
)
from nat_observability.processors.redaction.forms.nearness import (
    AROUND,
    MORE,
    has_bars,
    is_aligned_head,
    is_automated,
    is_behind_cells,
    is_flagged,
    is_head,
    is_in_tag,
    is_inserted,
    is_looked_up,
    is_row_of_pair,
    is_said_before,
    is_set,
    is_spelled,
)
from nat_observability.processors.redaction.forms.prose import (
    BELOW,
    BESIDE,
    FROM,
    IS,
    LISTED,
    QUALIFIED,
    SAID_IN_FORM,
    UNDER_HEADING,
    find_below,
    find_beside,
    find_changed,
    find_described,
    find_listed,
    find_qualified,
    find_refused,
    find_said_in_forms,
    find_spelled,
    find_stated,
    find_under_headings,
)
from nat_observability.processors.redaction.forms.protocols import (
    BEHIND_COMPARED,
    find_comparisons,
    find_mail,
    find_netrc,
    find_pgpass,
    find_sql,
    is_identified_by,
)
from nat_observability.processors.redaction.forms.records import (
    find_automated,
    find_input_values,
    find_jwk,
    find_kubernetes,
    find_multipart,
    find_variables,
)
from nat_observability.processors.redaction.forms.tabular import find_aligned, find_bars, find_columns
from nat_observability.processors.redaction.forms.urls import (
    find_key_lines,
    find_links,
    find_queries,
    find_xml_keys,
)
from nat_observability.processors.redaction.marks import Found
from nat_observability.processors.redaction.names.conditions import (
    Condition,
    ahead,
    before,
    both,
    either,
    follows,
    precedes,
)
from nat_observability.processors.redaction.names.keys import KeyMatcher

Find = Callable[[bytes, KeyMatcher], Iterator[Found]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """
    One form in which a value stands near its name, or without one.

    Attributes:
        find: Finds the values in a part of a text.
        near: Says whether the form may be at a name.
        literals: For forms without a name: one of them is in every text with the form.
        may_follow: Says whether what the form needs may follow it, in this text or in JSON; None if that is not known.
        before: Bytes before the name, or the literal, in which the form is.
        behind: Bytes behind it.
        is_from_line: Whether the form begins with the line of the name.
    """

    find: Find
    near: Condition | None = None
    literals: tuple[bytes, ...] = ()
    may_follow: Callable[[bytes, int], bool] | None = None
    before: int = 700
    behind: int = 4096
    is_from_line: bool = False


# Signs with which what stands behind a name may begin.
_BLANKS = b" \t\r\n\x0b\x0c"
_BEGIN_AROUND = b" +\t:*`\"'\\"
_BEGIN_AFTER_CELL = b" +\"'\\,;\t\r\n`*"

NAMED: tuple[Form, ...] = (
    Form(find=find_tags, near=Condition(is_in_tag)),
    Form(
        find=find_led,
        near=follows(
            MORE + AROUND + rb"(?:(?::| is| =)\s{0,4}|</b>:?\s{0,4}|</strong>:?\s{0,4})<[a-z]",
            _BEGIN_AROUND + b"<",
        ),
        before=200,
    ),
    Form(find=find_labelled, near=follows(LABELLED, b" :*<", re.IGNORECASE), before=200, behind=1200),
    Form(
        find=find_cells,
        near=both(ahead(b"</"), follows(MORE + AROUND + rb"</", _BEGIN_AROUND + b"<")),
        before=200,
    ),
    Form(find=find_html_columns, near=Condition(is_behind_cells)),
    Form(find=find_bars, near=Condition(has_bars)),
    Form(find=find_columns, near=Condition(is_head, _BEGIN_AFTER_CELL), is_from_line=True),
    Form(find=find_columns, near=Condition(is_row_of_pair)),
    Form(find=find_aligned, near=Condition(is_aligned_head, b" .-\n\\\r")),
    Form(
        find=find_settings,
        near=either(
            both(follows(rb"[\w./:\x80-\xff-]{0,100}\\{0,64}[\"']?[ \t]", b" \t\\\"'/:"), Condition(is_set)),
            Condition(is_flagged, b" \t"),
        ),
    ),
    Form(
        find=find_options,
        near=both(
            before((b"--name", b"--key", b"--parameter-name", b"--secret-id"), 140), ahead(b" --", 300)
        ),
        before=150,
        behind=700,
    ),
    Form(find=find_redirected, near=both(before((b">",), 100), before((b"echo", b"printf"), 400))),
    Form(
        find=find_netrc,
        near=both(
            Condition(
                lambda data, place: (
                    data.endswith(b"password", place.begin, place.end)
                    and place.end < len(data)
                    and data[place.end] in _BLANKS + b"\\"
                ),
                _BLANKS + b"\\",
            ),
            before((b"login", b"user", b"machine", b"default"), 500),
        ),
    ),
    Form(
        find=find_comparisons,
        near=either(
            follows(BEHIND_COMPARED, _BLANKS + b'\\`"]<!', re.IGNORECASE),
            both(
                both(follows(rb"[\s`\"\]\\]*[,)]", _BLANKS + b'`"]\\,)'), Condition(is_inserted)),
                before((b"into", b"INTO", b"Into"), 2300),
            ),
        ),
        before=2300,
        behind=8192,
    ),
    Form(find=find_multipart, near=before((b"form-data",), 200)),
    Form(
        find=find_input_values,
        near=both(
            follows(rb"[\w.\x80-\xff\[\]-]{0,120}(?::[ ]|\r?\n|\\{1,8}n)", b"[]:\r\n\\"), ahead(b"input")
        ),
    ),
    Form(
        find=find_automated,
        near=either(
            Condition(is_automated),
            both(
                # The verb first: the expression takes longer.
                before(
                    (
                        b"yped ",
                        b"ype ",
                        b"ntered ",
                        b"nter ",
                        b"ntering ",
                        b"yping ",
                        b"ill ",
                        b"illed ",
                        b"illing ",
                        b"nput ",
                        b"Put ",
                    ),
                    300,
                ),
                precedes(
                    rb"(?:[\"'`]|[0-9][^\s]{0,64}?)\s{1,4}(?:in|into|to|for|as)\s{1,4}(?:the\s{1,4})?\\{0,64}[\""
                    rb"'`]?[\w #.:-]{0,80}",
                    200,
                    _BLANKS + b"\"'`#:",
                ),
            ),
        ),
    ),
    Form(find=find_variables, near=follows(rb"\\{0,64}\"\s{0,4}\{", b'\\"')),
    Form(
        find=find_declared,
        near=follows(AROUND + b"(?:" + DECLARED + b")", _BEGIN_AROUND + _BLANKS + b"[{?|&.="),
    ),
    Form(
        find=find_calls,
        near=either(
            follows(BEHIND_CALLED, b"({"),
            both(follows(BEHIND_LOOKED_UP, _BLANKS + b"\\\"'`)]?|,.{/"), Condition(is_looked_up)),
        ),
        before=400,
    ),
    Form(find=find_spelled, near=Condition(is_spelled), before=200, behind=600),
    Form(find=find_returned, near=follows(BEHIND_RETURNED, _BLANKS + b"(-:{="), before=100),
    Form(find=find_arguments, near=follows(BEHIND_ARGUMENT, b"\\\"'`"), before=500),
    Form(find=find_asserted, near=NEAR_COMPARED, before=400),
    Form(
        find=find_said_in_forms,
        near=follows(SAID_IN_FORM, b"+"),
        before=150,
        behind=700,
    ),
    Form(
        find=find_qualified,
        near=follows(QUALIFIED, b" ([*`\"'"),
        before=150,
        behind=700,
    ),
    Form(find=find_compared, near=precedes(COMPARED_BEFORE, 120, _BLANKS + b"=$"), before=300),
    Form(
        find=find_stated,
        near=follows(MORE + AROUND + IS, _BEGIN_AROUND + b"-=\xe2"),
        before=150,
        behind=900,
    ),
    Form(
        find=find_beside,
        near=follows(MORE + AROUND + BESIDE, _BEGIN_AROUND + b"([<-~/?\xe2"),
        before=150,
        behind=600,
    ),
    Form(find=find_changed, near=follows(MORE + AROUND + FROM, _BEGIN_AROUND), before=150, behind=1400),
    Form(
        find=find_listed,
        near=both(ahead(b"\n", 300), follows(MORE + AROUND + LISTED, _BEGIN_AROUND + b"\r\n")),
        before=150,
    ),
    Form(
        find=find_below,
        near=both(ahead(b":", 300), follows(MORE + AROUND + BELOW, _BEGIN_AROUND)),
        before=150,
        behind=1200,
    ),
    Form(
        find=find_refused,
        near=both(
            follows(rb"s?:?[ ]\\{0,64}[\"'`]", b"s: "),
            before(
                (b"nvalid ", b"nknown ", b"ad ", b"xpired ", b"evoked ", b"nized ", b"nised ", b"rong "), 60
            ),
        ),
        before=80,
        behind=600,
    ),
    Form(
        find=find_described,
        near=Condition(is_said_before),
        before=700,
        behind=150,
    ),
    Form(
        find=find_under_headings,
        near=both(
            both(before((b"# ",), 80), precedes(rb"#{1,6} [\w \x80-\xff-]{0,60}", 80, b" #")),
            follows(rb"[\w \x80-\xff-]{0,60}" + UNDER_HEADING, b" \r\n\\"),
        ),
        before=150,
        behind=1200,
    ),
)
"""The forms with a name."""

# Those without a name: one of the texts is in every text in which they find something.
UNNAMED: tuple[Form, ...] = (
    Form(
        find=find_commands,
        literals=(
            b" -u", b" -p", b" -P", b" -b ",
            b" -a", b" -w ", b" -k ", b" -N ", b" -U", b"--user", b"--proxy-user", b"-pass",
            b"htpasswd -", b"vault login", b"rabbitmqctl", b"-stdin", b"/user:", b"<<<", b"--with-token", b"sudo -S",
            b"chpasswd", b"cargo login", b"wandb login", b"railway login", b"authtoken ", b"auth init", b"-oauth.",
            b"-token.", b"http-basic.", b"bundle config", b"mc alias", b"mc config", b"net user", b"wpa_passphrase",
            b"nmcli", b"gem push", b"snmp", b"ipmitool", b" /p:", b"ldap", b"curl ", b"SecureString",
            b"ickServ", b"ICKSERV",
            b"keyvault secret", b"secret set", b"secrets set", b"secrets put", b"put-secret", b" unseal ",
            b"from-literal",
            b"sftp ", b"lftp ", b" /rp ", b" /p ", b"runas ",
            b"security unlock-", b"security add-", b"security set-", b"security create-", b"equirepass ", b"snyk auth",
            b"sqlplus", b"thin:", b"@//", b"WIFI:", b"rclone", b"secret put", b"| passwd", b"kinit",
        ),
        before=1400,
        behind=1400,
    ),
    Form(
        find=find_asserted,
        literals=(b".equals(", b".send_keys(", b".sendKeys(", b".equal("),
        may_follow=is_text,
        before=200,
        behind=700,
    ),
    Form(find=find_masked, literals=(b"add-mask::", b"setsecret]"), before=100, behind=700),
    Form(find=find_answers, literals=(b"assword",), may_follow=may_send, before=100, behind=700),
    Form(find=find_in_argument_lists, literals=ARGUMENT_LITERALS, before=4096, behind=1400),
    Form(find=find_pgpass, literals=(b":5432:", b":5433:", b":6432:", b":3306:", b":*:"), before=400, behind=700),
    Form(
        find=find_mail,
        literals=(b"PASS ", b"AUTH ", b"LOGIN ", b"AUTH\r", b"AUTH\\r", b"334 UGFzc3dvcmQ6"),
        before=500,
        behind=2400,
    ),
    Form(
        find=find_sql,
        literals=(b"DENTIFIED", b"dentified"),
        may_follow=is_identified_by,
        before=100,
    ),
    Form(find=find_sql, literals=(b"PASSWORD '", b"PASSWORD \\"), before=100),
    Form(find=find_jwk, literals=(b"kty",), before=4096, behind=8192),
    Form(find=find_kubernetes, literals=(b"Secret", b"stringData"), before=4096 + 200, behind=8192),
    Form(
        find=find_queries,
        literals=(
            b"?code=", b"&code=", b"?key=", b"&key=", b"?appid=", b"&appid=", b"?tk=", b"&tk=", b"?sso=",
            b"?magic=", b"grant_type=", b'grant_type"', b"grant_type\\",
        ),
        before=500,
        behind=1200,
    ),
    Form(
        find=find_links,
        literals=(
            b"assword/", b"assword-reset/", b"assword_reset/", b"asswordreset/", b"/reset/", b"agic-link/",
            b"agic_link/",
            b"agiclink/", b"mail/", b"ctivate/", b"nvite/", b"ASSWORD/",
        ),
        before=200,
        behind=700,
    ),
    Form(find=find_xml_keys, literals=(b"RSAKeyValue",), before=4096),
    Form(find=find_key_lines, literals=(b"Private-Lines:", b"---- BEGIN SSH2"), before=100, behind=8192),
    Form(find=find_positional, literals=LITERALS, before=100),
)  # fmt: skip
"""The forms without one."""
