"""instrument(): makes each request of a Flask application a run."""

from __future__ import annotations

from typing import Any

import flask

from nat_observability.integrations.shared.instrumented_argument import check_instrumented
from nat_observability.integrations.shared.versions import check_version
from nat_observability.integrations.workers.run_scope import Container
from nat_observability.integrations.wsgi import ERROR, MOUNT, ROUTE, RequestMiddleware

__all__ = ["instrument"]

check_version("flask", at_least="3.0", below="4")


def instrument(app: flask.Flask, container: Container, *, trusted: bool = True) -> None:
    """
    Give each request of `app` a run, named by its rule, with the exception that Flask has answered for.

    The exporters open with `ProcessScope(container, "flask").open_now()`, after a fork, if the server forks; otherwise
    each run opens what it needs.

    Args:
        app: The application, before it has served a request.
        container: An `ObservabilityContainer`.
        trusted: Whether to believe the headers that name trace, conversation, user and tags.

    Raises:
        MissingContainerError: `container` is not a container of observability.
    """
    check_instrumented(app, "a Flask application", "wsgi_app")
    app.wsgi_app = RequestMiddleware(  # type: ignore[method-assign]
        app.wsgi_app, container, trusted=trusted
    )
    # First of all, because an earlier function may answer for the view.
    app.before_request_funcs.setdefault(None, []).insert(0, _note_route)
    flask.got_request_exception.connect(_note_failure, app, weak=False)


def _note_route() -> None:
    if (rule := flask.request.url_rule) is not None:
        environ = flask.request.environ
        environ[ROUTE], environ[MOUNT] = rule.rule, environ.get("SCRIPT_NAME", "")


def _note_failure(app: flask.Flask, exception: BaseException, **_: Any) -> None:
    flask.request.environ[ERROR] = exception
