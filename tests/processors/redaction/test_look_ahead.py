"""Looking at several items together changes nothing of what is redacted."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from benchmarks.redaction_corpus.score import cases
from nat_observability.delivery.pipeline.intake import ProcessorPipeline
from nat_observability.delivery.queue import weigh
from nat_observability.events import ErrorDetails, Item, Run, Span, SpanEvent, SpanLink, Status, StepKind
from nat_observability.processors import Redactor, Rule
from nat_observability.recording.capture import capture

SECRET = "sk-proj-" + "Zx81kQ" * 8
RUN = Run("run-1", "1" * 32)


def a_span(number: int = 0, run: Run = RUN, **fields: Any) -> Span:
    given: dict[str, Any] = {
        "run": run,
        "kind": StepKind.TOOL,
        "name": f"tool {number}",
        "span_id": f"{number:016x}",
        "parent_id": None,
        "start_ns": 1,
        "end_ns": 2,
        "status": Status.OK,
        **fields,
    }
    return Span(**given)


def through(processors: Sequence[object], items: Sequence[Item]) -> list[Item | str]:
    """What a pipeline makes of items, a stretch at a time."""
    pipeline = ProcessorPipeline("test", processors)  # type: ignore[arg-type]
    results: list[Item | str] = []
    while len(results) < len(items):
        some = items[len(results) : len(results) + 256]
        done = pipeline.stretch(some, [weigh(item) for item in some])
        results += [each if isinstance(each, str) else each[0] for each in done]
    return results


def test_g13_a_secret_among_many_harmless_spans_is_found() -> None:
    """Wherever in the group it stands, and every other span stays the object that it was."""
    for at in (0, 1, 63, 64, 127, 128, 200, 299):
        items = [a_span(number, input=f"question {number}") for number in range(300)]
        items[at] = a_span(at, input=f"the key is {SECRET}")
        results = through([Redactor()], items)
        assert [
            number
            for number, (item, result) in enumerate(zip(items, results, strict=True))
            if item is not result
        ] == [at]
        assert SECRET not in repr(results)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": SECRET},
        {"input": SECRET},
        {"output": msgspec.Raw(msgspec.json.encode({"a": [SECRET]}))},
        {"metadata": msgspec.Raw(msgspec.json.encode({"password": "hunter2x"}))},
        {"tags": ("fine", SECRET)},
        {"error": ErrorDetails("ValueError", SECRET)},
        {"error": ErrorDetails("ValueError", "no", f"line 3\n{SECRET}")},
        {"attributes": msgspec.Raw(msgspec.json.encode({"db.password": "hunter2x"}))},
        {"status_message": SECRET},
        {"events": (SpanEvent(SECRET, 1),)},
        {"events": (SpanEvent("e", 1, msgspec.Raw(msgspec.json.encode({"api_key": "hunter2x"}))),)},
        {"links": (SpanLink("1" * 32, "2" * 16, msgspec.Raw(msgspec.json.encode({"k": SECRET}))),)},
        {"links": (SpanLink("1" * 32, "2" * 16, trace_state=f"a={SECRET}"),)},
        {"input": "x" * 9000 + " " + SECRET},
        {"chunks": 2, "output": msgspec.Raw(msgspec.json.encode([SECRET[:12], SECRET[12:]]))},
        {"run": Run("run-2", "2" * 32, user_id=SECRET)},
    ],
    ids=lambda fields: "-".join(fields),
)
def test_g13_no_part_of_a_span_is_overlooked(fields: dict[str, Any]) -> None:
    """Each field that is recorded is seen in the look at several spans too."""
    items = [
        *(a_span(number) for number in range(8)),
        a_span(8, **fields),
        *(a_span(number) for number in range(9, 20)),
    ]
    results = through([Redactor()], items)
    assert results[8] is not items[8]
    left = msgspec.json.encode(results)
    assert SECRET.encode() not in left
    assert b"hunter2x" not in left


def test_the_same_is_redacted_as_one_by_one() -> None:
    """Spans of the corpus, in groups and each alone."""
    chosen = random.Random(3)
    items = [a_span(number, input=capture(case.given)) for number, case in enumerate(cases(0.0007))]
    items += [a_span(number) for number in range(len(items))]
    chosen.shuffle(items)
    alone = [Redactor()(item) for item in items[:100]]
    assert msgspec.json.encode(through([Redactor()], items)[:100]) == msgspec.json.encode(alone)


def test_other_rules_are_looked_at_apart() -> None:
    """Runs with rules of their own stand between others: each item gets those of its run."""
    clinic = Run("run-2", "2" * 32, tags=(("tenant", "clinic"),))
    redactor = Redactor(rules=[Rule(when=lambda run: bool(run.tags), keys=["ward"])])
    items = [
        a_span(number, run=clinic if number % 3 == 0 else RUN, input="ward=north7") for number in range(60)
    ]
    results = through([redactor], items)
    assert [result is not item for item, result in zip(items, results, strict=True)] == [
        number % 3 == 0 for number in range(60)
    ]


def test_g13_a_rule_that_raises_drops_the_items_of_its_run_only() -> None:
    """Looking ahead does not raise; the item is refused when its turn comes."""
    bad = Run("run-2", "2" * 32, tags=(("tenant", "bad"),))

    def when(run: Run) -> bool:
        if run.tags:
            raise LookupError("no such tenant")
        return False

    items = [a_span(number, run=bad if number == 5 else RUN) for number in range(10)]
    results = through([Redactor(rules=[Rule(when=when)])], items)
    assert [type(result) is str for result in results] == [number == 5 for number in range(10)]


def test_g13_what_another_processor_changed_is_looked_at_again() -> None:
    """A processor before the redactor may put a secret into an item."""

    def add(item: Item) -> Item:
        return msgspec.structs.replace(item, input=SECRET)

    results = through([add, Redactor()], [a_span(number) for number in range(20)])
    assert SECRET.encode() not in msgspec.json.encode(results)


def test_a_foreign_processor_with_such_a_method_is_called_all_the_same() -> None:
    """It may mean something else by that name."""

    class Foreign:
        def __init__(self) -> None:
            self.got: list[Item] = []

        def __call__(self, item: Item) -> Item:
            self.got.append(item)
            return item

        def look_ahead(self, miles: int, feet: int) -> int:
            return miles + feet

    foreign = Foreign()
    items = [a_span(number) for number in range(10)]
    assert through([foreign], items) == items == foreign.got
