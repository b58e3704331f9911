"""Promise G13 once more: secrets of several kinds, in every form that a value may have, in every place of a run."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import pydantic
import pytest
from structlog.testing import capture_logs

from benchmarks.redaction_corpus.kinds import FORM_KINDS, of_shape
from nat_observability import ContextState, step
from nat_observability.exporter_manager import ExporterManager
from nat_observability.runtime import ObservabilityRuntime
from nat_observability.store import Store
from tests.cli.invoking import invoke
from tests.otlp_receiver import OtlpReceiver
from tests.test_privacy import Everything, leaks

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
Login = collections.namedtuple("Login", ["user", "password"])


@dataclasses.dataclass
class Credentials:
    user: str
    api_key: str


class Model(pydantic.BaseModel):
    host: str
    db_password: str


class Struct(msgspec.Struct):
    client_secret: str


class Plain:
    def __init__(self, token: str) -> None:
        self.token = token

    def __repr__(self) -> str:
        return f"Plain(token={self.token!r})"


# Each takes a secret and returns a value in which its name or its form tells what it is.
FORMS: Mapping[str, Callable[[str], Any]] = {
    "text": lambda secret: f"password: {secret}",
    "bytes": lambda secret: f"api_key={secret}".encode(),
    "dict": lambda secret: {"password": secret, "host": "db"},
    "bytes in a dict": lambda secret: {b"password": secret.encode()},
    "nested": lambda secret: {"a": [{"b": {"access_token": [secret]}}]},
    "pairs": lambda secret: [("host", "db"), ("x-api-key", secret)],
    "headers in bytes": lambda secret: [(b"authorization", f"Bearer {secret}".encode())],
    "named tuple": lambda secret: Login("bob", secret),
    "dataclass": lambda secret: Credentials("bob", secret),
    "model": lambda secret: Model(host="db", db_password=secret),
    "struct": lambda secret: Struct(secret),
    "object": lambda secret: Plain(secret),
    "mapping proxy": lambda secret: MappingProxyType({"secret": secret}),
    "JSON": lambda secret: msgspec.json.encode({"password": secret}).decode(),
    "JSON in JSON": lambda secret: {"body": msgspec.json.encode({"password": secret}).decode()},
    "exception": lambda secret: ValueError(f"wrong password: {secret}"),
    "URL": lambda secret: f"postgres://bob:{secret}@db/shop",
    "command": lambda secret: ["deploy", "--password", secret],
    "deque": lambda secret: collections.deque([{"password": secret}]),
}


class ExpectedError(Exception):
    """What a step fails with."""


class Plants:
    """Secrets, each made for one place."""

    def __init__(self) -> None:
        self._chosen = random.Random(5)
        # Kinds of one part, without line ends, so that all of the value is secret.
        self._kinds = [kind for kind in FORM_KINDS if kind.name in _KINDS]
        self.secrets: list[str] = []

    def of_form(self) -> str:
        """A secret that its form tells."""
        secret = self._chosen.choice(self._kinds).make(self._chosen)
        self.secrets.append(secret.parts[-1])
        return secret.value

    def of_name(self) -> str:
        """A secret that only its name tells."""
        value = of_shape(self._chosen.choice(("hex", "letters", "uuid")), self._chosen).value
        self.secrets.append(value)
        return value


_KINDS = (
    "openai_plain",
    "anthropic_oauth",
    "github_personal",
    "aws_access_key",
    "google_api",
    "huggingface",
    "stripe_live",
)


def record(plants: Plants) -> None:
    """Record a step for each form, with secrets in all places of it."""
    for name, form in FORMS.items():
        try:
            with step(
                "tool",
                f"call {plants.of_form()}",
                input=form(plants.of_name()),
                metadata={"deep": [form(plants.of_name())], "password": plants.of_name()},
                tags=[f"a tag {plants.of_form()}"],
                attributes={"app.value": form(plants.of_name()), "db.password": plants.of_name()},
                links=[PARENT],
            ) as current:
                current.set_attribute("later", form(plants.of_name()))
                current.set_attributes({"app.api_key": plants.of_name()})
                current.event(
                    f"sent {plants.of_form()}", {"password": plants.of_name(), "v": form(plants.of_name())}
                )
                current.link(PARENT, {"token": plants.of_name()})
                if name == "text":
                    text = f"the key is {plants.of_form()} as before"
                    current.chunk(text[:20])
                    current.chunk(text[20:])
                else:
                    current.output = form(plants.of_name())
                if name in ("dict", "text", "URL"):
                    raise ExpectedError(f"could not log in: {form(plants.of_name())} {plants.of_form()}")
        except ExpectedError:
            pass


async def leave(everything: Everything, plants: Plants) -> ObservabilityRuntime:
    """Record one run with secrets in its own fields too, until everything that can be delivered is."""
    with capture_logs() as everything.logs:
        async with ObservabilityRuntime(everything.exporters) as runtime:
            manager = ExporterManager.from_exporters(everything.exporters)
            state = ContextState(
                tags={"password": plants.of_name(), "note": plants.of_form()},
                user_id=f"user {plants.of_form()}",
                conversation_id=f"password={plants.of_name()}",
            )
            async with manager.start(state):
                record(plants)
    return runtime


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as receiver:
        yield receiver


def shown(directory: Path) -> str:
    """What the command prints of the store."""
    path = directory / "spans.sqlite3"
    with Store(path) as store:
        runs = [run.run.run_id for run in store.runs()]
    assert runs
    commands = [("runs",), *(("show", run) for run in runs)]
    results = [invoke(*command, "--store", path) for command in commands]
    assert [each.exit_code for each in results] == [0] * len(results)
    return "".join(each.stdout + each.stderr for each in results)


def test_g13_no_form_of_a_value_lets_a_secret_out(tmp_path: Path, receiver: OtlpReceiver) -> None:
    """Neither a file, the store and its log, the spool, the wire and the log, nor health or the command has one."""
    everything, plants = Everything(tmp_path, receiver), Plants()
    runtime = asyncio.run(leave(everything, plants))
    assert len(plants.secrets) > 200
    assert leaks(everything, plants.secrets) == []
    said = str(runtime.health()) + repr(runtime) + shown(tmp_path)
    assert [secret for secret in plants.secrets if secret in said] == []
    assert {name: len(items) for name, items in everything.taken.items()} == dict.fromkeys(
        everything.taken, len(FORMS)
    )
    assert runtime.health().ledger.dropped == {}


def test_the_search_finds_secrets_in_every_place(tmp_path: Path, receiver: OtlpReceiver) -> None:
    """Without redaction, those of every place are found: the test above can fail."""
    everything, plants = Everything(tmp_path, receiver, redact=False), Plants()
    asyncio.run(leave(everything, plants))
    found = {secret for _, secret in leaks(everything, plants.secrets)}
    assert [secret for secret in plants.secrets if secret not in found] == []
