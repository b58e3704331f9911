"""Promise G13 from end to end: what is planted in a run is in no byte that leaves any exporter."""

from __future__ import annotations

import asyncio
import io
import json
import re
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from nat_observability import ContextState, step
from nat_observability.builders import build_exporters, delivering, delivery_limits
from nat_observability.builders.processing import OwnProcessing
from nat_observability.delivery.ledger import LedgerSnapshot
from nat_observability.events import Item, StepKind
from nat_observability.exporter.base_exporter import BaseExporter
from nat_observability.exporter.span_exporter import SpanExporter
from nat_observability.exporter_manager import ExporterManager
from nat_observability.runtime import ObservabilityRuntime
from nat_observability.settings import ObservabilitySettings
from nat_observability.sinks import MemorySink
from nat_observability.store import Store
from tests.delivery.backends import Backend, in_spool
from tests.otlp_receiver import OtlpReceiver
from tests.processors.redaction.test_redaction_properties import Planted, planted

PLACES = ("input", "output", "metadata", "error", "argument", "chunks", "name", "label")


@dataclass(frozen=True)
class PlannedStep:
    """A step to record, in which secrets are planted; those that follow are inside it if it has children."""

    kind: str
    plants: tuple[tuple[str, Planted], ...]
    cut: float
    inner: bool


@dataclass(frozen=True)
class PlannedRun:
    """A run to record, with secrets in its own fields."""

    steps: tuple[PlannedStep, ...]
    plants: Mapping[str, Planted] = field(default_factory=dict)

    @property
    def secrets(self) -> list[str]:
        """Every secret, none of which may leave."""
        of_steps = [plant.secret for each in self.steps for _, plant in each.plants]
        return [*of_steps, *(plant.secret for plant in self.plants.values())]


planned_steps = st.builds(
    PlannedStep,
    kind=st.sampled_from([kind.value.lower() for kind in StepKind]),
    plants=st.lists(st.tuples(st.sampled_from(PLACES), planted()), min_size=1, max_size=3).map(tuple),
    cut=st.floats(0, 1),
    inner=st.booleans(),
)
planned_runs = st.builds(
    PlannedRun,
    steps=st.lists(planned_steps, min_size=1, max_size=4).map(tuple),
    plants=st.dictionaries(st.sampled_from(("user_id", "conversation_id", "tag")), planted(), max_size=2),
)


class ExpectedError(Exception):
    """What a planned step fails with."""


def text_of(plant: Planted) -> str:
    return plant.value if isinstance(plant.value, str) else json.dumps(plant.value)


def record(steps: Sequence[PlannedStep]) -> None:
    """Record planned steps, each with its secrets in the planned places."""
    if not steps:
        return
    first, rest = steps[0], steps[1:]
    plants = dict(first.plants)
    name = text_of(plants["name"]) if "name" in plants else "a step"
    try:
        with step(
            first.kind,
            name,
            input=plants["input"].value if "input" in plants else None,
            metadata={"deep": [{"er": plants["metadata"].value}]} if "metadata" in plants else None,
            tags=[text_of(plants["label"])] if "label" in plants else (),
        ) as current:
            if "chunks" in plants:
                text = text_of(plants["chunks"])
                at = int(first.cut * len(text))
                current.chunk(text[:at])
                current.chunk(text[at:])
            if "output" in plants:
                current.output = plants["output"].value
            if "argument" in plants:
                call(first.kind, plants["argument"].value)
            if first.inner:
                record(rest)
            if "error" in plants:
                raise ExpectedError(text_of(plants["error"]))
    except ExpectedError:
        pass
    if not first.inner:
        record(rest)


def call(kind: str, argument: Any) -> None:
    """Call a tool that is recorded by its decorator."""

    @step(kind, "a tool")
    def tool(query: Any, *, limit: int = 3) -> Any:
        return {"echo": query}

    tool(argument)


# What leaves


def down(name: str, own: Any, settings: ObservabilitySettings) -> BaseExporter:
    """An exporter whose back end is down: what it has is in its spool."""
    return SpanExporter(Backend(down=True), name=name, limits=delivery_limits(own, settings))


