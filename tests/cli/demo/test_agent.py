"""FolderAgent: real answers from real files, real failures, and every part of a run recorded."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from nat_observability.cli.demo.agent import FolderAgent, NoAnswerError, NothingToSearchError
from nat_observability.cli.demo.demo import own_file
from nat_observability.cli.demo.questions import ABOUT_THE_PROJECT, questions
from nat_observability.cli.demo.ranking import Ranker, terms, tokens
from nat_observability.cli.demo.text_folder import Passage, TextFolder
from nat_observability.context import ContextState
from nat_observability.events import Boundary, IntermediateStep, StepKind, TokenUsage
from nat_observability.recording.step import step
from nat_observability.testing import recorded_run


@pytest.fixture
def folder(tmp_path: Path) -> TextFolder:
    (tmp_path / "tea.md").write_text(
        "# Tea\n\nGreen tea is not fermented. It is brewed at 70 degrees.\n\nBlack tea is fermented.\n"
    )
    (tmp_path / "coffee.txt").write_text("Coffee is roasted.\n\nEspresso is brewed under pressure.\n")
    return TextFolder(tmp_path)


def recorded(folder: TextFolder, question: str) -> tuple[str | Exception, list[IntermediateStep]]:
    """The answer or the error, and the steps."""

    async def ask() -> tuple[str | Exception, list[IntermediateStep]]:
        async with recorded_run(ContextState()) as exporter:
            result: str | Exception
            try:
                result = await FolderAgent(folder).answer(question)
            except Exception as error:  # noqa: BLE001  what the test looks at
                result = error
        return result, exporter.steps

    # Not on the test's own loop: its worker threads end with it.
    return asyncio.run(ask())


class Held(TextFolder):
    """Lists its files when it is allowed to, in a thread that has said that it began."""

    def __init__(self, path: Path) -> None:
        self.began, self.allowed = threading.Event(), threading.Event()
        self.allowed.set()
        super().__init__(path)
        self.began.clear()
        self.allowed.clear()

    def files(self) -> list[str]:
        self.began.set()
        self.allowed.wait()
        with step("tool", "list_files"):
            return super().files()


def ends(steps: list[IntermediateStep]) -> dict[str, IntermediateStep]:
    return {step.name: step for step in steps if step.boundary is Boundary.END}


def test_an_answer_is_made_of_the_files_sentences(folder: TextFolder) -> None:
    """The answer is what a file says, with the file that says it."""
    answer, _ = recorded(folder, "Is green tea fermented?")
    assert answer == "Green tea is not fermented. It is brewed at 70 degrees. [tea.md]"


def test_files_are_read_anew(folder: TextFolder) -> None:
    """What changes in a file changes the answer."""
    (folder.path / "tea.md").write_text("Green tea is steamed.\n")
    answer, _ = recorded(folder, "What about green tea?")
    assert answer == "Green tea is steamed. [tea.md]"


def test_every_part_of_a_run_is_recorded(folder: TextFolder) -> None:
    """The run is one workflow with a plan, a search that reads files, a model call and a composition, nested right."""
    _, steps = recorded(folder, "Is green tea fermented?")
    starts = [step for step in steps if step.boundary is Boundary.START]
    names = {step.step_id: step.name for step in starts}
    assert [(step.kind, step.name, names.get(step.parent_id or "")) for step in starts] == [
        (StepKind.WORKFLOW, "answer_question", None),
        (StepKind.TASK, "plan", "answer_question"),
        (StepKind.TOOL, "search_files", "answer_question"),
        (StepKind.TOOL, "read_file", "search_files"),
        (StepKind.TOOL, "read_file", "search_files"),
        (StepKind.LLM, "bm25", "answer_question"),
        (StepKind.FUNCTION, "compose_answer", "answer_question"),
    ]


def test_token_counts_are_those_of_the_tokenizer(folder: TextFolder) -> None:
    """The model's usage is what its prompt and its streamed output have, counted by its tokenizer."""
    _, steps = recorded(folder, "Is green tea fermented?")
    prompt = next(step.input for step in steps if step.kind is StepKind.LLM)
    chunks = [step.chunk for step in steps if step.boundary is Boundary.CHUNK]
    assert isinstance(prompt, str)
    assert len(chunks) == 2
    asked, said = len(tokens(prompt)), sum(len(tokens(str(chunk))) for chunk in chunks)
    assert ends(steps)["bm25"].usage == TokenUsage(asked, said, total_tokens=asked + said)


