"""What redaction, limits and tags cost a span, beside one pass over its bytes and beside one regular expression."""

from __future__ import annotations

import base64
import random
import re
import sys
import time
from collections.abc import Callable
from statistics import median

import msgspec

from benchmarks.report import Row, at_most, beside, report
from benchmarks.timing import rounds
from nat_observability.events import Item, Run, Span, Status, StepKind
from nat_observability.processors import PERSONAL_SETS, Pattern, Redactor, Tagger, Truncator
from nat_observability.recording.capture import capture, capture_json

ROUNDS = rounds(7)
SECONDS = 0.02  # of each measurement
SENTENCE = (
    "the agent answered a question about the weather in Paris and looked up some documents, because whoever asked "
    "wanted to know more about clouds; prices are fine and nothing else happened."
)
WORDS = SENTENCE.split()
RUN = Run("run-1", "1" * 32, "conversation-1", "user-1")

# What one would write by hand, for a tenth of what the default set finds.
BY_HAND = re.compile(
    r"sk-[\w-]{20,}|gh[pousr]_\w{30,}|AKIA[0-9A-Z]{16}|AIza[\w-]{35}|xox[abp]-[\w-]{10,}|eyJ[\w-]+\.[\w-]+\.[\w-]+"
    r"|bearer\s+[\w.-]+|(?:password|passwd|secret|token|api[_-]?key|authorization)[\"']?\s*[:=]",
    re.IGNORECASE,
)
PASS = bytes(range(256))


def prose(size: int) -> str:
    """Return text without a secret."""
    chosen = random.Random(1)
    text = ""
    while len(text) < size:
        text += " ".join(chosen.choices(WORDS, k=12)) + ".\n"
    return text[:size]


def a_span(value: object, output: object) -> Span:
    return Span(
        run=RUN,
        kind=StepKind.LLM,
        name="gpt-example",
        span_id="2" * 16,
        parent_id="3" * 16,
        start_ns=1,
        end_ns=2,
        status=Status.OK,
        input=capture(value),
        output=capture(output),
        metadata=capture_json({"temperature": 0.5, "max_tokens": 100}),
    )


def chat(size: int) -> list[dict[str, str]]:
    return [{"role": "system", "content": prose(size // 2)}, {"role": "user", "content": prose(size // 2)}]


def table(size: int) -> list[dict[str, object]]:
    return [{"city": "Paris", "degrees": row, "wind": "north", "fine": True} for row in range(size // 60)]


def image(size: int) -> list[dict[str, str]]:
    data = base64.b64encode(random.Random(1).randbytes(size * 3 // 4)).decode()
    return [{"type": "image", "url": f"data:image/png;base64,{data}"}]


def content(span: Span) -> bytes:
    """Return everything that is recorded in a span."""
    values = (span.input, span.output, span.metadata)
    return b"".join(
        value.encode() if isinstance(value, str) else bytes(value) for value in values if value is not None
    )


def medians_of(*contenders: Callable[[], object]) -> list[float]:
    """Return the median CPU microseconds of one call of each, measured in turns, so that all meet the same machine."""
    times = []
    for contender in contenders:
        began = time.process_time()
        calls = 0
        while time.process_time() - began < SECONDS:
            contender()
            calls += 1
        times.append(max(1, calls))
    taken: list[list[float]] = [[] for _ in contenders]
    for _ in range(ROUNDS):
        for index, contender in enumerate(contenders):
            began = time.process_time()
            for _ in range(times[index]):
                contender()
            taken[index].append((time.process_time() - began) / times[index] * 1e6)
    return list(map(median, taken))


def on(process: Callable[[Item], Item | None], span: Span) -> Callable[[], object]:
    return lambda: process(span)


def measure() -> list[Row]:
    """Measure spans of 1 KB and of 100 KB, without secrets and with one."""
    redact = Redactor()
    rows: list[Row] = []
    for name, kilobytes, value, clean in (
        ("prose", 1, prose, True),
        ("chat", 1, chat, True),
        ("table", 1, table, True),
        ("prose", 100, prose, True),
        ("chat", 100, chat, True),
        ("table", 100, table, True),
        ("image", 100, image, True),
        ("prose and a key", 1, prose, False),
        ("chat and a key", 100, chat, False),
    ):
        size = kilobytes * 1000
        key = "" if clean else " sk-proj-" + "a1B2c3D4" * 5
        span = a_span(value(size // 2), prose(size // 2) + key)
        assert (redact(span) is span) is clean
        data = content(span)
        text = data.decode()
        ours, floor, by_hand = medians_of(
            on(redact, span),
            lambda data=data: data.translate(PASS),  # type: ignore[misc]
            lambda text=text: BY_HAND.sub("[redacted]", text),  # type: ignore[misc]
        )
        what = f"redact {name}, {kilobytes} KB"
        if clean:
            rows.append(at_most(what, "µs CPU a span", ours, "8 patterns in one expression", by_hand, 0.5))
            rows.append(beside(f"{what}, rate", "MB/s", len(data) / ours, "one pass", len(data) / floor))
        else:
            rows.append(beside(what, "µs CPU a span", ours, "one pass", floor))
    span = a_span(chat(500), prose(500))
    everything = Redactor(personal=PERSONAL_SETS)
    own = Redactor(patterns=[Pattern("ticket", r"TICKET-\d+", literals=["ticket-"])])
    default, personal, with_own, truncated, tagged = medians_of(
        on(redact, span),
        on(everything, span),
        on(own, span),
        on(Truncator(), span),
        on(Tagger({"env": "prod"}), span),
    )
    rows.append(beside("all personal data too, chat, 1 KB", "µs CPU a span", personal, "default", default))
    rows.append(
        beside("one pattern of one's own alone, chat, 1 KB", "µs CPU a span", with_own, "default", default)
    )
    rows.append(beside("limits, chat, 1 KB", "µs CPU a span", truncated, "default redaction", default))
    rows.append(beside("tags, chat, 1 KB", "µs CPU a span", tagged, "default redaction", default))
    large = a_span(chat(2_000_000), prose(100))
    cut, encoded = medians_of(on(Truncator(), large), lambda: msgspec.json.decode(large.input or b""))
    rows.append(beside("limits, 2 MB cut to 1 MB", "µs CPU a span", cut, "decoding it", encoded))
    return rows


if __name__ == "__main__":
    sys.exit(report(__doc__ or "", measure))
