"""Frameworks: which versions are supported, the message if one is missing, and that each imports no other."""

from __future__ import annotations

import ast
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from nat_observability.errors import UnsupportedVersionError
from nat_observability.integrations.shared.versions import check_version
from tests.processes import run_program

FRAMEWORKS = (
    "arq",
    "celery",
    "django",
    "dramatiq",
    "fastapi",
    "faststream",
    "flask",
    "grpc",
    "litestar",
    "mcp",
    "quart",
    "rq",
    "starlette",
    "taskiq",
)
_ROOT = Path(__file__).parents[2]
_EXTRAS = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
# Those that need no extra: whoever serves with them has them.
_INSTALLED = ("fastapi", "flask", "litestar", "quart", "starlette")


def ranges() -> dict[str, tuple[str, str, str]]:
    """The distribution that each integration checks, with the first version and the one that is too new."""
    found = {}
    for path in (_ROOT / "nat_observability" / "integrations").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "check_version":
                given = {each.arg: ast.literal_eval(each.value) for each in node.keywords}
                found[path.stem] = (ast.literal_eval(node.args[0]), given["at_least"], given["below"])
    return found


def test_every_framework_has_a_range() -> None:
    """Which its page states, and whose beginning is the extra's, or what the tests install."""
    found = ranges()
    assert tuple(sorted(found)) == FRAMEWORKS
    pages = "".join((_ROOT / "docs" / f"{page}.md").read_text() for page in ("web", "workers"))
    rows = [line for line in pages.splitlines() if line.startswith("| ")]
    for name, (package, at_least, below) in found.items():
        [row] = [row for row in rows if re.search(rf"integrations\.{name}\b", row)]
        stated = re.search(r">=([\d.]+),<([\d.]+)", row)
        assert stated is not None, row
        assert (stated[1], stated[2]) == (
            at_least.removesuffix(".0") if at_least.count(".") > 1 else at_least,
            below,
        )
        [floor] = [
            each.partition(">=")[2]
            for each in _EXTRAS["test" if name in _INSTALLED else name]
            if re.match(rf"{package}[>=\[]", each)
        ]
        assert [*map(int, floor.split("."))][:2] == [*map(int, at_least.split("."))][:2], name


@pytest.mark.parametrize(("at_least", "below"), [("999.1", "1000"), ("0", "0.0.1")])
def test_an_unsupported_version_is_refused_with_the_range(at_least: str, below: str) -> None:
    """It names what is installed, what is supported, and how to get it."""
    with pytest.raises(UnsupportedVersionError) as caught:
        check_version("pytest", at_least=at_least, below=below)
    supported = f">={at_least},<{below}"
    assert str(caught.value) == (
        f"pytest {version('pytest')} is installed, supported is {supported}: pip install 'pytest{supported}'"
    )


@pytest.mark.parametrize(
    ("at_least", "below"), [("1", "1000"), (version("pytest"), "1000"), ("0.0", "1000.0")]
)
def test_a_supported_version_is_taken(at_least: str, below: str) -> None:
    """The first version belongs to the range."""
    check_version("pytest", at_least=at_least, below=below)


def test_a_framework_that_is_missing_is_named() -> None:
    """When its integration is imported: with the extra that brings it, if there is one. MCP's needs no import of it."""
    imported = [name for name in FRAMEWORKS if name != "mcp"]
    done = run_program(
        """
        import importlib, sys

        for name in sys.argv[1:]:
            sys.modules[name] = None
            try:
                importlib.import_module(f"nat_observability.integrations.{name}")
            except ImportError as error:
                print(error)
        """,
        *imported,
        fresh=True,
    )
    for name, said in zip(imported, done.stdout.splitlines(), strict=True):
        if name in _INSTALLED:
            assert name in said
        else:
            assert f"pip install 'nat-observability[{name}]'" in said


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_an_integration_imports_its_own_framework_only() -> None:
    """Each in a fork, in which no other has been imported; and scripts and other consumers import none."""
    done = run_program(
        """
        import importlib, os, sys

        def imported():
            return [each for each in sys.argv[1:] if each in sys.modules]

        for name in ("workers", "asgi", "aws_lambda", "wsgi"):
            importlib.import_module(f"nat_observability.integrations.{name}")
        print("without", *imported(), flush=True)
        for name in sys.argv[1:]:
            if not (child := os.fork()):
                # Some import others, if those are there; Celery is only imported when it is used.
                importlib.import_module("celery.app" if name == "celery" else name)
                own = imported()
                importlib.import_module(f"nat_observability.integrations.{name}")
                print(name, *[each for each in imported() if each not in own], flush=True)
                os._exit(0)
            os.waitpid(child, 0)
        """,
        *FRAMEWORKS,
        fresh=True,
        timeout=100,
    )
    imported = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert imported == {name: [] for name in ("without", *FRAMEWORKS)}
