"""PriceTable and Pricer: what a call costs, which price counts, and mistakes by their line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from nat_observability import Span, SpanExporter, SpanOrigin, StepKind, TokenCost, TokenUsage
from nat_observability.builders import build_exporters
from nat_observability.errors import SettingsError
from nat_observability.processors import Price, Pricer, PriceTable
from nat_observability.settings import MemoryExporterSettings, ObservabilitySettings
from tests.sinks.builders import make_span, make_step

TABLE = """
"text-*" = { input = 0.02 }

["gpt-5*"]
input = 1.25
output = 10

["gpt-5-mini*"]
input = 0.25

[claude-sonnet]
input = 3
"""


@pytest.fixture
def table(tmp_path: Path) -> PriceTable:
    """The table above."""
    (tmp_path / "prices.toml").write_text(TABLE)
    return PriceTable.load(tmp_path / "prices.toml")


@pytest.mark.parametrize(
    ("model", "given"),
    [
        ("gpt-5", 1.25),
        ("GPT-5-turbo", 1.25),
        ("gpt-5-mini-2025", 0.25),
        ("claude-sonnet", 3.0),
        ("claude-sonnet-4", None),
        ("text-embedding-3-small", 0.02),
        ("", None),
    ],
)
def test_the_most_exact_pattern_counts(table: PriceTable, model: str, given: float | None) -> None:
    """The name itself, or else the longest pattern, in any case; asked twice it is the same."""
    for _ in range(2):
        price = table.price(model)
        assert (price and price.input) == given


@pytest.mark.parametrize(
    ("price", "usage", "cost"),
    [
        (Price(input=2, output=4), TokenUsage(1_000_000, 500_000, 0, 0, 1_500_000), (2.0, 2.0)),
        # 400 read from the cache at a tenth, 100 written at 5; the other 500 are plain.
        (
            Price(input=2, output=4, cached=0.2, cache_write=5),
            TokenUsage(1000, 0, 400, 0, 1000, 100),
            ((500 * 2 + 400 * 0.2 + 100 * 5) / 1e6, 0.0),
        ),
        (Price(input=2, output=4), TokenUsage(1000, 0, 400, 0, 1000, 100), (0.002, 0.0)),
        (Price(input=2, output=4, reasoning=8), TokenUsage(0, 100, 0, 60, 100), (0.0, 640 / 1e6)),
        # Counts that contradict each other never make a price negative.
        (Price(input=2, output=4), TokenUsage(10, 10, 50, 50, 20), (100 / 1e6, 40 / 1e6)),
    ],
)
def test_no_token_is_paid_for_twice(price: Price, usage: TokenUsage, cost: tuple[float, float]) -> None:
    """Cached and reasoning tokens are parts of the others."""
    found = price.cost(usage)
    assert (found.input, found.output, found.total) == pytest.approx((*cost, sum(cost)))


@pytest.mark.parametrize(
    ("attributes", "origin", "cost"),
    [
        (None, None, 1.25),
        ({"gen_ai.response.model": "gpt-5-mini"}, None, 0.25),
        ({"gen_ai.response.model": "unheard", "gen_ai.request.model": "gpt-5"}, None, 1.25),
        ({"llm.model_name": "gpt-5"}, SpanOrigin("theirs"), 1.25),
        ({"langfuse.observation.model.name": "gpt-5"}, SpanOrigin("theirs"), 1.25),
        ({"ai.model.id": "gpt-5"}, SpanOrigin("theirs"), 1.25),
        ({"other": "gpt-5"}, SpanOrigin("theirs"), None),
    ],
)
def test_a_call_is_priced_by_the_model_that_it_names(
    table: PriceTable, attributes: Any, origin: SpanOrigin | None, cost: float | None
) -> None:
    """The one that answered, the one that was asked, or the name of our step; never the name of another's span."""
    span = make_span(
        kind=StepKind.LLM,
        name="gpt-5",
        usage=TokenUsage(1_000_000, 0, 0, 0, 1_000_000),
        attributes=None if attributes is None else msgspec.Raw(msgspec.json.encode(attributes)),
        origin=origin,
    )
    found = Pricer(table)(span)
    assert isinstance(found, Span)
    assert found.cost == (None if cost is None else TokenCost(cost, 0.0, cost))


