"""Any number of spans through SIGKILLs and outages: several processes and spools, and a back end that is often down."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.delivery.crash_worker import STEPS
from tests.delivery.test_crash import attributes_of
from tests.faults.nursery import Life, Nursery
from tests.otlp_receiver import ACCEPT, Answer, Hang, OtlpReceiver, Reset, refuse

_DIGEST = 8  # bytes
_OUTAGES: tuple[Answer | None, ...] = (
    None,  # nobody listens
    refuse(503),
    refuse(401),
    Hang(keep=True),
    Reset(),
    Reset(keep=True),
)


def _seen(trace: str, parent: str, name: str, given: str, result: str) -> bytes:
    words = "\0".join((trace, parent, name, given, result))
    return hashlib.blake2b(words.encode(), digest_size=_DIGEST).digest()


@dataclass
class Kills:
    """
    The whole: what was recorded, what has arrived, and what has not.

    Args:
        seed: Of everything that is left to chance.
        spans: How many are recorded in runs that were said to have ended, at least.
        kills: How many processes are killed meanwhile.
        workers: How many processes there are at any time; two share a spool.
        at_once: How many runs each has at the same time.
    """

    seed: int
    spans: int
    kills: int
    workers: int = 4
    at_once: int = 8
    killed: int = 0
    ended: int = 0  # spans of runs that were said to have ended
    received: int = 0  # spans, copies included
    copies: int = 0
    seconds: float = 0.0
    down: float = 0.0  # seconds
    outages: dict[str, int] = field(default_factory=dict)
    # By span id: what is expected of those that have not arrived; of those that have, a digest and what was seen.
    owed: dict[bytes, bytes] = field(default_factory=dict)
    arrived: dict[bytes, bytes] = field(default_factory=dict)

    def run(self, directory: Path) -> None:
        """Record and kill, then let everything be delivered; raises AssertionError for anything that is not right."""
        dice = random.Random(self.seed)
        began = time.monotonic()
        with OtlpReceiver() as receiver, Nursery(directory) as nursery:
            living = [
                self._bear(nursery, receiver, directory, slot, str(slot)) for slot in range(self.workers)
            ]
            self._kill(dice, receiver, nursery, directory, living)
            self._bring_up(receiver)
            deadline = time.monotonic() + 300
            for life in living:
                while not life.has_begun:  # and knows the signal
                    self._note_ended(life)
                    assert time.monotonic() < deadline, f"process {life.pid} does not begin"
                    time.sleep(0.01)
                life.end()
            for life in living:
                while Path(f"/proc/{life.pid}").exists():
                    self._note(receiver.take())
                    assert time.monotonic() < deadline, f"process {life.pid} does not end"
                    time.sleep(0.05)
                self._note_ended(life)
                assert life.is_done, f"process {life.pid} has not ended in order"
            self._note(receiver.take())
        self.seconds = time.monotonic() - began
        self.check()

    def _bear(self, nursery: Nursery, receiver: OtlpReceiver, directory: Path, slot: int, name: str) -> Life:
        return nursery.bear(receiver.url, directory / f"spool-{slot // 2}", name, self.at_once)

    def _kill(
        self,
        dice: random.Random,
        receiver: OtlpReceiver,
        nursery: Nursery,
        directory: Path,
        living: list[Life],
    ) -> None:
        next_kill = next_change = 0.0
        is_up = True
        went_down = 0.0
        while self.killed < self.kills or self.ended < self.spans:
            # The moment of a death is what varies; nothing is waited for.
            time.sleep(dice.uniform(0.0, 0.04))
            now = time.monotonic()
            if now >= next_change:
                next_change = now + dice.uniform(0.2, 3.0)
                if is_up:
                    self._bring_down(dice, receiver)
                    went_down = now
                else:
                    self._bring_up(receiver)
                    self.down += now - went_down
                is_up = not is_up
            for life in living:
                self._note_ended(life)
            self._note(receiver.take())
            if self.killed < self.kills and self.ended >= next_kill:
                at = dice.randrange(len(living))
                living[at].kill()
                self._note_ended(living[at])
                self.killed += 1
                name = str(self.workers + self.killed)
                living[at] = self._bear(nursery, receiver, directory, at, name)
                # Now and then soon again, while a process takes over what another one has left.
                if dice.random() < 0.8:
                    next_kill += self.spans / self.kills * dice.uniform(0.5, 1.5) / 0.8
        if not is_up:
            self.down += time.monotonic() - went_down

    def _bring_down(self, dice: random.Random, receiver: OtlpReceiver) -> None:
        outage = dice.choice(_OUTAGES)
        name = "nobody listens" if outage is None else f"{type(outage).__name__} {outage.status}"
        self.outages[name] = self.outages.get(name, 0) + 1
        if outage is None:
            receiver.stop()
        else:
            receiver.behaviour = outage

    def _bring_up(self, receiver: OtlpReceiver) -> None:
        receiver.behaviour = ACCEPT
        receiver.stop()  # with every connection that hangs
        receiver.start()

    def _note_ended(self, life: Life) -> None:
        for run in life.take():
            assert len(run.span_ids) == STEPS
            self.ended += STEPS
            for number, span_id in enumerate(run.span_ids):
                self._match(bytes.fromhex(span_id), _seen(*run.expected(number)))

    def _match(self, span_id: bytes, expected: bytes) -> None:
        arrived = self.arrived.get(span_id)
        if arrived is None:
            self.owed[span_id] = expected
        else:
            assert arrived[_DIGEST:] == expected, f"span {span_id.hex()} is altered"

    def _note(self, spans: Iterable[Span]) -> None:
        for span in spans:
            attributes = attributes_of(span)
            seen = _seen(
                span.trace_id.hex(),
                span.parent_span_id.hex(),
                span.name,
                attributes["input.value"],
                attributes["output.value"],
            )
            whole = hashlib.blake2b(span.SerializeToString(deterministic=True), digest_size=_DIGEST).digest()
            first = self.arrived.setdefault(span.span_id, whole + seen)
            assert first == whole + seen, f"a copy of span {span.span_id.hex()} differs"
            expected = self.owed.pop(span.span_id, None)
            if expected is not None:
                assert expected == seen, f"span {span.span_id.hex()} is altered"
            self.received += 1

    def check(self) -> None:
        """Raise AssertionError unless all that was recorded has arrived, each span under one id alone."""
        self.copies = self.received - len(self.arrived)
        assert not self.owed, f"{len(self.owed)} of {self.ended} spans are lost"
        distinct = {whole[_DIGEST:] for whole in self.arrived.values()}
        assert len(distinct) == len(self.arrived), (
            f"{len(self.arrived) - len(distinct)} spans have come under two ids"
        )
        assert self.killed >= self.kills

    def __str__(self) -> str:
        outages = ", ".join(f"{name} {times}x" for name, times in sorted(self.outages.items()))
        return (
            f"seed {self.seed}, {self.workers} processes, {self.killed} SIGKILLs, {self.seconds:.0f} s, down for "
            f"{self.down:.0f} s ({outages})\n{self.ended} spans of runs that ended, {len(self.owed)} of them missing; "
            f"{len(self.arrived)} spans arrived, {self.copies} copies"
        )
