"""Two instances of the service in one process, configured differently, and what each of them has recorded."""

import asyncio
import sqlite3
import tempfile
from pathlib import Path

from examples.service.containers import running
from examples.service.settings import ServiceSettings


async def main(folder: Path) -> None:
    """Ask both at the same time."""
    north = ServiceSettings(
        name="north",
        database=folder / "north.sqlite",
        tenants={"acme": folder / "acme.txt", "umbrella": folder / "umbrella.txt"},
    )
    south = ServiceSettings(name="south", database=folder / "south.sqlite", pool_size=1)
    async with running(north) as one, running(south) as other:
        answers = await asyncio.gather(
            one.work.advisor().advise("acme/ann", 75),
            one.work.advisor().advise("umbrella/bob", 95),
            one.work.advisor().advise("acme/eve", 80),
            other.work.advisor().advise("acme/ann", 100),
        )
    for answer in answers:
        print(answer)


def show(folder: Path) -> None:
    """Print what they have kept."""
    for path in sorted(folder.glob("*.txt")):
        print(f"{path.stem}'s journal: {len(path.read_text().splitlines())} steps")
    for path in sorted(folder.glob("*.sqlite")):
        connection = sqlite3.connect(path)
        runs, steps = connection.execute("SELECT count(DISTINCT run), count(*) FROM step").fetchone()
        connection.close()
        print(f"{path.stem}'s database: {steps} boundaries of steps, {runs} runs")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(main(Path(name)))
        show(Path(name))
