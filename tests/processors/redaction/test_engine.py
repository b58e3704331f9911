"""The engine is a first look that misses nothing: what passes it not, holds nothing."""

from __future__ import annotations

import json
import os
import random
import threading

import msgspec
import pytest

from benchmarks.redaction_corpus.harmless import HARMLESS
from benchmarks.redaction_corpus.kinds import FORM_KINDS
from benchmarks.redaction_corpus.score import cases
from nat_observability.processors import DEFAULT_KEYS, DEFAULT_PATTERNS, Pattern
from nat_observability.processors.redaction.first_look.engine import BYTES_BEFORE_COMPILING, Engine, engine_of
from nat_observability.processors.redaction.marks import Marks
from nat_observability.processors.redaction.names.keys import with_letters_apart
from nat_observability.processors.redaction.scrubber import Scrubber
from nat_observability.recording.capture import capture
from nat_observability.testing import until
from tests.processors.redaction.test_search import NEARLY_MISSED

pytestmark = pytest.mark.timeout(60)  # two seconds, which a machine that does much else draws out

PROSE = "the agent answered a question about the weather in Paris and looked up some documents. " * 12
KEYS = (*DEFAULT_KEYS, "patient_*", "x-very-odd-name", "clé")


SCRUBBER = Scrubber(KEYS, DEFAULT_PATTERNS, (), Marks(None))


def compiled(keys: tuple[str, ...] = KEYS, *, tokens: bool = True) -> Engine:
    """An engine that is ready, apart from those that redactors share."""
    engine = engine_of(with_letters_apart(keys), tokens=tokens)
    assert engine is not None
    if not engine.is_ready and not engine.compile():
        pytest.skip("hyperscan is not installed")
    return engine


def passes(data: bytes) -> bool:
    """Whether a scrubber whose engine is ready looks at data again."""
    compiled()
    return SCRUBBER.passes(data)


def changed_without_engine(values: list[object]) -> list[bytes]:
    """The values, as they are recorded, in which something is redacted without any first look."""
    scrubber = Scrubber(KEYS, DEFAULT_PATTERNS, (), Marks(None), prefilter=False)
    found = []
    for value in values:
        recorded = capture(value)
        assert recorded is not None
        if scrubber.value(recorded) is not recorded:
            found.append(recorded.encode() if isinstance(recorded, str) else bytes(recorded))
    return found


def test_it_lets_everything_through_in_which_something_is_redacted() -> None:
    """Secrets of the corpus and texts that only look like some, in every context."""
    values = [case.given for case in cases(0.002)] + [each for kind in HARMLESS.values() for each in kind]
    changed = changed_without_engine(values)
    assert len(changed) > 200
    assert [data for data in changed if not passes(data)] == []


def test_it_sees_names_with_unusual_surroundings() -> None:
    """As the first look without it does."""
    assert [text for text in NEARLY_MISSED if not passes(text.encode())] == []


def test_it_knows_every_form_and_every_name() -> None:
    """Each kind of token alone, and each default key with its words together and apart."""
    chosen = random.Random(7)
    names = [key.replace("*", "").replace("^", "").removeprefix("!") for key in KEYS]
    written = [name.replace("_", "") for name in names] + [name.replace("_", " - ") for name in names]
    values: list[object] = [kind.make(chosen).value for kind in FORM_KINDS]
    values += [{name: "hunter2x"} for name in (*names, *written, *map(str.upper, names))]
    changed = changed_without_engine(values)
    assert len(changed) > 200
    assert [data for data in changed if not passes(data)] == []


def test_no_default_key_is_lifted_by_an_exception_behind_it() -> None:
    """What stands under the name of any of them is redacted, and found before."""
    names = [key.strip("~*^").replace("^", "") for key in KEYS if not key.startswith("!")]
    changed = changed_without_engine([{name: "7x1igT6YfHWHpHtu"} for name in names])
    assert [name for name in names if not any(f'"{name}"'.encode() in data for data in changed)] == []
    assert [data for data in changed if not passes(data)] == []


@pytest.mark.parametrize(
    "hidden",
    [
        "\\u0070assword: hunter2x",
        '{"\\u015fifre": "hunter2x"}',
        "%70assword%3Dhunter2x",
        "pass\x1b[31mword: hunter2x",
        "pass\u2009=\u20099RWtOyJl8Xc1",
        "pass\uff1a2Oib5qS9w8wM",
        '{"a": "\\\\u0070assword: hunter2x"}',
        '{"a": "pass\\u0000word: hunter2x"}',
        '{"a": "pass\\u200bword: hunter2x"}',
        '{"a": "{\\\\"pass\\\\u0000word\\\\": 1}"}',
        "pass%00word%3Dhunter2x",
    ],
)
def test_what_escapes_hide_is_looked_at(hidden: str) -> None:
    """The engine reads no escapes: where there are some, it looks again at what they hide."""
    assert passes(hidden.encode())


def test_it_holds_nothing_against_prose_and_numbers() -> None:
    """Or it would be of no use."""
    harmless = [
        PROSE,
        json.dumps({"city": "Paris", "degrees": [12, 13.5], "fine": True}),
        "",
        "gpt-4o",
        "search",
    ]
    assert [text for text in harmless if passes(text.encode())] == []


def test_equal_rules_share_an_engine() -> None:
    """The second redactor of a process compiles nothing."""
    assert engine_of(("one", "two"), tokens=True) is engine_of(["one", "two"], tokens=True)
    assert engine_of(("one",), tokens=True) is not engine_of(("one",), tokens=False)


def test_a_key_of_asterisks_has_no_engine() -> None:
    """It matches any name, so that everything is looked at."""
    assert engine_of(("*",), tokens=True) is None


def test_patterns_are_looked_for_by_their_literals() -> None:
    """In either case; and without literals everything is searched, whatever the engine says."""
    compiled()
    with_literals = Pattern("ticket", r"(?i)ticket-\d+", literals=["ticket-"])
    without = Pattern("number", r"\d{9}")
    for pattern, text in ((with_literals, "see TICKET-123 there"), (without, "see 123456789 there")):
        scrubber = Scrubber((), (pattern,), (), Marks(None))
        for _ in range(2):
            assert scrubber.text(text) != text


async def test_it_is_compiled_in_the_background_and_used_by_many_threads() -> None:
    """Once enough was looked at without it; then several threads get the same answers at once."""
    compiled()
    engine = engine_of(("wholly_new_name",), tokens=False)
    assert engine is not None
    assert not engine.is_ready
    for _ in range(BYTES_BEFORE_COMPILING // len(PROSE) + 1):
        engine.count(len(PROSE))
    await until(lambda: engine.is_ready)
    wrong: list[object] = []

    def look() -> None:
        texts = (PROSE.encode(), b"WhollyNewName: x")
        answers = [tuple(engine.look(text) is not None for text in texts) for _ in range(200)]
        wrong.extend(each for each in answers if each != (False, True))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_uses_it() -> None:
    """What was compiled before the fork works after it."""
    engine = compiled()
    child = os.fork()
    if child == 0:
        right = engine.look(b"password: x") is not None and engine.look(PROSE.encode()) is None
        os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_it_changes_no_result() -> None:
    """With and without the first look, the same is redacted."""
    compiled()
    fast = Scrubber(KEYS, DEFAULT_PATTERNS, (), Marks(None))
    slow = Scrubber(KEYS, DEFAULT_PATTERNS, (), Marks(None), prefilter=False)
    for case in cases(0.001):
        recorded = capture(case.given)
        first, second = fast.value(recorded), slow.value(recorded)
        assert msgspec.json.encode(first) == msgspec.json.encode(second), case.context.name
