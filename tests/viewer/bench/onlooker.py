"""A page that looks on: follows a viewer's stream, and asks for the list at each change, as the viewer's page does."""

from __future__ import annotations

import sys
from urllib.request import Request, urlopen


def main(base: str, token: str) -> None:
    """Look on until the process is ended."""
    headers = {"Authorization": f"Bearer {token}"}
    with urlopen(Request(f"{base}api/live", headers=headers)) as stream:
        for _ in stream:
            for path in ("api/runs?limit=50", "api/facets"):
                with urlopen(Request(base + path, headers=headers)) as answer:
                    answer.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
