"""serve(): the command as a process, from the address that it prints to the signal that ends it."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from tests.viewer.stores import make_store


def test_from_its_address_to_its_end(tmp_path: Path) -> None:
    """It answers who has the token; what is no HTTP is no news; SIGTERM ends it well."""
    path = make_store(tmp_path / "s.sqlite3", 2)
    command = [sys.executable, "-m", "nat_observability.cli", "ui", str(path), "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"Viewer of {path}\n"
            address = urlsplit(process.stdout.readline().strip())
            assert process.stdout.readline() == "Ctrl-C ends it.\n"
            assert (address.hostname, address.port is not None) == ("127.0.0.1", True)
            with socket.create_connection((address.hostname, address.port)) as connection:
                connection.sendall(b"\x16\x03\x01 this is TLS, or nothing at all\r\n\r\n")
                assert re.match(rb"HTTP/1\.\d 400 ", connection.recv(1000))
            token = address.fragment.removeprefix("token=")
            request = Request(
                f"http://{address.netloc}/api/runs", headers={"Authorization": f"Bearer {token}"}
            )
            with urlopen(request, timeout=20) as answer:
                assert b"run-000001" in answer.read()
        finally:
            process.terminate()
            _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")
