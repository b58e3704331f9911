"""The questions of the demonstration: about this project's own documentation, or about any folder of text files."""

from __future__ import annotations

from itertools import islice

from nat_observability.cli.demo.ranking import Ranker, terms
from nat_observability.cli.demo.text_folder import Passage, TextFolder, passages

ABOUT_THE_PROJECT = (
    "What happens to a span that is still open when its run ends?",
    "What is a finished step?",
    "What does a sink do with a batch of items?",
    "When does a circuit breaker open after failures in a row?",
    "What is dropped when a queue is full?",
    "What happens to an exporter that does not open?",
    "What happens if shutdown is never called?",
    "What do Python's own threads and thread pools not inherit?",
    "Which value wins, the environment or the env file?",
    "What does an unknown variable with our prefix cause?",
    "Who can read the file that an exporter creates?",
    "Can several processes write to one file?",
    "Is a blocking function run on a worker thread?",
    "Does an exporter written for the reference toolkit run unchanged?",
    "How is a failed write of a batch tried again?",
    "What does command.md say about the run overhead?",
    "What does store.md say about a power cut?",
    "What does settings.md say about an unknown exporter type?",
    "When is a run ok in a replay?",
    "What happens to a torn line that is not a step of the toolkit?",
    "Does replaying a file again change the store?",
    "What are the kinds of a step?",
    "Which background thread does each delivery have?",
)

_ABSENT = ("How long does sourdough bread bake?", "Which lighthouse keeper played the accordion?")
_PER_FILE = 3


def questions(folder: TextFolder, known: tuple[str, ...] = ()) -> list[str]:
    """
    Return questions about a folder: the `known` ones, or else some that its headings and rare words suggest.

    The last three cannot be answered: one names a file that does not exist, one asks about something that no file
    mentions, and one has nothing to search for. Reads the disk.
    """
    found = [each for name in folder.files() for each in _passages(folder, name)]
    asked = list(known) or _suggested(found)
    vocabulary = {term for each in found for term in terms(f"{each.heading} {each.text}")}
    absent = next((each for each in _ABSENT if not vocabulary.intersection(terms(each))), "Who is Qwghlm?")
    subject = next((each.heading for each in found if each.heading), "this")
    return [*asked, f"What does chapter-99.md say about {subject}?", absent, "And what about that?"]


def _passages(folder: TextFolder, name: str) -> list[Passage]:
    try:
        return passages(name, folder.read(name))
    except (OSError, UnicodeDecodeError):
        return []  # the demonstration's own tool will meet the same file and report it


def _suggested(found: list[Passage]) -> list[str]:
    ranker = Ranker(found)
    suggested: dict[str, None] = {}
    for file in dict.fromkeys(each.file for each in found):
        own = [each for each in found if each.file == file]
        headings = dict.fromkeys(each.heading for each in own if terms(each.heading))
        for heading in islice(headings, _PER_FILE):
            suggested[f"What does {file} say about {heading}?"] = None
        if not headings:
            for each in own[:_PER_FILE]:
                rare = sorted(terms(each.text), key=lambda term: (-ranker.weight(term), term))[:2]
                if rare:
                    suggested[f"What is said about {' and '.join(rare)}?"] = None
    return list(suggested)
