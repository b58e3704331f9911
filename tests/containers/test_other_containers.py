"""The recipes of docs/other-containers.md, run as they are printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

_PAGE = (Path(__file__).parents[2] / "docs" / "other-containers.md").read_text()
RECIPES = dict(re.findall(r"^## ([\w-]+)\n.*?```python\n(.*?)```", _PAGE, re.DOTALL | re.MULTILINE))


def test_every_recipe_is_found() -> None:
    """Each is run by the test below."""
    assert RECIPES.keys() == {"dishka", "wireup", "svcs", "that-depends", "FastDepends"}


@pytest.mark.may_block  # settings are read once, when the process starts
@pytest.mark.parametrize("name", RECIPES)
async def test_a_recipe_works(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is in the pool when everything is closed: the exporters were drained before the pool closed."""
    module = name.lower().replace("-", "_")
    pytest.importorskip({"fastdepends": "fast_depends"}.get(module, module))
    # A real module: what looks at annotations looks there.
    (tmp_path / f"recipe_{module}.py").write_text(RECIPES[name])
    monkeypatch.syspath_prepend(tmp_path)
    recipe: Any = __import__(f"recipe_{module}")
    pool = await recipe.main()
    assert (pool.rows, pool.is_open) == (["brew"], False)
