"""Sampling: which runs an exporter gets, decided once for each."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping

from nat_observability.context import ContextState
from nat_observability.errors import InvalidSamplingError

_ALL = 1 << 64


class Sampling:
    """
    Chooses runs by their trace id, so that every service that chooses by the same ratio chooses the same traces.

    A trace is chosen if the lower 64 bits of its id are below `ratio * 2**64`, the rule of TraceIdRatioBased in
    the OpenTelemetry SDKs. Each exporter has its own ratio, and the runs of a lower one are among those of a higher.

    Args:
        ratio: From 0, no run, to 1, every run.
        rules: Ratios for the runs of some workflows, by name or glob (`chat-*`), the first that fits; `*` fits a run
            without a name too.
        parent_based: Whether a run that continues a trace follows the caller's `traceparent`; the ratio and the rules
            then apply only to runs that begin a trace.
        keep_errors: Whether a run that was not chosen is delivered after all if it fails: a step ends with an
            error, or the run's block raises, or its `ContextState.failed` is set. Until it does, its items are held
            in memory.
        run_bytes: Most bytes that are held for one run; of a longer one the newest items are kept.
        all_bytes: Most bytes that are held for all runs together.

    Raises:
        InvalidSamplingError: A ratio is not from 0 to 1, or a number of bytes is not positive.
    """

    __slots__ = ("_bound", "_rules", "all_bytes", "keep_errors", "parent_based", "run_bytes")

    def __init__(
        self,
        ratio: float = 1.0,
        *,
        rules: Mapping[str, float] | None = None,
        parent_based: bool = False,
        keep_errors: bool = False,
        run_bytes: int = 4 * 1024 * 1024,
        all_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self._bound = _bound("ratio", ratio)
        # Case counts, on every system: fnmatch.fnmatch would go by that of the file system.
        self._rules = [
            (re.compile(fnmatch.translate(glob)), _bound(f"rules[{glob!r}]", own))
            for glob, own in (rules or {}).items()
        ]
        self.parent_based, self.keep_errors = parent_based, keep_errors
        self.run_bytes = _bytes("run_bytes", run_bytes)
        self.all_bytes = _bytes("all_bytes", all_bytes)

    def samples(self, state: ContextState) -> bool:
        """Whether the exporter is to get this run."""
        if self.parent_based and (sampled := state.caller_sampled) is not None:
            return sampled
        bound = self._bound
        if self._rules:
            name = state.run.workflow_name or ""
            bound = next((own for glob, own in self._rules if glob.match(name)), bound)
        return bound == _ALL or int(state.run.trace_id[16:], 16) < bound


def _bound(name: str, ratio: object) -> int:
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 <= ratio <= 1:
        raise InvalidSamplingError(name, ratio, "a number from 0 to 1")
    return round(ratio * _ALL)


def _bytes(name: str, number: object) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise InvalidSamplingError(name, number, "a positive number of bytes")
    return number
