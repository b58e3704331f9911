"""Type checks of every Python block of the pages and every example, as a user's own checker would see them."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^( *)```python\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
# They have no types, or are installed apart.
UNTYPED = ["celery.*", "django.*", "mcp.*", "nat.*", "openai.*", "openinference.*", "taskiq_redis.*"]


def write_blocks(folder: Path) -> list[Path]:
    """Write each block to a file named after its page and line; return the files."""
    files = []
    for page in PAGES:
        text = page.read_text()
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start()) + 2
            path = folder / f"{page.stem.lower()}_{line}.py"
            path.write_text(textwrap.dedent(match[2]))
            files.append(path)
    return files


def main() -> int:
    """Check with mypy --strict, or with pyright in strict mode; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checker", choices=["mypy", "pyright"])
    checker = parser.parse_args().checker
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_blocks(folder)
        shutil.copytree(ROOT / "examples", folder / "examples")
        if checker == "mypy":
            lines = ["[mypy]", "strict = true", "python_version = 3.11"]
            lines += [f"[mypy-{','.join(UNTYPED)}]", "ignore_missing_imports = true"]
            (folder / "mypy.ini").write_text("\n".join(lines))
            command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--explicit-package-bases"]
            command += ["--cache-dir", str(ROOT / ".mypy_cache" / "blocks"), "."]
        else:
            # What dependency-injector, Celery and others leave without a type is not the reader's mistake.
            unknown = ("Argument", "Member", "Parameter", "Variable")
            config = {
                "typeCheckingMode": "strict",
                "pythonVersion": "3.11",
                "reportMissingImports": False,
                "reportMissingTypeStubs": False,
                **{f"reportUnknown{what}Type": False for what in unknown},
            }
            (folder / "pyrightconfig.json").write_text(json.dumps(config))
            command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "."]
        # Its version is pinned: there is no news about newer ones.
        env = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
        return subprocess.run(command, cwd=folder, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