def test_what_has_no_price_is_left_as_it_is(table: PriceTable) -> None:
    """Other kinds, calls without usage, unknown models, and steps: the same objects."""
    usage = TokenUsage(1, 1, 0, 0, 2)
    for item in (
        make_span(kind=StepKind.TOOL, name="gpt-5", usage=usage),
        make_span(kind=StepKind.LLM, name="gpt-5"),
        make_span(kind=StepKind.LLM, name="tea", usage=usage, attributes=msgspec.Raw(b"not json")),
        make_step(),
    ):
        assert Pricer(table)(item) is item


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ('["a"]\ninput = 1\noutput = -2\n', 3, "'output' of 'a' is not a price"),
        ('["a"]\ninput = 1\n\n["b"]\ninput = "1"\n', 5, "'input' of 'b' is not a price"),
        ("['a']\ninput = 1\n['b*']\ninput = true\n", 4, "'input' of 'b*' is not a price"),
        ('["a"]\ninput = nan\n', 2, "is not a price"),
        ('["a"]\ninput = 1\nouput = 2\n', 3, "'ouput' of 'a' is not one of input, output"),
        ('\n["a"]\noutput = 1\n', 2, "'a' has no price for input"),
        ('"a" = 5\n', 1, "is not a table of prices"),
        ('"x" = {input = 1}\n"a" = {input = 1, output = -1}\n', 2, "'output' of 'a'"),
        ('["a"]\ninput 1\n', 2, "this is not TOML"),
        ('["a"]\ninput = 1' + "0" * 400, 2, "'input' of 'a' is not a price"),
        ('["a"]\n# input = 1 is\ninput = -1\n', 3, "'input' of 'a' is not a price"),
        ('["GPT"]\ninput = 1\n["gpt"]\ninput = 2\n', 3, "'gpt' and 'GPT' are the same model"),
        ("[gpt-4.1]\ninput = 1\n", 1, "Write a name with a dot in quotes"),
    ],
)
def test_a_mistake_names_the_line(tmp_path: Path, text: str, line: int, problem: str) -> None:
    """With what is wrong there, and the file."""
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(SettingsError) as raised:
        PriceTable.load(path)
    assert f"{path}, line {line}: " in str(raised.value)
    assert problem in str(raised.value)


def test_a_file_that_is_not_text_or_not_there(tmp_path: Path) -> None:
    """The same error, with the line of the first such byte if there is one."""
    (tmp_path / "prices.toml").write_bytes(b'["a"]\ninput = 1 # \xff')
    with pytest.raises(SettingsError, match="line 2: this is not UTF-8"):
        PriceTable.load(tmp_path / "prices.toml")
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        PriceTable.load(tmp_path / "none.toml")


def test_what_editors_and_names_may_hold(tmp_path: Path) -> None:
    """A mark at the beginning of the file, and brackets, which mean themselves in a pattern too."""
    path = tmp_path / "prices.toml"
    path.write_text('["a[1]*"]\ninput = 1\n', "utf-8-sig")
    table = PriceTable.load(path)
    assert (table.price("a[1]-mini"), table.price("a1")) == (Price(input=1.0), None)


def test_a_file_that_is_nested_without_end(tmp_path: Path) -> None:
    """It is an error of the file, as every other."""
    (tmp_path / "prices.toml").write_text("a = " + "[" * 5000 + "]" * 5000)
    with pytest.raises(SettingsError, match="nested too deeply"):
        PriceTable.load(tmp_path / "prices.toml")


def test_the_setting_prices_every_exporters_spans(tmp_path: Path) -> None:
    """The cost goes wherever the spans go."""
    (tmp_path / "prices.toml").write_text('["gpt-5"]\ninput = 2\noutput = 4\n')
    exporters = {"one": MemoryExporterSettings(), "two": MemoryExporterSettings(redact=False)}
    settings = ObservabilitySettings(prices=tmp_path / "prices.toml", exporters=exporters)
    for exporter in build_exporters(settings).values():
        assert isinstance(exporter, SpanExporter)
        assert any(isinstance(each, Pricer) for each in exporter.delivery.processors)
