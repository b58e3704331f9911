"""Whatever bytes come from outside, they are read, or refused by an error that names them; nothing else happens."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nat_observability import ContextState, SettingsError, SettingsWarning
from nat_observability.cli.command_error import CommandError
from nat_observability.cli.replay.event_file import EventFile
from nat_observability.errors import SinkError
from nat_observability.propagation.traceparent import parse_traceparent
from nat_observability.settings import ObservabilitySettings
from nat_observability.sinks import SqliteSink
from nat_observability.spool.record import UnreadableRecordError, decode_item, encode_item
from nat_observability.spool.spool import Spool
from nat_observability.store import Store
from tests.sinks.builders import make_span, make_step

_RECORDED = Path(__file__).parents[1] / "data" / "nat_runs_a_with_run.jsonl"
_SLOW = settings(max_examples=60)


@st.composite
def damage(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Return what happened to a file: pieces of it were overwritten, cut out, doubled or torn off."""
    changes = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["overwrite", "cut", "double", "tear"]),
                st.floats(0, 1),
                st.binary(min_size=1, max_size=40),
            ),
            min_size=1,
            max_size=6,
        )
    )

    def damaged(data: bytes) -> bytes:
        for how, place, piece in changes:
            at = int(place * len(data))
            if how == "overwrite":
                data = data[:at] + piece + data[at + len(piece) :]
            elif how == "cut":
                data = data[:at] + data[at + len(piece) :]
            elif how == "double":
                data = data[:at] + data[at : at + 50 * len(piece)] + data[at:]
            else:
                data = data[:at]
        return data

    return damaged


def _refusal(kind: type[Exception], read: Callable[[], object]) -> str:
    """Return what the error of this kind says, nothing if all was read; any other error is a failure."""
    try:
        read()
    except kind as error:
        return str(error)
    return ""


@contextmanager
def directory() -> Iterator[Path]:
    """A new directory for each example."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


# traceparent


_HEX = st.text("0123456789abcdefABCDEFg-", max_size=40)
_HEADERS = st.one_of(
    st.text(),
    st.tuples(_HEX, _HEX, _HEX, _HEX).map("-".join),
    st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?", fullmatch=True),
)


@given(header=_HEADERS)
@example(header="00-" + "0" * 32 + "-00f067aa0ba902b7-01")
@example(header="ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
@example(header="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-")
def test_a_traceparent_is_continued_or_a_new_trace_begins(header: str) -> None:
    """Either the caller's trace goes on under its own ids, or there is a new one; what we send on is well-formed."""
    link = parse_traceparent(header)
    state = ContextState(traceparent=header)
    if link is None:
        assert state.run.parent_span_id is None
    else:
        assert (state.run.trace_id, state.run.parent_span_id) == link[:2]
    assert parse_traceparent(state.traceparent) is not None


# Settings


