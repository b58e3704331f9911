"""Every exception that the package raises; each names the thing that is wrong and the cure."""

from __future__ import annotations

import dis
import functools
import inspect
import signal
import threading
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from types import CodeType
from typing import Any, cast

__all__ = [
    "BatchTooLargeError",
    "ClientDisconnectedError",
    "ExporterEndedEarlyError",
    "ExporterStartError",
    "GreenThreadsError",
    "InvalidExporterError",
    "InvalidExporterNameError",
    "InvalidLimitError",
    "InvalidPatternError",
    "InvalidSamplingError",
    "InvalidTimeoutError",
    "InvalidWorkflowError",
    "ManagerRunningError",
    "MissingContainerError",
    "MissingExtraError",
    "NoRequestRunError",
    "NotPicklableError",
    "ObservabilityError",
    "PermanentWriteError",
    "ResponseIncompleteError",
    "RetryableWriteError",
    "RuntimeNotOpenError",
    "RuntimeStateError",
    "ServerStatusError",
    "SettingsError",
    "SettingsWarning",
    "SinkError",
    "StartTimeoutError",
    "StopTimeoutError",
    "ThreadRefusedError",
    "UnknownContextStateError",
    "UnknownExporterError",
    "UnknownExporterTypeError",
    "UnknownPersonalSetError",
    "UnknownPrivacyLevelError",
    "UnknownStepKindError",
    "UnsupportedPoolError",
    "UnsupportedVersionError",
    "WebsocketClosedError",
]

EXITS = (KeyboardInterrupt, SystemExit)
"""What ends the program, whoever's code it comes from. Foreign code may raise anything else by mistake."""


def _nearest(name: str, known: Iterable[str]) -> str:
    import difflib  # which takes a while, and is needed only here

    match = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {match[0]!r}?" if match else ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


class ObservabilityError(Exception):
    """
    Base class of every exception that the package raises.

    It can be pickled and copied, so that it arrives if a worker process raises it: with its text, attributes, notes
    and cause. What cannot be pickled of an attribute or a cause arrives as text, an exception as `NotPicklableError`.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # Not (class, args): args is the message, and the classes are not called with it.
        _, args, *state = cast("tuple[Any, ...]", super().__reduce__())
        attributes = dict(state[0]) if state and state[0] else {}
        return _blank, (type(self),), _Parts(args, attributes, self.__cause__, self.__suppress_context__)

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, _Parts):
            super().__setstate__(state)  # type: ignore[arg-type]  # of a subclass with a __reduce__ of its own
            return
        _builtin_base(type(self)).__init__(self, *state.args)
        super().__setstate__(dict(state.attributes))
        self.__cause__ = state.cause
        self.__suppress_context__ = state.suppress_context


class NotPicklableError(ObservabilityError):
    """Stands for a foreign exception that could not be pickled, in an exception that was."""

    def __init__(self, error: BaseException) -> None:
        self.error_type = f"{type(error).__module__}.{type(error).__qualname__}"
        super().__init__(describe(error))


class _Parts:
    """What an exception consists of, on its way into a copy: as it is, or without what cannot be pickled."""

    def __init__(
        self,
        args: tuple[object, ...],
        attributes: dict[str, object],
        cause: BaseException | None,
        suppress_context: bool,
    ) -> None:
        self.args, self.attributes = args, attributes
        self.cause, self.suppress_context = cause, suppress_context

    def __reduce__(self) -> tuple[Any, ...]:
        parts = _picklable(self.args), _picklable(self.attributes), _picklable(self.cause)
        return _Parts, (*parts, self.suppress_context)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Parts:
        args, attributes = _deep_copy(self.args, memo), _deep_copy(self.attributes, memo)
        return _Parts(args, attributes, _deep_copy(self.cause, memo), self.suppress_context)


class _Pickled:
    """A foreign object in a pickle: a pickle of its own, which was seen to load, or a text about the object."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __reduce__(self) -> tuple[Any, ...]:
        under_way = _under_way.get()
        # An exception may be its own cause's attribute: inside itself it is named only.
        if id(self._value) not in under_way:
            import pickle  # not before it is needed: it takes a while

            token = _under_way.set(under_way | {id(self._value)})
            try:
                pickled = pickle.dumps(self._value)
                pickle.loads(pickled)
                return pickle.loads, (pickled,)
            except Exception:  # noqa: BLE001  foreign code: whatever an object does when it is pickled
                pass
            finally:
                _under_way.reset(token)
        if isinstance(self._value, BaseException):
            return _same, (NotPicklableError(self._value),)
        return str, (_text(self._value),)


