"""How often a checkpoint is worth its time: often enough to lose little, and for at most a twentieth of the wall clock.

A checkpoint of a small policy takes milliseconds, one of 135M parameters with its moments seconds, so no number of
steps between two of them fits both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["SHARE", "Pace"]

SHARE = 0.05  # of the wall clock


class Pace:
    """Says when the next checkpoint is due, from what those before it cost.

    One is due when the time of all writes stays within ``SHARE`` of the time since this object was made, should it cost
    what the last one did; the first one is due at once. Writes that cannot wait count, too, so that others come later.
    All writes that were due thus take at most ``SHARE`` of the time and one write more. ``clock``: seconds from any
    origin.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self.costs: list[float] = []  # seconds of each write so far in this process

    def due(self) -> bool:
        """Whether a checkpoint may be written now."""
        return not self.costs or sum(self.costs) + self.costs[-1] <= SHARE * (self._clock() - self._began)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Within it, a checkpoint is made and written."""
        began = self._clock()
        yield
        self.costs.append(self._clock() - began)
