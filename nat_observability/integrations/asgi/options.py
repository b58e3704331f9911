"""Options of the middleware: what an application says about the runs of its requests, by constants and functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypedDict

from nat_observability.foreign_errors import describe
from nat_observability.integrations.asgi.types import Scope
from nat_observability.logs import RepeatedEvent, get_logger

_log = get_logger()


class Options(TypedDict, total=False):
    """
    The options of a middleware.

    excluded: Paths without a run: `/health` for itself, `/static/*` for everything below it. They are relative to the
        root path, if the application is not at the server's root.
    health: A path that answers with the runtime's health, and below it `/live` and `/ready`; they have no run.
    workflow_name: The name of the workflow, or a function of the scope that returns it.
    ids: A function of the scope that returns some of `run_id`, `trace_id`, `conversation_id`, `user_id` and
        `traceparent`. It takes precedence over the headers. What it raises is logged, and the request goes on without
        it.
    tags: The run's tags, or a function of the scope that returns them.
    baggage: Names of the caller's baggage that become tags of the run.
    trusted: Whether to trust the headers that name trace, conversation, user and parent, or a function of the scope
        that returns it. Set it to False if anyone may call.
    """

    excluded: Collection[str]
    health: str | None
    workflow_name: str | Callable[[Scope], str | None] | None
    ids: Callable[[Scope], Mapping[str, Any]] | None
    tags: Mapping[str, str] | Callable[[Scope], Mapping[str, str]] | None
    baggage: Collection[str]
    trusted: bool | Callable[[Scope], bool]


_RETURNED: Mapping[str, type] = {"workflow_name": str, "ids": Mapping, "tags": Mapping}
_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "health": ((str,), "a path such as '/health'"),
    "workflow_name": ((str,), "a name, or a function of the scope that returns one"),
    "ids": ((), "a function of the scope that returns a mapping, such as {'user_id': 'u-1'}"),
    "tags": ((Mapping,), "a mapping such as {'tenant': 'acme'}, or a function of the scope that returns one"),
    "trusted": ((bool,), "True, False, or a function of the scope that returns one of them"),
}
"""The types that an option may have beside a function, and in words what it is."""


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """
    Check the options of what is called `name`.

    Raises:
        TypeError: One is not known, or of another type; the message says what it is.
    """
    if unknown := options.keys() - Options.__annotations__.keys():
        known = ", ".join(sorted(Options.__annotations__))
        raise TypeError(f"{name} has no option {', '.join(map(repr, sorted(unknown)))}. Known: {known}.")
    if isinstance(baggage := options.get("baggage", ()), str):
        raise TypeError(f"{name}: baggage is a list of names, not a text. Pass baggage=[{baggage!r}].")
    for option, (types, what) in _KINDS.items():
        value = options.get(option)
        if value is None or isinstance(value, types):
            continue
        if not callable(value) or option == "health":
            raise TypeError(f"{name}: {option} is {what}, not {value!r}.")
        if inspect.iscoroutinefunction(value):
            raise TypeError(f"{name}: {option} is called, and not awaited: make it a plain function.")


class Told:
    """What the application says about a run: by constants, and by functions, which are foreign code."""

    def __init__(self, options: Options) -> None:
        self._workflow_name = options.get("workflow_name")
        self._ids = options.get("ids")
        self._tags = options.get("tags")
        self._log = RepeatedEvent()
        self.nothing = not (self._workflow_name or self._ids or self._tags)

    def of(self, scope: Scope, tags: dict[str, str]) -> dict[str, Any]:
        """Return arguments of `ContextState`, with `tags` among them."""
        ids: dict[str, Any] = {}
        name, given, own = self._workflow_name, self._ids, self._tags
        if given is not None and (found := self._asked("ids", given, scope)) is not None:
            ids.update({key: value for key, value in found.items() if value is not None})
        if (found_name := self._asked("workflow_name", name, scope) if callable(name) else name) is not None:
            ids["workflow_name"] = found_name
        if (found_tags := self._asked("tags", own, scope) if callable(own) else own) is not None:
            tags.update(found_tags)
        if tags:
            ids["tags"] = tags
        return ids

    def believes(self, trusted: Callable[[Scope], bool], scope: Scope) -> bool:
        """Whether to trust a request's headers; False if the function that decides it fails."""
        return bool(self._asked("trusted", trusted, scope))

    def _asked(self, option: str, function: Callable[[Scope], Any], scope: Scope) -> Any:
        try:
            found = function(scope)
            if inspect.isawaitable(found):
                if inspect.iscoroutine(found):
                    found.close()  # it would never be awaited
                raise TypeError("It returned something to await.")
            if found is not None and not isinstance(found, _RETURNED.get(option, object)):
                raise TypeError(f"It returned an object of type {type(found).__qualname__}.")
        except Exception as error:  # noqa: BLE001  foreign code: the run comes first
            self.failed(option, error)
            return None
        return found

    def failed(self, option: str, error: Exception) -> None:
        """Log, now and then, that an option failed."""
        if (suppressed := self._log.due()) is not None:
            _log.warning("request_option_failed", option=option, error=describe(error), suppressed=suppressed)
