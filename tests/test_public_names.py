"""The public surface: what each public place exports, that nothing else is used, and what importing costs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

import nat_observability
from nat_observability import errors
from tests.processes import run_program

ROOT = Path(__file__).parents[1]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
PLACES = re.findall(
    r"^\| `(nat_observability[\w.]*)` \|",
    ARCHITECTURE.partition("\n## Public places\n")[2].partition("\n## ")[0],
    re.MULTILINE,
)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").rglob("*.py"))
BLOCK = re.compile(r"^ *```python\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
# Without the toolkit they cannot be imported; `make test-nat` has it.
WITH_TOOLKIT = {"nat_observability.integrations.nat"}
# Those of frameworks that not every environment of the tests has.
OPTIONAL = {"nat_observability.integrations.django": "django", "nat_observability.integrations.mcp": "mcp"}


def file_of(place: str) -> Path:
    """Return the file of a module, or of a package's face."""
    path = ROOT.joinpath(*place.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def exported(place: str) -> list[str]:
    """Return the names in a place's `__all__`, or those that a module without one defines."""
    body = ast.parse(file_of(place).read_text()).body
    for node in body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return [
        node.name
        for node in body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
    ]


def in_order(name: str) -> tuple[int, str]:
    """Sort constants before classes, and those before functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


FACES = [place for place in PLACES if file_of(place).name == "__init__.py"]


def test_the_list_of_public_places_is_read() -> None:
    """Each of them is there, and the tests below are about all of them."""
    assert len(PLACES) > 20
    assert {"nat_observability", "nat_observability.containers", "nat_observability.errors"} <= set(PLACES)
    assert all(file_of(place).exists() for place in PLACES)


@pytest.mark.parametrize("place", PLACES)
def test_all_is_sorted(place: str) -> None:
    """Names are in the order in which one looks for them, and none is there twice."""
    names = exported(place)
    assert names
    assert len(names) == len(set(names))
    if "__all__" in file_of(place).read_text():
        assert names == sorted(names, key=in_order)


@pytest.mark.parametrize("place", FACES)
def test_all_is_what_a_face_imports(place: str) -> None:
    """`__all__` is exactly what the package imports of its own for others, lazily or not."""
    imported = [
        alias.asname or alias.name
        for node in module_level(ast.parse(file_of(place).read_text()).body)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("nat_observability")
        for alias in node.names
        if node.module != "nat_observability.lazy_names"
    ]
    assert sorted(imported, key=in_order) == exported(place)


@pytest.mark.parametrize("place", FACES)
def test_a_face_gives_the_objects_that_it_says_it_imports(place: str) -> None:
    """What it imports lazily comes from the module that a type checker takes it from; `dir()` shows it before."""
    if place in WITH_TOOLKIT or place in OPTIONAL:
        pytest.skip("a package that is needed may be missing")
    face = import_module(place)
    assert set(exported(place)) <= set(dir(face))
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        face.nothing_of_that_name  # noqa: B018
    for node in module_level(ast.parse(file_of(place).read_text()).body):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("nat_observability"):
            for alias in node.names:
                if alias.name in exported(place):
                    assert getattr(face, alias.name) is getattr(import_module(str(node.module)), alias.name)


def test_many_threads_at_once_get_the_same_complete_objects() -> None:
    """None of them reads a name from a module that another one is still importing; they can be pickled."""
    run_program(
        """
        import pickle, threading
        import nat_observability

        assert nat_observability.__version__ == nat_observability.__version__
        names = [name for name in nat_observability.__all__]
        barrier, found, failed = threading.Barrier(8), [], []

        def look(turn):
            barrier.wait(10)
            try:
                order = names[turn * 5 :] + names[: turn * 5]
                found.append({name: getattr(nat_observability, name) for name in order})
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=look, args=(turn,)) for turn in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed, failed
        assert len(found) == 8 and all(each == found[0] for each in found)
        assert pickle.loads(pickle.dumps(found[0])) == found[0]
        assert nat_observability.errors.ObservabilityError is nat_observability.ObservabilityError
        """,
        fresh=True,
    )


def module_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield what stands in a module, what is under a condition included, but nothing that is in a function."""
    for node in body:
        yield node
        if isinstance(node, ast.If):
            yield from module_level([*node.body, *node.orelse])


@pytest.mark.parametrize("place", [place for place in PLACES if place not in WITH_TOOLKIT])
def test_all_is_there(place: str) -> None:
    """Whatever a public place promises can be got from it, and is public."""
    if place in OPTIONAL and find_spec(OPTIONAL[place]) is None:
        with pytest.raises(errors.MissingExtraError, match=OPTIONAL[place]):
            import_module(place)
        return
    module = import_module(place)
    for name in exported(place):
        assert not name.startswith("_")
        assert hasattr(module, name), name


@pytest.mark.parametrize("name", nat_observability.__all__)
def test_public_names_are_documented(name: str) -> None:
    """Each says what it is."""
    assert getattr(nat_observability, name).__doc__


@pytest.mark.parametrize("place", FACES)
def test_a_face_holds_no_code(place: str) -> None:
    """A docstring, imports and `__all__`; one that loads lazily also says where from."""
    docstring, *rest = ast.parse(file_of(place).read_text()).body
    assert isinstance(docstring, ast.Expr)
    for node in module_level(rest):
        lazily = isinstance(node, ast.FunctionDef) and node.name == "__getattr__"
        assert lazily or isinstance(node, ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign | ast.If)


