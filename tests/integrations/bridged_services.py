"""Scenarios of bridged spans: HTTP clients, web frameworks, workers, databases and templates."""

from __future__ import annotations

import asyncio
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from opentelemetry import trace

from tests.integrations.bridged_scenarios import Scenarios

_NOWHERE = "http://127.0.0.1:1/"


async def requests_calls(url: str) -> None:
    """One that works, one that does not, and one that reaches nobody."""
    import requests

    def call() -> None:
        requests.get(f"{url}/up?q=1", timeout=5)
        requests.get(f"{url}/missing", timeout=5)
        with suppress(requests.ConnectionError):
            requests.get(_NOWHERE, timeout=5)

    await asyncio.to_thread(call)


async def urllib_calls(url: str) -> None:
    """The same by the standard library."""

    def call() -> None:
        urllib.request.urlopen(f"{url}/up?q=1").close()
        for each in (f"{url}/missing", _NOWHERE):
            with suppress(urllib.error.URLError):
                urllib.request.urlopen(each)

    await asyncio.to_thread(call)


async def urllib3_calls(url: str) -> None:
    """The same by urllib3."""
    import urllib3

    def call() -> None:
        with urllib3.PoolManager(retries=False) as pool:
            pool.request("GET", f"{url}/up?q=1")
            pool.request("GET", f"{url}/missing")
            with suppress(urllib3.exceptions.HTTPError):
                pool.request("GET", _NOWHERE)

    await asyncio.to_thread(call)


async def aiohttp_calls(url: str) -> None:
    """The same by aiohttp."""
    import aiohttp

    async with aiohttp.ClientSession() as session:
        for each in (f"{url}/up?q=1", f"{url}/missing"):
            async with session.get(each) as answer:
                await answer.read()
        with suppress(aiohttp.ClientError):
            await session.get(_NOWHERE)


async def aiohttp_server_calls(_: str) -> None:
    """A server that answers, and one that fails, called as its tests would."""
    from aiohttp import web
    from aiohttp.test_utils import TestClient, TestServer

    async def brew(request: web.Request) -> web.Response:
        return web.Response(text=request.match_info["leaf"])

    async def fail(_: web.Request) -> web.Response:
        raise ValueError("no tea")

    application = web.Application()
    application.router.add_get("/brew/{leaf}", brew)
    application.router.add_get("/fail", fail)
    async with TestClient(TestServer(application)) as client:
        await client.get("/brew/green?q=1")
        await client.get("/fail")


