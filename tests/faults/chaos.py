"""Many processes, a real collector and a bad network: every run that was said to have ended arrives, unaltered."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.delivery.test_crash import Ended, attributes_of, said_to_have_ended
from tests.faults.agreement import Agreement
from tests.faults.chaos_proxy import WEATHER, ChaosProxy
from tests.faults.kills import Kills
from tests.otlp_receiver import OtlpReceiver
from tests.rotel import running_rotel

_ROOT = Path(__file__).parents[2]
_MOST_GROWTH = (
    1.15  # of memory from the second quarter of a soak to the last: the allocator keeps what it had
)
_MOST_MORE = 8  # descriptors, tasks or threads: connections come and go


@dataclass(frozen=True)
class Arrived:
    """One span as it arrived, in as few words as the comparison needs."""

    digest: bytes
    seen: tuple[str, str, str, str, str]  # trace, parent, name, input, output

    @classmethod
    def of(cls, span: Span) -> Arrived:
        """Return what is kept of a span."""
        attributes = attributes_of(span)
        return cls(
            hashlib.blake2b(span.SerializeToString(deterministic=True), digest_size=16).digest(),
            (
                span.trace_id.hex(),
                span.parent_span_id.hex(),
                span.name,
                attributes["input.value"],
                attributes["output.value"],
            ),
        )


class Worker:
    """One life of the worker program, and what it has said until now."""

    def __init__(self, url: str, spool: Path, life: str) -> None:
        self.life = life
        self._said: list[str] = []
        self._begun = threading.Event()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.chaos_worker", url, spool, life],
            cwd=_ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"reader-{life}", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._said.append(line)
                self._begun.set()
        self._begun.set()

    def kill(self) -> None:
        """End it at once, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def end(self, timeout: float = 60.0) -> int:
        """Ask it to end in order, once it has begun, wait for that, and return the exit status."""
        self._begun.wait(timeout)
        self._process.terminate()
        try:
            return self._process.wait(timeout)
        finally:
            self.kill()

    @property
    def ended(self) -> list[Ended]:
        """The runs whose block had ended."""
        return said_to_have_ended("".join(line for line in self._said if not line.startswith("#")))

    @property
    def figures(self) -> list[dict[str, int]]:
        """The figures that it printed, oldest first."""
        return [json.loads(line[1:]) for line in self._said if line.startswith("#") and line.endswith("\n")]


