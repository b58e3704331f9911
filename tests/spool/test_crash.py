"""Spool, when processes die: acknowledged records survive, no record has two owners, and forks are safe."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

import pytest

from nat_observability.spool.spool import Spool
from tests.sinks.builders import python, run_python

# Appends, takes and finishes records for ever, and says so: "+" when an append has returned, "t" when records were
# taken, "~" before they are done and "-" when that has returned. One write a line: no line is torn by a kill.
_WORKER = """
import itertools, os, random, sys
from nat_observability.spool.spool import Spool

def say(sign, ids):
    os.write(1, f"{sign} {' '.join(ids)}\\n".encode())

directory, name = sys.argv[1:]
generator = random.Random(name)
numbers = itertools.count()
spool = Spool(directory, exporter="main", max_bytes=1 << 30)
spool.open()
say("o", [])
while True:
    ids = [f"{name}-{next(numbers)}" for _ in range(generator.randrange(1, 40))]
    taken = generator.random() < 0.5
    padding = b"." * generator.choice([0, 300, 6000])
    records = [id.encode() + b" " + padding for id in ids]
    keys = spool.append(records, taken=taken, durable=generator.random() < 0.7)
    say("+", ids)
    if taken:
        say("t", ids)
        batch = list(zip(keys, ids))
    else:
        batch = [(key, data.split()[0].decode()) for key, data in spool.take(generator.randrange(1, 40), 100_000)]
        say("t", [id for _, id in batch])
    if generator.random() < 0.2:
        spool.put_back(key for key, _ in batch)
    elif generator.random() < 0.8:
        say("~", [id for _, id in batch])
        spool.done(key for key, _ in batch)
        say("-", [id for _, id in batch])
    if generator.random() < 0.1:
        spool.adopt()
"""


Said = list[tuple[str, list[str]]]


def said_until_killed(
    worker: subprocess.Popen[str], lines: int, enough: Callable[[Said], bool] = lambda said: True
) -> Said:
    """Kill the worker after this much output, wherever it is then; return all of its output."""
    assert worker.stdout is not None
    said: Said = []
    for line in worker.stdout:
        sign, *records = line.split()
        said.append((sign, records))
        if len(said) >= lines and enough(said):
            worker.kill()
    return said


def said_until(worker: subprocess.Popen[str], lines: int, enough: Callable[[Said], bool]) -> Said:
    """Return the worker's output up to so much; it goes on."""
    assert worker.stdout is not None
    said: Said = []
    for line in worker.stdout:
        sign, *records = line.split()
        said.append((sign, records))
        if len(said) >= lines and enough(said):
            break
    return said


def records_of(said: Iterable[tuple[str, list[str]]], sign: str) -> list[str]:
    return [record for each, records in said if each == sign for record in records]


def take_all(spool: Spool) -> list[str]:
    return [data.split()[0].decode() for _, data in spool.take(1 << 20, 1 << 40)]


def taken_over(survivors: Iterable[Said]) -> bool:
    """Whether one of them has taken a record of a victim's."""
    return any(record.startswith("victim") for said in survivors for record in records_of(said, "t"))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kills", [6, pytest.param(25, marks=pytest.mark.slow)])
def test_what_was_acknowledged_survives_kills(kills: int, tmp_path: Path) -> None:
    """After a SIGKILL at any moment, every record whose append had returned is there, once, unless it was done."""
    generator = random.Random(1)
    acknowledged, begun, done = set[str](), set[str](), set[str]()
    for life in range(kills):
        with python(_WORKER, tmp_path, f"life{life}") as worker:
            said = said_until_killed(worker, generator.randrange(1, 150))
        acknowledged.update(records_of(said, "+"))
        begun.update(records_of(said, "~"))
        done.update(records_of(said, "-"))
        with Spool(tmp_path, exporter="main", max_bytes=1 << 30) as spool:
            found = take_all(spool)
            assert len(found) == len(set(found))
            assert acknowledged - begun <= set(found)
            assert done.isdisjoint(found)
            assert spool.stats().files == 1
    assert len(acknowledged) > 40 * kills
    assert len(done) > 4 * kills


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kills", [2, pytest.param(6, marks=pytest.mark.slow)])
def test_no_record_has_two_owners(kills: int, tmp_path: Path) -> None:
    """Of processes on one directory, some of which are killed, none gets a record that a living one holds."""
    generator = random.Random(2)
    victims: Said = []
    survivors: list[Said] = []
    with ExitStack() as stack:
        workers = [stack.enter_context(python(_WORKER, tmp_path, f"survivor{number}")) for number in range(2)]
        for number in range(kills):
            with python(_WORKER, tmp_path, f"victim{number}") as victim:
                victims += said_until_killed(victim, generator.randrange(5, 60))
        for worker in workers:
            # A survivor's first output, as much as a pipe holds, may date from before any victim was dead.
            survivors.append(said_until(worker, 200, lambda said: taken_over([*survivors, said])))
        for worker in workers:
            victims += said_until_killed(worker, 1)
    everything = [*victims, *itertools.chain.from_iterable(survivors)]

    # The records of one that is dead belong to another at once, so only what two said that were alive is compared.
    first, second = (set(records_of(said, "t")) for said in survivors)
    assert first.isdisjoint(second)
    assert taken_over(survivors), "nothing was taken over"
    assert set(Counter(records_of(everything, "-")).values()) == {1}
    with Spool(tmp_path, exporter="main", max_bytes=1 << 30) as spool:
        found = take_all(spool)
    assert len(found) == len(set(found))
    assert set(records_of(everything, "+")) - set(records_of(everything, "~")) <= set(found)


