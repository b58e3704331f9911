"""Contract of the logger: the application's structlog configuration decides, and nothing that it does breaks a run."""

from __future__ import annotations

import asyncio
import gc
import io
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import CapturingLogger, capture_logs
from structlog.typing import EventDict, Processor

from nat_observability.logs import RepeatedEvent, get_logger
from tests.processes import run_program

AT_INFO = structlog.make_filtering_bound_logger(logging.INFO)


@pytest.fixture(autouse=True)
def unconfigured() -> Iterator[None]:
    """Each test starts and ends with structlog not configured."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """What happens in an interpreter in which no logging is set up."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def configure_into(lines: list[EventDict], *processors: Processor, **options: Any) -> None:
    """Configure structlog so that each line ends in this list."""

    def collect(_: object, method: str, event: EventDict) -> EventDict:
        lines.append({**event, "level": method})
        raise structlog.DropEvent

    structlog.configure(processors=[*processors, collect], **options)


class TestUnconfigured:
    def test_stdout_is_silent(self) -> None:
        """If nothing is configured, warnings and above go to stderr, and nothing to stdout."""
        ran = run_python(
            "from nat_observability.logs import get_logger as g\n"
            "for level in ('debug', 'info', 'warning', 'error'): getattr(g(), level)(level + '_event', key='a b')"
        )
        assert ran.stdout == ""
        assert ran.stderr.splitlines() == ["warning_event key='a b'", "error_event key='a b'"]

    def test_importing_configures_nothing(self) -> None:
        """Neither structlog nor the standard library's logging is touched by an import."""
        ran = run_python(
            "import logging, structlog, nat_observability.logs\n"
            "print(structlog.is_configured(), logging.root.handlers, logging.getLogger('nat_observability').handlers)"
        )
        assert ran.stdout == "False [] []\n"

    def test_lines_go_to_the_standard_logger(self, caplog: pytest.LogCaptureFixture) -> None:
        """The standard library's logger of the package's name gets the line, with its level and its caller."""
        with caplog.at_level(logging.DEBUG, logger="nat_observability"):
            get_logger().bind(run="r1").debug("manager_started", exporters=2, name="main")
        (record,) = caplog.records
        assert (record.name, record.levelno) == ("nat_observability", logging.DEBUG)
        assert record.getMessage() == "manager_started run=r1 exporters=2 name=main"
        assert record.pathname == __file__

    def test_an_exception_brings_its_traceback(self, caplog: pytest.LogCaptureFixture) -> None:
        """`exception` logs an error with what is being handled."""
        try:
            raise ValueError("no")
        except ValueError:
            get_logger().exception("exporter_start_failed")
        (record,) = caplog.records
        assert record.exc_info is not None
        assert record.exc_info[0] is ValueError
        assert record.getMessage() == "exporter_start_failed"

    @pytest.mark.parametrize("value", ["", "a b", "a=b", "a\nb", "\x1b[31m", "\u2028"])
    def test_a_value_never_breaks_the_line(self, caplog: pytest.LogCaptureFixture, value: str) -> None:
        """What is empty, or would end the line or the value, is quoted and escaped."""
        get_logger().warning("delivery_dropped", error=value)
        assert caplog.messages == [f"delivery_dropped error={value!r}"]


