"""How far a long task is: one line that changes on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time

TERMINAL_S, LOG_S = 0.2, 30.0  # between two lines


class Progress:
    """Done, speed, time left, on stderr."""

    def __init__(self, total: int = 0, what: str = "graded") -> None:
        self.total, self.what, self.done = total, what, 0
        self.began = self.shown = time.monotonic()
        self.terminal = sys.stderr.isatty()

    def of(self, total: int) -> None:
        """One more of ``total`` is done."""
        self.total = total
        self.step()

    def step(self) -> None:
        """One more is done."""
        self.done += 1
        now = time.monotonic()
        last = self.terminal and self.done == self.total
        if last or now - self.shown > (TERMINAL_S if self.terminal else LOG_S):
            self.shown = now
            each = (now - self.began) / self.done
            left = _time((self.total - self.done) * each)
            text = f"{self.done}/{self.total} {self.what} · {_speed(each)} · {left} left"
            text = f"\r{text}\x1b[K" if self.terminal else text
            print(text, end="\n" if last or not self.terminal else "", file=sys.stderr, flush=True)


def _speed(seconds_each: float) -> str:
    return f"{1 / max(seconds_each, 1e-9):,.0f}/s" if seconds_each < 0.5 else f"{seconds_each:,.1f} s each"


def _time(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:,.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
