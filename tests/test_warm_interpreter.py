"""The warm interpreter: what happens to one program is not told of the next."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from threading import Timer

import pytest

from tests.warm_interpreter import run_warm


class Interrupted(BaseException):
    pass


def interrupt(*_: object) -> None:
    raise Interrupted


def test_a_program_after_an_interrupted_one_has_its_own_status(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGUSR1, interrupt)
    timer = Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        with pytest.raises(Interrupted):
            run_warm("import time; time.sleep(60)", cwd=tmp_path, env=dict(os.environ), timeout=60)
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
    ended = run_warm("raise SystemExit(3)", cwd=tmp_path, env=dict(os.environ), timeout=15)
    assert ended.returncode == 3
