"""StepTree: what it finds, what it says when it does not, and how it takes steps that others recorded oddly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nat_observability import (
    Boundary,
    ContextState,
    IntermediateStep,
    Run,
    Status,
    StepKind,
    UnknownStepKindError,
    step,
)
from nat_observability.testing import CapturingExporter, StepTree, recorded_run


@step("tool", "search")
def search(query: str) -> str:
    """Find nothing in no time."""
    if not query:
        raise ValueError("nothing to search for")
    return query.upper()


@step("llm", "gpt")
def answer(query: str) -> Iterator[str]:
    """Answer in two pieces."""
    yield search(query)
    yield "!"


@pytest.fixture
async def recorded() -> CapturingExporter:
    """An agent's run: a workflow, a model call that searches, and two searches beside it, of which one fails."""
    async with recorded_run(ContextState(run_id="r-1")) as exporter:
        with step("workflow", "agent", input={"q": 1}, metadata={"m": 1}, tags=["t"]) as current:
            list(answer("tea"))
            search("milk")
            with pytest.raises(ValueError, match="nothing"):
                search("")
            current.output = ["a"]
            current.usage = {"prompt_tokens": 2}
    return exporter


async def test_finding(recorded: CapturingExporter) -> None:
    """By kind, by name, by what is around, near or far."""
    tree = recorded.tree
    assert len(tree) == 5
    assert [node.name for node in tree] == ["agent", "gpt", "search", "search", "search"]
    assert [node.name for node in tree.roots] == ["agent"]
    found = tree.one("tool", "search", under="llm")
    assert tree.one(StepKind.TOOL, under=("llm", "gpt")) is found
    assert tree.one(under=tree.one("llm")) is found
    assert tree.one(name="search", inside=("LLM", "gpt")) is found
    assert len(tree.all("tool", inside="workflow")) == 3
    assert len(tree.all("tool", under="workflow")) == 2
    assert tree.all("tool", under=(None, "agent")) == tree.all("tool", under="workflow")
    assert tree.all("task") == []
    assert [node.name for node in found.ancestors] == ["gpt", "agent"]


async def test_what_a_step_says(recorded: CapturingExporter) -> None:
    """Values are decoded to Python; chunks are joined; an error is data."""
    tree = recorded.tree
    workflow = tree.one("workflow")
    assert (workflow.input, workflow.output, workflow.metadata) == ({"q": 1}, ["a"], {"m": 1})
    assert workflow.tags == ("t",)
    assert workflow.usage is not None
    assert workflow.usage.total_tokens == 2
    assert (workflow.status, workflow.parent, workflow.run.run_id) == (Status.OK, None, "r-1")
    model = tree.one("llm")
    assert (model.chunks, model.output) == (["TEA", "!"], "TEA!")
    failed = tree.all("tool")[-1]
    assert failed.status is Status.ERROR
    assert failed.error is not None
    assert failed.error.message == "nothing to search for"


async def test_what_is_expected_and_there(recorded: CapturingExporter) -> None:
    """`expect` returns them: by default at least one, or exactly as many as asked."""
    tree = recorded.tree
    assert len(tree.expect("tool")) == 3
    assert len(tree.expect("tool", times=3)) == 3
    assert tree.expect("task", times=0) == []


@pytest.mark.parametrize(
    ("arguments", "first_line"),
    [
        ({"kind": "task"}, "Expected at least one step: task. Found none."),
        ({"kind": "tool", "name": "search", "times": 1}, "Expected 1 step: tool 'search'. Found 3."),
        (
            {"kind": "tool", "times": 0, "under": "llm"},
            "Expected no steps: tool directly under llm. Found 1.",
        ),
        (
            {"name": "x", "inside": ("llm", "gpt"), "times": 2},
            "Expected 2 steps: 'x' inside llm 'gpt'. Found none.",
        ),
        ({"times": 4}, "Expected 4 steps: any. Found 5."),
    ],
)
async def test_what_is_expected_and_not_there(
    recorded: CapturingExporter, arguments: dict[str, Any], first_line: str
) -> None:
    """The error says what was wanted and how many there are, and prints the tree."""
    with pytest.raises(AssertionError) as raised:
        recorded.tree.expect(**arguments)
    message = str(raised.value).splitlines()
    assert message[0] == first_line
    assert message[1] == "run r-1"
    assert len(message) == 7


async def test_the_tree_as_text(recorded: CapturingExporter) -> None:
    """One line a step, with input, output and error, and marks at what was found."""
    assert str(recorded.tree).splitlines() == [
        "run r-1",
        "└─ workflow 'agent' input={'q': 1} output=['a']",
        "   ├─ llm 'gpt' input={'query': 'tea'} output='TEA!'",
        "   │  └─ tool 'search' input={'query': 'tea'} output='TEA'",
        "   ├─ tool 'search' input={'query': 'milk'} output='MILK'",
        "   └─ tool 'search' input={'query': ''} error=ValueError: 'nothing to search for'",
    ]
    with pytest.raises(AssertionError, match=r"output='MILK'  <-- found\n"):
        recorded.tree.one("tool", under="workflow")


async def test_long_values_are_shortened() -> None:
    """A payload of 100 KB does not hide the tree."""
    async with recorded_run() as exporter:
        with step("tool", "a", input="x" * 100_000):
            pass
    assert all(len(line) < 100 for line in str(exporter.tree).splitlines())


