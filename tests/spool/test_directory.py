"""The spool's directory: a mutex with a bounded wait."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest

from nat_observability.spool.directory import alone_in
from nat_observability.spool.spool import Spool


def test_one_at_a_time_is_in_a_directory(tmp_path: Path) -> None:
    """While one looks through the directory, no other gets the mutex; afterwards it is free."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with alone_in(tmp_path), pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)


def test_a_mutex_that_is_never_given_back_stops_no_spool(tmp_path: Path) -> None:
    """A spool opens within a few seconds even if a suspended process holds the mutex."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    begun = time.monotonic()
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with Spool(tmp_path, exporter="main", max_bytes=100) as spool:
            spool.append([b"1"], taken=False)
    finally:
        os.close(descriptor)
    assert time.monotonic() - begun < 5


def test_a_directory_that_is_gone_raises_no_error(tmp_path: Path) -> None:
    """If the directory is gone, the mutex raises no error: the next call will."""
    with alone_in(tmp_path / "gone"):
        pass
