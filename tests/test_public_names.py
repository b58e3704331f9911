"""The public surface: what `nat_observability` exports, and what importing it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import nat_observability

SOURCE = ast.parse(Path(nat_observability.__file__).read_text())


def test_all_is_sorted() -> None:
    """Names are in the order in which one looks for them, and none is there twice."""
    assert nat_observability.__all__ == sorted(set(nat_observability.__all__))


def test_all_is_true() -> None:
    """`__all__` is exactly what the package imports for others, and each of it is public and documented."""
    imported = [
        alias.asname or alias.name
        for node in SOURCE.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert sorted(imported) == nat_observability.__all__
    for name in nat_observability.__all__:
        assert not name.startswith("_")
        assert getattr(nat_observability, name).__doc__, f"{name} says nothing"


def test_package_holds_no_code() -> None:
    """A docstring, imports and `__all__`."""
    docstring, *rest = SOURCE.body
    assert isinstance(docstring, ast.Expr)
    assert all(isinstance(node, ast.ImportFrom | ast.Assign) for node in rest)


def test_star_import_works() -> None:
    """What `__all__` promises is there."""
    names: dict[str, object] = {}
    exec("from nat_observability import *", names)
    assert set(nat_observability.__all__) <= set(names)


def imported_by(*statements: str) -> set[str]:
    """Return the modules that are loaded in a new interpreter after these statements."""
    code = "\n".join([*statements, "import sys", "print(*sys.modules)"])
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def test_importing_imports_nobody_else() -> None:
    """Beyond msgspec and structlog, and what they import, nothing that is not Python's own: no framework, no client."""
    ours = imported_by("import nat_observability") - imported_by("import asyncio, msgspec, structlog")
    foreign = {name.partition(".")[0] for name in ours} - {"nat_observability"} - set(sys.stdlib_module_names)
    assert not foreign


def test_importing_loads_no_part_that_has_to_be_asked_for() -> None:
    """Sinks, settings, the command, the container and the tools for tests are imported by who uses them."""
    ours = {
        name
        for name in imported_by("import nat_observability")
        if name.startswith(("nat_observability", "containers"))
    }
    ours -= {"nat_observability.sinks", "nat_observability.sinks.protocol"}  # what a delivery writes to
    for part in ("sinks", "store", "settings", "builders", "cli", "containers", "testing", "integrations"):
        assert not {name for name in ours if name.startswith(f"nat_observability.{part}")}, part
    assert "containers" not in ours


def test_manager_alone_needs_as_little() -> None:
    """The reference's own import path works without the rest of the package."""
    loaded = imported_by(
        "from nat_observability.exporter_manager import ExporterManager", "ExporterManager()"
    )
    assert not {"dependency_injector", "pydantic", "aiohttp", "grpc", "click", "httpx", "requests"} & loaded
