"""Contexts in which programs and their settings are written, and what they print of their objects."""

from __future__ import annotations

from benchmarks.redaction_corpus.contexts.base import (
    Context,
    camel,
    double,
    pascal,
    shell,
    single,
    snake,
    upper,
)


def code(name: str, render: object, spell: object = snake, **more: object) -> Context:
    return Context(name, "assignments", spell, render, **more)  # type: ignore[arg-type]


def _halves(value: str) -> str:
    middle = len(value) // 2
    return f'"{value[:middle]}" + "{value[middle:]}"'


ASSIGNMENTS = (
    code("env", lambda n, v: f"DEBUG=1\n{n}={v}\nPORT=80\n", upper, blanks=False),
    code("env, quoted", lambda n, v: f"{n}={double(v)}\nPORT=80\n", upper),
    code("env, single quotes", lambda n, v: f"{n}={single(v)}\n", upper),
    code("ini", lambda n, v: f"[db]\nhost = db\n{n} = {v}\nport = 1\n"),
    code("ini, no blanks", lambda n, v: f"[db]\n{n}={v}\n"),
    code("ini, colon", lambda n, v: f"[db]\n{n}: {v}\n"),
    code("properties", lambda n, v: f"spring.datasource.url=x\nspring.datasource.{n}={v}\n"),
    code("toml", lambda n, v: f"[db]\n{n} = {double(v)}\nport = 1\n"),
    code("toml, inline", lambda n, v: "db = { host = 'x', " + f"{n} = {double(v)}" + " }"),
    code("python", lambda n, v: f"import os\n{n} = {single(v)}\nprint(1)\n"),
    code("python, constant", lambda n, v: f"{n} = {double(v)}\n", upper),
    code("python, typed", lambda n, v: f"class A:\n    {n}: str = {single(v)}\n"),
    code("python, optional", lambda n, v: f"    {n}: str | None = {double(v)}\n"),
    code("python, annotated", lambda n, v: f"    {n}: Annotated[str, Field(repr=False)] = {double(v)}\n"),
    code("python, argument", lambda n, v: f"connect(host='db', {n}={single(v)}, port=1)"),
    code("python, default", lambda n, v: f"def login(user: str, {n}: str = {single(v)}) -> None: ..."),
    code("python, attribute", lambda n, v: f"        self.{n} = {single(v)}\n"),
    code("python, item", lambda n, v: f"config[{single(n)}] = {single(v)}\n"),
    code("python, environ", lambda n, v: f'os.environ["{n}"] = {double(v)}', upper),
    code("python, getenv", lambda n, v: f'x = os.getenv("{n}", {double(v)})', upper),
    code("python, or", lambda n, v: f'key = os.getenv("{n}") or {single(v)}', upper),
    code("python, SecretStr", lambda n, v: f"Settings({n}=SecretStr({single(v)}))"),
    code("python, setdefault", lambda n, v: f'os.environ.setdefault("{n}", {single(v)})', upper),
    code("python, setenv", lambda n, v: f'monkeypatch.setenv("{n}", {double(v)})', upper),
    code("python, bytes", lambda n, v: f"{n} = {v.encode()!r}\n"),
    code("python, f-string", lambda n, v: f"{n} = f{double(v)}\n"),
    code("python, triple", lambda n, v: f'{n} = """{v}"""\n', lines=True),
    code("python, brackets", lambda n, v: f"{n} = (\n    {double(v)}\n)\n"),
    code("python, halves", lambda n, v: f"{n} = {_halves(v)}\n"),
    code("python, walrus", lambda n, v: f"if ({n} := {single(v)}):\n    go()\n"),
    code("python, compare", lambda n, v: f"if {n} == {single(v)}:\n    go()\n"),
    code("python, auth", lambda n, v: f"requests.get(url, auth=('bob', {single(v)}))", tells=True),
    code("js", lambda n, v: f"const {n} = {single(v)};\n", camel),
    code("js, let", lambda n, v: f"let {n} = `{v}`\n", camel),
    code(
        "js, property",
        lambda n, v: "const options = {\n  host: 'db',\n  " + f"{n}: {single(v)},\n" + "};",
        camel,
    ),
    code("js, or", lambda n, v: f"const k = process.env.{n} || {single(v)};", upper),
    code("js, nullish", lambda n, v: f"const k = process.env.{n} ?? {single(v)};", upper),
    code("js, env", lambda n, v: f"process.env.{n} = {single(v)};", upper),
    code("js, item", lambda n, v: f"headers[{single(n)}] = {single(v)};", camel),
    code("js, setItem", lambda n, v: f"localStorage.setItem({single(n)}, {single(v)})", camel),
    code("ts", lambda n, v: f"const {n}: string = {single(v)};\n", camel),
    code("ts, member", lambda n, v: f"  private readonly {n}: string = {double(v)};\n", camel),
    code("ts, union", lambda n, v: f"  {n}?: string | undefined = {double(v)};\n", camel),
    code("rust", lambda n, v: f"let {n}: &str = {double(v)};\n"),
    code("rust, constant", lambda n, v: f"pub const {n}: &'static str = {double(v)};\n", upper),
    code("rust, String", lambda n, v: f"let {n} = String::from({double(v)});\n"),
    code("rust, to_string", lambda n, v: f"    {n}: {double(v)}.to_string(),\n"),
    code("go", lambda n, v: f"{n} := {double(v)}\n", camel),
    code("go, constant", lambda n, v: f"const {n} string = {double(v)}\n", pascal),
    code(
        "go, field", lambda n, v: 'c := Config{\n\tHost: "db",\n\t' + f"{n}: {double(v)},\n" + "}\n", pascal
    ),
    code("go, Setenv", lambda n, v: f'os.Setenv("{n}", {double(v)})', upper),
    code("java", lambda n, v: f"String {n} = {double(v)};\n", camel),
    code("java, constant", lambda n, v: f"private static final String {n} = {double(v)};\n", upper),
    code("java, put", lambda n, v: f'props.put("{n}", {double(v)});', camel),
    code("java, setter", lambda n, v: f"config.set{n}({double(v)});", pascal),
    code(
        "java, annotation", lambda n, v: f'@Value({double("${x." + n + ":")[:-1]}{v}}}")', snake, blanks=False
    ),
    code("kotlin", lambda n, v: f"val {n}: String = {double(v)}\n", camel),
    code("kotlin, const", lambda n, v: f"const val {n} = {double(v)}\n", upper),
    code("swift", lambda n, v: f"let {n}: String = {double(v)}\n", camel),
    code("c#", lambda n, v: f"string {n} = {double(v)};\n", camel),
    code("c#, property", lambda n, v: f"public string {n} {{ get; set; }} = {double(v)};\n", pascal),
    code("php", lambda n, v: f"${n} = {single(v)};\n"),
    code("php, array", lambda n, v: f"  {single(n)} => {single(v)},\n"),
    code("php, define", lambda n, v: f"define('{n}', {single(v)});", upper),
    code("php, env", lambda n, v: f"env('{n}', {single(v)})", upper),
    code("ruby, symbol", lambda n, v: f"connect(host: 'db', {n}: {single(v)})"),
    code("ruby, rocket", lambda n, v: f"  :{n} => {single(v)},\n"),
    code("ruby, ENV", lambda n, v: f"ENV[{single(n)}] ||= {single(v)}\n", upper),
    code("c, define", lambda n, v: f"#define {n} {double(v)}\n", upper),
    code("c, array", lambda n, v: f"static const char {n}[] = {double(v)};\n"),
    code("c, pointer", lambda n, v: f"const char *{n} = {double(v)};\n"),
    code("perl", lambda n, v: f"my ${n} = {single(v)};\n"),
    code("powershell", lambda n, v: f"$env:{n} = {double(v)}\n", upper),
    code("terraform", lambda n, v: f'resource "x" "y" {{\n  {n}      = {double(v)}\n}}\n'),
    code(
        "terraform, variable",
        lambda n, v: f'variable "{n}" {{\n  type    = string\n  default = {double(v)}\n}}\n',
    ),
    code("dockerfile", lambda n, v: f"FROM x\nENV {n}={v}\n", upper, blanks=False),
    code("dockerfile, blank", lambda n, v: f"FROM x\nENV {n} {v}\nRUN y\n", upper, blanks=False),
    code("dockerfile, ARG", lambda n, v: f"ARG {n}={shell(v)}\n", upper),
    code("nginx", lambda n, v: f"    proxy_set_header X-{n} {double(v)};\n", pascal),
)


