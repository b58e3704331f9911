"""Nestings: how a value with a secret is wrapped in other texts and values, several times over."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Callable
from typing import Any

Wrap = Callable[[Any], Any]


def text_of(value: Any) -> str:
    """Return a value as a text: its JSON if it is not one."""
    return value if isinstance(value, str) else json.dumps(value)


def escaped(text: str) -> str:
    """Return JSON with each letter and digit escaped, except those that are part of an escape."""
    return re.sub(
        r"\\.|[A-Za-z0-9]", lambda match: match[0] if match[0][0] == "\\" else f"\\u{ord(match[0]):04x}", text
    )


def indented(text: str, by: str = "  ") -> str:
    return text.replace("\n", f"\n{by}")


def yaml(value: Any, by: str = "") -> str:
    """Return a value as handwritten YAML."""
    if isinstance(value, dict):
        return "".join(f"\n{by}{key}:{yaml(each, by + '  ')}" for key, each in value.items())
    if isinstance(value, list):
        return "".join(f"\n{by}- {yaml(each, by + '  ').lstrip()}" for each in value)
    return f" {json.dumps(value)}"


# Each makes one level.
NESTINGS: dict[str, Wrap] = {
    # JSON
    "field": lambda value: {"a": value, "b": 1.50},
    "item": lambda value: ["x", value, None],
    "JSON": json.dumps,
    "JSON in a field": lambda value: {"arguments": json.dumps(value)},
    "indented JSON in a field": lambda value: {"arguments": json.dumps(value, indent=2)},
    "compact JSON in a field": lambda value: {"arguments": json.dumps(value, separators=(",", ":"))},
    "message": lambda value: {"messages": [{"role": "user", "content": json.dumps(value)}]},
    "text in a field": lambda value: {"text": text_of(value), "n": [1]},
    "letters escaped": lambda value: escaped(json.dumps(value)),
    "slashes escaped": lambda value: json.dumps(value).replace("/", "\\/"),
    # Prose
    "prose": lambda value: f"the tool said {json.dumps(value)} and ended",
    "prose about a text": lambda value: f"The tool said: {text_of(value)}\nand ended.",
    "prefix": lambda value: f"ok, 200, {json.dumps(value)}",
    "prefix without spaces": lambda value: f"a,b,{text_of(value)}",
    "brackets": lambda value: f"failed ({json.dumps(value)}), once more",
    "fence": lambda value: f"Here:\n```json\n{json.dumps(value, indent=2)}\n```\n",
    "backticks": lambda value: f"call `{text_of(value)}` first",
    "Markdown": lambda value: f"# Answer\n\n- **Result:** `{text_of(value)}`\n- **Count:** 1\n",
    "bold": lambda value: f"The tool said **{text_of(value)}**, and *ended*.",
    # Queries
    "query": lambda value: "https://example.com/?q=" + urllib.parse.quote(json.dumps(value)),
    "query of everything": lambda value: "https://example.com/?q=" + urllib.parse.quote(text_of(value), safe=""),
    "form": lambda value: "a=1&q=" + urllib.parse.quote_plus(json.dumps(value)) + "&b=2",
    "form of a text": lambda value: urllib.parse.urlencode({"a": "1 2", "q": text_of(value)}),
    "JSON in a query": lambda value: f"https://example.com/?a=1&q={json.dumps(value)}&b=2",
    # Python
    "repr": repr,
    "repr in a dict": lambda value: repr({"kwargs": {"a": value}, "b": None}),
    "repr of JSON": lambda value: repr({"body": json.dumps(value)}),
    "bytes": lambda value: repr(text_of(value).encode()),
    "call": lambda value: f"Client(body={value!r}, timeout=3)",
    "exception": lambda value: f"ValueError: {value!r}",
    # Lines
    "colours": lambda value: f"\x1b[2m12:00\x1b[0m [\x1b[32minfo\x1b[0m] \x1b[1m{text_of(value)}\x1b[0m n=1",
    "JSON of colours": lambda value: json.dumps(f"\x1b[36mctx\x1b[0m=\x1b[35m{text_of(value)}\x1b[0m"),
    "YAML": lambda value: f"run:\n  a: 1\n  with:{yaml(value, '    ')}",
    "YAML block": lambda value: f"run:\n  a: 1\n  with: |\n    {indented(text_of(value), '    ')}\n  b: 2",
    "JSON in YAML": lambda value: f"run:\n  with: '{json.dumps(value)}'\n",
    "header": lambda value: f"Host: a\r\nX-Debug: {json.dumps(value)}\r\nAccept: */*\r\n\r\n",
    "log line": lambda value: f"2026-01-01T00:00:00Z level=info ctx={json.dumps(value)} n=1",
    "log line of a text": lambda value: f"level=info msg={json.dumps(text_of(value))} n=1",
    "syslog": lambda value: f"Jan  1 00:00:00 host app[12]: {text_of(value)}",
    "lines": lambda value: f"first\n{text_of(value)}\nlast",
    "events": lambda value: f"data: {json.dumps(value)}\n\ndata: [DONE]\n\n",
    "traceback": lambda value: f'  File "a.py", line 1, in f\n    f({text_of(value)})\nValueError: {text_of(value)}',
    "diff": lambda value: f"--- a\n+++ b\n+ {indented(text_of(value), '+ ')}\n",
    "shell": lambda value: f"curl -d '{text_of(value)}' https://example.com",
}  # fmt: skip
