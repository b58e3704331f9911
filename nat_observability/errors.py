"""Every exception that the package raises; each names what is wrong and the cure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from nat_observability.base_error import (
    NotPicklableError,
    ObservabilityError,
    cure_of,
    listed,
    nearest,
    shown,
)
from nat_observability.foreign_errors import describe
from nat_observability.recorded_errors import (
    ClientDisconnectedError,
    ResponseIncompleteError,
    RpcFailedError,
    ServerStatusError,
    ToolFailedError,
    WebsocketClosedError,
)

__all__ = [
    "AsynchronousProviderError",
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
    "InvalidSelectionError",
    "InvalidTimeoutError",
    "InvalidWorkflowError",
    "ManagerRunningError",
    "MissingContainerError",
    "MissingExtraError",
    "NoEventLoopError",
    "NoRequestRunError",
    "NotPicklableError",
    "ObservabilityError",
    "PermanentWriteError",
    "RefusedForNowError",
    "ResponseIncompleteError",
    "RetryableWriteError",
    "RpcFailedError",
    "RuntimeNotOpenError",
    "RuntimeStateError",
    "ServerStatusError",
    "SettingsError",
    "SettingsWarning",
    "SinkError",
    "StartTimeoutError",
    "StopTimeoutError",
    "ThreadRefusedError",
    "ToolFailedError",
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


class UnknownExporterError(ObservabilityError, ValueError):
    """Raised when no exporter is registered under the requested name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name, self.known = name, tuple(known)
        super().__init__(f"No exporter named {name!r}. Registered: {listed(self.known)}.")


class InvalidExporterError(ObservabilityError, TypeError):
    """Raised when an object is added that is not an exporter."""

    def __init__(
        self, name: str, exporter: object, missing: Iterable[str], problem: str = "", cure: str = ""
    ) -> None:
        self.name, self.exporter_type, self.missing = name, type(exporter).__qualname__, tuple(missing)
        kind = (
            f"the class {exporter.__qualname__}" if isinstance(exporter, type) else f"a {self.exporter_type}"
        )
        problem = problem or f"which is not an exporter: it lacks {listed(self.missing)}"
        cure = (
            cure
            or cure_of(exporter)
            or "Derive it from nat_observability.BaseExporter, or give it these methods."
        )
        super().__init__(f"Exporter {name!r} is {kind}, {problem}. {cure}")


class InvalidExporterNameError(ObservabilityError, ValueError):
    """Raised when an exporter's name is not a non-empty string, or that of a template's is a path or a pattern."""

    # What paths, patterns and lists are written with: no variable can name such an exporter.
    unusable = re.compile(r"""[/\\*?\[\]{},;='"\x00-\x1f\x7f]""")

    def __init__(self, name: object) -> None:
        self.name = name
        wanted = (
            "neither a path nor a pattern here"
            if isinstance(name, str) and name.strip()
            else "a non-empty string"
        )
        super().__init__(f"An exporter's name is {wanted}, not {shown(name)}. Give it a name such as 'main'.")


class InvalidTimeoutError(ObservabilityError, ValueError):
    """Raised when a timeout is not a positive number of seconds."""

    def __init__(self, setting: str, value: object) -> None:
        self.setting, self.value = setting, value
        super().__init__(
            f"{setting} is a positive, finite number of seconds, not {value!r}. Leave it out for the default."
        )


class InvalidSamplingError(ObservabilityError, ValueError):
    """Raised when a sampling ratio or limit is out of its range."""

    def __init__(self, setting: str, value: object, allowed: str) -> None:
        self.setting, self.value = setting, value
        super().__init__(f"{setting} of a Sampling is {allowed}, not {value!r}.")


class InvalidSelectionError(ObservabilityError, ValueError):
    """Raised when what an exporter is to select cannot be used."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(
            f"A selection has {problem}. "
            "Pass names with values, such as {'tenant': 'acme'} or {'user_id': ['u1', 'u2']}."
        )


class ManagerRunningError(ObservabilityError, RuntimeError):
    """Raised when a manager that is already running is started again."""

    def __init__(self) -> None:
        super().__init__(
            "The exporter manager is already running. Use manager.get() for a second run at the same time."
        )


class AsynchronousProviderError(ObservabilityError, RuntimeError):
    """Raised when what a container is given is asynchronous and has not been awaited yet."""

    def __init__(self, provider: str, resources: Iterable[str]) -> None:
        self.provider, self.resources = provider, tuple(resources)
        of = f" of the asynchronous resource {listed(self.resources)}" if self.resources else ""
        example = self.resources[0].rpartition(".")[2] if self.resources else "pool"
        super().__init__(
            f"The provider {provider!r} gives a future{of}, not an object. Await container.init_resources() first, "
            f"or pass {example}.provider, and call it where the object is used."
        )


class NoEventLoopError(ObservabilityError, RuntimeError):
    """Raised when a container's resources are opened or closed without a running event loop."""

    def __init__(self, call: str) -> None:
        self.call = call
        super().__init__(
            f"{call} needs a running event loop. Await it in a coroutine, or without a loop use "
            "`with ProcessScope(container, 'my program'):` of nat_observability.integrations."
        )


