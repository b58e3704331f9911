"""The commands: what they print, to which stream, and with which exit code."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from nat_observability.cli import main
from nat_observability.cli.demo.demo import own_file
from nat_observability.events import SpanEvent, SpanLink, Status
from nat_observability.settings.example_env import example_env
from nat_observability.sinks import SqliteSink
from nat_observability.store import Store
from tests.cli.builders import KEYS, PLAIN, SIDECAR, expected, line, run_command, workflow, write_lines
from tests.cli.invoking import invoke
from tests.processes import run_program
from tests.sinks.builders import make_span

STORE = "NAT_OBSERVABILITY_EXPORTERS__STORE__"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the store that the settings name."""
    path = tmp_path / "s.db"
    monkeypatch.setenv(f"{STORE}TYPE", "sqlite")
    monkeypatch.setenv(f"{STORE}PATH", str(path))
    return path


class TestReplay:
    @pytest.mark.parametrize("path", [PLAIN, SIDECAR], ids=["plain", "sidecar"])
    def test_json_has_the_expected_counts(self, path: Path, tmp_path: Path) -> None:
        """One object with exactly the expected counts is on stdout, nothing is on stderr, and the store agrees."""
        variables = {f"{STORE}TYPE": "sqlite", f"{STORE}PATH": "var/s.db"}
        done = run_command("replay", path, "--json", cwd=tmp_path, **variables)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout) == {**expected(), "skipped": [], "skipped_lines": 0}
        with Store(tmp_path / "var" / "s.db") as stored:
            assert {"lines": 895, **stored.counts()} == expected()

    def test_a_table_says_the_same(self, store: Path) -> None:
        """Without --json the counts and the ledger are a table."""
        shown = invoke("replay", PLAIN)
        assert (shown.exit_code, shown.stderr) == (0, "")
        words = " ".join(shown.stdout.split())
        assert "38 (30 ok, 8 failed)" in words
        assert "334 (310 paired, 24 unpaired)" in words
        assert "1,190 prompt, 239 completion, 30 cached, 3 reasoning, 1,429 total" in words
        assert "store 334 334 0 0 0 yes" in words

    def test_an_env_file_names_exporters(self, tmp_path: Path) -> None:
        """The settings may come from a file."""
        env_file = tmp_path / "e.env"
        env_file.write_text(f"{STORE}TYPE=sqlite\n{STORE}PATH={tmp_path}/other.db\n")
        assert invoke("replay", PLAIN, "--env-file", env_file).exit_code == 0
        assert (tmp_path / "other.db").exists()

    def test_without_exporters_the_runs_are_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """With nothing configured, or all switched off, the counts are right and a warning says so."""
        shown = invoke("replay", PLAIN, "--json")
        assert shown.exit_code == 0
        assert json.loads(shown.stdout)["spans"] == 334
        assert shown.stderr == "warning: No exporter is configured: the runs are only counted.\n"
        monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
        assert "Observability is switched off" in invoke("replay", PLAIN).stderr

    def test_lines_that_are_not_steps_are_named(self, store: Path, tmp_path: Path) -> None:
        """Torn, foreign and other lines are counted, shown with their number and the reason, and cost no others."""
        lines = PLAIN.read_bytes().split(b"\n")[:-1]
        lines[3:3] = [b'{"foreign": 1}', lines[5][:70], b"step=\x1b[31m('x')", b"\xff", b""]
        (tmp_path / "torn.jsonl").write_bytes(b"\n".join(lines))
        shown = invoke("replay", tmp_path / "torn.jsonl", "--json")
        assert shown.exit_code == 0
        printed = json.loads(shown.stdout)
        assert {key: printed[key] for key in KEYS} == expected() | {"lines": 900}
        assert [each["line"] for each in printed["skipped"]] == [4, 5, 6, 7, 8]
        assert printed["skipped_lines"] == 5
        for number in range(4, 9):
            assert f"torn.jsonl: line {number} was skipped: " in shown.stderr
        assert "torn.jsonl: 5 of 900 lines were skipped." in shown.stderr
        assert "\x1b" not in shown.stderr
        with Store(store) as stored:
            assert {"lines": 900, **stored.counts()} == expected() | {"lines": 900}

    def test_many_skipped_lines_are_not_all_shown(self, tmp_path: Path) -> None:
        """A file with thousands of foreign lines does not fill the screen."""
        path = write_lines(tmp_path / "f", workflow("WORKFLOW_START", "w"), *[b"{}"] * 3000)
        shown = invoke("replay", path)
        assert shown.exit_code == 0
        assert "3000 of 3001 lines were skipped, 2980 of them not shown." in shown.stderr
        assert len(shown.stderr.splitlines()) < 25

    def test_what_is_not_delivered_is_exit_code_1(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Path
    ) -> None:
        """Spans that were dropped are an error, after the table that shows them."""
        monkeypatch.setenv(f"{STORE}QUEUE_ITEMS", "1")
        starts = [line("TOOL_START", f"t{number}", "w") for number in range(30)]
        shown = invoke("replay", write_lines(tmp_path / "f", workflow("WORKFLOW_START", "w"), *starts))
        assert shown.exit_code == 1
        assert "31 items" in shown.stderr
        assert "accepted" in shown.stdout

    @pytest.mark.parametrize(
        ("variable", "value", "said"),
        [
            ("TYPE", "sqlit", "no exporter type 'sqlit'. Did you mean 'sqlite'?"),
            ("QUEUE_ITEMS", "many", "QUEUE_ITEMS is not a whole number"),
            (
                "PATH",
                "/proc/none/s.db",
                "Required exporters did not start: 'store': SinkError: /proc/none/s.db",
            ),
        ],
    )
    def test_bad_settings_are_exit_code_2(
        self, monkeypatch: pytest.MonkeyPatch, store: Path, variable: str, value: str, said: str
    ) -> None:
        """A setting that cannot be used is an error before anything is replayed."""
        monkeypatch.setenv(f"{STORE}REQUIRED", "true")
        monkeypatch.setenv(f"{STORE}{variable}", value)
        shown = invoke("replay", PLAIN)
        assert (shown.exit_code, shown.stdout) == (2, "")
        assert said in shown.stderr

    def test_an_unopened_exporter_is_exit_code_1(self, monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
        """If an optional exporter does not open, the runs are counted and the exit code is 1."""
        monkeypatch.setenv(f"{STORE}PATH", "/proc/none/s.db")
        shown = invoke("replay", PLAIN, "--json")
        assert shown.exit_code == 1
        assert json.loads(shown.stdout)["spans"] == 334
        assert "error: Exporter 'store' did not open: SinkError: /proc/none/s.db" in shown.stderr

    def test_an_unknown_variable_is_warned_about(self, monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
        """A misspelt variable is not an error, and is named."""
        monkeypatch.setenv("NAT_OBSERVABILITY_SERVICE_NAM", "x")
        shown = invoke("replay", PLAIN)
        assert shown.exit_code == 0
        assert "warning: NAT_OBSERVABILITY_SERVICE_NAM" in shown.stderr

    def test_a_missing_file_is_exit_code_2(self, tmp_path: Path) -> None:
        """The error names the file and the cure, and no store is made."""
        shown = invoke("replay", tmp_path / "nowhere.jsonl")
        assert (shown.exit_code, shown.stdout) == (2, "")
        assert shown.stderr == (
            f"error: {tmp_path}/nowhere.jsonl does not exist. Give a file that the toolkit's file exporter wrote.\n"
        )

    def test_lifecycles_are_logged_when_asked_for(self, store: Path) -> None:
        """With --verbose each start and stop is a line on stderr, never on stdout."""
        shown = invoke("replay", PLAIN, "--json", "--verbose")
        assert json.loads(shown.stdout)["runs"] == 38
        assert shown.stderr.count("manager_stopped") == 38


class TestSettings:
    def test_the_example_is_the_file(self) -> None:
        """The example is printed as it is, and is what the repository has."""
        shown = invoke("settings", "--example")
        assert shown.stdout == example_env()
        file = own_file("settings.example.env")
        assert file is not None
        assert shown.stdout == file.read_text(encoding="utf-8")

    def test_what_holds_is_shown_without_secrets(self, monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
        """Every setting is shown with its value; a secret is not."""
        monkeypatch.setenv("NAT_OBSERVABILITY_EXPORTERS__MINE__TYPE", "mine")
        monkeypatch.setenv("NAT_OBSERVABILITY_EXPORTERS__MINE__API_KEY", "sesame")
        shown = invoke("settings")
        assert shown.exit_code == 0
        assert f"{STORE}PATH" in shown.stdout
        assert str(store) in "".join(shown.stdout.split())
        assert "NAT_OBSERVABILITY_EXPORTERS__MINE__API_KEY" in shown.stdout
        assert "sesame" not in shown.stdout + shown.stderr

    def test_a_missing_env_file_is_an_error(self, tmp_path: Path) -> None:
        """An env file that does not exist is not taken for an empty one."""
        shown = invoke("settings", "--env-file", tmp_path / "nowhere.env")
        assert shown.exit_code == 2
        assert "nowhere.env does not exist. Write one with" in shown.stderr


class TestRunsAndShow:
    @pytest.fixture(autouse=True)
    def replayed(self, store: Path) -> None:
        """A store with the recorded runs."""
        assert invoke("replay", PLAIN).exit_code == 0

    def test_runs_are_listed_newest_first(self) -> None:
        """The runs of the configured store are listed with their ids, names and status, up to the limit."""
        lines = invoke("runs", "--limit", 3).stdout.splitlines()
        ids = [each.split()[0] for each in lines[1:4]]
        assert [each[:8] for each in ids] == ["30b5df50", "0602e54a", "11111111"]
        assert {len(each) for each in ids} == {36}
        assert lines[4] == "There are more: --limit 6"

    def test_runs_are_listed_by_status(self) -> None:
        """Only runs of the status that was asked for are listed."""
        lines = invoke("runs", "--status", "error").stdout.splitlines()
        assert len(lines) == 1 + 8
        assert all("error: incomplete" in each for each in lines[1:])
        assert invoke("runs", "--status", "open").stdout == "No runs.\n"

    def test_a_run_is_shown_as_a_tree(self) -> None:
        """The beginning of an id is enough for the ids, and the steps below each other with durations."""
        shown = invoke("show", "3502a8ee").stdout
        assert "3502a8ee-607e-42a9-b555-e8a4f4a7f022" in shown
        assert "conv-delta" in shown
        assert (
            "      │  │  └─ canned-model-a     llm        +28.5 ms   43.8 ms  22 tokens" in shown.splitlines()
        )

    def test_an_id_has_to_be_unique(self, store: Path) -> None:
        """An unknown beginning, and one of several ids, are errors that help."""
        assert (
            f"{store} holds no run 'nowhere'. See: nat-observability runs" in invoke("show", "nowhere").stderr
        )
        several = invoke("show", "e")
        assert several.exit_code == 2
        assert "'e' is the beginning of several ids: e" in several.stderr

    def test_another_store_may_be_named(self, tmp_path: Path) -> None:
        """--store wins over the settings; one that does not exist is an error."""
        shown = invoke("runs", "--store", tmp_path / "nowhere.db")
        assert shown.exit_code == 2
        assert "nowhere.db: does not exist" in shown.stderr

    def test_an_env_file_may_name_the_store(
        self, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As it does for the other commands; the environment wins over it, and --store over both."""
        for name in ("TYPE", "PATH"):
            monkeypatch.delenv(STORE + name)
        env_file = tmp_path / "e.env"
        env_file.write_text(f"{STORE}TYPE=sqlite\n{STORE}PATH={store}\n")
        assert (
            invoke("runs", "--env-file", env_file, "--limit", 1).stdout.splitlines()[1].startswith("30b5df50")
        )
        assert "conv-delta" in invoke("show", "3502a8ee", "--env-file", env_file).stdout
        monkeypatch.setenv(f"{STORE}PATH", str(tmp_path / "environment.db"))
        assert "environment.db: does not exist" in invoke("runs", "--env-file", env_file).stderr
        shown = invoke("show", "3502a8ee", "--env-file", env_file, "--store", store)
        assert (shown.exit_code, shown.stderr) == (0, "")

    def test_an_env_file_without_a_store_is_an_error(
        self, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not even a demonstration's store stands in for what a file was to name."""
        for name in ("TYPE", "PATH"):
            monkeypatch.delenv(STORE + name)
        monkeypatch.chdir(tmp_path)
        (tmp_path / "var").mkdir()
        store.rename(tmp_path / "var" / "demo.sqlite3")
        assert invoke("runs").exit_code == 0
        (tmp_path / "e.env").write_text("")
        shown = invoke("runs", "--env-file", "e.env")
        assert shown.exit_code == 2
        assert shown.stderr == "error: e.env names no exporter of type sqlite. Give a store: --store PATH\n"

    def test_control_characters_are_shown_not_obeyed(self, store: Path, tmp_path: Path) -> None:
        """A name that would drive the terminal is printed as escapes."""
        path = write_lines(tmp_path / "f", workflow("WORKFLOW_START", "w", "red", name="\x1b[31m[red]red"))
        assert invoke("replay", path).exit_code == 0
        for shown in (invoke("show", "red").stdout, invoke("runs", "--limit", 100).stdout):
            assert "\x1b" not in shown
            assert "\\x1b[31m[red]red" in shown


def test_show_prints_what_spans_say(tmp_path: Path) -> None:
    """Attributes, events with their time, links, the status message, and what was dropped."""
    path = tmp_path / "s.sqlite3"
    sink = SqliteSink(path)
    sink.open()
    said = make_span(
        name="ask",
        attributes=msgspec.Raw(b'{"gen_ai.provider.name":"openai","a.b":[1,"x"],"esc":"\\u001b[31m"}'),
        events=(SpanEvent("retry", 1_700_000_000_001_000_000, msgspec.Raw(b'{"attempt":2}')),),
        links=(SpanLink("ab" * 16, "cd" * 8, msgspec.Raw(b'{"why":"again"}')),),
        status=Status.ERROR,
        status_message="refused",
        dropped_events_count=3,
    )
    sink.write([said, make_span(name="bare", parent_id=said.span_id)])
    sink.close()
    shown = invoke("show", "run-1", "--store", path).stdout
    assert f"ask (function, {said.span_id})" in shown
    rows = [line.split(maxsplit=1) for line in shown[shown.index("ask (") :].splitlines()[1:] if line]
    assert [(name, rest.strip()) for name, rest in rows] == [
        ("gen_ai.provider.name", "openai"),
        ("a.b", '[1,"x"]'),
        ("esc", "\\x1b[31m"),
        ("status", "refused"),
        ("event", "retry +1.0 ms  attempt=2"),
        ("link", f"{'ab' * 16} {'cd' * 8}  why=again"),
        ("dropped", "3 events"),
    ]


def test_without_a_store_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If neither the settings nor a demonstration name a store, the cure is named."""
    monkeypatch.chdir(tmp_path)
    shown = invoke("runs")
    assert shown.exit_code == 2
    assert shown.stderr == "error: The settings name no exporter of type sqlite. Give a store: --store PATH\n"


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_missing_packages_are_named_with_their_extra(missing: str) -> None:
    """Without the packages of the extra, the command says how to install them."""
    program = f"import sys; sys.modules[{missing!r}] = None; from nat_observability.cli import main; main()"
    done = run_program(program, status=1, fresh=True)
    assert done.stderr == (
        "error: The command nat-observability needs an extra: pip install 'nat-observability[cli]'\n"
    )


def test_importing_the_package_imports_no_command() -> None:
    """The library itself does without the command's packages."""
    program = "import sys, nat_observability; print(*{'click', 'containers', 'dependency_injector'} & {*sys.modules})"
    assert run_program(program, fresh=True).stdout == "\n"
    assert "click" in sys.modules


@pytest.mark.parametrize("configured", [True, False])
def test_an_application_that_runs_a_command_keeps_its_logs(
    store: Path, capsys: pytest.CaptureFixture[str], configured: bool
) -> None:
    """Streams, signals and the configuration of logs are as before, however the command is called, and ends."""
    lines: list[str] = []

    def keep(_logger: object, _method: str, fields: MutableMapping[str, Any]) -> str:
        lines.append(fields["event"])
        raise structlog.DropEvent

    before = structlog.get_config()
    was_configured = structlog.is_configured()
    try:
        structlog.reset_defaults()
        if configured:
            structlog.configure(processors=[keep])
        mine, handler = structlog.get_config(), signal.getsignal(signal.SIGTERM)
        for arguments in (["check", "--no-send"], ["runs", "--verbose"], ["show", "none"]):
            with pytest.raises(SystemExit):
                main(arguments)
            invoke(*arguments)
            assert structlog.get_config() == mine
            assert structlog.is_configured() is configured
            assert signal.getsignal(signal.SIGTERM) is handler
        if configured:
            structlog.get_logger().warning("said by the application")
            assert lines == ["said by the application"]
    finally:
        structlog.reset_defaults()
        if was_configured:
            structlog.configure(**before)
