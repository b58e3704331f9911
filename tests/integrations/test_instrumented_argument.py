"""What is given to instrument() in place of an application, a broker, a worker or a client is named."""

from __future__ import annotations

from importlib import import_module

import pytest

from nat_observability.containers import ObservabilityContainer

# By integration: the framework's package, and what instrument() takes, in the words of its message.
TAKES = {
    "arq": ("arq", "settings or a Worker of arq"),
    "aws_lambda": ("json", "a handler of Lambda"),
    "celery": ("celery", "a Celery application"),
    "django": ("django", "what get_asgi_application"),
    "dramatiq": ("dramatiq", "a Dramatiq broker"),
    "fastapi": ("fastapi", "a Starlette or FastAPI application"),
    "faststream": ("faststream", "a FastStream application"),
    "flask": ("flask", "a Flask application"),
    "litestar": ("litestar", "a Litestar application"),
    "mcp": ("mcp", "a server of the MCP Python SDK"),
    "quart": ("quart", "a Quart application"),
    "rq": ("rq", "a worker of RQ or its class"),
    "starlette": ("starlette", "a Starlette or FastAPI application"),
    "taskiq": ("taskiq", "a Taskiq broker"),
}
CLASSES = {"arq", "aws_lambda", "rq"}  # take one


class Application:
    """Of no framework."""


@pytest.mark.parametrize("name", sorted(TAKES))
def test_what_cannot_be_instrumented_is_named(name: str) -> None:
    """None, a text, the class in place of its object: with what is wanted, and never taken in silence."""
    package, words = TAKES[name]
    pytest.importorskip(package)
    try:
        instrument = import_module(f"nat_observability.integrations.{name}").instrument
    except ImportError as error:
        pytest.skip(str(error))
    container = ObservabilityContainer()
    for given, called in ((None, "None"), ("app", "the type str"), (Application, "the class Application")):
        if given is Application and name in CLASSES:
            continue
        with pytest.raises(TypeError) as caught:
            instrument(given, container)
        message = str(caught.value)
        assert message.startswith(f"instrument() takes {words}")
        assert called in message


@pytest.mark.parametrize(
    ("name", "words"), [("httpx", "an httpx.Client"), ("requests", "a requests.Session")]
)
def test_a_module_or_a_class_is_no_client(name: str, words: str) -> None:
    """The hooks are those of one client."""
    module = import_module(name)
    instrument = import_module(f"nat_observability.integrations.clients.{name}").instrument
    for given in (module, module.Client if name == "httpx" else module.Session):
        with pytest.raises(TypeError, match=f"takes {words}"):
            instrument(given)
