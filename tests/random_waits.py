"""Random waits around the moves of deliveries and spools, so that their threads meet at other moments than usual."""

from __future__ import annotations

import random
import sys
import threading
from time import sleep  # itself, and not what detects blocking calls
from types import CodeType, FrameType

_PLACES = ("/nat_observability/delivery/", "/nat_observability/spool/")
_SHARE = 0.01  # of the calls that wait
_LONGEST = 0.003  # seconds
_MOST = 300  # in one test: one that records ten thousand items would take too long


class RandomWaits:
    """
    Has one call in a hundred of the delivery's and the spool's functions wait for some milliseconds.

    By the interpreter's own hook for profilers, in this thread and in those that are started from then on.

    Args:
        seed: Of what is left to chance; the system still chooses which thread goes on.
    """

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._known: dict[CodeType, bool] = {}
        self._left = 0

    def install(self) -> None:
        """Begin with one test."""
        self._left = _MOST
        threading.setprofile(self._called)
        sys.setprofile(self._called)

    def remove(self) -> None:
        """End, in this thread and in those to come."""
        threading.setprofile(None)
        sys.setprofile(None)

    def _called(self, frame: FrameType, event: str, _: object) -> None:
        if event != "call" or not self._left:
            return
        code = frame.f_code
        moves = self._known.get(code)
        if moves is None:
            moves = self._known[code] = any(place in code.co_filename for place in _PLACES)
        if moves and self._dice.random() < _SHARE:
            self._left -= 1
            sleep(self._dice.uniform(0.0, _LONGEST))