_FIELDS = (
    "TYPE",
    "PATH",
    "ENDPOINT",
    "HEADERS",
    "QUEUE_ITEMS",
    "BATCH_AGE",
    "SPOOL",
    "RECORD",
    "FLUSH",
    "REQUIRED",
    "X",
)
_VALUES = st.one_of(
    st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=30),
    st.sampled_from(
        [
            "otlp",
            "memory",
            "sqlite",
            "file",
            "1",
            "-1",
            "0",
            "nan",
            "inf",
            "1e999",
            "9" * 30,
            "{",
            "[]",
            '{"a": 1}',
        ]
    ),
)
_NAMES = st.one_of(
    st.sampled_from(
        ["ENABLED", "SERVICE_NAME", "RESOURCE_ATTRIBUTES", "START_TIMEOUT", "EXPORTERS", "SECRETS_DIR"]
    ),
    st.tuples(st.sampled_from(["MAIN", "B", "", "ä"]), st.sampled_from(_FIELDS)).map(
        lambda parts: f"EXPORTERS__{'__'.join(parts)}"
    ),
    st.text("ABC_", max_size=8),
)
_STANDARD = st.sampled_from(
    ["OTEL_SDK_DISABLED", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_BSP_MAX_QUEUE_SIZE"]
)


@_SLOW
@given(
    variables=st.dictionaries(
        st.one_of(_NAMES.map("NAT_OBSERVABILITY_".__add__), _STANDARD), _VALUES, max_size=6
    )
)
def test_settings_are_read_or_refused_by_name(variables: dict[str, str]) -> None:
    """Whatever the environment holds: settings, or an error each line of which names a variable, never a value."""
    ours = {
        name: value for name, value in os.environ.items() if name.startswith(("NAT_OBSERVABILITY", "OTEL_"))
    }
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", SettingsWarning)
        for name in ours:
            patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        refusal = _refusal(SettingsError, ObservabilitySettings)
    for line in refusal.splitlines()[1:]:
        assert "NAT_OBSERVABILITY_" in line or "OTEL_" in line, line


# Replay files


@cache
def _recording() -> bytes:
    """Some runs of the recording, not its largest lines: enough for damage to hit what matters."""
    lines = [line for line in _RECORDED.read_bytes().split(b"\n") if len(line) < 1500]
    return b"\n".join(lines[:80])


@_SLOW
@given(damaged=damage())
def test_a_damaged_recording_is_read_as_far_as_it_goes(damaged: Callable[[bytes], bytes]) -> None:
    """Each line is a step of a run or skipped by its number, and a file without a step is a clear error."""
    with directory() as folder:
        path = folder / "recording.jsonl"
        path.write_bytes(damaged(_recording()))
        with EventFile(path) as file:
            refusal = _refusal(CommandError, file.index)
            if refusal:
                assert str(path) in refusal
                return
            taken = 0
            for recorded in file.runs:
                state = ContextState(run_id=recorded.run_id)
                position = 0
                while position < len(recorded):
                    steps = file.steps(recorded, position, state.run)
                    assert steps
                    position += len(steps)
                taken += position
            assert taken + file.skipped_count == file.lines


# Records, spool files and stores


@given(damaged=damage(), step=st.booleans())
def test_a_damaged_record_is_an_item_or_unreadable(damaged: Callable[[bytes], bytes], step: bool) -> None:
    """A record decodes to an item that can be written again, or says that it is unreadable."""
    item = make_step(input="größer", tags=("a",)) if step else make_span(input="größer", output='{"a": 1}')
    try:
        decoded = decode_item(damaged(encode_item(item)))
    except UnreadableRecordError:
        return
    assert decode_item(encode_item(decoded)) == decoded


@cache
def _spool_file() -> tuple[str, bytes]:
    """The file of a spool, its name and what is in it."""
    with directory() as folder:
        with Spool(folder, exporter="main", max_bytes=1 << 30) as spool:
            spool.append([encode_item(make_span(input="." * 200)) for _ in range(40)], taken=False)
        [path] = folder.glob("*.sqlite3")
        return path.name, path.read_bytes()


@_SLOW
@given(damaged=damage())
def test_a_damaged_spool_gives_out_what_is_left_and_works(damaged: Callable[[bytes], bytes]) -> None:
    """Whatever has become of its file, a spool opens, gives no record out twice, and takes new ones."""
    name, content = _spool_file()
    with directory() as folder:
        (folder / name).write_bytes(damaged(content))
        with Spool(folder, exporter="main", max_bytes=1 << 30) as spool:
            spool.append([b"new"], taken=False)
            found = [data for _, data in spool.take(1000, 1 << 30)]
            assert found.count(b"new") == 1
            assert len(found) <= 41
        kept = [path for path in folder.iterdir() if ".corrupt-" in path.name or path.suffix == ".sqlite3"]
        assert kept, "the damaged file was deleted"


@cache
def _store_file() -> bytes:
    """The file of a store."""
    with directory() as folder:
        sink = SqliteSink(folder / "store.sqlite3")
        sink.open()
        sink.write([make_span(input="." * 300, tags=("a", "b")) for _ in range(40)])
        sink.close()
        return (folder / "store.sqlite3").read_bytes()


@_SLOW
@given(damaged=damage())
def test_a_damaged_store_is_read_or_refused(damaged: Callable[[bytes], bytes]) -> None:
    """Reading gives what is left, or an error that names the file."""
    with directory() as folder:
        path = folder / "store.sqlite3"
        path.write_bytes(damaged(_store_file()))

        def read() -> None:
            with Store(path) as store:
                for run in store.runs():
                    store.spans(run.run.run_id)
                    store.tree(run.run.run_id)
                store.counts()

        refusal = _refusal(SinkError, read)
        assert not refusal or str(path) in refusal
