"""Promise G14 from end to end: what is secret in the settings is in nothing that a process reports."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import stat
import traceback
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from nat_observability.builders import ExporterBuilder, delivery_limits
from nat_observability.cli.replay.event_file import EventFile
from nat_observability.cli.replay.replay import replay
from nat_observability.cli.session import open_session
from nat_observability.containers import ObservabilityContainer
from nat_observability.errors import SettingsError
from nat_observability.exporter.span_exporter import SpanExporter
from nat_observability.settings import ObservabilitySettings
from nat_observability.settings.example_env import describe_variables, setting_rows
from tests.cli.builders import COMMAND, PLAIN
from tests.delivery.backends import Backend
from tests.otlp_receiver import Answer, OtlpReceiver, partial, refuse
from tests.warm_interpreter import run_warm

PREFIX = "NAT_OBSERVABILITY_"


def secret(name: str) -> str:
    """A secret of its own for each place, which looks like nothing that a redaction would know."""
    return f"{name}-hush-7f3a9c21d4"


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))  # so that no other process gets the port
        yield int(unheard.getsockname()[1])


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts without any of our variables and the standard ones."""
    for name in list(os.environ):
        if name.upper().startswith((PREFIX, "OTEL_")):
            monkeypatch.delenv(name)


def variables(directory: Path, receiver: OtlpReceiver, closed_port: int) -> dict[str, str]:
    """Settings with a secret wherever there can be one, of exporters whose back ends work, refuse or are down."""
    ours = {
        "REDACT_HASH_KEY": secret("hash"),
        "EXPORTERS__OTLP__TYPE": "otlp",
        "EXPORTERS__OTLP__ENDPOINT": f"{receiver.url}?key={secret('endpoint')}",
        "EXPORTERS__OTLP__HEADERS": f"x-api-key={secret('header')}",
        "EXPORTERS__OTLP__HEADERS__AUTHORIZATION": f"Bearer {secret('bearer')}",
        "EXPORTERS__OTLP__REDACT_HASH_KEY": secret("own-hash"),
        "EXPORTERS__DOWN__TYPE": "otlp",
        "EXPORTERS__DOWN__TRACES_ENDPOINT": f"http://127.0.0.1:{closed_port}/v1/traces?key={secret('traces')}",
        "EXPORTERS__DOWN__HEADERS": f"authorization=Basic%20{secret('basic')}",
        "EXPORTERS__DOWN__SPOOL": "always",
        "EXPORTERS__DOWN__SPOOL_PATH": str(directory / "deep" / "spool"),
        "EXPORTERS__GRPC__TYPE": "otlp",
        "EXPORTERS__GRPC__PROTOCOL": "grpc",
        "EXPORTERS__GRPC__ENDPOINT": f"http://127.0.0.1:{closed_port}",
        "EXPORTERS__GRPC__HEADERS": f"x-api-key={secret('grpc')}",
        # The end of a run waits for its tries. Those of the others may all be the last ones, which nothing follows.
        "EXPORTERS__GRPC__FLUSH": "delivered",
        "EXPORTERS__GRPC__RETRY_INITIAL": "0.01",
        "EXPORTERS__GRPC__RETRY_FOR": "5",
        "EXPORTERS__PHOENIX__TYPE": "phoenix",
        "EXPORTERS__PHOENIX__ENDPOINT": receiver.url,
        "EXPORTERS__PHOENIX__API_KEY": secret("phoenix"),
        "EXPORTERS__LANGFUSE__TYPE": "langfuse",
        "EXPORTERS__LANGFUSE__HOST": receiver.url,
        "EXPORTERS__LANGFUSE__PUBLIC_KEY": secret("public"),
        "EXPORTERS__LANGFUSE__SECRET_KEY": secret("secret"),
        "EXPORTERS__STORE__TYPE": "sqlite",
        "EXPORTERS__STORE__PATH": str(directory / "deep" / "store.sqlite3"),
        "EXPORTERS__LOG__TYPE": "file",
        "EXPORTERS__LOG__PATH": str(directory / "deep" / "spans.jsonl"),
    }
    return {PREFIX + name: value for name, value in ours.items()}


