"""RequestMiddleware: gives each request and each websocket a run of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from nat_observability.errors import RuntimeNotOpenError
from nat_observability.exporter_manager import ExporterManager
from nat_observability.health import RuntimeState
from nat_observability.integrations.asgi.exchange import Exchange
from nat_observability.integrations.asgi.health import HealthRoute
from nat_observability.integrations.asgi.lifespan import short_failures
from nat_observability.integrations.asgi.options import Options, Told, check_options
from nat_observability.integrations.asgi.paths import Paths
from nat_observability.integrations.asgi.request import RequestState
from nat_observability.integrations.asgi.request_headers import RequestHeaders, read_request
from nat_observability.integrations.asgi.route import route_template
from nat_observability.integrations.asgi.source import OPENS, Source, check_open, check_source
from nat_observability.integrations.asgi.types import Application, Message, Receive, Scope, Send
from nat_observability.integrations.shared.http_methods import method_attributes, method_name
from nat_observability.logs import RepeatedEvent, get_logger
from nat_observability.propagation.headers import tags_of
from nat_observability.recording.step import step
from nat_observability.runtime import ObservabilityRuntime

_STATE = "nat_observability"  # in the scope: this request's run, for an inner middleware
_ROOT = "workflow"
_NOTHING: RequestHeaders = RequestHeaders({}, {}, {})
_log = get_logger()


class RequestMiddleware:
    """
    A pure ASGI middleware: each HTTP request and each websocket is one run, with its own manager.

    Its outermost step, of the kind workflow, is named by method and route, and ends with the response's status, and
    with the application's exception if it raises one, which propagates unchanged. The run is open until the application
    returns: until the last byte of a streamed body, and the framework's last background task. Of two of these around
    one application, the outer one counts.

    Args:
        app: The application to wrap.
        source: The container, or a `RuntimeSource`. Something else has to open it: a lifespan (see `lifespan` and
            `ObservabilityLifespan`). If it is not open when the application starts, that is an error.
        **options: See `Options`.

    Raises:
        MissingContainerError: `source` gives no managers, or has no runtime.
        TypeError: An option is not known, or of another type.
        ValueError: A path is not valid.
    """

    def __init__(self, app: Application, source: Source, **options: Unpack[Options]) -> None:
        name = type(self).__name__
        check_source(name, source)
        check_options(name, options)
        self._app = app
        self._source = source
        path = options.get("health")
        below = [f"{path.rstrip('/')}/{check}" for check in ("live", "ready")] if path else []
        self._health = Paths("health", (path, *below)) if path else None
        self._health_route = HealthRoute(source)
        self._excluded = Paths("excluded", paths) if (paths := options.get("excluded")) else None
        self._trusted = options.get("trusted", True)
        self._baggage = tuple(options.get("baggage", ()))
        told = Told(options)
        self._told = None if told.nothing and not self._baggage and not callable(self._trusted) else told
        self._not_open = RepeatedEvent()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, one websocket, or the lifespan."""
        kind = scope["type"]
        if kind not in ("http", "websocket"):
            await self._serve_lifespan(scope, receive, send)
            return
        if _STATE in scope:
            await self._app(scope, receive, send)
            return
        # Before what is excluded: a path that is both has no run either way, and is answered.
        if self._health is not None and self._health.hold(scope):
            await self._health_route(scope, receive, send)
            return
        if self._excluded is not None and self._excluded.hold(scope):
            await self._app(scope, receive, send)
            return
        incoming = read_request(scope) if self._trusted is True else self._believed(scope)
        method = method_name(scope["method"]) if kind == "http" else "WEBSOCKET"
        path = scope["path"]  # a framework may change it
        # Route and outcome are known when it has ended.
        root = step(_ROOT, method)
        manager = self._manager()
        propagated = manager.options.propagate_tags
        if self._told is None and not (propagated and incoming is not None and incoming.baggage):
            ids, baggage, caller = incoming or _NOTHING
            state = RequestState(self._source, manager, root, baggage, ids)
        else:
            state, caller = self._told_state(scope, manager, root, incoming or _NOTHING)
        scope[_STATE] = state
        exchange = Exchange(receive, send)
        async with manager.start(state):
            failure: BaseException | None = None
            root.__enter__()
            try:
                await self._app(scope, exchange.receive, exchange.send)
                if state.held:
                    await state.until_unheld()
                if not exchange.went_well:
                    failure = exchange.failure(state.failure)
            except BaseException as error:
                exchange.fail(error)
                failure = None if exchange.is_normal_end(error) else error
                raise
            finally:
                route = state.route or route_template(scope, path)
                if route is not None and root.name is method:
                    root.name = f"{method} {route}"
                root.metadata = _metadata(scope, path, route, exchange, caller, root.metadata)
                root.__exit__(None if failure is None else type(failure), failure, None)
                failure = None  # its traceback holds this frame
                state.let_go()

    def _manager(self) -> ExporterManager:
        if (opened := self._source.runtime_object().state) is not RuntimeState.OPEN:
            self._note_not_open(opened)
        return self._source.exporter_manager()

    def _believed(self, scope: Scope) -> RequestHeaders | None:
        trusted, told = self._trusted, self._told
        if callable(trusted) and told is not None and told.believes(trusted, scope):
            return read_request(scope)
        return None

    def _told_state(
        self, scope: Scope, manager: ExporterManager, root: step, incoming: RequestHeaders
    ) -> tuple[RequestState, Mapping[str, str]]:
        told = self._told
        tags = tags_of(incoming.baggage, (*manager.options.propagate_tags, *self._baggage))
        ids: dict[str, Any] = {"tags": tags} if tags else {}
        if told is not None:
            ids = told.of(scope, tags)
        try:
            state = RequestState(self._source, manager, root, incoming.baggage, {**incoming.ids, **ids})
        except (TypeError, ValueError) as error:  # what the application gave as the run's id is not one
            if told is not None:
                told.failed("ids", error)
            state = RequestState(self._source, manager, root, incoming.baggage, incoming.ids)
        return state, incoming.metadata

    def _note_not_open(self, state: RuntimeState) -> None:
        # A request before the runtime is open, or after it was closed, is served all the same: each exporter then opens
        # with its first run, and closes with its last.
        if state in (RuntimeState.NEW, RuntimeState.CLOSED) and self._not_open.due() is not None:
            runtime: ObservabilityRuntime = self._source.runtime_object()
            runtime.note_not_open(type(self).__name__, "open it in the application's lifespan")

    async def _serve_lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused: RuntimeNotOpenError | None = None

        async def checked(message: Message) -> None:
            nonlocal refused
            if refused is not None:
                return  # the server has been told
            if message["type"] == "lifespan.startup.complete" and OPENS not in scope:
                try:
                    check_open(type(self).__name__, self._source)
                except RuntimeNotOpenError as not_open:
                    refused = not_open
                    await short_failures(send)({"type": "lifespan.startup.failed", "message": str(not_open)})
                    raise  # so that what the application opened is closed again
            await send(message)

        await self._app(scope, receive, short_failures(checked))


def _metadata(
    scope: Scope, path: str, route: str | None, exchange: Exchange, caller: Mapping[str, str], told: object
) -> dict[str, Any]:
    """Return what is known about a request, with what its caller and its handler (`told`) have said about it."""
    # The names of the OpenTelemetry HTTP conventions. The query, the address and the user agent are left out: they
    # may hold secrets, and they are personal.
    metadata: dict[str, Any] = {
        **method_attributes(scope.get("method", "WEBSOCKET")),
        "url.scheme": scope.get("scheme", "http"),
        "url.path": path,
    }
    if route is not None:
        metadata["http.route"] = route
    if exchange.status is not None:
        metadata["http.response.status_code"] = exchange.status
    if exchange.close_code is not None:
        metadata["websocket.close_code"] = exchange.close_code
    if caller:
        metadata.update(caller)
    if isinstance(told, Mapping):
        metadata.update(told)
    return metadata
