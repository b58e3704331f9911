"""Contexts in which tools are called: command lines, agents' tool calls, browsers, URLs."""

from __future__ import annotations

from benchmarks.redaction_corpus.contexts.base import (
    Context,
    compact,
    double,
    dumped,
    header,
    kebab,
    shell,
    single,
    snake,
    title,
    upper,
    url,
    words,
)


def command(name: str, render: object, spell: object = kebab, **more: object) -> Context:
    return Context(name, "command lines", spell, render, **more)  # type: ignore[arg-type]


COMMANDS = (
    command("flag=", lambda n, v: f"deploy --host db --{n}={shell(v)} --verbose"),
    command("flag", lambda n, v: f"deploy --host db --{n} {shell(v)} --verbose"),
    command("flag, quoted", lambda n, v: f"deploy --{n} {double(v)} --verbose"),
    command("flag, one dash", lambda n, v: f"deploy -{n} {shell(v)} -v"),
    command("flag, one dash=", lambda n, v: f"deploy -{n}={shell(v)} -v"),
    command("flag, last", lambda n, v: f"$ deploy --{n} {shell(v)}"),
    command("flag, next line", lambda n, v: f"deploy --host db \\\n  --{n} {shell(v)} \\\n  --verbose\n"),
    command("argv", lambda n, v: {"argv": ["deploy", f"--{n}", v, "--verbose"]}),
    command("argv=", lambda n, v: {"argv": ["deploy", f"--{n}={v}", "--verbose"]}),
    command("argv repr", lambda n, v: repr(["deploy", f"--{n}", v, "--verbose"])),
    command("subprocess", lambda n, v: f"subprocess.run({['deploy', f'--{n}', v]!r}, check=True)"),
    command("command in json", lambda n, v: {"command": f"deploy --{n} {shell(v)}"}),
    command("export", lambda n, v: f"export {n}={shell(v)}\ndeploy\n", upper),
    command("export, quoted", lambda n, v: f"export {n}={double(v)} && deploy", upper),
    command("prefix", lambda n, v: f"{n}={shell(v)} deploy --verbose", upper),
    command("set", lambda n, v: f"set {n}={v}\r\ndeploy.exe\r\n", upper, blanks=False),
    command("setx", lambda n, v: f"setx {n} {double(v)}", upper),
    command("setx, bare", lambda n, v: f"setx {n} {v} /M", upper, blanks=False),
    command("fish", lambda n, v: f"set -gx {n} {shell(v)}", upper),
    command("docker -e", lambda n, v: f"docker run -e {n}={shell(v)} -p 80:80 app", upper),
    command("docker --env", lambda n, v: f"docker run --env {n}={double(v)} app", upper),
    command("docker --build-arg", lambda n, v: f"docker build --build-arg {n}={shell(v)} .", upper),
    command("from-literal", lambda n, v: f"kubectl create secret generic x --from-literal={n}={shell(v)}"),
    command("helm --set", lambda n, v: f"helm install x --set db.{n}={shell(v)},a=1", snake, blanks=False),
    command("config:set", lambda n, v: f"heroku config:set {n}={shell(v)} -a app", upper),
    command("gh secret", lambda n, v: f"gh secret set {n} --body {double(v)}", upper),
    command("aws configure", lambda n, v: f"aws configure set {n} {shell(v)} --profile x", snake),
    command("git config", lambda n, v: f"git config --global app.{n} {shell(v)}"),
    command(
        "npm config", lambda n, v: f"npm config set //registry.example.com/:_{n}={v}", snake, blanks=False
    ),
    command("curl -H", lambda n, v: f"curl -s -H '{n}: {v}' https://example.com", header),
    command("curl -H, double", lambda n, v: f'curl -H "{n}: {v}" https://example.com', header),
    command("curl bearer", lambda n, v: f'curl -H "Authorization: Bearer {v}" https://x.com', blanks=False),
    command("curl -d", lambda n, v: f"curl -d 'user=bob&{n}={url(v)}' https://example.com", snake),
    command("curl -d json", lambda n, v: f"curl -d '{compact({n: v})}' https://example.com", snake),
    command("curl -F", lambda n, v: f"curl -F '{n}={v}' https://example.com", snake),
    command("httpie", lambda n, v: f"http POST example.com {n}={shell(v)} a=1", snake),
    command("httpie header", lambda n, v: f"http example.com {n}:{shell(v)} a=1", header),
    command("wget header", lambda n, v: f"wget --header='{n}: {v}' https://example.com", header),
    command("curl -u", lambda n, v: f"curl -u bob:{shell(v)} https://example.com", tells=True),
    command("curl --user", lambda n, v: f"curl --user 'bob:{v}' https://example.com", tells=True),
    command("curl -u, after", lambda n, v: f'curl https://example.com -sS -u "bob:{v}"', tells=True),
    command("wget password", lambda n, v: f"wget --http-password={shell(v)} https://example.com", tells=True),
    command("mysql -p", lambda n, v: f"mysql -u root -p{shell(v)} -h db shop", tells=True, blanks=False),
    command("mysql --password", lambda n, v: f"mysqldump -uroot --password={shell(v)} shop", tells=True),
    command("sshpass", lambda n, v: f"sshpass -p {shell(v)} ssh bob@example.com", tells=True),
    command("PGPASSWORD", lambda n, v: f"PGPASSWORD={shell(v)} psql -h db -U bob", tells=True),
    command("redis-cli", lambda n, v: f"redis-cli -h cache -a {shell(v)} ping", tells=True),
    command("docker login", lambda n, v: f"docker login -u bob -p {shell(v)} example.com", tells=True),
    command(
        "password-stdin", lambda n, v: f"echo {shell(v)} | docker login -u bob --password-stdin", tells=True
    ),
    command("openssl", lambda n, v: f"openssl rsa -in k.pem -passin pass:{shell(v)}", tells=True),
    command("htpasswd", lambda n, v: f"htpasswd -b -c file bob {shell(v)}", tells=True),
    command("chpasswd", lambda n, v: f"echo 'bob:{v}' | chpasswd", tells=True),
    command("net use", lambda n, v: f"net use Z: \\\\srv\\x /user:bob {shell(v)}", tells=True),
    command("sqlcmd", lambda n, v: f"sqlcmd -S db -U sa -P {shell(v)}", tells=True),
    command(
        "mongosh", lambda n, v: f"mongosh -u bob -p {shell(v)} --authenticationDatabase admin", tells=True
    ),
    command("ldapsearch", lambda n, v: f"ldapsearch -x -D cn=a -w {shell(v)}", tells=True),
    command("smbclient", lambda n, v: f"smbclient //srv/x -U bob%{shell(v)}", tells=True, blanks=False),
    command("az login", lambda n, v: f"az login -u bob -p {shell(v)}", tells=True),
    command("ftp", lambda n, v: f"220 ready\r\nUSER bob\r\nPASS {v}\r\n230 ok\r\n", tells=True),
    command("zip", lambda n, v: f"7z x -p{shell(v)} a.7z", tells=True, blanks=False),
)


