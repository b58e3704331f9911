"""FileSink: whole lines, even if other processes write, roll, die or fill the disk."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat_observability.errors import SinkError
from nat_observability.events import IntermediateStep
from nat_observability.sinks import FileSink
from nat_observability.sinks.protocol import Batch, BlockingSink
from tests.sinks.builders import make_span, make_step, python, run_python, run_together


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.jsonl"


@pytest.fixture
def permissive_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def write(sink: FileSink, *batches: Batch) -> None:
    sink.open()
    try:
        for batch in batches:
            sink.write(batch)
    finally:
        sink.close()


def lines(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    assert data.endswith(b"\n")
    return [json.loads(line) for line in data.split(b"\n")[:-1]]


def ids(*paths: Path) -> list[str]:
    return [line["span_id"] for path in paths for line in lines(path)]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_is_a_blocking_sink() -> None:
    """A delivery calls it on a worker thread."""
    assert isinstance(FileSink("runs.jsonl"), BlockingSink)


def test_an_item_is_a_line_of_json(path: Path) -> None:
    """Each span and each step is one line that names its run; captured JSON is JSON, and text is a string."""
    span = make_span(input=msgspec.Raw('{"city":"Zürich"}'.encode()), output="line\nbreak\u2028", tags=("a",))
    step = make_step()
    write(FileSink(path), [span, step])
    first, second = lines(path)
    assert (first["span_id"], first["run"]["run_id"], first["kind"]) == (span.span_id, "run-1", "FUNCTION")
    assert (first["input"], first["output"], first["tags"]) == (
        {"city": "Zürich"},
        "line\nbreak\u2028",
        ["a"],
    )
    assert msgspec.convert(second, IntermediateStep) == step


def test_a_file_is_appended_to(path: Path) -> None:
    """What is in the file stays, over batches and over open and close."""
    sink, spans = FileSink(path), [make_span() for _ in range(4)]
    write(sink, spans[:1], spans[1:3])
    write(sink, spans[3:])
    assert ids(path) == [span.span_id for span in spans]


def test_json_over_several_lines_becomes_one(path: Path) -> None:
    """Ready-made JSON with line breaks between its tokens still is one line, with the same value."""
    write(
        FileSink(path), [make_span(), make_span(input=msgspec.Raw(b'{\n  "a": [1,\r\n 2]\n}')), make_span()]
    )
    assert lines(path)[1]["input"] == {"a": [1, 2]}
    assert len(lines(path)) == 3


@pytest.mark.usefixtures("permissive_umask")
def test_files_and_directories_are_private(tmp_path: Path) -> None:
    """Created files are 0600 and directories 0700, the rolled and the new ones too, whatever the umask."""
    path = tmp_path / "a" / "b" / "runs.jsonl"
    write(FileSink(path, max_bytes=1), [make_span()], [make_span()])
    assert [mode(each) for each in (tmp_path / "a", tmp_path / "a" / "b")] == [0o700, 0o700]
    assert [mode(each) for each in sorted(path.parent.iterdir())] == [0o600, 0o600]


def test_the_mode_of_an_existing_file_is_left(path: Path) -> None:
    """A file that its owner has opened to others stays so."""
    path.touch()
    path.chmod(0o644)
    write(FileSink(path), [make_span()])
    assert mode(path) == 0o644


def test_the_path_is_that_of_the_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path does not move when the process changes its directory."""
    monkeypatch.chdir(tmp_path)
    sink = FileSink("runs.jsonl")
    monkeypatch.chdir("/")
    write(sink, [make_span()])
    assert len(lines(tmp_path / "runs.jsonl")) == 1


# Rolling


def test_a_full_file_is_rolled(path: Path) -> None:
    """path.1 is the newest backup, and the oldest is deleted."""
    spans = [make_span() for _ in range(5)]
    write(FileSink(path, max_bytes=1, backups=2), *([span] for span in spans))
    assert sorted(each.name for each in path.parent.iterdir()) == [
        "runs.jsonl",
        "runs.jsonl.1",
        "runs.jsonl.2",
    ]
    assert ids(path) == [spans[4].span_id]
    assert ids(Path(f"{path}.1")) == [spans[3].span_id]
    assert ids(Path(f"{path}.2")) == [spans[2].span_id]


def test_a_file_is_full_at_max_bytes(path: Path) -> None:
    """A batch that just fits is not a reason to roll, one byte more is."""
    batch = [make_span()]
    size = len(msgspec.json.encode(batch[0])) + 1
    write(FileSink(path, max_bytes=2 * size), batch, batch)
    assert len(list(path.parent.iterdir())) == 1
    path.unlink()
    write(FileSink(path, max_bytes=2 * size - 1), batch, batch)
    assert len(list(path.parent.iterdir())) == 2


