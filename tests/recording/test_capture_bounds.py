"""capture() visits a bounded number of values and keeps a bounded number of bytes, whatever it is given."""

from __future__ import annotations

import array
import collections
import dataclasses
import itertools
import json
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import msgspec
import numpy
import pydantic
import pydantic.v1
import pytest
import structlog

from nat_observability import ContextState, step
from nat_observability.recording.capture import MAX_BYTES, MAX_NODES, capture


def text(value: object) -> Any:
    """Return what has been captured, decoded."""
    recorded = capture(value)
    return recorded if isinstance(recorded, str) else msgspec.json.decode(recorded or b"null")


def size(value: object) -> int:
    """Return how many bytes have been captured."""
    recorded = capture(value)
    return len(recorded.encode() if isinstance(recorded, str) else bytes(recorded or b""))


class Plain:
    def __init__(self) -> None:
        self.handoffs: list[Any] = []


@dataclasses.dataclass(eq=False)
class Data:
    handoffs: list[Any] = dataclasses.field(default_factory=list)


class Model(pydantic.BaseModel):
    handoffs: list[Any] = []


class Record(msgspec.Struct, eq=False):
    handoffs: list[Any] = []


@attrs.define(eq=False)
class Defined:
    handoffs: list[Any] = attrs.Factory(list)


@pytest.mark.parametrize("new", [Plain, Data, Model, Record, Defined], ids=lambda kind: kind.__name__)
def test_objects_that_list_one_another_are_recorded_once(new: Callable[[], Any]) -> None:
    """Twelve agents, each with the others in a list: as many records, and a mark for each other place."""
    agents = [new() for _ in range(12)]
    for agent in agents:
        agent.handoffs.extend(each for each in agents if each is not agent)
    for value in (agents, agents[0], {"first": agents[0], "all": agents}):
        assert size(value) < 12 * 12 * 200
        if new is not Plain:
            assert bytes(capture(value) or b"").decode().count('"handoffs"') == 12  # type: ignore[arg-type]


def test_small_containers_of_long_integers_are_bounded_too() -> None:
    """Each of them takes long to be written, however few are in one list."""
    value: Any = [10**4000] * 4
    for _ in range(4):
        value = [value] * 8
    assert size(value) < MAX_BYTES // 4


class Counting:
    """An object whose repr says that it was looked at."""

    looks = 0

    def __repr__(self) -> str:
        Counting.looks += 1
        return "Counting()"


def test_plain_items_beside_an_object_are_all_recorded() -> None:
    """One object of an unknown class in a long list costs that object, not those beside it."""
    rows = [{"id": number, "tags": ["a", "b"]} for number in range(10_000)]
    for value in ([object(), *rows], [*rows, object()], [*rows[:600], object(), *rows[600:]]):
        recorded = text(value)
        assert len(recorded) == 10_001
        assert [each for each in recorded if "id" in each] == rows


class Clock:
    """Stands still, because code that runs for long, or is interrupted, is charged for the time."""

    now_ns = 0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stopped = Clock()
    monkeypatch.setattr("time.perf_counter_ns", lambda: stopped.now_ns)
    return stopped


@pytest.mark.usefixtures("clock")
def test_objects_that_run_code_use_up_the_budget_sooner() -> None:
    """Of a hundred thousand whose reprs are Python code some hundreds are looked at, and the rest is counted."""
    Counting.looks = 0
    recorded = text([Counting() for _ in range(100_000)])
    assert recorded[-1] == "[cut:100000]"
    assert 200 <= Counting.looks <= 400


@pytest.mark.parametrize(
    ("microseconds", "looks"), [(20, 200), (100, 25), (500, 7), (60_000, 2), (200_000, 1)]
)
def test_objects_are_charged_for_the_time_that_their_code_takes(
    clock: Clock, microseconds: int, looks: int
) -> None:
    """A call that is quick costs what any does; a call of half a millisecond a seventh of the values."""

    class Slow:
        visits = 0

        def __repr__(self) -> str:
            Slow.visits += 1
            clock.now_ns += microseconds * 1000
            return "Slow()"

    # Each class is logged once in a process.
    Slow.__qualname__ = f"Slow{uuid.uuid4()}"
    assert text([Slow() for _ in range(1000)])[-1] == "[cut:1000]"
    assert looks <= Slow.visits <= looks * 3 // 2


