"""capture(): whatever it is given, it never raises, and what comes out is valid UTF-8."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import gc
import json
import pathlib
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any
from unittest.mock import MagicMock

import msgspec
import numpy
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nat_observability.recording.capture import capture, capture_json, capture_text
from tests.thorough import examples


def read(value: object) -> Any:
    """Return what was recorded of `value`, after checking that it is valid."""
    captured = capture(value)
    if captured is None or isinstance(captured, str):
        if captured is not None:
            captured.encode()
        return captured
    return json.loads(bytes(captured).decode(), parse_constant=pytest.fail)


# -- Values that are what they seem ----------------------------------------------------------------------------------

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(plain)
def test_plain_values_come_back_as_they_were(value: object) -> None:
    """What JSON can hold is recorded exactly."""
    assert read(value) == value
    assert json.loads(bytes(capture_json(value))) == value


@given(st.text())
def test_text_is_kept_as_text(text: str) -> None:
    """A `str` is not wrapped in quotes."""
    assert capture(text) == text
    assert capture_text(text) == text


def test_none_stays_none() -> None:
    """Nothing recorded is nothing."""
    assert capture(None) is None
    assert bytes(capture_json(None)) == b"null"


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = 0


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)

    name: str
    inner: Any = None


class Record(msgspec.Struct):
    a: Any
    b: Any = None


class Shown:
    """An object that shows nothing but its repr."""

    def __init__(self, shown: str) -> None:
        self._shown = shown

    def __repr__(self) -> str:
        return self._shown


class Pair(collections.UserDict[str, int]):
    pass


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class Color(enum.Enum):
    RED = "red"
    ODD = object()


class ArrayLike:
    """As numpy's arrays and scalars do it."""

    def __init__(self, value: object) -> None:
        self._value = value

    def tolist(self) -> object:
        return self._value