def agent(name: str, render: object, spell: object = snake, **more: object) -> Context:
    return Context(name, "agents", spell, render, **more)  # type: ignore[arg-type]


AGENTS = (
    agent(
        "openai call",
        lambda n, v: {"type": "function", "function": {"name": "login", "arguments": dumped({n: v})}},
    ),
    agent(
        "anthropic call", lambda n, v: {"type": "tool_use", "name": "login", "input": {"user": "bob", n: v}}
    ),
    agent("mcp call", lambda n, v: {"method": "tools/call", "params": {"arguments": {n: v}}}),
    agent(
        "xml parameter", lambda n, v: f'<invoke name="login"><parameter name="{n}">{v}</parameter></invoke>'
    ),
    agent("xml parameter, lines", lambda n, v: f'<parameter name="{n}">\n{v}\n</parameter>'),
    agent("xml argument", lambda n, v: f"<tool_call><login><{n}>{v}</{n}></login></tool_call>"),
    agent("arg_key", lambda n, v: f"<arg_key>{n}</arg_key>\n<arg_value>{v}</arg_value>"),
    agent(
        "equals parameter", lambda n, v: f"<function=login>\n<parameter={n}>\n{v}\n</parameter>\n</function>"
    ),
    agent(
        "react", lambda n, v: f"Action: login\nAction Input: {dumped({'user': 'bob', n: v})}\nObservation:"
    ),
    agent("python call", lambda n, v: f'login(user="bob", {n}={double(v)})'),
    agent("bracket call", lambda n, v: f"Action: login[user=bob, {n}={v}]", blanks=False),
    agent("fill", lambda n, v: {"action": "fill", "selector": f"#{n}", "value": v}, kebab),
    agent("fill text", lambda n, v: dumped({"action": "type", "selector": f"input[name='{n}']", "text": v})),
    agent("field", lambda n, v: {"field": n, "value": v}),
    agent("field title", lambda n, v: {"field": n, "text": v}, title),
    agent("label", lambda n, v: {"label": n, "val": v}, title),
    agent("element", lambda n, v: {"element": f"{n} input", "ref": "e12", "text": v}, title),
    agent("placeholder", lambda n, v: {"type": "type", "placeholder": n, "text": v}, title),
    agent("parameters", lambda n, v: {"parameters": [{"name": n, "type": "string", "value": v}]}),
    agent("id and value", lambda n, v: [{"id": n, "value": v}]),
    agent("key and text", lambda n, v: {"key": n, "text": v}),
    agent("playwright", lambda n, v: f'await page.fill("#{n}", {double(v)})', kebab),
    agent("playwright label", lambda n, v: f"await page.getByLabel('{n}').fill({single(v)});", title),
    agent("playwright locator", lambda n, v: f"page.locator('input[name=\"{n}\"]').fill({single(v)})"),
    agent("selenium", lambda n, v: f'driver.find_element(By.ID, "{n}").send_keys({double(v)})', kebab),
    agent("cypress", lambda n, v: f"cy.get('#{n}').type({single(v)})", kebab),
    agent("typed", lambda n, v: f"Typed {double(v)} into the {n} field", words),
    agent("env dump", lambda n, v: {"stdout": f"PATH=/bin\n{n}={v}\nHOME=/root\n"}, upper, blanks=False),
    agent("graphql", lambda n, v: f'mutation {{ login(user: "bob", {n}: {double(v)}) {{ ok }} }}'),
    agent("graphql variables", lambda n, v: {"query": "mutation M", "variables": {"input": {n: v}}}),
)


