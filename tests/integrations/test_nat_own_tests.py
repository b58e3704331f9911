"""The toolkit's own tests of observability, with our manager in place of its own, if a checkout is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nat.observability", reason="the toolkit is installed apart. Cure: make test-nat")

PROGRAM = Path(__file__).with_name("nat_own_tests.py")
PAGE = Path(__file__).parents[2] / "docs" / "migration.md"
CHECKOUT = os.environ.get("NAT_CHECKOUT")
FAILS_ANYWAY = {"TestTypeIntrospectionMixin::test_no_orig_bases_error"}
"""What fails with the toolkit's own manager too, because its release is older than its tests."""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(CHECKOUT is None, reason="no checkout of the toolkit. Cure: NAT_CHECKOUT=path/to/it")
def test_the_toolkit_s_own_tests_pass_with_our_manager(tmp_path: Path) -> None:
    """All 45 of its manager, in our words, and those of its exporters and processors; the page lists every file."""
    paths = filter(None, [os.environ.get("PYTHONPATH")])
    ran = subprocess.run(
        [sys.executable, PROGRAM, str(CHECKOUT), str(tmp_path / "tests")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(PROGRAM.parents[2]), *paths])},
    )
    assert ran.returncode == 0, ran.stderr
    files: dict[str, list[Any]] = json.loads(ran.stdout.splitlines()[-1])
    page = PAGE.read_text("utf-8")
    assert files["packages/nvidia_nat_core/tests/nat/observability/test_exporter_manager.py"] == [45, []]
    failed = {name for path, (_, names) in files.items() if is_possible(path) for name in names}
    assert failed <= FAILS_ANYWAY
    assert sum(passed for passed, _ in files.values()) > 1000
    for path in files:
        package, _, name = path.removeprefix("packages/nvidia_nat_").partition("/tests/")
        row = (
            f"`{name.removeprefix('nat/observability/')}`" if package == "core" else f"`nvidia_nat_{package}`"
        )
        assert f"| {row} |" in page, path


def is_possible(path: str) -> bool:
    """Whether what a file's tests need is installed."""
    return "adapter_integration" not in path or find_spec("pytest_httpserver") is not None
