"""G6 and G15: what a child of `multiprocessing` has recorded is delivered when it ends, without exit handlers."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.processes import run_program
from tests.thorough import examples

# A child that is not forked imports everything anew, which takes long on a busy machine.
pytestmark = pytest.mark.timeout(90)

# A module, because a spawned child has to find its function by name.
MODULE = '''
import asyncio, concurrent.futures, multiprocessing, os, sys, threading, time
from nat_observability import *

out = os.environ["TEST_OUT"]

def note(batch):
    """A sink that has delivered when the line is in the file, whatever becomes of the process."""
    time.sleep(0.02)
    fd = os.open(out, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, b"".join(b"%d %s\\n" % (os.getpid(), item.name.encode()) for item in batch))
    os.close(fd)

spool = os.environ.get("TEST_SPOOL")
limits = DeliveryLimits(spool="always", spool_path=spool) if spool else DeliveryLimits()
exporter = SpanExporter(note, name="e", limits=limits)
exporters = {"e": exporter}

async def record(*names):
    async with ExporterManager.from_exporters(exporters).start(ContextState()):
        for name in names:
            with step("tool", name):
                pass

def one_run(name):
    asyncio.run(record(name))

def with_a_runtime(name):
    async def main():
        await ObservabilityRuntime(exporters).init()
        await record(name)
    asyncio.run(main())

def exits(name):
    one_run(name)
    sys.exit(0)

def fails(name):
    one_run(name)
    raise ValueError(name)

def in_a_thread_that_goes_on(name):
    def work():
        threading.main_thread().join()  # which ends after the finalizers were called
        one_run(name)
    threading.Thread(target=work).start()

def hangs(name):
    stuck = SpanExporter(lambda batch: time.sleep(1000), name="stuck", limits=DeliveryLimits(drain_timeout=0.3))
    exporters["stuck"] = stuck
    one_run(name)

def nested(name):
    one_run(name)
    child = context().Process(target=one_run, args=(f"{name}-child",))
    child.start()
    child.join()
    one_run(f"{name}-again")

def context():
    return multiprocessing.get_context(os.environ["TEST_METHOD"])

def run_children(target, count=10, **more):
    children = [context().Process(target=target, args=(f"c{number}",), **more) for number in range(count)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    return [child.exitcode for child in children]
'''

ALL_METHODS = ["spawn", "forkserver", "fork"] if sys.platform != "win32" else ["spawn"]
# A forked child has no imports to repeat, so it is fast enough to run each time.
METHODS = [
    pytest.param(method, marks=pytest.mark.slow) if method != "fork" else method for method in ALL_METHODS
]


class Children:
    """Runs programs whose children do what `MODULE` has."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._out = folder / "out.txt"
        self._environment = monkeypatch
        (folder / "children.py").write_text(MODULE)
        monkeypatch.setenv("TEST_OUT", str(self._out))
        monkeypatch.setenv("PYTHONPATH", str(folder))

    def run(self, method: str, code: str) -> str:
        """Run the program with everything in the module; return what it wrote to stderr."""
        self._environment.setenv("TEST_METHOD", method)
        return run_program(f"from children import *\n{code}", timeout=80, measured=False, fresh=True).stderr

    def delivered(self) -> Counter[str]:
        """How often each name was delivered."""
        lines = self._out.read_text().splitlines() if self._out.exists() else []
        return Counter(line.split()[1] for line in lines)


@pytest.fixture
def children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Children:
    return Children(tmp_path, monkeypatch)


def once(*names: str) -> Counter[str]:
    return Counter(names)


TEN = [f"c{number}" for number in range(10)]


@pytest.mark.parametrize("method", ALL_METHODS)
def test_g6_what_a_child_has_recorded_is_delivered(children: Children, method: str) -> None:
    """Children with a run each, whose function returns at once: ten of ten."""
    # A spawned child imports everything anew, which takes longer than all else here.
    count = examples(3, thoroughly=10) if method == "spawn" else 10
    stderr = children.run(method, f"assert run_children(one_run, {count}) == [0] * {count}")
    assert children.delivered() == once(*TEN[:count])
    assert stderr == ""


@pytest.mark.parametrize("method", METHODS)
def test_g6_a_child_of_a_parent_with_open_exporters_delivers_its_own(children: Children, method: str) -> None:
    """The parent's steps are delivered by the parent alone, and once, though a thread makes children in the middle."""
    children.run(
        method,
        """
async def main():
    async with ObservabilityRuntime(exporters):
        async with ExporterManager.from_exporters(exporters).start(ContextState()):
            with step("tool", "before"):
                pass
            codes = []
            # Not with asyncio.to_thread: Python waits in the child for that thread itself.
            forks = threading.Thread(target=lambda: codes.extend(run_children(one_run, 5)))
            forks.start()
            while forks.is_alive():
                await asyncio.sleep(0.01)
            assert codes == [0] * 5, codes
            with step("tool", "after"):
                pass

asyncio.run(main())
""",
    )
    assert children.delivered() == once("before", "after", *TEN[:5])


