"""Spool on bad disks: damaged files are set aside and salvaged, and a disk that refuses is a clear error."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
import structlog

from nat_observability.errors import SinkError
from nat_observability.logs import get_logger
from nat_observability.spool.recovery import take_over
from nat_observability.spool.spool import Spool
from tests.sinks.builders import run_python

_NAME = "spool-20260101T000000000000-1-00000000.sqlite3"


def make_spool(directory: Path) -> Spool:
    return Spool(directory, exporter="main", max_bytes=1 << 30)


def taken(spool: Spool) -> list[bytes]:
    return [data for _, data in spool.take(1 << 20, 1 << 40)]


def leave_behind(directory: Path, first: int, last: int, size: int = 0) -> Path:
    """Let a process append records with these numbers, one at a time, and be killed; return its file."""
    before = set(directory.glob("*.sqlite3"))
    code = """
import os, sys
from nat_observability.spool.spool import Spool
directory, first, last, size = sys.argv[1], *map(int, sys.argv[2:])
spool = Spool(directory, exporter="main", max_bytes=1 << 30)
spool.open()
for number in range(first, last):
    spool.append([b"%d" % number + b"." * size], taken=False)
os.kill(os.getpid(), 9)
"""
    run_python(code, directory, first, last, size, returncode=-9)
    [path] = set(directory.glob("*.sqlite3")) - before
    return path


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def checkpoint(path: Path) -> None:
    """Checkpoint the log into the file."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def aside_of(path: Path) -> Path:
    [aside] = path.parent.glob(f"{path.name}.corrupt-*[0-9]")
    return aside


# What is found on opening


def test_a_foreign_file_is_set_aside(tmp_path: Path) -> None:
    """A file that is not a database is renamed, with a warning, and kept; the spool goes on with the others."""
    leave_behind(tmp_path, 0, 3)
    (tmp_path / _NAME).write_bytes(b"no database" * 1000)
    with structlog.testing.capture_logs() as logs, make_spool(tmp_path) as spool:
        assert taken(spool) == [b"0", b"1", b"2"]
        assert not (tmp_path / _NAME).exists()
    [line] = [line for line in logs if line["event"] == "spool_set_aside"]
    assert (line["log_level"], line["exporter"], line["path"]) == ("warning", "main", str(tmp_path / _NAME))
    assert Path(line["moved_to"]).read_bytes() == b"no database" * 1000
    assert "not a database" in line["problem"]


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("CREATE TABLE users (name TEXT)", id="another program's"),
        pytest.param(f"PRAGMA application_id = {int.from_bytes(b'NaSp')}", id="without tables"),
        pytest.param(
            f"PRAGMA application_id = {int.from_bytes(b'NaSp')}; CREATE TABLE records (a); CREATE TABLE rejected (b)",
            id="with other columns",
        ),
    ],
)
def test_a_database_that_is_not_a_spools_is_set_aside(tmp_path: Path, script: str) -> None:
    """A database with other tables than a spool's is renamed and otherwise untouched."""
    with closing(sqlite3.connect(tmp_path / _NAME)) as connection:
        connection.executescript(script)
    with structlog.testing.capture_logs() as logs, make_spool(tmp_path) as spool:
        spool.append([b"1"], taken=False)
        assert taken(spool) == [b"1"]
    assert [line["event"] for line in logs] == ["spool_set_aside"]
    aside = aside_of(tmp_path / _NAME)
    with closing(sqlite3.connect(aside)) as connection:
        connection.execute("SELECT * FROM sqlite_master").fetchall()


@pytest.mark.parametrize("kind", ["directory", "pipe", "dangling link"])
def test_anything_but_a_file_is_set_aside(tmp_path: Path, kind: str) -> None:
    """A directory, a pipe or a link to nowhere under the name of a spool file does not stop the spool."""
    path = tmp_path / _NAME
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "nowhere")
    with make_spool(tmp_path) as spool:
        spool.append([b"1"], taken=False)
    assert not os.path.lexists(path)
    assert os.path.lexists(next(tmp_path.glob("*.corrupt-*")))


def test_what_has_gone_meanwhile_is_nothing(tmp_path: Path) -> None:
    """Another process was faster."""
    assert take_over(tmp_path / _NAME, 1, get_logger()) == (None, None)