def test_what_many_have_left_is_taken_over_at_once(tmp_path: Path) -> None:
    """However many processes open a directory at the same moment, each file in it has a new owner then."""
    leave = """
import os, sys
from nat_observability.spool.spool import Spool
spools = [Spool(sys.argv[1], exporter="main", max_bytes=1 << 30) for _ in range(20)]
for number, spool in enumerate(spools):
    spool.open()
    spool.append([b"%d" % number], taken=False)
os.kill(os.getpid(), 9)
"""
    take_over = """
import sys
from nat_observability.spool.spool import Spool
print("ready", flush=True)
sys.stdin.readline()
spool = Spool(sys.argv[1], exporter="main", max_bytes=1 << 30)
spool.open()
print(*(data.decode() for _, data in spool.take(100, 1 << 20)), flush=True)
sys.stdin.readline()
"""
    run_python(leave, tmp_path, returncode=-9)
    with ExitStack() as stack:
        workers = [stack.enter_context(python(take_over, tmp_path)) for _ in range(4)]
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        found = [record for worker in workers if worker.stdout for record in worker.stdout.readline().split()]
    assert sorted(found, key=int) == [str(number) for number in range(20)]


# Forks

_FORK = """
import os, sys, threading
from nat_observability.spool.spool import Spool

spool = Spool(sys.argv[1], exporter="main", max_bytes=1 << 30)
spool.open()
"""


def test_a_child_leaves_its_parent_alone(tmp_path: Path) -> None:
    """A forked child that lives and ends as Python processes do neither touches nor unlocks its parent's file."""
    code = (
        _FORK
        + """
spool.append([b"before"], taken=False)
if os.fork() == 0:
    spool.close()
    sys.exit(0)  # with all that the interpreter does at its end
assert os.wait()[1] == 0
spool.append([b"after"], taken=False)
print("ready", flush=True)
sys.stdin.read()
"""
    )
    with python(code, tmp_path) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        with Spool(tmp_path, exporter="main", max_bytes=1 << 30) as other:
            assert take_all(other) == []
            parent.kill()
            parent.wait()
            assert other.adopt().records == 2
            assert take_all(other) == ["before", "after"]


def test_a_child_has_a_spool_of_its_own(tmp_path: Path) -> None:
    """In the child the spool is closed and empty; opened there, it is another owner, with a file of its own."""
    code = (
        _FORK
        + """
spool.append([b"parent"], taken=False)
if os.fork() == 0:
    assert spool.stats().records == 0
    assert spool.open().records == 0
    spool.append([b"child"], taken=False)
    assert [data for _, data in spool.take(10, 100)] == [b"child"]
    spool.close()
    sys.exit(0)
assert os.wait()[1] == 0
assert spool.adopt().records == 1
assert [data for _, data in spool.take(10, 100)] == [b"parent", b"child"]
print("passed")
"""
    )
    assert run_python(code, tmp_path).endswith("passed\n")


def test_a_dead_parents_file_is_free_while_its_child_lives(tmp_path: Path) -> None:
    """The lock ends with the process that took it, though a forked child has the file open still."""
    code = (
        _FORK
        + """
spool.append([b"1", b"2"], taken=False)
child = os.fork()
if child == 0:
    sys.stdin.read()
    os._exit(0)
print(child, flush=True)
os.kill(os.getpid(), 9)
"""
    )
    with python(code, tmp_path) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.wait()
        with Spool(tmp_path, exporter="main", max_bytes=1 << 30) as spool:
            assert take_all(spool) == ["1", "2"]
            os.kill(child, 0)  # raises if it is not alive


def test_a_fork_in_the_middle_of_an_append_is_safe(tmp_path: Path) -> None:
    """Children forked while another thread appends can use the spool, and the parent's records are all there."""
    code = (
        _FORK
        + """
stop = threading.Event()
count = 0

def append():
    global count
    while not stop.is_set():
        spool.append([b"parent"] * 20, taken=False)
        count += 20

thread = threading.Thread(target=append)
thread.start()
for number in range(30):
    if os.fork() == 0:
        spool.open()
        spool.append([b"child"], taken=False)
        os._exit(0)
    assert os.wait()[1] == 0, number
stop.set()
thread.join()
print(count, flush=True)
os.kill(os.getpid(), 9)
"""
    )
    output = run_python(code, tmp_path, returncode=-9)
    with Spool(tmp_path, exporter="main", max_bytes=1 << 30) as spool:
        assert Counter(take_all(spool)) == {"parent": int(output), "child": 30}


def test_a_child_of_a_child_is_safe_too(tmp_path: Path) -> None:
    """A fork in a forked child waits for no lock, and leaves three owners."""
    code = (
        _FORK
        + """
for generation in range(3):
    spool.open()
    spool.append([b"%d" % generation], taken=False)
    if os.fork():
        assert os.wait()[1] == 0
        sys.exit(0)
os._exit(0)
"""
    )
    run_python(code, tmp_path)
    with Spool(tmp_path, exporter="main", max_bytes=1 << 30) as spool:
        assert sorted(take_all(spool)) == ["0", "1", "2"]


def test_it_does_without_fcntl(tmp_path: Path) -> None:
    """Without fcntl, as on Windows, the spool can be imported and used."""
    code = """
import sys
sys.modules["fcntl"] = None
from nat_observability.spool.spool import Spool
with Spool(sys.argv[1], exporter="main", max_bytes=100) as spool:
    spool.append([b"1"], taken=False)
    assert spool.take(1, 1)[0][1] == b"1"
"""
    run_python(code, tmp_path)
