"""Fixtures for tests of code that records steps, and a check for what tests leave behind."""

# Every pytest session imports this module if the package is installed: nothing of nat_observability, of
# asyncio or of another plugin may be imported before a test asks for it.
from __future__ import annotations

import inspect
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from nat_observability import BaseExporter, ContextState, ExporterManager
    from nat_observability.containers import ObservabilityContainer
    from nat_observability.testing import CapturingExporter, StepTree

_CHECK = "observability_leak_check"
_TASK_CHECK = "observability_task_check"
_RECORDED = "recorded_run"
_ATTACHED = "observability_attached_run"
_STATE: pytest.StashKey[ContextState] = pytest.StashKey()
_WAIT = "observability_leak_wait"
_UPDATE = "--observability-update"
_MAY_LEAK = "observability_may_leak"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        _UPDATE,
        action="store_true",
        default=False,
        help="write what the steps of tests with step_snapshot are, instead of comparing (nat-observability)",
    )
    parser.addini(
        _CHECK, "check every test for what it leaves behind (nat-observability)", type="bool", default=False
    )
    parser.addini(
        _WAIT,
        "most seconds that the leak check waits for threads and tasks to end (nat-observability)",
        default="10",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{_MAY_LEAK}(*what): leave tasks, threads, subscriptions or leases, or all of them, out of the leak check",
    )
    config.pluginmanager.register(_async_fixtures(config), "nat_observability_async_fixtures")
    if config.getini(_CHECK):
        config.pluginmanager.register(_checking_everything(), "nat_observability_checking_everything")


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    step_tree = sys.modules.get("nat_observability.testing.step_tree")
    if step_tree is None or op != "==":
        return None
    tree, text = (left, right) if isinstance(left, step_tree.StepTree) else (right, left)
    if not (isinstance(tree, step_tree.StepTree) and isinstance(text, str)):
        return None
    recorded, expected = tree.snapshot.splitlines(), step_tree.plain_snapshot(text).splitlines()
    return [
        "what was recorded == what is expected",
        *_differences(expected, recorded, "expected"),
        "",
        *recorded,
    ]


def _differences(expected: list[str], recorded: list[str], name: str) -> Iterator[str]:
    import difflib

    return difflib.unified_diff(expected, recorded, name, "recorded", lineterm="")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not (isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj)):
            continue
        # unittest runs its coroutines itself, in a loop that no fixture is on, and cancels what they leave behind.
        unittest = sys.modules.get("unittest")
        if unittest is not None and item.cls is not None and issubclass(item.cls, unittest.TestCase):
            continue
        for fixture, on_the_loop in ((_CHECK, _TASK_CHECK), (_RECORDED, _ATTACHED)):
            if fixture in item.fixturenames and on_the_loop not in item.fixturenames:
                item.fixturenames.insert(item.fixturenames.index(fixture) + 1, on_the_loop)


@pytest.fixture
def capturing_exporter() -> CapturingExporter:
    """An exporter that keeps every step: its `steps`, and its `tree` to assert on."""
    from nat_observability.testing import CapturingExporter

    return CapturingExporter()


@pytest.fixture
def recorded_run(
    request: pytest.FixtureRequest, capturing_exporter: CapturingExporter
) -> Iterator[CapturingExporter]:
    """Make the test one run, without a manager and without an event loop; gives the exporter that has its steps."""
    from nat_observability import ContextState

    state = ContextState()
    request.node.stash[_STATE] = state
    subscription = capturing_exporter.subscription(state)
    subscription.begin()
    with state.attach():
        yield capturing_exporter
    subscription.end()


@pytest.fixture
def captured_container(capturing_exporter: CapturingExporter) -> Iterator[Callable[[Any], CapturingExporter]]:
    """
    Replace the exporters of an application's or a worker's container until the test ends.

    `captured_container(container)` gives the exporter that has the steps of all runs. Call it before the application
    starts.
    """
    from contextlib import ExitStack

    from nat_observability.testing import captured

    with ExitStack() as stack:
        yield lambda container: stack.enter_context(captured(container, capturing_exporter))


@pytest.fixture
def observability_container(
    capturing_exporter: CapturingExporter, captured_container: Callable[[Any], CapturingExporter]
) -> ObservabilityContainer:
    """A container for `instrument(app, observability_container)`, whose exporter is `capturing_exporter`."""
    from nat_observability.containers import ObservabilityContainer

    container = ObservabilityContainer()
    captured_container(container)
    return container


