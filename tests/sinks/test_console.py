"""ConsoleSink: one line per item, readable and harmless whatever is in it."""

from __future__ import annotations

import io
import os
import pty
import re
from collections.abc import Iterator
from typing import TextIO

import msgspec
import pytest

from nat_observability.errors import SinkError
from nat_observability.events import (
    Boundary,
    ErrorDetails,
    Item,
    Run,
    SpanEvent,
    SpanLink,
    Status,
    StepKind,
    TokenUsage,
)
from nat_observability.sinks import ConsoleSink
from nat_observability.sinks.console import Color
from nat_observability.sinks.protocol import BlockingSink
from tests.sinks.builders import make_span, make_step, run_python


def written(*items: Item, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, newline="")
    sink = ConsoleSink(stream)
    sink.open()
    sink.write(items)
    sink.close()
    return raw.getvalue().decode(encoding)


def on_terminal(color: Color, *items: Item) -> str:
    """What a real terminal, the other end of a pseudo-terminal, is sent."""
    ours, theirs = pty.openpty()
    with open(theirs, "w", encoding="utf-8") as stream:
        sink = ConsoleSink(stream, color)
        sink.open()
        sink.write(items)
        sink.close()
        output = os.read(ours, 65536).decode()
    os.close(ours)
    return output


@pytest.fixture(autouse=True)
def _colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that has colours, wherever the tests run."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_is_a_blocking_sink() -> None:
    """A delivery calls it on a worker thread, where a terminal that does not read may block it."""
    assert isinstance(ConsoleSink(), BlockingSink)


def test_a_span_is_one_line() -> None:
    """A span's line has time, short run id, kind, name, duration, status and tokens."""
    span = make_span(
        run=Run("0a1b2c3d-4e5f", "0" * 32),
        kind=StepKind.LLM,
        name="gpt-4",
        usage=TokenUsage(12, 3, total_tokens=15),
    )
    line = written(span)
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.250 0a1b2c3d LLM      gpt-4 250\.0ms ok 12\+3 tokens\n", line)


def test_a_failed_span_says_why() -> None:
    """The line of a failed span has its error."""
    line = written(make_span(status=Status.ERROR, error=ErrorDetails("ValueError", "no such city")))
    assert line.endswith(" error ValueError: no such city\n")


def test_what_a_span_says_is_on_its_line() -> None:
    """Attributes, the names of events, the number of links, and the status message if there is no error."""
    said = make_span(
        status=Status.ERROR,
        status_message="refused\n",
        attributes=msgspec.Raw('{"a.b":1,"c":"Zürich"}'.encode()),
        events=(SpanEvent("retry", 1), SpanEvent("cache.miss", 2)),
        links=(SpanLink("a" * 32, "b" * 16),),
    )
    line = written(said)
    assert line.endswith(' error refused\\n {"a.b":1,"c":"Zürich"} events: retry, cache.miss links: 1\n')
    assert len(written(make_span(attributes=msgspec.Raw(b'{"a":"%s"}' % (b"x" * 1000))))) < 500


def test_a_long_duration_is_in_seconds() -> None:
    """From one second on, a duration is given in seconds."""
    assert " 2.50s " in written(make_span(start_ns=0, end_ns=2_500_000_000))


def test_a_step_is_one_line() -> None:
    """A step's line has its boundary where a span's has duration and status."""
    line = written(make_step(boundary=Boundary.END, usage=TokenUsage(1, 2)))
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.000 run-1 TOOL     search END 1\+2 tokens\n", line)


def test_each_item_has_its_line() -> None:
    """A batch is as many lines as it has items."""
    assert written(make_span(), make_step(), make_span()).count("\n") == 3


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\rc\u2028d\u0085e", r"a\nb\rc\u2028d\x85e"),
        ("\x1b[31mred\x1b[0m\x07\x9b", r"\x1b[31mred\x1b[0m\x07\x9b"),
        ("abc\u202ecba", r"abc\u202ecba"),
        ("lone \ud800", r"lone \ud800"),
        ("Zürich 漢字 🙂", "Zürich 漢字 🙂"),
        ("[bold]not markup[/bold] :smile:", "[bold]not markup[/bold] :smile:"),
    ],
)
@pytest.mark.parametrize("terminal", [False, True])
def test_control_characters_are_escaped(text: str, shown: str, terminal: bool) -> None:
    """Nothing in a name or a message can break a line, reach the terminal, or hide what is written."""
    span = make_span(name=text, status=Status.ERROR, error=ErrorDetails("E", text))
    output = on_terminal("auto", span) if terminal else written(span)
    assert output.count(shown) == 2
    assert output.count("\n") == 1


def test_long_text_is_cut() -> None:
    """A message of any length leaves a line of a readable one."""
    line = written(make_span(status=Status.ERROR, error=ErrorDetails("ValueError", "x" * 100_000)))
    assert line.endswith("x...\n")
    assert len(line) < 400


