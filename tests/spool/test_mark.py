"""The spool's mark: whose records a directory holds, and where they go."""

from __future__ import annotations

from pathlib import Path

import pytest

from nat_observability.errors import SinkError
from nat_observability.spool.mark import NAME
from nat_observability.spool.spool import Spool


def spool(directory: Path, exporter: str = "main", destination: str | None = None) -> Spool:
    return Spool(directory, exporter=exporter, max_bytes=1000, destination=destination)


def leave(directory: Path, exporter: str = "main", destination: str | None = None) -> None:
    """Leave a record, as a process does whose back end was down."""
    with spool(directory, exporter, destination) as left:
        left.append([b"secret of A"], taken=False)


def taken(opened: Spool) -> list[bytes]:
    return [data for _, data in opened.take(10, 1000)]


def test_what_another_exporter_has_left_is_refused_in_words(tmp_path: Path) -> None:
    """A spool_path that was another exporter's before the restart: its records do not go to this back end."""
    leave(tmp_path)
    said = (
        r"is the spool of exporter 'main'.* let 'other' send.*spool_path of its own.*delete spool-owner.json"
    )
    with pytest.raises(SinkError, match=said), spool(tmp_path, "other"):
        pass
    with spool(tmp_path) as own:
        assert taken(own) == [b"secret of A"]


def test_what_was_left_for_another_destination_is_refused_in_words(tmp_path: Path) -> None:
    """Two services whose exporters have one name and one path: the back ends stay apart. The cure works."""
    leave(tmp_path, destination="https://a.example")
    said = r"has left for https://a.example, and would send it to https://b.example.*delete spool-owner.json"
    with pytest.raises(SinkError, match=said), spool(tmp_path, destination="https://b.example"):
        pass
    (tmp_path / NAME).unlink()
    with spool(tmp_path, destination="https://b.example") as moved:
        assert taken(moved) == [b"secret of A"]


def test_an_open_spool_without_records_is_its_exporters_too(tmp_path: Path) -> None:
    """Another process is refused before the first record is written, not only after a restart."""
    with spool(tmp_path), pytest.raises(SinkError, match="'main'"), spool(tmp_path, "other"):
        pass


@pytest.mark.parametrize("mark", [None, b"", b'{"exporter": ', b"\xff\xfe", b"[]", b'{"exporter": 7}'])
def test_a_directory_of_an_older_version_is_adopted(tmp_path: Path, mark: bytes | None) -> None:
    """It has no mark; and one that cannot be read says nothing. From now on it is this exporter's."""
    leave(tmp_path)
    (tmp_path / NAME).unlink()
    if mark is not None:
        (tmp_path / NAME).write_bytes(mark)
    leave(tmp_path, "heir", "https://a.example")
    with pytest.raises(SinkError, match="'heir'"), spool(tmp_path):
        pass


def test_two_versions_use_one_directory_beside_each_other(tmp_path: Path) -> None:
    """A rolling deployment: a newer version's mark is read as far as it is known, a sink without an address agrees."""
    leave(tmp_path, destination="https://a.example")
    (tmp_path / NAME).write_bytes(b'{"version": 2, "exporter": "main", "destination": "https://a.example"}')
    with spool(tmp_path) as old, spool(tmp_path, destination="https://a.example") as new:
        assert taken(old) + taken(new) == [b"secret of A"]


def test_an_empty_spool_is_free(tmp_path: Path) -> None:
    """An exporter may be renamed, or sent elsewhere, when nothing is left; a mark alone binds nobody."""
    with spool(tmp_path, destination="https://a.example"):
        assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == []
    (tmp_path / NAME).write_bytes(b'{"exporter": "gone"}')
    leave(tmp_path, "other")


def test_a_mark_that_cannot_be_written_stops_no_spool(tmp_path: Path) -> None:
    """Something is in its place: the records are kept and given out all the same."""
    (tmp_path / NAME).mkdir()
    leave(tmp_path)
    with spool(tmp_path) as own:
        assert taken(own) == [b"secret of A"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
