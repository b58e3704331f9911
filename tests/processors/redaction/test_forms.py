"""Forms of code, tools and documents: the value is found in each, whatever it looks like, and prose about it stays."""

# ruff: noqa: E501

from __future__ import annotations

import json

import pytest

from nat_observability.processors import Redactor
from tests.processors.builders import a_span

REDACTOR = Redactor()
HASHED = Redactor(hash_key=b"k" * 16)

FORMS = [
    # Code
    "api_key: str = '{}'", "password: str | None = \"{}\"", "    token: Annotated[str, Field(repr=False)] = '{}'",
    "const password: string = '{}';", 'let token: &str = "{}";', 'val apiKey: String = "{}"', 'static const char password[] = "{}";',
    'const DbPassword string = "{}"', 'public string AdminPassword {{ get; set; }} = "{}";', "Settings(password=SecretStr('{}'))",
    "SecretStr('{}')", "requests.get(url, auth=('bob', '{}'))", "HTTPBasicAuth('bob', '{}')", 'config.setPassword("{}");',
    "key = os.getenv('API_KEY') or '{}'", "const k = process.env.API_KEY ?? '{}';", "const k = process.env.API_KEY || '{}';",
    "password = os.environ.get('PASSWORD', '{}')", "password = 'ab' + '{}'", "token = (\n    'ab'\n    '{}'\n)",
    # Agents
    '<parameter name="password">{}</parameter>', "<parameter=password>\n{}\n</parameter>",
    "<arg_key>password</arg_key>\n<arg_value>{}</arg_value>", 'await page.fill("#password", "{}")',
    "page.getByLabel('Password').fill('{}')", 'driver.find_element(By.ID, "password").send_keys("{}")',
    "1 validation error for Settings\npassword\n  Input should be valid [type=int_parsing, input_value='{}', input_type=str]",
    # Commands
    "curl -u bob:{} https://example.com", "sshpass -p {} ssh host", "mysql -u root -p{} shop", "setx DB_PASSWORD {}", "ENV API_TOKEN {}",
    '#define API_TOKEN "{}"', "aws configure set aws_secret_access_key {}", "set -gx DB_PASSWORD {}", "deploy -token {} -v",
    # Databases and protocols
    "CREATE USER bob IDENTIFIED BY '{}'", "ALTER ROLE bob WITH PASSWORD '{}'", "INSERT INTO users (name, password) VALUES ('bob', '{}')",
    "SELECT 1 FROM users WHERE token LIKE '{}'", "USER bob\r\nPASS {}\r\n", "machine example.com login bob password {}",
    "db.example.com:5432:shop:bob:{}", 'kind: Secret\ndata:\n  anything: {}\n',
    '--b7\r\nContent-Disposition: form-data; name="password"\r\n\r\n{}\r\n--b7--',
    # Documents
    "<tr><td>Password</td><td>{}</td></tr>", "<b>Password:</b> {}", '<input value="{}" type="hidden" name="password">',
    '<string name="api_key">{}</string>', "<key>password</key>\n<string>{}</string>",
    "| user | password |\n|---|---|\n| bob | {} |", "| Password | {} |", " id | password \n----+----------\n  1 | {}\n",
    "user,password\nbob,{}\n", "user\tpassword\nbob\t{}\n", "The password is {}, keep it.", "my token is `{}`", "password -> {}",
    "Here is the password:\n\n{}\n\nThanks!", "Use `{}` as the password.",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form[:40])
def test_a_value_is_found_in_the_form(form: str) -> None:
    """Alone, in prose, and in JSON inside JSON; and a second pass changes nothing."""
    secret = "7xYlJ9kq2Wz"
    text = form.format(secret)
    for value in (
        text,
        f"It was said:\n\n{text}\n",
        {"content": text},
        {"arguments": json.dumps({"text": text})},
    ):
        for redactor in (REDACTOR, HASHED):
            once = redactor(a_span(value))
            left = once.input if isinstance(once.input, str) else bytes(once.input or b"").decode()
            assert secret not in left
            assert "[redacted:" in left
            assert redactor(once) == once