_under_way: ContextVar[frozenset[int]] = ContextVar("_under_way", default=frozenset())


def _picklable(value: object) -> Any:
    # What can be pickled for certain stays as it is; of mappings and sequences each part is looked at for itself.
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    if type(value) is dict:
        return {_picklable(key): _picklable(each) for key, each in value.items()}
    if type(value) is list or type(value) is tuple:
        return type(value)(map(_picklable, value))
    return _Pickled(value)


def _deep_copy(value: object, memo: dict[int, Any]) -> Any:
    if type(value) is dict:
        return {_deep_copy(key, memo): _deep_copy(each, memo) for key, each in value.items()}
    if type(value) is list or type(value) is tuple:
        return type(value)(_deep_copy(each, memo) for each in value)
    import copy  # not before it is needed: it takes a while

    try:
        return copy.deepcopy(value, memo)
    except Exception:  # noqa: BLE001  foreign code: whatever an object does when it is copied
        return value


def _blank(kind: type[ObservabilityError]) -> object:
    return _builtin_base(kind).__new__(kind)


def _builtin_base(kind: Any) -> Any:
    # Not by the order of resolution: of several built-in classes it is the one that says how an instance is laid out.
    while kind.__module__ != "builtins":
        kind = kind.__base__
    return kind


def _same(value: object) -> object:
    return value