async def _asgi(application: Any) -> None:
    import httpx

    transport = httpx.ASGITransport(application, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://tea") as client:
        await client.get("/brew/green?q=1")
        await client.get("/nowhere")
        await client.get("/fail")


async def fastapi_calls(_: str) -> None:
    """Routes that answer and fail, and one that is not there."""
    import fastapi
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    application = fastapi.FastAPI()

    @application.get("/brew/{leaf}")
    async def brew(leaf: str) -> str:
        return leaf

    @application.get("/fail")
    def fail() -> None:
        raise ValueError("no tea")

    FastAPIInstrumentor.instrument_app(application, tracer_provider=trace.get_tracer_provider())
    await _asgi(application)


async def starlette_calls(_: str) -> None:
    """The same routes of Starlette's."""
    from opentelemetry.instrumentation.starlette import StarletteInstrumentor
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route

    async def brew(request: Request) -> Response:
        return PlainTextResponse(request.path_params["leaf"])

    async def fail(_: Request) -> Response:
        raise ValueError("no tea")

    application = Starlette(routes=[Route("/brew/{leaf}", brew), Route("/fail", fail)])
    StarletteInstrumentor.instrument_app(application, tracer_provider=trace.get_tracer_provider())
    await _asgi(application)


async def flask_calls(_: str) -> None:
    """The same routes of Flask's."""
    import flask
    from opentelemetry.instrumentation.flask import FlaskInstrumentor

    application = flask.Flask("tea")

    @application.get("/brew/<leaf>")
    def brew(leaf: str) -> str:
        return leaf

    @application.get("/fail")
    def fail() -> str:
        raise ValueError("no tea")

    FlaskInstrumentor().instrument_app(application, tracer_provider=trace.get_tracer_provider())
    client = application.test_client()
    for path in ("/brew/green?q=1", "/nowhere", "/fail"):
        await asyncio.to_thread(client.get, path)


async def django_calls(_: str) -> None:
    """The same routes of Django's."""
    import django
    from django.conf import settings
    from django.http import HttpRequest, HttpResponse
    from django.test import Client
    from django.urls import path
    from opentelemetry.instrumentation.django import DjangoInstrumentor

    def brew(_: HttpRequest, leaf: str) -> HttpResponse:
        return HttpResponse(leaf)

    def fail(_: HttpRequest) -> HttpResponse:
        raise ValueError("no tea")

    class Urls:
        """Where the routes are."""

        urlpatterns = (path("brew/<leaf>", brew), path("fail", fail))

    settings.configure(ROOT_URLCONF=Urls, ALLOWED_HOSTS=["*"], LOGGING_CONFIG=None, SECRET_KEY="none")
    django.setup()
    DjangoInstrumentor().instrument(tracer_provider=trace.get_tracer_provider(), skip_dep_check=True)
    client = Client(raise_request_exception=False)
    for each in ("/brew/green?q=1", "/nowhere", "/fail"):
        await asyncio.to_thread(client.get, each)


async def celery_calls(_: str) -> None:
    """Tasks that are sent, and tasks that run, one of which fails."""
    from celery import Celery

    application = Celery("tea", broker="memory://", backend="cache+memory://")

    @application.task(name="brew")
    def brew(leaf: str) -> str:
        return f"hot {leaf}"

    @application.task(name="fail")
    def fail() -> None:
        raise ValueError("no tea")

    def call() -> None:
        brew.delay("green")
        brew.apply(("green",))
        fail.apply()

    await asyncio.to_thread(call)


async def botocore_calls(url: str) -> None:
    """A table that is listed, a queue that is sent to, and a call that reaches nobody."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import EndpointConnectionError

    own: dict[str, Any] = {
        "region_name": "eu-west-1",
        "aws_access_key_id": "none",
        "aws_secret_access_key": "none",
        "config": Config(retries={"max_attempts": 0}),
    }

    def call() -> None:
        boto3.client("dynamodb", endpoint_url=url, **own).list_tables(Limit=2)
        boto3.client("sqs", endpoint_url=url, **own).send_message(QueueUrl=f"{url}/tea", MessageBody="green")
        with suppress(EndpointConnectionError):
            boto3.client("dynamodb", endpoint_url=_NOWHERE, **own).list_tables()

    await asyncio.to_thread(call)


async def sqlite3_calls(_: str) -> None:
    """Statements, one of which fails."""
    with sqlite3.connect(":memory:") as connection:
        cursor = connection.cursor()
        cursor.execute("CREATE TABLE tea (leaf TEXT)")
        cursor.executemany("INSERT INTO tea VALUES (?)", [("a",), ("b",)])
        with suppress(sqlite3.OperationalError):
            cursor.execute("SELECT * FROM coffee")
    connection.close()


async def jinja2_calls(_: str) -> None:
    """A template that is rendered."""
    import jinja2

    loader = jinja2.DictLoader({"tea.txt": "{{ leaf }} tea"})
    jinja2.Environment(loader=loader, autoescape=True).get_template("tea.txt").render(leaf="green")


def _of(calls: Callable[[str], Awaitable[None]], module: str, instrumentor: str) -> Any:
    return calls, f"opentelemetry.instrumentation.{module}", (instrumentor,)


SCENARIOS: Scenarios = {
    "aiohttp-client": _of(aiohttp_calls, "aiohttp_client", "AioHttpClientInstrumentor"),
    "aiohttp-server": _of(aiohttp_server_calls, "aiohttp_server", "AioHttpServerInstrumentor"),
    "botocore": _of(botocore_calls, "botocore", "BotocoreInstrumentor"),
    "celery": _of(celery_calls, "celery", "CeleryInstrumentor"),
    "django": (django_calls, "", ()),
    "fastapi": (fastapi_calls, "", ()),
    "flask": (flask_calls, "", ()),
    "jinja2": _of(jinja2_calls, "jinja2", "Jinja2Instrumentor"),
    "requests": _of(requests_calls, "requests", "RequestsInstrumentor"),
    "sqlite3": _of(sqlite3_calls, "sqlite3", "SQLite3Instrumentor"),
    "starlette": (starlette_calls, "", ()),
    "urllib": _of(urllib_calls, "urllib", "URLLibInstrumentor"),
    "urllib3": _of(urllib3_calls, "urllib3", "URLLib3Instrumentor"),
}
"""By name."""
