"""Mutation testing: mutmut's mutants of the manager, the delivery and the processors, and the tests that see them."""

from __future__ import annotations

import argparse
import difflib
import os
import random
import re
import shutil
import sys
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mutmut.mutation.file_mutation import Mutation, create_mutations

from tests.mutation.copies import Copy, Verdict
from tests.mutation.reach import Reach

_ROOT = Path(__file__).parents[2]
_PACKAGE = _ROOT / "nat_observability"
_DEFAULT = ("exporter_manager.py", "run", "delivery", "spool", "processors")
_EXPLAINED = Path(__file__).parent / "explained.toml"
# What only a type checker reads.
_UNSEEN = re.compile(r"\b(TypeVar|ParamSpec|cast)\(|^\s*__slots__\b|^\s*__all__\b")


class Module:
    """One module of the package, and what mutmut makes of it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = _PACKAGE / name
        self.source = self.path.read_text()
        self._tree, found, _, _ = create_mutations(str(self.path), self.source)
        # One change of a text is enough: the others change its case.
        self._mutations: list[Mutation] = [
            each
            for each in found
            if not hasattr(each.original_node, "raw_value") or "XX" in each.mutated_node.value
        ]

    def __len__(self) -> int:
        return len(self._mutations)

    def mutant(self, number: int) -> str:
        """Return the module's source with one change."""
        each = self._mutations[number]
        changed = self._tree.deep_replace(each.original_node, each.mutated_node)
        return str(changed.code)


@dataclass(frozen=True)
class Mutant:
    """One change of one module, by its number there: mutmut makes the same ones of the same source."""

    module: Module
    number: int

    @property
    def name(self) -> str:
        """What the command takes to try this one alone."""
        return f"{self.module.name}#{self.number}"

    @cached_property
    def source(self) -> str:
        """The changed module."""
        return self.module.mutant(self.number)

    @cached_property
    def change(self) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
        """The number of the first changed line, the lines that went, and those that came."""
        old, new = self.module.source.splitlines(), self.source.splitlines()
        first = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), len(old))
        changes = list(difflib.unified_diff(old, new, n=0, lineterm=""))[2:]  # without the names of the files
        gone = tuple(line[1:].strip() for line in changes if line.startswith("-"))
        come = tuple(line[1:].strip() for line in changes if line.startswith("+"))
        return first + 1, gone, come

    @property
    def is_for_types_only(self) -> bool:
        """Whether the program does not see the change."""
        return any(_UNSEEN.search(line) for line in self.change[1])


@dataclass(frozen=True)
class Explained:
    """A mutant that is not a fault, and why."""

    module: str
    line: str
    mutant: str
    why: str

    def fits(self, mutant: Mutant) -> bool:
        """Whether it is this change, wherever in the module the line stands now."""
        _, gone, come = mutant.change
        return (self.module, self.line, self.mutant) == (mutant.module.name, " ".join(gone), " ".join(come))


def explained() -> list[Explained]:
    """Return the list of `explained.toml`."""
    return [Explained(**each) for each in tomllib.loads(_EXPLAINED.read_text()).get("mutant", [])]


def chosen(selectors: list[str]) -> list[Mutant]:
    """
    Return the mutants of the modules, directories and single mutants that are named.

    Raises:
        SystemExit: One of them does not exist.
    """
    found: list[Mutant] = []
    for selector in selectors or _DEFAULT:
        name, _, number = selector.removeprefix("nat_observability/").partition("#")
        path = _PACKAGE / name
        if not path.exists():
            sys.exit(
                f"There is no {name!r} in {_PACKAGE.name}. Name a module or a directory: delivery/queue.py"
            )
        paths = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        for module in (Module(str(each.relative_to(_PACKAGE))) for each in paths):
            if number and not (number.isdigit() and int(number) < len(module)):
                sys.exit(f"{name} has {len(module)} mutants, numbered from 0; there is no {number!r}.")
            found += [Mutant(module, each) for each in ([int(number)] if number else range(len(module)))]
    return found


