"""When the agent tries again what failed, and how it is told to stop."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

LONGEST_WAIT_S = 900.0
"""Between two tries, of the broker or of one task, however often they failed."""

_SLICE_S = 0.2


class Backoff:
    """
    When something that failed is tried again: after `every` seconds, then twice that, and so on.

    A third is left to chance, so that the sites of a study do not all come at the same moment
    after the broker was away.
    """

    def __init__(self, every: float) -> None:
        self.every = every
        self._until: dict[str, tuple[int, float]] = {}

    def failed(self, what: str, now: float) -> float:
        """Count a failure; return after how many seconds to try again."""
        times, _ = self._until.get(what, (0, 0.0))
        wait = min(self.every * 2.0**times, max(LONGEST_WAIT_S, self.every))
        wait *= random.SystemRandom().uniform(0.67, 1.0)
        self._until[what] = (min(times + 1, 30), now + wait)
        return wait

    def went_well(self, what: str) -> None:
        """Forget its failures."""
        self._until.pop(what, None)

    def holds(self, what: str, now: float) -> bool:
        """Is it too early to try it again?"""
        return now < self._until.get(what, (0, 0.0))[1]


class Stop:
    """Set by SIGTERM: what goes on is finished, nothing else is begun."""

    def __init__(self) -> None:
        self.wanted = False

    @contextmanager
    def on_sigterm(self) -> Iterator[None]:
        """Listen to SIGTERM for the time of the context; in the main thread only."""
        before = signal.signal(signal.SIGTERM, self._hear)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def sleep(self, seconds: float) -> None:
        """Sleep so long, or until it is wanted."""
        until = time.monotonic() + seconds
        while not self.wanted and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE_S))

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        self.wanted = True
