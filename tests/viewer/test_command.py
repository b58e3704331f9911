"""The command `ui`: what it says before it serves."""

from __future__ import annotations

import socket
from pathlib import Path

from click.testing import CliRunner

from nat_observability.cli.ui import ui


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
    code, output, port = _busy_at("127.0.0.1", tmp_path / "s.sqlite3")
    assert code == 2
    assert output.startswith(f"error: Cannot listen at 127.0.0.1, port {port}: ")
    assert output.endswith("Choose another with --port.\n")
    assert "warning" not in output


def test_listening_beyond_loopback_warns(tmp_path: Path) -> None:
    """--host warns before anything is served."""
    _, output, _ = _busy_at("0.0.0.0", tmp_path / "s.sqlite3")
    assert output.startswith("warning: --host 0.0.0.0 lets other machines reach this viewer")
