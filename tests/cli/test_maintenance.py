"""The commands that look after a configuration, a spool and a store."""

from __future__ import annotations

import io
import os
import sqlite3
import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nat_observability.cli.maintenance.cures import cure
from nat_observability.events import Run, Span, Status
from nat_observability.sinks import SqliteSink
from nat_observability.spool.record import encode_item
from nat_observability.spool.spool import Spool
from nat_observability.store import Store
from tests.cli.invoking import Shown, invoke
from tests.otlp_receiver import OtlpReceiver, refuse
from tests.sinks.builders import make_span
from tests.store.old_stores import make_old_store
from tests.warm_interpreter import run_warm

EXPORTER = "NAT_OBSERVABILITY_EXPORTERS__MAIN__"
ADA, BOB = Run("ada-1", "a" * 32, user_id="ada"), Run("bob-1", "b" * 32, user_id="bob")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "s.db"
    sink = SqliteSink(path)
    sink.open()
    sink.write(
        [
            make_span(run=ADA, start_ns=10, end_ns=11, input="the secret of ada " * 9),
            make_span(run=BOB, start_ns=20 * 10**9, end_ns=21 * 10**9),
        ]
    )
    sink.close()
    return path


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as receiver:
        yield receiver


def configure(monkeypatch: pytest.MonkeyPatch, **settings: object) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"{EXPORTER}{name.upper()}", str(value))


def spooled(directory: Path, *spans: Span, keep_open: bool = False) -> Spool:
    spool = Spool(directory, exporter="main", max_bytes=10**6)
    spool.open()
    spool.append([encode_item(span) for span in spans], taken=False)
    if not keep_open:
        spool.close()
    return spool


# check


def checked(*arguments: object) -> tuple[Shown, list[str]]:
    shown = invoke("check", *arguments)
    return shown, [line for line in shown.stdout.splitlines() if line.startswith("main ")]


def test_check_of_a_store(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """A test span goes in and out again, the store is looked into, and each setting has its source."""
    configure(monkeypatch, type="sqlite", path=path)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    shown, lines = checked()
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert len(lines) == 1
    assert "ok: opened, one test span delivered in" in lines[0]
    assert "the store with 2 runs is sound" in lines[0]
    rows = {line.split()[0]: line for line in shown.stdout.splitlines() if line.startswith("NAT_")}
    assert rows["NAT_OBSERVABILITY_SERVICE_NAME"].split()[1:] == [
        "mine",
        "environment",
        "(OTEL_SERVICE_NAME)",
    ]
    assert rows[f"{EXPORTER}PATH"].split()[-1] == "environment"
    assert rows["NAT_OBSERVABILITY_ENABLED"].split()[1:] == ["true", "default"]
    with Store(path) as store:
        assert [run.run.run_id for run in store.runs()] == ["bob-1", "ada-1"]


def test_check_of_an_env_file_masks_secrets(tmp_path: Path) -> None:
    """What an env file sets has its name as the source, and a secret is not shown."""
    file = tmp_path / "e.env"
    file.write_text(f"{EXPORTER}TYPE=console\n{EXPORTER}API_KEY=sesame\n{EXPORTER}REQUIRED=true\n")
    found = invoke("check", "--env-file", file)
    assert "sesame" not in found.stdout + found.stderr
    file.write_text(f"{EXPORTER}TYPE=langfuse\n{EXPORTER}PUBLIC_KEY=pk\n{EXPORTER}SECRET_KEY=sesame\n")
    shown = invoke("check", "--no-send", "--json", "--env-file", file)
    assert "sesame" not in shown.stdout + shown.stderr
    sources = {each["name"]: each["source"] for each in shown.json["settings"]}
    assert sources[f"{EXPORTER}SECRET_KEY"] == str(file)
    assert shown.json["exporters"] == [
        {"exporter": "main", "type": "langfuse", "ok": True, "detail": "opened", "cure": None}
    ]


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "check NAT_OBSERVABILITY_EXPORTERS__MAIN__HEADERS"),
        (404, "check the path of"),
        (400, "It refuses what it is sent"),
        (503, "It is there, but fails by itself or is too busy"),
        (200, ""),
    ],
)
def test_check_of_a_back_end(
    monkeypatch: pytest.MonkeyPatch, receiver: OtlpReceiver, status: int, says: str
) -> None:
    """One span is sent; a wrong key or path is one line that says what to do."""
    if status != 200:
        receiver.behave(*[refuse(status)] * 5)
    configure(monkeypatch, type="otlp", endpoint=receiver.url)
    shown, lines = checked("--seconds", 10)
    assert len(lines) == 1
    assert (shown.exit_code, says in lines[0]) == (int(status != 200), True)
    if status == 200:
        assert [span.name for span in receiver.spans] != []


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"type": "otlp", "endpoint": "http://127.0.0.1:9"}, "Nothing answers there: check host and port in"),
        ({"type": "otlp", "endpoint": "http://nowhere.invalid"}, "The host name is unknown: check it in"),
        ({"type": "sqlite", "path": "/proc/none/s.db"}, f"The path is that of {EXPORTER}PATH"),
        ({"type": "file", "path": "/proc/none/s.jsonl"}, f"The path is that of {EXPORTER}PATH"),
        ({"type": "nope"}, "no exporter type 'nope'. Known: arize, console"),
    ],
)
def test_check_says_what_to_do(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], says: str) -> None:
    """What cannot be reached or written is one line on stdout, and exit code 1."""
    configure(monkeypatch, **settings)
    shown, lines = checked()
    assert (shown.exit_code, shown.stderr) == (1, "")
    assert len(lines) == 1
    assert "FAILED" in lines[0]
    assert says in lines[0]