@pytest.mark.parametrize(
    "value",
    [
        {"selector": "#password", "value": "7xYlJ9kq2Wz"},
        {"field": "Password", "text": "7xYlJ9kq2Wz"},
        {"label": "Admin password", "val": "7xYlJ9kq2Wz"},
        {"element": "Password input", "ref": "e12", "text": "7xYlJ9kq2Wz"},
        {"key": "api_key", "text": "7xYlJ9kq2Wz"},
    ],
)
def test_a_field_may_be_named_in_another(value: dict[str, str]) -> None:
    """As in the actions of a browser."""
    assert "7xYlJ9kq2Wz" not in bytes(REDACTOR(a_span(value)).input).decode()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value",
    [
        {"time_to_first_token": 0.41, "progressToken": "p-17", "resume_token": "8264B0", "cursor": "eyJvZmZzZXQiOjIwfQ"},
        {"password_min_length": 12, "api_key_name": "production", "private_key_path": "/etc/ssl/a.key", "token_type": "Bearer"},
        {"content": [{"token": "Hello", "logprob": -0.31, "bytes": [72]}, {"token": "Berlin", "score": 0.9, "label": "LOC"}]},
        {"properties": {"password": {"type": "string", "description": "The password"}}},
        {"password": "YOUR_PASSWORD", "token": "***", "api_key": "${API_KEY}", "secret": "{{ vault.secret }}", "auth": "<auth>"},
        "api_key = os.environ['API_KEY']\ntoken = self.token\npassword = getpass.getpass()\nsecret = config.get('secret')",
        "class Login:\n    password: str\n    token: str | None = None\n    api_key: Optional[str] = None\n",
        "interface Login {\n  password: string;\n  apiKey?: string;\n}",
        "Password: must contain at least 12 characters. Token: the smallest unit of text.",
        "I forgot my password: what should I do? The password is required. The token is spent.",
        "usage: deploy [--password PASSWORD] [--token TOKEN]",
        "password=%s, token=:token, secret=?",
        '<input type="password" name="password" placeholder="Password">',
        "| Name | Type |\n|---|---|\n| password | string |\n",
        "PWD=/home/bob OLDPWD=/home",
        {"cache_key": "9f86d081884c7d659a2feaa0c55ad015", "public_key": "AAAAC3NzaC1lZDI1NTE5AAAAIJ", "key": "user:42"},
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_what_is_about_a_secret_stays(value: object) -> None:
    """Its length, its path, its type, a placeholder, a reference, a sentence."""
    span = a_span(value)
    assert REDACTOR(span) is span


@pytest.mark.parametrize(
    "text",
    ["admin_password\uff1d{}", "\uff54\uff4f\uff4b\uff45\uff4e: {}", "smtp\u200b_pass: {}", "db_password\xa0: {}", "token\x08: {}", "api\xad_key = {}"],
)  # fmt: skip
def test_text_is_searched_as_it_looks(text: str) -> None:
    """Invisible characters, other blanks and wide letters hide nothing, and what surrounds the mark stays."""
    for value in (text.format("7xYlJ9kq2Wz"), {"a": text.format("7xYlJ9kq2Wz")}):
        span = REDACTOR(a_span(value))
        left = span.input if isinstance(span.input, str) else json.loads(bytes(span.input))["a"]  # type: ignore[arg-type]
        before, _, behind = text.partition("{}")
        assert left.startswith(f"{before}[redacted:")
        assert left.endswith(f"]{behind}")


def test_equal_values_have_equal_hashes_however_they_are_written() -> None:
    """With the name of a scheme or without, in capitals or not, in groups or not."""
    redactor = Redactor(personal=["email", "card"], hash_key=b"k" * 16)

    def hashed(text: str) -> str:
        left = redactor(a_span(text)).input
        assert isinstance(left, str)
        return left.rpartition(":")[2]

    token = "7xYlJ9kq2WzAbCdEfGh1"
    assert hashed(f"Authorization: Bearer {token}") == hashed(f"password={token}")
    assert hashed("me@example.com") == hashed("Me@Example.COM")
    assert hashed("4111 1111 1111 1111") == hashed("4111111111111111")


@pytest.mark.parametrize(
    "value",
    [
        {"columns": ["user", "password"], "row": ["bob", "hunter2x"]},
        {"columns": ["user", "password"], "rows": [["bob", "hunter2x"], ["eve", "hunter2x"]]},
        {"header": ["id", "api_key"], "values": [[1, "hunter2x"]]},
        {"fields": [{"name": "user"}, {"name": "password"}], "data": [["bob", "hunter2x"]]},
        {"names": ["user", "db_password", "age"], "records": [["bob", "hunter2x", 3]]},
        {"schema": [["user", "text"], ["password", "text"]], "tuples": [["bob", "hunter2x"]]},
        [["user", "password"], ["bob", "hunter2x"]],
        {"result": json.dumps({"columns": ["user", "password"], "rows": [["bob", "hunter2x"]]})},
    ],
    ids=str,
)
def test_a_value_under_the_name_of_its_column_is_found(value: object) -> None:
    """Names of columns and rows of values in lists of their own; and every other value stays."""
    left = REDACTOR(a_span(value)).input
    assert left is not None
    assert not isinstance(left, str)
    assert b"hunter2x" not in bytes(left)
    assert b"user" in bytes(left) or b"id" in bytes(left)
    assert b"password" in bytes(left) or b"api_key" in bytes(left)


@pytest.mark.parametrize(
    "value",
    [
        {"columns": ["user", "age"], "rows": [["bob", 3]]},
        [["password_min_length", "user"], [8, "bob"]],
        {"columns": ["token_count", "user"], "row": [3, "bob"]},
        [["pass", "fail"], [3, 4]],
    ],
    ids=str,
)
def test_columns_of_other_names_stay(value: object) -> None:
    """Also if their names sound like those of secrets."""
    span = a_span(value)
    assert REDACTOR(span) is span
