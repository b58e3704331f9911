"""Contexts in which people and databases write: tables, markup, SQL, prose, and odd characters."""

from __future__ import annotations

import csv

from benchmarks.redaction_corpus.contexts.base import (
    Context,
    camel,
    columns,
    double,
    doubled,
    markup,
    pascal,
    row,
    single,
    snake,
    title,
    upper,
    words,
)


def table(name: str, render: object, spell: object = snake, **more: object) -> Context:
    return Context(f"table {name}", "Markdown and CSV", spell, render, **more)  # type: ignore[arg-type]


TABLES = (
    table("markdown column", lambda n, v: f"| user | {n} |\n|---|---|\n| bob | {v} |\n"),
    table(
        "markdown column, title",
        lambda n, v: f"| User | {n} | Since |\n|:--|--:|---|\n| bob | {v} | May |\n",
        title,
    ),
    table("markdown column, code", lambda n, v: f"| user | `{n}` |\n| --- | --- |\n| bob | `{v}` |\n"),
    table("markdown second row", lambda n, v: f"| {n} | user |\n|---|---|\n| - | eve |\n| {v} | bob |\n"),
    table("markdown row", lambda n, v: f"| setting | value |\n|---|---|\n| host | db |\n| {n} | {v} |\n"),
    table("markdown row, bold", lambda n, v: f"| Setting | Value |\n|---|---|\n| **{n}** | `{v}` |\n", title),
    table("markdown, no edges", lambda n, v: f"user | {n}\n--- | ---\nbob | {v}\n"),
    table("markdown bold", lambda n, v: f"**{n}:** {v}\n", title),
    table("markdown bold, colon after", lambda n, v: f"- **{n}**: `{v}`\n", title),
    table("markdown list", lambda n, v: f"* {n}: {v}\n* host: db\n"),
    table("markdown heading", lambda n, v: f"### {n}\n\n{v}\n", title),
    table("markdown code", lambda n, v: f"The `{n}` is `{v}`.\n"),
    table("csv", lambda n, v: f"{row('user', n)}\n{row('bob', v)}\n"),
    table(
        "csv, crlf",
        lambda n, v: f"{row('id', 'user', n)}\r\n{row('1', 'eve', '')}\r\n{row('2', 'bob', v)}\r\n",
    ),
    table(
        "csv, quoted",
        lambda n, v: "\n".join(row(*r, quoting=csv.QUOTE_ALL) for r in (("user", n), ("bob", v))),
    ),
    table("csv, first column", lambda n, v: f"{row(n, 'user')}\n{row(v, 'bob')}\n", title),
    table(
        "csv, semicolons", lambda n, v: f"{row('user', n, delimiter=';')}\n{row('bob', v, delimiter=';')}\n"
    ),
    table("tsv", lambda n, v: f"user\t{n}\nbob\t{v}\n"),
    table("csv rows", lambda n, v: f"name,value\nhost,db\n{row(n, v)}\n", upper),
    table("mysql", lambda n, v: columns(("user", n), ("bob", v))),
    table("mysql, two rows", lambda n, v: columns(("id", n, "user"), ("1", v, "bob"), ("2", "", "eve"))),
    table("psql", lambda n, v: f" id | {n} \n----+------\n  1 | {v}\n(1 row)\n"),
    table("psql expanded", lambda n, v: f"-[ RECORD 1 ]\nid   | 1\n{n} | {v}\n"),
    table("mysql expanded", lambda n, v: f"*** 1. row ***\n      id: 1\n{n}: {v}\n"),
    table("box", lambda n, v: columns(("user", n), ("bob", v), border="│", edge="┼")),
    table("pandas", lambda n, v: f"  user {n.rjust(len(v))}\n0  bob {v}\n", blanks=False),
    table("aligned", lambda n, v: f"NAME        {n}\nbob         {v}\n", upper, blanks=False),
)


def xml(name: str, render: object, spell: object = snake, **more: object) -> Context:
    return Context(name, "XML, SQL, netrc", spell, render, **more)  # type: ignore[arg-type]


