"""The command `ui`: what it says before it serves."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from nat_observability.cli.ui import ui
from tests.processes import run_program
from tests.viewer.stores import make_store


def _busy_at(host: str, path: Path) -> tuple[int, str, int]:
    with socket.socket() as taken:
        taken.bind((host, 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = CliRunner().invoke(
            ui, [str(path), "--host", host, "--port", str(port), "--no-browser", "--no-index"]
        )
    return result.exit_code, result.output, port


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """It is an error on one line that says how to choose another, without a warning on loopback."""
    code, output, port = _busy_at("127.0.0.1", make_store(tmp_path / "s.sqlite3", 1))
    assert code == 2
    assert output.startswith(f"error: Cannot listen at 127.0.0.1, port {port}: ")
    assert output.endswith("Choose another with --port.\n")
    assert "warning" not in output


def test_listening_beyond_loopback_warns(tmp_path: Path) -> None:
    """--host warns before anything is served."""
    _, output, _ = _busy_at("0.0.0.0", tmp_path / "s.sqlite3")
    assert output.startswith("warning: --host 0.0.0.0 lets other machines reach this viewer")


def test_what_is_no_store_is_said_at_once(tmp_path: Path) -> None:
    """A path that is wrong, or not there yet, is a line of the command's, not only of the page."""
    foreign = tmp_path / "notes.txt"
    foreign.write_text("dear diary\n" * 100)
    for path, says in (
        (tmp_path / "typo.sqlite3", "there is no store there yet."),
        (tmp_path, "is not a file."),
        (foreign, "file is not a database."),
        (Path("no-such-folder/s.sqlite3"), "there is no store there yet."),
    ):
        _, output, _ = _busy_at("127.0.0.1", path)
        first = output.splitlines()[0]
        assert first.startswith(f"warning: {path}: "), first
        assert says in first


def test_the_server_imports_little() -> None:
    """What only other commands, or an export, need is left out: it would take as long to import as all the rest."""
    program = """
        import sys, nat_observability.cli.ui, nat_observability.viewer.serving
        print(*({"rich", "structlog", "pydantic", "nat_observability.recording.capture"} & set(sys.modules)))
    """
    assert run_program(program, fresh=True).stdout.split() == []


def test_without_a_store_it_shows_the_one_in_the_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In the browser, at the address that it prints; variables of an --env-file count too."""
    path = make_store(tmp_path / "s.sqlite3", 1)
    variables = tmp_path / "variables"
    variables.write_text(
        f"NAT_OBSERVABILITY_EXPORTERS__LOCAL__TYPE=sqlite\nNAT_OBSERVABILITY_EXPORTERS__LOCAL__PATH={path}\n"
    )
    opened: list[str] = []
    served: list[str] = []

    def serve(store: str, *, ready: Callable[[str], None], **_: object) -> None:
        served.append(store)
        ready("http://127.0.0.1:1/#token=x")

    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("nat_observability.viewer.serving.serve", serve)
    result = CliRunner().invoke(ui, ["--env-file", str(variables)])
    assert (result.exit_code, served) == (0, [str(path)])
    assert result.output == f"Viewer of {path}\nhttp://127.0.0.1:1/#token=x\nCtrl-C ends it.\n"
    assert opened == ["http://127.0.0.1:1/#token=x"]


def test_without_a_store_in_the_settings_it_says_what_to_do(tmp_path: Path) -> None:
    """One line, and no page."""
    variables = tmp_path / "variables"
    variables.write_text("NAT_OBSERVABILITY_EXPORTERS__LOCAL__TYPE=console\n")
    result = CliRunner().invoke(ui, ["--no-browser", "--env-file", str(variables)])
    assert result.exit_code == 2
    assert (
        result.output
        == f"error: {variables} names no exporter of type sqlite. Give a store: nat-observability ui PATH\n"
    )


def test_without_its_extra_it_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """aiohttp is not installed: one line with what to install. Another module that is missing is a fault."""
    path = make_store(tmp_path / "s.sqlite3", 1)
    monkeypatch.delitem(sys.modules, "nat_observability.viewer.serving", raising=False)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    result = CliRunner().invoke(ui, [str(path), "--no-browser"])
    assert result.exit_code == 2
    assert result.output.startswith("error: The command nat-observability ui needs ")
    assert "nat-observability[ui]" in result.output
    monkeypatch.setitem(sys.modules, "nat_observability.viewer.serving", None)
    assert isinstance(CliRunner().invoke(ui, [str(path)]).exception, ModuleNotFoundError)
