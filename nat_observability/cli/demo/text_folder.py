"""TextFolder: the text files of a folder, cut into passages."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from nat_observability.cli.command_error import CommandError

SUFFIXES = frozenset({".adoc", ".md", ".org", ".rst", ".text", ".txt"})
MAX_FILES = 50
MAX_FILE = 64 * 1024  # bytes

_HEADING = re.compile(r"#{1,6}\s+(.+)")
_RULE = re.compile(r"[\s|:=~^*_-]*")
_ITEM = re.compile(r"\s*(?:[-*+]|\d+[.)])\s+")
_MARKUP = re.compile(r"\*\*|`|^\s*>\s?")
_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")


class Passage(msgspec.Struct, frozen=True):
    """A paragraph, a list item or a table row, with its file and the heading above it."""

    file: str
    heading: str
    text: str


class TextFolder:
    """
    A folder whose text files are read again for each question.

    Files are named by their path inside the folder. At most `MAX_FILES` are searched, in alphabetical order, and only
    the first `MAX_FILE` bytes of each.

    Raises:
        CommandError: The folder does not exist, or holds no text files.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_dir():
            raise CommandError(f"{path} is not a folder. Give one with text files in it.")
        if not self.files():
            raise CommandError(
                f"{path} holds no text files ({', '.join(sorted(SUFFIXES))}). Give another folder."
            )

    def files(self) -> list[str]:
        """Return the names of the files to search; hidden folders are left out. Reads the disk."""
        names: list[str] = []
        for folder, folders, files in os.walk(self.path):
            folders[:] = [name for name in folders if not name.startswith(".")]
            names += [
                (Path(folder) / name).relative_to(self.path).as_posix()
                for name in files
                if Path(name).suffix.lower() in SUFFIXES
            ]
        return sorted(names)[:MAX_FILES]

    def read(self, name: str) -> str:
        """
        Return the text of a file. Reads the disk.

        Raises:
            OSError: The file is not in the folder, or cannot be read.
            UnicodeDecodeError: It is not text.
        """
        path = (self.path / name).resolve()
        if not path.is_relative_to(self.path.resolve()):
            raise PermissionError(f"{name} is not in the folder")
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            data = data[: data.rfind(b"\n", 0, MAX_FILE) + 1]
        return data.decode()


def passages(file: str, text: str) -> list[Passage]:
    """Cut a text into passages, without code blocks, rulers and markup."""
    heading = ""
    found: list[Passage] = []
    for block in _blocks(text):
        if match := _HEADING.fullmatch(block):
            heading = _plain(match[1])
        elif len(plain := _plain(block)) > 1:
            found.append(Passage(file, heading, plain))
    return found


def _blocks(text: str) -> Iterator[str]:
    """Yield each heading, list item, table row and paragraph, on one line each."""
    lines: list[str] = []
    fence = False
    for line in [*text.split("\n"), ""]:
        if line.lstrip().startswith(("```", "~~~")):
            fence = not fence
            line = ""
        elif fence:
            continue
        starts_own = line.startswith(("#", "|")) or _ITEM.match(line) is not None
        if lines and (starts_own or not line.strip() or lines[0].startswith(("#", "|"))):
            yield " ".join(lines)
            lines = []
        if line.strip() and not _RULE.fullmatch(line):
            lines.append(line.strip())


def _plain(block: str) -> str:
    if block.startswith("|"):
        cells = [cell.strip() for cell in block.strip("|").split("|")]
        block = ": ".join(cell for cell in cells if cell)
    return " ".join(_LINK.sub(r"\1", _MARKUP.sub("", _ITEM.sub("", block, count=1))).split())
