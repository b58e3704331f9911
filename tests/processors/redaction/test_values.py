"""Values that look like something harmless and are secrets, and harmless ones that look like secrets."""

from __future__ import annotations

import json

import pytest

from nat_observability.processors import Redactor
from tests.processors.builders import a_span

REDACTOR = Redactor()

# The whole text, and what must not stay of it.
SECRET: list[tuple[str, str]] = [
    # not patterns
    ("DB_PASSWORD=k9[a-Xm2Qw7!", "Xm2Qw7"),
    ("DB_PASSWORD=Tr0ub[4-dor&3", "Tr0ub"),
    ('password = "Xk9[^m2Qw7Tz"', "Xk9"),
    ('password = "k9(?=m2Qw7"', "k9"),
    ('{"api_key":"a[0-k9Xm2Qw7Tz4vR8nB"}', "k9Xm2"),
    ("user,password\nbob,[a-k9Xm2Qw7", "k9Xm2"),
    # on lines of their own, and in tables
    ('"password":\n  QxYz7781Kk\nuser: bob', "QxYz7781"),
    ("  'token':\n    QxYz7781Kk\n  user: bob", "QxYz7781"),
    ("password:\n  QxYz7781Kk", "QxYz7781"),
    ("x = {'user': 'bob', 'password':\n  QxYz7781Kk}", "QxYz7781"),
    ("    Cookie: a=b;\n        sid=QxYz7781Kk;\n    Host: x", "QxYz7781"),
    ("Cookie: a=b,\n sid=QxYz7781Kk", "QxYz7781"),
    ("password | QxYz7781Kk", "QxYz7781"),
    ("token: TokenInterface9x7", "Interface9x7"),
    ("Authorization: TokenAuth QxYz7781Kk", "QxYz7781"),
    ("Authorization: TokenAuth, QxYz7781Kk", "QxYz7781"),
    ("DB_PASSWORD=Winter[2024]", "Winter[2024"),
    # in URLs
    ("postgres://u:$Summer2024@h/d", "Summer"),
    ("postgres://bob:$ecretPass1@db.corp/x", "ecretPass1"),
    ("redis://:$uper_pw_99@cache:6379/0", "uper_pw"),
    ("https://bob:{k9Xm2Qw7Tz}@host/x", "k9Xm2"),
    ("https://bob:[k9Xm2Qw7Tz]@host/x", "k9Xm2"),
    ("postgresql://app:Secret@db:5432/x", "Secret@"),
    ("mysql://root:password@10.0.0.1/x", "password@"),
    # in structures
    ('{"auth":{"type":"api_key","key":"abcd-efgh-ijkl"}}', "efgh"),
    ('{"auth":{"method":"apikey","key":"letmein99"}}', "letmein"),
    ('{"credentials":{"key":"k9Xm2Qw7"}}', "k9Xm2"),
    ('{"credentials":{"pass":12345678}}', "12345678"),
    ('{"credentials":{"key":482910}}', "482910"),
    ('{"credentials":{"license":"ABCD-EFGH-IJKL"}}', "EFGH"),
    ('{"secrets":{"session":"hunter22","ticket":"abc-123"}}', "hunter22"),
    ('{"secret":{"source":"k9Xm/2Qw7Tz4vR8nB1cD5Ef6"}}', "2Qw7"),
    ('{"password":{"source":"k9Xm2Qw7"}}', "k9Xm2"),
    ('{"password":{"last":"hunter2","first":"hunter3"}}', "hunter2"),
    ("token:\n  type: hunter2pw", "hunter2pw"),
    ("password:\n  file: hunter2!!", "hunter2"),
    ("credentials:\n  file: k9Xm2Qw7!\n  type: hunter22", "k9Xm2"),
    ('{"mnemonic":["the all first enter must can"]}', "enter must"),
    ('{"recovery_codes":["correct the horse"]}', "horse"),
    # in the next quotes
    ('print("token:", "k9Xm2Qw7Tz")', "k9Xm2"),
    ('console.log("API key: ", "k9Xm2Qw7Tz")', "k9Xm2"),
    ('log("password=" + "k9Xm2Qw7Tz")', "k9Xm2"),
    # letters alone
    ("https://x.com/a?token=QwErTyUiOpAsDf&x=1", "QwErTy"),
    ('{"token":"kXzQwRtYpLmNbV"}', "kXzQw"),
    ("csrf=QwErTyUiOpAsDf-GhJkLzXcVbNm", "QwErTy"),
    ("auth: hunterpass", "hunterpass"),
    ('{"verification_code":"WDJB-MJHT"}', "WDJB"),
    ("Your verification code: BCDFGHJK", "BCDFGHJK"),
    ("otp: ABCD-EFGH", "ABCD"),
    ("access_code=correct-horse", "correct-horse"),
    ("password: correct.horse.battery.staple", "horse"),
    ("DB_PASSWORD=winter.summer.spring", "summer"),
    # arguments of calls
    ('password=f(arg="k9Xm2Qw7Tz!")', "k9Xm2"),
    ('secret = Secret(id="k9Xm2Qw7Tz")', "k9Xm2"),
    # no placeholders
    ('{"client_secret":"changeme_9f8e7d6c5b4a"}', "9f8e7d"),
    ('{"password":"change-me-k9Xm2Qw7Tz"}', "k9Xm2"),
    ('{"password":"$(Summer2024!)"}', "Summer"),
    ('{"password":"--Hunterkatze"}', "Hunterkatze"),
    ("export TOKEN=-abcdefghij", "abcdefghij"),
    # not algorithms
    ('{"password":"md5-k9Xm2Qw7-zT4vR8nB"}', "k9Xm2"),
    ('{"api_key":"base64-k9Xm2Qw7-zT4vR8nB"}', "k9Xm2"),
    ('{"secret":"sha1.k9Xm2Qw7.zT4vR8nB.c3D4e5F6"}', "k9Xm2"),
    ('{"password":"es7.k9Xm2Qw7"}', "k9Xm2"),
    # secrets in paths of URLs
    ("webhook: https://hooks.corp.com/services/k9Xm2Qw7Tz4vR8nB1cD5", "k9Xm2"),
    ('{"session":"https://a.b/k9Xm2Qw7Tz4vR8nB1cD5"}', "k9Xm2"),
    ('{"magic_link_token":"https://x.com/login?t=k9Xm2Qw7Tz4vR8nB1cD5"}', "k9Xm2"),
    ('{"password":"https://pwpush.com/p/k9Xm2Qw7Tz4v?x"}', "k9Xm2"),
    ('{"password":"Winter Secret Garden"}', "Garden"),
    # codes beside what they are granted for, and lists of arguments
    ('{"grant_type":"pkce","code":"k9Xm2Qw7Tz4v"}', "k9Xm2"),
    ('["vault","login","k9Xm2Qw7Tz"]', "k9Xm2"),
    ('["wget","-su","bob:k9Xm2Qw7Tz"]', "k9Xm2"),
    ('["sudo","wget","-qu","bob:k9Xm2Qw7Tz"]', "k9Xm2"),
    ("ran ['rabbitmqctl','add_user','bob','k9Xm2Qw7Tz']", "k9Xm2"),
    ("ran ['snmpget','-c','k9Xm2Qw7Tz']", "k9Xm2"),
    ('["curl","-ubob:scott/k9Xm2Qw7Tz@//db"]', "k9Xm2"),
    ('["curl","-u","bob:k9Xm2Qw7Tz","-u","al:k9Xm2Qw7Tz"]', "k9Xm2"),
]  # fmt: skip

