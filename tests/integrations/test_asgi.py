"""The ASGI middleware, its lifespan, its health route and what it takes from headers, without a server."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from dependency_injector import providers
from starlette.applications import Starlette
from structlog.testing import capture_logs

from nat_observability import (
    ContextState,
    DeliveryLimits,
    ExporterManager,
    ObservabilityRuntime,
    SpanExporter,
    outgoing_headers,
    step,
)
from nat_observability.containers import ObservabilityContainer
from nat_observability.errors import (
    MissingContainerError,
    NoRequestRunError,
    SettingsError,
    UnsupportedVersionError,
)
from nat_observability.events import Span
from nat_observability.integrations.asgi import (
    HealthRoute,
    MetricsRoute,
    ObservabilityLifespan,
    RequestMiddleware,
    RequestState,
    RuntimeSource,
    current_manager,
    current_source,
    current_state,
    header,
    keep_open,
    lifespan,
)
from nat_observability.integrations.shared.versions import check_version
from nat_observability.integrations.starlette import instrument
from nat_observability.run.manager_options import ManagerOptions
from nat_observability.settings import ObservabilitySettings
from nat_observability.testing import until

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


class Service:
    """A source whose one exporter keeps the spans, and what requests are made with."""

    def __init__(self, propagate_tags: tuple[str, ...] = ()) -> None:
        self.spans: list[Span] = []
        exporter = SpanExporter(self.take)
        self.runtime = ObservabilityRuntime({"kept": exporter})
        options = ManagerOptions(observer=self.runtime, propagate_tags=propagate_tags)
        self.source = RuntimeSource(
            self.runtime, lambda: ExporterManager.with_options({"kept": exporter}, options)
        )

    def take(self, batch: Any) -> None:
        self.spans += batch

    async def request(self, app: Any, path: str = "/", **headers: str) -> list[dict[str, Any]]:
        """Make one request while the runtime is open; return what was sent."""
        async with self.runtime:
            return await request(app, path, **headers)

    @property
    def root(self) -> Span:
        """The span of the one request."""
        (root,) = [span for span in self.spans if span.kind == "WORKFLOW"]
        return root

    @property
    def metadata(self) -> dict[str, Any]:
        """What it says of the request."""
        return dict(json.loads(bytes(self.root.metadata or b"{}")))


async def request(app: Any, path: str = "/", **headers: str) -> list[dict[str, Any]]:
    """Make one request; return what was sent."""
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """Answer 200, to a request; an application that knows no lifespan raises."""
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


class Server:
    """The server's side of a lifespan."""

    def __init__(self, app: Any) -> None:
        self.said: list[dict[str, Any]] = []
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._messages.put_nowait({"type": "lifespan.startup"})
        self._answered = asyncio.Event()
        self.task = asyncio.ensure_future(
            app({"type": "lifespan", "state": {}}, self._messages.get, self._hear)
        )

    async def _hear(self, message: dict[str, Any]) -> None:
        self.said.append(message)
        self._answered.set()

    async def started(self) -> str:
        """Return the type of the application's first answer."""
        await self._answered.wait()
        return str(self.said[0]["type"])

    async def stop(self) -> str:
        """Tell it to end, and return its last answer's type."""
        self._messages.put_nowait({"type": "lifespan.shutdown"})
        await self.task
        return str(self.said[-1]["type"])


async def starlette_like(scope: Any, receive: Any, send: Any) -> None:
    """An application that knows the lifespan."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
    else:
        await answer(scope, receive, send)


# -- What the headers say ---------------------------------------------------------------------------------------------


async def test_trace_of_the_caller_goes_on() -> None:
    """The run is in the trace of `traceparent`, below its span."""
    service = Service()
    await service.request(RequestMiddleware(answer, service.source), traceparent=TRACEPARENT)
    assert (service.root.run.trace_id, service.root.parent_id) == (TRACE, PARENT)


@pytest.mark.parametrize(
    "traceparent", ["", "garbage", "00-" + "0" * 32 + "-" + PARENT + "-01", "\x00\xff", TRACEPARENT + "-more"]
)
async def test_malformed_traceparent_starts_a_new_trace(traceparent: str) -> None:
    """And the request is answered."""
    service = Service()
    sent = await service.request(RequestMiddleware(answer, service.source), traceparent=traceparent)
    assert sent[0]["status"] == 200
    assert service.root.run.trace_id != TRACE
    assert service.root.parent_id is None


async def test_conversation_user_and_chosen_baggage_are_taken() -> None:
    """The reference's header takes precedence over baggage; baggage becomes a tag if it was named."""
    service = Service()
    app = RequestMiddleware(answer, service.source, baggage=["tenant", "absent"])
    await service.request(
        app, conversation_id="c-1", baggage="session.id=c-2,user.id=u%201,tenant=acme;p=1,secret=x"
    )
    run = service.root.run
    assert (run.conversation_id, run.user_id, dict(run.tags)) == ("c-1", "u 1", {"tenant": "acme"})