def test_without_backups_a_full_file_is_deleted(path: Path) -> None:
    """With `backups=0` only the current file is kept."""
    spans = [make_span() for _ in range(3)]
    write(FileSink(path, max_bytes=1, backups=0), *([span] for span in spans))
    assert [each.name for each in path.parent.iterdir()] == ["runs.jsonl"]
    assert ids(path) == [spans[2].span_id]


def test_a_large_item_is_written_whole(path: Path) -> None:
    """An item larger than `max_bytes` has a file of its own."""
    large = make_span(input="x" * 5_000)
    write(FileSink(path, max_bytes=1_000), [make_span(), large, make_span()])
    assert ids(Path(f"{path}.1")) == [large.span_id]
    assert [len(lines(each)) for each in (path, Path(f"{path}.2"))] == [1, 1]


def test_a_gap_among_the_backups_is_filled(path: Path) -> None:
    """If a backup was deleted by hand, rolling deletes no other."""
    spans = [make_span() for _ in range(5)]
    sink = FileSink(path, max_bytes=1, backups=3)
    write(sink, *([span] for span in spans[:4]))
    Path(f"{path}.2").unlink()
    write(sink, [spans[4]])
    assert ids(Path(f"{path}.3"), Path(f"{path}.2"), Path(f"{path}.1"), path) == [
        spans[index].span_id for index in (0, 2, 3, 4)
    ]


@given(
    sizes=st.lists(st.lists(st.integers(0, 900), min_size=1, max_size=6), min_size=1, max_size=12),
    max_bytes=st.integers(200, 2_000),
)
def test_rolling_tears_and_loses_no_line(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[list[int]], max_bytes: int
) -> None:
    """Every line is in one file, whole and in order, and no file is too large unless it is a single line."""
    path = tmp_path_factory.mktemp("roll") / "runs.jsonl"
    batches = [[make_span(input="x" * size) for size in batch] for batch in sizes]
    write(FileSink(path, max_bytes=max_bytes, backups=100), *batches)
    files = [Path(f"{path}.{number}") for number in range(len(list(path.parent.iterdir())) - 1, 0, -1)] + [
        path
    ]
    assert ids(*files) == [span.span_id for batch in batches for span in batch]
    for file in files:
        assert file.stat().st_size <= max_bytes or len(lines(file)) == 1


def test_a_file_rolled_by_another_is_not_rolled_again(path: Path) -> None:
    """A sink that finds its file rolled meanwhile goes on in the new one."""
    batch = [make_span()]
    size = len(msgspec.json.encode(batch[0])) + 1
    one, other = FileSink(path, max_bytes=2 * size), FileSink(path, max_bytes=2 * size)
    one.open()
    other.open()
    one.write(batch)
    one.write(batch)
    other.write(batch)  # rolls
    one.write(batch)
    one.close()
    other.close()
    assert [len(lines(each)) for each in (path, Path(f"{path}.1"))] == [2, 2]


@pytest.mark.parametrize("change", ["move", "delete"])
def test_a_file_moved_or_deleted_by_a_stranger_is_created_again(path: Path, change: str) -> None:
    """logrotate needs no signal and no copytruncate, and its directory may vanish too."""
    path = path.parent / "logs" / "runs.jsonl"
    sink = FileSink(path)
    sink.open()
    sink.write([make_span()])
    if change == "move":
        path.rename(f"{path}.old")
    else:
        path.unlink()
        path.parent.rmdir()
    last = make_span()
    sink.write([last])
    sink.close()
    assert ids(path) == [last.span_id]


# Several processes

APPEND = """
import sys
from nat_observability.sinks import FileSink
from tests.sinks.builders import make_span
path, max_bytes, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
sink = FileSink(path, max_bytes=max_bytes, backups=1000)
sink.open()
print("ready", flush=True)
sys.stdin.readline()
for number in range(60):
    sink.write([make_span(span_id=f"{name}-{number}-{part}", input="x" * (number * 37 % 3000)) for part in range(3)])
sink.close()
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("max_bytes", [100_000_000, 8_000])
def test_processes_append_to_one_file(path: Path, max_bytes: int) -> None:
    """Several processes that append, and roll, tear no line and lose none."""
    run_together(APPEND, path, max_bytes)
    files = list(path.parent.iterdir())
    assert sorted(ids(*files)) == sorted(f"{a}-{n}-{p}" for a in "abcd" for n in range(60) for p in range(3))
    assert len(files) == 1 or max(file.stat().st_size for file in files) <= max_bytes
    # The order of each process is kept within a file.
    for name in "abcd":
        for file in files:
            own = [int(each.split("-")[1]) for each in ids(file) if each.startswith(name)]
            assert own == sorted(own)


def test_a_forked_child_does_not_keep_the_file_locked(path: Path) -> None:
    """A child that was forked while the file was open, and does nothing, blocks no one when the file is rolled."""
    run_python(
        """
