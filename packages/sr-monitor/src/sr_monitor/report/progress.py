"""How far a long task is, on a terminal."""

from __future__ import annotations

import sys
import time


class Progress:
    """One line on a terminal: done, per second, time left. Silent elsewhere."""

    def __init__(self, total: int = 0, what: str = "graded") -> None:
        self.total, self.what, self.done = total, what, 0
        self.began = self.shown = time.monotonic()
        self.visible = sys.stderr.isatty()

    def of(self, total: int) -> None:
        """One more of ``total`` is done."""
        self.total = total
        self.step()

    def step(self) -> None:
        """One more is done."""
        self.done += 1
        now = time.monotonic()
        if self.visible and (now - self.shown > 0.2 or self.done == self.total):
            self.shown = now
            speed = self.done / max(now - self.began, 1e-9)
            left = (self.total - self.done) / speed
            end = "\n" if self.done == self.total else ""
            text = f"\r{self.done}/{self.total} {self.what} · {speed:,.0f}/s · {left:,.0f} s left\x1b[K{end}"
            print(text, end="", file=sys.stderr, flush=True)
