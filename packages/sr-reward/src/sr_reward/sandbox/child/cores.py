"""Which core a zygote and its programs run on: one of them runs at a time, so one core serves them all.

The kernel would wake each on another, idle core, and that core first: this took the machines measured a sixth of
their time.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SLOW_S = 0.02  # a program that runs for so long may go where there is room
CROWDED = 1.4  # wall time over CPU time of a group that had to wait for its core


class Core:
    """Holds this process on the core that it is on, group by group, with what it forks; after a group that had to
    wait there, it lets the kernel place the next. Where a process cannot choose its core, all this does nothing.

    A group: ``begin``, any number of forks, ``end`` with the CPU seconds that its programs took.
    """

    def __init__(self) -> None:
        self.all: set[int] = set()
        self.crowded = False
        self.began = (0.0, 0.0)
        self.here: Callable[[], int] | None = None
        if hasattr(os, "sched_setaffinity"):
            from sr_reward.sandbox.child import kernel

            self.here = kernel.core()
            self.all = os.sched_getaffinity(0)

    def begin(self) -> None:
        self.began = (time.monotonic(), time.process_time())
        if self.here and not self.crowded:
            self._bind(0, {self.here()})

    def end(self, seconds: float) -> None:
        wall, own = self.began
        self.crowded = time.monotonic() - wall > CROWDED * (time.process_time() - own + seconds)
        self.let_go(0)

    def let_go(self, pid: int) -> None:
        """Let a process (0: this one) run on any core."""
        if self.here:
            self._bind(pid, self.all)

    def _bind(self, pid: int, cores: set[int]) -> None:
        try:
            os.sched_setaffinity(pid, cores)
        except OSError:  # not allowed here, or the cores are no longer ours
            self.here = None