ENDINGS = [
    "with_a_runtime",
    "exits",
    "fails",
    pytest.param(
        "in_a_thread_that_goes_on",
        marks=pytest.mark.skipif(
            (3, 12) <= sys.version_info < (3, 12, 2),
            reason="these start no thread when the main thread has ended (gh-113964)",
        ),
    ),
]


@pytest.mark.parametrize("target", ENDINGS)
@pytest.mark.parametrize("method", METHODS)
def test_g6_however_a_child_ends_its_run_is_delivered(children: Children, method: str, target: str) -> None:
    """By an exit, an error, with a runtime that was not shut down, or in a thread that outlives the function."""
    code = 1 if target == "fails" else 0
    stderr = children.run(method, f"assert run_children({target}, 3) == [{code}] * 3")
    assert children.delivered() == once(*TEN[:3])
    assert stderr.count("runtime_not_shut_down exporters=['e']") == (3 if target == "with_a_runtime" else 0)


@pytest.mark.parametrize("method", METHODS)
def test_g6_the_child_of_a_child_delivers_its_own(children: Children, method: str) -> None:
    """Each process delivers what was recorded in it, once, before and after its own child."""
    children.run(method, "assert run_children(nested, 2) == [0] * 2")
    assert children.delivered() == once(*(f"c{n}{x}" for n in range(2) for x in ("", "-child", "-again")))


@pytest.mark.parametrize("method", METHODS)
def test_g6_a_daemonic_child_that_ends_by_itself_delivers(children: Children, method: str) -> None:
    """It is killed only if the parent ends first."""
    children.run(method, "assert run_children(one_run, 3, daemon=True) == [0] * 3")
    assert children.delivered() == once(*TEN[:3])


@pytest.mark.parametrize("method", METHODS)
def test_g6_the_workers_of_pools_deliver_when_they_are_closed(children: Children, method: str) -> None:
    """A pool that was closed and joined, and an executor, let their workers end."""
    children.run(
        method,
        f"""
with context().Pool(2) as pool:
    pool.map(one_run, {TEN[:5]})
    pool.close()
    pool.join()
with concurrent.futures.ProcessPoolExecutor(2, mp_context=context()) as pool:
    list(pool.map(one_run, {TEN[5:]}))
""",
    )
    assert children.delivered() == once(*TEN)


@pytest.mark.parametrize("method", METHODS)
def test_g6_what_a_child_has_on_disk_is_delivered_once(
    children: Children, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `spool=always` too the child delivers before it ends, and leaves nothing for others to deliver again."""
    monkeypatch.setenv("TEST_SPOOL", str(tmp_path / "spool"))
    children.run(method, "assert run_children(one_run, 5) == [0] * 5\none_run('parent')")
    assert children.delivered() == once("parent", *TEN[:5])


@pytest.mark.skipif("fork" not in ALL_METHODS, reason="needs a fork")
def test_g20_what_a_child_records_in_its_parents_run_is_reported_as_dropped(children: Children) -> None:
    """The run is the parent's, which delivers its own steps; a forked child reports what it drops."""
    stderr = children.run(
        "fork",
        """
def inherits(name):
    for number in range(3):
        with step("tool", f"{name}-{number}"):
            pass

async def main():
    async with ExporterManager.from_exporters(exporters).start(ContextState()):
        with step("tool", "parent"):
            pass
        assert run_children(inherits, 1) == [0]

asyncio.run(main())
""",
    )
    assert children.delivered() == once("parent")
    # The first at once, and those that the half-minute limit held back when the child ends.
    named = re.search(r"\['[0-9a-f-]{36}'\]", stderr)
    assert named, stderr
    run = named.group()
    assert stderr.splitlines() == [
        f"delivery_dropped exporter=e items=1 reasons={{'closed': 1}} runs={run} dropped={{'closed': 1}}",
        f"delivery_dropped exporter=e items=2 reasons={{'closed': 2}} runs={run} dropped={{'closed': 3}}",
        "delivery_lost_in_all exporter=e items=3 reasons={'closed': 3}",
    ]


@pytest.mark.parametrize("method", METHODS)
def test_g15_a_child_whose_back_end_hangs_ends_by_its_deadline(children: Children, method: str) -> None:
    """The deadline is that of an exit, and the losses are logged."""
    stderr = children.run(method, "assert run_children(hangs, 1) == [0]")
    assert "exporter_abandoned exporter=stuck lost=1" in stderr
    assert children.delivered() == once("c0")


def test_multiprocessing_is_not_imported_for_those_who_do_not_use_it(children: Children) -> None:
    """The hook for a child's end is installed only in a process that `multiprocessing` has started."""
    run_program("""
        import asyncio, sys
        from nat_observability import *

        exporters = {"e": SpanExporter(lambda batch: None, name="e")}

        async def main():
            async with ExporterManager.from_exporters(exporters).start(ContextState()):
                with step("tool", "a"):
                    pass

        before = {name for name in sys.modules if name.startswith("multiprocessing")}
        asyncio.run(main())
        assert {name for name in sys.modules if name.startswith("multiprocessing")} == before
        """)
