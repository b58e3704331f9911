"""The pytest plugin, in users' test suites: what it gives and finds, and what it costs a suite that does not use it."""

from __future__ import annotations

import subprocess
import sys
import unittest

import pytest

pytest_plugins = ["pytester"]

AGENT = """
import asyncio
from nat_observability import step

@step("tool", "search")
def search(query):
    return query.upper()

@step("llm", "gpt")
def answer(query):
    return search(query)

@step("workflow", "agent")
async def agent(query):
    await asyncio.sleep(0)
    return answer(query)
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """An empty test suite beside a module `agent`, whose warnings are errors."""
    pytester.makepyfile(agent=AGENT)
    return pytester


def run(
    suite: pytest.Pytester, *options: str, coroutines: str = "pytest-asyncio", ini: str = ""
) -> pytest.RunResult:
    """Run the suite's tests in this process, with pytest-asyncio, anyio or neither."""
    without = {"pytest-asyncio": ["anyio"], "anyio": ["asyncio"], "neither": ["anyio", "asyncio"]}[coroutines]
    if coroutines == "pytest-asyncio":
        ini += "\nasyncio_mode = strict\nasyncio_default_fixture_loop_scope = function"
    suite.makeini(f"[pytest]\nfilterwarnings = error\n{ini}\n")
    plugins = [f"-pno:{name}" for name in ("cacheprovider", "xdist", "hypothesispytest", *without)]
    return suite.runpytest_inprocess("--strict-markers", "--strict-config", *plugins, *options)


def test_a_synchronous_test_is_one_run(suite: pytest.Pytester) -> None:
    """`recorded_run` needs no event loop and no other plugin; each test has a run of its own."""
    suite.makepyfile(
        """
        import pytest
        from agent import answer
        from nat_observability import ContextState, step

        def test_tree(recorded_run):
            assert answer("tea") == "TEA"
            found = recorded_run.tree.one("tool", "search", under="llm")
            assert (found.input, found.output) == ({"query": "tea"}, "TEA")

        def test_own(recorded_run, capturing_exporter):
            assert recorded_run is capturing_exporter
            assert not recorded_run.steps

        def test_not_asked_for():
            assert ContextState.current() is None

        @pytest.fixture
        def prepared(recorded_run):
            with step("task", "prepare"):
                pass

        def test_fixtures_are_in_it(prepared, recorded_run):
            recorded_run.tree.one("task", "prepare")
        """
    )
    run(suite, coroutines="neither").assert_outcomes(passed=4)


def test_snapshots(suite: pytest.Pytester) -> None:
    """A text of its own for each test and each tree, written on demand; what differs is shown as a difference."""
    suite.makepyfile(
        test_it="""
        import pytest
        from agent import answer

        @pytest.mark.parametrize("words", ["tea", "../milk"])
        def test_tree(recorded_run, step_snapshot, words):
            answer(words)
            step_snapshot(recorded_run.tree)
            recorded_run.clear()
            answer("more")
            step_snapshot(recorded_run.tree)
        """
    )
    missing = run(suite, coroutines="neither")
    missing.assert_outcomes(failed=2)
    missing.stdout.fnmatch_lines(
        ["There is no *test_it.test_tree_tea_.txt. Run pytest with --observability-update*"]
    )
    run(suite, "--observability-update", coroutines="neither").assert_outcomes(passed=2)
    assert len(list((suite.path / "snapshots").iterdir())) == 4
    run(suite, coroutines="neither").assert_outcomes(passed=2)
    path = suite.path / "snapshots" / "test_it.test_tree_tea_.txt"
    path.write_text(path.read_text().replace("TEA", "COFFEE"))
    changed = run(suite, coroutines="neither")
    changed.assert_outcomes(passed=1, failed=1)
    changed.stdout.fnmatch_lines(
        ["-*COFFEE*", "+*TEA*", "If that is right, run pytest with --observability-update."]
    )


