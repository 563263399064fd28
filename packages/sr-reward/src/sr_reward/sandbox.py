"""A pool of workers that runs programs and returns what they wrote: no verdicts here.

Work comes as *trials*: generators that yield a ``Job``, are sent its ``Answer``, and return their result. The
pool interleaves any number of them over its lanes from one thread, without a thread or a process of its own.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sr_reward import worker as protocol
from sr_reward.errors import IsolationError, TaskError
from sr_reward.worker import Answer, Limits, Worker, WorkerDied

_log = logging.getLogger("sr_reward")

LEVELS = ("full", "landlock", "limits")  # strongest first
DEPTH = 4  # jobs at a worker below which it is sent more, so that it never waits for us
GROUP = 8  # most jobs sent at once: their processes are forked in one go, which costs less
GROUP_S = 0.02  # what a group may take at the pace seen so far: who waits behind it could be run elsewhere

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One program to run. ``kind`` is one of ``CALLS``, ``STDIO``, ``SERVE``, ``CHECK`` of ``sr_reward.worker``;
    ``SERVE`` also runs ``judge_body`` in a judge process at the other end of a line to the program.
    ``warm`` asks for an interpreter that has the usual modules loaded."""

    kind: int
    body: bytes
    warm: bool = False
    judge_body: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a job: the program's answer, and the judge's where there was one. Both None: the sandbox
    itself failed twice."""

    program: Answer | None
    judge: Answer | None = None


Trial = Generator[Job, Outcome, T]


class _Flight:
    """A job on its way."""

    def __init__(self, index: int, trial: Trial[Any], job: Job) -> None:
        self.index, self.trial, self.job = index, trial, job
        self.attempts = 0
        self.answers: dict[str, Answer] = {}

    def reset(self) -> None:
        self.answers = {}


class Sandbox:
    """Runs trials on ``workers`` lanes (default: one per usable core) behind the walls of one level.

    ``isolation`` is ``auto`` (the strongest level that stands on this Linux), ``full``, ``landlock`` or
    ``limits``; a level that is named must stand or ``IsolationError`` is raised, and so with
    ``require_isolation``, the weakest level that ``auto`` may settle for. Nothing is started before the first
    trial. ``timeout_s`` bounds the CPU time of a program, and the time in which it neither computes nor ends.
    """

    def __init__(
        self,
        *,
        workers: int | None = None,
        timeout_s: float = 3.0,
        memory_mb: int = 512,
        isolation: str = "auto",
        require_isolation: str | None = None,
        patience_s: float = 120.0,
    ) -> None:
        if workers is not None and workers < 1:
            raise TaskError(f"workers must be at least 1, got {workers}; leave it out for one per core")
        if not timeout_s > 0 or timeout_s > 3600:
            raise TaskError(f"timeout_s must be in (0, 3600], got {timeout_s}")
        if memory_mb < 64:
            raise TaskError(f"memory_mb must be at least 64 (the interpreter itself), got {memory_mb}")
        for name, value, more in (("isolation", isolation, ("auto",)), ("require_isolation", require_isolation, ())):
            if value is not None and value not in LEVELS + more:
                raise TaskError(f"{name} must be one of {', '.join(LEVELS + more)}, got {value!r}")
        self.workers = workers or _usable_cores()
        self.timeout_s, self.memory_mb, self.patience_s = timeout_s, memory_mb, patience_s
        self._wanted, self._required = isolation, require_isolation
        self._level: str | None = None
        self._first: Worker | None = None  # the worker that proved the level
        self._lanes: list[_Lane] = []
        self._lock = threading.Lock()
        self._user: int | None = None  # the thread whose stream is open
        self._owner = os.getpid()

    @classmethod
    def unwalled(cls, *, timeout_s: float) -> Sandbox:
        """One lane without any wall, for the positive controls of the attack suite and nothing else."""
        made = cls(workers=1, timeout_s=timeout_s, memory_mb=1 << 30, patience_s=5.0)
        made._level = "open"
        return made

    @property
    def isolation(self) -> str:
        """The level that stands. Starts the first worker if none has been started."""
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
                yield from _Run(self, trials).results()
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
        for lane in self._lanes:
            lane.stop()

    def _settle(self) -> str:
        """Find the level that stands, by starting a worker at it."""
        if self._owner != os.getpid():  # after a fork of the trainer the workers belong to the parent
            self._owner = os.getpid()
            self._lanes, self._first = [], None
        if self._level is None:
            self._level = self._strongest_level()
        if not self._lanes:
            self._lanes = [_Lane(self._level, self.memory_mb << 20) for _ in range(self.workers)]
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
                self._first = Worker(level=level, kind="slim", memory=self.memory_mb << 20)
            except IsolationError as error:
                reasons.append(str(error))
                continue
            if self._wanted == "auto" and level == "limits":
                _log.warning(
                    "neither namespaces nor Landlock stand here, programs run behind limits only; "
                    "`sr sandbox check` says what to do"
                )
            return level
        if reasons:
            raise IsolationError(reasons[-1])
        raise IsolationError(
            f"isolation {self._wanted} is weaker than the required {floor}; ask for {floor} or require less"
        )


class _Lane:
    """One slot of parallelism: a slim, a warm and a judge worker, each started when it is first needed.

    Jobs of a lane are sent and answered in order in each worker, so a program and its judge meet."""

    def __init__(self, level: str, memory: int) -> None:
        self.level, self.memory = level, memory
        self.workers: dict[str, Worker] = {}

    def worker(self, kind: str) -> Worker:
        if kind not in self.workers:
            self.workers[kind] = Worker(level=self.level, kind=kind, memory=self.memory)
        return self.workers[kind]

    @property
    def load(self) -> int:
        return max((len(worker.pending) for worker in self.workers.values()), default=0)

    def stop(self) -> list[Any]:
        """End the workers; returns the jobs they held, the one that may have been running first."""
        held: dict[int, Any] = {}
        for worker in self.workers.values():
            worker.kill()
            for flight in worker.pending:
                held[id(flight)] = flight
        self.workers = {}
        return list(held.values())


class _Run:
    """One call of ``stream``: which trial waits for which worker."""

    def __init__(self, sandbox: Sandbox, trials: Sequence[Trial[Any]]) -> None:
        self.sandbox = sandbox
        self.finished: deque[tuple[int, Any]] = deque()
        self.waiting: deque[_Flight] = deque()
        self.unopened = iter(enumerate(trials))
        self.left = len(trials)  # not yet opened
        self.open = 0
        self.answered, self.seconds = 0, 0.0
        self.selector = selectors.DefaultSelector()
        self.registered: dict[Worker, int] = {}

    def results(self) -> Iterator[tuple[int, Any]]:
        try:
            while True:
                self._fill()
                yield from self._drain()
                if not self.open:
                    return
                self._exchange()
        finally:
            self.selector.close()

    def _drain(self) -> Iterator[tuple[int, Any]]:
        while self.finished:
            yield self.finished.popleft()

    def _advance(self, index: int, trial: Trial[Any], outcome: Outcome | None) -> None:
        """Let a trial take its outcome (None: begin) and queue the job it asks for next."""
        try:
            job = next(trial) if outcome is None else trial.send(outcome)
        except StopIteration as end:
            self.open -= 1
            self.finished.append((index, end.value))
        else:
            self.waiting.append(_Flight(index, trial, job))

    def _fill(self) -> None:
        """Give every lane enough to do."""
        while True:
            lane = min(self.sandbox._lanes, key=lambda each: each.load)
            group = self._next_group() if lane.load < DEPTH else []
            if not group:
                return
            self._send(lane, group)

    def _next_group(self) -> list[_Flight]:
        """The next jobs that can be sent together: of one sort, few when programs are slow or when few are left."""
        share = (self.left + len(self.waiting)) // (2 * len(self.sandbox._lanes))
        pace = int(GROUP_S * self.answered / self.seconds) if self.seconds else 1
        most = max(1, min(GROUP, share, pace))
        group: list[_Flight] = []
        while len(group) < most and (flight := self._next_flight()):
            if group and (flight.job.kind, flight.job.warm) != (group[0].job.kind, group[0].job.warm):
                self.waiting.appendleft(flight)
                break
            group.append(flight)
            if flight.job.kind == protocol.SERVE:  # its judge would wait for those before it
                break
        return group

    def _next_flight(self) -> _Flight | None:
        while not self.waiting:
            index, trial = next(self.unopened, (-1, None))
            if trial is None:
                return None
            self.left -= 1
            self.open += 1
            self._advance(index, trial, None)
        return self.waiting.popleft()

    def _send(self, lane: _Lane, group: list[_Flight]) -> None:
        job, sandbox = group[0].job, self.sandbox
        idle_s = max(sandbox.timeout_s, 1.0)
        limits = Limits(cpu_s=sandbox.timeout_s, idle_s=idle_s)
        for flight in group:
            flight.reset()
        bodies = [(flight, flight.job.body) for flight in group]
        worker = lane.worker("judge" if job.kind == protocol.CHECK else "warm" if job.warm else "slim")
        judge = lane.worker("judge") if job.kind == protocol.SERVE else None
        try:
            if judge is None:
                worker.send(bodies, kind=job.kind, limits=limits)
            else:
                ours, theirs = socket.socketpair()
                # the program's idle time includes the judge's turns, the judge's includes the program's whole life
                longer = replace(limits, idle_s=3 * idle_s + 2)
                longest = replace(limits, idle_s=sandbox.patience_s)
                with ours, theirs:
                    worker.send(bodies, kind=job.kind, limits=longer, descriptor=ours.fileno())
                    judge.send(
                        [(group[0], job.judge_body)],
                        kind=protocol.JUDGE,
                        limits=longest,
                        descriptor=theirs.fileno(),
                    )
        except WorkerDied:
            self._lose(lane)
        self._watch(lane)

    def _watch(self, lane: _Lane) -> None:
        for worker in lane.workers.values():
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.wants_to_send else 0)
            known = self.registered.get(worker)
            if known is None:
                self.selector.register(worker, events, (lane, worker))
            elif known != events:
                self.selector.modify(worker, events, (lane, worker))
            self.registered[worker] = events

    def _exchange(self) -> None:
        """Wait for news from any worker and deal with it."""
        for key, events in self.selector.select(timeout=1.0):
            lane, worker = key.data
            if worker not in self.registered:
                continue  # it was given up a moment ago
            try:
                if events & selectors.EVENT_WRITE:
                    worker.flush()
                if events & selectors.EVENT_READ:
                    for flight, answer in worker.receive():
                        self._take(worker, flight, answer)
            except WorkerDied:
                self._lose(lane)
            self._watch(lane)
        now = time.monotonic()
        patience = self.sandbox.patience_s + 20 * self.sandbox.timeout_s
        for lane in self.sandbox._lanes:
            if any(each.pending and now - each.last_news > patience for each in lane.workers.values()):
                self._lose(lane)

    def _take(self, worker: Worker, flight: _Flight, answer: Answer) -> None:
        if answer.ended == "lost":
            # the worker ends itself after this; the job goes back when the end is seen
            worker.pending.appendleft(flight)
            return
        self.answered += 1
        self.seconds += answer.seconds
        paired = flight.job.kind == protocol.SERVE
        flight.answers["judge" if paired and worker.kind == "judge" else "program"] = answer
        if len(flight.answers) == 1 + paired:
            outcome = Outcome(program=flight.answers["program"], judge=flight.answers.get("judge"))
            self._advance(flight.index, flight.trial, outcome)

    def _lose(self, lane: _Lane) -> None:
        """A worker of the lane has died: start the lane afresh; what it may have been running is tried once more."""
        for worker in lane.workers.values():
            if self.registered.pop(worker, None) is not None:
                self.selector.unregister(worker)
        running = {id(worker.pending[0]) for worker in lane.workers.values() if worker.pending}
        for flight in reversed(lane.stop()):
            flight.attempts += id(flight) in running
            if flight.attempts >= 2:
                self._advance(flight.index, flight.trial, Outcome(program=None))
            else:
                self.waiting.appendleft(flight)


def _usable_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1
