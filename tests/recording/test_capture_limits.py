"""How much a capture may visit and keep is a setting of the process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from nat_observability import ContextState, step
from nat_observability.builders import build_exporters
from nat_observability.errors import SettingsError
from nat_observability.recording.capture import (
    LEAST_BYTES,
    LEAST_NODES,
    MAX_BYTES,
    MAX_NODES,
    capture,
    capture_json,
    set_limits,
)
from nat_observability.settings import ObservabilitySettings

WORDS = "word " * 20_000


def size(value: object) -> int:
    """Return how many bytes are captured."""
    return len(bytes(capture_json(value)))


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    set_limits(MAX_NODES, MAX_BYTES)


def configured(**limits: int) -> None:
    """Configure a process as a container does."""
    build_exporters(ObservabilitySettings(**limits))  # type: ignore[arg-type]


def test_the_defaults_are_those_of_the_settings() -> None:
    """And the least that may be set is the least that is taken."""
    fields = ObservabilitySettings()
    assert (fields.capture_node_limit, fields.capture_bytes_limit) == (MAX_NODES, MAX_BYTES)
    configured(capture_node_limit=LEAST_NODES, capture_bytes_limit=LEAST_BYTES)
    for wrong in ({"capture_node_limit": LEAST_NODES - 1}, {"capture_bytes_limit": LEAST_BYTES - 1}):
        with pytest.raises(SettingsError):
            configured(**wrong)


@pytest.mark.parametrize(
    "value",
    [
        WORDS,
        WORDS.encode(),
        {"text": WORDS},
        [WORDS, object()],
        {f"key {number}": WORDS[:4000] for number in range(30)},
        [{"text": WORDS[:500]}] * 100,
        {str(number): [1.5] * 200 for number in range(50)},
    ],
    ids=["text", "bytes", "dict", "list", "small texts", "dicts", "numbers"],
)
def test_fewer_bytes_may_be_kept(value: Any) -> None:
    """Of text and of anything else, whichever way it is captured."""
    assert size(value) > 2 * LEAST_BYTES
    configured(capture_bytes_limit=LEAST_BYTES)
    assert size(value) < 1.5 * LEAST_BYTES
    configured()
    assert size(value) > 2 * LEAST_BYTES


def test_more_bytes_may_be_kept() -> None:
    """Up to any number: a text, and one among others."""
    text = "word " * MAX_BYTES
    configured(capture_bytes_limit=8 * MAX_BYTES)
    assert capture(text) == text
    for value in ([text], {"a": [text, 1], "b": object}):
        assert text in bytes(capture_json(value)).decode()


def test_fewer_values_may_be_visited() -> None:
    """Of plain data, too."""
    numbers = [*range(5_000)]
    assert msgspec.json.decode(capture_json(numbers)) == numbers
    configured(capture_node_limit=LEAST_NODES)
    cut = msgspec.json.decode(capture_json(numbers))
    assert len(cut) < LEAST_NODES
    assert cut[-1] == "[cut:5000]"


def test_a_step_keeps_to_the_limit() -> None:
    """Plain text takes a shorter way into a step."""
    configured(capture_bytes_limit=LEAST_BYTES)
    state = ContextState()
    steps: list[Any] = []
    state.stream.subscribe("test", steps.append)
    with state.attach(), step("tool", "large", input=WORDS) as current:
        current.output = WORDS
    assert max(len(steps[0].input), len(steps[1].output)) < 1.5 * LEAST_BYTES
