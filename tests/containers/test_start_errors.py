"""The first minute: what a program says that cannot start, or reads an env file."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from nat_observability.containers import ObservabilityContainer, observability, run
from nat_observability.errors import SettingsError, UnknownExporterTypeError
from nat_observability.integrations import celery, fastapi, faststream, litestar, quart, taskiq

_ROOT = Path(__file__).parents[2]
TYPE = "NAT_OBSERVABILITY_EXPORTERS__MAIN__TYPE"


async def nothing() -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    "start", ["with observability():\n    pass", "run(main())", "observability(env_file='x')"]
)
def test_a_program_that_cannot_start_says_one_thing(start: str, tmp_path: Path) -> None:
    """No traceback: the message, with the cure in its first line, and the status 1."""
    code = f"""
from nat_observability.containers import observability, run
async def main(): pass
{start}
"""
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(_ROOT), "PATH": "/usr/bin:/bin", TYPE: "consol"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = "no exporter type 'consol'. Did you mean 'console'?"
    if "env_file" in start:
        said = f"_env_file names x, which does not exist in {tmp_path}"
    assert (ran.returncode, ran.stdout, len(ran.stderr.splitlines())) == (1, "", 1), ran.stderr
    assert ran.stderr.startswith("error: ")
    assert said in ran.stderr


@pytest.mark.may_block  # settings are read once, when the process starts
def test_the_error_is_still_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that catches it finds the error, with its attributes; elsewhere it is not a SystemExit."""
    monkeypatch.setenv(TYPE, "consol")
    for start in (lambda: run(nothing()), lambda: observability().__enter__()):
        with pytest.raises(UnknownExporterTypeError, match="consol") as caught:
            start()
        assert isinstance(caught.value, SystemExit)
        assert caught.value.exporter_type == "consol"
    found: list[BaseException] = []

    def in_a_thread() -> None:
        try:
            observability().__enter__()
        except UnknownExporterTypeError as error:
            found.append(error)

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()

    async def in_a_loop() -> None:
        with pytest.raises(UnknownExporterTypeError) as caught:
            observability().__enter__()
        found.append(caught.value)

    asyncio.run(in_a_loop())
    assert [isinstance(error, SystemExit) for error in found] == [False, False]


def applications() -> dict[str, tuple[Any, Any]]:
    """An application for each integration, and its `instrument`."""
    from celery import Celery
    from fastapi import FastAPI
    from faststream import FastStream
    from faststream.nats import NatsBroker
    from litestar import Litestar
    from quart import Quart
    from taskiq import InMemoryBroker

    return {
        "fastapi": (FastAPI(), fastapi.instrument),
        "litestar": (Litestar(logging_config=None), litestar.instrument),
        "quart": (Quart("shop"), quart.instrument),
        "faststream": (FastStream(NatsBroker(), logger=None), faststream.instrument),
        "taskiq": (InMemoryBroker(), taskiq.instrument),
        "celery": (Celery("shop", broker="memory://"), celery.instrument),
    }


@pytest.mark.may_block  # settings are read once, when the process starts
def test_an_env_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By `observability`, and by every `instrument`; the environment takes precedence. A missing one is an error."""
    monkeypatch.delenv(TYPE, raising=False)
    file = tmp_path / "shop.env"
    file.write_text(f"{TYPE}=memory\nNAT_OBSERVABILITY_SERVICE_NAME=shop\n")
    container: Any = observability(env_file=file).container
    assert (list(container.exporters()), container.settings().service_name) == (["main"], "shop")
    missing = tmp_path / "missing.env"
    with pytest.raises(SettingsError, match=r"_env_file names .*missing\.env, which does not exist"):
        observability(env_file=missing)
    for name, (app, instrument) in applications().items():
        container = ObservabilityContainer()
        container.exporters()  # made without it
        with pytest.raises(SettingsError, match=r"missing\.env, which does not exist"):
            instrument(app, ObservabilityContainer(), env_file=missing)
        made = instrument(app, container, env_file=file)
        assert list(container.exporters()) == ["main"], name
        if name == "celery":
            made.disconnect()


def test_an_env_file_beside_settings_of_the_service_is_refused() -> None:
    """It would be ignored in silence."""
    from nat_observability.settings import ObservabilitySettings

    container = ObservabilityContainer(settings=ObservabilitySettings())
    with pytest.raises(
        SettingsError, match=r"env_file= has no effect on a container that was given its settings"
    ):
        observability(container=container, env_file=".env")


def web_applications() -> dict[str, Any]:
    """An instrumented application of each framework that has a lifespan."""
    from litestar import Litestar
    from quart import Quart
    from starlette.applications import Starlette

    from nat_observability.integrations import starlette

    made: dict[str, Any] = {
        "starlette": Starlette(),
        "litestar": Litestar(logging_config=None),
        "quart": Quart("shop"),
    }
    starlette.instrument(made["starlette"], ObservabilityContainer())
    litestar.instrument(made["litestar"], ObservabilityContainer())
    quart.instrument(made["quart"], ObservabilityContainer())
    return made


class RefusedError(Exception):
    """What a server raises in `send` when a start has failed, as Hypercorn does."""


@pytest.mark.may_block  # settings are read once, when the process starts
@pytest.mark.parametrize("refusing", [False, True], ids=["uvicorn", "hypercorn"])
@pytest.mark.parametrize("framework", ["starlette", "litestar", "quart"])
async def test_a_server_gets_one_line(
    framework: str, refusing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message, with the cure, instead of the framework's traceback; a server that raises adds none of ours."""
    monkeypatch.setenv(TYPE, "consol")
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if refusing:
            raise RefusedError

    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    with (
        capture_logs() as logs,
        pytest.raises((RefusedError, UnknownExporterTypeError, ExceptionGroup)) as caught,
    ):
        await web_applications()[framework](scope, receive, send)
    # Before the traceback of a server that raises.
    said = [line["error"] for line in logs if line["event"] == "application_not_started"]
    assert said == ([sent[0]["message"]] if refusing else [])
    assert not refusing or (isinstance(caught.value, RefusedError) and caught.value.__suppress_context__)
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
    assert sent[0]["message"].startswith(f"{TYPE}: no exporter type 'consol'. Did you mean 'console'?")
    assert len(sent[0]["message"].splitlines()) == 1


@pytest.mark.may_block  # as above
@pytest.mark.parametrize("name", ["taskiq", "faststream"])
def test_a_worker_with_a_loop_of_its_own_ends_with_one_message(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SystemExit, which is still the error itself; not in a loop that has other tasks."""
    monkeypatch.setenv(TYPE, "consol")
    app, instrument = applications()[name]
    instrument(app, ObservabilityContainer())

    async def start() -> None:
        await (app.startup() if name == "taskiq" else app.run())

    with pytest.raises(UnknownExporterTypeError) as ended:
        asyncio.run(start())
    assert isinstance(ended.value, SystemExit)
    assert str(ended.value.code).startswith("The worker does not start. UnknownExporterTypeError: NAT_")

    async def beside_others() -> BaseException:
        other = asyncio.create_task(asyncio.Event().wait())
        try:
            await start()
        except UnknownExporterTypeError as error:
            return error
        finally:
            other.cancel()
        raise AssertionError("it has started")

    assert not isinstance(asyncio.run(beside_others()), SystemExit)