def test_what_cannot_even_be_looked_at_is_a_clear_error(tmp_path: Path) -> None:
    """The error names the path."""
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="cannot be opened") as raised:
        take_over(tmp_path / "file" / _NAME, 1, get_logger())
    assert str(tmp_path / "file" / _NAME) in str(raised.value)


def test_an_empty_file_is_cleared_away(tmp_path: Path) -> None:
    """A file whose owner died while it was created holds nothing: it is deleted without a word."""
    (tmp_path / _NAME).touch()
    with structlog.testing.capture_logs() as logs, make_spool(tmp_path) as spool:
        assert taken(spool) == []
    assert logs == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("part", [0, 1, 20, 31, 32, 33, 1000, 4200, 10_000, 30_000])
def test_of_a_truncated_log_the_beginning_counts(tmp_path: Path, part: int) -> None:
    """If the log was cut (a power cut, a full disk), what was committed before is given out."""
    path = leave_behind(tmp_path, 0, 20)
    os.truncate(f"{path}-wal", part)
    with make_spool(tmp_path) as spool:
        found = taken(spool)
        assert found == [b"%d" % number for number in range(len(found))]
        assert len(found) < 20
        spool.append([b"new"], taken=False)
        assert taken(spool) == [b"new"]


def test_a_lost_log_loses_what_was_in_it(tmp_path: Path) -> None:
    """Without its log, a file is what it was at the last checkpoint, and still a spool's."""
    path = leave_behind(tmp_path, 0, 20)
    os.unlink(f"{path}-wal")
    with structlog.testing.capture_logs() as logs, make_spool(tmp_path) as spool:
        assert taken(spool) == []
    assert logs == []