import os, signal, sys
from nat_observability.sinks import FileSink
from tests.sinks.builders import make_span
one, other = (FileSink(sys.argv[1], max_bytes=1) for _ in range(2))
one.open()
other.open()
one.write([make_span()])
child = os.fork()
if not child:
    signal.pause()
one.write([make_span()])  # rolls the file whose descriptor the child has too
signal.alarm(5)
other.write([make_span()])  # has that file open, and waits for its lock
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
""",
        path,
    )


def test_a_forked_child_does_not_unlock_the_file(path: Path) -> None:
    """A child that opens the sink while its parent is writing leaves the parent's lock in place."""
    run_python(
        """
import fcntl, os, sys, threading, time
from nat_observability.sinks import FileSink
from tests.sinks.builders import make_span
os.mkfifo(sys.argv[1])  # a file that the write below fills, and then waits for its reader
sink = FileSink(sys.argv[1])
sink.open()
reader = os.open(sys.argv[1], os.O_RDONLY)
threading.Thread(target=sink.write, args=([make_span(input="x" * 100_000)],), daemon=True).start()
os.read(reader, 1)
child = os.fork()
if not child:
    sink.open()
    try:
        fcntl.flock(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os._exit(0)
    os._exit(1)
assert os.waitpid(child, 0)[1] == 0
""",
        path,
    )


def test_a_forked_child_opens_a_file_of_its_own(path: Path) -> None:
    """In a forked worker `open` starts clean, and parent and child append to one file."""
    run_python(
        """
import os, sys
from nat_observability.sinks import FileSink
from tests.sinks.builders import make_span
sink = FileSink(sys.argv[1])
sink.open()
sink.write([make_span()])
child = os.fork()
if not child:
    sink.open()
for _ in range(100):
    sink.write([make_span()])
sink.close()
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
""",
        path,
    )
    assert len(lines(path)) == 201


# What goes wrong


def test_a_torn_last_line_is_ended(path: Path) -> None:
    """After what a dead process left in the middle of a line, the next batch starts on a line of its own."""
    path.write_bytes(b'{"span_id":"whole"}\n{"span_id":"to')
    span = make_span()
    write(FileSink(path), [span])
    assert path.read_bytes().split(b"\n")[:2] == [b'{"span_id":"whole"}', b'{"span_id":"to']
    assert json.loads(path.read_bytes().split(b"\n")[2])["span_id"] == span.span_id


def test_a_line_torn_while_the_file_is_open_is_ended(path: Path) -> None:
    """Another process may die in its write at any time, not only before the sink was opened."""
    sink, span = FileSink(path), make_span()
    sink.open()
    sink.write([make_span()])
    with path.open("ab") as stranger:
        stranger.write(b'{"span_id":"to')
    sink.write([span])
    sink.close()
    assert json.loads(path.read_bytes().split(b"\n")[2])["span_id"] == span.span_id


def test_text_that_is_not_unicode_fails_its_batch_only(path: Path) -> None:
    """A lone surrogate is a clear error, nothing of its batch is written, and the next batch is."""
    sink, last = FileSink(path), make_span()
    sink.open()
    with pytest.raises(SinkError, match=r"runs\.jsonl: an item of the batch cannot be encoded: .*surrogates"):
        sink.write([make_span(), make_span(name="\ud800")])
    sink.write([last])
    sink.close()
    assert ids(path) == [last.span_id]


def test_the_error_of_an_item_does_not_show_it(path: Path) -> None:
    """The message of the error, which is logged, holds nothing of the payload."""
    sink = FileSink(path)
    sink.open()
    with pytest.raises(SinkError) as caught:
        sink.write([make_span(input="password\ud800")])
    sink.close()
    assert "password" not in str(caught.value)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 KiB, if the test may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a file system")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_takes_the_batch_back(small_disk: Path) -> None:
    """A batch that does not fit on the disk fails whole, leaves no torn line, and can be delivered again later."""
    path, ballast = small_disk / "runs.jsonl", small_disk / "ballast"
    sink, first, second = FileSink(path), make_span(), make_span(input="x" * 30_000)
    ballast.write_bytes(b"x" * 40_000)
    sink.open()
    sink.write([first])
    with pytest.raises(
        SinkError, match=r"runs\.jsonl: cannot be written: No space left on device\. Free space"
    ):
        sink.write([make_span(), second])
    assert ids(path) == [first.span_id]
    ballast.unlink()
    sink.write([second])
    sink.close()
    assert ids(path) == [first.span_id, second.span_id]