@pytest.mark.parametrize(
    "options", [{}, {"tags": {"own": "x", "plan": "gold"}}, {"trusted": lambda scope: True}]
)
async def test_tags_and_the_baggage_of_others_go_through(options: Any) -> None:
    """Tags that the process propagates come in and go out; others' members and `tracestate` are passed on."""
    service = Service(propagate_tags=("tenant", "plan"))
    sent: dict[str, str] = {}

    async def calling(scope: Any, receive: Any, send: Any) -> None:
        sent.update(outgoing_headers())
        await answer(scope, receive, send)

    app = RequestMiddleware(calling, service.source, **options)
    own = options.get("tags", {})
    await service.request(
        app, traceparent=TRACEPARENT, tracestate="v=1", baggage="tenant=acme,plan=free,foreign=1;p"
    )
    assert dict(service.root.run.tags) == {"tenant": "acme", "plan": "free", **own}
    plan = own.get("plan", "free")
    assert sent == {
        "traceparent": f"00-{TRACE}-{service.root.span_id}-01",
        "tracestate": "v=1",
        "baggage": f"foreign=1;p,plan={plan},tenant=acme",
    }


async def test_nothing_of_a_stranger_is_passed_on() -> None:
    """What an untrusted caller sends reaches no service behind this one."""
    service = Service(propagate_tags=("tenant",))
    sent: dict[str, str] = {}

    async def calling(scope: Any, receive: Any, send: Any) -> None:
        sent.update(outgoing_headers())
        await answer(scope, receive, send)

    app = RequestMiddleware(calling, service.source, trusted=False)
    await service.request(app, traceparent=TRACEPARENT, tracestate="v=1", baggage="tenant=acme,foreign=1")
    assert sent.keys() == {"traceparent"}
    assert not service.root.run.tags


async def test_parent_of_the_reference_toolkit() -> None:
    """Its trace is taken if there is no other; its parent's id and name are in the metadata."""
    service = Service()
    await service.request(
        RequestMiddleware(answer, service.source),
        workflow_trace_id="0af76519-16cd-43dd-8448-eb211c80319c",
        workflow_parent_id="9f1b3c1e-0000-4000-8000-000000000000",
        workflow_parent_name="planner",
    )
    assert service.root.run.trace_id == TRACE
    assert service.metadata["workflow.parent_name"] == "planner"
    assert service.metadata["workflow.parent_id"] == "9f1b3c1e-0000-4000-8000-000000000000"


async def test_parent_of_the_reference_toolkit_that_is_a_span() -> None:
    """16 hex digits are the caller's span."""
    service = Service()
    await service.request(
        RequestMiddleware(answer, service.source), workflow_trace_id=TRACE, workflow_parent_id=PARENT
    )
    assert (service.root.run.trace_id, service.root.parent_id) == (TRACE, PARENT)


@pytest.mark.parametrize("trusted", [False, lambda scope: False, lambda scope: scope["nothing"]])
async def test_headers_of_strangers_are_not_trusted(trusted: Any) -> None:
    """Outsiders do not choose the trace, the conversation or the user."""
    service = Service()
    app = RequestMiddleware(answer, service.source, trusted=trusted)
    await service.request(app, traceparent=TRACEPARENT, conversation_id="c-1", baggage="user.id=root")
    run = service.root.run
    assert (run.trace_id == TRACE, run.conversation_id, run.user_id) == (False, None, None)


async def test_ids_that_are_too_long_are_ignored() -> None:
    """Every span carries the id, and the caller may choose it."""
    service = Service()
    app = RequestMiddleware(answer, service.source)
    await service.request(app, conversation_id="c" * 257, baggage=f"user.id={'u' * 257}")
    assert (service.root.run.conversation_id, service.root.run.user_id) == (None, None)


