"""A process with `spool=always` that is killed loses no run whose block had ended (G6)."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.delivery.crash_worker import STEPS
from tests.otlp_receiver import OtlpReceiver, refuse

ROOT = Path(__file__).parents[2]


def worker(receiver: OtlpReceiver, spool: Path, life: int, *runs: int) -> subprocess.Popen[str]:
    """Start the program; in its `life`-th life."""
    return subprocess.Popen(
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
    )


def said_to_have_ended(output: str) -> dict[str, str]:
    """Return the names of the runs in whole lines of output, by id."""
    pairs = (line.split() for line in output.split("\n")[:-1])
    return {pair[0]: pair[1] for pair in pairs}


def lives(kills: int, spool: Path, seed: int) -> None:
    """Kill the program so often, at moments of all kinds, let it end in order, and compare."""
    dice = random.Random(seed)
    ended: dict[str, str] = {}
    with OtlpReceiver() as receiver:
        for life in range(kills):
            if dice.random() < 0.5:
                # The back end has its troubles too: some of a life's batches stay in the spool for the next.
                receiver.behave(*[refuse(503)] * dice.randrange(1, 6))
            process = worker(receiver, spool, life)
            assert process.stdout is not None
            # Dead between its first run's end and a few hundred runs later: whatever it is doing then.
            ended.update(said_to_have_ended(process.stdout.readline()))
            time.sleep(dice.uniform(0, 0.15))  # the moment of death is what varies; nothing is waited for
            process.send_signal(signal.SIGKILL)
            # The last line may be torn: then its run was not said to have ended.
            said, _ = process.communicate()
            ended.update(said_to_have_ended(said))
        last = worker(receiver, spool, kills, 8)
        said, _ = last.communicate(timeout=60)
        assert last.returncode == 0
        ended.update(said_to_have_ended(said))
        spans = receiver.spans
    assert_whole(ended, spans, kills)


def assert_whole(ended: dict[str, str], spans: Sequence[Span], kills: int) -> None:
    """Every run that was said to have ended is there, with each of its spans, as it was recorded."""
    by_run: dict[str, dict[bytes, tuple[str, str, str]]] = defaultdict(dict)
    copies = 0
    for span in spans:
        attributes = {each.key: each.value.string_value for each in span.attributes}
        seen = (span.name, attributes["input.value"], attributes.get("output.value", ""))
        run = by_run[attributes["nat.workflow.run_id"]]
        copies += span.span_id in run
        assert run.setdefault(span.span_id, seen) == seen, "a copy differs"
    missing = [run for run in ended if run not in by_run]
    assert not missing, f"{len(missing)} of {len(ended)} runs are lost"
    for run_id, name in ended.items():
        expected = {(name, f'{{"run":"{name}"}}', name)} | {
            (f"step {number}", f'{{"number":{number}}}', f'["{name}",{number}]')
            for number in range(STEPS - 1)
        }
        assert set(by_run[run_id].values()) == expected, f"run {name} is not whole"
        assert len(by_run[run_id]) == STEPS
    print(f"{kills} kills, {len(ended)} runs ended, {len(spans)} spans arrived, {copies} of them copies")


@pytest.mark.timeout(120)
def test_g6_no_run_that_had_ended_is_lost_in_20_kills(tmp_path: Path) -> None:
    """After each of 20 SIGKILLs the next process delivers what was left; copies come under the same span ids only."""
    lives(20, tmp_path / "spool", seed=20)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_g6_no_run_that_had_ended_is_lost_in_100_kills(tmp_path: Path) -> None:
    """The same, with 100 kills."""
    lives(100, tmp_path / "spool", seed=100)
