"""Contexts in which data is written: JSON, HTTP, YAML, and those in which nothing tells."""

from __future__ import annotations

import base64

from benchmarks.redaction_corpus.contexts.base import (
    Context,
    compact,
    double,
    doubled,
    dumped,
    header,
    kebab,
    markup,
    snake,
    title,
    upper,
    url,
)


def nothing(name: str, render: object, **more: object) -> Context:
    return Context(f"nothing: {name}", "nothing tells", snake, render, **more)  # type: ignore[arg-type]


NOTHING = (
    nothing("alone", lambda n, v: v, lines=True),
    nothing("prose", lambda n, v: f"I used {v} for this and it worked.", lines=True),
    nothing("prose end", lambda n, v: f"It worked with {v}."),
    nothing("json field", lambda n, v: {"result": v}, lines=True),
    nothing("json list", lambda n, v: ["first", v, "last"], lines=True),
    nothing("json text", lambda n, v: dumped({"result": v, "ok": True}), lines=True),
    nothing("json in json", lambda n, v: {"body": compact({"result": v})}, lines=True),
    nothing("log", lambda n, v: f"2026-05-01 12:00:00 INFO worker-3 sent {v} to the queue"),
    nothing("call", lambda n, v: f"client.connect({double(v)})"),
    nothing("code block", lambda n, v: f"Run this:\n```\n{v}\n```", lines=True),
    nothing("code span", lambda n, v: f"Then take `{v}` and go on."),
    nothing("markdown cell", lambda n, v: f"| step | what |\n|---|---|\n| 1 | {v} |"),
    nothing("csv cell", lambda n, v: f"id,what\n1,{v}\n2,other"),
    nothing("brackets", lambda n, v: f"the usual one ({v}), as before"),
    nothing("repr", lambda n, v: f"Thing(data={v!r}, size=3)", lines=True),
    nothing("xml", lambda n, v: f"<item>{markup(v)}</item>", lines=True),
    nothing("diff", lambda n, v: f"@@ -1,2 +1,2 @@\n-  old\n+  {v}\n"),
    nothing("query", lambda n, v: f"https://example.com/search?q={url(v)}&page=2"),
    nothing("comma list", lambda n, v: f"alpha,{v},omega", blanks=False),
    nothing("bytes", lambda n, v: f"got {v.encode()!r} back", lines=True),
    nothing("traceback", lambda n, v: f'  File "a.py", line 3, in run\n    raise Failed("{v}")\nFailed: {v}'),
)

_RESPONSE = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{}\r\n\r\nfine"


def json_(name: str, render: object, spell: object = snake, **more: object) -> Context:
    return Context(f"json {name}", "JSON", spell, render, lines=True, **more)  # type: ignore[arg-type]


JSON = (
    json_("field", lambda n, v: {n: v}),
    json_("nested", lambda n, v: {"config": {"database": [{"host": "db", n: v}]}}),
    json_("upper", lambda n, v: {"env": {n: v, "HOME": "/root"}}, upper),
    json_("kebab", lambda n, v: {n: v, "a": 1}, kebab),
    json_("list value", lambda n, v: {n: [v], "a": 1}),
    json_("object value", lambda n, v: {n: {"value": v}, "a": 1}),
    json_("name and value", lambda n, v: {"env": [{"name": n, "value": v}]}, upper),
    json_("key and value", lambda n, v: [{"key": n, "value": v}]),
    json_("pairs", lambda n, v: [["host", "db"], [n, v]]),
    json_("compact text", lambda n, v: compact({"host": "db", n: v})),
    json_("text", lambda n, v: dumped({n: v, "host": "db"})),
    json_("pretty text", lambda n, v: '{\n  "host": "db",\n  ' + f"{dumped(n)}: {dumped(v)}\n" + "}"),
    json_("name and value text", lambda n, v: dumped([{"name": n, "value": v}]), upper),
    json_("in json", lambda n, v: {"body": dumped({n: v})}),
    json_("in json in json", lambda n, v: {"body": dumped({"body": dumped({n: v})})}),
    json_("in json text", lambda n, v: dumped({"body": compact({n: v})})),
    json_("in prose", lambda n, v: f"Here it is: {dumped({n: v})}. Is that right?"),
    json_("in a code block", lambda n, v: f"Use this:\n```json\n{dumped({n: v})}\n```\n"),
    json_("lines", lambda n, v: dumped({"a": 1}) + "\n" + dumped({n: v, "b": 2}) + "\n"),
    json_("in a log line", lambda n, v: f"INFO response={compact({'ok': True, n: v})} took 3ms"),
    json_("cut", lambda n, v: dumped({"a": [1, 2], n: v})[:-1]),
    json_("bare names", lambda n, v: "{host: 'db', " + f"{n}: {double(v)}" + "}"),
)