@pytest.mark.parametrize(
    ("value", "recorded"),
    [
        (Point(1, [2]), {"x": 1, "y": [2]}),
        (Model(name="a", inner={"b": 1}), {"name": "a", "inner": {"b": 1}}),
        (Record(1, (2, 3)), {"a": 1, "b": [2, 3]}),
        ([Point(1), Model(name="a")], [{"x": 1, "y": 0}, {"name": "a", "inner": None}]),
        (ArrayLike([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        ({"scalar": ArrayLike(1.5)}, {"scalar": 1.5}),
        (Text("text"), "text"),
        ([Text("text")], ["text"]),
        (Color.RED, "red"),
        ({1: "a", 2.5: "b", Color.RED: "c"}, {"1": "a", "2.5": "b", "red": "c"}),
        ({1: "a", None: "b", ("t",): "c", Text("d"): "d"}, {"1": "a", "None": "b", "('t',)": "c", "d": "d"}),
        ({numpy.int64(1): "a", numpy.str_("b"): "c"}, {"1": "a", "b": "c"}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (Pair(a=1), {"a": 1}),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.deque([1, 2]), [1, 2]),
        ({1}, [1]),
        (b"\xff", "<1 bytes>"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (decimal.Decimal("1.10"), "1.10"),
        ([float("nan"), float("inf"), -float("inf")], [None, None, None]),
        (10**30, 10**30),
        (True, True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_common_types_are_recorded_in_full(value: object, recorded: object) -> None:
    """Models, dataclasses, structs, arrays and the standard library's types become the JSON that a reader expects."""
    assert read(value) == recorded


def test_unknown_objects_are_named() -> None:
    """An object of no known kind is recorded by its class and its `repr`."""
    recorded = read({"a": 1, "b": Shown("<something>")})
    assert recorded["a"] == 1
    assert recorded["b"] == {"__type__": "Shown", "__repr__": "<something>"}


@pytest.mark.parametrize(
    ("shown", "recorded"),
    [
        ("x" * 1024, "x" * 1024),
        ("x" * 100_000, "[cut:100000]"),
        ("a " * 600, "a " * 512 + "[cut:1200]"),
        (" a" * 600, " a" * 512 + "[cut:1200]"),
        ("a" * 1000 + "\n" + "b" * 1000, "a" * 1000 + "\n[cut:2001]"),
        ("a" * 1023 + " b", "a" * 1023 + " [cut:1025]"),
        (" " * 2000, " " * 1024 + "[cut:2000]"),
        ("é\ud800 " * 500, "é\\ud800 " * 341 + "[cut:1500]"),
    ],
    ids=[
        "no cut",
        "one word",
        "behind a blank",
        "before a blank",
        "in a line",
        "at the end",
        "blanks",
        "surrogates",
    ],
)
def test_a_long_repr_is_cut_between_two_words(shown: str, recorded: str) -> None:
    """And says how long it was: half a word may be half a secret, which redaction would not recognise."""
    assert read(Shown(shown))["__repr__"] == recorded


def test_iterators_are_not_consumed() -> None:
    """A generator or an iterator is recorded by name; the application still finds everything in it."""
    generator, iterator = (number for number in range(3)), iter([1, 2])
    read([generator, iterator, {"a": generator}])
    read(generator)
    read(iterator)
    assert list(generator) == [0, 1, 2]
    assert list(iterator) == [1, 2]


class Holding(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")

    value: Any


@dataclasses.dataclass
class HoldingToo:
    value: Any


@pytest.mark.parametrize(
    "wrap",
    [
        lambda generator: generator,
        lambda generator: {"a": [(generator,)]},
        lambda generator: Holding(value=generator),
        lambda generator: HoldingToo(generator),
    ],
    ids=["itself", "in containers", "in another model", "in a dataclass"],
)
@pytest.mark.parametrize("field", ["value", "extra"])
def test_generators_in_a_model_are_not_consumed(wrap: Any, field: str) -> None:
    """Pydantic reads a generator when it serializes one; what holds one is recorded without it."""
    generator = (number for number in range(3))
    recorded = read(Holding(**{"value": 1, field: wrap(generator)}))
    assert "generator" in json.dumps(recorded)
    assert list(generator) == [0, 1, 2]


def test_a_model_that_holds_itself_is_recorded() -> None:
    """The search for generators ends."""
    model = Holding(value=1)
    model.value = [model, {"again": model}]
    assert read(model)["value"] == ["<recursive>", {"again": "<recursive>"}]


# -- Values that are not -----------------------------------------------------------------------------------------------


class Evil:
    """Raises wherever Python lets an object raise."""

    def __repr__(self) -> str:
        raise ValueError("repr")

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        raise ValueError("eq")

    def __hash__(self) -> int:
        raise ValueError("hash")

    def __bool__(self) -> bool:
        raise ValueError("bool")

    def __len__(self) -> int:
        raise ValueError("len")

    def __iter__(self) -> Iterator[int]:
        raise ValueError("iter")

    def __getattr__(self, name: str) -> Any:
        raise ValueError(name)


class EvilClass:
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise ValueError("class")


class EvilInt(int):
    def __lt__(self, other: object) -> bool:
        raise ValueError("lt")

    __gt__ = __le__ = __ge__ = __lt__

    def __int__(self) -> int:
        raise ValueError("int")

    def __repr__(self) -> str:
        raise ValueError("repr")


class EvilFloat(float):
    def __float__(self) -> float:
        raise ValueError("float")


class EvilList(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        raise ValueError("iter")

    def __len__(self) -> int:
        raise ValueError("len")


class EvilDict(dict[Any, Any]):
    def items(self) -> Any:
        raise ValueError("items")

    def __iter__(self) -> Iterator[Any]:
        raise ValueError("iter")


class EvilMapping(Mapping[Any, Any]):
    def __getitem__(self, key: object) -> object:
        raise ValueError("getitem")

    def __iter__(self) -> Iterator[Any]:
        return iter("ab")

    def __len__(self) -> int:
        return 2


class HashableEvil(Evil):
    __hash__ = object.__hash__
    __eq__ = object.__eq__


class EvilModel(pydantic.BaseModel):
    a: Any = None

    @pydantic.model_serializer
    def serialize(self) -> Any:
        raise ValueError("serialize")

    def __iter__(self) -> Any:
        raise ValueError("iter")


class EvilProperty:
    tolist = property(lambda self: 1 / 0)
    model_dump = property(lambda self: 1 / 0)


class ReprIsNoText:
    def __repr__(self) -> Any:
        return 3


class Itself:
    def tolist(self) -> object:
        return self

    def model_dump(self, **_: object) -> object:
        return [self]

    def isoformat(self) -> object:
        return {"a": self}


def recursive_list() -> list[Any]:
    value: list[Any] = [1]
    value.append(value)
    return value


def recursive_dict() -> dict[str, Any]:
    value: dict[str, Any] = {"a": 1}
    value["self"] = [value]
    return value


def recursive_dataclass() -> Point:
    point = Point(1)
    point.y = [point]
    return point


def deep(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


EVIL: dict[str, Any] = {
    "surrogate": "\ud800",
    "surrogate in Text": Text("\udfff"),
    "bytes-like surrogate": "a\udcff",
    "huge int": 10**5000,
    "negative huge int": -(10**5000),
    "evil": Evil(),
    "evil class": EvilClass(),
    "evil int": EvilInt(3),
    "evil float": EvilFloat(2.5),
    "evil list": EvilList([1]),
    "evil dict": EvilDict(a=1),
    "evil mapping": EvilMapping(),
    "evil key": {HashableEvil(): 1, "a": 2},
    "surrogate key": {"\ud800": 1},
    "evil model": EvilModel(),
    "surrogate in a model": Model(name="ok", inner="\ud800"),
    "evil property": EvilProperty(),
    "repr is not text": ReprIsNoText(),
    "itself": Itself(),
    "mock": MagicMock(),
    "recursive list": recursive_list(),
    "recursive dict": recursive_dict(),
    "recursive dataclass": recursive_dataclass(),
    "deep": deep(1000),
    "struct": Record("\ud800", Evil()),
    "odd enum": Color.ODD,
    "class": Evil,
    "function": read,
    "module": sys,
    "lock": threading.Lock(),
    "exception": ValueError("\ud800"),
    "complex": 1j,
    "path": pathlib.Path("a"),
}

evil = st.recursive(
    plain
    | st.text(st.characters(categories=["Cs", "Lu"]))
    | st.sampled_from(sorted(EVIL.keys() - {"evil class"})).map(lambda name: EVIL[name])
    | st.floats(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(st.characters(categories=["Cs", "Lu"])) | st.integers() | st.none(), inner)
        | st.builds(Point, inner, inner)
        | st.builds(Record, inner, inner)
        | st.builds(Model, name=st.just("model"), inner=inner)
        | st.builds(MappingProxyType, st.dictionaries(st.text(), inner))
        | st.builds(ArrayLike, inner)
    ),
    max_leaves=15,
)


@pytest.mark.parametrize("name", EVIL)  # by name: pytest itself does not survive the values
def test_only_the_bad_part_is_replaced(name: str) -> None:
    """What cannot be recorded is replaced by a readable mark; what lies beside it is as it was."""
    value = EVIL[name]
    read(value)
    assert read([1, {"before": [2], "bad": value, "after": Point(3, "four")}, 5])[0] == 1
    recorded = read([1, {"before": [2], "bad": value, "after": Point(3, "four")}, 5])
    assert recorded[2] == 5
    assert recorded[1]["before"] == [2]
    assert recorded[1]["after"] == {"x": 3, "y": "four"}
    assert recorded[1]["bad"] is not None


@settings(max_examples=examples(60, thoroughly=150))
@given(evil)
def test_nothing_makes_it_raise(value: object) -> None:
    """Arbitrary structures of arbitrary objects are recorded as valid UTF-8 JSON."""
    read(value)


@pytest.mark.timeout(120)
@settings(max_examples=examples(40, thoroughly=150))
@given(st.lists(evil))
def test_good_neighbours_survive(values: list[object]) -> None:
    """A list keeps its length and its order, whatever its items are."""
    recorded = read(["first", *values, "last"])
    assert len(recorded) == len(values) + 2
    assert (recorded[0], recorded[-1]) == ("first", "last")


def test_bad_field_leaves_the_others() -> None:
    """In a dataclass, a struct and a model, too, only the bad field is replaced."""
    assert read(Point("\ud800", [1, 2])) == {"x": "\\ud800", "y": [1, 2]}
    assert read(Record("\ud800", [1, 2])) == {"a": "\\ud800", "b": [1, 2]}
    assert read(Model(name="ok", inner=["\ud800", 1])) == {"name": "ok", "inner": ["\\ud800", 1]}
    assert read(Point(Evil(), 1))["y"] == 1


def test_marks_are_readable() -> None:
    """A reader of the record sees what was there."""
    assert read(recursive_list()) == [1, "<recursive>"]
    assert read("a\ud800b") == "a\\ud800b"
    assert read([10**5000]) == [f"<integer of {(10**5000).bit_length()} bits>"]
    assert read(Evil()) == {"__type__": "Evil", "__repr__": "repr raised ValueError"}
    assert "<too deep>" in json.dumps(read([deep(1000), object()]))


def test_shared_is_not_recursive() -> None:
    """The same object twice, side by side, is recorded twice."""
    shared = [1]
    assert read({"a": shared, "b": shared, "bad": object()})["b"] == [1]


def test_mutation_by_a_repr_does_no_harm() -> None:
    """An object whose `repr` empties the container that holds it costs its own record, not the process."""

    class Vandal:
        def __init__(self, container: Any) -> None:
            self.container = container

        def __repr__(self) -> str:
            self.container.clear()
            gc.collect()
            [object() for _ in range(1000)]
            return "vandal"

    items: list[Any] = []
    items.extend([Vandal(items) if index == 2 else [index] for index in range(100)])
    assert read(items)[2]["__repr__"] == "vandal"
    table: dict[str, Any] = {}
    table.update({str(index): Vandal(table) if index == 2 else [index] for index in range(100)})
    assert read(table)["2"]["__repr__"] == "vandal"
    assert read(table) == {}


def test_mutation_by_another_thread_does_no_harm() -> None:
    """A list and a dict that another thread changes all the time are recorded as they were at some moment."""

    class Slow:
        def __repr__(self) -> str:
            return "".join(str(number) for number in range(50))

    history: list[Any] = []
    table: dict[str, Any] = {"history": history, "slow": Slow()}
    ended = threading.Event()

    def change() -> None:
        while not ended.is_set():
            history.extend([[Slow()], {"a": Slow()}] * 20)
            table["more"] = [1]
            history.clear()
            table.pop("more")

    thread = threading.Thread(target=change)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        for _ in range(100):
            assert read(table)["slow"]["__type__"].endswith("Slow")
    finally:
        ended.set()
        sys.setswitchinterval(interval)
        thread.join()


def test_recorded_is_what_was() -> None:
    """Changing the object afterwards changes nothing that was recorded."""
    history: list[Any] = [{"role": "user"}, Point(1)]
    captured = capture(history)
    history[0]["role"] = "changed"
    history[1].x = 2
    history.clear()
    assert isinstance(captured, msgspec.Raw)
    assert json.loads(bytes(captured)) == [{"role": "user"}, {"x": 1, "y": 0}]


@pytest.mark.parametrize("count", [1, 15, 300])
@pytest.mark.parametrize("beside", [1.5, 1, "text", None])
def test_decimal_numbers_keep_their_digits(beside: object, count: int) -> None:
    """As text, because a float has no `1.10`; beside numbers of other types too, and in rows of a table."""
    price = decimal.Decimal("1.10")
    assert read([*[beside] * count, price, beside]) == [*[beside] * count, "1.10", beside]
    assert read([{"a": beside, "b": price}] * count) == [{"a": beside, "b": "1.10"}] * count


CHANGING = """
import dataclasses, datetime, sys
from nat_observability.recording.capture import capture

items = []

def change():
    if recording:
        items.clear()
        items.extend([None] * 3)

class Zone(datetime.tzinfo):
    def utcoffset(self, moment):
        change()
        return datetime.timedelta(0)

@dataclasses.dataclass
class Data:
    number: int = 1

    def __getattribute__(self, name):
        change()
        return object.__getattribute__(self, name)

recording = False
make = {"zone": lambda: datetime.datetime(2026, 1, 1, tzinfo=Zone()), "data": Data}[sys.argv[1]]
items += [{"a": make()} if sys.argv[2] == "inside" else make() for _ in range(5000)]
recording = True
capture(items)
"""


@pytest.mark.parametrize("where", ["here", "inside"])
@pytest.mark.parametrize("what", ["zone", "data"])
def test_a_list_that_its_items_change_does_no_harm(what: str, where: str) -> None:
    """The code of a time zone, or of a dataclass, may change the list that it is recorded in."""
    done = subprocess.run(
        [sys.executable, "-c", CHANGING, what, where], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "inside", [lambda value: value, lambda value: {"a": [1, value, 2]}, lambda value: [value] * 40]
)
def test_names_that_are_one_in_json_are_kept_apart(inside: Callable[[Any], Any]) -> None:
    """1 and "1" are two keys of a dict; a reader of JSON would see the last of them."""
    for value in ({1: "a", "1": "b"}, {1: "a", "1": "b"} | {str(each): each for each in range(2, 40)}):
        recorded = capture(inside(value))
        assert isinstance(recorded, msgspec.Raw)
        assert bytes(recorded).count(b'"1":') == 1
        assert b'"1":["a","b"]' in bytes(recorded)


@pytest.mark.parametrize("length", [5, 17, 1000])
def test_a_number_of_a_class_of_ones_own_is_one_among_numbers(length: int) -> None:
    """Wherever it stands in a list."""

    class Id(int):
        pass

    numbers = [1] * length
    for at in (0, length // 2, length - 1):
        values = [*numbers[:at], Id(7), *numbers[at + 1 :]]
        captured = capture(values)
        assert isinstance(captured, msgspec.Raw)
        assert json.loads(bytes(captured)) == [int(value) for value in values]