class TestConfiguredLater:
    def test_a_later_configuration_takes_effect(self) -> None:
        """A logger that was bound and used before follows each configuration that comes after."""
        log = get_logger().bind(run="r1")
        log.info("manager_started")
        first: list[EventDict] = []
        second: list[EventDict] = []
        configure_into(first)
        log.info("manager_started")
        configure_into(second)
        log.warning("manager_stopped", run="r2")
        assert first == [{"run": "r1", "event": "manager_started", "level": "info"}]
        assert second == [{"run": "r2", "event": "manager_stopped", "level": "warning"}]

    def test_caching_set_later_caches_nothing_here(self) -> None:
        """With `cache_logger_on_first_use`, the next configuration is still honoured."""
        lines: list[EventDict] = []
        structlog.configure(cache_logger_on_first_use=True, logger_factory=lambda *_: CapturingLogger())
        get_logger().info("runtime_opened")
        configure_into(lines)
        get_logger().info("runtime_drained")
        assert [line["event"] for line in lines] == ["runtime_drained"]

    @pytest.mark.parametrize("cached", [True, False])
    def test_capture_logs_captures(self, cached: bool) -> None:
        """structlog's own way to test logs sees every line, whether or not anything was configured."""
        if cached:
            structlog.configure(cache_logger_on_first_use=True)
        with capture_logs() as lines:
            get_logger().bind(run="r1").warning("exporter_abandoned", exporter="main")
        assert lines == [
            {"run": "r1", "exporter": "main", "event": "exporter_abandoned", "log_level": "warning"}
        ]

    def test_the_standard_library_integration_gets_the_name(self, caplog: pytest.LogCaptureFixture) -> None:
        """With structlog on top of the standard library, the logger is `nat_observability`."""
        structlog.configure(
            processors=[structlog.stdlib.render_to_log_kwargs],
            wrapper_class=structlog.stdlib.BoundLogger,
            logger_factory=structlog.stdlib.LoggerFactory(),
        )
        get_logger().error("exporter_start_failed", exporter="main")
        (record,) = caplog.records
        assert (record.name, record.getMessage()) == ("nat_observability", "exporter_start_failed")

    @pytest.mark.parametrize("wrapper", [structlog.BoundLogger, structlog.stdlib.BoundLogger, AT_INFO])
    def test_any_wrapper_class_works(self, wrapper: type[Any]) -> None:
        """Those that have a method per level work, and the one that makes them up."""
        lines: list[EventDict] = []
        configure_into(lines, wrapper_class=wrapper)
        get_logger().info("runtime_opened")
        assert [line["event"] for line in lines] == ["runtime_opened"]

    def test_a_factory_without_a_name_works(self) -> None:
        """A logger factory that takes no argument is called without."""
        logger = CapturingLogger()

        def factory() -> CapturingLogger:
            return logger

        structlog.configure(
            processors=[structlog.processors.KeyValueRenderer()],
            logger_factory=factory,
        )
        get_logger().info("runtime_opened")
        assert [call.args for call in logger.calls] == [("event='runtime_opened'",)]

    def test_nothing_is_interpolated(self, caplog: pytest.LogCaptureFixture) -> None:
        """A percent sign or a brace in an event or a value is kept as it is."""
        lines: list[EventDict] = []
        get_logger().warning("100%s {x}", key="%d{}")
        configure_into(lines)
        get_logger().warning("100%s {x}", key="%d{}")
        assert caplog.messages == ["100%s {x} key=%d{}"]
        assert lines == [{"event": "100%s {x}", "key": "%d{}", "level": "warning"}]


class OwnAsyncLogger(structlog.stdlib.AsyncBoundLogger):
    """An application's own kind of it."""


class AwaitedLogger(structlog.BoundLoggerBase):
    """An application's logger whose methods have to be awaited."""

    async def _log(self, event: str, **keys: object) -> None:
        raise AssertionError("it is never awaited")

    debug = info = warning = error = exception = _log


def made_late(*args: Any, **kwargs: Any) -> Any:
    """A wrapper class that does not show what it makes."""
    return AwaitedLogger(*args, **kwargs)


class TestAsynchronousLoggers:
    """Lines are written at once even if the application's own loggers have to be awaited; none is lost."""

    @pytest.mark.parametrize("cached", [True, False])
    @pytest.mark.parametrize(
        "wrapper", [structlog.stdlib.AsyncBoundLogger, OwnAsyncLogger, AwaitedLogger, made_late]
    )
    @pytest.mark.parametrize("level", ["debug", "info", "warning", "error", "exception"])
    def test_a_line_is_written_with_and_without_a_loop(self, wrapper: Any, cached: bool, level: str) -> None:
        """On the loop's thread, in another one and without any loop, and without a coroutine that is left."""
        lines: list[EventDict] = []
        configure_into(
            lines,
            wrapper_class=wrapper,
            cache_logger_on_first_use=cached,
            logger_factory=lambda *_: logging.getLogger("nat_observability"),
        )

        def write(where: str) -> None:
            getattr(get_logger().bind(run="r1"), level)("exporter_stopped", where=where)

        async def main() -> None:
            write("on the loop")
            await asyncio.to_thread(write, "in a thread")

        asyncio.run(main())
        write("without a loop")
        gc.collect()  # a coroutine that was never awaited warns when it is freed, and warnings are errors
        assert [(line["event"], line["run"], line["where"]) for line in lines] == [
            ("exporter_stopped", "r1", where) for where in ("on the loop", "in a thread", "without a loop")
        ]

    def test_processors_of_the_standard_library_work(self, caplog: pytest.LogCaptureFixture) -> None:
        """With the usual chain, the record has the name, the level and the keys."""
        structlog.configure(
            processors=[
                structlog.stdlib.filter_by_level,
                structlog.stdlib.add_logger_name,
                structlog.stdlib.add_log_level,
                structlog.stdlib.render_to_log_kwargs,
            ],
            wrapper_class=structlog.stdlib.AsyncBoundLogger,
            logger_factory=structlog.stdlib.LoggerFactory(),
        )
        with caplog.at_level(logging.WARNING, logger="nat_observability"):
            get_logger().info("exporter_started", exporter="main")
            get_logger().warning("exporter_abandoned", exporter="main")
        (record,) = caplog.records
        assert (record.name, record.levelno) == ("nat_observability", logging.WARNING)
        assert vars(record)["exporter"] == "main"

    def test_a_later_configuration_still_takes_effect(self) -> None:
        """No reference to the asynchronous logger is kept."""
        structlog.configure(
            wrapper_class=structlog.stdlib.AsyncBoundLogger,
            logger_factory=lambda *_: CapturingLogger(),
            cache_logger_on_first_use=True,
        )
        get_logger().info("runtime_opened")
        lines: list[EventDict] = []
        configure_into(lines)
        get_logger().info("runtime_drained")
        assert [line["event"] for line in lines] == ["runtime_drained"]

    def test_capture_logs_sees_it(self) -> None:
        """As with any other wrapper class."""
        structlog.configure(wrapper_class=structlog.stdlib.AsyncBoundLogger)
        with capture_logs() as lines:
            get_logger().warning("exporter_abandoned", exporter="main")
        assert lines == [{"exporter": "main", "event": "exporter_abandoned", "log_level": "warning"}]