class ExporterStartError(ObservabilityError, RuntimeError):
    """Raised when a required exporter did not start, after those that had started were stopped."""

    def __init__(self, failures: Mapping[str, BaseException]) -> None:
        self.failures = dict(failures)
        reasons = "; ".join(
            f"{name!r}: {describe(error).rstrip('.')}" for name, error in self.failures.items()
        )
        super().__init__(f"Required exporters did not start: {reasons}.")


class ExporterEndedEarlyError(ObservabilityError, RuntimeError):
    """Reported for an exporter whose start ended before its run did."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"Exporter {name!r} ended before its run did: its start() has to yield once.")


class StartTimeoutError(ObservabilityError, TimeoutError):
    """Reported for what did not start within the start timeout."""

    def __init__(self, name: str, timeout: float) -> None:
        self.name, self.timeout = name, timeout
        super().__init__(
            f"{name!r} was not ready within {timeout:g} s. Raise start_timeout, or mend what it waits for."
        )


class StopTimeoutError(ObservabilityError, TimeoutError):
    """Reported for what was abandoned when the shutdown deadline had passed."""

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
    """Raised when gevent or eventlet has replaced the threads that a delivery needs with its own."""

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
            f"A run's context state is not a {self.state_type}. Pass a nat_observability.ContextState, or that of a "
            f"supported framework: {listed(self.known)}."
        )


class InvalidWorkflowError(ObservabilityError, TypeError):
    """Raised when an object given as a workflow of the reference toolkit is not one."""

    def __init__(self, workflow: object, missing: Iterable[str]) -> None:
        self.workflow_type, self.missing = type(workflow).__qualname__, tuple(missing)
        super().__init__(
            f"A {self.workflow_type} is not a workflow of the NeMo Agent Toolkit: it lacks {listed(self.missing)}. "
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
    """Raised by a sink's write that may succeed in `retry_after` seconds at the earliest; nothing of it was stored."""

    def __init__(self, problem: str, *, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(problem)


class PermanentWriteError(ObservabilityError, RuntimeError):
    """Raised by a sink's write that would fail again, however often it is tried."""


class RefusedForNowError(PermanentWriteError):
    """
    Raised by a sink's write that the back end refuses for a reason outside the batch: a key, an address, an error of
    its own.

    It is final for items that are only in memory. With a spool they stay there and are tried again, by later processes
    too, until they expire; newer items do not wait for them.
    """


class BatchTooLargeError(ObservabilityError, RuntimeError):
    """Raised by a sink's write if its batch is larger than the back end takes; halves of it may fit."""


class MissingExtraError(ObservabilityError, ImportError):
    """Raised when a feature needs an optional dependency that is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        self.feature, self.extra = feature, extra
        super().__init__(f"{feature} needs an extra: pip install 'nat-observability[{extra}]'")


class UnsupportedVersionError(ObservabilityError, ImportError):
    """Raised when a framework's installed version does not work with its integration; `missing` is what it lacks."""

    def __init__(self, package: str, found: str, supported: str, missing: Iterable[str] = ()) -> None:
        self.package, self.found, self.supported, self.missing = package, found, supported, tuple(missing)
        lacks = f", which lacks {listed(self.missing)}" if self.missing else ""
        super().__init__(
            f"{package} {found} is installed{lacks}, supported is {supported}: pip install '{package}{supported}'"
        )


class UnsupportedPoolError(ObservabilityError, RuntimeError):
    """Raised when a worker has a pool in which its integration does not work."""

    def __init__(self, framework: str, pool: str, supported: Iterable[str]) -> None:
        self.framework, self.pool, self.supported = framework, pool, tuple(supported)
        super().__init__(
            f"{framework}'s pool {pool} is not supported. Start it with one of: {listed(self.supported)}."
        )


class MissingContainerError(ObservabilityError, TypeError):
    """Raised when an integration is given something that is not a container of observability."""

    def __init__(self, feature: str, given: object, missing: Iterable[str]) -> None:
        self.feature, self.missing = feature, tuple(missing)
        if isinstance(given, type):
            found = (
                f"the class {given.__qualname__}, which is not an object yet: it lacks {listed(self.missing)}"
            )
        else:
            kind = "None" if given is None else f"a {type(given).__qualname__}"
            found = f"{kind}, which lacks {listed(self.missing)}"
        cure = cure_of(given) or "Make one when the process starts, and pass it."
        super().__init__(f"{feature} needs an ObservabilityContainer and was given {found}. {cure}")


class RuntimeNotOpenError(ObservabilityError, RuntimeError):
    """Raised when an application that records runs starts before the runtime that they need is open."""

    def __init__(self, feature: str, state: str, cure: str) -> None:
        self.feature, self.state = feature, state
        super().__init__(f"{feature} needs an open runtime, and its runtime is {state}. {cure}")


class NoRequestRunError(ObservabilityError, RuntimeError):
    """Raised when something of a request's run is asked for outside such a run."""

    def __init__(self, feature: str) -> None:
        self.feature = feature
        super().__init__(
            f"{feature} is for code that handles a request, and no request's run is current here. Add "
            "RequestMiddleware to the application, or call instrument(), and see that the path is not excluded."
        )


class UnknownStepKindError(ObservabilityError, ValueError):
    """Raised when a step is given a kind that does not exist."""

    def __init__(self, kind: object, known: Iterable[str]) -> None:
        self.kind, self.known = kind, tuple(known)
        near = nearest(kind, self.known) if type(kind) is str and len(kind) < 32 else ""
        super().__init__(f"No step kind {shown(kind)}.{near} Known: {listed(self.known)}.")


class UnknownExporterTypeError(ObservabilityError, ValueError):
    """Raised when a setting names an exporter type that is not registered."""

    def __init__(self, where: str, exporter_type: str, known: Iterable[str]) -> None:
        self.where, self.exporter_type, self.known = where, exporter_type, tuple(sorted(known))
        super().__init__(
            f"{where}: no exporter type {exporter_type!r}.{nearest(exporter_type, self.known)} "
            f"Known: {listed(self.known)}."
        )


class InvalidPatternError(ObservabilityError, ValueError):
    """
    Raised when a pattern or a key to redact cannot be used.

    `name` is the pattern's or the key; `variables` are the environment variables of which one has set it, if any.
    """

    def __init__(self, name: object, problem: str, cure: str, variables: Sequence[str] = ()) -> None:
        self.name, self.problem, self.cure, self.variables = name, problem, cure, tuple(variables)
        where = f"{' or '.join(variables)}: pattern" if variables else "Pattern"
        super().__init__(f"{where} {name!r}: {problem}. {cure}")


class UnknownPersonalSetError(ObservabilityError, ValueError):
    """Raised when a set of personal data is requested by an unknown name."""

    def __init__(self, name: object, known: Iterable[str]) -> None:
        self.name, self.known = name, tuple(known)
        super().__init__(
            f"No set of personal data {name!r}.{nearest(str(name), self.known)} Known: {listed(self.known)}."
        )


class UnknownPrivacyLevelError(ObservabilityError, ValueError):
    """Raised when a privacy level is requested by an unknown name."""

    def __init__(self, name: object, known: Iterable[str]) -> None:
        self.name, self.known = name, tuple(known)
        super().__init__(
            f"No privacy level {name!r}.{nearest(str(name), self.known)} Known: {listed(self.known)}."
        )


class InvalidLimitError(ObservabilityError, ValueError):
    """Raised when a recording limit is not a whole number in its range."""

    def __init__(self, name: str, value: object, least: int, *, optional: bool = False) -> None:
        self.name, self.value, self.least = name, value, least
        super().__init__(
            f"{name} is a whole number from {least} on{', or None for no limit' if optional else ''}, not {value!r}."
        )


class SettingsError(ObservabilityError, ValueError):
    """
    Raised when settings do not validate; one line per problem, and no line shows the value.

    The message has at most eight of them; `problems` has all.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        lines = list(self.problems[:_SHOWN])
        if more := len(self.problems) - len(lines):
            lines.append(f"And {more} more.")
        # The first problem in the first line: often no more than that is shown.
        super().__init__("Settings are not valid: " + "\n  ".join(lines))


_SHOWN = 8  # problems in one message


class SettingsWarning(ObservabilityError, UserWarning):  # noqa: N818  a warning
    """Warning about an ignored variable: an unknown one of ours, or an invalid `OTEL_` one."""
