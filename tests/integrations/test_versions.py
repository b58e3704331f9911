"""Frameworks: which versions are supported, the message if one is missing, and that each imports no other."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from nat_observability.errors import UnsupportedVersionError
from nat_observability.integrations.shared.versions import check_version
from tests.processes import run_program

FRAMEWORKS = ("celery", "faststream", "taskiq")


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


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_framework_that_is_missing_is_named_with_its_extra(framework: str) -> None:
    """When its integration is imported."""
    done = run_program(
        """
        import importlib, sys
        from nat_observability.errors import MissingExtraError

        sys.modules[sys.argv[1]] = None
        try:
            importlib.import_module(f"nat_observability.integrations.{sys.argv[1]}")
        except MissingExtraError as error:
            print(error)
        """,
        framework,
        fresh=True,
    )
    assert f"pip install 'nat-observability[{framework}]'" in done.stdout


@pytest.mark.parametrize("framework", [*FRAMEWORKS, "workers.run_scope"])
def test_an_integration_imports_its_own_framework_only(framework: str) -> None:
    """And scripts and other consumers none."""
    done = run_program(
        """
        import importlib, sys

        importlib.import_module(f"nat_observability.integrations.{sys.argv[1]}")
        print(*[name for name in sys.argv[2:] if name in sys.modules])
        """,
        framework,
        *FRAMEWORKS,
        fresh=True,
    )
    assert done.stdout.split() == [each for each in FRAMEWORKS if each == framework]
