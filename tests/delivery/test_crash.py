"""A process with `spool=always` that is killed loses no run whose block had ended (G6)."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.delivery.crash_worker import STEPS
from tests.otlp_receiver import Answer, Hang, OtlpReceiver, Reset, refuse

ROOT = Path(__file__).parents[2]


@contextmanager
def worker(receiver: OtlpReceiver, spool: Path, life: int, *runs: int) -> Iterator[subprocess.Popen[str]]:
    """Start the program, in its `life`-th life, and leave nothing of it behind."""
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.delivery.crash_worker",
            receiver.url,
            spool,
            str(life),
            *map(str, runs),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@dataclass(frozen=True)
class Ended:
    """A run that was reported as ended: its name, its ids, and those of its spans, the outermost first."""

    name: str
    run_id: str
    trace_id: str
    span_ids: tuple[str, ...]

    def expected(self, number: int) -> tuple[str, str, str, str, str]:
        """Return trace, parent, name, input and output of one of its spans, the outermost being the first."""
        if not number:
            return self.trace_id, "", f"invoke_workflow {self.name}", f'{{"run":"{self.name}"}}', self.name
        step = number - 1
        given, result = f'{{"number":{step}}}', f'["{self.name}",{step}]'
        return self.trace_id, self.span_ids[0], f"execute_tool step {step}", given, result


def said_to_have_ended(output: str) -> list[Ended]:
    """Return the runs in the complete lines of an output: a torn line reports no end."""
    lines = (line.split() for line in output.split("\n")[:-1])
    return [Ended(name, run_id, trace_id, tuple(spans)) for name, run_id, trace_id, *spans in lines]


def troubles(dice: random.Random) -> list[Answer]:
    """Return the back end's next answers: refuse, be slow, or take the spans and not answer."""
    kinds = (refuse(503), Answer(delay=0.1), Hang(keep=True), Reset(keep=True), Reset())
    return dice.choices(kinds, weights=(5, 3, 1, 1, 1), k=dice.randrange(1, 6)) if dice.random() < 0.5 else []


def lives(kills: int, spool: Path, seed: int) -> None:
    """Kill the program so often, at moments of all kinds, let it end in order, and compare."""
    dice = random.Random(seed)
    ended: list[Ended] = []
    with OtlpReceiver() as receiver:
        for life in range(kills):
            # Some of a life's batches stay in the spool for the next, some are there and have arrived.
            receiver.behave(*troubles(dice))
            with worker(receiver, spool, life) as process:
                assert process.stdout is not None
                # The moment of death is what varies; nothing is waited for.
                if dice.random() < 0.8:
                    # Dead between its first run's end and a few hundred runs later: whatever it is doing then.
                    ended += said_to_have_ended(process.stdout.readline())
                    time.sleep(dice.uniform(0, 0.15))
                else:
                    # Or earlier, perhaps while it takes over what was left.
                    time.sleep(dice.uniform(0.2, 0.6))
                process.send_signal(signal.SIGKILL)
                said, _ = process.communicate()
            ended += said_to_have_ended(said)
        with worker(receiver, spool, kills, 8) as last:
            said, _ = last.communicate(timeout=200)
            assert last.returncode == 0
        undisturbed = said_to_have_ended(said)
        spans = receiver.spans
    assert len(undisturbed) == 8
    copies = assert_whole(ended + undisturbed, undisturbed[-1], spans)
    print(f"{kills} kills, {len(ended)} runs ended, {len(spans)} spans arrived, {copies} of them copies")


def assert_whole(ended: Sequence[Ended], undisturbed: Ended, spans: Sequence[Span]) -> int:
    """
    Check that every run is there, with each of its spans, as it was recorded.

    Args:
        ended: Each run that was reported as ended.
        undisturbed: One of them whose process was not killed. No other run's attributes may differ from its own.
        spans: All that arrived.

    Returns:
        How many spans came more than once.
    """
    found: dict[str, Span] = {}
    for span in spans:
        assert found.setdefault(span.span_id.hex(), span) == span, "a copy differs"
    missing = [run.name for run in ended if not found.keys() & set(run.span_ids)]
    assert not missing, f"{len(missing)} of {len(ended)} runs are lost"
    for run in ended:
        assert len(run.span_ids) == STEPS
        for number, span_id in enumerate(run.span_ids):
            assert span_id in found, f"run {run.name} is not whole"
            span = found[span_id]
            attributes = attributes_of(span)
            seen = (
                span.trace_id.hex(),
                span.parent_span_id.hex(),
                span.name,
                attributes["input.value"],
                attributes["output.value"],
            )
            assert seen == run.expected(number)
            like = attributes_of(found[undisturbed.span_ids[number]])
            assert attributes == {
                key: value.replace(undisturbed.run_id, run.run_id).replace(undisturbed.name, run.name)
                for key, value in like.items()
            }
            assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano
    return len(spans) - len(found)


def attributes_of(span: Span) -> dict[str, str]:
    """Return the attributes of a span, each with everything the protocol holds about its value."""
    values = {each.key: each.value for each in span.attributes}
    assert len(values) == len(span.attributes)
    return {
        key: value.string_value if value.HasField("string_value") else str(value)
        for key, value in values.items()
    }


@pytest.mark.timeout(300)  # ten seconds, and more on a busy machine
def test_g6_no_run_that_had_ended_is_lost_in_6_kills(tmp_path: Path) -> None:
    """After each of 6 SIGKILLs the next process delivers what was left; copies come under the same span ids only."""
    lives(6, tmp_path / "spool", seed=20)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_g6_no_run_that_had_ended_is_lost_in_100_kills(tmp_path: Path) -> None:
    """The same, with 100 kills."""
    lives(100, tmp_path / "spool", seed=100)
