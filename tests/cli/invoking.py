"""The command in the test's own process."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, NamedTuple

import pytest

from nat_observability.cli.commands import cli


class Shown(NamedTuple):
    exit_code: object
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """What was printed, decoded."""
        return json.loads(self.stdout)


def invoke(*arguments: object) -> Shown:
    """Run the command in this process. Not with click's runner, which kept the two streams apart only later."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr), pytest.raises(SystemExit) as ended:
        cli([str(argument) for argument in arguments], prog_name="nat-observability")
    return Shown(ended.value.code, stdout.getvalue(), stderr.getvalue())