def test_an_http_server_instead_of_grpc() -> None:
    """It answers, but not in the protocol that was chosen: the port is wrong, and not the server down."""
    said = "UNAVAILABLE: failed to connect to all addresses; last error: Failed parsing HTTP/2 (an http1.x server)"
    assert "check http or https, the protocol, and the port" in str(cure("main", "otlp", said))


def test_check_says_nothing_else(tmp_path: Path) -> None:
    """Nor does the process's end say once more that the test span was lost."""
    program = "from nat_observability.cli import main; main()"
    names = {f"{EXPORTER}TYPE": "otlp", f"{EXPORTER}ENDPOINT": "http://127.0.0.1:9"}
    ended = run_warm(
        program, ["check", "--seconds", "0.5"], cwd=tmp_path, env={**os.environ, **names}, timeout=15
    )
    assert (ended.returncode, ended.stderr) == (1, "")
    assert "Nothing answers there" in ended.stdout


def test_check_of_a_certificate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A certificate that is not trusted names the setting for its authority."""
    trustme = pytest.importorskip("trustme")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with OtlpReceiver(tls=context) as receiver:
        configure(monkeypatch, type="otlp", endpoint=receiver.url)
        assert f"set {EXPORTER}CA_FILE" in checked()[1][0]


def test_check_of_a_typo(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """A misspelt name of the process's is a problem, one of an exporter's an error; both name the right one."""
    configure(monkeypatch, type="sqlite", path=path)
    monkeypatch.setenv("NAT_OBSERVABILITY_SERVICE_NAM", "x")
    shown = invoke("check", "--json")
    told = invoke("settings", "--json").json
    assert {key: shown.json[key] for key in told} == told
    assert shown.exit_code == 1
    assert not shown.json["ok"]
    assert "Did you mean NAT_OBSERVABILITY_SERVICE_NAME?" in shown.json["problems"][0]
    monkeypatch.delenv("NAT_OBSERVABILITY_SERVICE_NAM")
    configure(monkeypatch, pth="x")
    shown = invoke("check")
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert f"Did you mean {EXPORTER}PATH?" in shown.stderr


def test_check_of_a_damaged_store(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """A damaged store, or index in it, fails the check, with what to do; nothing is written to it before."""
    whole = path.read_bytes()
    configure(monkeypatch, type="sqlite", path=path)
    for damage in ("pages", "index"):
        path.write_bytes(whole)
        if damage == "pages":
            with path.open("r+b") as file:
                file.seek(4096)
                file.write(b"\xff" * 30_000)
        else:
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.execute("PRAGMA writable_schema = ON")
                connection.execute(
                    "UPDATE sqlite_master SET sql = replace(sql, '(start_ns)', '(end_ns)') WHERE name = 'runs_by_time'"
                )
        before = path.read_bytes()
        shown, lines = checked()
        assert shown.exit_code == 1
        assert "FAILED" in lines[0]
        assert "move it away" in lines[0].lower()
        assert path.read_bytes() == before
    assert "is damaged: row 1 missing from index runs_by_time; row 2" in lines[0]


def test_check_of_nothing() -> None:
    """Settings that record nothing are a problem."""
    shown = invoke("check")
    assert shown.exit_code == 1
    assert "No exporter is set: nothing is recorded" in shown.stderr


# migrate


def test_migrate(tmp_path: Path) -> None:
    """It says what there is, once and again; and a missing store is an error."""
    path = tmp_path / "old.db"
    make_old_store(path)
    sink = SqliteSink(path)
    sink.open()
    sink.write([make_span()])
    sink.close()
    assert " ".join(invoke("migrate", path).stdout.split()).endswith("is of version 2 now: 1 runs, 1 steps.")
    assert " ".join(invoke("migrate", path).stdout.split()).endswith("is of version 2 already.")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # As one that was ended before the space of the old tables was given back.
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("VACUUM")
    said = " ".join(invoke("migrate", path).stdout.split())
    assert said.endswith("is of version 2 already; its space is given back now.")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    found = {"path": str(path), "version": 2, "migrated": False, "runs": 1, "spans": 1}
    assert invoke("migrate", path, "--json").json == found
    assert invoke("migrate", tmp_path / "nowhere.db").exit_code == 2


# delete


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--run", "ada-1"], ["bob-1"]),
        (["--user", "ada"], ["bob-1"]),
        (["--before", "1970-01-01T00:00:15+00:00"], ["bob-1"]),
        (["--user", "bob", "--before", "1970-01-01T00:00:15+00:00"], ["bob-1", "ada-1"]),
        (["--before", "1d"], []),
        (["--run", "nothing"], ["bob-1", "ada-1"]),
    ],
)
def test_delete_erases_everywhere(
    monkeypatch: pytest.MonkeyPatch, path: Path, options: list[str], left: list[str]
) -> None:
    """From the store, the index beside it and the spool: nothing of it is in any byte of their files."""
    spool = path.parent / "spool"
    spooled(
        spool,
        make_span(run=ADA, start_ns=12, input="the secret of ada"),
        make_span(run=BOB, start_ns=22 * 10**9, input="bob's"),
    )
    index = Path(f"{path}-index")
    index.write_text("the secret of ada")
    configure(monkeypatch, type="sqlite", path=path, spool="spill", spool_path=spool)
    shown = invoke("delete", "--yes", "--json", *options)
    assert shown.exit_code == 0, shown.stderr
    with Store(path) as store:
        assert [run.run.run_id for run in store.runs()] == left
        assert store.counts() == store.counts(left)
    assert not index.exists()
    assert shown.json["runs"] == shown.json["spooled_items"] == 2 - len(left)
    if "ada-1" not in left:
        files = [file for file in path.parent.rglob("*") if file.is_file()]
        assert not [file for file in files if b"the secret of ada" in file.read_bytes()]


def test_delete_takes_all_of_a_run_from_a_spool(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Of a run that started before the time, what began later goes too: delivered, it would bring the run back."""
    spool = path.parent / "spool"
    spooled(spool, make_span(run=ADA, start_ns=18 * 10**9), make_span(run=BOB, start_ns=22 * 10**9))
    configure(monkeypatch, type="sqlite", path=path, spool="spill", spool_path=spool)
    shown = invoke("delete", "--yes", "--json", "--before", "1970-01-01T00:00:15+00:00")
    assert (shown.json["runs"], shown.json["spooled_items"]) == (1, 1)


