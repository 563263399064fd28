"""Isolated workers that run programs and return what they wrote: no verdicts here."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import TypeVar

from sr_reward.errors import IsolationError, TaskError
from sr_reward.sandbox.packages import packages_folder
from sr_reward.sandbox.pool import Lane, Run, Trial
from sr_reward.sandbox.worker import OUTPUT_BYTES, Worker

_log = logging.getLogger("sr_reward")

READER_BYTES = 1 << 30  # of address space
LEVELS = ("full", "landlock", "limits")  # strongest first
T = TypeVar("T")


class Sandbox:
    """Runs trials on ``workers`` lanes (default: one per usable core) at one isolation level.

    ``isolation`` is ``auto`` (the strongest level available on this Linux), ``full``, ``landlock`` or
    ``limits``; a level that is named must be available or ``IsolationError`` is raised, and so with
    ``require_isolation``, the weakest level that ``auto`` may settle for. Nothing is started before the first
    trial. ``memory_mb`` bounds what a program holds at once (its address space, of which stacks of threads reserve
    much, is 1 GiB larger), ``output_mb`` what it returns and what it prints; ``timeout_s`` bounds its CPU time, and
    the time in which it neither computes nor ends; after 5 × ``timeout_s`` + 2 s it is stopped in any case.
    ``packages`` is a virtual environment's directory whose packages programs and tests may import, read-only.
    ``reader`` is the path of the script that serves jobs of kind ``READ`` (see ``grading.reader``).
    """

    def __init__(
        self,
        *,
        workers: int | None = None,
        timeout_s: float = 3.0,
        memory_mb: int = 512,
        output_mb: int = OUTPUT_BYTES >> 20,
        isolation: str = "auto",
        require_isolation: str | None = None,
        patience_s: float = 120.0,
        packages: str | None = None,
        reader: str = "",
    ) -> None:
        if workers is not None and workers < 1:
            raise TaskError(f"workers must be at least 1, got {workers}; leave it out for one per core")
        if not timeout_s > 0 or timeout_s > 3600:
            raise TaskError(f"timeout_s must be in (0, 3600], got {timeout_s}")
        if memory_mb < 64:
            raise TaskError(f"memory_mb must be at least 64 (the interpreter itself), got {memory_mb}")
        if not 1 <= output_mb <= 1024:
            raise TaskError(f"output_mb must be in [1, 1024], got {output_mb}")
        for name, value, more in (("isolation", isolation, ("auto",)), ("require_isolation", require_isolation, ())):
            if value is not None and value not in LEVELS + more:
                raise TaskError(f"{name} must be one of {', '.join(LEVELS + more)}, got {value!r}")
        self.workers = workers or _usable_cores()
        self.timeout_s, self.memory_mb, self.patience_s = timeout_s, memory_mb, patience_s
        self.output_mb = output_mb
        self._wanted, self._required = isolation, require_isolation
        self._level: str | None = None
        self._first: Worker | None = None  # the worker that proved the level
        self._lanes: list[Lane] = []
        self._packages = packages_folder(packages) if packages else ""
        self._reader_script = reader
        self._reader: Lane | None = None
        self._lock = threading.Lock()
        self._user: int | None = None  # the thread whose stream is open
        self._owner = os.getpid()

    @classmethod
    def without_isolation(cls, *, timeout_s: float) -> Sandbox:
        """One lane without any isolation, for the positive controls of the attack suite and nothing else."""
        made = cls(workers=1, timeout_s=timeout_s, memory_mb=1 << 30, patience_s=5.0)
        made._level = "open"
        return made

    @property
    def isolation(self) -> str:
        """The level in force. Starts the first worker if none has been started."""
        if self._level is None:
            with self._lock:
                return self._settle()
        return self._level

    def run(self, trials: Sequence[Trial[T]]) -> list[T]:
        """The results of all trials, in their order."""
        results = dict(self.stream(trials))
        return [results[index] for index in range(len(trials))]

    def stream(self, trials: Sequence[Trial[T]]) -> Iterator[tuple[int, T]]:
        """Run the trials and yield ``(index, result)`` as each one ends.

        One caller at a time; leaving early (an error, Ctrl-C, ``break``) stops what is still running.
        """
        if not trials:
            return
        if self._owner != os.getpid():  # a fork of the trainer: the lock may be held by a thread it does not have
            self._lock, self._user = threading.Lock(), None
        if self._user == threading.get_ident():
            raise TaskError("one stream at a time: finish or close the one that is open before starting another")
        with self._lock:
            self._user = threading.get_ident()
            self._settle()
            done = False
            try:
                assert self._reader  # made with the lanes
                yield from Run(
                    self._lanes, self._reader, trials, timeout_s=self.timeout_s, patience_s=self.patience_s
                ).results()
                done = True
            finally:
                self._user = None
                if not done:  # workers hold jobs that nobody waits for
                    self._stop()

    def close(self) -> None:
        """End every worker. The sandbox may be used again; it then starts new ones."""
        if self._user == threading.get_ident():  # an open stream of this very thread holds the lock
            self._stop()
            return
        with self._lock:
            self._stop()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_lanes", None) and self._owner == os.getpid():
            self._stop()

    def _stop(self) -> None:
        for lane in (*self._lanes, self._reader):
            if lane:
                lane.stop()

    def _settle(self) -> str:
        """Find the strongest level available, by starting a worker at it."""
        if self._owner != os.getpid():  # after a fork of the trainer the workers belong to the parent
            self._owner = os.getpid()
            self._lanes, self._reader, self._first = [], None, None
        if self._level is None:
            self._level = self._strongest_level()
        if not self._lanes:
            self._lanes = [
                Lane(self._level, self.memory_mb << 20, output=self.output_mb << 20, packages=self._packages)
                for _ in range(self.workers)
            ]
            self._reader = Lane(self._level, READER_BYTES, reader=self._reader_script)
        if self._first is not None:
            self._lanes[0].workers["slim"], self._first = self._first, None
        return self._level

    def _strongest_level(self) -> str:
        floor = self._required or LEVELS[-1]
        if self._wanted != "auto":
            candidates: tuple[str, ...] = (self._wanted,)
        elif sys.platform != "linux":
            raise IsolationError(
                f"on {sys.platform} only isolation='limits' exists, which must be asked for; got isolation='auto'"
            )
        else:
            candidates = LEVELS
        reasons = []
        for level in candidates:
            if LEVELS.index(level) > LEVELS.index(floor):
                break
            try:
                self._first = Worker(
                    level=level,
                    kind="slim",
                    memory=self.memory_mb << 20,
                    output=self.output_mb << 20,
                    packages=self._packages,
                )
            except IsolationError as error:
                reasons.append(str(error))
                continue
            if self._wanted == "auto" and level == "limits":
                _log.warning(
                    "neither namespaces nor Landlock are available here: programs run with limits only, which keeps "
                    "no verdict safe; `sr sandbox check` says what to do"
                )
            return level
        if reasons:
            raise IsolationError(reasons[-1])
        raise IsolationError(
            f"isolation {self._wanted} is weaker than the required {floor}; ask for {floor}, or require less "
            "(at limits no verdict is safe)"
        )


def _usable_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1
