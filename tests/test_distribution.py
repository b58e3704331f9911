"""What is installed: the packages that the wheel holds, beside modules of the application's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]
_HOSTILE = "raise RuntimeError('nat_observability has imported a module of the application')\n"


def _wheel_packages() -> list[str]:
    settings = tomllib.loads((_ROOT / "pyproject.toml").read_text())
    packages: list[str] = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    return packages


class Application:
    """A folder with modules of the application, first on the path, and site-packages as the wheel makes it."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "application"
        self.folder.mkdir()
        self._site_packages = root / "site-packages"
        self._site_packages.mkdir()
        for package in _wheel_packages():
            shutil.copytree(_ROOT / package, self._site_packages / package)

    def runs(self, *arguments: str) -> str:
        """Return what Python prints that is started in the application's folder."""
        # Without coverage either, which would count the copy as files of its own.
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("NAT_OBSERVABILITY_", "COVERAGE_"))
        }
        path = os.pathsep.join([str(self.folder), str(self._site_packages)])
        ran = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**kept, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout


@pytest.fixture
def application(tmp_path: Path) -> Application:
    return Application(tmp_path)


def test_every_installed_name_is_recognizably_ours() -> None:
    """Nothing that is installed can overwrite an application's modules, or another distribution's."""
    assert sorted(_wheel_packages()) == ["nat_observability", "pytest_nat_observability"]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("form", [pytest.param("{name}.py", marks=pytest.mark.slow), "{name}/__init__.py"])
def test_modules_of_the_application_are_left_alone(application: Application, form: str) -> None:
    """An application may have its own `containers`, `settings` or `cli`: neither command nor library imports it."""
    own = {path.stem for path in (_ROOT / "nat_observability").iterdir() if not path.name.startswith("_")}
    hostile = own | {"benchmarks", "container", "docs", "examples", "observability", "script", "tests"}
    for name in hostile - sys.stdlib_module_names:
        module = application.folder / form.format(name=name)
        module.parent.mkdir(exist_ok=True)
        module.write_text(_HOSTILE)
    assert "Usage: nat-observability" in application.runs("-m", "nat_observability.cli", "--help")
    texts = application.folder / "texts"
    texts.mkdir()
    (texts / "tea.md").write_text("# Tea\n\nGreen tea is brewed at 80 degrees.\n")
    assert application.runs("-m", "nat_observability.cli", "demo", "--runs", "1", str(texts))
    recording = (
        "from nat_observability.containers import ObservabilityContainer, observability\n"
        "from nat_observability import step\n"
        "with observability(container=ObservabilityContainer()) as opened:\n"
        "    with step('task', 'work'):\n"
        "        pass\n"
        "print(opened.container.runtime_object().health().state.name)\n"
    )
    assert application.runs("-c", recording) == "CLOSED\n"


def test_the_application_has_its_own_containers(application: Application) -> None:
    """`from containers import ...` in an application finds the application's."""
    (application.folder / "containers.py").write_text("OWN = 'of the application'\n")
    program = "import nat_observability.cli.commands\nfrom containers import OWN\nprint(OWN)"
    assert application.runs("-c", program) == "of the application\n"


def test_the_repository_re_exports_the_container() -> None:
    """In a checkout, `containers` has the same objects as `nat_observability.containers`."""
    program = (
        "import containers, nat_observability.containers as ours\n"
        "assert containers.__all__ == ours.__all__\n"
        "assert all(getattr(containers, name) is getattr(ours, name) for name in ours.__all__)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=_ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