# -- What the application says ----------------------------------------------------------------------------------------


async def test_ids_name_and_tags_by_functions() -> None:
    """They count more than the headers."""
    service = Service()
    app = RequestMiddleware(
        answer,
        service.source,
        workflow_name=lambda scope: "support",
        ids=lambda scope: {"user_id": header(scope, "X-User"), "conversation_id": None},
        tags=lambda scope: {"path": scope["path"]},
    )
    await service.request(app, "/ask", conversation_id="c-1", x_user="u-1")
    run = service.root.run
    assert (run.workflow_name, run.user_id, run.conversation_id) == ("support", "u-1", "c-1")
    assert dict(run.tags) == {"path": "/ask"}


async def not_awaited(scope: object = None) -> Any:
    return {"user_id": "u-1"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ids": not_awaited}, "ids is called, and not awaited"),
        ({"tags": not_awaited}, "tags is called, and not awaited"),
        ({"workflow_name": not_awaited}, "workflow_name is called, and not awaited"),
        ({"trusted": not_awaited}, "trusted is called, and not awaited"),
        ({"ids": {"user_id": "u-1"}}, "ids is a function of the scope"),
        ({"tags": "tenant=acme"}, "tags is a mapping such as {'tenant': 'acme'}"),
        ({"workflow_name": 5}, "workflow_name is a name"),
        ({"trusted": "no"}, "trusted is True, False, or a function"),
        ({"baggage": "tenant"}, r"Pass baggage=\['tenant'\]"),
        ({"health": True}, "health is a path such as '/health', not True"),
        ({"health": lambda scope: "/health"}, "health is a path"),
    ],
)
def test_option_of_another_type_is_refused(options: Any, said: str) -> None:
    """Where the application is made, and not with each request."""
    with pytest.raises(TypeError, match=said):
        RequestMiddleware(answer, Service().source, **options)


@pytest.mark.parametrize("paths", [[5], ["health"], [b"/health"]])
def test_path_that_is_none_is_refused(paths: Any) -> None:
    with pytest.raises(ValueError, match="is not a path"):
        RequestMiddleware(answer, Service().source, excluded=paths)


async def test_who_cannot_be_asked_is_not_trusted() -> None:
    """A function that gives something to await would trust everyone: it is true."""
    service = Service()
    app = RequestMiddleware(answer, service.source, trusted=lambda scope: not_awaited())  # type: ignore[arg-type, return-value]
    await service.request(app, conversation_id="c-1")
    assert service.root.run.conversation_id is None


@pytest.mark.parametrize(
    "options",
    [
        {"ids": lambda scope: 1 / 0},
        {"ids": lambda scope: {"no_such_id": "x"}},
        {"ids": lambda scope: {"trace_id": "garbage"}},
        {"tags": lambda scope: 1 / 0},
        {"workflow_name": lambda scope: 1 / 0},
        {"workflow_name": lambda scope: 5},
        {"tags": lambda scope: "acme"},
        {"tags": lambda scope: not_awaited()},
        {"ids": lambda scope: "u-1"},
        {"ids": lambda scope: not_awaited()},
    ],
)
async def test_option_that_fails_fails_no_request(options: Any) -> None:
    """It is logged, and the run has what the headers say."""
    service = Service()
    with capture_logs() as logs:
        sent = await service.request(
            RequestMiddleware(answer, service.source, **options), conversation_id="c-1"
        )
    assert sent[0]["status"] == 200
    assert service.root.run.conversation_id == "c-1"
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == ["request_option_failed"]


async def test_handler_may_name_the_root_and_add_to_it() -> None:
    """Its name, its output and its metadata are the application's to set."""
    service = Service()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        state = await current_state()
        assert (await current_manager(), await current_source()) == (state.manager, service.source)
        state.root.name, state.root.output, state.root.metadata = "asked", "tea", {"plan": "free"}
        await answer(scope, receive, send)

    await service.request(RequestMiddleware(app, service.source))
    assert (service.root.name, service.root.output, service.metadata["plan"]) == ("asked", "tea", "free")


# -- Which requests, and how long -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "runs"), [("/health", 0), ("/static/a/b", 0), ("/healthy", 1), ("/static", 1)]
)
async def test_excluded_paths_have_no_run(path: str, runs: int) -> None:
    """A path means itself; one with an asterisk what begins alike."""
    service = Service()
    app = RequestMiddleware(answer, service.source, excluded=["/health", "/static/*"])
    await service.request(app, path)
    assert len(service.spans) == runs


