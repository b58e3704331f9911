"""Commands: passwords among the words of a command, and settings that are a name and a value."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nat_observability.processors.redaction.forms.near import argument, label_of
from nat_observability.processors.redaction.marks import Found
from nat_observability.processors.redaction.names.keys import UNSURE, KeyMatcher
from nat_observability.processors.redaction.text.windows import matches
from nat_observability.processors.redaction.values.expressions import secret_spans

_SETTING = re.compile(
    rb"(?:\bsetx|#define|\bENV|\bARG|\bSetEnv|\bset(?:env)?(?: -\w{1,8}){0,3}|\b(?:configure|config|se"
    rb"crets?|variables?|env) (?:set|add|put|create)|"
    rb"\bgit config(?: --\w{1,20}){0,3}|\bproxy_set_header|\badd_header|\bRequestHeader set|\bfastcgi_"
    rb"param|\brequire)[ \t]{1,16}"
    rb"(\\{0,64}[\"']?)([A-Za-z_][\w./:-]{0,100})\1[ \t]{1,64}(?:--(?:body|value|data)[ =]|-[bv] )?(?=[^\s=:])"
)


FLAG = re.compile(rb"(?<![\w-])()-([A-Za-z][\w-]{2,60})[ \t]{1,8}(?![-\s])")


def find_settings(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in (*matches(_SETTING, data), *matches(FLAG, data)):
        label = label_of(match[2], keys)
        if label is not None and label != UNSURE:
            for start, end in secret_spans(data, match.start(2), match.end(), label, keys):
                yield start, end, label


# Options of some commands that have a password: after a blank, or directly behind the letter.
_COMMAND = re.compile(
    rb"\b(sshpass|mysql|mysqldump|mysqladmin|mariadb|7z|7za|rar|unrar|zip|unzip|sqlcmd|bcp|mosquitto_p"
    rb"ub|mosquitto_sub|snowsql|"
    rb"redis-cli|docker|podman|helm|buildah|skopeo|nerdctl|oras|crane|az|mongo|mongosh|mongodump|mongo"
    rb"restore|ldapsearch|ldapmodify|"
    rb"ldapadd|ldappasswd|curl|wget|http|https|xh|smbclient|openssl|htpasswd|keytool|jarsigner|vault|n"
    rb"pm|gh|rabbitmqctl|ansible|cqlsh|"
    rb"clickhouse-client|clickhouse|impala-shell|beeline|hdbsql|isql|tsql|ftp|lftp|ncftp|rclone|restic"
    rb"|borg|gpg|ssh-keygen|kinit|"
    rb"net use|psql|influx|oc|kubectl|doctl|rsync|svn|hg|cadaver|expect|passwd|chpasswd|wpa_passphrase"
    rb"|nmcli|iwconfig|sqlplus)\b"
    rb"((?:[^\r\n\\|]|\\(?:\r?\n|\\n|[\"'$ \\])){1,1000})"
)
_ATTACHED = re.compile(rb"[ \t]-p(\\{0,64}[\"']?)([^\s\"'\\-][^\s\"'\\]{2,200})")
_OPTIONS = {
    b"p": b"sshpass docker podman helm buildah skopeo nerdctl oras crane az mongo mongosh mongodump mongore"
    b"store cqlsh hdbsql influx oc beeline snowsql mysql mysqldump mysqladmin mariadb keytool".split(),
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
    rb"[ \t](?:-u|-U|-a|--user|--proxy-user|--auth)(?:[ \t=]{1,8}|(?=[\"']))(\\{0,64}[\"']?)([^\s:\"'\\"
    rb"%]{1,100})[:%]([^\s\"'\\]{1,300})"
)
_USER_QUOTED = re.compile(
    rb"[ \t](?:-u|-U|-a|--user|--proxy-user|--auth)(?:[ \t=]{1,8}|(?=[\"']))(\\{0,64}[\"'])([^:\"'\\%\n"
    rb"]{1,100})[:%](.{1,300}?)\1"
)
_PASS_IN = re.compile(
    rb"(?:-pass(?:in|out|word)?|-passin|-passout)[ \t](\\{0,64}[\"']?)pass:([^\s\"'\\]{1,200})"
)
_WORDS = re.compile(
    rb"\b(?:echo|printf|cat <<<|<<<)(?: -\w{1,4}){0,2} (\\{0,64}[\"']?)([^\s\"'\\|]{1,300})\\{0,64}[\"']?"
    rb"\s{0,4}\|[^|\n]{0,300}?-stdin"
    rb"|\bnet use (?:\S{1,8} ){0,1}\S{1,200} /user:\S{1,100} (\\{0,64}[\"']?)([^\s\"'\\]{1,300})"
    rb"|htpasswd (?:-\w{1,8} ){1,4}\S{1,200} \S{1,100} (\\{0,64}[\"']?)([^\s\"'\\]{1,200})|vault login "
    rb"(?:-\S{1,80} ){0,4}()([^\s\"'\\-][^\s\"'\\]{5,200})|rabbitmqctl (?:add_user|change_password) \S"
    rb"{1,100} (\\{0,64}[\"']?)([^\s\"'\\]{1,200})"
)


def find_commands(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
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
                    and name != b"mysql"
                ):
                    continue
                if name == b"mysql" and re.search(rb"[ \t]-p\s+\S+\s*(?:$|[;&])", command[2]) is not None:
                    continue
                yield from argument(data, match.start(2), match.end(2), match[1], keys)
        if name in (b"mysql", b"mysqldump", b"mysqladmin", b"mariadb", b"7z", b"7za", b"rar", b"unrar"):
            for match in _ATTACHED.finditer(data, begin, end):
                yield from argument(data, match.start(2), match.end(2), match[1], keys)
        if name in (b"curl", b"wget", b"http", b"https", b"xh", b"smbclient", b"rclone", b"lftp"):
            for match in _USER_QUOTED.finditer(data, begin, end):
                yield from argument(data, match.start(3), match.end(3), b"", keys)
            for match in _USER.finditer(data, begin, end):
                yield from argument(data, match.start(3), match.end(3), match[1], keys)
        for match in _PASS_IN.finditer(data, begin, end):
            yield from argument(data, match.start(2), match.end(2), match[1], keys)
    for match in matches(_WORDS, data):
        group = next(group for group in (2, 4, 6, 8, 10) if match[group] is not None)
        yield from argument(data, match.start(group), match.end(group), match[group - 1], keys)
