"""Random graphs of objects, with hostile methods: a bounded number of visits and bytes, and no secret that leaves."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nat_observability import ContextState, step
from nat_observability.events import Run, Span, Status, StepKind
from nat_observability.processors import Redactor
from nat_observability.recording.capture import MAX_BYTES, MAX_NODES, capture

SECRET = "hunter2-and-more"
KINDS = ("list", "tuple", "deque", "dict", "bytes keys", "dataclass", "model", "mapping", "hostile")
DEEDS = ("nothing", "raise", "exit", "clear", "grow", "step", "itself", "long text")


@dataclasses.dataclass(eq=False)
class Data:
    children: list[Any] = dataclasses.field(default_factory=list)
    password: str = SECRET
    hidden: str = dataclasses.field(default=SECRET, repr=False)


class Model(pydantic.BaseModel):
    children: list[Any] = []
    api_key: str = SECRET
    token: pydantic.SecretStr = pydantic.SecretStr(SECRET)


class View(Mapping[str, Any]):
    """A mapping of its own."""

    def __init__(self) -> None:
        self.children: list[Any] = []

    def __getitem__(self, key: str) -> Any:
        return SECRET if key == "password" else self.children[int(key)]

    def __iter__(self) -> Iterator[str]:
        yield "password"
        yield from map(str, range(len(self.children)))

    def __len__(self) -> int:
        return len(self.children) + 1


class Graph:
    """What a test has built, and how often its hostile objects have been asked for anything."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.visits = 0

    def do(self, deed: str) -> str:
        self.visits += 1
        if deed == "raise":
            raise ValueError(deed)
        if deed == "exit":
            raise SystemExit
        if deed == "clear":
            for node in self.nodes:
                children_of(node).clear()
        if deed == "grow":
            for node in self.nodes[:3]:
                children_of(node).append([1, {"password": SECRET}])
        if deed == "step":
            with step("tool", "inner", input=self.nodes) as inner:
                inner.output = self.nodes
        return "word " * 50_000 if deed == "long text" else "shown"


class Hostile:
    """An object each of whose methods does something that it should not."""

    def __init__(self, graph: Graph, deed: str) -> None:
        object.__setattr__(self, "_told", (graph, deed))
        self.children: list[Any] = []
        self.password = SECRET

    def _do(self, *_: object) -> Any:
        graph, deed = object.__getattribute__(self, "_told")
        return self if deed == "itself" else graph.do(deed)

    __repr__ = __str__ = _do

    def __iter__(self) -> Iterator[Any]:
        self._do()
        return iter([self, self])

    def __len__(self) -> int:
        return len(self._do())

    def __hash__(self) -> int:
        return hash(self._do())

    def __eq__(self, other: object) -> bool:
        return bool(self._do())

    def __getattr__(self, name: str) -> Any:
        return self._do()

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        self._do()
        return dict


def children_of(node: Any) -> Any:
    """Return the list, deque or dict that holds the children of a node."""
    if type(node) in (list, deque, dict):
        return node
    return [] if type(node) is tuple else node.children


def new(graph: Graph, kind: str, deed: str) -> Any:
    """Return a node without children."""
    made: dict[str, Any] = {
        "list": list,
        "tuple": lambda: ([], {"password": SECRET}),
        "deque": deque,
        "dict": lambda: {"password": SECRET, "x-api-key": SECRET.encode()},
        "bytes keys": lambda: {b"password": SECRET.encode()},
        "dataclass": Data,
        "model": Model,
        "mapping": View,
        "hostile": lambda: Hostile(graph, deed),
    }
    return made[kind]()


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Build a graph: shared, cyclic, deep or wide."""
    graph = Graph()
    kinds = draw(st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(DEEDS)), min_size=1, max_size=12))
    graph.nodes.extend(new(graph, kind, deed) for kind, deed in kinds)
    last = len(graph.nodes) - 1
    for number, node in enumerate(graph.nodes):
        held = node[0] if type(node) is tuple else children_of(node)
        edges = draw(
            st.lists(st.tuples(st.integers(0, last), st.sampled_from([1, 1, 1, 2, 300])), max_size=5)
        )
        for target, times in edges:
            child = graph.nodes[target]
            for again in range(times):
                if type(held) is dict:
                    held[f"{number}-{target}-{again}"] = child
                else:
                    held.append(child)
        if number == last and draw(st.booleans()):
            deep: Any = node
            for _ in range(200):
                deep = [deep, {"password": SECRET}]
            graph.nodes.append([deep])
    return graph


# One for all: building one takes ten milliseconds, and a graph may record hundreds of values.
_redactor = Redactor()


def redacted(value: Any) -> str:
    """Return what leaves of a captured value."""
    run = Run(run_id="1", trace_id="1" * 32)
    span = _redactor(Span(run, StepKind.TOOL, "tool", "1" * 16, None, 0, 1, Status.OK, input=value))
    assert isinstance(span, Span)
    return span.input if isinstance(span.input, str) else bytes(span.input or b"").decode()


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(graphs())
def test_any_graph_is_captured_within_bounds(graph: Graph) -> None:
    """Its size, and how often the objects in it are asked for anything; and no secret under its name leaves."""
    state = ContextState()
    steps: list[Any] = []
    state.stream.subscribe("test", steps.append)
    with state.attach():
        recorded = capture(graph.nodes)
    assert graph.visits <= MAX_NODES // 20
    for each in (recorded, *[found for made in steps for found in (made.input, made.output)]):
        text = redacted(each)
        assert len(text) <= MAX_BYTES * 1.5
        assert SECRET not in text


@pytest.mark.parametrize("count", [1, 3, 50])
def test_captures_inside_a_capture_have_its_bounds(count: int) -> None:
    """Objects that each record a step with all of them when they are printed: a bound for each would never end."""
    graph = Graph()
    graph.nodes.extend(Hostile(graph, "step") for _ in range(count))
    state = ContextState()
    steps: list[Any] = []
    state.stream.subscribe("test", steps.append)
    with state.attach():
        capture(graph.nodes)
    assert graph.visits < MAX_NODES // 20
    assert steps