def recording(directory: Path) -> Path:
    """The beginning of a recorded file."""
    path = directory / "runs.jsonl"
    with PLAIN.open() as lines:
        path.write_text("".join(islice(lines, 100)))
    return path


CUSTOM = {
    "EXPORTERS__OWN__TYPE": "queue",
    "EXPORTERS__OWN__PASSWORD": secret("password"),
    "EXPORTERS__OWN__DSN": f"amqp://user:{secret('dsn')}@localhost",
    "EXPORTERS__OWN__DEEP__TOKEN": secret("token"),
}


def found(text: str) -> list[str]:
    """Which secrets are in a text, as they are or in one of the forms in which they are sent."""
    kinds = (
        "hash",
        "endpoint",
        "header",
        "bearer",
        "own-hash",
        "traces",
        "basic",
        "grpc",
        "phoenix",
        "public",
    )
    secrets = [secret(kind) for kind in (*kinds, "secret", "password", "dsn", "token")]
    pair = base64.b64encode(f"{secret('public')}:{secret('secret')}".encode()).decode()
    forms = {
        form
        for each in secrets
        for form in (each, urllib.parse.quote(each), base64.b64encode(each.encode()).decode())
    }
    return [form for form in (*forms, pair) if form in text]


def queue(name: str, own: Any, settings: ObservabilitySettings) -> SpanExporter:
    assert own.options()["password"] == secret("password")
    return SpanExporter(Backend(), name=name, limits=delivery_limits(own, settings), flush=own.flush)


@dataclass(frozen=True)
class SaysBack(Answer):
    """Refuse, or accept in part, with a message that holds whatever the request said, keys and all."""

    async def send(self, request: web.Request) -> web.StreamResponse:
        told = f"{request.headers.get('authorization')} {request.headers.get('x-api-key')} {request.query_string}"
        answer = partial(1, told) if self.status == 200 else refuse(self.status, told)
        return await answer.send(request)


def says_everything_back(receiver: OtlpReceiver) -> None:
    """Have the back end answer every kind of request so, in every kind of answer."""
    receiver.behave(*[SaysBack(status) for status in (401, 503, 200, 400, 403, 200)])


def shown(thing: object, depth: int = 0, seen: set[int] | None = None) -> Iterator[str]:
    """What an object and everything public that it holds shows, as a crash report would collect it."""
    seen = set() if seen is None else seen
    if depth > 4 or id(thing) in seen or isinstance(thing, type):
        return
    seen.add(id(thing))
    yield f"{thing!r} {thing}"
    inner: list[Any] = []
    if type(thing).__module__.startswith("nat_"):
        inner = [value for name, value in getattr(thing, "__dict__", {}).items() if name[0] != "_"]
    inner += thing.values() if isinstance(thing, dict) else thing if isinstance(thing, list | tuple) else []
    for each in inner:
        yield from shown(each, depth + 1, seen)


def test_every_secret_there_can_be_is_tried(tmp_path: Path, receiver: OtlpReceiver, closed_port: int) -> None:
    """A setting that is a secret, or may hold one, has one in the tests below."""
    tried = {name.rpartition("__")[2] for name in variables(tmp_path, receiver, closed_port)}
    secret_settings = {
        each.name.rpartition("__")[2] for each in describe_variables() if each.type in ("secret", "URL")
    }
    secret_settings.add("HEADERS")
    assert {name.removeprefix(PREFIX) for name in secret_settings} <= {
        name.removeprefix(PREFIX) for name in tried
    }