MARKUP = (
    xml("xml element", lambda n, v: f"<config><{n}>{markup(v)}</{n}></config>", camel),
    xml("element, lines", lambda n, v: f"<a>\n  <{n}>\n    {markup(v)}\n  </{n}>\n</a>"),
    xml("element, namespace", lambda n, v: f"<wsse:{n}>{markup(v)}</wsse:{n}>", pascal),
    xml("element, attribute", lambda n, v: f'<{n} type="text">{markup(v)}</{n}>'),
    xml("cdata", lambda n, v: f"<{n}><![CDATA[{v}]]></{n}>"),
    xml("attribute", lambda n, v: f'<db host="x" {n}="{markup(v)}"/>', camel),
    xml("add", lambda n, v: f'<add key="{n}" value="{markup(v)}" />', pascal),
    xml("property", lambda n, v: f'<property name="{n}" value="{markup(v)}"/>'),
    xml("property body", lambda n, v: f'<property name="{n}">{markup(v)}</property>'),
    xml("name and value", lambda n, v: f"<property><name>a.{n}</name><value>{markup(v)}</value></property>"),
    xml("android", lambda n, v: f'<string name="{n}">{markup(v)}</string>'),
    xml("plist", lambda n, v: f"<key>{n}</key>\n<string>{markup(v)}</string>", camel),
    xml("escaped", lambda n, v: f"&lt;{n}&gt;{markup(v)}&lt;/{n}&gt;"),
    xml("input", lambda n, v: f'<input type="password" name="{n}" value="{markup(v)}">'),
    xml("input, other order", lambda n, v: f'<input value="{markup(v)}" type="hidden" name="{n}">'),
    xml("meta", lambda n, v: f'<meta name="{n}" content="{markup(v)}">'),
    xml("cells", lambda n, v: f"<tr><td>{n}</td><td>{markup(v)}</td></tr>", title),
    xml(
        "head and cell",
        lambda n, v: f"<tr><th>user</th><th>{n}</th></tr><tr><td>bob</td><td>{markup(v)}</td></tr>",
    ),
    xml("row head", lambda n, v: f"<tr><th>{n}</th><td><code>{markup(v)}</code></td></tr>", title),
    xml("definition", lambda n, v: f"<dt>{n}</dt><dd>{markup(v)}</dd>", title),
    xml("bold", lambda n, v: f"<p><b>{n}:</b> {markup(v)}</p>", title),
    xml("html label", lambda n, v: f"<label>{n}</label><span>{markup(v)}</span>", title),
    xml(
        "data attribute",
        lambda n, v: f'<div data-{n}="{markup(v)}"></div>',
        lambda name: name.replace("_", "-"),
    ),
    xml("insert", lambda n, v: f"INSERT INTO users (id, {n}) VALUES (1, {doubled(v)});"),
    xml("insert, first", lambda n, v: f"insert into users ({n}, name) values ({doubled(v)}, 'bob')"),
    xml("insert, two rows", lambda n, v: f"INSERT INTO t (id, `{n}`) VALUES (1, ''), (2, {doubled(v)});"),
    xml("update", lambda n, v: f"UPDATE users SET {n} = {doubled(v)} WHERE id = 1;"),
    xml("where", lambda n, v: f'SELECT id FROM users WHERE "{n}" = {doubled(v)}'),
    xml("like", lambda n, v: f"SELECT id FROM users WHERE {n} LIKE {doubled(v)}"),
    xml("identified by", lambda n, v: f"CREATE USER 'bob'@'%' IDENTIFIED BY {doubled(v)};", tells=True),
    xml("with password", lambda n, v: f"ALTER ROLE bob WITH LOGIN PASSWORD {doubled(v)};", tells=True),
    xml("password()", lambda n, v: f"SET PASSWORD FOR 'bob' = PASSWORD({doubled(v)})", tells=True),
    xml(
        "netrc", lambda n, v: f"machine example.com\n  login bob\n  password {v}\n", tells=True, blanks=False
    ),
    xml(
        "netrc, one line",
        lambda n, v: f"machine example.com login bob password {v}",
        tells=True,
        blanks=False,
    ),
    xml("npmrc", lambda n, v: f"//registry.example.com/:_{n}={v}\n", camel, blanks=False),
    xml("connection string", lambda n, v: f"Server=db;User Id=sa;{n}={v};Encrypt=true", pascal),
    xml("libpq", lambda n, v: f"host=db user=bob {n}={single(v)} dbname=x"),
    xml("ldif", lambda n, v: f"dn: cn=bob\nuserPassword: {v}\nmail: x\n", tells=True),
    xml("redis", lambda n, v: f"requirepass {v}\nport 6379\n", tells=True, blanks=False),
    xml("redis auth", lambda n, v: f"127.0.0.1:6379> AUTH {v}\nOK", tells=True, blanks=False),
    xml("ansible host", lambda n, v: f"web1 ansible_host=10.0.0.1 ansible_{n}={v}", blanks=False),
)