@pytest.fixture
def step_snapshot(request: pytest.FixtureRequest) -> Callable[[StepTree], None]:
    """
    Compare a tree with the text in `snapshots/`, beside the test's module: `step_snapshot(recorded_run.tree)`.

    With `--observability-update` the text is written instead. A test may compare several trees, in a fixed order.
    """
    stem = re.sub(r"[^\w.-]+", "_", f"{request.path.stem}.{request.node.name}")
    compared = 0

    def compare(tree: StepTree) -> None:
        __tracebackhide__ = True
        nonlocal compared
        compared += 1
        name = stem if compared == 1 else f"{stem}.{compared}"
        path = request.path.parent / "snapshots" / f"{name}.txt"
        if request.config.getoption(_UPDATE):
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"{tree.snapshot}\n", encoding="utf-8")
        elif not path.exists():
            pytest.fail(f"There is no {path}. Run pytest with {_UPDATE} to write it.", pytrace=False)
        elif (expected := path.read_text(encoding="utf-8").rstrip("\n")) != tree.snapshot:
            lines = _differences(expected.splitlines(), tree.snapshot.splitlines(), str(path))
            pytest.fail("\n".join([*lines, f"If that is right, run pytest with {_UPDATE}."]), pytrace=False)

    return compare


@pytest.fixture
def observability_exporters(capturing_exporter: CapturingExporter) -> dict[str, BaseExporter]:
    """What `started_manager` has, by name: the capturing exporter. Override it to add others."""
    return {"capturing": capturing_exporter}


@pytest.fixture
def observability_leak_check(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test if it leaves a thread, a task, a subscription or a lease behind."""
    from nat_observability.testing.leak_check import LeakCheck

    check = LeakCheck()
    yield
    ignoring = _ignored(request.node)
    if found := check.found(within=_wait(request.config), ignoring=ignoring):
        pytest.fail(_report(found), pytrace=False)


def _async_fixtures(config: pytest.Config) -> ModuleType:
    """Return a plugin with the fixtures that need an event loop, for whatever plugin runs coroutines here."""

    async def started_manager(
        observability_exporters: dict[str, BaseExporter],
    ) -> AsyncIterator[ExporterManager]:
        """Give a manager whose run is current; it has what `observability_exporters` gives."""
        from nat_observability import ContextState, ExporterManager

        manager = ExporterManager.from_exporters(observability_exporters)
        async with manager.start(ContextState()):
            yield manager

    async def observability_attached_run(request: pytest.FixtureRequest) -> AsyncIterator[None]:
        """A part of `recorded_run`, on the event loop of the test, which may have a context of its own."""
        state = request.node.stash.get(_STATE, None)
        if state is None:
            yield
            return
        with state.attach():
            yield

    async def observability_task_check(request: pytest.FixtureRequest) -> AsyncIterator[None]:
        """A part of `observability_leak_check`, on the event loop of the test."""
        import asyncio

        from nat_observability.testing.leak_check import tasks_left

        try:
            before = asyncio.all_tasks()
        except RuntimeError:  # the event loop is trio's, which ends no test that leaves a task behind
            yield
            return
        yield
        if "tasks" in _ignored(request.node):
            return
        if found := await tasks_left(before, within=_wait(request.config)):
            pytest.fail(_report(found), pytrace=False)

    plugin = ModuleType("nat_observability_async_fixtures")
    for function in (started_manager, observability_attached_run, observability_task_check):
        name = function.__name__
        if config.pluginmanager.has_plugin("asyncio"):
            import pytest_asyncio

            setattr(plugin, name, pytest_asyncio.fixture(function))
        elif config.pluginmanager.has_plugin("anyio"):
            setattr(plugin, name, pytest.fixture(function))
        else:
            setattr(plugin, name, pytest.fixture(name=name)(_unavailable))
    return plugin


def _unavailable(request: pytest.FixtureRequest) -> None:
    raise pytest.UsageError(
        f"The fixture {request.fixturename} needs a plugin that runs coroutines. "
        "Install pytest-asyncio or anyio, or use recorded_run."
    )


def _checking_everything() -> ModuleType:
    @pytest.fixture(autouse=True)
    def observability_leak_check_everywhere(observability_leak_check: None) -> None:
        """Use `observability_leak_check` in every test."""

    plugin = ModuleType("nat_observability_checking_everything")
    plugin.observability_leak_check_everywhere = observability_leak_check_everywhere  # type: ignore[attr-defined]
    return plugin


def _ignored(node: pytest.Item) -> set[str]:
    ignored: set[str] = set()
    known = {"tasks", "threads", "subscriptions", "leases"}
    for marker in node.iter_markers(_MAY_LEAK):
        if unknown := set(marker.args) - known:
            raise pytest.UsageError(
                f"{_MAY_LEAK} knows {', '.join(sorted(known))}, and not {', '.join(map(repr, sorted(unknown)))}."
            )
        ignored |= set(marker.args) or known
    return ignored


def _wait(config: pytest.Config) -> float:
    value = config.getini(_WAIT)
    try:
        return float(value)
    except ValueError:
        raise pytest.UsageError(f"{_WAIT} is a number of seconds, not {value!r}.") from None


def _report(found: list[str]) -> str:
    return "\n".join(["The test left behind:", *(f"- {each}" for each in found)])