def test_coroutines_of_pytest_asyncio(suite: pytest.Pytester) -> None:
    """Both kinds of run are current in the test; a started manager has a report, and is stopped afterwards."""
    suite.makepyfile(
        """
        import pytest
        from agent import agent

        pytestmark = pytest.mark.asyncio

        async def test_recorded(recorded_run):
            await agent("tea")
            recorded_run.tree.one("llm", "gpt", under=("workflow", "agent"))

        managers = []

        async def test_started(started_manager, capturing_exporter):
            managers.append(started_manager)
            await agent("tea")
            capturing_exporter.tree.one("tool", "search", inside="workflow")
            assert started_manager.report.running
            assert started_manager.report.exporters["capturing"].ledger.delivered == 6

        async def test_stopped():
            assert not managers[0].report.running
        """
    )
    run(suite).assert_outcomes(passed=3, warnings=0)


def test_coroutines_of_anyio(suite: pytest.Pytester) -> None:
    """The same if anyio runs them, on asyncio."""
    suite.makepyfile(
        """
        import pytest
        from agent import agent

        pytestmark = pytest.mark.anyio

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        async def test_recorded(recorded_run):
            await agent("tea")
            recorded_run.tree.one("llm", "gpt", under=("workflow", "agent"))

        async def test_started(started_manager, capturing_exporter):
            await agent("tea")
            capturing_exporter.tree.one("tool", "search", inside="workflow")
        """
    )
    run(suite, coroutines="anyio").assert_outcomes(passed=2)


def test_exporters_of_ones_own(suite: pytest.Pytester) -> None:
    """`observability_exporters` is what a suite overrides to have more of them."""
    suite.makepyfile(
        """
        import pytest
        from agent import agent
        from nat_observability.testing import CapturingExporter

        @pytest.fixture
        def observability_exporters(observability_exporters):
            return {**observability_exporters, "other": CapturingExporter()}

        @pytest.mark.asyncio
        async def test_both(started_manager):
            await agent("tea")
            assert {each.ledger.accepted for each in started_manager.report.exporters.values()} == {6}
            assert set(started_manager.report.exporters) == {"capturing", "other"}
        """
    )
    run(suite).assert_outcomes(passed=1)


def test_a_manager_without_a_plugin_for_coroutines(suite: pytest.Pytester) -> None:
    """The error says what to install."""
    suite.makepyfile("def test_a(started_manager): pass")
    result = run(suite, coroutines="neither")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*started_manager needs a plugin*Install pytest-asyncio or anyio*"])


def test_a_failure_prints_the_tree(suite: pytest.Pytester) -> None:
    """And points at what was found, and at the line of the test, not into this package."""
    suite.makepyfile(
        """
        from agent import answer, search

        def test_a(recorded_run):
            answer("tea")
            search("milk")
            recorded_run.tree.one("tool", "search")

        def test_b(recorded_run):
            search("milk")
            assert recorded_run.tree == "└─ tool 'search'"
        """
    )
    result = run(suite)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "E * AssertionError: Expected 1 step: tool 'search'. Found 2.",
            "E * run *",
            "E * ├─ llm 'gpt' input={'query': 'tea'} output='TEA'",
            "E * │  └─ tool 'search' input={'query': 'tea'} output='TEA'  <-- found",
            "E * └─ tool 'search' input={'query': 'milk'} output='MILK'  <-- found",
            "E * assert what was recorded == what is expected",
            "E * -└─ tool 'search'",
            "E * +└─ tool 'search' input={'query': 'milk'} output='MILK'",
        ]
    )
    result.stdout.no_fnmatch_line("*testing_tree.py*")


CHECKED = "observability_leak_check = true\nobservability_leak_wait = 0.1"
LEAKING = """
    import asyncio
    import threading
    import pytest
    from nat_observability import ContextState, ExporterManager, SpanExporter
    from nat_observability.testing import CapturingExporter, wait_until

    kept = []
    stop = threading.Event()

    def teardown_module():
        stop.set()
        for each in kept:
            if isinstance(each, threading.Thread):
                each.join()
            elif not isinstance(each, asyncio.Task):
                each()

    def test_thread():
        kept.append(threading.Thread(target=stop.wait, name="forgotten"))
        kept[-1].start()

    @pytest.mark.asyncio
    async def test_task():
        kept.append(asyncio.create_task(asyncio.sleep(100), name="forgotten"))

    def test_subscription():
        subscription = CapturingExporter().subscription(ContextState())
        subscription.begin()
        kept.append(subscription.end)

    def test_lease():
        exporter = SpanExporter(lambda batch: None, name="forgotten")
        lease = exporter.delivery.lease()
        kept.append(lambda: (lease.release(), exporter.delivery.closed().result()))
"""


