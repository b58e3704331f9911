"""Table: what was measured, beside the bar that it has to meet, with a verdict for each."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

QUIET_MS = 30.0
"""The time of the reference page, 1,000 static rows, on a machine of the kind that the bars are meant for."""

_NOTABLY = 1.5


class Row(NamedTuple):
    """
    One measurement.

    `bar` is None if there is none, `cpu_ms` what the server spent on it, `size` the bytes of its answers, and `verdict`
    `held`, `missed`, why there is none, or nothing without a bar.
    """

    what: str
    measured: float
    unit: str
    bar: float | None
    cpu_ms: float | None
    size: float | None
    verdict: str


class Table:
    """
    Prints rows as they are measured, and keeps them.

    Attributes:
        reference_ms: The time of the reference page on this machine, once it was measured.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.reference_ms: float | None = None

    def heading(self, title: str) -> None:
        """Begin a group of rows."""
        columns = f"{title:<70}{'measured':>13}{'server CPU':>13}{'bytes':>12}{'bar':>13}  verdict"
        print(f"\n{columns}\n{'-' * len(columns)}", flush=True)

    def row(
        self,
        what: str,
        measured: float,
        bar: float | None = None,
        unit: str = "ms",
        *,
        cpu_ms: float | None = None,
        size: float | None = None,
        noisy: bool = False,
    ) -> None:
        """
        Print and keep one row; it holds if what was measured is at most the bar.

        A time over it is no verdict if the machine is slower than a quiet one by more than that, as the reference page
        tells; nor is anything over it that is `noisy`.
        """
        verdict = "" if bar is None else "held" if measured <= bar else "missed"
        if verdict == "missed" and noisy:
            verdict = "none: noisy"
        elif verdict == "missed" and unit == "ms" and bar is not None and measured / self._slowness <= bar:
            verdict = "none: slow machine"
        self.rows.append(Row(what, measured, unit, bar, cpu_ms, size, verdict))
        cpu = "" if cpu_ms is None else f"{cpu_ms:,.1f} ms"
        bytes_ = "" if size is None else f"{size:,.0f}"
        at_most = "" if bar is None else f"{bar:,g} {unit}"
        print(
            f"{what:<70}{f'{measured:,.1f} {unit}':>13}{cpu:>13}{bytes_:>12}{at_most:>13}  {verdict}".rstrip(),
            flush=True,
        )

    @property
    def _slowness(self) -> float:
        return 1.0 if self.reference_ms is None else max(1.0, self.reference_ms / QUIET_MS)

    def close(self, path: Path | None) -> bool:
        """Print the sum of the verdicts, write the rows to a file if there is one; return whether every bar is held."""
        judged = [row for row in self.rows if row.verdict]
        by_verdict = {
            name: [row.what for row in judged if row.verdict.startswith(name)]
            for name in ("held", "missed", "none")
        }
        print(f"\n{len(by_verdict['held'])} of {len(judged)} bars are held." if judged else "", end=" ")
        print(f"Load average: {os.getloadavg()[0]:.1f}.", end=" ")
        if self.reference_ms is not None:
            slow = self._slowness
            note = f", {slow:.1f} times as long as on a quiet one" if slow > _NOTABLY else ""
            print(f"1,000 static rows took this machine {self.reference_ms:.0f} ms{note}.", end="")
        print()
        for name, title in (("missed", "Missed"), ("none", "Without a verdict, as the machine was busy")):
            if by_verdict[name]:
                print(f"{title}: {'; '.join(by_verdict[name])}.")
        if path is not None:
            path.write_text(json.dumps([row._asdict() for row in self.rows], indent=1) + "\n")
        return not by_verdict["missed"]


def median(job: Callable[[], float], repeats: int = 5) -> float:
    """Return the median of what so many calls return."""
    return statistics.median(job() for _ in range(repeats))
