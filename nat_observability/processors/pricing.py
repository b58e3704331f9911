"""PriceTable, Pricer: what a call of a model cost, by prices of the user's own."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from fnmatch import translate
from pathlib import Path
from typing import Any

import msgspec

from nat_observability.errors import SettingsError
from nat_observability.events import Item, Span, StepKind, TokenCost, TokenUsage

_MILLION = 1_000_000
_MOST = 1e15  # of a price, which keeps every cost finite
_PRICED = frozenset({StepKind.LLM, StepKind.EMBEDDING, StepKind.RERANKER})
_MODELS = (
    *("gen_ai.response.model", "gen_ai.request.model", "llm.model_name", "embedding.model_name"),
    *("langfuse.observation.model.name", "ai.model.id"),
)
_REMEMBERED = 256
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_text = msgspec.json.Decoder(str).decode


class Price(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """
    Prices per million tokens, in a currency of the user's.

    `cached` and `cache_write` are for tokens that were read from a cache or written to one, and `reasoning` for those
    of the output that were spent on reasoning; without them, these cost what other input or output does.
    """

    input: float
    output: float = 0.0
    cached: float | None = None
    cache_write: float | None = None
    reasoning: float | None = None

    def cost(self, usage: TokenUsage) -> TokenCost:
        """Return what this usage costs. No token is paid for twice: the others are parts of input and output."""
        cached, written = usage.cached_tokens, usage.cache_write_tokens
        plain = max(usage.prompt_tokens - cached - written, 0)
        given = plain * self.input
        given += cached * (self.input if self.cached is None else self.cached)
        given += written * (self.input if self.cache_write is None else self.cache_write)
        reasoning = min(usage.reasoning_tokens, usage.completion_tokens)
        result = (usage.completion_tokens - reasoning) * self.output
        result += reasoning * (self.output if self.reasoning is None else self.reasoning)
        return TokenCost(given / _MILLION, result / _MILLION, (given + result) / _MILLION)


class PriceTable:
    """
    Prices by model. A pattern is a model's name, exact or with `*` and `?`, in any case.

    The price of a model is that of the pattern that equals its name, or else of the longest that matches, so that
    `gpt-5-mini*` goes before `gpt-5*`.

    Args:
        prices: By pattern.
    """

    def __init__(self, prices: Mapping[str, Price]) -> None:
        exact = {name.lower(): price for name, price in prices.items()}
        longest_first = sorted(exact, key=lambda pattern: (-len(pattern), pattern))
        self._exact = exact
        self._patterns = [
            (re.compile(translate(each.replace("[", "[[]"))), exact[each])
            for each in longest_first
            if _is_pattern(each)
        ]
        self._found: dict[str, Price | None] = {}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PriceTable:
        """
        Return the table in a TOML file, which has one table for each pattern.

            ["gpt-5*"]
            input = 1.25
            output = 10.0
            cached = 0.125

        Raises:
            SettingsError: The file cannot be read, or something in it is wrong; the error names the line.
        """
        try:
            text = Path(path).read_text(encoding="utf-8-sig")  # some editors begin a file with a mark
        except OSError as error:
            raise _mistake(path, None, f"the file cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise _mistake(path, line, "this is not UTF-8 text") from None
        try:
            tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            found = re.search(r"\(at line (\d+)", str(error))
            line = int(found[1]) if found else text.count("\n") + 1
            raise _mistake(path, line, f"this is not TOML: {str(error).partition(' (at ')[0]}") from None
        except RecursionError:
            raise _mistake(path, None, "this is nested too deeply") from None
        seen: dict[str, str] = {}
        for pattern in tables:
            if (other := seen.setdefault(pattern.lower(), pattern)) != pattern:
                problem = f"{pattern!r} and {other!r} are the same model, in whatever case. Keep one of them"
                raise _mistake(path, _line(text, pattern), problem)
        return cls({pattern: _price(path, text, pattern, fields) for pattern, fields in tables.items()})

    def price(self, model: str) -> Price | None:
        """Return the price of a model; None if no pattern matches."""
        if model in self._found:
            return self._found[model]
        lower = model.lower()
        found = self._exact.get(lower)
        if found is None:
            found = next((price for pattern, price in self._patterns if pattern.match(lower)), None)
        if len(self._found) >= _REMEMBERED:
            self._found.clear()
        self._found[model] = found
        return found


class Pricer:
    """
    Adds its cost to the span of a model call, if the table has a price for the model.

    The model is the one that answered, or else the one that was asked: of the span's attributes, or its name.
    """

    name = "prices"

    def __init__(self, table: PriceTable) -> None:
        self._table = table

    def __call__(self, item: Item) -> Item:
        """Return `item` with its cost; the same object if there is nothing to price."""
        if not isinstance(item, Span) or item.usage is None or item.kind not in _PRICED:
            return item
        for model in models_of(item):
            if (price := self._table.price(model)) is not None:
                return msgspec.structs.replace(item, cost=price.cost(item.usage))
        return item


def models_of(span: Span) -> list[str]:
    """Return the models that a span names, the one that answered first; the name of a step of ours is one."""
    found: list[str] = []
    if span.attributes is not None:
        try:
            own = _decode(span.attributes)
            found = [_text(own[name]) for name in _MODELS if name in own]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            found = []  # the application made them itself
    return found if span.origin is not None else [*found, span.name]


def _mistake(path: str | os.PathLike[str], line: int | None, problem: str) -> SettingsError:
    place = os.fspath(path) if line is None else f"{os.fspath(path)}, line {line}"
    return SettingsError([f"The prices in {place}: {problem}."])


def _is_pattern(text: str) -> bool:
    return "*" in text or "?" in text


def _price(path: str | os.PathLike[str], text: str, pattern: str, fields: Any) -> Price:
    if not isinstance(fields, dict):
        problem = f'{pattern} is not a table of prices. Write it as ["{pattern}"], with the prices below'
        raise _mistake(path, _line(text, pattern), problem)
    known = Price.__struct_fields__
    for name, value in fields.items():
        if isinstance(value, dict):
            problem = (
                f'{pattern!r} holds a table {name!r}. Write a name with a dot in quotes, as in ["gpt-4.1"]'
            )
            raise _mistake(path, _line(text, pattern), problem)
        if name not in known:
            problem = f"{name!r} of {pattern!r} is not one of {', '.join(known)}"
            raise _mistake(path, _line(text, pattern, name), problem)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST:
            problem = (
                f"{name!r} of {pattern!r} is not a price per million tokens, a number from 0 to {_MOST:.0e}"
            )
            raise _mistake(path, _line(text, pattern, name), problem)
    if "input" not in fields:
        raise _mistake(path, _line(text, pattern), f"{pattern!r} has no price for input")
    return Price(**{name: float(value) for name, value in fields.items()})


def _line(text: str, pattern: str, name: str | None = None) -> int:
    """Return the number of the line where a pattern, or one of its prices, stands."""
    lines = text.splitlines()
    header = next((at for at, line in enumerate(lines) if _opens(line, pattern)), 0)
    if name is not None:
        assigned = re.compile(rf"""^(?:[^#]*[\s{{,.])?["']?{re.escape(name)}["']?\s*=""")
        for at in range(header, len(lines)):
            if at > header and lines[at].lstrip().startswith("["):
                break
            if assigned.search(lines[at]):
                return at + 1
    return header + 1


def _opens(line: str, pattern: str) -> bool:
    named = line.strip().lstrip("[ ").lstrip("\"'")
    return named.startswith(pattern) and named[len(pattern) :].lstrip("\"'")[:1] in ("]", " ", "=", ".", "")
