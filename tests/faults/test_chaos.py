"""G5, G6, G12: conservation under faults, in short; `make soak` runs it for minutes."""

from __future__ import annotations

import gc
import json
import socket
from pathlib import Path

import pytest

from tests.faults.chaos import Storm
from tests.faults.chaos_proxy import ChaosProxy


@pytest.mark.timeout(120)
def test_every_run_that_ended_arrives_unaltered(tmp_path: Path) -> None:
    """Through resets, black holes, throttling, delays and kills: nothing acknowledged is lost, and it clears up."""
    storm = Storm(seed=7, seconds=6, workers=2)
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