class Everything:
    """Exporters to every kind of back end, and what they have let out."""

    def __init__(self, directory: Path, receiver: OtlpReceiver, own: Any = None, **process: Any) -> None:
        self._directory, self._receiver = directory, receiver
        self._sent = len(receiver.requests)
        self._console = io.StringIO()
        self._memory = MemorySink()
        self.logs: list[Any] = []
        entries: dict[str, Any] = {
            "memory": {"type": "kept"},
            "console": {"type": "console", "stream": "stdout"},
            "file": {"type": "file", "path": directory / "spans.jsonl"},
            "steps": {"type": "file", "path": directory / "steps.jsonl", "record": "steps"},
            "sqlite": {"type": "sqlite", "path": directory / "spans.sqlite3"},
            "otlp": {"type": "otlp", "endpoint": receiver.url},
            "down": {"type": "down", "spool": "always", "spool_path": directory / "spool", "retry_for": 0.0},
        }
        settings = ObservabilitySettings(exporters=entries, **process)
        with redirect_stdout(self._console):
            self.exporters = build_exporters(settings, {"down": down, "kept": self._kept}, own)

    def _kept(self, name: str, own: Any, settings: ObservabilitySettings) -> BaseExporter:
        return delivering(name, own, settings, self._memory)

    def run(self, runs: Sequence[PlannedRun]) -> ObservabilityRuntime:
        """Record runs through all of them at once, until everything that can be delivered is."""
        return asyncio.run(self._run(runs))

    async def _run(self, runs: Sequence[PlannedRun]) -> ObservabilityRuntime:
        with capture_logs() as self.logs:
            async with ObservabilityRuntime(self.exporters) as runtime:
                await asyncio.gather(*(self._record(planned) for planned in runs))
        return runtime

    async def _record(self, planned: PlannedRun) -> None:
        manager = ExporterManager.from_exporters(self.exporters)
        said = {key: text_of(plant) for key, plant in planned.plants.items()}
        tag = said.pop("tag", None)
        state = ContextState(tags={"note": tag} if tag is not None else None, **said)
        async with manager.start(state):
            record(planned.steps)

    @property
    def taken(self) -> dict[str, list[Item]]:
        """The items that can be read back as such."""
        with Store(self._directory / "spans.sqlite3") as store:
            stored = [span for run in store.runs(limit=1000) for span in store.spans(run.run.run_id)]
        return {
            "memory": self._memory.items,
            "store": list(stored),
            "spool": in_spool(self._directory / "spool", "down"),
        }

    @property
    def left(self) -> Iterator[tuple[str, bytes]]:
        """Every byte that has left, by its destination."""
        yield "console", self._console.getvalue().encode()
        for request in self._receiver.requests[self._sent :]:
            yield "otlp", request.body
            yield "otlp headers", str(request.headers).encode()
        for path in self._directory.glob("**/*"):
            if path.is_file():
                yield path.name, path.read_bytes()
        for name, items in self.taken.items():
            for item in items:
                yield name, msgspec.json.encode(item)
        yield "log", str(self.logs).encode()


