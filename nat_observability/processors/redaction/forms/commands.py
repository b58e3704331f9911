"""Commands: passwords among the words of a command, and settings that are a name and a value."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nat_observability.processors.redaction.forms.near import argument, label_of
from nat_observability.processors.redaction.marks import Found
from nat_observability.processors.redaction.names.keys import LIKELY, UNSURE, KeyMatcher
from nat_observability.processors.redaction.text.windows import matches
from nat_observability.processors.redaction.values.expressions import secret_spans

_SETTING = re.compile(
    rb"(?:\bsetx(?: /[mM])?|\bread(?: -\w{1,4}){0,3}|\b(?:poetry|composer|bundle|yarn|pnpm|pip|conan|gem|ngrok|g"
    rb"lab|pulumi|dvc|cargo) config(?: set| add)?(?: --\w[\w-]{0,20}){0,3}|#define|\bENV|\bARG|\bSetEnv|\bset(?:"
    rb"env)?(?: -\w{1,8}){"
    rb"0,3}|\b(?:configure|config|se"
    rb"crets?|variables?|env) (?:set|add|put|create)(?: --?\w[\w-]{0,20}){0,3}|"
    rb"\bgit config(?: --\w{1,20}){0,3}|\bproxy_set_header|\badd_header|\bRequestHeader set|\bfastcgi_"
    rb"param|\brequire)[ \t]{1,16}"
    rb"(\\{0,64}[\"']?)(?://[\w./-]{1,100}:)?([A-Za-z_\x80-\xff][\w./:\x80-\xff-]{0,100})\1[ \t]{1,64}(?:--(?:bo"
    rb"dy|value|data)[ =]"
    rb"|-[bv] ?|<<< ?)?(?=[^\s=:<])"
)


FLAG = re.compile(rb"(?<![\w-])()-([A-Za-z][\w-]{2,60})[ \t]{1,8}(?![-\s])")


def find_settings(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in (*matches(_SETTING, data), *matches(FLAG, data)):
        label = label_of(match[2], keys)
        if label is not None and label != UNSURE:
            for start, end in secret_spans(data, match.start(2), match.end(), label, keys):
                yield start, end, label


# Options of some commands that have a password: after a blank, or directly behind the letter.
COMMANDS = (
    rb"(sshpass|mysql|mysqldump|mysqladmin|mariadb|7z|7za|rar|unrar|zip|unzip|sqlcmd|bcp|mosquitto_p"
    rb"ub|mosquitto_sub|snowsql|"
    rb"redis-cli|docker|podman|helm|buildah|skopeo|nerdctl|oras|crane|az|mongo|mongosh|mongodump|mongo"
    rb"restore|ldapsearch|ldapmodify|"
    rb"ldapadd|ldappasswd|curl|wget|http|https|xh|smbclient|openssl|htpasswd|keytool|jarsigner|vault|n"
    rb"pm|gh|rabbitmqctl|ansible|cqlsh|"
    rb"clickhouse-client|clickhouse|impala-shell|beeline|hdbsql|isql|tsql|ftp|lftp|ncftp|rclone|restic"
    rb"|borg|gpg|ssh-keygen|kinit|"
    rb"net use|psql|influx|oc|kubectl|doctl|rsync|svn|hg|cadaver|expect|passwd|chpasswd|wpa_passphrase"
    rb"|nmcli|iwconfig|sqlplus|useradd|usermod|twine|psexec|rdesktop|winexe|ipmitool|snmpwalk|snmpget|snmpset|xfreerdp|winrm)"
)
_COMMAND = re.compile(rb"\b" + COMMANDS + rb"\b((?:[^\r\n\\|]|\\(?:\r?\n|\\n|[\"'$ \\])){1,1000})")
LISTED_COMMAND = re.compile(rb"\b" + COMMANDS + rb"\b([^\n]+)")
"""The same, however long, if the line is nothing but its words."""

# Options of other commands that begin with the same letter.
_ATTACHED = re.compile(
    rb"[ \t]-[pw](?!(?:rod|rofile|roject|rint|ort|ath|refix|retty|lugin|rotocol|arallel|ackage|erl|ython|eriod)("
    rb"?:[\s\"']|\Z))(\\{0,64}[\"']?)([^\s\"'\\-][^\s\"'\\]{2,512})"
)
_OPTIONS = {
    b"p": b"useradd usermod twine psexec rdesktop winexe sshpass docker podman helm buildah skopeo nerdctl oras "
    b"crane az mongo mongosh mongodump mongore"
    b"store cqlsh hdbsql influx oc beeline snowsql keytool".split(),
    b"P": b"ipmitool zip unzip sqlcmd bcp mosquitto_pub mosquitto_sub isql tsql ssh-keygen 7z".split(),
    b"a": b"redis-cli".split(),
    b"w": b"ldapsearch ldapmodify ldapadd ldappasswd beeline".split(),
    b"A": b"snmpwalk snmpget snmpset".split(),
    b"X": b"snmpwalk snmpget snmpset".split(),
    b"c": b"snmpwalk snmpget snmpset".split(),
    b"N": b"ssh-keygen".split(),
    b"k": b"openssl".split(),
}
_OPTION_OF = {
    command: [letter for letter, commands in _OPTIONS.items() if command in commands]
    for commands in _OPTIONS.values()
    for command in commands
}
_MONGO = frozenset(b"mongo mongosh mongodump mongorestore".split())
_PORT = re.compile(rb"270[0-9]{2}")
_ATTACHING = frozenset(
    b"mysql mysqldump mysqladmin mariadb 7z 7za rar unrar sshpass ldapsearch ldapmodify ldapadd ldappasswd".split()
)
_USER = re.compile(
    rb"[ \t](?:-[a-zA-Z]{0,6}u|-U|-a|-E|--user|--proxy-user|--auth|--cert)(?:[ \t=]{1,8}|(?=[\"'])|(?<=u))(\\{0,"
    rb"64}[\"']?)([^\s:\"'\\"
    rb"%]{1,100})[:%]([^\s\"'\\]{1,300})"
)
_USER_QUOTED = re.compile(
    rb"[ \t](?:-u|-U|-a|--user|--proxy-user|--auth)(?:[ \t=]{1,8}|(?=[\"']))(\\{0,64}[\"'])([^:\"'\\%\n"
    rb"]{1,100})[:%](.{1,300}?)\1"
)
_USER_VALUE = re.compile(
    rb"[ \t](?:-[a-zA-Z]{0,6}u|--user)[ \t=]{1,8}[^\s:\"'\\]{1,100}:(\\{0,64}[\"'])([^\"'\n]{1,300})"
)
_COOKIE = re.compile(
    rb"[ \t]-b[ \t]{1,8}(?:(\\{0,64}[\"'])(?=[\w.-]{1,100}=))?"
    rb"((?(1)(?:(?!\1).){4,2000}?(?=\1)|[\w.-]{1,100}=[^\s\"'\\]{3,1000}))"
)
_PASS_IN = re.compile(
    rb"(?:-pass(?:in|out|word)?|-passin|-passout)[ \t](\\{0,64}[\"']?)pass:(?:\\{0,64}[\"'])?([^\s\"'\\]{1,200})"
)
_ARGUMENT = rb"(\\{0,64}[\"']?)([^\s\"'\\|<>;-][^\s\"'\\|<>;]{2,300})"
# Words of commands with a password behind them, or before a bar.
_POSITIONAL = (
    rb"\b(?:echo|printf|cat <<<|<<<)(?: -\w{1,4}){0,2} (\\{0,64}[\"']?)([^\s\"'\\|]{1,300})(?:\\n)?\\{0,64}[\"']"
    rb"?\s{0,4}\|"
    rb"[^|\n]{0,300}?(?:-stdin|--with-token|\bsudo -S|\bchpasswd|\bpasswd\b|\bcryptsetup|\bsecrets? (?:put|set|c"
    rb"reate)|\benv add|\bvncpasswd|\bkinit)",
    rb"(?:\bsudo -S|\bvncpasswd|\bpasswd|\bcryptsetup|\bkinit|\blogin|\bsecrets? (?:put|set)|stdin)[^|\n<]{0,80}<<< ?"
    + _ARGUMENT,
    rb"\bnet use (?:\S{1,8} ){0,1}\S{1,200} /user:\S{1,100} " + _ARGUMENT,
    rb"\bnet user \S{1,64} " + _ARGUMENT,
    rb"htpasswd (?:-\w{1,8} ){1,4}\S{1,200} \S{1,100} " + _ARGUMENT,
    rb"\b(?:(?:vault|cargo|wandb|railway) login|snyk auth) (?:-\S{1,80} ){0,4}" + _ARGUMENT,
    rb"\b(?:add-)?authtoken " + _ARGUMENT,
    rb"\bdoctl auth init -t " + _ARGUMENT,
    rb"rabbitmqctl (?:add_user|change_password) \S{1,100} " + _ARGUMENT,
    rb"\b(?:composer|poetry|bundle) config (?:(?:-g|--\w{1,20}|set) ){0,2}\S{0,40}(?:github-oauth|gitlab-token|p"
    rb"ypi-token)\.\S{1,100} " + _ARGUMENT,
    rb"\b(?:composer|poetry) config (?:(?:-g|--\w{1,20}) ){0,2}\S{0,40}http-basic\.\S{1,100} \S{1,100} "
    + _ARGUMENT,
    rb"\bbundle config (?:(?:set|--\w{1,20}) ){0,2}[\w.-]{1,100} [\w.-]{1,100}:()([^\s\"'\\]{3,200})",
    rb"\bmc (?:alias set|config host add) \S{1,64} \S{1,200} \S{1,100} " + _ARGUMENT,
    rb"\bwpa_passphrase \S{1,64} " + _ARGUMENT,
    rb"\bnmcli [^\n|;]{1,120}? password " + _ARGUMENT,
    rb"\bgem push [^\n|;]{0,80}?--key " + _ARGUMENT,
    rb"[ ]/p:" + _ARGUMENT,
    rb"\bwinr[ms]\b[^\n]{0,80}? -p:" + _ARGUMENT,
    rb"\bConvertTo-SecureString (?:-\w{1,20} ){0,3}(\\{0,64}[\"'])([^\"'\n]{3,200})",
    rb"(?:\bsqlplus(?: -\w{1,4}){0,3} |\bthin:|\b(?:CONNECT|connect|expdp|impdp|sqlldr) )[\w$#]{1,30}/()([^\s@"
    rb"\"']{3,100})(?=@)",
    rb"\b[\w$#]{1,30}/()([^\s@/\"']{3,100})(?=@//)",
    rb"\b(?i:nickserv) (?i:identify|register) (?:[\w-]{1,30} (?=\S))?" + _ARGUMENT,
    rb"\bWIFI:[^\n]{0,100}?;P:()((?:[^;\\\n]|\\.){3,100})(?=;)",
)
# The same, each only if a word is there, which is found in no time.
_POSITIONAL_BEHIND = {
    b"earer": rb"\b(?:https?|xh)\b[^\n|;]{0,80}? (?:-A|--auth-type)[ =](?:bearer|jwt)[^\n|;]{0,40}? (?:-a|--auth)[ =]"
    + _ARGUMENT,
    b"keyvault": rb"\bkeyvault secret set[^\n|;]{1,200}? --value[ =]" + _ARGUMENT,
    b"secret": rb"\bsecrets? (?:set|put)[^\n|;]{1,200}? (?:--body|-b|--value|--string|--secret-string|--data)[ =]"
    + _ARGUMENT,
    b"put-secret-value": rb"\bput-secret-value[^\n|;]{1,300}? --secret-string[ =]" + _ARGUMENT,
    b"unseal": rb"\boperator unseal (?:-\S{1,80} ){0,4}" + _ARGUMENT,
    b"from-literal": rb"\bcreate secret generic[^\n|;]{1,400}? --from-literal[ =]\\{0,64}[\"']?[\w.-]{1,80}="
    + _ARGUMENT,
    b"chpasswd": rb"\bchpasswd <<<? ?\\{0,64}[\"']?[\w.-]{1,64}:()([^\s\"'\\]{3,300})",
    b"lftp": rb"\blftp[^\n|;]{0,200}? -u \\{0,64}[\"']?[^\s,\"']{1,64},()([^\s\"'\\]{3,300})",
    b"@": rb"\b(?:sftp|scp|rsync) (?:-\S{1,20} ){0,3}[\w.-]{1,64}:()((?=[^\s@/]{0,100}[0-9])(?=[^\s@/]{0,100}[A-"
    rb"Za-z])[^\s@/:\"'\\]{8,100})(?=@[\w.-])",
    b"signtool": rb"\bsigntool\b[^\n|;]{0,200}? /p (?!\S{1,200}\.(?:exe|dll|msi|cab|sys)(?!\S))" + _ARGUMENT,
    b"security": rb"\bsecurity [a-z-]{4,40}[^\n|;]{0,200}? -[pwP] " + _ARGUMENT,
    b"schtasks": rb"\bschtasks\b[^\n|;]{0,300}? /rp " + _ARGUMENT,
    b"runas": rb"\brunas\b[^\n|;]{0,120}? /user:\S{1,100} " + _ARGUMENT,
    b"net use": rb"\bnet use (?:\S{1,8} ){0,1}\S{1,200} (?!/)([\"']?)([^\s\"'\\]{3,300}) /user:",
    b"equirepass": rb"\b[Rr]equirepass " + _ARGUMENT,
}
_WORDS = [
    *((b"", re.compile(expression)) for expression in _POSITIONAL),
    *((word, re.compile(expression)) for word, expression in _POSITIONAL_BEHIND.items()),
]
# What is sent when a program asks for a password.
_ANSWERED = re.compile(
    rb"assword[^\n]{0,20}[\"';:\]}\s]{1,8}(?:exp_)?send(?:line)?[ (]{1,2}(\\{0,64}\")([^\"\\\n]{3,200})"
)
_NEXT_COMMAND = re.compile(rb"[;&|]\s")
_PAIRS = re.compile(rb"\brclone config (?:create|update) ([^\n|;]{1,400})")
_PAIR = re.compile(rb"([A-Za-z_]{1,60})[ =]([^\s\"'=]{3,200})")


def find_commands(
    data: bytes, keys: KeyMatcher, command_line: re.Pattern[bytes] = _COMMAND
) -> Iterator[Found]:
    """
    Find the values of options and words that commands take.

    Args:
        command_line: Matches the name of a command and its words, in two groups.
    """
    for command in matches(command_line, data):
        name, begin, end = command[1], command.start(2), command.end(2)
        for letter in _OPTION_OF.get(name, ()):
            option = re.compile(
                rb"[ \t]-" + letter + rb"[ \t]{1,8}(\\{0,64}[\"']?)([^\s\"'\\-][^\s\"'\\]{0,300})"
            )
            for match in option.finditer(data, begin, end):
                if name in (b"docker", b"podman", b"nerdctl") and (
                    b" login" not in _NEXT_COMMAND.split(data[begin : match.start()])[-1]
                    or re.fullmatch(rb"[\d./-]+:[\d:./-]+(?:/tcp|/udp)?", match[2])
                ):
                    continue
                if name in _MONGO and _PORT.fullmatch(match[2]) is not None:
                    continue
                if name in (b"helm", b"az", b"oc") and b"login" not in command[2]:
                    continue
                yield from argument(data, match.start(2), match.end(2), match[1], keys)
        if name in _ATTACHING:
            for match in _ATTACHED.finditer(data, begin, end):
                yield from argument(data, match.start(2), match.end(2), match[1], keys)
        if name in (b"curl", b"wget", b"http", b"https", b"xh", b"smbclient", b"rclone", b"lftp"):
            for match in _USER_QUOTED.finditer(data, begin, end):
                yield from argument(data, match.start(3), match.end(3), b"", keys)
            for match in _USER.finditer(data, begin, end):
                yield from argument(data, match.start(3), match.end(3), match[1], keys)
            for match in _USER_VALUE.finditer(data, begin, end):
                yield from argument(data, match.start(2), match.end(2), match[1], keys)
        if name == b"curl":
            for match in _COOKIE.finditer(data, begin, end):
                yield *match.span(2), "cookie"
        for match in _PASS_IN.finditer(data, begin, end):
            yield from argument(data, match.start(2), match.end(2), match[1], keys)
    for word, expression in _WORDS:
        if word and data.find(word) < 0:
            continue
        for match in matches(expression, data):
            if match[1] or _TELLS.search(match[2]) is not None:
                yield from argument(data, match.start(2), match.end(2), match[1], keys)
    for match in matches(_PAIRS, data):
        for pair in _PAIR.finditer(data, *match.span(1)):
            label = label_of(pair[1], keys)
            if label not in (None, UNSURE):
                yield from argument(data, *pair.span(2), b"", keys)


_MASKED = re.compile(rb"(?:::add-mask::|##vso\[task\.setsecret\])()([^\s\"'\\]{3,300})")


def find_masked(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    """Find what a job asks its runner to mask."""
    for match in matches(_MASKED, data):
        yield from argument(data, match.start(2), match.end(2), match[1], keys)


def may_send(data: bytes, at: int) -> bool:
    """Say whether what is sent may be behind a question that ends there."""
    return data.find(b"send", at, at + _LONGEST_QUESTION) >= 0


_LONGEST_QUESTION = 300  # bytes of its end


def find_answers(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    """Find what a script sends to a program that asks for a password."""
    for match in matches(_ANSWERED, data):
        yield from argument(data, match.start(2), match.end(2), match[1], keys)


_TELLS = re.compile(rb"[^A-Za-z]|[a-z][A-Z]")
_OPTIONED = re.compile(
    rb" --(?:name|key|parameter-name|secret-id)[ =](\\{0,64}[\"']?)([\w./:-]{1,120})\1[^\n|;]{0,200}? --(?:value"
    rb"|body|data|string|"
    rb"secret-string)[ =](\\{0,64}[\"']?)([^\s\"'\\]{3,300})"
)


def find_options(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    """Find the values of options beside one with their name: --name db-password --value x."""
    for match in matches(_OPTIONED, data):
        label = label_of(match[2].replace(b"/", b"."), keys)
        if label not in (None, UNSURE, LIKELY):
            yield from argument(data, *match.span(4), match[3], keys)


_REDIRECTED = re.compile(
    rb"\b(?:echo|printf)(?: -\w{1,4}){0,2} (\\{0,64}[\"']?)([^\s\"'\\|$][^\"'\\|\n]{2,300}?)(?:\\n)?\1 {0,4}>{1,"
    rb"2} {0,4}[\w./~-]{0,80}?([\w-]{1,60})(?:\.\w{1,10})?(?![\w/.-])"
)


def find_redirected(data: bytes, keys: KeyMatcher) -> Iterator[Found]:
    for match in matches(_REDIRECTED, data):
        label = label_of(match[3], keys)
        if label not in (None, UNSURE, LIKELY):
            yield from argument(data, *match.span(2), match[1], keys)
