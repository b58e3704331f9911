"""EventFile: a recorded event stream on disk, and which line belongs to which run."""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Callable
from itertools import count
from types import TracebackType
from typing import Self

import msgspec

from nat_observability.cli.command_error import CommandError
from nat_observability.events import Boundary, IntermediateStep, Run, StepKind
from nat_observability.integrations.nat.event_lines import NatLine, NatLineError, NatRun, parse_line
from nat_observability.system.disk import OPEN_FLAGS, read_at

MAX_LINE = 64 * 2**20
"""Bytes; the toolkit's own lines reach about 120 KB."""

MAX_SKIPPED = 1000
"""The number of skipped lines kept with their reasons; further ones are only counted."""

_SLICE_LINES = 64
_SLICE_BYTES = 2**20
_UNKNOWN, _NONE = -1, -2


class SkippedLine(msgspec.Struct, frozen=True):
    """A line that is not a step of any run; line numbers begin at 1."""

    line: int
    reason: str


class RecordedRun:
    """
    One run of the file: its ids and where its lines are, in their order.

    `parent_span_id` is the step of another run that this one continues, or None.
    """

    __slots__ = ("conversation_id", "name", "offsets", "parent_span_id", "run_id", "sizes", "trace_id")

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.trace_id: str | None = None
        self.conversation_id: str | None = None
        self.name: str | None = None
        self.parent_span_id: str | None = None
        self.offsets = array("Q")
        self.sizes = array("I")

    def __len__(self) -> int:
        return len(self.offsets)