def layers(data: bytes) -> Iterator[str]:
    """What is written, as it is and behind every kind of escape."""
    text = data.decode("utf-8", "replace")
    yield text
    for _ in range(5):
        text = urllib.parse.unquote(text, errors="replace")
        text = re.sub(r"\\+u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)
        yield text
        yield text.replace("\\", "")


def leaks(everything: Everything, secrets: Sequence[str]) -> list[tuple[str, str]]:
    """Which secrets have left, and where to."""
    return [
        (where, secret)
        for where, data in everything.left
        for text in dict.fromkeys(layers(data))
        for secret in secrets
        if secret in text
    ]


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as receiver:
        yield receiver


def nothing_secret_leaves(directory: Path, receiver: OtlpReceiver, runs: list[PlannedRun]) -> None:
    everything = Everything(directory, receiver)
    runtime = everything.run(runs)
    assert leaks(everything, [secret for run in runs for secret in run.secrets]) == []
    # And it is there, but for the secrets: nothing was dropped.
    assert runtime.health().ledger.dropped == {}
    spans = len(everything.taken["memory"])
    assert spans >= sum(len(run.steps) for run in runs)
    assert {name: len(items) for name, items in everything.taken.items()} == dict.fromkeys(
        everything.taken, spans
    )


# Making a failing example smaller takes minutes here.
examples = partial(
    settings,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
some_runs = st.lists(planned_runs, min_size=1, max_size=4)


@pytest.mark.timeout(60)  # a few seconds, which a machine that does much else draws out
@given(runs=some_runs)
@examples(max_examples=7)
def test_g13_nothing_that_is_secret_leaves(
    tmp_path_factory: pytest.TempPathFactory, receiver: OtlpReceiver, runs: list[PlannedRun]
) -> None:
    """Wherever in a run secrets are, with the settings as they come: no sink, no spool and no log has one of them."""
    nothing_secret_leaves(tmp_path_factory.mktemp("left"), receiver, runs)


@pytest.mark.slow
@pytest.mark.timeout(600)
@given(runs=some_runs)
@examples(max_examples=150)
def test_g13_nothing_that_is_secret_leaves_any_of_many_runs(
    tmp_path_factory: pytest.TempPathFactory, receiver: OtlpReceiver, runs: list[PlannedRun]
) -> None:
    """The same of many more runs."""
    nothing_secret_leaves(tmp_path_factory.mktemp("left"), receiver, runs)


def test_the_search_finds_what_is_not_redacted(tmp_path: Path, receiver: OtlpReceiver) -> None:
    """Without redaction the same secret is found in every back end: the test above can fail."""
    secret = "sk-proj-" + "Zx81kQ" * 8
    everything = Everything(tmp_path, receiver, redact=False)
    plants = tuple((place, Planted({"a": secret}, secret)) for place in ("input", "name", "chunks"))
    everything.run([PlannedRun((PlannedStep("llm", plants, 0.5, inner=False),))])
    places = {where for where, _ in leaks(everything, [secret])}
    assert {"memory", "console", "otlp", "spans.jsonl", "steps.jsonl", "store", "spool"} <= places


def test_g13_a_processor_that_always_raises_lets_nothing_out(tmp_path: Path, receiver: OtlpReceiver) -> None:
    """No item reaches any back end, each ledger says why, nothing of the items is logged, and the runs go on."""

    def broken(item: Item) -> Item:
        raise ValueError(f"what a processor may say of an item: {item.input!r}")

    everything = Everything(tmp_path, receiver, {"*": OwnProcessing(processors=[broken])})
    secret = "an input that is no key"
    plan = PlannedRun((PlannedStep("tool", (("input", Planted(secret, secret)),), 0.0, inner=False),) * 3)
    runtime = everything.run([plan] * 5)
    assert leaks(everything, [secret, "a step"]) == []
    assert set(map(len, everything.taken.values())) == {0}
    for name, health in runtime.health().exporters.items():
        assert health is not None
        items = 30 if name == "steps" else 15
        assert health.ledger.dropped == {"processor_failed:broken": items}
        assert health.ledger.accepted == items


@pytest.mark.parametrize("when", ["redaction", "rule"])
def test_g13_what_cannot_be_redacted_does_not_leave(
    tmp_path: Path, receiver: OtlpReceiver, when: str
) -> None:
    """A rule of the service's that raises is a redaction that fails: closed."""
    from nat_observability.processors import Pattern, Rule

    def refuses(_: object) -> bool:
        raise LookupError("no such tenant")

    rule = (
        Rule(when=refuses)
        if when == "rule"
        else Rule(when=lambda run: True, patterns=[Pattern("odd", "x+", check=refuses)])
    )
    everything = Everything(tmp_path, receiver, {"*": OwnProcessing(rules=[rule])})
    plan = PlannedRun((PlannedStep("tool", (("input", Planted("xxx", "xxx")),), 0.0, inner=False),))
    runtime = everything.run([plan])
    assert leaks(everything, ["xxx"]) == []
    for name, health in runtime.health().exporters.items():
        assert health is not None
        # The END of the step has nothing that the pattern fits.
        harmless = int(name == "steps" and when == "redaction")
        assert health.ledger == LedgerSnapshot(
            1 + (name == "steps"),
            harmless,
            dropped={"processor_failed:redact": 1 + (name == "steps") - harmless},
        )