def test_an_object_that_comes_again_is_a_mark() -> None:
    """Side by side; one that is inside itself has another."""
    shared = Data([1])
    assert text([shared, shared]) == [{"handoffs": [1]}, "<seen above>"]
    shared.handoffs.append(shared)
    assert text([shared]) == [{"handoffs": [1, "<recursive>"]}]


def test_objects_that_are_made_when_they_are_asked_for_are_not_taken_for_one() -> None:
    """The id of one that is gone may be that of the next."""

    class Fresh(Mapping[str, Any]):
        def __getitem__(self, key: str) -> Any:
            return Data([key])

        def __iter__(self) -> Iterator[str]:
            return map(str, range(50))

        def __len__(self) -> int:
            return 50

    assert text(Fresh()) == {str(number): {"handoffs": [str(number)]} for number in range(50)}


def doubled(times: int) -> list[Any]:
    value: list[Any] = [1, "x", object()]
    for _ in range(times):
        value = [value, value]
    return value


def doubled_plain(times: int) -> list[Any]:
    value: list[Any] = [1, "x"]
    for _ in range(times):
        value = [value, value]
    return value


WORDS = "word " * (4 * MAX_BYTES // 5)

LARGE: dict[str, Callable[[], Any]] = {
    "text": lambda: WORDS,
    "text of one word": lambda: "x" * 4 * MAX_BYTES,
    "text that is not ASCII": lambda: "wörd " * MAX_BYTES,
    "text of four bytes": lambda: "\U0001f600" * MAX_BYTES,
    "bytes": lambda: WORDS.encode(),
    "memoryview": lambda: memoryview(WORDS.encode()),
    "text often": lambda: [WORDS] * 100,
    "text beside an object": lambda: [object(), *[WORDS] * 100],
    "numbers": lambda: [1.5] * 500_000,
    "numbers beside an object": lambda: [*[1.5] * 500_000, object()],
    "set": lambda: set(range(300_000)),
    "dict": lambda: {str(number): number for number in range(300_000)},
    "dict of bytes": lambda: {str(number): b"x" for number in range(300_000)},
    "dataclasses": lambda: [Data([number]) for number in range(100_000)],
    "objects": lambda: [object() for _ in range(200_000)],
    "shared": lambda: doubled(30),
    "shared plain data": lambda: doubled_plain(30),
    "long keys": lambda: [{"k" * MAX_BYTES: 1}] * 100,
    "model with text": lambda: Model(handoffs=[WORDS]),
    "model with numbers": lambda: Model(handoffs=[1.5] * 500_000),
    "array": lambda: array.array("d", bytes(8 * 500_000)),
    "numpy array": lambda: numpy.zeros((500, 500, 3)),
    "numpy arrays": lambda: [numpy.zeros((500, 500)) for _ in range(3)],
    "numpy scalars": lambda: [numpy.float64(1.5)] * 200_000,
}


@pytest.mark.parametrize("name", LARGE)
def test_what_is_too_large_is_cut(name: str) -> None:
    """The bytes that are kept are few more than the bound, for what escapes and marks add."""
    assert size(LARGE[name]()) < MAX_BYTES * 1.5


class Visited:
    """Counts how often one of them is looked at."""

    visits = 0

    def __repr__(self) -> str:
        Visited.visits += 1
        return "visited"


@pytest.mark.usefixtures("clock")
def test_a_bounded_number_of_values_is_visited() -> None:
    """However many there are, and however they are nested."""
    for value in (
        [Visited() for _ in range(2 * MAX_NODES)],
        [[Visited() for _ in range(1000)] for _ in range(200)],
        {number: Visited() for number in range(2 * MAX_NODES)},
    ):
        Visited.visits = 0
        capture(value)
        assert 100 < Visited.visits <= MAX_NODES


def test_an_endless_mapping_is_cut() -> None:
    """Its items are taken one by one, as far as there is room."""

    class Endless(Mapping[str, int]):
        def __getitem__(self, key: str) -> int:
            return 1

        def __iter__(self) -> Iterator[str]:
            return map(str, itertools.count())

        def __len__(self) -> int:
            return 10**9

    recorded = text(Endless())
    assert recorded["[cut]"] == "[cut:1000000000]"
    assert recorded["5"] == 1


def test_the_marks_say_how_much_there_was() -> None:
    """Of a text its characters, of a list its items, of a dict its fields: as the Truncator marks them."""
    assert text(WORDS).endswith(f" [cut:{len(WORDS)}]")
    assert text([WORDS])[0].endswith(f" [cut:{len(WORDS)}]")
    assert text(WORDS.encode()).endswith(f" [cut:{len(WORDS)}]")
    numbers = text([1.5] * 500_000)
    assert numbers[:3] == [1.5, 1.5, 1.5]
    assert numbers[-1] == "[cut:500000]"
    fields = text({str(number): number for number in range(300_000)})
    assert fields["0"] == 0
    assert fields["[cut]"] == "[cut:300000]"


def test_a_large_value_leaves_room_for_those_behind_it() -> None:
    """A question behind an image in a dict is recorded in full."""
    assert text({"image": "ab " * MAX_BYTES, "question": "why?"})["question"] == "why?"
    assert text({"numbers": [1.5] * 500_000, "question": ["why?"]})["question"] == ["why?"]
    assert text([[object(), *[1.5] * 500_000], {"question": "why?"}])[1] == {"question": "why?"}


def test_a_word_at_the_cut_goes_as_a_whole() -> None:
    """It may be a secret, and half of it would not be recognised."""
    token = "sk-" + "a1B2" * 12
    for value in (
        "x " * ((MAX_BYTES - 20) // 2) + token + " y" * 100,
        ["x " * ((MAX_BYTES - 20) // 2) + token + " y" * 100],
        ("x " * ((MAX_BYTES - 20) // 2) + token + " y" * 100).encode(),
    ):
        recorded = text(value)
        assert "sk-" not in (recorded if isinstance(recorded, str) else recorded[0])


def test_arrays_are_recorded_by_their_shape() -> None:
    """Small ones in full."""
    shape = {"__type__": "ndarray", "dtype": "float64", "shape": [500, 500, 3]}
    assert text(numpy.zeros((500, 500, 3))) == shape
    assert text({"a": [numpy.zeros((500, 500, 3))]}) == {"a": [shape]}
    assert text(numpy.arange(3)) == [0, 1, 2]
    assert text(array.array("d", [1.5] * 3)) == [1.5] * 3
    assert text(array.array("d", bytes(8 * 375_000))) == {
        "__type__": "array",
        "dtype": "d",
        "shape": [375_000],
    }
    assert text(memoryview(array.array("d", bytes(8 * 375_000))))["shape"] == [375_000]
    assert text(memoryview(array.array("d", [1.5]))) == [1.5]


class Frame:
    """As those of pandas and polars are."""

    shape = (100_000, 2)
    columns = ("a", "b")

    def __repr__(self) -> str:
        raise AssertionError("a frame is not printed")


class Tensor:
    """As those of torch are."""

    dtype = "torch.float32"
    shape = (1000, 1000)

    def tolist(self) -> list[float]:
        raise AssertionError("a large tensor is not copied")


def test_frames_and_tensors_are_recorded_by_their_shape() -> None:
    """Frames by their columns, too; none of their values is looked at."""
    assert text([Frame()]) == [{"__type__": "Frame", "shape": [100_000, 2], "columns": ["a", "b"]}]
    assert text([Tensor()]) == [{"__type__": "Tensor", "dtype": "torch.float32", "shape": [1000, 1000]}]


def test_a_step_cuts_text_too() -> None:
    """Plain text takes a shorter way into a step, which has the same bound."""
    state = ContextState()
    steps: list[Any] = []
    state.stream.subscribe("test", steps.append)
    with state.attach(), step("tool", "large", input=WORDS) as current:
        current.output = WORDS
    assert steps[0].input.endswith(f"[cut:{len(WORDS)}]")
    assert steps[1].output.endswith(f"[cut:{len(WORDS)}]")


def test_ordinary_values_are_recorded_in_full() -> None:
    """A history of some hundred kilobytes, and one with shared parts, is as it was."""
    part = {"type": "text", "text": "Wörter " * 30}
    history = [
        {"role": "user", "content": [part, {"n": number, "f": 1.5, "x": None}]} for number in range(500)
    ]
    assert text(history) == history
    assert text({"history": history, "client": object()})["history"] == history
    mixed: dict[Any, Any] = {str(number): [number, (number,)] for number in range(100, 200)}
    assert text(mixed | {1: "a", 2: ["b"]})["1"] == "a"


@pytest.mark.usefixtures("clock")
def test_values_that_take_long_are_charged_more() -> None:
    """What runs Python code, prints itself or raises uses up the bound sooner than plain data does."""

    class Raising:
        visits = 0

        def __repr__(self) -> str:
            Raising.visits += 1
            raise ValueError("not printable")

    class Unconverted:
        visits = 0

        def isoformat(self) -> str:
            Unconverted.visits += 1
            raise ValueError("no time")

    capture([Raising() for _ in range(MAX_NODES)])
    assert 10 < Raising.visits <= MAX_NODES // 100
    capture([Unconverted() for _ in range(MAX_NODES)])
    assert 10 < Unconverted.visits <= MAX_NODES // 500


def test_objects_whose_own_code_is_slow_end_the_capture() -> None:
    """One that takes longer than a capture may wait is the last one that is asked; the rest is counted."""

    class Slow:
        visits = 0

        def __repr__(self) -> str:
            Slow.visits += 1
            time.sleep(0.11)
            return "Slow()"

    class SlowView(Mapping[str, int]):
        def __getitem__(self, key: str) -> int:
            return 1

        def __iter__(self) -> Iterator[str]:
            Slow.visits += 1
            time.sleep(0.11)
            return iter("a")

        def __len__(self) -> int:
            return 1

    # Each class is logged once in a process.
    Slow.__qualname__, SlowView.__qualname__ = names = (f"Slow{uuid.uuid4()}", f"SlowView{uuid.uuid4()}")
    with structlog.testing.capture_logs() as lines:
        recorded = text([Slow() for _ in range(1000)])
        assert Slow.visits == 1
        assert recorded[0]["__repr__"] == "Slow()"
        assert recorded[-1] == "[cut:1000]"
        Slow.visits = 0
        assert text([SlowView() for _ in range(1000)])[-1] == "[cut:1000]"
        assert Slow.visits == 1
    assert [(line["event"], line["type"]) for line in lines] == [("capture_slow", name) for name in names]


def test_a_few_slow_objects_use_up_the_budget() -> None:
    """Each costs a part of it, however little of the time that a capture may wait it takes."""

    class Slow:
        visits = 0

        def __repr__(self) -> str:
            Slow.visits += 1
            time.sleep(0.001)
            return "Slow()"

    assert text([Slow() for _ in range(1000)])[-1] == "[cut:1000]"
    assert 1 <= Slow.visits <= 10


def test_an_object_whose_class_cannot_be_hashed_costs_that_object() -> None:
    """Those beside it are recorded, as a whole or as they would be without it."""

    class Unhashable(type):
        __hash__ = None  # type: ignore[assignment]

    class Odd(metaclass=Unhashable):
        def __repr__(self) -> str:
            return "Odd()"

    odd = {"__type__": Odd.__qualname__, "__repr__": "Odd()"}
    assert text(Odd()) == odd
    assert text([1, Odd(), {"a": [1]}]) == [1, odd, {"a": [1]}]
    assert text({"a": Odd(), "b": (Odd(), 2)}) == {"a": odd, "b": [odd, 2]}
    assert text(Model(handoffs=[Odd(), 1])) == {"handoffs": [odd, 1]}
    assert text(Data([Odd(), 1])) == {"handoffs": [odd, 1]}


def test_a_class_whose_metaclass_exits_costs_its_objects() -> None:
    """Whatever a hash of a class raises stays out of the application, wherever its objects are."""

    class Exiting(type):
        def __hash__(cls) -> int:
            raise SystemExit

    class Odd(metaclass=Exiting):
        def __repr__(self) -> str:
            return "Odd()"

    odd = {"__type__": Odd.__qualname__, "__repr__": "Odd()"}
    assert text(Odd()) == odd
    assert text([1, Odd(), {"a": Odd(), "b": 1}]) == [1, odd, {"a": odd, "b": 1}]
    assert text(Model(handoffs=[Odd(), 1])) == {"handoffs": [odd, 1]}


class Shown(pydantic.BaseModel):
    """A model with a serializer of its own, of which nothing may be consumed."""

    value: Any = None

    @pydantic.field_serializer("value")
    def _show(self, value: Any) -> Any:
        Counting.looks += 1
        return 1


def test_models_in_models_are_looked_through_in_vain_for_a_part_of_the_budget() -> None:
    """A chain of them, and those with long lists and serializers: not again for each model that is inside."""
    chain: Any = object()
    for _ in range(20_000):
        chain = Model.model_construct(handoffs=[chain])
    assert b"<too deep>" in bytes(capture(chain) or b"") or b"[cut" in bytes(capture(chain) or b"")  # type: ignore[arg-type]
    Counting.looks = 0
    capture([Shown.model_construct(value=[*[1.5] * 20_000, object()]) for _ in range(500)])
    assert Counting.looks < 50
    floats = [1.5] * 20_000
    assert text(Model(handoffs=floats)) == {"handoffs": floats}


class Computing(pydantic.BaseModel):
    """A model with a property that its dump would run."""

    name: str = "x"
    inner: Any = None

    @pydantic.computed_field
    def orders(self) -> int:
        Counting.looks += 1
        return 1


@pytest.mark.parametrize(
    ("value", "recorded"),
    [
        (Computing(), {"name": "x", "inner": None}),
        ([Computing(), Computing()], [{"name": "x", "inner": None}] * 2),
        (Model(handoffs=[Computing()]), {"handoffs": [{"name": "x", "inner": None}]}),
        (Computing(inner=b"bytes"), {"name": "x", "inner": "bytes"}),
        ({"model": Computing(inner=[1])}, {"model": {"name": "x", "inner": [1]}}),
    ],
)
def test_computed_fields_are_not_run(value: object, recorded: object) -> None:
    """They are the application's code, which may query a database or never return; only what is there is recorded."""
    Counting.looks = 0
    assert text(value) == recorded
    assert Counting.looks == 0


class Earlier(pydantic.v1.BaseModel):
    name: str = "x"
    api_key: str = pydantic.v1.Field(repr=False)
    token: pydantic.v1.SecretStr = pydantic.v1.SecretStr("hunter2")
    inner: Any = None


def test_models_of_the_first_pydantic_are_recorded_by_their_fields() -> None:
    """As those of the second, with what their fields hide."""
    recorded = text(Earlier(api_key="hunter2", inner=[Earlier(api_key="hunter2")]))
    assert (recorded["name"], recorded["api_key"]) == ("x", "<hidden>")
    assert recorded["inner"][0]["name"] == "x"
    assert "hunter2" not in json.dumps(recorded)


class ArrowArray:
    """As those of Arrow are: a list of any length, without shape and type."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def tolist(self) -> list[int]:
        assert self.count < 10
        return [1] * self.count


class ArrowTable:
    shape = (1_000_000, 1)
    columns = ([1, 2],)
    column_names = ("a",)


def test_tables_of_arrow_are_recorded_by_their_shape() -> None:
    """And by the names of the columns; a small array with its values."""
    assert text([ArrowArray(1_000_000)]) == [{"__type__": "ArrowArray", "shape": [1_000_000]}]
    assert text([ArrowArray(2)]) == [[1, 1]]
    assert text([ArrowTable()])[0]["columns"] == ["a"]


def test_a_text_of_a_class_of_its_own_is_kept_as_text() -> None:
    """And not by its repr, of which a thousand characters are kept."""
    words = collections.UserString("word " * 1000)
    assert text([words]) == ["word " * 1000]


def test_keys_that_hold_much_are_bounded() -> None:
    """A tuple as a key is walked as a value is: its repr would have those of all that is in it."""
    Counting.looks = 0
    key = tuple(Counting() for _ in range(100_000))
    (name,) = text({key: 1})
    assert Counting.looks < 500
    assert len(name) < 100_000
    assert text({(1, "a"): 1, frozenset((2,)): 2}) == {"(1, 'a')": 1, "frozenset({2})": 2}
    assert text({(1, (2, b"x")): 1}) == {'[1,[2,"x"]]': 1}


@pytest.mark.parametrize(
    "value",
    [
        [{"type": "http", "path": "/", "asgi": {}, "headers": [(b"a", b"b")] * 100}] * 20_000,
        [2**100] * 100_000,
        [2**60, None] * 50_000,
    ],
    ids=["scopes", "integers of 128 bits", "long integers among others"],
)
def test_what_is_charged_by_its_size_is_cut(value: list[Any]) -> None:
    """The bytes of long integers count, and what a request is recorded as takes longer than its size says."""
    recorded = capture(value)
    assert isinstance(recorded, msgspec.Raw)
    assert len(bytes(recorded)) < MAX_BYTES
    assert text(value)[-1] == f"[cut:{len(value)}]"


@pytest.mark.parametrize("depth", [20, 100, 200])
def test_many_deep_lists_of_plain_data_are_cut(depth: int) -> None:
    """Each level takes longer than the values in it say."""
    value: Any = [1]
    for _ in range(depth):
        value = [value]
    recorded = text([value] * 20_000)
    assert recorded[0] == value or depth > 100
    assert len(recorded) < 6_000
    assert recorded[-1] == "[cut:20000]"


ROWS: dict[str, list[Any]] = {
    "dicts": [{"id": number, "meta": {"a": "b"}, "text": "x"} for number in range(40)],
    "pairs": [(number, ["x"]) for number in range(40)],
    "of different length": [*[{"id": 1, "meta": {}}] * 39, {"id": 1, "meta": {}, "c": 2}],
}


@pytest.mark.parametrize(
    "odd",
    [b"bytes", {b"key": 1}, {1: {"a": b"x"}}, [object()], Data([1]), {1, 2}, 2**64, float("nan"), "\ud800"],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("name", ROWS)
def test_rows_of_plain_data_are_looked_at_in_each_place(name: str, odd: Any) -> None:
    """One value of another kind in one field of one row is recorded as it is alone."""
    rows = ROWS[name]
    plain = json.loads(json.dumps(rows))
    assert text(rows) == plain
    alone = text([odd])[0]
    changed: list[Any] = [dict(each) if isinstance(each, dict) else list(each) for each in rows]
    places: tuple[Any, ...] = ("meta", "id") if isinstance(changed[20], dict) else (1, 0)
    for place in places:
        was = changed[20][place]
        changed[20][place] = odd
        expected: Any = json.loads(json.dumps(rows))
        expected[20][place] = alone
        assert text(changed) == expected
        changed[20][place] = was


def test_a_long_repr_is_charged_for_all_of_it() -> None:
    """However little of it is kept, it has been made."""

    class Verbose:
        visits = 0

        def __repr__(self) -> str:
            Verbose.visits += 1
            return "x" * (MAX_NODES * 10)

    recorded = text([Verbose() for _ in range(100)])
    assert recorded[-1] == "[cut:100]"
    assert 1 <= Verbose.visits <= 10


def test_long_integers_are_cut() -> None:
    """Their digits count as text does."""
    recorded = capture([10**4000] * 2000)
    assert isinstance(recorded, msgspec.Raw)
    with memoryview(recorded) as view:
        assert view.nbytes <= MAX_BYTES
    assert text([10**4000] * 2000)[-1] == "[cut:2000]"


def test_deeply_nested_lists_end_in_a_mark() -> None:
    """However deep they are."""
    value: list[Any] = []
    for _ in range(10_000):
        value = [value]
    assert b"<too deep>" in bytes(capture(value) or b"")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value",
    [["\x01" * 1000] * 1000, [object(), "\x01" * MAX_BYTES], {"a": "\x1b[0m" * MAX_BYTES, "b": object()}],
    ids=["texts", "a text", "colours"],
)
def test_text_is_bounded_as_it_is_written(value: Any) -> None:
    """A control character takes six bytes in JSON."""
    assert size(value) <= 1.1 * MAX_BYTES


@pytest.mark.parametrize("count", [20, 600])
@pytest.mark.parametrize("last", [True, None, 1.5, -7, 2**63, -(10**30), "x", (1, "y")], ids=str)
def test_a_list_of_numbers_keeps_what_is_among_them(count: int, last: object) -> None:
    """Numbers are encoded together; anything else keeps its own form."""
    numbers: list[Any] = [*range(count)]
    expected = list(last) if isinstance(last, tuple) else last
    for value in ([*numbers, last], [*numbers, last, 1.5], [last, *numbers]):
        recorded = text(value)
        assert recorded == [expected if each is last else each for each in value]
        assert [type(each) for each in recorded] == [type(text(each)) for each in value]


def test_long_integers_among_numbers_are_marked() -> None:
    """Whatever the process allows Python to print."""
    value = [*range(100), 10**5000]
    before = sys.get_int_max_str_digits()
    try:
        for limit in (before, 0):
            sys.set_int_max_str_digits(limit)
            assert size([10**4000] * 1000) < MAX_BYTES // 4
            recorded = bytes(capture(value) or b"")  # type: ignore[arg-type]
            assert recorded.startswith(b"[0,1,2,")
            assert (b"integer of" in recorded) == (limit > 0)
    finally:
        sys.set_int_max_str_digits(before)


@pytest.mark.parametrize(
    "value",
    [
        b"\1" * MAX_BYTES,
        bytearray(b"\1" * (4 * MAX_BYTES)),
        array.array("w" if sys.version_info >= (3, 13) else "u", "\1" * MAX_BYTES),
        type("Text", (str,), {})("\1" * MAX_BYTES),
        {"\1" * MAX_BYTES: 1},
        {b"\1" * MAX_BYTES: 1},
        numpy.zeros(3, dtype=f"V{MAX_BYTES}"),
        b"\1" * MAX_BYTES + b" " + b"\xff",
        ["\ud800" * MAX_BYTES],
        "\ud800" * MAX_BYTES,
        ["\ud800\U0001f600" * MAX_BYTES],
        ValueError("\1" * MAX_BYTES),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_escapes_is_counted_as_it_is_written(value: object) -> None:
    """A control character takes six bytes, in bytes, keys and texts of subclasses too, alone and in containers."""
    for each in (value, [value], {"a": value, "b": [value, 1, object()]}):
        assert size(each) <= MAX_BYTES


@pytest.mark.parametrize("dtype", ["V100000", "U2000000", [("rows", "f8", (100_000,))]], ids=str)
def test_arrays_of_few_large_items_are_their_shape(dtype: Any) -> None:
    """However few they are: each item may be a text, or an array, of any length."""
    recorded = text(numpy.zeros(20, dtype=dtype))
    assert (recorded["__type__"], recorded["shape"]) == ("ndarray", [20])
    assert size([numpy.zeros(20, dtype=dtype)] * 3) < 2000


@pytest.mark.parametrize(
    ("count", "dtype", "fitting"),
    [
        (20, "U100000", 10),
        (20, [("name", "U100000")], 10),
        (20, [("rows", "f8", (1000,))], 8),
        (20, [("a", [("b", "f8", (1000,))])], 8),
        (2000, "U5", 1024),
        (2000, [("a", "i8"), ("b", "U5")], 512),
        ((20, 2), "U100000", 5),
        ((20, 300), "U1", 3),
    ],
    ids=str,
)
def test_of_many_texts_and_records_the_first_are_recorded(count: Any, dtype: Any, fitting: int) -> None:
    """As many as are within the bounds, and how many there are."""
    value = numpy.zeros(count, dtype=dtype)
    recorded = text([value])[0]
    assert recorded == [*text(value[:fitting]), f"[cut:{len(value)}]"]
    assert len(recorded) == fitting + 1


def test_the_first_texts_end_where_the_capture_is_full() -> None:
    """The mark is that of the whole array."""
    recorded = text(numpy.array(["\1" * 20_000] * 100))
    assert recorded[0] == "\1" * 20_000
    assert recorded[-1] == "[cut:100]"
    assert size([numpy.array(["word " * 20_000] * 20)] * 3) <= MAX_BYTES


def test_texts_beside_a_long_one_are_recorded() -> None:
    """Each takes as much room in an array as the longest does."""
    words = ["doc" * 7000, *["short"] * 9]
    assert text(numpy.array(words)) == words
    assert text(numpy.array([word.encode() for word in words])) == words
    records = [(number, word) for number, word in enumerate(words)]
    value = numpy.array(records, dtype=[("a", int), ("b", "U21000")])
    assert text(value) == [{"a": number, "b": word} for number, word in records]
    assert text(value[0]) == {"a": 0, "b": words[0]}


def test_an_array_of_short_texts_is_recorded_in_full() -> None:
    """So that its words are there to be read, and to be redacted."""
    assert text(numpy.array(["red", "green"])) == ["red", "green"]
    words = [f"word {number}" * 8 for number in range(1000)]
    assert text(numpy.array(words)) == words


def test_a_view_that_is_put_together_is_cut_sooner() -> None:
    """Each of its bytes is copied on its own."""
    recorded = text(memoryview(b"drow " * MAX_BYTES)[::-1])
    assert recorded.startswith(" word word")
    assert recorded.endswith(f"[cut:{5 * MAX_BYTES}]")
    assert len(recorded) <= MAX_BYTES // 2 + 32
    assert text(memoryview(b"ab" * 100_000)[::2]) == "a" * 100_000
    assert [len(each) for each in text([memoryview(b"a " * 100_000)[::2]] * 3)] == [100_000] * 3
    assert size([memoryview(b"drow " * MAX_BYTES)[::-1]] * 100) <= MAX_BYTES


def test_a_broken_emoji_does_not_cost_the_text() -> None:
    """A lone surrogate in a long text is a mark, and all else stays as it is."""
    words = "word " * 40_000
    assert text(f"{words}\ud83d {words}") == f"{words}\\ud83d {words}"
    assert text([f"{words}\ud83d {words}"]) == [f"{words}\\ud83d {words}"]


def test_texts_that_are_broken_throughout_are_all_recorded() -> None:
    """As far as there are bytes for them."""
    for count in range(1, 5):
        assert text(["\ud800" * 33_000 + "TAIL"] * count) == ["\\ud800" * 33_000 + "TAIL"] * count


@pytest.mark.parametrize("character", ["a", '"', "\n", "\u00fc", "\u4e2d", "\U0001f600"], ids=ascii)
def test_text_in_a_container_fills_the_bytes_that_there_are(character: str) -> None:
    """However many bytes a character takes; only control characters, which say nothing, are given up sooner."""
    words = f"{character * 9} " * (MAX_BYTES // 4)
    for value in ([words], {"a": words}, {words: 1}):
        assert MAX_BYTES * 3 // 4 <= size(value) <= MAX_BYTES


@pytest.mark.parametrize("base", [dict, list, frozenset, collections.UserDict, collections.deque])
def test_a_large_container_is_not_printed_to_see_whether_it_masks_itself(base: Any) -> None:
    """Its own repr may have those of all that is in it."""
    looks = 0

    def printed(_: object) -> str:
        nonlocal looks
        looks += 1
        return "..."

    numbers: Any = range(2000)
    kind = type("Printed", (base,), {"__repr__": printed})
    is_mapping = issubclass(base, dict | collections.UserDict)
    capture(kind(dict.fromkeys(map(str, numbers)) if is_mapping else numbers))
    assert looks == 0
    capture(kind({"1": 1} if is_mapping else [1]))
    assert looks == 1


def test_a_chain_of_maps_is_not_printed() -> None:
    """Its repr has those of all its maps, and is the standard library's."""
    Counting.looks = 0
    chain = collections.ChainMap(*({"a": Counting()} for _ in range(100)))
    assert text(chain) == {"a": {"__type__": "Counting", "__repr__": "Counting()"}}
    assert Counting.looks == 1


def calls_of_c(value: object) -> collections.Counter[str]:
    """Return how often a capture of `value` calls each function of C."""
    calls: collections.Counter[str] = collections.Counter()

    def count(_: object, event: str, function: Any) -> None:
        if event == "c_call":
            calls[function.__name__] += 1

    sys.setprofile(count)
    try:
        capture(value)
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("kind", [set, frozenset, dict.fromkeys])
def test_items_that_lie_anywhere_in_memory_cost_more(kind: Any) -> None:
    """A set of texts, and a view of a dict, are not read one after the other as a list is."""
    value = kind(f"text {number}" for number in range(150_000))
    if isinstance(value, dict):
        value = value.keys()
    recorded = text(value)
    assert recorded[-1] == "[cut:150000]"
    assert 10_000 < len(recorded) < 20_000
    small = text(kind([1, 2, 3]) if kind is not dict.fromkeys else dict.fromkeys([1, 2, 3]).values())
    assert len(small) == 3


def test_texts_with_broken_characters_are_charged_by_their_length() -> None:
    """Each of them is looked through for what UTF-8 cannot hold; in a short one it costs what it always did."""
    broken = ("x" * 100 + "\ud800") * 40
    recorded = text([broken] * 2000)
    assert recorded[0] == broken.replace("\ud800", "\\ud800")
    assert 100 < len(recorded) < 200
    assert len(text(["a \ud800"] * 2000)) > 250


def test_a_text_with_a_broken_character_is_escaped_once() -> None:
    """A short text needs neither a sample nor a second try to be written."""
    assert calls_of_c(["x" * 4000 + "\ud800", object()])["encode"] <= 6