def test_leaks(suite: pytest.Pytester) -> None:
    """If it is switched on for all tests, one that leaves something behind fails, and the error names it."""
    suite.makepyfile(LEAKING)
    result = run(suite, ini=CHECKED)
    result.assert_outcomes(passed=4, errors=4)
    result.stdout.fnmatch_lines_random(
        [
            "- the thread 'forgotten'",
            "- the task 'forgotten', <coroutine object sleep *",
            "- 1 subscriptions to one run's stream*",
            "- a lease on the delivery 'forgotten'*",
        ]
    )


def test_what_ends_is_not_a_leak(suite: pytest.Pytester) -> None:
    """If a run, its delivery and a task end with the test, or soon after, nothing is found."""
    suite.makepyfile(
        """
        import asyncio
        import pytest
        from nat_observability import ContextState, ExporterManager, SpanExporter

        @pytest.mark.asyncio
        async def test_clean(started_manager):
            exporter = SpanExporter(lambda batch: None)
            async with ExporterManager.from_exporters({"a": exporter}).start(ContextState()):
                await asyncio.to_thread(len, "")
            asyncio.create_task(asyncio.sleep(0))
        """
    )
    run(suite, ini="observability_leak_check = true").assert_outcomes(passed=1)


def test_leaks_that_are_allowed(suite: pytest.Pytester) -> None:
    """A marker leaves them out of the check, all or some; an unknown name is an error."""
    suite.makepyfile(
        LEAKING.replace(
            "def test_thread", '@pytest.mark.observability_may_leak("threads")\n    def test_thread'
        )
        .replace("@pytest.mark.asyncio", "@pytest.mark.asyncio\n    @pytest.mark.observability_may_leak")
        .replace("def test_lease", '@pytest.mark.observability_may_leak("lease")\n    def test_lease')
    )
    result = run(suite, ini=CHECKED)
    result.assert_outcomes(passed=4, errors=2)
    result.stdout.fnmatch_lines_random(
        [
            "- 1 subscriptions to one run's stream*",
            "*observability_may_leak knows leases, subscriptions, tasks, threads, and not 'lease'.*",
        ]
    )


def test_leaks_of_some_tests(suite: pytest.Pytester) -> None:
    """Without the option the check is a fixture; what exists before its test, or in a wider scope, is not a leak."""
    suite.makepyfile(
        """
        import pytest
        from nat_observability import ContextState
        from nat_observability.testing import CapturingExporter

        exporter, state = CapturingExporter(), ContextState()

        @pytest.fixture(scope="module")
        def for_the_module():
            subscription = exporter.subscription(state)
            subscription.begin()
            yield
            subscription.end()

        def subscribed():
            subscription = CapturingExporter().subscription(ContextState())
            subscription.begin()
            return subscription

        kept = []

        def test_unchecked():
            kept.append(subscribed())

        def test_checked(observability_leak_check):
            kept.append(subscribed())

        @pytest.mark.usefixtures("observability_leak_check")
        def test_good(for_the_module):
            pass

        def test_done():
            for each in kept:
                each.end()
        """
    )
    result = run(suite)
    result.assert_outcomes(passed=4, errors=1)
    result.stdout.fnmatch_lines(["ERROR *::test_checked*"])


