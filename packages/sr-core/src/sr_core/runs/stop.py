"""What SIGINT (Ctrl-C) and SIGTERM do to a run: they end it without losing a step that was complete."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from sr_core.runs.checkpoint import Checkpoint

__all__ = ["Stop"]

ONE_WISH_S = (
    1.0  # signals this close are one: a terminal sends SIGINT to all processes, a parent then SIGTERM to its own
)


class Stop:
    """A wish to stop, and what would be lost by stopping now.

    Where the last complete step has a checkpoint, or can still get one since the next step has changed nothing so far,
    a signal raises KeyboardInterrupt at once. Otherwise the step in progress ends first, and is saved; a second signal
    does not wait for that. Without ``listening`` signals do what they do in any program.
    """

    def __init__(self) -> None:
        self.pending: Callable[[], Checkpoint] | None = None  # makes the checkpoint that the last step did not get
        self._waits = False
        self._asked_at: float | None = None

    @property
    def asked(self) -> bool:
        """Whether a signal waits for the end of the step."""
        return self._asked_at is not None

    def unsaved(self, make: Callable[[], Checkpoint] | None) -> None:
        """A step is complete and has no checkpoint; ``make`` gives it, if it can be made outside the loop."""
        self.pending, self._waits = make, make is None

    def moved_on(self) -> None:
        """The next step changes the trainer now: what is not saved has to wait for its end."""
        self._waits = self._waits or self.pending is not None
        self.pending = None

    def saved(self) -> None:
        """The last complete step has its checkpoint."""
        self.pending, self._waits = None, False

    @contextmanager
    def listening(self, say: Callable[[str], None]) -> Iterator[Stop]:
        """Within it, both signals ask for a stop; ``say`` is told, within the signal's handler, when it has to wait."""

        def ask(number: int, frame: FrameType | None) -> None:
            now = time.monotonic()
            if not self._waits:
                raise KeyboardInterrupt
            if self._asked_at is None:
                self._asked_at = now
                say(
                    "interrupted: the step in progress ends first and is saved; a second interrupt does not wait for it"
                )
            elif now - self._asked_at >= ONE_WISH_S:
                raise KeyboardInterrupt

        numbers = (signal.SIGINT, signal.SIGTERM)
        previous = [signal.signal(number, ask) for number in numbers]
        try:
            yield self
        finally:
            for number, handler in zip(numbers, previous, strict=True):
                signal.signal(number, handler)