class Session:
    """A number of mutants, tried by several workers until all are or the time is up."""

    def __init__(self, mutants: list[Mutant], reach: Reach, *, seconds: float) -> None:
        self.verdicts: dict[Mutant, Verdict] = {}
        self._explained = explained()
        self._reach = reach
        self._mutants = iter(mutants)
        self._deadline = time.monotonic() + seconds
        self._lock = threading.Lock()

    def run(self, jobs: int) -> None:
        """Try the mutants, each in a copy of the project; Ctrl-C ends it with the results so far."""
        threads = [threading.Thread(target=self._work, args=(number,)) for number in range(jobs)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except KeyboardInterrupt:
            self._deadline = 0
            print("Interrupted: each worker ends the mutant that it tries.", file=sys.stderr)
            for thread in threads:
                thread.join()

    def _work(self, number: int) -> None:
        with Copy(_ROOT, f"{number}") as copy:
            for mutant in self._next():
                verdict = self._try(copy, mutant)
                with self._lock:
                    self.verdicts[mutant] = verdict
                    if verdict is Verdict.SURVIVED:
                        print(_shown(mutant), flush=True)

    def _next(self) -> Iterator[Mutant]:
        while time.monotonic() < self._deadline:
            with self._lock:
                mutant = next(self._mutants, None)
            if mutant is None:
                return
            if not mutant.is_for_types_only:
                yield mutant

    def _try(self, copy: Copy, mutant: Mutant) -> Verdict:
        if any(each.fits(mutant) for each in self._explained):
            return Verdict.EXPLAINED
        path = mutant.module.path.relative_to(_ROOT)
        tests = self._reach.tests_of(path, mutant.module.source, mutant.change[0])
        if not tests:
            return Verdict.SURVIVED
        with copy.changed(path, mutant.source):
            return copy.verdict(tests.names, seconds=tests.seconds)


def _shown(mutant: Mutant) -> str:
    line, gone, come = mutant.change
    changes = [f"    - {each}" for each in gone] + [f"    + {each}" for each in come]
    return "\n".join([f"survived: {mutant.name}, line {line}", *changes])


def _print_score(verdicts: dict[Mutant, Verdict], of: int) -> None:
    by_module: dict[str, Counter[Verdict]] = {}
    for mutant, verdict in verdicts.items():
        by_module.setdefault(mutant.module.name, Counter())[verdict] += 1
    rows = sorted(by_module.items())
    if len(rows) != 1:
        rows.append(("all", sum((counts for _, counts in rows), Counter())))
    print(f"\n{'module':32}{'killed':>9}{'of':>7}{'score':>8}{'survived':>10}{'explained':>11}")
    for name, counts in rows:
        killed, survived = counts[Verdict.KILLED] + counts[Verdict.TIMED_OUT], counts[Verdict.SURVIVED]
        score = f"{killed / (killed + survived):.1%}" if killed + survived else "-"
        print(
            f"{name:32}{killed:9}{killed + survived:7}{score:>8}{survived:10}{counts[Verdict.EXPLAINED]:11}",
        )
    print(f"Tried {len(verdicts)} of {of} mutants.")


def main() -> None:
    """Try mutants, print those that survive, and the score of each module."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("modules", nargs="*", help="delivery, delivery/queue.py or delivery/queue.py#12")
    parser.add_argument("--minutes", type=float, default=10, help="how long to try mutants (%(default)s)")
    parser.add_argument("--all", action="store_true", help="try every mutant, however long it takes")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the order in which they are tried (%(default)s)"
    )
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="workers (%(default)s)")
    arguments = parser.parse_args()

    mutants = chosen(arguments.modules)
    random.Random(arguments.seed).shuffle(mutants)
    print(f"{len(mutants)} mutants, seed {arguments.seed}.", flush=True)
    shutil.rmtree(Copy.parent(_ROOT), ignore_errors=True)
    reach = Reach.measured(_ROOT, jobs=arguments.jobs)
    session = Session(mutants, reach, seconds=float("inf") if arguments.all else arguments.minutes * 60)
    session.run(arguments.jobs)
    _print_score(session.verdicts, len(mutants))


if __name__ == "__main__":
    main()