def http(name: str, render: object, spell: object = header, **more: object) -> Context:
    return Context(f"http {name}", "HTTP", spell, render, **more)  # type: ignore[arg-type]


def _basic(value: str) -> str:
    return base64.b64encode(f"bob:{value}".encode()).decode()


HTTP = (
    http("line", lambda n, v: f"{n}: {v}"),
    http("request", lambda n, v: f"GET /v1 HTTP/1.1\r\nHost: example.com\r\n{n}: {v}\r\nAccept: */*\r\n\r\n"),
    http("response", lambda n, v: _RESPONSE.format(f"{n}: {v}")),
    http("folded", lambda n, v: f"Host: example.com\r\n{n}:\r\n {v}\r\nAccept: */*\r\n"),
    http("object", lambda n, v: {"headers": {"Host": "example.com", n: v}}),
    http("lists", lambda n, v: {"headers": [["host", "example.com"], [n, v]]}, kebab),
    http("several", lambda n, v: {"headers": {n: [v]}}),
    http("curl's log", lambda n, v: f"> GET / HTTP/2\n> host: example.com\n> {n}: {v}\n>\n", kebab),
    http("bytes", lambda n, v: f"[(b'host', b'example.com'), ({n.encode()!r}, {v.encode()!r})]", kebab),
    http("bearer", lambda n, v: f"Authorization: Bearer {v}", blanks=False),
    http("token scheme", lambda n, v: f"Authorization: Token {v}", blanks=False),
    http("basic", lambda n, v: f"Authorization: Basic {_basic(v)}", tells=True, encode=_basic),
    http("cookie", lambda n, v: f"Cookie: theme=dark; {n}={url(v)}; lang=en", snake),
    http("set-cookie", lambda n, v: f"Set-Cookie: {n}={url(v)}; Path=/; HttpOnly", snake),
    http("form", lambda n, v: f"user=bob&{n}={url(v)}&keep=1", snake),
    http(
        "multipart",
        lambda n, v: f'--b7\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n--b7--\r\n',
        snake,
    ),
)


def yaml(name: str, render: object, spell: object = snake, **more: object) -> Context:
    return Context(f"yaml {name}", "YAML", spell, render, **more)  # type: ignore[arg-type]


YAML = (
    yaml("field", lambda n, v: f"host: db\n{n}: {v}\nport: 5432\n"),
    yaml("nested", lambda n, v: f"database:\n  host: db\n  {n}: {v}\n", kebab),
    yaml("camel", lambda n, v: f"spec:\n  {n}: {double(v)}\n", lambda name: upper(name).lower()),
    yaml("single quotes", lambda n, v: f"{n}: {doubled(v)}\nport: 1\n"),
    yaml("comment", lambda n, v: f"{n}: {double(v)}  # changed in May\n"),
    yaml("list", lambda n, v: f"users:\n- name: bob\n  {n}: {v}\n- name: eve\n"),
    yaml("first of a list", lambda n, v: f"users:\n  - {n}: {v}\n    name: bob\n"),
    yaml("block", lambda n, v: f"{n}: |\n  {v}\nport: 1\n"),
    yaml("folded block", lambda n, v: f"a:\n  {n}: >-\n    {v}\n  port: 1\n"),
    yaml("name and value", lambda n, v: f"env:\n  - name: {n}\n    value: {double(v)}\n", upper),
    yaml("environment", lambda n, v: f"environment:\n  - {n}={v}\n  - DEBUG=1\n", upper, blanks=False),
    yaml("flow", lambda n, v: "db: {" + f"host: db, {n}: {double(v)}" + "}"),
    yaml("quoted name", lambda n, v: f'"{n}": {double(v)}\n'),
    yaml("title", lambda n, v: f"{n}: {v}\n", title),
)

CONTEXTS = (*NOTHING, *JSON, *HTTP, *YAML)