def test_a_limit_on_the_size_takes_the_batch_back(path: Path) -> None:
    """The same if the system stops the write in the middle of a line (RLIMIT_FSIZE)."""
    output = run_python(
        """
import resource, sys
from nat_observability.errors import SinkError
from nat_observability.sinks import FileSink
from tests.sinks.builders import make_span
sink = FileSink(sys.argv[1])
sink.open()
sink.write([make_span()])
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
try:
    sink.write([make_span(), make_span(input="x" * 5000)])
except SinkError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
sink.write([make_span()])
sink.close()
""",
        path,
    )
    assert "cannot be written: File too large. Raise the limit" in output
    assert len(lines(path)) == 2


STRANGER = """
import os, signal, sys
stop = False
def end(*_):
    global stop
    stop = True
signal.signal(signal.SIGTERM, end)
fd, count = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND), 0
print("ready", flush=True)
while not stop and count < 500_000:
    os.write(fd, b"stranger %d\\n" % count)
    count += 1
print(count)
"""


def test_what_a_stranger_appended_is_spared(path: Path) -> None:
    """A failed batch is not cut off if a program that takes no lock has written behind it."""
    path.touch()
    with python(STRANGER, path) as stranger:
        assert stranger.stdout is not None
        assert stranger.stdout.readline() == "ready\n"
        run_python(
            """
import os, resource, sys
from nat_observability.errors import SinkError
from nat_observability.sinks import FileSink
from tests.sinks.builders import make_span
sink = FileSink(sys.argv[1])
sink.open()
for _ in range(100):
    # The first part of the batch fits, and the rest does not.
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.stat(sys.argv[1]).st_size + 60_000, resource.RLIM_INFINITY))
    try:
        sink.write([make_span(input="x" * 500_000)])
    except SinkError:
        pass
""",
            path,
        )
        stranger.terminate()
        count = int(stranger.stdout.read())
    # Between the last look and the cut there is a moment that nothing but the lock could guard. How often something
    # falls into it is counted: how much does depends on how long the sink is kept from the processor just then.
    kept = [-1, *map(int, re.findall(rb"stranger (\d+)\n", path.read_bytes())), count]
    assert sum(later - earlier > 1 for earlier, later in pairwise(kept)) < 10


def test_a_device_that_is_always_full_is_a_sink_error() -> None:
    """A path that is not a regular file works as far as it can."""
    sink = FileSink("/dev/full")
    sink.open()
    with pytest.raises(SinkError, match="/dev/full: cannot be written: No space left on device"):
        sink.write([make_span()])
    sink.close()


def test_a_path_below_a_file_is_a_sink_error(path: Path) -> None:
    """A path that cannot exist is named when the sink is opened, with the cure."""
    path.touch()
    with pytest.raises(SinkError, match=r"jsonl/deep/file: cannot be opened: .*choose another path"):
        FileSink(path / "deep" / "file").open()


def test_a_directory_is_a_sink_error(tmp_path: Path) -> None:
    """A directory is not a file, and the cure says so."""
    with pytest.raises(SinkError, match=r"Is a directory\. Give the path of a file"):
        FileSink(tmp_path).open()


def test_a_backup_that_cannot_be_made_is_a_sink_error(path: Path) -> None:
    """If rolling fails, so does the batch, and nothing that was written is lost."""
    first = make_span()
    Path(f"{path}.1").mkdir()
    sink = FileSink(path, max_bytes=1, backups=1)
    sink.open()
    sink.write([first])
    with pytest.raises(SinkError, match="cannot be written: Is a directory"):
        sink.write([make_span()])
    sink.close()
    assert ids(path) == [first.span_id]


def test_write_needs_open(path: Path) -> None:
    """A sink that is not open says so, and creates nothing."""
    with pytest.raises(SinkError, match=r"Call open\(\) before write\(\)"):
        FileSink(path).write([make_span()])
    assert not path.exists()


def test_close_may_be_called_at_any_time(path: Path) -> None:
    """Closing what is not open does nothing."""
    sink = FileSink(path)
    sink.close()
    write(sink, [make_span()])
    sink.close()
    assert len(lines(path)) == 1


@pytest.mark.parametrize(("max_bytes", "backups", "named"), [(0, 5, "max_bytes"), (1, -1, "backups")])
def test_senseless_limits_are_refused(path: Path, max_bytes: int, backups: int, named: str) -> None:
    """A limit that cannot be kept is an error when the sink is made."""
    with pytest.raises(ValueError, match=f"{named} is a "):
        FileSink(path, max_bytes=max_bytes, backups=backups)