async def test_an_excluded_health_path_is_answered() -> None:
    """It has no run anyway: excluding it too must not take it away."""
    service = Service()
    app = RequestMiddleware(answer, service.source, excluded=["/health", "/health/*"], health="/health")
    sent = await service.request(app, "/health")
    assert b'"state"' in sent[1]["body"]


@pytest.mark.parametrize("path", ["health", "*", "/a/*/b", ""])
async def test_excluded_path_that_is_not_valid(path: str) -> None:
    """It says how one is written."""
    with pytest.raises(ValueError, match=r"Write it with its first slash"):
        RequestMiddleware(answer, Service().source, excluded=[path])


async def test_of_two_middlewares_the_outer_one_counts() -> None:
    """A request is one run, in a sub-application that has a middleware of its own too."""
    service = Service()
    inner = RequestMiddleware(answer, service.source)
    await service.request(RequestMiddleware(inner, service.source))
    assert len(service.spans) == 1


async def test_task_that_is_kept_open_for() -> None:
    """The run waits for a task that the handler leaves behind."""
    service = Service()

    async def work() -> None:
        await asyncio.sleep(0)
        with step("function", "afterwards"):
            pass

    async def app(scope: Any, receive: Any, send: Any) -> None:
        keep_open(asyncio.ensure_future(work()))
        await answer(scope, receive, send)

    await service.request(RequestMiddleware(app, service.source))
    assert {span.name for span in service.spans} == {"afterwards", "GET"}


async def test_response_that_is_not_completed_is_an_error() -> None:
    """And so is none at all."""
    service = Service()

    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        pass

    await service.request(RequestMiddleware(nothing, service.source))
    assert service.root.error is not None
    assert "without completing" in service.root.error.message


async def test_finished_request_leaves_no_cycle() -> None:
    """A state that is kept holds neither the manager nor the root, and says so."""
    service, kept = Service(), list[RequestState]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        kept.append(await current_state())
        await answer(scope, receive, send)

    await service.request(RequestMiddleware(app, service.source))
    with pytest.raises(NoRequestRunError):
        kept[0].manager  # noqa: B018


async def test_accessors_outside_a_request_say_what_is_missing() -> None:
    """Also inside a run that does not belong to a request."""
    with pytest.raises(NoRequestRunError, match="Add RequestMiddleware"):
        await current_state()
    with ContextState().attach(), pytest.raises(NoRequestRunError, match=r"current_manager\(\)"):
        await current_manager()


# -- The lifespan -----------------------------------------------------------------------------------------------------


async def silent(scope: Any, receive: Any, send: Any) -> None:
    """An application that returns at once for anything that it does not know."""


@pytest.mark.parametrize("app", [starlette_like, answer, silent])
async def test_lifespan_opens_and_drains(app: Any) -> None:
    """For an application that knows no lifespan too: what it then raises is the server's to overlook, and ours."""
    service = Service()
    server = Server(ObservabilityLifespan(app, service.source))
    assert await server.started() == "lifespan.startup.complete"
    assert service.runtime.state == "open"
    assert await server.stop() == "lifespan.shutdown.complete"
    assert service.runtime.state == "closed"


async def test_without_a_lifespan_the_first_request_opens() -> None:
    """A server may send none."""
    service = Service()
    app = ObservabilityLifespan(RequestMiddleware(answer, service.source), service.source)
    await asyncio.gather(*(request(app) for _ in range(5)))
    assert service.runtime.state == "open"
    await service.runtime.shutdown()
    assert len(service.spans) == 5


async def test_application_that_fails_to_start_closes_what_was_opened() -> None:
    """Its own message reaches the server."""
    service = Service()

    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        raise RuntimeError("no database")

    server = Server(ObservabilityLifespan(failing, service.source))
    assert await server.started() == "lifespan.startup.failed"
    with pytest.raises(RuntimeError, match="no database"):
        await server.task
    assert service.runtime.state == "closed"


async def test_a_wrong_setting_is_one_line_at_startup() -> None:
    """The server gets what is wrong and the cure, and not the traceback around it."""

    def wrong() -> ObservabilitySettings:
        raise SettingsError(["EXPORTERS__MAIN__PATH is not set; allowed: a path"])

    container = ObservabilityContainer(settings=providers.Callable(wrong))
    app: Any = Starlette()
    instrument(app, container)
    server = Server(app)
    assert await server.started() == "lifespan.startup.failed"
    assert server.said[0]["message"] == str(
        SettingsError(["EXPORTERS__MAIN__PATH is not set; allowed: a path"])
    )
    with pytest.raises(SettingsError):
        await server.task