HARMLESS: list[str] = [
    "Use 4096 as the token limit",
    "128000 for the token limit",
    "The model allows 200000 (token window)",
    "error 1045 (password wrong)",
    "Ticket 482910 is API key rotation",
    "CVE-2024-1234 (password leak)",
    "port 6379 for redis auth token",
    'import x from "npm:eslint-plugin-react@7.33.2"',
    "1|da39a3ee5e6b4b0d3255bfef95601890afd80709|fix bug",
    "1700000000000000-da39a3ee5e6b4b0d3255bfef95601890afd80709",
    '{"grant_type":"authorization_code","code":404}',
    '{"grant_type":"authorization_code","code":"invalid_grant"}',
    '["docker","run","-p","127.0.0.1:8080:80/tcp","login"]',
    "access token issued 2024-01-15T10:22:31Z",
    "password changed 2h15m30s ago",
    "The token gpt4o-mini-2024x is used",
    "Private key (ed25519-v2x) used",
    r'{"password_pattern": "[A-Za-z0-9]{20}", "password": "(?i)\\S+"}',
    # code: what follows a name at the end of a line, parameters, types
    "switch (x) {\n  case 'token':\n    return new Token(x);\n  case 'other':\n    return 1;\n}",
    'if method == "client_secret_basic":\n    a = quote(self.client_id)\n    b = 1\nreturn a',
    '    def next(self) -> "Token":\n        if not self.more:\n            return self\n        return x',
    'for h in ["Authorization", "Cookie"]:\n    try:\n        del headers[h]\n    except KeyError:\n        pass',
    'if request.session.get(K) != request.META["CSRF_COOKIE"]:\n    rotate()\nelse:\n    keep()',
    '    settings["PASSWORD"],\n    dsn(settings),\n    other(settings),',
    "    cookies: CookieTypes | None = None,\n    auth: AuthTypes | None = None,\n    timeout: int = 1,\n",
    "with Client(\n    cookies=cookies,\n    proxy=proxy,\n    verify=verify,\n) as client:\n    client.get(url)",
    "password: str | None = None",
    "    auth: _t.AuthType = None,",
    "    cookies: RequestsCookieJar | CookieJar | dict[str, str] | None = None,",
    "    private_key: CertificateIssuerPrivateKeyTypes,",
    "token = tokens[idx]",
    "token = line[start:pos]",
    "const token = parts[i - 1].trim()",
    "local token = ARGV[1]",
    "def f(token: str) -> AccessToken | None:",
    "auth: tuple[str, str] | None = None,",
    "def __init__(self, token: TokenInterface):\n    pass",
    "refresh_token: RefreshTokenT,",
    "cookies: dict[str, str]",
    "ssl_key_password: _PasswordType | None = None",
    "def f(password, validators=None, token=None):\n    return 1",
]  # fmt: skip


@pytest.mark.parametrize(("text", "secret"), SECRET)
def test_g13_a_value_that_only_looks_harmless_is_redacted(text: str, secret: str) -> None:
    """As text, in a message, and as the JSON that it is."""
    for value in (text, {"content": text}, *([json.loads(text)] if text[0] in "{[" else [])):
        left = REDACTOR(a_span(value)).input
        shown = left if isinstance(left, str) else bytes(left or b"").decode()
        assert secret not in shown, shown


@pytest.mark.parametrize("text", HARMLESS)
def test_a_value_that_only_looks_secret_stays(text: str) -> None:
    """As text, and in a message."""
    for value in (text, {"content": text}):
        span = a_span(value)
        assert REDACTOR(span) is span, REDACTOR(span).input