def test_a_newer_versions_file_is_left_alone(tmp_path: Path) -> None:
    """A file that this version cannot read is skipped with one warning, for a newer version to deliver."""
    path = leave_behind(tmp_path, 0, 3)
    checkpoint(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    content = path.read_bytes()
    with structlog.testing.capture_logs() as logs, make_spool(tmp_path) as spool:
        spool.adopt()
        assert taken(spool) == []
    [line] = logs
    assert (line["event"], line["path"]) == ("spool_skipped", str(path))
    assert "version 99" in line["problem"]
    assert path.read_bytes() == content


def test_of_a_damaged_file_the_rest_is_salvaged(tmp_path: Path) -> None:
    """If pages in the middle of a file are garbage, the records before and after them are given out."""
    path = leave_behind(tmp_path, 0, 200, size=1000)
    checkpoint(path)
    overwrite(path, 4096 * 20, os.urandom(4096 * 3))
    content = path.read_bytes()
    with structlog.testing.capture_logs() as logs, make_spool(tmp_path) as spool:
        found = [int(data.rstrip(b".")) for data in taken(spool)]
        assert found == sorted(set(found))
        assert 150 < len(found) < 200
        assert found[0] == 0
        assert found[-1] == 199
        report_lines = [line for line in logs if line["event"] == "spool_recovered"]
        assert report_lines[0]["records"] == len(found)
    [line] = [line for line in logs if line["event"] == "spool_set_aside"]
    assert line["salvaged"] == len(found)
    assert aside_of(path).read_bytes() == content


def test_a_schema_that_is_not_text_is_damage(tmp_path: Path) -> None:
    """Python cannot decode SQLite's message about it; the file is set aside like any other."""
    path = leave_behind(tmp_path, 0, 3)
    checkpoint(path)
    path.write_bytes(path.read_bytes().replace(b"tablerecordsrecords", b"tablerecord\xffrecord\xfe"))
    with make_spool(tmp_path) as spool:
        spool.append([b"new"], taken=False)
        assert taken(spool)[-1] == b"new"
    assert aside_of(path).exists()


@pytest.mark.parametrize("seed", range(12))
def test_garbage_anywhere_is_survived(tmp_path: Path, seed: int) -> None:
    """Wherever a file was overwritten, the spool opens, works, and gives out no record twice."""
    path = leave_behind(tmp_path, 0, 60, size=3000 if seed % 2 else 30)
    checkpoint(path)
    size = path.stat().st_size
    overwrite(path, size * seed // 12, bytes([seed]) * (size // 12))
    with make_spool(tmp_path) as spool:
        spool.append([b"new"], taken=False)
        found = taken(spool)
        assert found[-1] == b"new"
        assert len(found) == len(set(found))
    with make_spool(tmp_path) as spool:
        assert taken(spool) == found


# What happens while it is open


class Dropped:
    """Notes the keys that a spool says it dropped."""

    def __init__(self) -> None:
        self.keys: list[int] = []

    def __call__(self, keys: Sequence[int], reason: str) -> None:
        assert reason == "spool_damaged"
        self.keys += keys


def test_damage_under_an_open_spool_is_survived(tmp_path: Path) -> None:
    """A file that is damaged while it is used is replaced; every record is given out or counted, under its key."""
    dropped = Dropped()
    spool = Spool(tmp_path, exporter="main", max_bytes=1 << 30, on_drop=dropped)
    spool.open()
    stored = [key for _ in range(60) for key in spool.append([os.urandom(100_000)] * 2, taken=True)]
    keys = [key for key in stored if key is not None]
    taken_keys, waiting = keys[50:70], keys[:50] + keys[70:]
    spool.put_back(waiting)
    [path] = tmp_path.glob("*.sqlite3")
    size = path.stat().st_size
    overwrite(path, size // 4, bytes(size // 2))
    with structlog.testing.capture_logs() as logs:
        found = [key for key, _ in spool.take(1000, 1 << 30)]
    assert [line["event"] for line in logs] == ["spool_set_aside"]
    assert 0 < len(dropped.keys) < len(waiting)
    assert sorted(found + dropped.keys) == waiting

    # Of those that were taken, the lost ones are counted when they are put back, and not when they are done.
    spool.done(taken_keys[:5])
    spool.put_back(taken_keys)
    found += [key for key, _ in spool.take(1000, 1 << 30)]
    assert sorted([*found, *dropped.keys, *taken_keys[:5]]) == keys
    assert len(set(dropped.keys) & set(taken_keys)) > 5
    assert spool.stats().dropped == {"spool_damaged": len(dropped.keys)}
    assert spool.append([b"new"], taken=False) != [None]
    spool.close()


def test_a_spool_whose_directory_is_deleted_makes_a_new_one(tmp_path: Path) -> None:
    """Records that waited in a deleted directory are on the disk again after the next append, and keep their keys."""
    spool = make_spool(tmp_path / "spool")
    spool.open()
    [taken_key] = spool.append([b"taken"], taken=True)
    spool.append([b"waits"], taken=False)
    shutil.rmtree(tmp_path / "spool")
    spool.append([b"new"], taken=False)
    spool.done([taken_key])
    spool.close()
    with make_spool(tmp_path / "spool") as spool:
        assert taken(spool) == [b"waits", b"new"]


@pytest.mark.parametrize("how", ["deleted", "moved", "copied"])
@pytest.mark.parametrize("call", ["close", "adopt"])
def test_a_spool_whose_directory_is_gone_at_the_end_leaves_everything_behind(
    how: str, call: str, tmp_path: Path
) -> None:
    """Without another append: what waits and what is taken are on the disk again, under the name of their exporter."""
    directory = tmp_path / "spool"
    with make_spool(directory) as former:
        former.append([b"former"], taken=False)
    spool = make_spool(directory)
    spool.open()
    spool.append([b"taken"], taken=True)
    spool.append([b"waits"], taken=False)
    if how != "deleted":
        directory.rename(tmp_path / "elsewhere")
    if how == "copied":  # as to another disk, with a link in its place
        shutil.copytree(tmp_path / "elsewhere", directory)
    if how == "deleted":
        shutil.rmtree(directory)
    with structlog.testing.capture_logs() as logs:
        spool.adopt() if call == "adopt" else spool.close()
    assert [(line["event"], line["lost"]) for line in logs] == [("spool_set_aside", 0)]
    spool.close()
    with pytest.raises(SinkError, match="is the spool of exporter 'main'"):
        Spool(directory, exporter="other", max_bytes=1 << 30).open()
    with make_spool(directory) as spool:
        assert taken(spool) == [b"former", b"taken", b"waits"]


def test_what_a_spool_cannot_leave_behind_is_dropped_and_named(tmp_path: Path) -> None:
    """A file is where its directory was: each record is counted, and those of this process are named."""
    dropped = Dropped()
    directory = tmp_path / "spool"
    with make_spool(directory) as former:
        former.append([b"former"], taken=False)
    spool = Spool(directory, exporter="main", max_bytes=1 << 30, on_drop=dropped)
    spool.open()
    keys = spool.append([b"taken", b"done"], taken=True) + spool.append([b"waits"], taken=False)
    spool.done(keys[1:2])
    shutil.rmtree(directory)
    directory.write_text("in the way")
    spool.adopt()
    assert spool.dropped == {}  # it may be put right yet
    spool.close()
    assert spool.dropped == {"spool_damaged": 3}
    assert sorted(dropped.keys) == [keys[0], keys[2]]


def test_what_was_taken_and_damaged_and_is_not_put_back_is_dropped_at_the_end(tmp_path: Path) -> None:
    """It was in memory, to be sent, and is neither there nor on the disk when the spool has closed."""
    dropped = Dropped()
    spool = Spool(tmp_path, exporter="main", max_bytes=1 << 30, on_drop=dropped)
    spool.open()
    keys = [spool.append([os.urandom(100_000)], taken=True)[0] for _ in range(100)]
    spool.put_back(keys[:40] + keys[60:])
    [path] = tmp_path.glob("*.sqlite3")
    size = path.stat().st_size
    overwrite(path, size // 4, bytes(size // 2))
    spool.take(1000, 1 << 30)
    told = len(dropped.keys)
    lost = len(keys) - told - spool.stats().records
    assert lost > 5
    spool.close()
    assert len(set(dropped.keys)) == told + lost
    assert spool.dropped == {"spool_damaged": told + lost}


def test_a_rejected_record_is_kept_and_not_given_out_again(tmp_path: Path) -> None:
    """A record that cannot be decoded is counted, set aside when its file is empty, and can be inspected there."""
    spool = make_spool(tmp_path)
    spool.open()
    keys = spool.append([b"good", b"bad"], taken=True)
    spool.reject(keys[1:])
    spool.put_back(keys)
    assert taken(spool) == [b"good"]
    assert spool.stats().dropped == {"spool_rejected": 1}
    spool.done(keys)
    spool.close()
    [aside] = tmp_path.iterdir()
    assert ".sqlite3.rejected-" in aside.name
    with closing(sqlite3.connect(aside)) as connection:
        assert connection.execute("SELECT data FROM rejected").fetchall() == [(b"bad",)]


# What the system refuses


@pytest.mark.parametrize("below", ["", "spool", "a/b/c"])
def test_a_file_in_the_way_is_a_clear_error(tmp_path: Path, below: str) -> None:
    """A directory that cannot be made, because a file has its name or a parent's, is an error at open."""
    file = tmp_path / "file"
    file.touch()
    spool = make_spool(file / below)
    with pytest.raises(SinkError, match=r"cannot be used for the spool: .*a file is in the way") as caught:
        spool.open()
    assert caught.value.where == str(file / below)
    file.unlink()
    spool.open()
    spool.close()


def in_tmpfs(options: str, code: str, directory: Path) -> None:
    """Run Python code in a process that sees a small file system of its own at `directory`."""
    enter = ["unshare", "--mount", "--map-root-user"]
    mount = f'mount -t tmpfs -o {options} tmpfs "$1" && exec "$2" -c "$3" "$1"'
    if subprocess.run([*enter, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs unshare(1) and the right to mount")
    arguments = [*enter, "sh", "-c", mount, "sh", str(directory), sys.executable, code]
    result = subprocess.run(
        arguments, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "passed\n"


_REFUSED = """
import os, resource, sys
from pathlib import Path
from nat_observability.spool.spool import Spool
from nat_observability.errors import SinkError

def refused(call):
    try:
        call()
    except SinkError as error:
        assert sys.argv[1] in error.where
        return str(error)
    raise AssertionError("nothing was refused")

def taken(spool):
    return [data for _, data in spool.take(1 << 20, 1 << 40)]

directory = Path(sys.argv[1])
spool = Spool(directory, exporter="main", max_bytes=1 << 30)
record = os.urandom(10_000)
"""


def test_a_read_only_disk_is_a_clear_error(tmp_path: Path) -> None:
    """On a disk that cannot be written, open says so, and names a remedy."""
    in_tmpfs("ro", _REFUSED + "assert 'can write' in refused(spool.open); print('passed')", tmp_path)


def test_a_disk_that_is_full_at_open_is_a_clear_error(tmp_path: Path) -> None:
    """If there is no room for even an empty spool, open says so, and leaves nothing behind."""
    code = """
filler = directory / "filler"
try:
    filler.write_bytes(bytes(1 << 22))
except OSError:
    pass
assert "Free space" in refused(spool.open)
assert list(directory.iterdir()) == [filler]
filler.unlink()
spool.open()
spool.close()
print("passed")
"""
    in_tmpfs("size=1m", _REFUSED + code, tmp_path)


# Appends until it is refused, makes room, and goes on. What was refused must be neither there nor missed.
_FULL = """
spool.open()
count = 0
def append(numbers):
    spool.append([b"%d " % number + record for number in numbers], taken=False)

fill()
while True:
    try:
        append(range(count, count + 7))
    except SinkError as error:
        message = str(error)
        break
    count += 7
assert CURE in message, message
assert count > 7

# The spool can be used on as it is: it is read, and what is done is not given out again.
batch = spool.take(5, 1 << 30)
assert [int(data.split()[0]) for _, data in batch] == list(range(5))
spool.done(key for key, _ in batch)
spool.put_back(key for key, _ in batch)
refused(lambda: spool.append([record] * 1000, taken=False))

make_room()
append(range(count, count + 7))
assert [int(data.split()[0]) for data in taken(spool)] == list(range(5, count + 7))
spool.close()
spool.open()
assert [int(data.split()[0]) for data in taken(spool)] == list(range(5, count + 7))
spool.close()
print("passed")
"""


def test_a_full_disk_refuses_an_append_whole(tmp_path: Path) -> None:
    """When the disk is full, an append raises, nothing of it is stored, and the spool works on."""
    code = """
CURE = "Free space"
filler = directory / "filler"
def fill():
    filler.write_bytes(bytes(1 << 20))
make_room = filler.unlink
"""
    in_tmpfs("size=4m", _REFUSED + code + _FULL, tmp_path)


def test_a_limit_on_file_sizes_refuses_an_append_whole(tmp_path: Path) -> None:
    """The same under RLIMIT_FSIZE, which SQLite takes for an error of the disk."""
    code = """
CURE = "ulimit -f"
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
def fill():
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, hard))
def make_room():
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
"""
    assert run_python(_REFUSED + code + _FULL, tmp_path) == "passed\n"


def test_a_disk_that_is_full_still_gives_a_delivered_spool_back(tmp_path: Path) -> None:
    """There is no room to note that its records are erased, but the files with nothing else in them can go."""
    code = """
spool.open()
keys = spool.append([bytes(1000)] * 200, taken=True)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
spool.done(keys)
spool.close()
print(os.listdir(directory))
"""
    assert run_python(_REFUSED + code, tmp_path).splitlines()[-1] == "[]"


def test_what_the_disk_refuses_to_take_over_is_left_as_it_was(tmp_path: Path) -> None:
    """The next attempt gets all that can be read of a damaged file, and nothing half made is left behind."""
    path = leave_behind(tmp_path, 0, 200, size=1000)
    checkpoint(path)
    overwrite(path, 4096 * 20, os.urandom(4096 * 3))
    code = """
from nat_observability.spool.recovery import take_over
from nat_observability.logs import get_logger

[path] = directory.glob("*.sqlite3")
content = path.read_bytes()
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
for limit in (0, 20_000, 100_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    refused(lambda: take_over(path, 1, get_logger()))
    assert (list(directory.glob("*.sqlite3")), path.read_bytes()) == ([path], content)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
spool.open()
print(len(taken(spool)))
spool.close()
"""
    assert 150 < int(run_python(_REFUSED + code, tmp_path).splitlines()[-1]) < 200