def test_what_the_encoding_lacks_is_escaped() -> None:
    """A stream that cannot hold a character gets a backslash escape, and the batch succeeds."""
    assert r" Z\xfcrich \u6f22 " in written(make_span(name="Zürich 漢"), encoding="ascii")


def test_colour_too_keeps_to_the_encoding() -> None:
    """Neither does colour make a batch fail for its characters."""
    raw = io.BytesIO()
    sink = ConsoleSink(io.TextIOWrapper(raw, encoding="ascii"), "always")
    sink.open()
    sink.write([make_span(name="漢")])
    sink.close()
    assert rb"\u6f22" in raw.getvalue()


def test_a_stream_without_encoding_takes_everything() -> None:
    """An `io.StringIO`, as notebooks and tests use it, gets the characters themselves."""
    stream = io.StringIO()
    sink = ConsoleSink(stream)
    sink.open()
    sink.write([make_span(name="漢")])
    assert " 漢 " in stream.getvalue()


def test_a_terminal_has_colours() -> None:
    """On a terminal, with rich installed, a line is coloured."""
    assert "\x1b[" in on_terminal("auto", make_span())


def test_colour_follows_the_wish() -> None:
    """With "never", a terminal gets plain text."""
    assert "\x1b[" not in on_terminal("never", make_span())


def test_a_file_has_no_colours() -> None:
    """Anything but a terminal gets plain text."""
    assert "\x1b[" not in written(make_span())


def test_a_long_line_is_not_wrapped() -> None:
    """A line is longer than the terminal rather than two lines."""
    assert on_terminal("auto", make_span(name="x" * 250)).count("\n") == 1


def test_an_unknown_colour_is_refused() -> None:
    """A typing error in the configuration is not a silent "auto"."""
    with pytest.raises(ValueError, match="'auto', 'always' or 'never', not 'yes'"):
        ConsoleSink(color="yes")  # type: ignore[arg-type]


def test_the_default_is_stderr_when_opened(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a stream, lines go to what `sys.stderr` is when the sink is opened, never to stdout."""
    sink = ConsoleSink()
    sink.open()
    sink.write([make_span(name="to stderr")])
    sink.close()
    captured = capsys.readouterr()
    assert " to stderr " in captured.err
    assert captured.out == ""


def test_the_stream_is_left_open() -> None:
    """Closing the sink does not close a stream that is not its own; it can be opened again."""
    stream = io.StringIO()
    sink = ConsoleSink(stream)
    for _ in range(2):
        sink.open()
        sink.write([make_span()])
        sink.close()
    assert stream.getvalue().count("\n") == 2


def test_a_closed_stream_is_a_sink_error() -> None:
    """A closed stream fails the batch, and the error names the cure."""
    stream = io.StringIO()
    sink = ConsoleSink(stream)
    sink.open()
    stream.close()
    with pytest.raises(SinkError, match=r"cannot be written: .* Keep the stream open"):
        sink.write([make_span()])


@pytest.fixture
def broken_pipe() -> Iterator[TextIO]:
    reader, writer = os.pipe()
    os.close(reader)
    stream = open(writer, "wb", buffering=0)  # noqa: SIM115
    yield io.TextIOWrapper(stream, write_through=True)
    stream.close()


def test_a_reader_that_has_gone_is_a_sink_error(broken_pipe: TextIO) -> None:
    """`program | head` fails the batch, and not the delivery."""
    sink = ConsoleSink(broken_pipe)
    sink.open()
    with pytest.raises(SinkError, match="Broken pipe"):
        sink.write([make_span()])


def test_write_needs_open() -> None:
    """A sink that is not open says so."""
    with pytest.raises(SinkError, match=r"Call open\(\) before write\(\)"):
        ConsoleSink().write([make_span()])


WITHOUT_RICH = """
import os, pty, sys
sys.modules["rich"] = None  # as if it were not installed: importing it raises ImportError
from nat_observability.errors import MissingExtraError
from nat_observability.sinks import ConsoleSink
from tests.sinks.builders import make_span
ours, theirs = pty.openpty()
sink = ConsoleSink(open(theirs, "w"))
sink.open()
sink.write([make_span(name="plain")])
sink.close()
line = os.read(ours, 4096)
assert b" plain " in line and b"\\x1b" not in line, line
try:
    ConsoleSink(color="always").open()
except MissingExtraError as error:
    assert "nat-observability[cli]" in str(error)
else:
    raise AssertionError("no error")
"""


def test_without_rich_a_terminal_gets_plain_text() -> None:
    """If rich is not installed, "auto" writes plain text, and "always" names the extra."""
    run_python(WITHOUT_RICH, fresh=True)