def prose(name: str, render: object, spell: object = words, **more: object) -> Context:
    return Context(f"prose {name}", "prose", spell, render, **more)  # type: ignore[arg-type]


PROSE = (
    prose("is", lambda n, v: f"The {n} is {v}, please keep it safe.", blanks=False),
    prose("is, end", lambda n, v: f"By the way, my {n} is {v}", blanks=False),
    prose("is, quoted", lambda n, v: f'Our {n} is "{v}".'),
    prose("is, code", lambda n, v: f"The {n} is `{v}`."),
    prose("colon", lambda n, v: f"{n}: {v}", title),
    prose("colon in a sentence", lambda n, v: f"Log in as bob, {n}: {v}", blanks=False),
    prose("equals", lambda n, v: f"I set {n} = {v} and it failed", blanks=False),
    prose("to", lambda n, v: f"Please set the {n} to {v} now.", blanks=False),
    prose("with", lambda n, v: f'Log in as bob with {n} "{v}".'),
    prose("use as", lambda n, v: f"Use `{v}` as the {n}."),
    prose("for", lambda n, v: f"The {n} for the database is: {v}", blanks=False),
    prose("new line", lambda n, v: f"Here is the {n}:\n\n{v}\n\nThanks!"),
    prose("turn", lambda n, v: [{"role": "user", "content": f"my {n} is {v}"}], blanks=False),
)


def wide(text: str) -> str:
    """In full-width letters."""
    return "".join(chr(ord(each) + 0xFEE0) if "!" <= each <= "~" else each for each in text)


def odd(name: str, render: object, spell: object = snake, **more: object) -> Context:
    return Context(f"unicode {name}", "Unicode", spell, render, **more)  # type: ignore[arg-type]


def _in_the_middle(name: str, what: str) -> str:
    return name[: len(name) // 2] + what + name[len(name) // 2 :]


def _escaped(name: str) -> str:
    return "".join(f"\\u{ord(each):04x}" for each in name)


UNICODE = (
    odd("zero width", lambda n, v: f"{_in_the_middle(n, chr(0x200B))}: {v}"),
    odd("zero width before colon", lambda n, v: f"{n}\u200b: {v}"),
    odd("soft hyphen", lambda n, v: f"{_in_the_middle(n, chr(0xAD))} = {v}"),
    odd("word joiner", lambda n, v: {_in_the_middle(n, chr(0x2060)): v}),
    odd("no-break space", lambda n, v: f"{n}:\u00a0{v}"),
    odd("no-break space before", lambda n, v: f"{n}\u00a0: {v}"),
    odd("thin space", lambda n, v: f"{n}\u2009=\u2009{v}"),
    odd("wide colon", lambda n, v: f"{n}{chr(0xFF1A)}{v}"),
    odd("wide equals", lambda n, v: f"{n}{chr(0xFF1D)}{v}"),
    odd("wide name", lambda n, v: f"{wide(n)}: {v}"),
    odd("wide name in json", lambda n, v: {wide(n): v}),
    odd("control", lambda n, v: f"{n}\x08: {v}"),
    odd("null", lambda n, v: f"{n}\x00= {v}"),
    odd("direction mark", lambda n, v: f"\u200f{n}\u200e: {v}"),
    odd("byte order mark", lambda n, v: f"\ufeff{n}={v}", upper, blanks=False),
    odd("typographic quotes", lambda n, v: f"{n}: “{v}”"),
    odd("line separator", lambda n, v: f"host: db\u2028{n}: {v}"),
    odd("colour", lambda n, v: f"\x1b[32m{n}\x1b[0m: \x1b[1m{v}\x1b[0m"),
    odd("percent", lambda n, v: f"a%3D1%26{n}%3D{v}", blanks=False),
    odd("escapes", lambda n, v: f'{{"{_escaped(n)}": {double(v)}}}'),
)

CONTEXTS = (*TABLES, *MARKUP, *PROSE, *UNICODE)
