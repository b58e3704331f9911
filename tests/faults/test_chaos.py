"""G5, G6, G12: conservation under faults, in short; `make soak` runs it for minutes."""

from __future__ import annotations

import gc
import json
import socket
from pathlib import Path

import pytest

from tests.faults.chaos import Storm
from tests.faults.chaos_proxy import ChaosProxy
from tests.faults.kills import Kills


@pytest.mark.timeout(120)
def test_every_run_that_ended_arrives_unaltered(tmp_path: Path) -> None:
    """Through resets, black holes, throttling, delays and kills: nothing acknowledged is lost, and it clears up."""
    storm = Storm(seed=7, seconds=4, workers=2, disturbances=1)
    storm.run(tmp_path)
    storm.check()
    assert storm.ended
    assert storm.kills
    assert storm.disturbed


def test_a_lost_run_is_noticed(tmp_path: Path) -> None:
    """The check fails if a span is missing or altered."""
    storm = Storm(seed=1, seconds=0.5, workers=1)
    storm.run(tmp_path)
    storm.check()
    span_id = storm.ended[-1].span_ids[2]
    arrived = storm.arrived.pop(span_id)
    with pytest.raises(AssertionError, match="lost"):
        storm.check()
    trace, parent, name, given, _ = arrived.seen
    storm.arrived[span_id] = type(arrived)(arrived.digest, (trace, parent, name, given, json.dumps("else")))
    with pytest.raises(AssertionError, match="altered"):
        storm.check()


def test_growth_is_noticed() -> None:
    """A process that keeps opening something fails the check."""
    flat = {"memory": 10**8, "descriptors": 20, "tasks": 3, "threads": 5}
    storm = Storm(seed=1, seconds=0, lived=[flat] * 20)
    storm.check_flat()
    storm.lived = [{**flat, "descriptors": 20 + 2 * number} for number in range(20)]
    with pytest.raises(AssertionError, match="descriptors has grown from"):
        storm.check_flat()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_g6_every_span_survives_kills_and_outages(tmp_path: Path) -> None:
    """Several processes and spools, and a back end that is down half of the time."""
    kills = Kills(seed=5, spans=3000, kills=12)
    kills.run(tmp_path)
    assert kills.outages
    assert kills.ended >= 3000


def test_lost_altered_and_doubled_spans_are_noticed() -> None:
    """Each fails the check of the kills."""
    kills = Kills(seed=1, spans=1, kills=0)
    kills.check()
    kills.owed[b"12345678"] = b"expected"
    with pytest.raises(AssertionError, match="1 of 0 spans are lost"):
        kills.check()
    kills.owed.clear()
    kills.arrived |= {b"12345678": b"digest-1content.", b"87654321": b"digest-2content."}
    kills.received = 2
    with pytest.raises(AssertionError, match="under two ids"):
        kills.check()


def test_a_connection_that_only_waits_for_its_answer_is_kept() -> None:
    """Even if the garbage collector runs: asyncio itself keeps no reference to the tasks of such a connection."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        ChaosProxy(server.getsockname()[1]) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port), timeout=30.0) as client,
    ):
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        there, _ = server.accept()
        with there:
            there.settimeout(30.0)
            while there.recv(100):
                pass  # to its end, which the proxy has then seen too
            for _ in range(10):  # the proxy has its turns meanwhile
                gc.collect()
            there.sendall(b"answer")
        assert client.recv(100) == b"answer"
