"""A grader on a Ray cluster: one pool of workers per node, batches spread over them."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from sr_reward.errors import RewardError, TaskError
from sr_reward.grading.grade import INFRA_ERROR, Grade
from sr_reward.grading.grader import CodeGrader
from sr_reward.sandbox import LEVELS
from sr_reward.task import Task

CHUNK = 32  # samples per message: a lost node costs no more than its chunks
AHEAD = 2  # chunks sent to a node before its answers
ATTEMPTS = 3  # nodes that may be lost under one chunk

Chunk = list[tuple[int, Task, str, bool]]


class _Pool:
    """Runs on a node: its ``CodeGrader``."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.grader = CodeGrader(**settings)

    def isolation(self) -> str:
        return self.grader.isolation

    def grade(self, chunk: Chunk) -> list[tuple[int, Grade]]:
        indices, tasks, texts, whole = zip(*chunk, strict=True)
        return [(indices[at], grade) for at, grade in self.grader.stream(tasks, texts, solutions=whole)]


class RayGrader:
    """``CodeGrader`` over every node of the cluster at ``address`` that is alive when it is made.

    ``settings`` are those of ``CodeGrader``, for each node's own. sr-reward must be installed on the nodes. When a
    node is lost its share goes to the others; when none is left the rest of the batch is ``infra_error``. Raises
    TaskError where Ray is missing or not to be reached, and what the graders of the nodes raise.
    """

    def __init__(self, address: str, **settings: Any) -> None:
        try:
            import ray
        except ImportError:
            raise TaskError("grading on a cluster needs ray, got none; pip install ray") from None
        self._ray = ray
        self._joined = not ray.is_initialized()
        if self._joined:
            try:
                _knock(address)  # Ray itself would try for more than a minute
                ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
            except (OSError, ValueError, RuntimeError) as error:
                reason = " ".join(str(error).split())[:200]
                raise TaskError(f"no Ray cluster answers at {address}: {reason}; name a running one") from None
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as Affinity

        pool = ray.remote(num_cpus=0)(_Pool)
        nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
        self._pools = [pool.options(scheduling_strategy=Affinity(node, soft=False)).remote(settings) for node in nodes]
        try:
            levels = ray.get([each.isolation.remote() for each in self._pools])
        except RewardError as error:  # also a TaskError of Ray's making, which is of our type too
            self.close()
            raise getattr(error, "cause", error) from None
        self.isolation = max(levels, key=LEVELS.index)  # the weakest

    def grade(self, tasks: Sequence[Task], completions: Sequence[str], *, solutions: bool = False) -> list[Grade]:
        """One grade per sample, in order, as ``CodeGrader.grade``."""
        grades = dict(self.stream(tasks, completions, solutions=solutions))
        return [grades[index] for index in range(len(tasks))]

    def stream(
        self, tasks: Sequence[Task], completions: Sequence[str], *, solutions: bool | Sequence[bool] = False
    ) -> Iterator[tuple[int, Grade]]:
        """``(index, grade)`` as chunks come back, in no fixed order."""
        if len(tasks) != len(completions):
            raise TaskError(f"tasks and completions go in pairs, got {len(tasks)} and {len(completions)}")
        whole = [solutions] * len(tasks) if isinstance(solutions, bool) else solutions
        rows = list(zip(range(len(tasks)), tasks, completions, whole, strict=True))
        waiting = deque((rows[start : start + CHUNK], 0) for start in range(0, len(rows), CHUNK))
        flying: dict[Any, tuple[Any, Chunk, int]] = {}
        while waiting or flying:
            load = [pool for pool, _, _ in flying.values()]
            for pool in self._pools:
                for _ in range(AHEAD - load.count(pool)):
                    if waiting:
                        chunk, attempts = waiting.popleft()
                        flying[pool.grade.remote(chunk)] = (pool, chunk, attempts)
            if not flying:
                yield from ((index, INFRA_ERROR) for chunk, _ in waiting for index, *_ in chunk)
                return
            (done, *_), _ = self._ray.wait(list(flying))
            pool, chunk, attempts = flying.pop(done)
            try:
                grades = self._ray.get(done)
            except self._ray.exceptions.RayTaskError as error:
                raise getattr(error, "cause", error) from None
            except self._ray.exceptions.RayError:  # the node, or its pool, is gone
                if pool in self._pools:
                    self._pools.remove(pool)
                if attempts + 1 < ATTEMPTS:
                    waiting.append((chunk, attempts + 1))
                else:
                    yield from ((index, INFRA_ERROR) for index, *_ in chunk)
            else:
                yield from grades

    def close(self) -> None:
        """End the pools, and leave the cluster if this object joined it."""
        for pool in self._pools:
            self._ray.kill(pool)
        self._pools = []
        if self._joined:
            self._ray.shutdown()

    def __enter__(self) -> RayGrader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _knock(address: str) -> None:
    """Raise OSError if nobody listens at a ``host:port``; other forms of address are Ray's to resolve."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=10).close()