def repr_(name: str, render: object, spell: object = snake, **more: object) -> Context:
    return Context(f"repr {name}", "reprs and logs", spell, render, **more)  # type: ignore[arg-type]


_PYDANTIC = (
    "1 validation error for Settings\n{}\n  Input should be a valid integer [type=int_parsing, {}, {}]"
)

REPRS = (
    repr_("dict", lambda n, v: repr({"host": "db", n: v}), lines=True),
    repr_("nested dict", lambda n, v: repr({"db": {"a": [1], n: v}}), lines=True),
    repr_("dataclass", lambda n, v: f"Config(host='db', {n}={v!r}, port=1)", lines=True),
    repr_("pydantic", lambda n, v: f"host='db' {n}={v!r} port=1"),
    repr_("pydantic error", lambda n, v: _PYDANTIC.format(n, f"input_value={v!r}", "input_type=str")),
    repr_("named tuple", lambda n, v: f"Row(id=1, {n}={v!r})"),
    repr_("pair", lambda n, v: f"[('host', 'db'), ({n!r}, {v!r})]"),
    repr_("ordered dict", lambda n, v: f"OrderedDict([({n!r}, {v!r})])"),
    repr_("bytes dict", lambda n, v: repr({n.encode(): v.encode()})),
    repr_("environ", lambda n, v: f"environ({ {'PATH': '/bin', n: v}!r})", upper),
    repr_("namespace", lambda n, v: f"Namespace(debug=False, {n}={v!r})"),
    repr_("plain", lambda n, v: f"<Config host=db {n}={v} port=1>", blanks=False),
    repr_("attributes", lambda n, v: f"<Config(host=db, {n}={v!r})>"),
    repr_("go struct", lambda n, v: "{Host:db " + f"{n}:{v}" + " Port:1}", pascal, blanks=False),
    repr_("java toString", lambda n, v: "Config{host='db', " + f"{n}={single(v)}" + "}", camel),
    repr_("ruby inspect", lambda n, v: '{:host=>"db", :' + f"{n}=>{double(v)}" + "}"),
    repr_("rust debug", lambda n, v: f'Config {{ host: "db", {n}: {double(v)} }}'),
    repr_("php dump", lambda n, v: f'array(2) {{\n  ["{n}"]=>\n  string({len(v)}) {double(v)}\n}}'),
    repr_("php print_r", lambda n, v: f"Array\n(\n    [host] => db\n    [{n}] => {v}\n)\n"),
    repr_("logfmt", lambda n, v: f'level=info msg="it started" {n}={double(v)} took=3ms'),
    repr_("logfmt, bare", lambda n, v: f"level=info {n}={v} took=3ms", blanks=False),
    repr_("log line", lambda n, v: f"2026-05-01 12:00:00,123 INFO app: {n}={v}, user=bob", blanks=False),
    repr_("log colon", lambda n, v: f"[12:00:00] DEBUG {n}: {v}"),
    repr_("log quoted", lambda n, v: f"INFO using {n} '{v}' for bob"),
    repr_("log arrow", lambda n, v: f"DEBUG {n} -> {v}", blanks=False),
    repr_("syslog", lambda n, v: f"May  1 12:00:00 host app[12]: login {n}={v}", blanks=False),
    repr_("error", lambda n, v: f"ValueError: invalid {n}: {v!r}"),
    repr_(
        "traceback line", lambda n, v: f'  File "a.py", line 3, in go\n    login({n}={v!r})\nTypeError: no'
    ),
    repr_("traceback local", lambda n, v: f"    12 |     login()\n       | {n} = {v!r}\n"),
    repr_("locals", lambda n, v: f"╭─ locals ─╮\n│ {n} = {v!r} │\n╰──────────╯"),
    repr_("assertion", lambda n, v: f"assert response.{n} == {v!r}"),
    repr_("mock call", lambda n, v: f"call('bob', {n}={v!r})"),
)

CONTEXTS = (*ASSIGNMENTS, *REPRS)