class TestForeignFailures:
    def test_a_raising_processor_breaks_nothing(self) -> None:
        """What a processor of the application raises stays in the logger (G4)."""

        def broken(*_: object) -> EventDict:
            raise RuntimeError("broken processor")

        lines: list[EventDict] = []
        structlog.configure(processors=[broken])
        get_logger().warning("exporter_abandoned")
        configure_into(lines)
        get_logger().warning("exporter_stopped")
        assert [line["event"] for line in lines] == ["exporter_stopped"]

    def test_a_line_that_failed_goes_nowhere_else(self, caplog: pytest.LogCaptureFixture) -> None:
        """The processor that raised may be the one that redacts, so the line is not written without it (G13)."""

        def broken(*_: object) -> EventDict:
            raise RuntimeError("broken redaction")

        structlog.configure(processors=[broken])
        get_logger().error("exporter_start_failed", error="s3cr3t")
        assert caplog.records == []

    def test_a_raising_handler_breaks_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        """The same holds for a handler of the standard library, and for a value whose repr raises."""

        class Broken(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                raise RuntimeError("broken handler")

        class Unprintable:
            def __repr__(self) -> str:
                raise RuntimeError("no repr")

        handler, logger = Broken(), logging.getLogger("nat_observability")
        logger.addHandler(handler)
        try:
            get_logger().warning("exporter_abandoned")
        finally:
            logger.removeHandler(handler)
        get_logger().warning("exporter_abandoned", value=Unprintable())
        get_logger().warning("exporter_stopped")
        assert caplog.messages == ["exporter_stopped"]

    def test_a_processor_that_logs_through_us_does_not_recurse(self) -> None:
        """A line written while another is written on the same thread is dropped; the first one is not."""
        lines: list[EventDict] = []

        def recursive(_: object, __: str, event: EventDict) -> EventDict:
            get_logger().warning("delivery_dropped")
            return event

        configure_into(lines, recursive)
        get_logger().warning("exporter_abandoned")
        get_logger().warning("exporter_stopped")
        assert [line["event"] for line in lines] == ["exporter_abandoned", "exporter_stopped"]

    def test_an_interrupt_is_not_swallowed(self) -> None:
        """Ctrl-C within a processor reaches the caller, and logging goes on; what a processor raises does not."""

        def interrupted(*_: object) -> EventDict:
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("not reached")

        def interrupts(*_: object) -> EventDict:
            raise KeyboardInterrupt

        structlog.configure(processors=[interrupts])
        get_logger().warning("exporter_abandoned")
        structlog.configure(processors=[interrupted])
        with pytest.raises(KeyboardInterrupt):
            get_logger().warning("exporter_abandoned")
        with capture_logs() as lines:
            get_logger().warning("exporter_abandoned")
        assert len(lines) == 1


class TestGarbageCollector:
    """The collector may close a step, which logs, at any moment: in the middle of the application's own line too."""

    class Closed:
        """Logs when it is collected, as a step in a generator does."""

        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            get_logger().warning("closed_late", reason="collected")

    class Collecting(io.StringIO):
        """A stream in which the collector runs when something is written."""

        def write(self, text: str) -> int:
            if text.strip():
                TestGarbageCollector.Closed()
                gc.collect()
            return super().write(text)

    def test_a_line_during_the_applications_own_waits_for_the_next(self) -> None:
        """structlog's lock of a file, which is not reentrant, would be waited for for ever."""
        file = self.Collecting()
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(file))
        thread = threading.Thread(target=structlog.get_logger().info, args=("own",), daemon=True)
        thread.start()
        thread.join(5)
        assert not thread.is_alive()
        assert "closed_late" not in file.getvalue()
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(plain := io.StringIO()))
        get_logger().info("next")
        events = [
            word
            for word in plain.getvalue().replace("\x1b[1m", "").split()
            if word in ("next", "closed_late")
        ]
        assert events == ["next", "closed_late"]

    def test_a_line_while_nothing_else_is_written_is_written_at_once(self) -> None:
        """As any other."""
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(file := io.StringIO()))
        self.Closed()
        gc.collect()
        assert "closed_late" in file.getvalue()

    def test_what_waits_at_the_end_of_the_process_is_written(self) -> None:
        """Nothing is lost without a word."""
        ran = run_program(
            """
            import structlog
            from tests.test_logs import TestGarbageCollector

            class Written(TestGarbageCollector.Collecting):
                def write(self, text):
                    print(text, end="")
                    return 0 if "closed_late" in text else super().write(text)

            structlog.configure(logger_factory=structlog.PrintLoggerFactory(Written()))
            structlog.get_logger().info("own")
            """
        )
        assert ran.stdout.count("own") == 1
        assert "closed_late" in ran.stdout