async def test_middleware_without_its_runtime_says_what_is_missing_at_startup() -> None:
    """The server gets the failure, and what the application had opened is closed."""
    service, closed = Service(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        try:
            await send({"type": "lifespan.startup.complete"})
        finally:
            closed.append(True)

    server = Server(RequestMiddleware(app, service.source))
    assert await server.started() == "lifespan.startup.failed"
    assert "needs an open runtime" in server.said[0]["message"]
    assert "init_resources()" in server.said[0]["message"]
    with pytest.raises(RuntimeError, match="needs an open runtime"):
        await server.task
    assert closed


async def test_request_without_a_runtime_is_served_with_a_warning() -> None:
    """The run comes first."""
    service = Service()
    with capture_logs() as logs:
        sent = await request(RequestMiddleware(answer, service.source))
    assert sent[0]["status"] == 200
    assert "runtime_not_open" in [line["event"] for line in logs]


async def test_lifespan_around_the_applications_own() -> None:
    """The runtime is open before, and until after; its state is passed on."""
    service = Service()

    @asynccontextmanager
    async def inner(app: Any) -> AsyncIterator[dict[str, int]]:
        assert service.runtime.state == "open"
        yield {"a": 1}
        assert service.runtime.state == "open"

    async with lifespan(service.source, inner)(None) as state:
        assert state == {"a": 1}
    assert service.runtime.state == "closed"


async def test_container_is_a_source() -> None:
    """Of dependency-injector's containers nothing else is needed."""
    container = ObservabilityContainer()
    app = RequestMiddleware(answer, container)
    async with lifespan(container)(None):
        assert (await request(app))[0]["status"] == 200


@pytest.mark.parametrize("source", [None, ExporterManager, ObservabilityContainer, object()])
@pytest.mark.parametrize(
    "make",
    [
        lambda source: RequestMiddleware(answer, source),
        lambda source: ObservabilityLifespan(answer, source),
        HealthRoute,
        lifespan,
    ],
)
async def test_anything_else_is_not(source: Any, make: Any) -> None:
    """The error says at once what is missing, even for a class in place of its instance."""
    with pytest.raises(MissingContainerError, match="runtime_object"):
        make(source)


def test_unknown_framework_version_names_the_supported_range() -> None:
    """When the integration is imported."""
    with pytest.raises(UnsupportedVersionError, match=r"starlette .* supported is >=2,<3"):
        check_version("starlette", at_least="2", below="3")


# -- Health -----------------------------------------------------------------------------------------------------------


async def test_health_is_the_runtimes() -> None:
    """200 while it is open, 503 while it is not."""
    service = Service()
    route = HealthRoute(service.source)
    assert (await request(route))[0]["status"] == 503
    start, body = await service.request(route)
    health = json.loads(body["body"])
    assert (start["status"], health["state"], health["exporters"]["kept"]["queue_depth"]) == (200, "open", 0)


async def test_health_by_the_middleware_has_no_run() -> None:
    """Its path is answered for every framework alike."""
    service = Service()
    sent = await service.request(RequestMiddleware(answer, service.source, health="/healthz"), "/healthz")
    assert json.loads(sent[1]["body"])["state"] == "open"
    assert not service.spans


async def asked(route: Any, path: str = "/health", method: str = "GET") -> tuple[int, str]:
    """The status and the body that a route answers with."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await route({"type": "http", "method": method, "path": path}, None, send)
    return sent[0]["status"], sent[1]["body"].decode()


def broken_exporters(*, also_works: bool = False, opens: bool = True) -> dict[str, Any]:
    """An exporter whose back end refuses everything, and perhaps another one."""

    class Refusing:
        async def open(self) -> None:
            if not opens:
                raise OSError("down")

        async def write(self, batch: object) -> None:
            raise ValueError("refused")

        async def close(self) -> None:
            pass

    exporters: dict[str, Any] = {"broken": SpanExporter(Refusing(), limits=DeliveryLimits(batch_age=0.001))}
    if also_works:
        exporters["works"] = SpanExporter(lambda batch: None, limits=DeliveryLimits(batch_age=0.001))
    return exporters


@pytest.mark.parametrize(
    ("required", "also_works", "ready"), [(False, False, 503), (False, True, 200), (True, True, 503)]
)
async def test_ready_is_by_what_delivers_and_live_is_not(
    required: bool, also_works: bool, ready: int
) -> None:
    """Not ready: before it is open, if a required exporter has failed, if the only one has."""
    exporters = broken_exporters(also_works=also_works)
    runtime = ObservabilityRuntime(exporters, required=["broken"] if required else [])
    source = RuntimeSource(runtime, ExporterManager)
    route = HealthRoute(source)
    assert (await asked(route))[0] == 503
    assert (await asked(route, "/health/live"))[0] == 200
    async with runtime:
        assert (await asked(route))[0] == 200
        manager = ExporterManager.from_exporters(exporters)
        async with manager.start(ContextState()):
            with step("tool", "t"):
                pass
        await until(lambda: "broken" in runtime.health().failing())
        assert (await asked(route, "/health/ready"))[0] == ready
        assert (await asked(HealthRoute(source, check="ready"), "/x"))[0] == ready
        assert (await asked(HealthRoute(source, check="live"), "/x"))[0] == 200
        status, body = await asked(route, "/health/live")
        assert (status, json.loads(body)["failing"]) == (200, {"broken": "its last batch failed"})


async def test_not_ready_by_the_age_of_the_last_success() -> None:
    """Items that wait while a back end takes nothing: for longer than `max_age`, it is not ready."""
    let_go = asyncio.Event()

    async def hangs(batch: object) -> None:
        while not let_go.is_set():  # noqa: ASYNC110  the event belongs to another loop
            await asyncio.sleep(0)

    exporter = SpanExporter(hangs, limits=DeliveryLimits(batch_age=0.001))
    async with ObservabilityRuntime({"main": exporter}) as runtime:
        async with ExporterManager.from_exporters({"main": exporter}).start(ContextState()):
            with step("tool", "t"):
                pass
        source = RuntimeSource(runtime, ExporterManager)
        await until(lambda: runtime.health().failing(max_age=0.0) != {})
        assert (await asked(HealthRoute(source)))[0] == 200
        assert (await asked(HealthRoute(source, max_age=0.0)))[0] == 503
        let_go.set()
        await until(lambda: runtime.health().failing(max_age=0.0) == {})
        assert (await asked(HealthRoute(source, max_age=0.0)))[0] == 200


async def test_an_exporter_that_cannot_be_opened_is_not_ready() -> None:
    """Although the runtime is open."""
    async with ObservabilityRuntime(broken_exporters(opens=False)) as runtime:
        status, body = await asked(HealthRoute(RuntimeSource(runtime, ExporterManager)))
    assert (status, json.loads(body)["failing"]) == (503, {"broken": "it cannot be opened"})


async def test_the_middleware_serves_live_and_ready_below_its_health_path() -> None:
    """None of them has a run."""
    service = Service()
    app = RequestMiddleware(answer, service.source, health="/healthz")
    for path in ("/healthz/live", "/healthz/ready"):
        start, body = await service.request(app, path)
        assert (start["status"], "failing" in json.loads(body["body"])) == (200, True)
    assert not service.spans


async def test_metrics_are_text_for_prometheus() -> None:
    """Every line is a comment, or a name with labels and a value."""
    exporter = SpanExporter(lambda batch: None, limits=DeliveryLimits(batch_age=0.001))
    name = 'odd "name"\\'
    async with ObservabilityRuntime({name: exporter}) as runtime:
        async with ExporterManager.from_exporters({name: exporter}).start(ContextState()):
            with step("tool", "t"):
                pass
        await until(lambda: runtime.health().ledger.delivered == 1)
        status, text = await asked(MetricsRoute(RuntimeSource(runtime, ExporterManager)), "/metrics")
        assert (await asked(MetricsRoute(RuntimeSource(runtime, ExporterManager)), method="POST"))[0] == 405
    assert status == 200
    for line in text.splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) \w+ .+|\w+(\{(\w+="([^"\\]|\\.)*",?)+\})? [\d.e+-]+', line), line
    assert 'nat_observability_items_delivered_total{exporter="odd \\"name\\"\\\\"} 1' in text.splitlines()
    assert "nat_observability_runtime_open 1" in text.splitlines()