async def test_open_steps_and_several_runs() -> None:
    """A step without its END is incomplete; each run is drawn on its own, and ids are its own too."""
    run = [Run(f"r-{number}", "a" * 32) for number in range(2)]
    steps = [
        IntermediateStep(each, StepKind.TOOL, Boundary.START, "a", "0" * 15 + "1", None, 0) for each in run
    ]
    tree = StepTree(steps)
    assert str(tree).splitlines() == [
        "run r-0",
        "└─ tool 'a' (incomplete)",
        "run r-1",
        "└─ tool 'a' (incomplete)",
    ]
    assert [node.status for node in tree.all("tool")] == [Status.INCOMPLETE] * 2


def test_nothing_recorded() -> None:
    """An empty tree says so."""
    assert str(StepTree([])) == "No step was recorded."
    with pytest.raises(AssertionError, match=r"Found none\.\nNo step was recorded\."):
        StepTree([]).one("tool")


def test_odd_parents() -> None:
    """A step whose parent is unknown, itself or its own child is at the top, and the tree ends."""
    run = Run("r", "a" * 32)
    parents = {"1": "unknown", "2": "2", "3": "4", "4": "3", "5": None}
    tree = StepTree(
        IntermediateStep(run, StepKind.TOOL, Boundary.START, step_id, step_id, parent, 0)
        for step_id, parent in parents.items()
    )
    assert [root.name for root in tree.roots] == ["1", "2", "4", "5"]
    assert len(str(tree).splitlines()) == 6


def test_boundaries_that_come_twice() -> None:
    """What the END says counts, and the first input and tags; repeated ones make no second step."""
    run = Run("r", "a" * 32)

    def boundary(kind: StepKind, which: Boundary, name: str, **more: Any) -> IntermediateStep:
        return IntermediateStep(run, kind, which, name, "1", None, 0, **more)

    node = StepTree(
        [
            boundary(StepKind.SPAN, Boundary.START, "early", input="first"),
            boundary(StepKind.SPAN, Boundary.START, "again", input="second"),
            boundary(StepKind.LLM, Boundary.END, "late", input="third", output="out", tags=("t",)),
        ]
    ).one()
    assert (node.kind, node.name, node.input, node.output, node.tags) == (
        StepKind.LLM,
        "late",
        "first",
        "out",
        ("t",),
    )


@pytest.mark.parametrize("arguments", [{"kind": "tol"}, {"under": "tol"}, {"inside": ("tol", "a")}])
async def test_a_kind_that_does_not_exist(recorded: CapturingExporter, arguments: dict[str, Any]) -> None:
    """It is an error that names the nearest one, and not "found none"."""
    with pytest.raises(UnknownStepKindError, match="tool"):
        recorded.tree.all(**arguments)


async def test_the_tree_is_one_object_for_one_recording() -> None:
    """It grows with the recording, and what was found in it stays; only `clear` begins another one."""
    async with recorded_run(ContextState(tags={"tenant": "acme"})) as exporter:
        with step("workflow", "w"):
            root = exporter.tree.one("workflow")
            assert str(root.status) == Status.INCOMPLETE
            tree = exporter.tree
            with step("llm", "outer"), step("tool", "inner"):
                pass
    assert exporter.tree is tree
    assert exporter.tree.one("workflow") is root
    assert str(root.status) == Status.OK
    assert [node.name for node in exporter.tree.one("llm", under=root).children] == ["inner"]
    assert exporter.tree.one("tool", inside=root).run_tags == {"tenant": "acme"}
    assert (len(tree), len(tree.roots)) == (3, 1)
    exporter.clear()
    assert exporter.tree is not tree
    assert not exporter.tree.roots


async def test_a_step_of_another_tree_is_known_by_its_ids() -> None:
    """`under` and `inside` take a step that was found in any tree of the recording, and no other run's."""
    async with recorded_run() as exporter:
        with step("workflow", "w"), step("llm", "outer"), step("tool", "inner"):
            pass
    root = StepTree(exporter.steps).one("workflow")
    tree = StepTree(exporter.steps)
    assert tree.one("llm", under=root).name == "outer"
    assert tree.one("tool", inside=root).name == "inner"
    async with recorded_run() as other:
        with step("workflow", "w"):
            pass
    assert not tree.all("llm", under=other.tree.one("workflow"))


async def test_a_parent_may_come_after_its_child() -> None:
    """As with steps that are relayed: the child moves below it when it comes."""
    async with recorded_run() as exporter:
        with step("workflow", "w"), step("llm", "outer"), step("tool", "inner"):
            pass
    steps = sorted(exporter.steps, key=lambda each: each.name)
    tree = StepTree()
    for each in steps:
        tree.add([each])
    assert str(tree) == str(StepTree(exporter.steps))


async def test_a_tree_is_equal_to_its_text() -> None:
    """Without ids, and however the text is indented as a whole."""
    async with recorded_run() as exporter:
        with step("workflow", "w", input={"q": 1}):
            with step("llm", "gpt") as answering:
                answering.output = "hi"
            with pytest.raises(ValueError, match="no"), step("tool", "broken"):
                raise ValueError("no")
    assert (
        exporter.tree
        == """
        └─ workflow 'w' input={'q': 1}
           ├─ llm 'gpt' output='hi'
           └─ tool 'broken' error=ValueError: 'no'
    """
    )
    assert exporter.tree != "└─ workflow 'w'"
    assert exporter.tree == exporter.tree.snapshot
    assert exporter.tree.snapshot in repr(exporter.tree)
    assert StepTree() == ""
    assert {exporter.tree: 1}[exporter.tree] == 1
    async with recorded_run() as other:
        with step("tool", "t"):
            pass
    both = StepTree([*exporter.steps[-1:], *other.steps])
    assert both.snapshot.splitlines()[0] == "run 1"
    assert both.snapshot.splitlines()[-2:] == ["run 2", "└─ tool 't'"]