class TestFilteredOut:
    def test_a_filtered_level_runs_no_processor(self) -> None:
        """A line below the level of the filtering wrapper is not seen by any processor."""
        lines: list[EventDict] = []
        configure_into(lines, wrapper_class=AT_INFO)
        get_logger().debug("manager_started")
        get_logger().info("manager_stopped")
        assert [line["event"] for line in lines] == ["manager_stopped"]

    @pytest.mark.parametrize("configured", [True, False])
    def test_a_filtered_line_is_cheap(self, configured: bool) -> None:
        """It makes fewer than half of the calls that structlog's own unbound logger makes to filter it out."""
        ours, theirs = get_logger(), structlog.get_logger("theirs")
        structlog.configure(wrapper_class=AT_INFO, logger_factory=structlog.PrintLoggerFactory(io.StringIO()))
        reference = calls_of(lambda: theirs.debug("event", a=1, b=2, c=3))
        if not configured:
            structlog.reset_defaults()
        assert calls_of(lambda: ours.debug("event", a=1, b=2, c=3)) < reference / 2


def calls_of(call: Callable[[], object]) -> int:
    """Return how many functions a call calls, when it is made the second time."""
    call()
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        call()
    finally:
        sys.setprofile(before)
    return calls


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class TestRepeatedEvent:
    def test_the_first_is_due_and_then_one_per_interval(self) -> None:
        """Occurrences within the interval are counted, and the next line says how many there were."""
        clock = Clock()
        repeated = RepeatedEvent(interval=30.0, clock=clock)
        assert repeated.due() == 0
        assert [repeated.due() for _ in range(3)] == [None, None, None]
        clock.now += 29.9
        assert repeated.due() is None
        clock.now += 0.2
        assert repeated.due() == 4
        clock.now += 30
        assert repeated.due() == 0

    def test_the_rest_can_be_summarised(self) -> None:
        """What was suppressed since the last line is logged once, at the end."""
        repeated = RepeatedEvent(clock=Clock())
        for _ in range(5):
            repeated.due()
        assert (repeated.rest(), repeated.rest()) == (4, 0)

    @given(st.lists(st.floats(min_value=0, max_value=100), max_size=50))
    def test_every_occurrence_is_logged_or_counted(self, pauses: list[float]) -> None:
        """Lines and suppressed occurrences add up to all there were, however they are spread."""
        clock = Clock()
        repeated = RepeatedEvent(interval=30.0, clock=clock)
        told = 0
        for pause in pauses:
            clock.now += pause
            suppressed = repeated.due()
            told += 0 if suppressed is None else 1 + suppressed
        assert told + repeated.rest() == len(pauses)