@pytest.mark.timeout(60)  # a few seconds, which a machine that does much else draws out
@pytest.mark.may_block  # building and opening what is replayed, once
def test_g14_no_secret_is_in_what_a_process_says_of_itself(
    tmp_path: Path, receiver: OtlpReceiver, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logs, errors, reports, health, settings and reprs of a whole replay, with back ends that say secrets back."""
    for name, value in variables(tmp_path, receiver, closed_port).items():
        monkeypatch.setenv(name, value)
    for name, value in CUSTOM.items():
        monkeypatch.setenv(PREFIX + name, value)
    says_everything_back(receiver)
    container = ObservabilityContainer()
    types: dict[str, ExporterBuilder] = {"queue": queue}
    container.exporter_types.override(types)
    settings = container.settings()
    said: list[str] = []

    async def whole() -> None:
        with EventFile(recording(tmp_path)) as file:
            file.index()
            async with open_session(container) as session:
                manager = session.manager()
                result = await replay(file, session, concurrency=10)
                said.append(f"{result!r} {session.health()!r} {container.runtime_object().health()!r}")
                async with manager.start():
                    said.extend(shown(manager.report))
            said.extend(session.problems(result.accepted, result.spans))
            said.extend(shown(session))

    with capture_logs() as lines:
        asyncio.run(whole())
    events = {line["event"] for line in lines}
    assert {"delivery_retrying", "delivery_failed"} <= events, "the back ends refused"
    said += [str(line) for line in lines]
    said += [text for line in lines for value in line.values() for text in shown(value)]
    said += [
        str(setting_rows(settings)),
        repr(settings),
        str(settings.model_dump()),
        settings.model_dump_json(),
    ]
    said += shown(container.exporters())
    said += shown(container.runtime_object())
    said.append(repr(container.runtime_object().health()))
    assert found("\n".join(said)) == []
    # What had to be sent was: the secrets reached their back ends.
    sent = [dict(request.headers) for request in receiver.requests]
    assert {headers.get("x-api-key") for headers in sent} >= {secret("header")}
    assert any(f"Bearer {secret('bearer')}" in headers.values() for headers in sent)


@pytest.mark.timeout(60)  # a few seconds, which a machine that does much else draws out
def test_g14_what_is_written_is_for_its_owner_alone(
    tmp_path: Path, receiver: OtlpReceiver, closed_port: int
) -> None:
    """The command in a process of its own: no secret in its output; its files are 0600 and directories 0700."""
    env_file = tmp_path / "secret.env"
    lines = [f"{name}={value}" for name, value in variables(tmp_path, receiver, closed_port).items()]
    env_file.write_text("\n".join(lines))
    says_everything_back(receiver)
    said = ""
    for command in (["replay", str(recording(tmp_path)), "--verbose"], ["settings"]):
        ran = run_warm(
            f"import os; os.umask(0); {COMMAND}",
            [*command, "--env-file", str(env_file)],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[1])},
            timeout=50,
            strict=False,
        )
        assert ran.returncode in (0, 1), ran.stderr
        said += ran.stdout + ran.stderr
    assert "delivery_retrying" in said
    assert "delivery_failed" in said
    assert "********" in said
    assert found(said) == []
    made = list((tmp_path / "deep").glob("**/*"))
    assert {path.suffix for path in made} >= {".sqlite3", ".jsonl"}
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [tmp_path / "deep", *made]}
    assert {path: mode for path, mode in modes.items() if mode != (0o700 if path.is_dir() else 0o600)} == {}
    # And in what was written, too: a back end's secrets are not part of what it is sent.
    assert found("".join(path.read_bytes().decode("latin-1") for path in made if path.is_file())) == []


@pytest.mark.parametrize("wrong", ["SAMPLING_RATIO", "EXPORTERS__OTLP__PROTOCOL", "EXPORTERS__LOG__BACKUPS"])
def test_g14_a_mistake_beside_secrets_shows_none(
    tmp_path: Path, receiver: OtlpReceiver, closed_port: int, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the settings, with all that a crash report would have of it, holds no secret."""
    for name, value in variables(tmp_path, receiver, closed_port).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(PREFIX + wrong, secret("token"))
    with pytest.raises(SettingsError) as caught:
        ObservabilitySettings()
    assert found("".join(traceback.format_exception(caught.value))) == []
    assert caught.value.__context__ is None
