"""What every test is checked for is itself seen to fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LEAKING = """
import asyncio
import threading
import time

import pytest
from nat_observability import BaseExporter, ContextState, ExporterManager, step

kept = []


async def test_task():
    kept.append(asyncio.create_task(asyncio.sleep(100)))


def test_thread():
    threading.Thread(target=kept.append(event := threading.Event()) or event.wait, daemon=True).start()


def test_subscription():
    kept.append(ContextState())
    kept[-1].stream.subscribe("key", print)


def test_unheard_error():
    async def fail():
        raise ValueError

    async def main():
        task = asyncio.create_task(fail())
        await asyncio.sleep(0)

    asyncio.run(main())


@pytest.mark.parametrize("way", ["start", "export"])
async def test_blocking(way):
    class Blocking(BaseExporter):
        def start(self):
            if way == "start":
                time.sleep(0.001)
            return super().start()

        def export(self, event):
            time.sleep(0.001)

    manager = ExporterManager()
    manager.add_exporter("blocking", Blocking())
    async with manager.start(ContextState()):
        with step("tool", "blocked"):
            pass


async def test_good():
    await asyncio.to_thread(time.sleep, 0.001)
"""


@pytest.mark.timeout(60)  # a whole session of pytest, with what it imports
def test_leaks_and_blocking_calls_fail(tmp_path: Path) -> None:
    """A task, a thread, a subscription and an unheard error that are left, and a blocking call, fail their test."""
    file = tmp_path / "test_leaking.py"
    file.write_text(LEAKING)
    root = Path(__file__).parents[1]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.conftest",
        "-p",
        "no:cacheprovider",
        "-o",
        "observability_leak_wait=0.05",
        "-q",
        "--tb=no",
        "--show-capture=no",
        "--no-header",
    ]
    ran = subprocess.run(
        [*command, "-n", "0", "-c", str(root / "pyproject.toml"), "--rootdir", str(tmp_path), str(file)],
        capture_output=True,
        text=True,
        check=False,
        cwd=root,
    )
    summary = [line for line in ran.stdout.splitlines() if line.startswith(("ERROR ", "FAILED "))]
    failed = {line.split(" - ")[0].rpartition("::")[2] for line in summary}
    assert failed == {
        "test_task",
        "test_thread",
        "test_subscription",
        "test_unheard_error",
        "test_blocking[start]",
        "test_blocking[export]",
    }, ran.stdout
