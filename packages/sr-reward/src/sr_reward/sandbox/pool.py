"""How trials get to workers: which job is sent where, and what becomes of it when a worker dies.

Work comes as *trials*: generators that yield a ``Job``, are sent its ``Outcome``, and return their result. A ``Run``
interleaves any number of them over its lanes from one thread, without a thread or a process of its own.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sr_reward.sandbox import worker as protocol
from sr_reward.sandbox.worker import Answer, Limits, Worker, WorkerDied

READ_AHEAD = 32  # jobs at the reader below which more samples are begun
DEPTH = 4  # jobs at a worker below which it is sent more, so that it never waits for us
GROUP = 8  # most jobs sent at once: their processes are forked in one go, which costs less
GROUP_S = 0.02  # what a group may take at the pace seen so far: who waits behind it could be run elsewhere

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One program to run. ``kind`` is one of ``CALLS``, ``STDIO``, ``SERVE``, ``CHECK``, ``TOGETHER`` of
    ``sandbox.worker``; ``SERVE`` also runs ``judge_body`` in a judge process at the other end of a line to the program.
    ``READ`` goes to the reader. ``warm`` asks for an interpreter that has the usual modules loaded; ``timeout_s``
    replaces the sandbox's."""

    kind: int
    body: bytes
    warm: bool = False
    judge_body: bytes = b""
    timeout_s: float | None = None


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


class Lane:
    """One slot of parallelism: a slim, a warm and a judge worker, each started when it is first needed; or, with
    ``reader``, the reader of that path alone.

    Jobs of a lane are sent and answered in order in each worker, so a program and its judge meet."""

    def __init__(
        self, level: str, memory: int, *, output: int = protocol.OUTPUT_BYTES, reader: str = "", packages: str = ""
    ) -> None:
        self.level, self.memory, self.output = level, memory, output
        self.reader, self.packages = reader, packages
        self.workers: dict[str, Worker] = {}

    def worker(self, kind: str) -> Worker:
        if kind not in self.workers:
            script = {"script": self.reader} if self.reader else {}
            self.workers[kind] = Worker(
                level=self.level,
                kind=kind,
                memory=self.memory,
                output=self.output,
                packages=self.packages,
                **script,
            )
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


def _sort(job: Job) -> tuple[int, bool, float | None]:
    """What jobs that are sent together have in common."""
    return job.kind, job.warm, job.timeout_s


class Run:
    """One call of ``stream``: which trial waits for which worker."""

    def __init__(
        self, lanes: Sequence[Lane], reader: Lane, trials: Sequence[Trial[Any]], *, timeout_s: float, patience_s: float
    ) -> None:
        self.lanes, self.reader, self.timeout_s, self.patience_s = lanes, reader, timeout_s, patience_s
        self.reading = 0  # jobs at the reader
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
            self._queue(_Flight(index, trial, job))

    def _queue(self, flight: _Flight, *, first: bool = False) -> None:
        """Let a job wait for a lane; one for the reader is sent at once."""
        if flight.job.kind == protocol.READ:
            self.reading += 1
            self._send_to_reader(flight)
        elif first:
            self.waiting.appendleft(flight)
        else:
            self.waiting.append(flight)

    def _fill(self) -> None:
        """Give every lane enough to do."""
        while True:
            lane = min(self.lanes, key=lambda each: each.load)
            group = self._next_group() if lane.load < DEPTH else []
            if not group:
                return
            self._send(lane, group)

    def _next_group(self) -> list[_Flight]:
        """The next jobs that can be sent together: of one sort, few when programs are slow or when few are left."""
        share = (self.left + len(self.waiting)) // (2 * len(self.lanes))
        pace = int(GROUP_S * self.answered / self.seconds) if self.seconds else 1
        most = max(1, min(GROUP, share, pace))
        group: list[_Flight] = []
        while len(group) < most and (flight := self._next_flight()):
            if group and _sort(flight.job) != _sort(group[0].job):
                self.waiting.appendleft(flight)
                break
            group.append(flight)
            if flight.job.kind == protocol.SERVE:  # its judge would wait for those before it
                break
        return group

    def _next_flight(self) -> _Flight | None:
        while not self.waiting:
            if self.reading >= READ_AHEAD or any(worker.wants_to_send for worker in self.reader.workers.values()):
                return None
            index, trial = next(self.unopened, (-1, None))
            if trial is None:
                return None
            self.left -= 1
            self.open += 1
            self._advance(index, trial, None)
        return self.waiting.popleft()

    def _send(self, lane: Lane, group: list[_Flight]) -> None:
        job = group[0].job
        cpu_s = job.timeout_s or self.timeout_s
        idle_s = max(cpu_s, 1.0)
        limits = Limits(cpu_s=cpu_s, idle_s=idle_s)
        for flight in group:
            flight.reset()
        bodies = [(flight, flight.job.body) for flight in group]
        # one worker for all programs that have a judge: they would wait for it in two, out of their idle time
        warm = job.warm or job.kind in (protocol.SERVE, protocol.TOGETHER)
        worker = lane.worker("judge" if job.kind == protocol.CHECK else "warm" if warm else "slim")
        judge = lane.worker("judge") if job.kind == protocol.SERVE else None
        try:
            if judge is None:
                worker.send(bodies, kind=job.kind, limits=limits)
            else:
                ours, theirs = socket.socketpair()
                # the program's idle time includes the judge's turns, the judge's includes the program's whole life
                longer = replace(limits, idle_s=3 * idle_s + 2)
                longest = replace(limits, idle_s=self.patience_s)
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

    def _send_to_reader(self, flight: _Flight) -> None:
        flight.reset()
        limits = Limits(cpu_s=flight.job.timeout_s or self.timeout_s, idle_s=self.patience_s)
        try:
            self.reader.worker("reader").send([(flight, flight.job.body)], kind=protocol.READ, limits=limits)
        except WorkerDied:
            self._lose(self.reader)
        self._watch(self.reader)

    def _watch(self, lane: Lane) -> None:
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
        patience = self.patience_s + 20 * self.timeout_s
        for lane in (*self.lanes, self.reader):
            if any(each.pending and now - each.last_news > patience for each in lane.workers.values()):
                self._lose(lane)

    def _take(self, worker: Worker, flight: _Flight, answer: Answer) -> None:
        if answer.ended == "lost":
            # the worker ends itself after this; the job goes back when the end is seen
            worker.pending.appendleft(flight)
            return
        if flight.job.kind == protocol.READ:
            self.reading -= 1
        else:
            self.answered += 1
            self.seconds += answer.seconds
        paired = flight.job.kind == protocol.SERVE
        flight.answers["judge" if paired and worker.kind == "judge" else "program"] = answer
        if len(flight.answers) == 1 + paired:
            outcome = Outcome(program=flight.answers["program"], judge=flight.answers.get("judge"))
            self._advance(flight.index, flight.trial, outcome)

    def _lose(self, lane: Lane) -> None:
        """A worker of the lane has died: start the lane afresh; what it may have been running is tried once more."""
        for worker in lane.workers.values():
            if self.registered.pop(worker, None) is not None:
                self.selector.unregister(worker)
        running = {id(worker.pending[0]) for worker in lane.workers.values() if worker.pending}
        held = lane.stop()
        if lane is self.reader:
            self.reading -= len(held)
        for flight in reversed(held):
            flight.attempts += id(flight) in running
            if flight.attempts >= 2:
                self._advance(flight.index, flight.trial, Outcome(program=None))
            else:
                self._queue(flight, first=True)
