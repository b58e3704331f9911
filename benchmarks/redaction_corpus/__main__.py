"""Scores the redactor of this project on the corpus: `python -m benchmarks.redaction_corpus`."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable

from benchmarks.redaction_corpus import product
from benchmarks.redaction_corpus.contexts.all import CONTEXTS, GROUPS
from benchmarks.redaction_corpus.harmless import HARMLESS
from benchmarks.redaction_corpus.score import Case, Recall, cases, false_marks, personal, recall, text_of
from benchmarks.redaction_corpus.table import SHARE, print_recall


def main() -> None:
    """Print the table, and on request what was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.redaction_corpus", description=__doc__)
    parser.add_argument("--share", type=float, default=SHARE, help="of the cases to try; 1 for all")
    parser.add_argument(
        "--misses", type=int, default=0, metavar="N", help="print the N worst contexts and kinds"
    )
    parser.add_argument("--group", help="only the contexts of this group")
    parser.add_argument("--context", help="only this context, with each miss")
    given = parser.parse_args()
    contexts = [
        context
        for context in CONTEXTS
        if given.group in (None, context.group) and given.context in (None, context.name)
    ]
    counted = recall(product.redact, cases(given.share, contexts))
    print_recall(counted)
    if given.context:
        print_cases(counted, given.misses or 20)
        return
    marked = false_marks(product.redact)
    print(f"harmless texts with a mark in them: {len(marked)} of {len(HARMLESS)} kinds")
    for name, score in personal(product.redact_personal).items():
        print(
            f"{name}: {score.found} of {score.tried} found, {score.marked} of {score.harmless} harmless marked"
        )
    if given.misses:
        print_misses(counted, given.misses)
        for name, samples in marked.items():
            print(f"harmless, {name}: {text_of(samples[0])[:100]!r} -> {product.redact(samples[0])[:120]!r}")
        for name, score in personal(product.redact_personal).items():
            for sample in score.missed[:8] + score.wrong[:8]:
                what = "missed" if sample.secret else "harmless, marked"
                print(f"{name}, {what}: {sample.text!r} -> {product.redact_personal(name, sample.text)!r}")


def print_misses(counted: Recall, most: int) -> None:
    """Print the contexts, kinds and names with most misses, each with an example."""
    missed = [case for case in counted.missed if case.kind.has_form or case.context.group != GROUPS[0]]
    keys: tuple[tuple[str, Callable[[Case], str]], ...] = (
        ("context", lambda case: case.context.name),
        ("form", lambda case: case.kind.name if case.kind.has_form else ""),
        ("name", lambda case: "" if case.kind.has_form else case.kind.field),
        ("shape", lambda case: case.kind.shape),
    )
    for what, key in keys:
        print(f"\nMissed by {what}")
        counts = Counter(key(case) for case in missed)
        counts.pop("", None)
        for value, count in counts.most_common(most):
            case = next(case for case in missed if key(case) == value)
            left = product.redact(case.given)
            print(f"{count:5} {value}: {text_of(case.given)[:130]!r} -> {left[:130]!r}")


def print_cases(counted: Recall, most: int) -> None:
    """Print misses one by one."""
    for case in counted.missed[:most]:
        print(f"{case.kind.name}: {text_of(case.given)!r}\n    -> {product.redact(case.given)!r}")


if __name__ == "__main__":
    main()
