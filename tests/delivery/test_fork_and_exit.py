"""G6 and G15: what has been accepted is delivered however the process ends, and a fork shares nothing."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from tests.processes import run_program
from tests.thorough import examples

# Each takes a second or two, and more on a busy machine.
pytestmark = pytest.mark.timeout(60)

# What every program below begins with. `record(count, *exporters)` is one run of so many steps.
PRELUDE = '''
import asyncio, atexit, gc, os, signal, sys, threading, time
from nat_observability import *
from nat_observability.sinks import FileSink, SqliteSink

out = sys.argv[1]

def note(batch):
    """A sink that has delivered when the line is in the file, whatever becomes of the process."""
    fd = os.open(out, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, b"".join(b"%d %s\\n" % (os.getpid(), item.name.encode()) for item in batch))
    os.close(fd)

async def slow(batch):
    await asyncio.sleep(0.01)
    note(batch)

async def record(count, *exporters, name="s"):
    manager = ExporterManager.from_exporters({exporter.name: exporter for exporter in exporters})
    async with manager.start(ContextState()):
        for number in range(count):
            with step("tool", f"{name}{number}"):
                pass

def exit_child(code):
    """Leave a forked child as a worker process does, its atexit handlers included."""
    atexit._run_exitfuncs()
    os._exit(code)

def wait_for(child):
    assert os.waitpid(child, 0)[1] == 0
'''


def run(code: str, *arguments: object, status: int = 0) -> str:
    """Run the prelude and the program; return what it wrote to stderr."""
    return run_program(PRELUDE + code, *arguments, status=status).stderr


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.txt"


def names(out: Path) -> list[str]:
    """The delivered items, in order."""
    return [line.split()[1] for line in out.read_text().splitlines()] if out.exists() else []


def expected(count: int, name: str = "s") -> list[str]:
    return [f"{name}{number}" for number in range(count)]


# The end of the process


def test_g6_a_slow_sink_gets_all_of_a_run_whose_loop_has_ended(out: Path) -> None:
    """1000 steps, 10 ms a batch; the run, its loop and the main program end at once: all are delivered, in order."""
    stderr = run(
        """
exporter = SpanExporter(slow, name="slow", limits=DeliveryLimits(batch_items=20))
asyncio.run(record(1000, exporter))
assert exporter.delivery.health().ledger.pending > 0
""",
        out,
    )
    assert names(out) == expected(1000)
    assert stderr == ""


def test_g6_the_file_has_a_line_for_each_event_of_a_run_whose_loop_has_ended(tmp_path: Path) -> None:
    """The reference's case: the file exporter, 1000 events, then the run and its loop end."""
    path = tmp_path / "events.jsonl"
    run('asyncio.run(record(500, StepExporter(FileSink(out), name="file")))', path)
    lines = path.read_text().splitlines()
    assert len(lines) == 1000
    assert len({json.loads(line)["step_id"] for line in lines}) == 500


