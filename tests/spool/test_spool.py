"""Spool: what goes in comes out, oldest first, within its limits."""

from __future__ import annotations

import os
import stat
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nat_observability.errors import SinkError
from nat_observability.spool.recovery import RecoveryReport
from nat_observability.spool.spool import Spool

MakeSpool = Callable[..., Spool]


class Clock:
    """Seconds since the epoch, set by the test."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def make_spool(tmp_path: Path) -> Iterator[MakeSpool]:
    """Make spools in one directory, open them, and close them after the test."""
    spools: list[Spool] = []

    def make(**arguments: Any) -> Spool:
        defaults: dict[str, Any] = {"exporter": "main", "max_bytes": 1 << 20}
        spool = Spool(tmp_path / "spool", **defaults | arguments)
        spools.append(spool)
        spool.open()
        return spool

    yield make
    for spool in spools:
        spool.close()


def taken(spool: Spool, max_records: int = 1000, max_bytes: int = 1 << 30) -> list[bytes]:
    return [data for _, data in spool.take(max_records, max_bytes)]


def files_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_gives_out_the_oldest_first(make_spool: MakeSpool) -> None:
    """Records come out in the order in which they went in, each once."""
    spool = make_spool()
    spool.append([b"1", b"2"], taken=False)
    spool.append([b"3"], taken=False)
    assert taken(spool, 2) == [b"1", b"2"]
    assert taken(spool) == [b"3"]
    assert taken(spool) == []


def test_a_batch_is_bounded_in_bytes(make_spool: MakeSpool) -> None:
    """A take stops before the record that would exceed its bytes, but always returns one."""
    spool = make_spool()
    spool.append([b"aaa", b"bbb", b"cccccccccc", b"d"], taken=False)
    assert taken(spool, max_bytes=6) == [b"aaa", b"bbb"]
    assert taken(spool, max_bytes=6) == [b"cccccccccc"]
    assert taken(spool, 0) == []
    assert taken(spool, max_bytes=0) == [b"d"]


def test_what_the_caller_delivers_itself_is_not_given_out(make_spool: MakeSpool) -> None:
    """Records that are appended as taken are given out only after they were put back, in their place."""
    spool = make_spool()
    keys = spool.append([b"1", b"2"], taken=True)
    spool.append([b"3"], taken=False)
    spool.put_back(keys[1:])
    assert taken(spool) == [b"2", b"3"]
    spool.done(keys)
    assert spool.stats().records == 1


def test_done_is_for_good(make_spool: MakeSpool) -> None:
    """What is done is not given out again, neither after it is put back nor after the spool is opened again."""
    spool = make_spool()
    keys = spool.append([b"1", b"2", b"3"], taken=True)
    spool.done([keys[1]])
    spool.put_back(keys)
    spool.close()
    assert spool.open().records == 2
    assert taken(spool) == [b"1", b"3"]


def test_what_is_taken_and_not_done_is_given_out_by_the_next_owner(make_spool: MakeSpool) -> None:
    """Only done removes a record from the spool."""
    first = make_spool()
    first.append([b"1", b"2"], taken=False)
    assert taken(first, 1) == [b"1"]
    first.close()
    assert taken(make_spool()) == [b"1", b"2"]


def test_keys_that_are_not_taken_are_ignored(make_spool: MakeSpool) -> None:
    """Done and put_back change nothing for a record that waits, that is done, that never was, or None."""
    spool = make_spool()
    [waiting] = spool.append([b"1"], taken=False)
    [done] = spool.append([b"2"], taken=True)
    spool.done([done])
    for ignore in (spool.done, spool.put_back, spool.reject):
        ignore([waiting, done, 17, 1 << 70, None])
    assert taken(spool) == [b"1"]
    assert spool.stats().dropped == {}


def test_counts_what_it_holds(make_spool: MakeSpool) -> None:
    """Its stats are the records and bytes that are not done, and those of them that are taken."""
    spool = make_spool()
    keys = spool.append([b"12345", b"123"], taken=True)
    spool.append([b"1"], taken=False)
    spool.done(keys[:1])
    stats = spool.stats()
    assert (stats.records, stats.taken, stats.bytes, stats.files) == (2, 1, 4, 1)
    assert stats.disk_bytes == sum(path.stat().st_size for path in spool.directory.glob("spool-*.sqlite3*"))


def test_a_call_may_come_from_any_thread(make_spool: MakeSpool) -> None:
    """A spool opened in one thread is used in another."""
    spool = make_spool()
    thread = threading.Thread(target=spool.append, args=([b"1"],), kwargs={"taken": False})
    thread.start()
    thread.join()
    assert taken(spool) == [b"1"]


def test_files_are_private(tmp_path: Path) -> None:
    """Directories are created with mode 0700, and files with 0600, whatever the umask."""
    before = os.umask(0)
    try:
        with Spool(tmp_path / "a" / "b", exporter="main", max_bytes=100) as spool:
            spool.append([b"1"], taken=False)
            modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a").rglob("*")}
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o700, 0o600}
    assert all(mode == 0o600 for path, mode in modes.items() if path.is_file())
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700


def test_an_empty_spool_leaves_no_files(make_spool: MakeSpool) -> None:
    """If all is done, closing leaves an empty directory."""
    spool = make_spool()
    spool.done(spool.append([b"1"], taken=True))
    spool.close()
    assert files_in(spool.directory) == []


def test_reopening_piles_up_no_files(make_spool: MakeSpool) -> None:
    """A spool that is opened again continues in its former file."""
    for number in range(5):
        spool = make_spool()
        spool.append([b"%d" % number], taken=False)
        spool.close()
    assert len(list(spool.directory.glob("spool-*.sqlite3"))) == 1
    assert taken(make_spool()) == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("call", ["append", "take"])
def test_a_closed_spool_says_so(make_spool: MakeSpool, call: str) -> None:
    """Using a spool that is not open is a clear error, and closing it twice is none."""
    spool = make_spool()
    spool.close()
    spool.close()
    with pytest.raises(SinkError, match=r"is not open\. Call Spool\.open first"):
        spool.append([b"1"], taken=False) if call == "append" else spool.take(1, 1)
    assert spool.adopt() == RecoveryReport()


@pytest.mark.parametrize(
    "arguments",
    [{"max_bytes": 0}, {"max_bytes": 1, "max_age": 0.0}, {"max_bytes": 1, "max_age": float("nan")}],
)
def test_a_limit_that_is_not_positive_is_refused(arguments: dict[str, Any]) -> None:
    """A limit that would drop everything is an error at once."""
    with pytest.raises(ValueError, match="is a positive number"):
        Spool("unused", exporter="main", **arguments)


# Limits


class Dropped:
    """Notes what a spool says that it dropped."""

    def __init__(self) -> None:
        self.keys: list[int] = []
        self.counts: Counter[str] = Counter()

    def __call__(self, keys: Sequence[int], reason: str) -> None:
        self.counts[reason] += len(keys)
        self.keys += keys


def test_a_full_spool_drops_the_oldest_and_counts_them(make_spool: MakeSpool) -> None:
    """Above max_bytes, the oldest that wait are dropped: no more of them than room is needed for."""
    dropped = Dropped()
    spool = make_spool(max_bytes=10, on_drop=dropped)
    keys = spool.append([b"aaaa", b"bbbb"], taken=False)
    spool.append([b"ccc"], taken=False)
    assert spool.stats().dropped == {"spool_full": 1}
    assert (dropped.keys, dropped.counts) == (keys[:1], {"spool_full": 1})
    assert taken(spool) == [b"bbbb", b"ccc"]


def test_what_is_taken_is_not_dropped_for_room(make_spool: MakeSpool) -> None:
    """A record that does not fit beside those that are taken is not stored, and has no key."""
    spool = make_spool(max_bytes=10)
    keys = spool.append([b"aaaa", b"bbbbbbbb", b"cccc"], taken=True)
    assert [key is None for key in keys] == [False, True, False]
    assert spool.append([b"ddd"], taken=False) == [None]
    assert spool.stats().dropped == {}
    spool.done(keys)
    assert spool.append([b"ddd"], taken=False) != [None]


def test_old_records_expire(make_spool: MakeSpool) -> None:
    """A record that waits longer than max_age is dropped and counted, by whichever call comes next."""
    clock, dropped = Clock(), Dropped()
    spool = make_spool(max_age=60.0, clock=clock, on_drop=dropped)
    old = spool.append([b"1", b"2"], taken=False)
    clock.now += 30
    spool.append([b"3"], taken=False)
    clock.now += 30
    assert spool.take(0, 0) == []
    assert spool.stats().dropped == {}
    clock.now += 1
    assert taken(spool, 1) == [b"3"]
    assert spool.stats().dropped == {"spool_expired": 2}
    assert (dropped.keys, dropped.counts) == (old, {"spool_expired": 2})


def test_what_is_taken_does_not_expire_before_it_is_put_back(make_spool: MakeSpool) -> None:
    """A delivery under way is not counted as dropped."""
    clock = Clock()
    spool = make_spool(max_age=60.0, clock=clock)
    keys = spool.append([b"1"], taken=True)
    clock.now += 100
    spool.append([b"2"], taken=False)
    assert spool.stats().dropped == {}
    spool.put_back(keys)
    assert spool.stats().dropped == {"spool_expired": 1}
    assert taken(spool) == [b"2"]


def test_what_a_former_owner_left_expires(make_spool: MakeSpool) -> None:
    """Age counts from the append, whichever process made it."""
    clock = Clock()
    spool = make_spool(clock=clock)
    spool.append([b"1"], taken=False)
    spool.close()
    clock.now += 100
    dropped = Dropped()
    spool = make_spool(max_age=60.0, clock=clock, on_drop=dropped)
    assert spool.stats().dropped == {"spool_expired": 1}
    assert dropped.keys == []  # this process never had its key
    assert taken(spool) == []


def test_the_file_does_not_grow_with_use(make_spool: MakeSpool) -> None:
    """A queue that is filled and emptied over and over takes no more disk than its fullest moment."""
    spool = make_spool(max_bytes=1 << 30)
    record = os.urandom(10_000)
    for _ in range(40):
        spool.append([record] * 200, taken=False)
        while batch := spool.take(100, 1 << 30):
            spool.done(key for key, _ in batch)
    assert spool.stats().disk_bytes < 3 * 200 * len(record) + (16 << 20)


def test_the_file_shrinks_after_an_outage(make_spool: MakeSpool) -> None:
    """When a backlog was delivered, its disk space is given back, without the spool being closed."""
    spool = make_spool(max_bytes=1 << 30)
    record = os.urandom(10_000)
    for _ in range(30):
        spool.append([record] * 200, taken=False)
    full = spool.stats().disk_bytes
    while batch := spool.take(200, 1 << 30):
        spool.done(key for key, _ in batch)
        spool.done(spool.append([record] * 10, taken=True))
    assert full > 30 * 200 * len(record)
    assert spool.stats().disk_bytes < full / 2


# Several owners


def test_a_living_owner_keeps_its_records(make_spool: MakeSpool) -> None:
    """Two spools in one directory, in one process too, never give out the same record."""
    first, second = make_spool(), make_spool()
    first.append([b"1"], taken=False)
    assert second.adopt() == RecoveryReport()
    assert taken(second) == []
    assert taken(first) == [b"1"]


def test_adopt_takes_over_what_an_owner_has_left(make_spool: MakeSpool) -> None:
    """The records of an owner that is gone are given out by another, mixed with its own by age."""
    clock = Clock()
    first, second = make_spool(clock=clock), make_spool(clock=clock)
    for number, spool in enumerate([first, second, first, second]):
        clock.now += 1
        spool.append([b"%d" % number], taken=False)
    first.close()
    with structlog.testing.capture_logs() as logs:
        report = second.adopt()
    assert (report.files, report.records, report.bytes) == (1, 2, 2)
    [line] = [line for line in logs if line["event"] == "spool_recovered"]
    assert (line["exporter"], line["records"], line["files"]) == ("main", 2, 1)
    batch = second.take(10, 1 << 20)
    assert [data for _, data in batch] == [b"0", b"1", b"2", b"3"]
    second.done(key for key, _ in batch)
    assert second.stats().files == 1
    second.close()
    assert files_in(second.directory) == []


def test_what_would_not_fit_is_left_for_later(make_spool: MakeSpool) -> None:
    """Taking over never makes a spool drop records: what exceeds max_bytes is taken over when there is room."""
    spools = [make_spool(max_bytes=10) for _ in range(3)]
    for spool in spools:
        spool.append([b"123456"], taken=False)
    for spool in spools:
        spool.close()
    spool = make_spool(max_bytes=10)
    for _ in range(3):
        [(key, data)] = spool.take(10, 100)
        assert data == b"123456"
        assert spool.adopt().files == 0
        spool.done([key])
        spool.adopt()
    assert taken(spool) == []
    assert spool.stats().dropped == {}


def test_nothing_to_recover_logs_nothing(make_spool: MakeSpool) -> None:
    """A spool that finds nothing logs nothing."""
    with structlog.testing.capture_logs() as logs:
        make_spool()
    assert logs == []


# Against a model


class SpoolMachine(RuleBasedStateMachine):
    """Any sequence of calls does to a spool what it does to a list."""

    max_bytes = 60
    max_age = 10.0

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.told = Dropped()
        self.spool = self.make()
        self.spool.open()
        # In the order of appending: data and time, and the key if it is known.
        self.waiting: list[tuple[int, bytes, float]] = []
        self.taken: list[tuple[int, bytes, float]] = []
        self.keys: dict[int, int] = {}
        self.dropped = 0
        self.dropped_keys: list[int] = []
        self.count = 0

    def make(self) -> Spool:
        return Spool(
            self.directory.name,
            exporter="main",
            max_bytes=self.max_bytes,
            max_age=self.max_age,
            clock=self.clock,
            on_drop=self.told,
        )

    def teardown(self) -> None:
        self.spool.close()
        self.directory.cleanup()

    def new_records(self, sizes: list[int]) -> list[tuple[int, bytes, float]]:
        records = []
        for size in sizes:
            self.count += 1
            records.append((self.count, b"%d" % self.count + b"." * size, self.clock.now))
        return records

    def held(self) -> int:
        return sum(len(data) for _, data, _ in self.waiting + self.taken)

    def limit(self) -> None:
        while self.waiting and (
            self.waiting[0][2] < self.clock.now - self.max_age or self.held() > self.max_bytes
        ):
            number = self.waiting.pop(0)[0]
            self.dropped += 1
            self.dropped_keys.append(self.keys[number])

    @rule(seconds=st.floats(0.1, 8))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(sizes=st.lists(st.integers(0, 30), max_size=6), as_taken=st.booleans())
    def append(self, sizes: list[int], as_taken: bool) -> None:
        records = self.new_records(sizes)
        keys = self.spool.append([data for _, data, _ in records], taken=as_taken)
        room = self.max_bytes - sum(len(data) for _, data, _ in self.taken)
        for record, key in zip(records, keys, strict=True):
            fits = len(record[1]) <= room
            assert (key is not None) == fits
            if key is not None:
                room -= len(record[1])
                self.keys[record[0]] = key
                (self.taken if as_taken else self.waiting).append(record)
        self.limit()

    @rule(max_records=st.integers(0, 5), max_bytes=st.integers(0, 60))
    def take(self, max_records: int, max_bytes: int) -> None:
        batch = self.spool.take(max_records, max_bytes)
        self.limit()
        expected: list[tuple[int, bytes, float]] = []
        while self.waiting and len(expected) < max_records:
            if expected and sum(len(each[1]) for each in [*expected, self.waiting[0]]) > max_bytes:
                break
            expected.append(self.waiting.pop(0))
        assert [data for _, data in batch] == [data for _, data, _ in expected]
        for (key, _), (number, _, _) in zip(batch, expected, strict=True):
            assert self.keys.setdefault(number, key) == key
        self.taken = sorted(self.taken + expected)

    def some_taken(self, data: st.DataObject) -> list[tuple[int, bytes, float]]:
        chosen = data.draw(st.sets(st.sampled_from(range(len(self.taken))))) if self.taken else set()
        some = [self.taken[index] for index in sorted(chosen)]
        self.taken = [record for record in self.taken if record not in some]
        return some

    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        self.spool.done([self.keys[number] for number, _, _ in self.some_taken(data)])

    @rule(data=st.data())
    def put_back(self, data: st.DataObject) -> None:
        back = self.some_taken(data)
        self.spool.put_back([self.keys[number] for number, _, _ in back])
        self.waiting = sorted(self.waiting + back)
        self.limit()

    @rule()
    def reopen(self) -> None:
        self.spool.close()
        self.waiting, self.taken = sorted(self.waiting + self.taken), []
        report = self.spool.open()
        assert report.records == report.returned == len(self.waiting)
        self.limit()

    @invariant()
    def counts_agree(self) -> None:
        stats = self.spool.stats()
        assert stats.records == len(self.waiting) + len(self.taken)
        assert stats.taken == len(self.taken)
        assert stats.bytes == self.held() <= self.max_bytes
        assert sum(stats.dropped.values()) == self.dropped
        assert self.told.keys == self.dropped_keys


class NeighbourMachine(SpoolMachine):
    """The same, with owners beside it that come and go."""

    max_bytes = 1 << 20
    max_age = 1e9

    @rule(sizes=st.lists(st.integers(0, 30), min_size=1, max_size=4))
    def take_over(self, sizes: list[int]) -> None:
        neighbour = self.make()
        assert neighbour.open() == RecoveryReport()
        self.clock.now += 0.001
        records = self.new_records(sizes)
        neighbour.append([data for _, data, _ in records], taken=False)
        neighbour.close()
        self.clock.now += 0.001
        assert self.spool.adopt().records == len(records)
        self.waiting = sorted(self.waiting + records)

    @rule(sizes=st.lists(st.integers(0, 30), min_size=1, max_size=4), as_taken=st.booleans())
    def append(self, sizes: list[int], as_taken: bool) -> None:
        self.clock.now += 0.001
        super().append(sizes, as_taken)


# Every step waits for the disk, and a disk that others use too may be slow.
TestSpoolAgainstAList = pytest.mark.timeout(120)(SpoolMachine.TestCase)
TestSpoolAgainstAList.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestSpoolWithNeighbours = pytest.mark.timeout(120)(NeighbourMachine.TestCase)
TestSpoolWithNeighbours.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