def _text(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001  foreign code: a repr that raises
        return f"a {type(value).__qualname__}"


class UnknownExporterError(ObservabilityError, ValueError):
    """Raised when no exporter is registered under the requested name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name, self.known = name, tuple(known)
        super().__init__(f"No exporter named {name!r}. Registered: {_listed(self.known)}.")


class InvalidExporterError(ObservabilityError, TypeError):
    """Raised when an object is added that is not an exporter."""

    def __init__(self, name: str, exporter: object, missing: Iterable[str]) -> None:
        self.name, self.exporter_type, self.missing = name, type(exporter).__qualname__, tuple(missing)
        super().__init__(
            f"Exporter {name!r} is a {self.exporter_type}, which is not an exporter: it lacks "
            f"{_listed(self.missing)}. Derive it from nat_observability.BaseExporter, or give it these methods."
        )


class InvalidExporterNameError(ObservabilityError, ValueError):
    """Raised when an exporter's name is not a non-empty string."""

    def __init__(self, name: object) -> None:
        self.name = name
        super().__init__(
            f"An exporter's name is a non-empty string, not {name!r}. Give it a name such as 'main'."
        )


class InvalidTimeoutError(ObservabilityError, ValueError):
    """Raised when a timeout is not a positive number of seconds."""

    def __init__(self, setting: str, value: object) -> None:
        self.setting, self.value = setting, value
        super().__init__(
            f"{setting} is a positive, finite number of seconds, not {value!r}. Leave it out for the default."
        )


class InvalidSamplingError(ObservabilityError, ValueError):
    """Raised when a ratio or a limit of sampling is not in its range."""

    def __init__(self, setting: str, value: object, allowed: str) -> None:
        self.setting, self.value = setting, value
        super().__init__(f"{setting} of a Sampling is {allowed}, not {value!r}.")


class ManagerRunningError(ObservabilityError, RuntimeError):
    """Raised when a manager that runs already is started again."""

    def __init__(self) -> None:
        super().__init__(
            "The exporter manager is already running. Use manager.get() for a second run at the same time."
        )


class ExporterStartError(ObservabilityError, RuntimeError):
    """Raised when a required exporter did not start; what had started was stopped before."""

    def __init__(self, failures: Mapping[str, BaseException]) -> None:
        self.failures = dict(failures)
        reasons = "; ".join(
            f"{name!r}: {describe(error).rstrip('.')}" for name, error in self.failures.items()
        )
        super().__init__(f"Required exporters did not start: {reasons}.")


class ExporterEndedEarlyError(ObservabilityError, RuntimeError):
    """Stands in a report for an exporter whose start ended before it was told to stop."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"Exporter {name!r} ended before it was told to stop: its start() has to yield once."
        )


class StartTimeoutError(ObservabilityError, TimeoutError):
    """Stands in a report for what did not start within the start timeout."""

    def __init__(self, name: str, timeout: float) -> None:
        self.name, self.timeout = name, timeout
        super().__init__(
            f"{name!r} was not ready within {timeout:g} s. Raise start_timeout, or mend what it waits for."
        )


class StopTimeoutError(ObservabilityError, TimeoutError):
    """Stands in a report for what was abandoned when the shutdown deadline had passed."""

    def __init__(self, name: str, timeout: float) -> None:
        self.name, self.timeout = name, timeout
        super().__init__(
            f"{name!r} did not stop within {timeout:g} s and was abandoned. Raise shutdown_timeout, or mend its stop."
        )


class ThreadRefusedError(ObservabilityError, RuntimeError):
    """Raised when the system refuses a background thread, or what that thread's event loop needs."""

    def __init__(self, thread: str, problem: str, cure: str) -> None:
        self.thread, self.problem, self.cure = thread, problem, cure
        super().__init__(f"The thread {thread!r} cannot be started ({problem}). {cure}")


class GreenThreadsError(ThreadRefusedError):
    """Raised when gevent or eventlet has replaced the threads that a delivery needs by its own."""

    def __init__(self, thread: str, library: str) -> None:
        self.library = library
        super().__init__(
            thread,
            f"{library} has patched the threads and waits of this process, and exporting needs real ones",
            "Run the service with threads or with asyncio, or without its monkey patching: until then, nothing is "
            "exported.",
        )


class UnknownContextStateError(ObservabilityError, TypeError):
    """Raised when a run is given a context state that is neither ours nor that of a supported framework."""

    def __init__(self, state: object, known: Iterable[str]) -> None:
        self.state_type, self.known = f"{type(state).__module__}.{type(state).__qualname__}", tuple(known)
        super().__init__(
            f"A run's context state is no {self.state_type}. Pass a nat_observability.ContextState, or that of a "
            f"supported framework: {_listed(self.known)}."
        )


class InvalidWorkflowError(ObservabilityError, TypeError):
    """Raised when an object is given as a workflow of the reference toolkit that is none."""

    def __init__(self, workflow: object, missing: Iterable[str]) -> None:
        self.workflow_type, self.missing = type(workflow).__qualname__, tuple(missing)
        super().__init__(
            f"A {self.workflow_type} is no workflow of the NeMo Agent Toolkit: it lacks {_listed(self.missing)}. "
            "Pass what WorkflowBuilder.build() returned."
        )


class RuntimeStateError(ObservabilityError, RuntimeError):
    """Raised when a runtime is used in a state that does not allow it."""


class SinkError(ObservabilityError, RuntimeError):
    """Raised when a sink cannot be opened or written; `where` names the file or address, `cure` what to do."""

    def __init__(self, where: str, problem: str, cure: str) -> None:
        self.where, self.problem, self.cure = where, problem, cure
        super().__init__(f"{where}: {problem}. {cure}")


class RetryableWriteError(ObservabilityError, RuntimeError):
    """
    Raised by a sink's write that may succeed later; nothing of the batch was stored.

    `retry_after` is the least number of seconds until then, where the back end said so.
    """

    def __init__(self, problem: str, *, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(problem)


class PermanentWriteError(ObservabilityError, RuntimeError):
    """Raised by a sink's write that would fail again, however often it is tried."""


class BatchTooLargeError(ObservabilityError, RuntimeError):
    """Raised by a sink's write whose batch is larger than the back end takes; halves of it may do."""


class MissingExtraError(ObservabilityError, ImportError):
    """Raised when a feature needs an optional dependency that is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        self.feature, self.extra = feature, extra
        super().__init__(f"{feature} needs an extra: pip install 'nat-observability[{extra}]'")


class UnsupportedVersionError(ObservabilityError, ImportError):
    """
    Raised when a framework has a version that its integration does not work with.

    `missing` are the parts that it would need and this version lacks, where that is how it was found out.
    """

    def __init__(self, package: str, found: str, supported: str, missing: Iterable[str] = ()) -> None:
        self.package, self.found, self.supported, self.missing = package, found, supported, tuple(missing)
        lacks = f", which lacks {_listed(self.missing)}" if self.missing else ""
        super().__init__(
            f"{package} {found} is installed{lacks}, supported is {supported}: pip install '{package}{supported}'"
        )


class UnsupportedPoolError(ObservabilityError, RuntimeError):
    """Raised when a worker has a pool in which its integration does not work."""

    def __init__(self, framework: str, pool: str, supported: Iterable[str]) -> None:
        self.framework, self.pool, self.supported = framework, pool, tuple(supported)
        super().__init__(
            f"{framework}'s pool {pool} is not supported. Start it with one of: {_listed(self.supported)}."
        )


class MissingContainerError(ObservabilityError, TypeError):
    """Raised when an integration is given something that is not a container of observability."""

    def __init__(self, feature: str, given: object, missing: Iterable[str]) -> None:
        self.feature, self.missing = feature, tuple(missing)
        kind = "None" if given is None else f"a {type(given).__qualname__}"
        super().__init__(
            f"{feature} needs an ObservabilityContainer and was given {kind}, which lacks "
            f"{_listed(self.missing)}. Make one when the process starts, and pass it."
        )


class RuntimeNotOpenError(ObservabilityError, RuntimeError):
    """Raised when an application starts that records runs, and nobody has opened the runtime that they need."""

    def __init__(self, feature: str, state: str, cure: str) -> None:
        self.feature, self.state = feature, state
        super().__init__(f"{feature} needs an open runtime, and its runtime is {state}. {cure}")


class NoRequestRunError(ObservabilityError, RuntimeError):
    """Raised when what belongs to a request's run is asked for where there is none."""

    def __init__(self, feature: str) -> None:
        self.feature = feature
        super().__init__(
            f"{feature} is for code that handles a request, and no request's run is current here. Add "
            "RequestMiddleware to the application, or call instrument(), and see that the path is not excluded."
        )


class ClientDisconnectedError(ObservabilityError, ConnectionError):
    """Stands in a record for a response that its client did not wait for."""

    def __init__(self) -> None:
        super().__init__("The client disconnected before the response was complete.")


class ResponseIncompleteError(ObservabilityError, RuntimeError):
    """Stands in a record for a response that the application did not complete."""

    def __init__(self) -> None:
        super().__init__("The application returned without completing its response.")


class ServerStatusError(ObservabilityError, RuntimeError):
    """Stands in a record for a response that says by its status, 500 or more, that the server failed."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"The response has the status {status}.")


class WebsocketClosedError(ObservabilityError, RuntimeError):
    """Stands in a record for a websocket that the application closed because of an error of its own."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"The application closed the websocket with the code {code}.")


class UnknownStepKindError(ObservabilityError, ValueError):
    """Raised when a step is given a kind that does not exist."""

    def __init__(self, kind: object, known: Iterable[str]) -> None:
        self.kind, self.known = kind, tuple(known)
        super().__init__(
            f"No step kind {kind!r}.{_nearest(str(kind), self.known)} Known: {_listed(self.known)}."
        )


class UnknownExporterTypeError(ObservabilityError, ValueError):
    """Raised when a setting names an exporter type that nobody has registered."""

    def __init__(self, where: str, exporter_type: str, known: Iterable[str]) -> None:
        self.where, self.exporter_type, self.known = where, exporter_type, tuple(sorted(known))
        super().__init__(
            f"{where}: no exporter type {exporter_type!r}.{_nearest(exporter_type, self.known)} "
            f"Known: {_listed(self.known)}."
        )


class InvalidPatternError(ObservabilityError, ValueError):
    """Raised when a pattern or a key to redact cannot be used; `name` is the pattern's."""

    def __init__(self, name: object, problem: str, cure: str) -> None:
        self.name, self.problem, self.cure = name, problem, cure
        super().__init__(f"Pattern {name!r}: {problem}. {cure}")


class UnknownPersonalSetError(ObservabilityError, ValueError):
    """Raised when there is no set of personal data of the requested name."""

    def __init__(self, name: object, known: Iterable[str]) -> None:
        self.name, self.known = name, tuple(known)
        super().__init__(
            f"No set of personal data {name!r}.{_nearest(str(name), self.known)} Known: {_listed(self.known)}."
        )


class UnknownPrivacyLevelError(ObservabilityError, ValueError):
    """Raised when there is no privacy level of the requested name."""

    def __init__(self, name: object, known: Iterable[str]) -> None:
        self.name, self.known = name, tuple(known)
        super().__init__(
            f"No privacy level {name!r}.{_nearest(str(name), self.known)} Known: {_listed(self.known)}."
        )


class InvalidLimitError(ObservabilityError, ValueError):
    """Raised when a limit on what is recorded is not a whole number in its range."""

    def __init__(self, name: str, value: object, least: int, *, optional: bool = False) -> None:
        self.name, self.value, self.least = name, value, least
        super().__init__(
            f"{name} is a whole number from {least} on{', or None for no limit' if optional else ''}, not {value!r}."
        )


class SettingsError(ObservabilityError, ValueError):
    """Raised when settings do not validate; one line per problem, none of which holds the value itself."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("Settings are not valid:\n" + "\n".join(f"  {problem}" for problem in self.problems))


class SettingsWarning(ObservabilityError, UserWarning):  # noqa: N818  a warning
    """Warned about a variable that is ignored: an unknown one of ours, or an `OTEL_` one that is not valid."""


def place(error: BaseException) -> str | None:
    """Return where an error was raised, file and line, None where it never was."""
    link = error.__traceback__
    while link is not None and link.tb_next is not None:
        link = link.tb_next
    return None if link is None else f"{link.tb_frame.f_code.co_filename}:{link.tb_lineno}"


def locate(error: BaseException) -> str:
    """
    One line that names an error: its type and the place where it was raised.

    For those of foreign code that saw an item before redaction: their messages may hold what was to be redacted.
    """
    where = place(error)
    return f"{type(error).__name__} at {where}" if where is not None else type(error).__name__


_RAISE = dis.opmap["RAISE_VARARGS"]


def reraise_signal(error: BaseException) -> None:
    """
    Raise `error` again if a signal handler raised it, in whatever code it interrupted.

    For the places that survive all that foreign code raises, `KeyboardInterrupt` and `SystemExit` included: Ctrl-C, a
    handler that exits and a time limit by signal still reach the program while such code runs.
    """
    link = error.__traceback__
    if link is None or threading.current_thread() is not threading.main_thread():
        return  # only the main thread handles signals
    codes: set[CodeType] | None = None
    while link.tb_next is not None:
        link = link.tb_next
        code = link.tb_frame.f_code
        # A handler is called with a number and a frame.
        if code.co_argcount >= 2 or code.co_flags & inspect.CO_VARARGS:
            codes = _handlers() if codes is None else codes
            if code in codes:
                raise error
    if type(error) is KeyboardInterrupt and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Python's own handler leaves no frame: it raises between two instructions of the code that it interrupts.
        instructions, at = link.tb_frame.f_code.co_code, link.tb_lasti
        if not (0 <= at < len(instructions) and instructions[at] == _RAISE):
            raise error


def _handlers() -> set[CodeType]:
    codes: set[CodeType] = set()
    for number in signal.valid_signals():
        handler: object = signal.getsignal(number)
        if not callable(handler):
            continue
        while isinstance(handler, functools.partial):
            handler = handler.func
        if not hasattr(handler, "__code__") and not hasattr(handler, "__func__"):
            handler = vars(type(handler)).get("__call__")
        code = getattr(getattr(handler, "__func__", handler), "__code__", None)
        if isinstance(code, CodeType):
            codes.add(code)
    return codes


def describe(error: BaseException) -> str:
    """
    One line that names an error: its type and its message.

    An exception whose own `str` raises is named by its type alone.
    """
    try:
        text = str(error)
    except BaseException as problem:  # noqa: BLE001  foreign code: an exception class of the user's
        reraise_signal(problem)
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
