"""TextFolder and passages: what is read of a folder, and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from nat_observability.cli.command_error import CommandError
from nat_observability.cli.demo.text_folder import MAX_FILE, MAX_FILES, TextFolder, passages

TEXT = """\
# Title of it

First line
second line.

```python
code = "is left out"
```
- an **item** that
  goes on
2. another [item](https://example.org)

| a | b |
|---|---|
| one | `two` |
"""


def test_a_text_is_cut_into_passages() -> None:
    """A paragraph, a list item and a table row are a passage each, without markup, with the heading above it."""
    found = passages("f.md", TEXT)
    assert [each.text for each in found] == [
        "First line second line.",
        "an item that goes on",
        "another item",
        "a: b",
        "one: two",
    ]
    assert {(each.file, each.heading) for each in found} == {("f.md", "Title of it")}


def test_text_files_are_found_at_any_depth(tmp_path: Path) -> None:
    """Text files are found by their endings, in subfolders too, but not in hidden ones."""
    for name in ("b.md", "a/c.TXT", ".git/d.md", "e.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert TextFolder(tmp_path).files() == ["a/c.TXT", "b.md"]


def test_what_is_read_is_bounded(tmp_path: Path) -> None:
    """Of many files the first are searched, and of a large one its beginning, up to the end of a line."""
    for number in range(MAX_FILES + 1):
        (tmp_path / f"{number:03}.txt").write_text("word\n")
    (tmp_path / "000.txt").write_text("é" * 50 + "\n" + "word\n" * MAX_FILE)
    folder = TextFolder(tmp_path)
    assert len(folder.files()) == MAX_FILES
    text = folder.read("000.txt")
    assert len(text) < MAX_FILE
    assert text.endswith("word\n")


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/passwd", "link.txt"])
def test_nothing_outside_is_read(tmp_path: Path, name: str) -> None:
    """A question cannot name a file outside the folder, nor reach it through a link."""
    (tmp_path / "secret.txt").write_text("x")
    inside = tmp_path / "folder"
    inside.mkdir()
    (inside / "a.txt").write_text("x")
    (inside / "link.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(PermissionError, match="is not in the folder"):
        TextFolder(inside).read(name)


def test_a_file_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are refused, not replaced."""
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UnicodeDecodeError):
        TextFolder(tmp_path).read("a.txt")


def test_a_folder_without_text_is_an_error(tmp_path: Path) -> None:
    """No folder, and a folder without text files, are errors that name it."""
    with pytest.raises(CommandError, match="is not a folder"):
        TextFolder(tmp_path / "nowhere")
    with pytest.raises(CommandError, match="holds no text files"):
        TextFolder(tmp_path)