def test_every_error_is_exported() -> None:
    """Each class of `nat_observability.errors` is in its `__all__`."""
    classes = {
        name
        for name, each in vars(errors).items()
        if isinstance(each, type) and issubclass(each, errors.ObservabilityError)
    }
    assert set(exported("nat_observability.errors")) == classes


def used(source: str) -> Iterator[tuple[str, str]]:
    """Yield what a piece of code imports of ours: the module, and the name, empty if it is the module itself."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((str(node.module), alias.name) for alias in node.names)


def not_public(source: str) -> list[str]:
    """Return what a piece of code imports of ours that is in no public place."""
    return [
        f"{module}: {name}"
        for module, name in used(source)
        if module.partition(".")[0] in ("nat_observability", "pytest_nat_observability")
        and not (
            f"{module}.{name}" in PLACES or (module in PLACES and (not name or name in exported(module)))
        )
    ]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.name))
def test_documentation_imports_public_names_only(path: Path) -> None:
    """What a reader copies keeps working: each name is in the `__all__` of a public place."""
    for block in BLOCK.findall(path.read_text()):
        assert not not_public(block)


# An entry point's group and a metric, which look like modules.
NO_MODULES = {"nat_observability.exporters", "nat_observability.exporter.breaker.open"}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.name))
def test_documentation_names_public_places_only(path: Path) -> None:
    """In its prose too, but for the page that explains the modules: a reader imports what is named there."""
    text = path.read_text()
    if path.name == "architecture.md":
        text = ARCHITECTURE.partition("\n## Public places\n")[2].partition("\n## ")[0]
    for dotted in set(re.findall(r"\bnat_observability(?:\.[A-Za-z]\w*)+(?!\w*/)", text)) - NO_MODULES:
        place, _, name = dotted.rpartition(".")
        assert dotted in PLACES or (place in PLACES and name in [*exported(place), "__version__"]), dotted


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_import_public_names_only(path: Path) -> None:
    """As the documentation."""
    assert not not_public(path.read_text())


def test_imports_from_elsewhere_are_found() -> None:
    """The two tests above see an inner module, a name that is not exported, and one below a public place."""
    assert sum(len(list(used(block))) for page in PAGES for block in BLOCK.findall(page.read_text())) > 20
    assert not_public("from nat_observability.delivery.delivery import Delivery")
    assert not_public("import nat_observability.run.lifecycle")
    assert not_public("from nat_observability.errors import describe")
    assert not_public("from nat_observability.integrations.workers.run_scope import run_scope")
    assert not not_public("from nat_observability.integrations import celery, run_scope")


def test_version_is_that_of_the_distribution() -> None:
    """`__version__` says what is installed, and any other name is an error."""
    assert nat_observability.__version__ == version("nat-observability")
    with pytest.raises(AttributeError, match="no attribute 'versions'"):
        _ = nat_observability.versions  # type: ignore[attr-defined]


def test_star_import_works() -> None:
    """What `__all__` promises is there."""
    names: dict[str, object] = {}
    exec("from nat_observability import *", names)
    assert set(nat_observability.__all__) <= set(names)


@cache
def imported_by(*statements: str) -> frozenset[str]:
    """Return the modules that are loaded in a new interpreter after these statements."""
    code = "\n".join([*statements, "import sys", "print(*sys.modules)"])
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return frozenset(ran.stdout.split())


def test_importing_imports_no_other_library() -> None:
    """Beyond msgspec and structlog, and what they import, nothing that is not Python's own: no framework, no client."""
    ours = imported_by("from nat_observability import *") - imported_by("import asyncio, msgspec, structlog")
    foreign = {name.partition(".")[0] for name in ours} - {"nat_observability"} - set(sys.stdlib_module_names)
    assert not foreign


def test_importing_loads_no_part_that_has_to_be_asked_for() -> None:
    """Sinks, settings, the command, the container and the tools for tests are imported only by their users."""
    ours = {
        name
        for name in imported_by("from nat_observability import *")
        if name.startswith(("nat_observability", "containers"))
    }
    ours -= {"nat_observability.sinks", "nat_observability.sinks.protocol"}  # what a delivery writes to
    for part in ("sinks", "store", "settings", "builders", "cli", "containers", "testing", "integrations"):
        assert not {name for name in ours if name.startswith(f"nat_observability.{part}")}, part
    assert "containers" not in ours


def test_the_face_of_the_integrations_imports_no_framework() -> None:
    """`run_scope` is for workers without an integration: it needs nothing that is not needed anyway."""
    loaded = imported_by("from nat_observability.integrations import run_scope")
    own = imported_by("from nat_observability import *")
    foreign = {name.partition(".")[0] for name in loaded - own} - set(sys.stdlib_module_names)
    assert foreign == {"nat_observability"} or not foreign
    assert not {"celery", "fastapi", "faststream", "litestar", "opentelemetry", "quart", "taskiq"} & loaded


def test_the_version_is_not_read_before_it_is_asked_for() -> None:
    """Reading it takes longer than importing the package."""
    assert "importlib.metadata" not in imported_by("from nat_observability import *") - imported_by(
        "import msgspec, structlog"
    )


def test_manager_alone_needs_as_little() -> None:
    """The reference's own import path works without the rest of the package."""
    loaded = imported_by(
        "from nat_observability.exporter_manager import ExporterManager", "ExporterManager()"
    )
    assert not {"dependency_injector", "pydantic", "aiohttp", "grpc", "click", "httpx", "requests"} & loaded