@pytest.mark.parametrize(
    ("question", "error", "step"),
    [
        ("What does chapter-99.md say about tea?", FileNotFoundError, "read_file"),
        ("How long does sourdough bread bake?", NoAnswerError, "compose_answer"),
        ("And what about that?", NothingToSearchError, "plan"),
        ("What does image.md show of tea?", UnicodeDecodeError, "read_file"),
    ],
)
def test_a_question_without_an_answer_fails(
    folder: TextFolder, question: str, error: type[Exception], step: str
) -> None:
    """A run fails where its work does: the error is in that step and in the workflow."""
    (folder.path / "image.md").write_bytes(b"\x89PNG\xff")
    result, steps = recorded(folder, question)
    assert isinstance(result, error)
    for name in (step, "answer_question"):
        failure = ends(steps)[name].error
        assert failure is not None
        assert failure.type.endswith(error.__name__)


def test_one_bad_file_costs_only_itself(folder: TextFolder) -> None:
    """A file that cannot be read fails its own step, and the search goes on without it."""
    (folder.path / "image.md").write_bytes(b"\x89PNG\xff")
    answer, steps = recorded(folder, "Is green tea fermented?")
    assert isinstance(answer, str)
    assert sum(step.error is not None for step in steps) == 1


def test_the_rarer_term_decides() -> None:
    """BM25: a rare term outweighs a common one, and a short passage a long one with the same terms."""
    texts = ["tea and coffee", "tea and cake", "tea and milk", "tea " + "x " * 30]
    ranker = Ranker(found := [Passage("f", "", text) for text in texts])
    assert ranker.weight("coffee") > ranker.weight("tea")
    ranked = ranker.rank(["tea", "coffee"], found)
    assert ranked[0].passage.text == "tea and coffee"
    assert ranked[-1].passage == found[-1]
    assert ranker.rank(["absent"], found) == []


def test_terms_are_words_with_meaning() -> None:
    """Words that carry no meaning are left out, and plural and singular are one term."""
    assert terms("What are the Queries of queues, and a query?") == ["query", "queue"]


def test_the_documentation_answers_its_questions() -> None:
    """The documentation answers each question of the demonstration about this project, but for the last three."""
    docs = own_file("docs")
    assert docs is not None
    folder = TextFolder(docs)
    asked = questions(folder, ABOUT_THE_PROJECT)
    assert asked[:-3] == list(ABOUT_THE_PROJECT)
    failed = [question for question in asked if isinstance(recorded(folder, question)[0], Exception)]
    assert failed == asked[-3:]


def test_any_folder_has_questions(tmp_path: Path) -> None:
    """Questions come from headings, or from rare words without headings; an empty file suggests none."""
    (tmp_path / "a.txt").write_text("The walrus sings.\n")
    (tmp_path / "b.md").write_text("# Boats\n\nThey float.\n")
    (tmp_path / "c.txt").write_text("")
    (tmp_path / "d.txt").write_bytes(b"\xff")
    assert questions(TextFolder(tmp_path))[:2] == [
        "What is said about sing and walrus?",
        "What does b.md say about Boats?",
    ]
    for name in "abd":
        next(tmp_path.glob(f"{name}.*")).unlink()
    assert len(questions(TextFolder(tmp_path))) == 3


def test_a_cancelled_run_gets_the_steps_of_its_threads(folder: TextFolder) -> None:
    """The cancellation waits for the thread at work, whose steps no exporter would take after the run's end."""

    held = Held(folder.path)

    async def cancelled() -> list[IntermediateStep]:
        async with recorded_run(ContextState()) as exporter:
            answering = asyncio.create_task(FolderAgent(held).answer("Is green tea fermented?"))
            await asyncio.to_thread(held.began.wait)
            answering.cancel()
            for _ in range(10):  # turns of the loop, more than a cancellation takes
                await asyncio.sleep(0)
            early = answering.done()
            held.allowed.set()
            with pytest.raises(asyncio.CancelledError):
                await answering
            assert not early
        return exporter.steps

    assert {"list_files", "search_files", "answer_question"} <= ends(asyncio.run(cancelled())).keys()
