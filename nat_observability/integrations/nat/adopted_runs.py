"""AdoptedRuns: the runs of the toolkit that are under way, each adopted once however often it is asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from weakref import WeakValueDictionary

from nat_observability.context import AdoptedState


class AdoptedRuns:
    """Runs by their event stream, which each of them keeps alive; held weakly."""

    def __init__(self) -> None:
        self._runs: WeakValueDictionary[int, AdoptedState] = WeakValueDictionary()  # by the id of the stream
        self._lock = threading.RLock()

    def get_or_adopt(self, event_stream: object, adopt: Callable[[], AdoptedState]) -> AdoptedState:
        """Return the run that has this event stream; what `adopt` makes of it where it is none of ours yet."""
        with self._lock:
            state = self._runs.get(id(event_stream))
            if state is None:
                state = self._runs[id(event_stream)] = adopt()
            return state

    def forget(self, event_stream: object, state: AdoptedState | None) -> None:
        """Let the next run that has this event stream be another one, if `state` is the one that has it."""
        with self._lock:
            if self._runs.get(id(event_stream)) is state:
                self._runs.pop(id(event_stream), None)


adopted_runs = AdoptedRuns()
"""Those of this process."""
