"""The tags of a run: they arrive in every form that leaves the process."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from nat_observability.context import ContextState
from nat_observability.events import Span
from nat_observability.sinks import FileSink, SqliteSink
from nat_observability.sinks.otlp.span_encoder import encode
from nat_observability.spool.record import decode_item, encode_item
from nat_observability.store import Store
from tests.sinks.builders import make_span

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def in_a_file(path: Path, span: Span) -> Span:
    sink = FileSink(path / "spans.jsonl")
    sink.open()
    sink.write([span])
    sink.close()
    return msgspec.json.decode((path / "spans.jsonl").read_bytes(), type=Span)


def in_a_store(path: Path, span: Span) -> Span:
    sink = SqliteSink(path / "spans.db")
    sink.open()
    sink.write([span])
    sink.close()
    with Store(path / "spans.db") as store:
        return store.spans(span.run.run_id)[0]


@settings(max_examples=25)
@given(tags=st.dictionaries(texts, texts, max_size=5))
def test_tags_survive_everywhere(tmp_path_factory: pytest.TempPathFactory, tags: dict[str, str]) -> None:
    """File, store, spool and OTLP give back the tags that the run was given, whatever they hold."""
    path = tmp_path_factory.mktemp("tags")
    span = make_span(run=ContextState(tags=tags).run)
    assert dict(span.run.tags) == tags
    for found in (in_a_file(path, span), in_a_store(path, span), decode_item(encode_item(span))):
        assert found.run == span.run
    request = ExportTraceServiceRequest.FromString(encode([span], {}))
    attributes = request.resource_spans[0].scope_spans[0].spans[0].attributes
    sent = {each.key: each.value.string_value for each in attributes if each.key.startswith("nat.tag.")}
    assert sent == {f"nat.tag.{name}": value for name, value in tags.items()}


def test_a_run_without_tags_says_nothing_of_them() -> None:
    """A run without tags looks as runs did before tags existed."""
    assert b"tags" not in msgspec.json.encode(ContextState().run)