def test_delete_names_a_run_that_is_not_there(path: Path) -> None:
    """The beginning of an id deletes nothing, and that is said; an erasure that is repeated is no failure."""
    shown = invoke("delete", "--yes", "--run", "ada", "--run", "bob-1", "--store", path)
    assert (shown.exit_code, shown.stdout) == (0, "Erased 1 runs, and 0 items in spools.\n")
    assert "holds no run 'ada'" in shown.stderr
    assert "bob-1" not in shown.stderr


def test_delete_says_that_a_reader_keeps_the_log(path: Path) -> None:
    """What was erased is still in the log then: exit code 1, and what to do. Repeated, it is gone."""
    again = Run("eve-1", "e" * 32, user_id="eve")
    sink = SqliteSink(path)
    sink.open()
    sink.write([make_span(run=again, input="the secret of eve")])
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM spans").fetchone()
        shown = invoke("delete", "--yes", "--json", "--user", "eve", "--store", path)
    assert (shown.exit_code, shown.json["runs"]) == (1, 1)
    assert "keeps what was erased" in shown.json["problems"][0]
    assert invoke("delete", "--yes", "--user", "eve", "--store", path).exit_code == 0
    sink.close()
    assert not [file for file in path.parent.iterdir() if b"the secret of eve" in file.read_bytes()]


