"""ConsoleSink: one readable line per finished span, or per step, on a stream."""

from __future__ import annotations

import codecs
import sys
import time
from typing import TYPE_CHECKING, Literal, TextIO

from nat_observability.errors import MissingExtraError, SinkError
from nat_observability.events import Item, Span
from nat_observability.sinks.protocol import Batch

if TYPE_CHECKING:
    from rich.console import Console

Color = Literal["auto", "always", "never"]

_STYLES = {"ok": "green", "error": "bold red", "incomplete": "yellow"}
_MAX_TEXT = 300


class ConsoleSink:
    """
    Writes one line per item: the time at which it ended, the start of its run's id, kind, name, duration, status, error
    or status message, attributes, the names of its events, the number of its links, and tokens. A span has no
    indentation: children arrive before their parents.

    A name, an error message or the attributes are cut after 300 characters, and what is not printable in them (line
    breaks, escape sequences, characters that turn the direction of text) is written as a backslash escape. A character
    that the stream's encoding lacks is written so too: encoding never makes a batch fail.

    Args:
        stream: The stream to write to; by default `sys.stderr` at the time the sink is opened. It is never closed.
        color: "auto" colours the lines if the stream is a terminal and rich is installed, "always" without checking for
            a terminal, "never" not at all.
    """

    def __init__(self, stream: TextIO | None = None, color: Color = "auto") -> None:
        if color not in ("auto", "always", "never"):
            raise ValueError(f"color is 'auto', 'always' or 'never', not {color!r}.")
        self._given, self._color = stream, color
        self._stream: TextIO | None = None
        self._encoding = "ascii"
        self._console: Console | None = None

    def open(self) -> None:
        """
        Choose the stream and the colours.

        Raises:
            SinkError: The process has no stderr.
            MissingExtraError: `color` is "always", and rich is not installed.
        """
        stream = self._given or sys.stderr
        if stream is None:
            raise SinkError("stderr", "this process has none", "Give ConsoleSink a stream.")
        self._stream = stream
        self._encoding = _known_encoding(stream)
        self._console = self._rich(stream)

    def write(self, batch: Batch) -> None:
        """
        Write one line per item, and flush.

        Raises:
            SinkError: The stream is closed, or its reader has gone.
        """
        if self._stream is None:
            raise SinkError("console", "is not open", "Call open() before write().")
        lines = [_parts(item) for item in batch]
        try:
            if self._console is None:
                plain = [" ".join(text for text, _ in parts) + "\n" for parts in lines]
                self._stream.write(self._encodable("".join(plain)))
            else:
                self._print(self._console, lines)
            self._stream.flush()
        except (OSError, ValueError) as error:  # Python raises a ValueError if a stream is closed
            where = getattr(self._stream, "name", "console")
            raise SinkError(
                str(where), f"cannot be written: {error}", "Keep the stream open, or remove it."
            ) from error

    def close(self) -> None:
        """Release the stream, which stays open."""
        self._stream = self._console = None

    def _rich(self, stream: TextIO) -> Console | None:
        if self._color == "never" or (self._color == "auto" and not stream.isatty()):
            return None
        try:
            from rich.console import Console
        except ImportError:
            if self._color == "always":
                raise MissingExtraError("ConsoleSink(color='always')", "cli") from None
            return None
        return Console(file=stream, force_terminal=True, force_jupyter=False, highlight=False, soft_wrap=True)

    def _print(self, console: Console, lines: list[list[tuple[str, str]]]) -> None:
        from rich.text import Text

        console.print(
            Text("\n").join(
                Text(" ").join(Text(self._encodable(text), style) for text, style in parts) for parts in lines
            )
        )

    def _encodable(self, text: str) -> str:
        return text.encode(self._encoding, "backslashreplace").decode(self._encoding)


def _known_encoding(stream: TextIO) -> str:
    try:
        return codecs.lookup(stream.encoding or "utf-8").name  # an io.StringIO has None
    except LookupError:
        return "ascii"


def _parts(item: Item) -> list[tuple[str, str]]:
    """Return the parts of the line for `item`, each with its style."""
    if isinstance(item, Span):
        time_ns, moment = item.end_ns, item.status.value
        style = _STYLES[moment]
    else:
        time_ns, moment, style = item.time_ns, item.boundary.value, "blue"
    parts = [
        (_clock(time_ns), "dim"),
        (_printable(item.run.run_id[:8]), "cyan"),
        (f"{item.kind.value:<8}", "bold"),
        (_printable(item.name), ""),
    ]
    if isinstance(item, Span):
        parts.append((_duration(item.end_ns - item.start_ns), "magenta"))
    parts.append((moment, style))
    if item.error is not None:
        parts.append((_printable(f"{item.error.type}: {item.error.message}"), "red"))
    elif item.status_message is not None:
        parts.append((_printable(item.status_message), style))
    if item.attributes is not None:
        parts.append((_printable(str(bytes(item.attributes), "utf-8", "backslashreplace")), "dim"))
    if item.events:
        parts.append((_printable(f"events: {', '.join([event.name for event in item.events])}"), "dim"))
    if item.links:
        parts.append((f"links: {len(item.links)}", "dim"))
    if item.usage is not None:
        parts.append((f"{item.usage.prompt_tokens}+{item.usage.completion_tokens} tokens", "dim"))
    return parts


def _clock(time_ns: int) -> str:
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{rest // 1_000_000:03}"


def _duration(nanoseconds: int) -> str:
    seconds = nanoseconds / 1e9
    return f"{seconds:.2f}s" if seconds >= 1 else f"{seconds * 1e3:.1f}ms"


def _printable(text: str) -> str:
    if len(text) > _MAX_TEXT:
        text = text[:_MAX_TEXT] + "..."
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
