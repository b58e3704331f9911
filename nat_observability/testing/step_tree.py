"""StepTree: the steps of runs as a tree that a test asks questions, and that its failures print."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from nat_observability.events import (
    Boundary,
    Captured,
    ErrorDetails,
    IntermediateStep,
    Run,
    SpanEvent,
    SpanKind,
    SpanLink,
    Status,
    StepKind,
    TokenUsage,
)

_SHOWN = 60  # characters of an input or output


@dataclass(frozen=True)
class NodeEvent:
    """One event of a step, with its attributes decoded to Python values."""

    name: str
    attributes: dict[str, Any] = field(default_factory=dict)
    time_ns: int = 0


@dataclass(frozen=True)
class NodeLink:
    """One link of a step, with its attributes decoded to Python values."""

    trace_id: str
    span_id: str
    attributes: dict[str, Any] = field(default_factory=dict)
    trace_state: str | None = None


@dataclass(eq=False)
class StepNode:
    """
    One step: what its START, its CHUNKs and its END say together.

    `input`, `output`, `metadata` and the values of `attributes` are decoded to Python values. `output` is what the step
    set, or else its chunks: joined if they are text, a list if not. `status` is `Status.INCOMPLETE` if there is no END.
    """

    run: Run
    kind: StepKind
    name: str
    step_id: str
    parent: StepNode | None = field(default=None, repr=False)
    children: list[StepNode] = field(default_factory=list, repr=False)
    input: Any = None
    output: Any = None
    chunks: list[Any] = field(default_factory=list)
    metadata: Any = None
    tags: tuple[str, ...] = ()
    usage: TokenUsage | None = None
    error: ErrorDetails | None = None
    status: Status = Status.INCOMPLETE
    status_message: str | None = None
    span_kind: SpanKind = SpanKind.INTERNAL
    attributes: dict[str, Any] = field(default_factory=dict)
    events: list[NodeEvent] = field(default_factory=list)
    links: list[NodeLink] = field(default_factory=list)

    @property
    def run_tags(self) -> dict[str, str]:
        """The tags of its run, by name: `node.run_tags["tenant"]`."""
        return dict(self.run.tags)

    @property
    def ancestors(self) -> Iterator[StepNode]:
        """The steps around it, innermost first."""
        above = self.parent
        while above is not None:
            yield above
            above = above.parent

    def __str__(self) -> str:
        words = [self.kind.value.lower(), repr(self.name)]
        words += [
            f"{word}={_short(value)}"
            for word, value in (("input", self.input), ("output", self.output))
            if value is not None
        ]
        if self.error is not None:
            words.append(f"error={self.error.type}: {_short(self.error.message)}")
        elif self.status is not Status.OK:
            words.append(f"({self.status})")
        return " ".join(words)


Wanted = StepNode | StepKind | str | tuple[StepKind | str | None, str]
"""A step, any of a kind, or one of a kind (None for any) and a name."""


class StepTree:
    """
    The steps of one run or several, as a tree.

    Kinds are given as for `step`. `under` is what has to be the direct parent, `inside` what has to be somewhere
    above: a kind, a kind and a name, or a step that was found before.
    """

    def __init__(self, steps: Iterable[IntermediateStep] = ()) -> None:
        self.roots: list[StepNode] = []
        self._nodes: dict[tuple[str, str], StepNode] = {}
        # Of the roots that name a parent, which may still come.
        self._awaited: dict[tuple[str, str], str] = {}
        self.add(steps)

    def add(self, steps: Iterable[IntermediateStep]) -> None:
        """Add what was recorded later. What was found before stays the same object, and goes on."""
        new: dict[tuple[str, str], str | None] = {}
        for each in steps:
            key = (each.run.run_id, each.step_id)
            node = self._nodes.get(key)
            if node is None:
                node = self._nodes[key] = StepNode(each.run, each.kind, each.name, each.step_id)
                new[key] = each.parent_id
            _take(node, each)
        for (run_id, step_id), parent_id in new.items():
            node = self._nodes[run_id, step_id]
            if not self._place(node, parent_id):
                self.roots.append(node)
                if parent_id is not None:
                    self._awaited[run_id, step_id] = parent_id
        for key, awaited in list(self._awaited.items()) if new else ():
            if key not in new and self._place(self._nodes[key], awaited):
                self.roots.remove(self._nodes[key])
                del self._awaited[key]

    def _place(self, node: StepNode, parent_id: str | None) -> bool:
        """Put a step under its parent; return whether it has one."""
        parent = self._nodes.get((node.run.run_id, parent_id)) if parent_id is not None else None
        # A step that other code recorded may name itself as its parent, or two may name each other.
        if parent is None or parent is node or node in parent.ancestors:
            return False
        node.parent = parent
        parent.children.append(node)
        return True

    def __iter__(self) -> Iterator[StepNode]:
        """Every step, in the order of their starts."""
        return iter(self._nodes.values())

    def __len__(self) -> int:
        return len(self._nodes)

    def all(
        self,
        kind: StepKind | str | None = None,
        name: str | None = None,
        *,
        under: Wanted | None = None,
        inside: Wanted | None = None,
    ) -> list[StepNode]:
        """
        Return the steps that match, in the order of their starts; an empty list if none does.

        Raises:
            UnknownStepKindError: No kind has that name.
        """
        wanted = _known(kind)
        parent, above = _matcher(under), _matcher(inside)
        return [
            node
            for node in self
            if (wanted is None or node.kind is wanted)
            and (name is None or node.name == name)
            and (under is None or (node.parent is not None and parent(node.parent)))
            and (inside is None or any(above(each) for each in node.ancestors))
        ]

    def expect(
        self,
        kind: StepKind | str | None = None,
        name: str | None = None,
        *,
        under: Wanted | None = None,
        inside: Wanted | None = None,
        times: int | None = None,
    ) -> list[StepNode]:
        """
        Return the steps that match.

        Args:
            kind: None for any.
            name: None for any.
            under: What their parent is.
            inside: What is somewhere above them.
            times: How many have to match, 0 for none; by default at least one.

        Raises:
            AssertionError: There are more or fewer; it prints the tree.
            UnknownStepKindError: No kind has that name.
        """
        __tracebackhide__ = True
        found = self.all(kind, name, under=under, inside=inside)
        if len(found) == times or (times is None and found):
            return found
        number = (
            "at least one step" if times is None else "1 step" if times == 1 else f"{times or 'no'} steps"
        )
        what = _described(kind, name)
        where = f" directly under {_wording(under)}" if under is not None else ""
        where += f" inside {_wording(inside)}" if inside is not None else ""
        raise AssertionError(
            f"Expected {number}: {what}{where}. Found {len(found) or 'none'}.\n{self._drawn(found)}"
        )

    def one(
        self,
        kind: StepKind | str | None = None,
        name: str | None = None,
        *,
        under: Wanted | None = None,
        inside: Wanted | None = None,
    ) -> StepNode:
        """Return the only step that matches; see `expect`."""
        __tracebackhide__ = True
        return self.expect(kind, name, under=under, inside=inside, times=1)[0]

    def __str__(self) -> str:
        return self._drawn([])

    @property
    def snapshot(self) -> str:
        """
        The steps as text that is the same each time: without ids and durations, runs in the order of their starts.

        A tree is equal to such a text, however it is indented as a whole:
        `assert exporter.tree == \"\"\"...\"\"\"`.
        """
        runs: dict[str, list[StepNode]] = {}
        for root in self.roots:
            runs.setdefault(root.run.run_id, []).append(root)
        lines: list[str] = []
        for number, roots in enumerate(runs.values(), 1):
            if len(runs) > 1:
                lines.append(f"run {number}")
            _draw(roots, [], lines)
        return "\n".join(lines)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            return self.snapshot == plain_snapshot(other)
        return self is other

    def __repr__(self) -> str:
        return f"<StepTree\n{self.snapshot}\n>"

    __hash__ = object.__hash__

    def _drawn(self, marked: list[StepNode]) -> str:
        if not self.roots:
            return "No step was recorded."
        lines: list[str] = []
        for run_id in dict.fromkeys(root.run.run_id for root in self.roots):
            lines.append(f"run {run_id}")
            _draw([root for root in self.roots if root.run.run_id == run_id], marked, lines)
        return "\n".join(lines)


def plain_snapshot(text: str) -> str:
    """Return a text that a tree is compared with, without its indentation and the empty lines around it."""
    return textwrap.dedent(text).strip("\n").rstrip()


def _take(node: StepNode, each: IntermediateStep) -> None:
    if each.boundary is Boundary.CHUNK:
        node.chunks.append(_decoded(each.chunk))
        return
    if each.boundary is Boundary.END:
        # The kind and name of a step may be known only at its end.
        node.kind, node.name = each.kind, each.name
        node.status = Status.ERROR if each.error is not None else each.status or Status.OK
        node.status_message = each.status_message
        node.output, node.usage, node.error = _decoded(each.output), each.usage, each.error
        if node.output is None and node.chunks:
            texts = [chunk for chunk in node.chunks if isinstance(chunk, str)]
            node.output = "".join(texts) if len(texts) == len(node.chunks) else node.chunks
    if node.input is None:
        node.input = _decoded(each.input)
    node.tags = node.tags or each.tags
    if each.boundary is Boundary.START or each.span_kind is not None:
        node.span_kind = each.span_kind or each.kind.span_kind
    if each.boundary is Boundary.END and each.origin is not None:
        # Of another instrumentation: its END has everything.
        node.attributes, node.events, node.links = {}, [], []
    node.attributes |= _decoded(each.attributes) or {}
    node.events += [_event(event) for event in each.events]
    node.links += [_link(link) for link in each.links]
    metadata = _decoded(each.metadata)
    if isinstance(node.metadata, dict) and isinstance(metadata, dict):
        node.metadata = node.metadata | metadata
    elif metadata is not None:
        node.metadata = metadata


def _event(event: SpanEvent) -> NodeEvent:
    return NodeEvent(event.name, _decoded(event.attributes) or {}, event.time_ns)


def _link(link: SpanLink) -> NodeLink:
    return NodeLink(link.trace_id, link.span_id, _decoded(link.attributes) or {}, link.trace_state)


def _decoded(value: Captured) -> Any:
    return msgspec.json.decode(value) if isinstance(value, msgspec.Raw) else value


def _known(kind: StepKind | str | None) -> StepKind | None:
    return None if kind is None else StepKind.parse(kind)


def _matcher(wanted: Wanted | None) -> Any:
    if wanted is None:
        return lambda node: False
    if isinstance(wanted, StepNode):
        # By its ids: the step may have been found in another tree of the same recording.
        ids = wanted.run.run_id, wanted.step_id
        return lambda node: (node.run.run_id, node.step_id) == ids
    kind, name = wanted if isinstance(wanted, tuple) else (wanted, None)
    known = _known(kind)
    return lambda node: (known is None or node.kind is known) and (name is None or node.name == name)


def _wording(wanted: Wanted) -> str:
    if isinstance(wanted, StepNode):
        return _described(wanted.kind, wanted.name)
    return _described(*wanted) if isinstance(wanted, tuple) else _described(wanted, None)


def _described(kind: StepKind | str | None, name: str | None) -> str:
    known = _known(kind)
    words = [known.value.lower()] if known is not None else []
    return " ".join([*words, repr(name)] if name is not None else words) or "any"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _draw(nodes: list[StepNode], marked: list[StepNode], lines: list[str]) -> None:
    # Without recursion: steps may be nested deeper than Python's recursion limit.
    left = [(node, "", number == 0) for number, node in enumerate(reversed(nodes))]
    while left:
        node, indent, last = left.pop()
        mark = "  <-- found" if node in marked else ""
        lines.append(f"{indent}{'└─' if last else '├─'} {node}{mark}")
        below = f"{indent}{'   ' if last else '│  '}"
        left += [(child, below, number == 0) for number, child in enumerate(reversed(node.children))]