def test_delete_leaves_a_spool_in_use(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """What a living process has open is left to it, and that is said."""
    spool = path.parent / "spool"
    opened = spooled(spool, make_span(run=ADA), keep_open=True)
    configure(monkeypatch, type="sqlite", path=path, spool="spill", spool_path=spool)
    shown = invoke("delete", "--user", "ada", "--yes")
    assert shown.exit_code == 1
    assert "a file that is in use" in shown.stderr
    assert opened.waiting == 1
    opened.close()


def test_delete_names_what_it_cannot_erase_from_a_spool(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Records that cannot be read, also those put aside, and files that were moved aside: it may be in them."""
    spool = path.parent / "spool"
    opened = spooled(spool, make_span(run=ADA), make_span(run=BOB), keep_open=True)
    opened.append([b"the secret of ada, in an unknown form"], taken=False)
    opened.close()
    [file] = spool.glob("spool-*.sqlite3")
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        for record in (encode_item(make_span(run=ADA)), b"the secret of ada, put aside"):
            database.execute("INSERT INTO rejected (time, data) VALUES (1, ?)", (record,))
    aside = Path(f"{file}.corrupt-20300101T000000")
    aside.write_bytes(b"the secret of ada")
    configure(monkeypatch, type="sqlite", path=path, spool="spill", spool_path=spool)
    shown = invoke("delete", "--user", "ada", "--yes", "--json")
    assert (shown.exit_code, shown.json["spooled_items"]) == (1, 2)
    assert [problem.partition(" has a file that is ")[2] for problem in shown.json["problems"]] == [
        f"damaged: {file}. It holds 2 records that cannot be read, which stay there.",
        f"unreadable: {aside}. It was moved aside, and may hold what was to be erased: look into it, or remove it.",
    ]
    file.unlink()
    aside.unlink()
    assert invoke("delete", "--user", "ada", "--yes").exit_code == 0


def test_delete_says_that_a_run_is_still_going_on(path: Path) -> None:
    """What it records afterwards would bring it back."""
    run = Run("eve-1", "e" * 32, user_id="eve")
    sink = SqliteSink(path)
    sink.open()
    sink.write_running([make_span(run=run, status=Status.INCOMPLETE)])
    shown = invoke("delete", "--yes", "--json", "--user", "eve", "--store", path)
    assert (shown.exit_code, shown.json["runs"]) == (1, 1)
    assert shown.json["problems"][0].startswith("Still going on: 'eve-1'. ")
    sink.close()
    assert invoke("delete", "--yes", "--user", "eve", "--store", path).exit_code == 0


def test_delete_wants_to_know_what(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Without a choice nothing is deleted, and without --yes it asks."""
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert "Say what to delete" in invoke("delete", "--store", path).stderr
    assert invoke("delete", "--user", "ada", "--store", path).exit_code == 1
    with Store(path) as store:
        assert len(store.runs()) == 2


# spool


def test_spool_is_listed_delivered_and_dropped(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """What former processes have left is delivered or dropped on request; what a living one has is left to it."""
    spool = path.parent / "spool"
    configure(monkeypatch, type="sqlite", path=path, spool="spill", spool_path=spool)
    assert invoke("spool", "list").stdout == "Nothing waits in any spool.\n"
    assert invoke("spool", "list", "--json").json == []
    assert not spool.exists()
    opened = spooled(spool, make_span(run=ADA), keep_open=True)
    [file] = invoke("spool", "list", "--json").json
    assert (file["exporter"], file["state"], file["records"]) == ("main", "in use", None)
    dropped = invoke("spool", "drop", "main", "--yes")
    assert dropped.exit_code == 1
    assert "is in use, and was left as it is" in dropped.stderr
    assert "in use by a process, which delivers them" in invoke("spool", "deliver", "main").stderr
    opened.close()
    [file] = invoke("spool", "list", "--json").json
    assert (file["state"], file["records"]) == ("waiting", 1)
    assert "waiting" in invoke("spool", "list").stdout
    delivered = invoke("spool", "deliver", "main", "--json")
    assert delivered.exit_code == 0, delivered.stderr
    assert (delivered.json["accepted"], delivered.json["delivered"]) == (1, 1)
    spooled(spool, make_span(run=Run("new", "0" * 32)))
    assert invoke("spool", "drop", "main", "--yes").stdout == "Dropped 1 items.\n"
    assert invoke("spool", "list", "--json").json == []
    with Store(path) as store:
        assert len(store.spans("ada-1")) == 2
        assert store.run("new") is None
    assert "There are: main." in invoke("spool", "drop", "other", "--yes").stderr


def test_a_damaged_spool_is_listed(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """A file that no spool wrote is named, and stays as it is."""
    spool = path.parent / "spool"
    spooled(spool, make_span())
    [file] = [each for each in spool.iterdir() if "owner" not in each.name]
    file.write_bytes(b"x" * 5000)
    configure(monkeypatch, type="sqlite", path=path, spool="spill", spool_path=spool)
    [listed] = invoke("spool", "list", "--json").json
    assert (listed["state"], listed["path"]) == ("damaged", str(file))
    assert file.read_bytes() == b"x" * 5000