class EventFile:
    """
    A file in either form of the reference toolkit's event stream, as a context manager.

    Two passes, because a line may come after the END of its workflow, and in the plain form tells its run only
    through the lines above it, of which one may be torn: `index` reads the file once and keeps about 30 bytes for
    each line and 200 for each span; `steps` then reads the lines of one run. No more than one line, or one slice
    of a run, is in memory.

    Args:
        path: The path of a file on disk.
        max_line: The longest line that is read, in bytes.

    Attributes:
        lines: The number of lines, skipped ones included.
        skipped: The first `MAX_SKIPPED` skipped lines.
        skipped_count: The number of skipped lines.
        runs: In the order of their first lines.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_line: int = MAX_LINE) -> None:
        self.path = os.fspath(path)
        self._max_line = max_line
        self.lines = 0
        self.skipped: list[SkippedLine] = []
        self.skipped_count = 0
        self.runs: list[RecordedRun] = []
        self._fd = -1

    def __enter__(self) -> Self:
        try:
            self._fd = os.open(self.path, os.O_RDONLY | OPEN_FLAGS | getattr(os, "O_NONBLOCK", 0))
            if not stat.S_ISREG(os.fstat(self._fd).st_mode):
                self.__exit__(None, None, None)
                raise CommandError(
                    f"{self.path} is not a file. Save the event stream to a file, and give that."
                )
        except FileNotFoundError:
            raise CommandError(
                f"{self.path} does not exist. Give a file that the toolkit's file exporter wrote."
            ) from None
        except OSError as error:
            raise CommandError(f"{self.path} cannot be read: {error.strerror}.") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd != -1:
            os.close(self._fd)
            self._fd = -1

    @property
    def size(self) -> int:
        """The size of the file in bytes."""
        return os.fstat(self._fd).st_size

    def index(self, advance: Callable[[int], object] = lambda _: None) -> None:
        """
        Read the whole file, and assign its lines to runs.

        Args:
            advance: Called with each line's size in bytes, for a progress bar.

        Raises:
            CommandError: None of its lines is a step.
        """
        index = _Index()
        with open(self._fd, "rb", buffering=2**20, closefd=False) as file:
            file.seek(0)
            offset = 0
            for number in count(1):
                line = rest = file.readline(self._max_line + 1)
                if not line:
                    break
                size = len(line)
                while len(rest) > self._max_line and not rest.endswith(b"\n"):
                    rest = file.readline(self._max_line + 1)
                    size += len(rest)
                self._add(index, number, offset, size, line)
                offset += size
                advance(size)
        for number in index.assign():
            self._skip(number, "belongs to no run: no WORKFLOW step encloses it")
        # A run without lines was only named by a workflow nested in another run.
        self.runs = [run for run in index.runs.values() if len(run)]
        self.skipped.sort(key=lambda skipped: skipped.line)
        if not self.runs:
            raise CommandError(f"{self.path} {self._nothing()}")

    def steps(self, recorded: RecordedRun, start: int, run: Run) -> list[IntermediateStep]:
        """
        Return the next steps of a run, starting at the line with the index `start`, as steps of `run`. From any thread.

        Raises:
            CommandError: The file has changed since `index`.
        """
        steps: list[IntermediateStep] = []
        size = 0
        for index in range(start, min(start + _SLICE_LINES, len(recorded))):
            size += recorded.sizes[index]
            if steps and size > _SLICE_BYTES:
                break
            line = read_at(self._fd, recorded.sizes[index], recorded.offsets[index])
            try:
                steps.append(parse_line(line).step(run))
            except NatLineError as error:
                raise CommandError(
                    f"{self.path} has changed while it was read ({error}). Replay a copy of it.", exit_code=1
                ) from error
        return steps

    def _add(self, index: _Index, number: int, offset: int, size: int, line: bytes) -> None:
        self.lines = number
        if size > self._max_line:
            self._skip(number, f"longer than {self._max_line} bytes")
            return
        if number == 1 and line.startswith(b"\xef\xbb\xbf"):
            line = line[3:]
            offset, size = offset + 3, size - 3
        try:
            index.add(number, offset, size, parse_line(line))
        except NatLineError as error:
            self._skip(number, str(error))

    def _skip(self, number: int, reason: str) -> None:
        self.skipped_count += 1
        if len(self.skipped) < MAX_SKIPPED:
            self.skipped.append(SkippedLine(number, reason))

    def _nothing(self) -> str:
        cure = "Give a file that the toolkit's file exporter wrote, one step a line."
        if not self.lines:
            return f"is empty. {cure}"
        first = self.skipped[0]
        return f"holds no step in {self.lines} lines; line {first.line}: {first.reason}. {cure}"


class _Index:
    """
    Which line belongs to which run. A span is a number here, in the order of appearance, and so is a run.

    Nothing depends on the order of the lines: if a START is torn, its END still names the parent.
    """

    def __init__(self) -> None:
        self.runs: dict[str, RecordedRun] = {}
        self._run_numbers: dict[str, int] = {}
        self._span_numbers: dict[str, int] = {}
        self._parents = array("q")  # by span: the number of the enclosing one
        self._run_of = array("q")  # by span: the number of its run
        # By line: its own number, place and size, and its owner: a span's number, or -1 minus a run's.
        self._numbers = array("Q")
        self._offsets = array("Q")
        self._sizes = array("I")
        self._owners = array("q")

    def add(self, number: int, offset: int, size: int, line: NatLine) -> None:
        span = self._span(line.uuid)
        parent = line.parent_id
        if parent is not None and parent != line.uuid and self._parents[span] == _UNKNOWN:
            self._parents[span] = self._span(parent)
        owner = span
        told = line.run
        if told is None and line.kind is StepKind.WORKFLOW and parent is None:
            told = NatRun(line.uuid)  # a root without ids: the run is named like its span
        if told is not None:
            run = self._run(told, line)
            if self._run_of[span] == _UNKNOWN:
                self._run_of[span] = run
            if line.attributed:
                owner = -1 - run
        self._numbers.append(number)
        self._offsets.append(offset)
        self._sizes.append(size)
        self._owners.append(owner)

    def assign(self) -> list[int]:
        """Give each run its lines; return the numbers of the lines that belong to none."""
        left: list[int] = []
        runs = list(self.runs.values())
        for number, offset, size, owner in zip(
            self._numbers, self._offsets, self._sizes, self._owners, strict=True
        ):
            run = self._resolve(owner) if owner >= 0 else -1 - owner
            if run == _NONE:
                left.append(number)
            else:
                runs[run].offsets.append(offset)
                runs[run].sizes.append(size)
        return left

    def _resolve(self, span: int) -> int:
        """Return the run of a span: its own, or that of the nearest enclosing span that has one."""
        path: list[int] = []
        while span != _UNKNOWN and self._run_of[span] == _UNKNOWN:
            path.append(span)
            self._run_of[span] = _NONE  # in case the parents form a cycle
            span = self._parents[span]
        run = _NONE if span == _UNKNOWN else self._run_of[span]
        for each in path:
            self._run_of[each] = run
        return run

    def _span(self, uuid: str) -> int:
        number = self._span_numbers.setdefault(uuid, len(self._span_numbers))
        if number == len(self._parents):
            self._parents.append(_UNKNOWN)
            self._run_of.append(_UNKNOWN)
        return number

    def _run(self, told: NatRun, line: NatLine) -> int:
        run = self.runs.get(told.run_id)
        if run is None:
            run = self.runs[told.run_id] = RecordedRun(told.run_id)
            self._run_numbers[told.run_id] = len(self._run_numbers)
        run.trace_id = run.trace_id or told.trace_id
        run.conversation_id = run.conversation_id or told.conversation_id
        if line.kind is StepKind.WORKFLOW and line.boundary is Boundary.START and run.name is None:
            # The first START of a workflow is the run's root: its parent can only be a step of another run.
            run.name, run.parent_span_id = line.name, line.parent_id
        return self._run_numbers[told.run_id]
