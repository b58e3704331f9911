"""Locks on files, where there is no `flock`."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import types
from pathlib import Path

import pytest

from nat_observability.system import disk


class Locks:
    """Stands in for `msvcrt`: refuses the lock as often as it is told, as Windows does while another process has it."""

    LK_UNLCK, LK_NBLCK = 0, 2

    def __init__(self, *refusals: int) -> None:
        self.refusals = list(refusals)
        self.calls: list[tuple[int, int]] = []

    def locking(self, fd: int, mode: int, size: int) -> None:
        """Lock or unlock `size` bytes from the position of the file."""
        assert os.lseek(fd, 0, os.SEEK_CUR) == 0
        self.calls.append((mode, size))
        if mode == self.LK_NBLCK and self.refusals:
            raise OSError(self.refusals.pop(0), "refused")


@pytest.fixture(autouse=True)
def _no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "HAS_FLOCK", False)
    monkeypatch.setattr(disk, "fcntl", None)


def test_the_lock_is_on_a_file_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for, in a private folder that is made for it, and released however the block ends."""
    locks = Locks(errno.EACCES, errno.EDEADLK)
    monkeypatch.setitem(sys.modules, "msvcrt", locks)
    path = tmp_path / "new" / "trace.jsonl"
    with contextlib.suppress(KeyError), disk.lock_beside(str(path)):
        assert locks.calls == [(2, 1)] * 3
        raise KeyError
    assert locks.calls == [(2, 1)] * 3 + [(0, 1)]
    assert [each.name for each in path.parent.iterdir()] == ["trace.jsonl.lock"]
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_lock_that_cannot_be_had_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a lock that another process has is waited for; nothing is unlocked that was not locked."""
    locks = Locks(errno.EINVAL)
    monkeypatch.setitem(sys.modules, "msvcrt", locks)
    with pytest.raises(OSError, match="refused"), disk.lock_beside(str(tmp_path / "trace.jsonl")):
        pytest.fail("entered")
    assert locks.calls == [(2, 1)]


def test_without_either_kind_of_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The block runs, and no file is made."""
    monkeypatch.setitem(sys.modules, "msvcrt", None)
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        disk.lock(fd)
        with disk.lock_beside(str(tmp_path / "trace.jsonl")):
            pass
        disk.unlock(fd)
    finally:
        os.close(fd)
    assert list(tmp_path.iterdir()) == []


def test_reading_at_an_offset_without_pread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bytes as with it."""
    path = tmp_path / "data"
    path.write_bytes(b"0123456789")
    fd = os.open(path, os.O_RDONLY)
    try:
        expected = disk.read_at(fd, 3, 4)
        without = types.SimpleNamespace(lseek=os.lseek, read=os.read, SEEK_SET=os.SEEK_SET)
        monkeypatch.setattr(disk, "os", without)
        assert disk.read_at(fd, 3, 4) == expected == b"456"
        assert disk.read_at(fd, 30, 8) == b"89"
    finally:
        os.close(fd)
