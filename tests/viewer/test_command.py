"""The command `ui`: what it says before it serves."""

from __future__ import annotations

import socket
from pathlib import Path

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