def test_loading_the_plugin_imports_nothing() -> None:
    """Not nat_observability, whose coverage would be measured too late, nor asyncio, nor pytest-asyncio."""
    code = (
        "import pytest, sys; before = set(sys.modules); import pytest_nat_observability.plugin;"
        "print(*sorted(set(sys.modules) - before))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["pytest_nat_observability", "pytest_nat_observability.plugin"]


def test_a_suite_that_does_not_use_it_imports_nothing(suite: pytest.Pytester) -> None:
    """A whole session, collection and tests, without a module of this package."""
    suite.makepyfile(
        """
        import sys

        def test_a():
            assert not [name for name in sys.modules if name.startswith("nat_observability")]
        """
    )
    suite.runpytest_subprocess("-pno:cacheprovider", "-pno:asyncio").assert_outcomes(passed=1)


def test_everything_works_with_anyio_alone(suite: pytest.Pytester) -> None:
    """A recorded run is that of the test's own context, and the leak check finds its tasks and not the runner's."""
    suite.makepyfile(
        """
        import asyncio
        import pytest
        from agent import agent
        from nat_observability import step

        pytestmark = pytest.mark.anyio
        left = []

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        async def test_recorded(recorded_run):
            await agent("tea")
            assert recorded_run.tree.one("tool", "search", under="llm").output == "TEA"
            assert len(recorded_run.tree.roots) == 1

        def test_synchronous(recorded_run):
            with step("tool", "x"):
                pass
            assert recorded_run.tree.one("tool", "x")

        async def test_manager(started_manager, capturing_exporter):
            await agent("tea")
            assert capturing_exporter.tree.one("workflow")

        async def test_nothing():
            await asyncio.sleep(0)

        async def test_leaving_a_task():
            left.append(asyncio.create_task(asyncio.sleep(100)))
        """
    )
    ini = "observability_leak_check = true\nobservability_leak_wait = 0.1"
    result = run(suite, coroutines="anyio", ini=ini)
    result.assert_outcomes(passed=5, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_leaving_a_task*", "*- the task *"])
    assert "_call_in_runner_task" not in result.stdout.str()


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_a_recorded_run_in_each_mode_of_pytest_asyncio(suite: pytest.Pytester, mode: str) -> None:
    """With loops of tests and of modules."""
    suite.makepyfile(
        """
        import pytest
        from agent import agent

        @pytest.mark.asyncio
        async def test_recorded(recorded_run):
            await agent("tea")
            assert recorded_run.tree.one("workflow", "agent")

        @pytest.mark.asyncio(loop_scope="module")
        async def test_recorded_in_the_modules_loop(recorded_run):
            await agent("tea")
            assert recorded_run.tree.one("workflow", "agent")
        """
    )
    suite.makeini(
        f"[pytest]\nfilterwarnings = error\nasyncio_mode = {mode}\n"
        "asyncio_default_fixture_loop_scope = function\nobservability_leak_check = true\n"
    )
    plugins = [f"-pno:{name}" for name in ("cacheprovider", "xdist", "hypothesispytest", "anyio")]
    suite.runpytest_inprocess(*plugins).assert_outcomes(passed=2)


APPLICATIONS = """
import asyncio
import dramatiq
import pytest
from agent import agent, answer
from dramatiq.brokers.stub import StubBroker
from fastapi import FastAPI
from fastapi.testclient import TestClient
from taskiq import InMemoryBroker
from nat_observability import RuntimeStateError
from nat_observability.containers import ObservabilityContainer
from nat_observability.integrations import ProcessScope, fastapi, taskiq
from nat_observability.integrations import dramatiq as dramatiq_integration

def application(container):
    app = FastAPI()
    fastapi.instrument(app, container)

    @app.get("/ask/{topic}")
    async def ask(topic: str) -> str:
        return await agent(topic)

    return app

CONTAINER = ObservabilityContainer()
APP = application(CONTAINER)

@pytest.mark.parametrize("topic", ["tea", "milk"])
def test_the_services_own_application(captured_container, topic):
    exporter = captured_container(CONTAINER)
    with TestClient(APP) as client:
        assert client.get(f"/ask/{topic}").json() == topic.upper()
    exporter.tree.one("workflow", "agent", under=("workflow", "GET /ask/{topic}"))
    assert exporter.tree.one("tool", "search").output == topic.upper()

def test_an_application_of_the_test(observability_container, capturing_exporter):
    with TestClient(application(observability_container)) as client:
        client.get("/ask/tea")
    assert capturing_exporter.tree.one("tool", "search", under="llm")

def test_a_worker_of_threads(observability_container, capturing_exporter):
    broker = StubBroker(middleware=[])
    dramatiq_integration.instrument(broker, observability_container)
    work = dramatiq.actor(lambda: (answer("tea"), None)[1], broker=broker, actor_name="work")
    worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=5)
    worker.start()
    work.send()
    broker.join("default", timeout=5000)
    worker.join()
    worker.stop()
    capturing_exporter.tree.one("llm", "gpt", under=("task", "work"))

def test_a_worker_with_a_loop(captured_container):
    container, broker = ObservabilityContainer(), InMemoryBroker(await_inplace=True)
    taskiq.instrument(broker, container)
    exporter = captured_container(container)
    task = broker.register_task(agent, task_name="work")

    async def work():
        await broker.startup()
        await task.kiq("tea")
        await broker.shutdown()

    asyncio.run(work())
    exporter.tree.one("workflow", "agent", under=("task", "work"))

def test_too_late(captured_container):
    with ProcessScope(CONTAINER, "the test"), pytest.raises(RuntimeStateError, match="before the application starts"):
        captured_container(CONTAINER)
"""


@pytest.mark.may_block  # settings are read once, when the process starts
def test_applications_and_workers(suite: pytest.Pytester) -> None:
    """The exporters of a container are replaced for a test, and each test has what it recorded itself."""
    suite.makepyfile(APPLICATIONS)
    run(suite, ini="observability_leak_check = true").assert_outcomes(passed=6)


UNITTEST = """
import asyncio
import unittest
from agent import agent, answer
from nat_observability.testing import recorded_run

class Synchronous(unittest.TestCase):
    def test_a_block(self):
        with recorded_run() as exporter:
            answer("tea")
        exporter.tree.one("tool", "search", under="llm")

    def test_the_whole_test(self):
        block = recorded_run()
        exporter = block.__enter__()
        self.addCleanup(block.__exit__, None, None, None)
        answer("tea")
        exporter.tree.one("tool", "search", under="llm")

class Asynchronous(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        block = recorded_run()
        self.exporter = await block.__aenter__()
        self.addAsyncCleanup(block.__aexit__, None, None, None)

    async def test_a_coroutine(self):
        async with recorded_run() as exporter:
            await agent("tea")
        exporter.tree.one("workflow", "agent")
"""


def test_unittest_under_pytest(suite: pytest.Pytester) -> None:
    """Test cases of unittest, with the leak check, whatever else runs coroutines here."""
    suite.makepyfile(UNITTEST)
    for coroutines in ("pytest-asyncio", "anyio", "neither"):
        run(suite, coroutines=coroutines, ini="observability_leak_check = true").assert_outcomes(passed=3)


def test_unittest_alone(suite: pytest.Pytester) -> None:
    """Without pytest."""
    path = suite.makepyfile(test_alone=UNITTEST)
    loader = unittest.TestLoader().discover(str(path.parent), pattern="test_alone.py")
    result = unittest.TestResult()
    loader.run(result)
    assert (result.testsRun, result.errors, result.failures) == (3, [], [])


ORDER = """
import pytest
from agent import agent, answer

@pytest.mark.parametrize("number", range(4))
def test_synchronous(recorded_run, number):
    for _ in range(number):
        answer("tea")
    recorded_run.tree.expect("llm", "gpt", times=number)

@pytest.mark.asyncio
@pytest.mark.parametrize("number", range(4))
async def test_asynchronous(recorded_run, number):
    for _ in range(number):
        await agent("tea")
    recorded_run.tree.expect("workflow", "agent", times=number)

@pytest.mark.asyncio
async def test_manager(started_manager, capturing_exporter):
    await agent("tea")
    capturing_exporter.tree.one("workflow", "agent")
"""


@pytest.mark.parametrize("seed", range(3))
def test_any_order(suite: pytest.Pytester, seed: int) -> None:
    """No test depends on another, synchronous ones among asynchronous ones included."""
    suite.makepyfile(ORDER)
    suite.makeconftest(
        f"""
        import random

        def pytest_collection_modifyitems(items):
            random.Random({seed}).shuffle(items)
        """
    )
    run(suite, ini="observability_leak_check = true").assert_outcomes(passed=9)


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_several_processes(suite: pytest.Pytester, mode: str) -> None:
    """With xdist, in each mode of pytest-asyncio, and with a loop for the whole session."""
    suite.makepyfile(test_one=ORDER, test_two=ORDER)
    suite.makeini(
        f"[pytest]\nfilterwarnings = error\nasyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = session\n"
        "asyncio_default_test_loop_scope = session\nobservability_leak_check = true\n"
    )
    suite.runpytest_subprocess("-n2", "-pno:cacheprovider", "-pno:hypothesispytest").assert_outcomes(
        passed=18
    )
