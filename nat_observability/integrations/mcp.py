"""instrument(): makes each request to an MCP server (the official SDK) a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from nat_observability.errors import MissingExtraError, ToolFailedError
from nat_observability.integrations.shared.instrumented_argument import check_instrumented
from nat_observability.integrations.shared.versions import check_version
from nat_observability.integrations.workers.run_scope import Container, check_container, run_scope
from nat_observability.propagation.formats import formats
from nat_observability.recording.step import step

__all__ = ["RequestMiddleware", "instrument"]

try:
    check_version("mcp", at_least="2.3", below="3")
except ModuleNotFoundError as error:
    raise MissingExtraError("nat_observability.integrations.mcp", "mcp") from error

_TOOL_CALL, _PROMPT = "tools/call", "prompts/get"
_LISTS = {"tools/list": (_TOOL_CALL, "tools"), "prompts/list": (_PROMPT, "prompts")}
_METHODS = frozenset(
    [
        _TOOL_CALL, "tools/list", _PROMPT, "prompts/list", "resources/list", "resources/templates/list",
        "resources/read", "resources/subscribe", "resources/unsubscribe", "subscriptions/listen",
        "completion/complete", "logging/setLevel",
    ]
)  # fmt: skip


class Server(Protocol):
    """The SDK's `MCPServer` or its low-level `Server`."""

    @property
    def middleware(self) -> list[Any]: ...


def instrument(server: Server, container: Container, *, trusted: bool = True) -> None:
    """
    Give each request to `server` a run.

    The exporters open with `async with ProcessScope(container, "mcp")` around the serving; otherwise each run opens
    what it needs.

    Args:
        server: The SDK's `MCPServer` or its low-level `Server`.
        container: An `ObservabilityContainer`.
        trusted: Whether to believe the client about trace, conversation, user and tags: what `traceparent`,
            `tracestate` and `baggage` in the request's `_meta` say, or, if they are missing, the HTTP headers.

    Raises:
        MissingContainerError: `container` is not a container of observability.
    """
    check_instrumented(server, "a server of the MCP Python SDK", "middleware")
    server.middleware.insert(0, RequestMiddleware(container, trusted=trusted))


class RequestMiddleware:
    """
    A middleware of the SDK's server: each request is one run, and notifications, pings and handshakes are none.

    The outermost step is of the kind tool for a tool's call, with its arguments and its result, else of the kind
    workflow. Its name is the method, and that of the tool or the prompt if it is known to exist: it was
    listed, or a call of it has succeeded. A result with `isError` ends it
    with `ToolFailedError`.
    """

    def __init__(self, container: Container, *, trusted: bool = True) -> None:
        check_container("instrument()", container)
        self._container = container
        self._trusted = trusted
        # That exist: they were listed, or a call of theirs succeeded. A client may invent any other.
        self._names: set[tuple[str, str]] = set()

    async def __call__(self, ctx: Any, call_next: Any) -> Any:
        """Serve one message."""
        method: str = ctx.method
        if ctx.request_id is None or method not in _METHODS:
            return await call_next(ctx)
        parameters = ctx.params if isinstance(ctx.params, Mapping) else {}
        name = parameters.get("name") if method in (_TOOL_CALL, _PROMPT) else None
        tool = method == _TOOL_CALL
        root = step(
            "tool" if tool else "workflow", method, input=parameters.get("arguments"), span_kind="server"
        )
        async with run_scope(self._container, headers=self._headers(ctx), workflow_name=method) as scope:
            root.__enter__()
            failure: BaseException | None = None
            try:
                result = await call_next(ctx)
                self._learn(method, name, result)
                if tool and isinstance(result, Mapping):
                    root.output = result.get("structuredContent") or result.get("content")
                    if result.get("isError") is True:
                        failure = ToolFailedError(_text(result))
                return result
            except BaseException as error:
                failure = error
                code = getattr(getattr(error, "error", None), "code", None)
                if code is not None:
                    root.set_attribute("rpc.response.status_code", str(code))
                raise
            finally:
                if (method, name) in self._names:
                    root.name = f"{method} {name}"
                root.set_attributes(_attributes(ctx, method, name))
                root.__exit__(None if failure is None else type(failure), failure, None)
                if failure is not None:
                    scope.state.failed = True
                failure = None  # its traceback holds this frame

    def _learn(self, method: str, name: object, result: object) -> None:
        if not isinstance(result, Mapping):
            return
        if isinstance(name, str):
            if result.get("isError") is not True:
                self._names.add((method, name))
        elif method in _LISTS:
            called, member = _LISTS[method]
            for each in result.get(member) or ():
                if isinstance(each, Mapping) and isinstance(each.get("name"), str):
                    self._names.add((called, each["name"]))

    def _headers(self, ctx: Any) -> Mapping[Any, object] | None:
        if not self._trusted:
            return None
        meta = ctx.meta if isinstance(ctx.meta, Mapping) else {}
        if not formats().read.isdisjoint(meta):
            return meta
        headers = getattr(ctx.request, "headers", None)
        return headers if isinstance(headers, Mapping) else meta


def _attributes(ctx: Any, method: str, name: object) -> dict[str, Any]:
    # The names of the OpenTelemetry conventions for MCP; the last one is ours.
    attributes: dict[str, Any] = {
        "mcp.method.name": method,
        "mcp.protocol.version": ctx.protocol_version,
        "jsonrpc.request.id": str(ctx.request_id),
    }
    if isinstance(name, str):
        attributes["gen_ai.tool.name" if method == _TOOL_CALL else "gen_ai.prompt.name"] = name
    if method == _TOOL_CALL:
        attributes["gen_ai.operation.name"] = "execute_tool"
    meta = ctx.meta if isinstance(ctx.meta, Mapping) else {}
    if (token := meta.get("progress_token", meta.get("progressToken"))) is not None:
        attributes["mcp.progress_token"] = token
    return attributes


def _text(result: Mapping[str, Any]) -> str:
    content = result.get("content")
    parts = content if isinstance(content, list) else []
    return " ".join(str(part["text"]) for part in parts if isinstance(part, Mapping) and "text" in part)
