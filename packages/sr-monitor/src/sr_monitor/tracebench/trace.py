"""Recorded runs, and the samples a rule may draw from them.

Axes: E steps, T held-out tasks, S samples, A audit tasks. The format: docs/benchmarks/traces.md of the repository.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sr_monitor.errors import MonitorError


@dataclass(frozen=True)
class Trace:
    """One run without any control. Row e belongs to step e; a run that died is recorded up to its death.

    planned: steps the campaign was to have. passed_ETS: the pool of held-out samples. audit_EA: audited pass rates,
    NaN where a step was not audited. signals: of every step, as logged while training.
    """

    name: str
    seed: int
    planned: int
    train_samples: int
    passed_ETS: NDArray[np.bool_]
    audit_EA: NDArray[np.float64]
    signals: tuple[dict[str, float | None], ...]

    @property
    def last(self) -> int:
        """The last recorded step."""
        return len(self.signals) - 1

    @property
    def tasks(self) -> int:
        """Held-out tasks."""
        return int(self.passed_ETS.shape[1])

    @property
    def pool(self) -> int:
        """Recorded samples per held-out task and step."""
        return int(self.passed_ETS.shape[2])


def load(folder: Path) -> list[Trace]:
    """Every trace in ``folder``: files ``*.json.gz`` that hold one trace or a list of them.

    Raises MonitorError where there is none, or a file holds something else.
    """
    files = sorted(folder.glob("*.json.gz"))
    if not files:
        raise MonitorError(
            f"{folder} must hold traces (*.json.gz), none found: the repository has them in benchmarks/traces/data"
        )
    return [trace for file in files for trace in _read(file)]


def _read(file: Path) -> list[Trace]:
    try:
        content = json.loads(gzip.decompress(file.read_bytes()))
        return [_trace(one) for one in (content if isinstance(content, list) else [content])]
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise MonitorError(f"{file} holds no traces ({type(error).__name__}: {error}): get it again") from None


def split(traces: Iterable[Trace]) -> tuple[list[Trace], list[Trace]]:
    """(calibration, test): even seeds, which anything may be tuned on, and odd ones, which nothing may."""
    traces = list(traces)
    return [t for t in traces if t.seed % 2 == 0], [t for t in traces if t.seed % 2 == 1]


def _trace(data: dict[str, Any]) -> Trace:
    rows, pool = data["rows"], data["pool"]
    steps = [row["step"] for row in rows]
    if steps != list(range(len(rows))):
        raise MonitorError(f"{data['name']}: a row per step from 0 on is needed, got {steps}")
    known = next((len(row["audit"]) for row in rows if row["audit"]), 1)
    return Trace(
        name=data["name"],
        seed=data["seed"],
        planned=data["config"]["steps"],
        train_samples=data["train_samples"],
        passed_ETS=np.array([[_bits(task, pool) for task in row["heldout"]] for row in rows], dtype=np.bool_),
        audit_EA=np.array([_rates(row["audit"], known, data["audit_samples"]) for row in rows]),
        signals=tuple(row["signals"] for row in rows),
    )


def _bits(word: str | int, pool: int) -> list[bool]:
    number = int(word, 16) if isinstance(word, str) else word
    return [bool(number >> sample & 1) for sample in range(pool)]


def _rates(passes: Sequence[int] | None, tasks: int, samples: int) -> list[float]:
    return [float("nan")] * tasks if passes is None else [count / samples for count in passes]


class Pool:
    """Deals out the recorded samples of one trace to one rule, each at most once.

    drawn: samples dealt. short: requests that could not be met in full because a step's samples were used up.
    """

    def __init__(self, trace: Trace) -> None:
        self._passed_ETS = trace.passed_ETS
        self._next_ET = np.zeros(trace.passed_ETS.shape[:2], dtype=np.int64)
        self.drawn = self.short = 0

    def draw(self, step: int, samples: int, tasks: Sequence[int] | None = None) -> tuple[list[int], int]:
        """(passing samples of each task, samples per task): as many as asked for or, at the end, as are left."""
        where = list(range(self._passed_ETS.shape[1]) if tasks is None else tasks)
        begin = self._next_ET[step, where]
        dealt = max(0, min(samples, self._passed_ETS.shape[2] - int(begin.max())))
        self.short += dealt < samples
        self.drawn += dealt * len(where)
        self._next_ET[step, where] += dealt
        passes = [int(self._passed_ETS[step, t, b : b + dealt].sum()) for t, b in zip(where, begin, strict=True)]
        return passes, dealt
