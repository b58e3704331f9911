"""FolderAgent: a small workflow that answers questions about a folder of text files with sentences from them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import TypeVar

import msgspec

from nat_observability.cli.demo.ranking import Ranked, Ranker, terms, tokens
from nat_observability.cli.demo.text_folder import SUFFIXES, Passage, TextFolder, passages
from nat_observability.errors import ObservabilityError
from nat_observability.events import TokenUsage
from nat_observability.recording.step import step

ResultT = TypeVar("ResultT")

_FILE = re.compile(
    rf"[\w./-]+(?:{'|'.join(re.escape(suffix) for suffix in sorted(SUFFIXES))})\b", re.IGNORECASE
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9])")
_CANDIDATES = 20
_TOP = 3
_ENOUGH = 0.6  # of what the question's terms weigh together


class NothingToSearchError(ObservabilityError, ValueError):
    """Raised if no word of the question carries meaning."""


class NoAnswerError(ObservabilityError, LookupError):
    """Raised if no passage answers the question."""


class Plan(msgspec.Struct, frozen=True):
    """What a question asks for: its terms, and the file that it names, if any."""

    terms: tuple[str, ...]
    file: str | None


class Found(msgspec.Struct, frozen=True):
    """The files that were read, and the passages in them that may answer the question."""

    passages: list[Passage]
    candidates: list[Passage]


class Ranking(msgspec.Struct, frozen=True):
    """The best passages, and the weight of each term of the question."""

    passages: list[Ranked]
    weights: dict[str, float]

    def share(self, ranked: Ranked) -> float:
        """Return how much of the question's weight a passage covers, from 0 to 1."""
        return sum(self.weights[term] for term in ranked.terms) / sum(self.weights.values())


class FolderAgent:
    """
    Plans, searches the files, has the passages ranked by a local model, and composes an answer of their sentences.

    Nothing slow runs on the event loop: files are read, and passages ranked, in threads. Several questions may be asked
    at the same time.
    """

    def __init__(self, folder: TextFolder) -> None:
        self._folder = folder

    @step("workflow", "answer_question")
    async def answer(self, question: str) -> str:
        """
        Return the answer and its source.

        Raises:
            NothingToSearchError: The question has no word that carries meaning.
            NoAnswerError: No passage answers it.
            OSError: The file that the question names does not exist, or cannot be read.
            UnicodeDecodeError: It is not text.
        """
        plan = self._plan(question)
        found = await self._search(plan)
        ranking = await self._rank(question, plan, found)
        return self._compose(plan, ranking)

    @step("task", "plan")
    def _plan(self, question: str) -> Plan:
        named = _FILE.search(question)
        wanted = terms(question.replace(named[0], " ") if named else question)
        if not wanted:
            raise NothingToSearchError(f"no word of the question can be searched for: {question!r}")
        return Plan(tuple(wanted), named[0] if named else None)

    async def _search(self, plan: Plan) -> Found:
        with step("tool", "search_files", input=plan) as search:
            names = [plan.file] if plan.file else await _in_thread(self._folder.files)
            results = await asyncio.gather(
                *(_in_thread(self._read, name) for name in names), return_exceptions=True
            )
            read: list[Passage] = []
            for result in results:
                if isinstance(result, list):
                    read += result
                elif plan.file or not isinstance(result, OSError | UnicodeDecodeError):
                    raise result
            candidates = await _in_thread(_candidates, plan, read)
            search.output = {"files": len(names), "passages": len(read), "candidates": len(candidates)}
            return Found(read, candidates)

    def _read(self, name: str) -> list[Passage]:
        with step("tool", "read_file", input=name) as read:
            text = self._folder.read(name)
            found = passages(name, text)
            read.output = {"characters": len(text), "passages": len(found)}
            return found

    async def _rank(self, question: str, plan: Plan, found: Found) -> Ranking:
        prompt = "\n".join([question, *(f"{each.file}: {each.text}" for each in found.candidates)])
        with step("llm", "bm25", input=prompt) as call:
            return await _in_thread(_run_model, call, prompt, plan, found)

    def _compose(self, plan: Plan, ranking: Ranking) -> str:
        top = ranking.passages
        with step("function", "compose_answer", input=[each.passage for each in top]) as compose:
            best = top[0] if top else None
            if best is None or ranking.share(best) < _ENOUGH:
                raise NoAnswerError(f"no passage answers a question about {', '.join(plan.terms)}")
            sentences = _SENTENCE.split(best.passage.text)
            wanted = set(plan.terms)
            matches = [len(wanted.intersection(terms(sentence))) for sentence in sentences]
            first = matches.index(max(matches))
            answer = f"{' '.join(sentences[first : first + 2])} [{best.passage.file}]"
            compose.output = answer
            return answer


async def _in_thread(function: Callable[..., ResultT], *args: object) -> ResultT:
    """Do as `asyncio.to_thread`, but if it is cancelled, wait for the thread, so that its run gets all its steps."""
    working = asyncio.ensure_future(asyncio.to_thread(function, *args))
    try:
        await asyncio.wait([working])
    except asyncio.CancelledError:
        await asyncio.wait([working])
        working.exception()  # whatever it is, the cancellation comes first
        raise
    return working.result()


def _candidates(plan: Plan, read: list[Passage]) -> list[Passage]:
    """Return the passages with the most terms of the question."""
    wanted = set(plan.terms)
    shared = {each: len(wanted.intersection(terms(f"{each.heading} {each.text}"))) for each in read}
    return sorted((each for each in read if shared[each]), key=lambda each: -shared[each])[:_CANDIDATES]


def _run_model(call: step, prompt: str, plan: Plan, found: Found) -> Ranking:
    ranker = Ranker(found.passages)
    ranked = ranker.rank(plan.terms, found.candidates)[:_TOP]
    completion = 0
    for number, each in enumerate(ranked, 1):
        line = f"{number}. {each.passage.file}, {each.passage.heading}: {each.score:.2f}\n"
        completion += len(tokens(line))
        call.chunk(line)
    asked = len(tokens(prompt))
    call.usage = TokenUsage(asked, completion, total_tokens=asked + completion)
    return Ranking(ranked, {term: ranker.weight(term) for term in plan.terms})