@dataclass
class Storm:
    """
    The whole: workers, a proxy, a collector, a receiver, and what has arrived.

    Args:
        seed: Of everything that is left to chance.
        seconds: For how long there are faults.
        workers: How many processes there are at any time; the first of them is never killed.
        disturbances: It storms until there were at least so many, however long that takes.
    """

    seed: int
    seconds: float
    workers: int = 3
    disturbances: int = 0
    kills: int = 0
    weathers: dict[str, int] = field(default_factory=dict)
    ended: list[Ended] = field(default_factory=list)
    arrived: dict[str, Arrived] = field(default_factory=dict)
    copies: int = 0
    disturbed: int = 0
    lived: list[dict[str, int]] = field(default_factory=list)

    def run(self, directory: Path) -> None:
        """Let it storm, let it clear up, and check that everything has arrived. What had happened is in `self`."""
        dice = random.Random(self.seed)
        spool = directory / "spool"
        with (
            OtlpReceiver() as receiver,
            running_rotel(receiver.url, directory) as rotel,
            ChaosProxy(urlsplit(rotel.http).port or 0) as proxy,
        ):
            url = f"http://127.0.0.1:{proxy.port}"
            living = [Worker(url, spool, str(number)) for number in range(self.workers)]
            try:
                self._storm(dice, proxy, receiver, living, url, spool)
            finally:
                # However it ends, by Ctrl-C too, no worker is left, and what they have said is known.
                proxy.weather = "clear"
                statuses = [worker.end() for worker in living]
                self.ended += [ended for worker in living for ended in worker.ended]
                self.lived = living[0].figures
                self.disturbed = proxy.disturbed
            assert statuses == [0] * len(living), f"a worker did not end in order: {statuses}"
            # Nothing but what is on its way from the collector is missing now: liveness has returned.
            deadline = time.monotonic() + 30
            while self.missing and time.monotonic() < deadline:
                time.sleep(0.05)
                self._note(receiver.take())

    def _storm(
        self,
        dice: random.Random,
        proxy: ChaosProxy,
        receiver: OtlpReceiver,
        living: list[Worker],
        url: str,
        spool: Path,
    ) -> None:
        end = time.monotonic() + self.seconds
        while (left := end - time.monotonic()) > 0 or proxy.disturbed < self.disturbances:
            proxy.weather = dice.choice(WEATHER)
            self.weathers[proxy.weather] = self.weathers.get(proxy.weather, 0) + 1
            # The moment of a death is what varies; nothing is waited for.
            time.sleep(min(max(left, 0.2), dice.uniform(0.2, 2.0)))
            if len(living) > 1 and dice.random() < 0.6:
                at = dice.randrange(1, len(living))
                living[at].kill()
                self.ended += living[at].ended
                self.kills += 1
                living[at] = Worker(url, spool, f"{self.workers + self.kills}")
            self._note(receiver.take())

    def _note(self, spans: Iterable[Span]) -> None:
        for span in spans:
            arrived = Arrived.of(span)
            first = self.arrived.setdefault(span.span_id.hex(), arrived)
            assert first == arrived, f"a copy of span {span.span_id.hex()} differs"
            self.copies += first is not arrived

    @property
    def missing(self) -> list[str]:
        """The names of the runs that were reported as ended and have not arrived whole."""
        return [run.name for run in self.ended if not all(each in self.arrived for each in run.span_ids)]

    def check(self) -> None:
        """Raise AssertionError unless each run reported as ended has arrived as it was recorded."""
        assert not self.missing, f"{len(self.missing)} of {len(self.ended)} runs are lost: {self.missing[:5]}"
        for run in self.ended:
            for number, span_id in enumerate(run.span_ids):
                assert self.arrived[span_id].seen == run.expected(number), f"{run.name} is altered"

    def check_flat(self) -> None:
        """Raise AssertionError if memory, descriptors, tasks or threads of the first worker have grown."""
        quarter = len(self.lived) // 4
        assert quarter, f"too short: {len(self.lived)} lines of figures"
        for what in self.lived[0]:
            early = statistics.median(each[what] for each in self.lived[quarter : 2 * quarter])
            late = statistics.median(each[what] for each in self.lived[-quarter:])
            most = early * _MOST_GROWTH if what == "memory" else early + _MOST_MORE
            assert late <= most, f"{what} has grown from {early:.0f} to {late:.0f}"

    def __str__(self) -> str:
        weathers = ", ".join(f"{name} {times}x" for name, times in sorted(self.weathers.items()))
        lines = [
            f"seed {self.seed}, {self.workers} workers, {self.kills} SIGKILLs; {weathers}; "
            f"{self.disturbed} pieces disturbed",
            f"{len(self.ended)} runs ended, {len(self.missing)} of them missing; {len(self.arrived)} spans arrived, "
            f"{self.copies} copies",
        ]
        if self.lived:
            first, last = self.lived[0], self.lived[-1]
            lines.append(", ".join(f"{what} {first[what]} -> {last[what]}" for what in first))
        return "\n".join(lines)


def _agree(seed: int, seconds: float) -> int:
    with tempfile.TemporaryDirectory() as directory:
        agreement = Agreement(seed, Path(directory))
        try:
            asyncio.run(agreement.run(seconds))
            agreement.check()
            agreement.check_flat()
        except AssertionError as error:
            print(f"{agreement}\nFAILED: {error}")
            return 1
    print(f"{agreement}\nledger and log agree, and nothing has grown")
    return 0


def _kill(kills: Kills) -> int:
    try:
        with tempfile.TemporaryDirectory() as directory:
            kills.run(Path(directory))
    except KeyboardInterrupt:
        print(f"interrupted\n{kills}")
        return 130
    except AssertionError as error:
        print(f"{kills}\nFAILED: {error}")
        return 1
    print(f"{kills}\nnothing is lost, and every copy has the id of its original")
    return 0


def main() -> int:
    """Run a storm from the command line; its figures are printed even if it is interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.chaos", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=600.0, help="of faults; 600 by default, 3600 at most"
    )
    parser.add_argument(
        "--seed", type=int, default=random.randrange(10**6), help="of everything left to chance"
    )
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument(
        "--spans",
        type=int,
        help="record so many instead, in processes that are killed a thousand times per million, at least 20 times",
    )
    parser.add_argument(
        "--one-process", action="store_true", help="compare ledger and log under changing faults instead"
    )
    given = parser.parse_args()
    if given.one_process:
        return _agree(given.seed, min(given.seconds, 3600.0))
    if given.spans is not None:
        return _kill(Kills(given.seed, given.spans, max(20, given.spans // 1000)))
    storm = Storm(given.seed, min(given.seconds, 3600.0), given.workers)
    try:
        with tempfile.TemporaryDirectory() as directory:
            storm.run(Path(directory))
        storm.check()
        storm.check_flat()
    except KeyboardInterrupt:
        print(f"interrupted\n{storm}")
        return 130
    except AssertionError as error:
        print(f"{storm}\nFAILED: {error}")
        return 1
    print(f"{storm}\nnothing is lost, and nothing has grown")
    return 0


if __name__ == "__main__":
    sys.exit(main())