def address(name: str, render: object, spell: object = snake, **more: object) -> Context:
    return Context(f"url {name}", "URLs", spell, render, **more)  # type: ignore[arg-type]


URLS = (
    address("query", lambda n, v: f"https://example.com/a?page=1&{n}={url(v)}&b=2"),
    address("first in query", lambda n, v: f"GET /a?{n}={url(v)} HTTP/1.1"),
    address("fragment", lambda n, v: f"https://example.com/cb#{n}={url(v)}&state=1"),
    address("in json", lambda n, v: {"url": f"https://example.com/a?{n}={url(v)}"}, kebab),
    address(
        "in a url", lambda n, v: f"https://example.com/?next=https%3A%2F%2Fx.com%2F%3F{n}%3D{url(url(v))}"
    ),
    address("params", lambda n, v: {"url": "https://example.com", "params": {n: v}}),
    address("userinfo", lambda n, v: f"git clone https://bob:{url(v)}@example.com/a.git", tells=True),
    address("userinfo, empty user", lambda n, v: f"redis://:{url(v)}@cache:6379/0", tells=True),
    address("userinfo, raw", lambda n, v: f"postgres://bob:{v}@db/shop", tells=True, blanks=False),
    address("no scheme", lambda n, v: f"bob:{url(v)}@db.example.com:5432/shop", tells=True),
    address("key", lambda n, v: f"https://example.com/maps?key={url(v)}&q=x", tells=True),
    address("sig", lambda n, v: f"https://x.blob.core.windows.net/a?sv=2024&sr=b&sig={url(v)}", tells=True),
    address("code", lambda n, v: f"https://example.com/callback?code={url(v)}&state=xyz", tells=True),
    address("jdbc", lambda n, v: f"jdbc:postgresql://db/shop?user=bob&{n}={url(v)}"),
    address("jdbc, sqlserver", lambda n, v: f"jdbc:sqlserver://db:1433;user=sa;{n}={v};", blanks=False),
    address("log", lambda n, v: f'10.0.0.1 - - "GET /a?{n}={url(v)} HTTP/1.1" 200 12'),
)

CONTEXTS = (*COMMANDS, *AGENTS, *URLS)