ENDINGS = {
    "the main program ends": ("asyncio.run(record(1000, exporter))", 0),
    "sys.exit in the run's loop": (
        "async def main():\n    await record(1000, exporter)\n    sys.exit(3)\nasyncio.run(main())",
        3,
    ),
    "an exception": ("asyncio.run(record(1000, exporter))\nraise ValueError('the application failed')", 1),
    "an exception in the run": (
        "async def main():\n"
        "    async with ExporterManager.from_exporters({'x': exporter}).start(ContextState()):\n"
        "        for number in range(1000):\n"
        "            with step('tool', f's{number}'): pass\n"
        "        raise ValueError('the application failed')\n"
        "asyncio.run(main())",
        1,
    ),
    "sys.exit in the middle of a run": (
        "async def main():\n"
        "    async with ExporterManager.from_exporters({'x': exporter}).start(ContextState()):\n"
        "        for number in range(1000):\n"
        "            with step('tool', f's{number}'): pass\n"
        "        sys.exit(3)\n"
        "asyncio.run(main())",
        3,
    ),
    "the main thread ends first": (
        "async def workflow():\n"
        "    async with ExporterManager.from_exporters({'x': exporter}).start(ContextState()):\n"
        "        started.set()\n"
        "        threading.main_thread().join()\n"
        "        for number in range(1000):\n"
        "            with step('tool', f's{number}'): pass\n"
        "started = threading.Event()\n"
        "threading.Thread(target=asyncio.run, args=(workflow(),)).start()\n"
        "started.wait()\n",
        0,
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_g6_however_the_process_ends_the_run_is_delivered(out: Path, ending: str) -> None:
    """Nothing waits for the delivery, and no runtime is shut down: interpreter exit drains it."""
    code, status = ENDINGS[ending]
    stderr = run(
        f'exporter = SpanExporter(slow, name="slow", limits=DeliveryLimits(batch_items=50))\n{code}',
        out,
        status=status,
    )
    assert names(out) == expected(1000), stderr


@pytest.mark.skipif(
    (3, 12) <= sys.version_info < (3, 12, 2),
    reason="these start no thread when the main thread has ended (gh-113964)",
)
def test_g6_a_workflow_that_starts_when_the_main_thread_has_ended_is_delivered(out: Path) -> None:
    """A thread of the application goes on after the end of the main program; its runs are like any other."""
    stderr = run(
        """
exporter = SpanExporter(slow, name="slow", limits=DeliveryLimits(batch_items=50))

def work():
    threading.main_thread().join()
    asyncio.run(record(1000, exporter))

threading.Thread(target=work).start()
""",
        out,
    )
    assert names(out) == expected(1000), stderr


def test_g6_g15_a_runtime_that_was_never_shut_down_drains_and_warns_by_name(out: Path) -> None:
    """One warning names the exporters, and everything is delivered all the same."""
    stderr = run(
        """
slow_one, quick_one = SpanExporter(slow, name="slow-one"), SpanExporter(lambda batch: None, name="quick-one")
runtime = ObservabilityRuntime({"slow-one": slow_one, "quick-one": quick_one})
asyncio.run(runtime.init())
asyncio.run(record(1000, slow_one, quick_one))
""",
        out,
    )
    assert names(out) == expected(1000)
    assert stderr == "runtime_not_shut_down exporters=['quick-one', 'slow-one']\n"


def test_g15_a_runtime_that_was_shut_down_leaves_nothing_to_warn_about(out: Path) -> None:
    """Its shutdown delivers, and the process ends silently, without a thread of ours."""
    stderr = run(
        """
exporter = SpanExporter(slow, name="slow")

async def main():
    async with ObservabilityRuntime({"slow": exporter}):
        await record(1000, exporter)

asyncio.run(main())
assert exporter.delivery.health().ledger.delivered == 1000
for thread in threading.enumerate():
    if thread.name.startswith("nat-observability"):
        thread.join(5)
        assert not thread.is_alive()
""",
        out,
    )
    assert names(out) == expected(1000)
    assert stderr == ""


@pytest.mark.parametrize(
    "stuck",
    ["async def stuck(batch): await asyncio.sleep(1000)", "def stuck(batch): time.sleep(1000)"],
    ids=["async", "blocking"],
)
def test_g15_a_drain_at_exit_ends_by_its_deadline_and_says_what_it_lost(out: Path, stuck: str) -> None:
    """A back end that hangs does not hold up the process: its exporter is named, the other one gets everything."""
    stderr = run(
        f"""
{stuck}
limits = DeliveryLimits(drain_timeout=0.3)
hangs, works = SpanExporter(stuck, name="hangs", limits=limits), SpanExporter(note, name="works", limits=limits)
asyncio.run(record(10, hangs, works))
""",
        out,
    )
    assert names(out) == expected(10)
    assert "exporter_abandoned exporter=hangs lost=10" in stderr
    assert "works" not in stderr


def test_g6_a_back_end_that_comes_back_while_the_process_ends_gets_everything(out: Path) -> None:
    """The drain at exit uses its time: it tries more than once."""
    stderr = run(
        """
tries = 0

async def down_at_first(batch):
    global tries
    tries += 1
    if tries < 5:
        raise ConnectionError("down")
    note(batch)

limits = DeliveryLimits(drain_timeout=10.0, retry_initial=0.01, retry_max=0.01, batch_age=60.0)
exporter = SpanExporter(down_at_first, name="e", limits=limits)
asyncio.run(ObservabilityRuntime({"e": exporter}).init())
asyncio.run(record(10, exporter))
""",
        out,
    )
    assert names(out) == expected(10)
    assert "delivery_failed" not in stderr


def test_g6_what_is_recorded_at_interpreter_exit_is_delivered(out: Path) -> None:
    """An application's own exit handler may still run a workflow, if the interpreter allows it a new loop."""
    run(
        """
exporter = SpanExporter(slow, name="slow")
lease = exporter.delivery.lease()
lease.opening.result(5)
atexit.register(lambda: asyncio.run(record(10, exporter)))
""",
        out,
    )
    assert names(out) == expected(10)


# Forks


def test_g15_a_forked_child_starts_clean(out: Path) -> None:
    """Own thread, own queue, own counts: each process delivers once what was recorded in it, and nothing else."""
    stderr = run(
        """
def look():
    return exporter.delivery.health()

exporter = SpanExporter(slow, name="slow", limits=DeliveryLimits(batch_items=50, batch_age=60.0))
runtime = ObservabilityRuntime({"slow": exporter})
asyncio.run(runtime.init())
asyncio.run(record(120, exporter, name="p"))
assert look().ledger.accepted == 120
assert look().ledger.pending > 0
child = os.fork()
if child:
    asyncio.run(record(30, exporter, name="q"))
    asyncio.run(runtime.shutdown())
    assert look().ledger.delivered == 150, look()
    wait_for(child)
    sys.exit()
assert look().ledger.accepted == 0, look()
assert look().state == "new", look()
asyncio.run(record(70, exporter, name="c"))
asyncio.run(runtime.shutdown())
assert look().ledger.delivered == 70, look()
gc.collect()
""",
        out,
    )
    by_process: dict[str, list[str]] = {}
    for line in out.read_text().splitlines():
        process, name = line.split()
        by_process.setdefault(process, []).append(name)
    assert sorted(by_process.values()) == [expected(70, "c"), expected(120, "p") + expected(30, "q")]
    assert stderr == ""


def test_g15_a_childs_shutdown_waits_for_no_run_of_the_parents(out: Path) -> None:
    """A worker that is forked off in the middle of a run counts its own live managers, from none."""
    run(
        """
exporter = SpanExporter(slow, name="slow")
runtime = ObservabilityRuntime({"slow": exporter}, shutdown_timeout=1000.0)
asyncio.run(runtime.init())
runtime.run_started()
child = os.fork()
if not child:
    signal.alarm(8)
    assert runtime.health().live_managers == 0
    asyncio.run(record(5, exporter, name="c"))
    report = asyncio.run(runtime.shutdown())
    assert report.live_managers == 0
    runtime.run_ended()  # the copy of the parent's run ends here too
    assert runtime.health().live_managers == 0
    os._exit(0)
wait_for(child)
assert runtime.health().live_managers == 1
runtime.run_ended()
asyncio.run(runtime.shutdown())
""",
        out,
    )
    assert names(out) == expected(5, "c")


def test_g15_a_connection_of_the_parents_that_a_child_destroys_stays_the_parents(out: Path) -> None:
    """What a sink has open on its loop can neither be closed by a child nor written to, whatever frees it there."""
    run(
        """
class Connected:
    async def open(self):
        async def echo(reader, writer):
            while line := await reader.readline():
                writer.write(line)

        self.server = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = self.server.sockets[0].getsockname()[1]
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)

    async def write(self, batch):
        self.writer.write(batch[0].name.encode() + b"\\n")
        received.append(await self.reader.readline())

    async def close(self):
        self.writer.close()
        self.server.close()

received = []
sink = Connected()
exporter = SpanExporter(sink, name="e", limits=DeliveryLimits(batch_age=0.01))
lease = exporter.delivery.lease()
asyncio.run(record(1, exporter, name="before"))
while not received:
    time.sleep(0.001)
child = os.fork()
if child == 0:
    # As a session does that is freed when the interpreter ends, with a farewell as of TLS.
    sink.writer.transport.write(b"farewell\\n")
    sink.writer.transport.close()
    os._exit(0)
wait_for(child)
asyncio.run(record(1, exporter, name="after"))
while len(received) < 2:
    time.sleep(0.001)
lease.release()
assert received == [b"before0\\n", b"after0\\n"], received
""",
        out,
    )


def test_g15_forked_workers_drain_when_they_exit(out: Path) -> None:
    """
    A server forks its workers with the runtime open; each of them, shut down or not, delivers its own.

    Nothing is said about the parent's background tasks, which are cut off in the child.
    """
    stderr = run(
        """
exporter = SpanExporter(slow, name="slow", processors=[lambda item: item])
asyncio.run(ObservabilityRuntime({"slow": exporter}).init())
children = []
for number in range(3):
    child = os.fork()
    if not child:
        gc.collect()  # asyncio tells of tasks that are destroyed and have not ended
        asyncio.run(record(50, exporter, name=f"{number}-"))
        exit_child(0)
    children.append(child)
for child in children:
    wait_for(child)
""",
        out,
    )
    assert Counter(names(out)) == Counter(name for number in range(3) for name in expected(50, f"{number}-"))
    assert stderr.splitlines() == ["runtime_not_shut_down exporters=['slow']"] * 4


def test_g15_what_the_child_forgets_disturbs_no_delivery(out: Path) -> None:
    """When the child's garbage collector finds the parent's tasks, the child's own deliveries keep working."""
    stderr = run(
        """
exporter = SpanExporter(slow, name="slow")

async def main():
    await ObservabilityRuntime({"slow": exporter}).init()
    await record(5, exporter, name="p")

asyncio.run(main())
exporter.delivery.health()
child = os.fork()
if child:
    wait_for(child)
    os._exit(0)  # what the parent does is for other tests
gc.collect()
for number in range(3):
    first, second = exporter.delivery.lease(), exporter.delivery.lease()
    (first.opening or second.settled()).result(5)
    gc.collect()
    asyncio.run(record(5, exporter, name=f"{number}-"))
    first.release()
    second.release()
    exporter.delivery.close().result(5)
assert exporter.delivery.health().ledger.delivered == 15, exporter.delivery.health()
for thread in threading.enumerate():
    if thread.name.startswith("nat-observability"):
        thread.join(5)
        assert not thread.is_alive(), thread
os._exit(0)
""",
        out,
    )
    assert [name for name in names(out) if name[0] != "p"] == [
        n for i in range(3) for n in expected(5, f"{i}-")
    ]
    assert stderr == ""


def test_g15_a_file_survives_forks_while_it_is_written(tmp_path: Path) -> None:
    """Parent and children append to one file: every line is whole, and each item is there once."""
    path = tmp_path / "spans.jsonl"
    run(
        """
exporter = SpanExporter(FileSink(out), name="file", limits=DeliveryLimits(batch_items=10, batch_age=0.0))
runtime = ObservabilityRuntime({"file": exporter})
asyncio.run(runtime.init())
children = []
for number in range(4):
    asyncio.run(record(100, exporter, name=f"p{number}-"))
    child = os.fork()
    if not child:
        asyncio.run(record(100, exporter, name=f"c{number}-"))
        exit_child(0)
    children.append(child)
asyncio.run(record(100, exporter, name="p4-"))
asyncio.run(runtime.shutdown())
for child in children:
    wait_for(child)
""",
        path,
    )
    recorded = Counter(json.loads(line)["name"] for line in path.read_text().splitlines())
    who = [*(f"p{number}-" for number in range(5)), *(f"c{number}-" for number in range(4))]
    assert recorded == Counter(name for each in who for name in expected(100, each))


def test_g15_a_store_survives_forks_while_it_is_written(tmp_path: Path) -> None:
    """Parent and children write to one SQLite file: it stays sound, and each span is there once."""
    path = tmp_path / "store.sqlite3"
    run(
        """
exporter = SpanExporter(SqliteSink(out), name="sqlite", limits=DeliveryLimits(batch_items=10, batch_age=0.0))
runtime = ObservabilityRuntime({"sqlite": exporter})
asyncio.run(runtime.init())
children = []
for number in range(3):
    asyncio.run(record(100, exporter, name=f"p{number}-"))
    child = os.fork()
    if not child:
        asyncio.run(record(100, exporter, name=f"c{number}-"))
        exit_child(0)
    children.append(child)
asyncio.run(record(100, exporter, name="p3-"))
asyncio.run(runtime.shutdown())
for child in children:
    wait_for(child)
""",
        path,
    )
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        recorded = Counter(name for (name,) in connection.execute("SELECT name FROM spans"))
    who = [*(f"p{number}-" for number in range(4)), *(f"c{number}-" for number in range(3))]
    assert recorded == Counter(name for each in who for name in expected(100, each))


# Memory


@pytest.mark.parametrize("policy", ["drop_newest", "drop_oldest"])
def test_g7_a_dead_back_end_costs_no_more_than_the_queue(out: Path, policy: str) -> None:
    """100,000 steps of 1 KB while nothing can be delivered: the process grows by the limit in bytes, all is counted."""
    run(
        f"""
from nat_observability.errors import RetryableWriteError

async def dead(batch):
    raise RetryableWriteError("503")

LIMIT = 32 * 1024 * 1024
limits = DeliveryLimits(queue_items=10**9, queue_bytes=LIMIT, queue_policy={policy!r}, batch_items=512,
                        retry_initial=60.0, drain_timeout=1.0)
exporter = StepExporter(dead, name="dead", limits=limits)

def memory():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

def work(count):
    for number in range(count):
        with step("tool", "s", input="%010d" % number * 100):
            pass

async def main():
    manager = ExporterManager.from_exporters({{"dead": exporter}})
    async with manager.start(ContextState()):
        work(100)
        before = memory()
        work(49_900)
        grown = memory() - before
    health = exporter.delivery.health()
    assert health.ledger.adds_up
    assert health.ledger.accepted == 100_000
    assert health.ledger.pending + health.ledger.dropped["queue_full"] + health.ledger.failed == 100_000
    assert LIMIT * 0.9 < health.queue_bytes <= LIMIT, health
    assert grown < LIMIT * 1.2, grown

asyncio.run(main())
""",
        out,
    )


def test_g7_g8_a_burst_against_a_slow_exporter_makes_no_task_per_event(out: Path) -> None:
    """The reference's case: 200,000 events cost it 200,001 tasks and a stall; here the run has only its own tasks."""
    thousands = examples(25, thoroughly=100)
    run(
        f"""
async def crawl(batch):
    await asyncio.sleep(0.05)

exporter = StepExporter(crawl, name="slow", limits=DeliveryLimits(drain_timeout=0.2))

async def main():
    ticks = 0
    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1
    ticker = asyncio.create_task(tick())
    manager = ExporterManager.from_exporters({{"slow": exporter}})
    async with manager.start(ContextState()):
        tasks = len(asyncio.all_tasks())
        for number in range({thousands}):
            for _ in range(1000):
                with step("tool", "s"):
                    pass
            before = ticks
            await asyncio.sleep(0)
            assert ticks > before
            assert len(asyncio.all_tasks()) == tasks
    ticker.cancel()
    ledger = exporter.delivery.health().ledger
    assert ledger.accepted == 2_000 * {thousands}
    assert ledger.adds_up

asyncio.run(main())
""",
        out,
    )


def test_g15_a_fork_while_another_thread_makes_the_first_spool_leaves_the_child_able_to(
    tmp_path: Path,
) -> None:
    """Its modules are imported then, and one that is caught half imported could never be imported in the child."""
    run_program(
        """
        import importlib.abc, os, signal, sys, threading, time
        from nat_observability import Delivery, DeliveryLimits

        importing = threading.Event()

        class Slowly(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path, target=None):
                if name.endswith(".spool.record"):
                    importing.set()
                    time.sleep(0.3)

        sys.meta_path.insert(0, Slowly())

        def make(name):
            return Delivery(name, print, limits=DeliveryLimits(spool="spill", spool_path=sys.argv[1]))

        maker = threading.Thread(target=make, args=("parent",))
        maker.start()
        importing.wait()
        child = os.fork()
        if not child:
            signal.alarm(10)  # which ends a child that waits for ever
            make("child")
            os._exit(0)
        maker.join()
        assert os.waitpid(child, 0)[1] == 0
        """,
        tmp_path,
        fresh=True,
    )
