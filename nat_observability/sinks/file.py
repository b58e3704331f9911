"""FileSink: appends items to a file, as JSON lines of ours or of OTLP, and rolls it by size."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import msgspec

from nat_observability.errors import PermanentWriteError, SinkError
from nat_observability.events import Span
from nat_observability.resource import Resource
from nat_observability.sinks.protocol import Batch
from nat_observability.system.disk import (
    HAS_FLOCK,
    OPEN_FLAGS,
    disk_error,
    file_path,
    lock,
    lock_beside,
    make_private_directories,
    read_at,
    unlock,
)

if TYPE_CHECKING:
    from nat_observability.sinks.otlp.span_encoder import SpanEncoder

FileFormat = Literal["jsonl", "otlp_json"]


class FileSink:
    """
    Appends each batch to `path` as JSON lines, one item per line, in one write.

    With the format "otlp_json" a line is an ExportTraceServiceRequest of the batch's spans, as the OTLP file exporter
    specification has it (https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/): a collector's
    `otlpjsonfile` receiver reads the file.

    A new file can be read by its owner alone (0600, and 0700 for directories); the mode of an existing one is left as
    it is. When a batch no longer fits into `max_bytes`, the file becomes `path.1`, the old `path.1` becomes `path.2`,
    and so on; `path.<backups>` is deleted. A batch larger than `max_bytes` is split between lines over several files,
    and a line larger than that gets a file of its own.

    Any number of processes may append to one path, and any of them may roll it: each write and each roll holds
    an exclusive `flock(2)` on the file, so that lines are never mixed or torn and no file is rolled twice. If another
    program (logrotate) moves or deletes the file, it is created again. On Windows the lock is on `path.lock`, and the
    file is open only while it is written.

    A batch that cannot be written whole (the disk is full) is taken back: the file is truncated to its previous length,
    and the batch has failed. (Of a batch split over several files, the complete ones stay.) If that is not possible,
    because a program that takes no lock has written behind it, or if a process died during a write, the torn line
    stays, and the next write of any process starts on a new line. (What such a program writes between the last check
    and the truncation is cut off too: the system cannot do both at once.) Nothing is synced: lines survive the end of
    the process, but not always a power cut.

    Args:
        path: The file; a relative path is resolved when the sink is made.
        max_bytes: The size in bytes at which the file is rolled.
        backups: The number of rolled files to keep. With 0, a full file is deleted.
        format: "jsonl", the items as they are, or "otlp_json", which takes spans only.
        resource: The attributes of the resource, which OTLP has beside the spans.
        resource_schema_url: The schema URL of these attributes.
        dialect: In which words OTLP has them: "genai", "openinference", "langfuse", or several with commas.

    Raises:
        ValueError: A setting is out of its range, or the path is that of no file, such as a URL.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int = 100 * 1024 * 1024,
        backups: int = 5,
        format: FileFormat = "jsonl",  # noqa: A002
        resource: Resource | None = None,
        resource_schema_url: str | None = None,
        dialect: str | Iterable[str] = "genai,openinference",
    ) -> None:
        if max_bytes < 1:
            raise ValueError(
                f"max_bytes is a positive number of bytes, not {max_bytes!r}. The default is 100 MiB."
            )
        if backups < 0:
            raise ValueError(
                f"backups is a number of files, not {backups!r}. The default is 5, and 0 keeps none."
            )
        if format not in ("jsonl", "otlp_json"):
            raise ValueError(f"format is 'jsonl' or 'otlp_json', not {format!r}.")
        self._otlp: SpanEncoder | None = None
        if format == "otlp_json":
            # Only here: a file of our own lines needs none of it. All of it here: a child forked while the first
            # batch imports something could not import that.
            import nat_observability.sinks.otlp.json  # noqa: F401
            from nat_observability.dialects.vocabulary import vocabulary
            from nat_observability.sinks.otlp.span_encoder import SpanEncoder

            self._otlp = SpanEncoder(resource or {}, vocabulary(dialect), resource_schema_url)
        self.path = file_path(path)
        self.max_bytes, self.backups = max_bytes, backups
        self._encoder = msgspec.json.Encoder()
        self._fd: int | None = None
        self._is_open = False
        self._end = 0  # the end of this sink's last write: up to here the file ends in a newline

    def open(self) -> None:
        """
        Open the file for appending, and create it and its directories if they are missing.

        Raises:
            SinkError: The path cannot be opened.
        """
        self.close()  # in a forked worker this is the parent's: closing the copy does not unlock the original
        try:
            self._reopen()
        except OSError as error:
            raise disk_error(self.path, "cannot be opened", error) from error
        self._is_open = True
        if not HAS_FLOCK:
            self._close_file()

    def write(self, batch: Batch) -> None:
        """
        Append the batch.

        Raises:
            PermanentWriteError: OTLP is to be written, and the batch holds something other than spans.
            SinkError: The batch cannot be encoded, so nothing was written; or the system refused to write it.
        """
        if not self._is_open:
            raise SinkError(self.path, "is not open", "Call open() before write().")
        lines = self._encode(batch) if self._otlp is None else _otlp_line(self._otlp, batch)
        try:
            with lock_beside(self.path):
                self._append(lines)
        except OSError as error:
            raise disk_error(self.path, "cannot be written", error) from error

    def close(self) -> None:
        """Close the file; what was written stays. Does nothing if it is not open."""
        self._is_open = False
        self._close_file()

    def _close_file(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _encode(self, batch: Batch) -> bytes:
        try:
            lines = self._encoder.encode_lines(batch)
            if lines.count(b"\n") == len(batch):
                return lines
            # A value that came as ready-made JSON spans several lines. In JSON, a raw line break can only be between
            # tokens, where a space means the same.
            return b"".join([self._encoder.encode(item).replace(b"\n", b" ") + b"\n" for item in batch])
        except (msgspec.MsgspecError, TypeError, ValueError) as error:
            cure = "Mend the processor that made it: text has to be valid Unicode, and values JSON."
            raise SinkError(self.path, f"an item of the batch cannot be encoded: {error}", cure) from error

    def _append(self, lines: bytes) -> None:
        start = 0
        try:
            while start < len(lines):
                fd, size = self._lock()
                if size and size + len(lines) - start > self.max_bytes:
                    self._roll(fd)
                    continue
                stop = len(lines)
                if stop - start > self.max_bytes:
                    stop = (
                        lines.rfind(b"\n", start, start + self.max_bytes) + 1 or lines.index(b"\n", start) + 1
                    )
                self._write(fd, size, lines[start:stop])
                start = stop
        finally:
            if self._fd is not None and HAS_FLOCK:
                unlock(self._fd)
            else:
                self._close_file()

    def _lock(self) -> tuple[int, int]:
        """Lock the file that is now at the path, and return its descriptor and its size in bytes."""
        while True:
            fd = self._reopen() if self._fd is None else self._fd
            lock(fd)
            ours = os.fstat(fd)
            # While we waited for the lock, or since the last batch, another process may have rolled the file: ours is
            # then path.1, or deleted, and must not be rolled a second time.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(ours, os.stat(self.path)):
                    return fd, ours.st_size
            self._let_go(fd)

    def _reopen(self) -> int:
        make_private_directories(os.path.dirname(self.path))
        # Readable too, to check the last byte.
        self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | OPEN_FLAGS, 0o600)
        self._end = 0
        return self._fd

    def _write(self, fd: int, size: int, piece: bytes) -> None:
        if size not in (0, self._end) and read_at(fd, 1, size - 1) != b"\n":
            piece = b"\n" + piece  # the last writer died in the middle of a line
        done = 0
        try:
            with memoryview(piece) as view:
                while done < len(piece):
                    done += os.write(fd, view[done:])
        except OSError:
            # Under the lock, only a program that does not lock can have appended behind us. Then our torn line stays,
            # and the next write starts on a new line.
            if os.fstat(fd).st_size == size + done:
                with contextlib.suppress(OSError):
                    os.ftruncate(fd, size)
            raise
        self._end = size + done

    def _roll(self, fd: int) -> None:
        """Make the locked file path.1. The rename that frees the path comes last, so a new file is never rolled."""
        if not HAS_FLOCK:
            self._close_file()  # Windows cannot rename an open file
        paths = [self.path, *(f"{self.path}.{number}" for number in range(1, self.backups + 1))]
        # A gap (a deleted backup) is filled before the oldest is overwritten.
        free = next((index for index, path in enumerate(paths) if not os.path.lexists(path)), self.backups)
        for index in range(free, 0, -1):
            os.replace(paths[index - 1], paths[index])
        if not self.backups:
            os.unlink(self.path)
        if HAS_FLOCK:
            self._let_go(fd)

    def _let_go(self, fd: int) -> None:
        # Closing alone does not unlock while a forked child holds a copy of the descriptor.
        unlock(fd)
        self._close_file()


def _otlp_line(encoder: SpanEncoder, batch: Batch) -> bytes:
    from nat_observability.sinks.otlp.json import json_request

    spans = [item for item in batch if isinstance(item, Span)]
    if len(spans) < len(batch):
        cure = "Set the exporter to record spans."
        raise PermanentWriteError(f"OTLP carries spans, and the batch holds steps. {cure}")
    return json_request(encoder.encode(spans)) + b"\n"
