"""Passing samples per task, and how far one policy lies below another. M tasks.

Sums over tasks are exact before they are rounded (``math.fsum``), so that the order of the tasks never breaks a tie.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sr_monitor.errors import MonitorError


@dataclass(frozen=True)
class Counts:
    """passes_M of samples_M, both integers; a task that was not sampled has samples 0."""

    passes_M: NDArray[np.int64]
    samples_M: NDArray[np.int64]

    @classmethod
    def of(
        cls, passes: Sequence[int], samples: int, tasks: Sequence[int] | None = None, total: int | None = None
    ) -> Counts:
        """Counts from an evaluation of all tasks, or of ``tasks`` (indices) out of ``total``."""
        given = np.asarray(passes)
        if given.ndim != 1 or given.size == 0:
            raise MonitorError(
                f"evaluation: passes must be one count per task, got shape {given.shape}; pass a flat list"
            )
        whole = given.astype(np.int64)
        if samples < 1 or (whole != given).any() or (whole < 0).any() or (whole > samples).any():
            raise MonitorError(
                f"evaluation: counts must be whole numbers in 0..samples, got {given.min()}..{given.max()} "
                f"of {samples}; pass the number of passing samples of each task, not a rate"
            )
        if tasks is None:
            if total is not None and len(whole) != total:
                raise MonitorError(
                    f"evaluation: {len(whole)} tasks, earlier ones had {total}; evaluate the same held-out "
                    "tasks, or say which with tasks="
                )
            return cls(whole, np.full(len(whole), samples, dtype=np.int64))
        return cls._scattered(whole, samples, tasks, total)

    @classmethod
    def _scattered(cls, whole: NDArray[np.int64], samples: int, tasks: Sequence[int], total: int | None) -> Counts:
        where = np.asarray(tasks, dtype=np.int64)
        size = total if total is not None else int(where.max(initial=-1)) + 1
        if where.shape != whole.shape or len(set(where.tolist())) != len(where):
            raise MonitorError(f"evaluation: {len(whole)} counts for {len(where)} distinct tasks; pass one each")
        if (where < 0).any() or (where >= size).any():
            raise MonitorError(f"evaluation: task indices must lie in 0..{size - 1}, got {where.min()}..{where.max()}")
        passes_M = np.zeros(size, dtype=np.int64)
        samples_M = np.zeros(size, dtype=np.int64)
        passes_M[where] = whole
        samples_M[where] = samples
        return cls(passes_M, samples_M)

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.passes_M + other.passes_M, self.samples_M + other.samples_M)

    @property
    def pass1(self) -> float:
        """Mean over the sampled tasks of the share that passed."""
        return self.pass1_on(None)

    def pass1_on(self, tasks: Sequence[int] | None) -> float:
        """The same over those of ``tasks`` (None: all) that were sampled."""
        where = slice(None) if tasks is None else list(tasks)
        passes_M, samples_M = self.passes_M[where], self.samples_M[where]
        seen = samples_M > 0
        return _mean(passes_M[seen] / samples_M[seen])

    def variance_on(self, tasks: Sequence[int] | None) -> float:
        """Sampling variance of ``pass1_on(tasks)``, the tasks given.

        Rates are smoothed towards 1/2 by half a sample (Jeffreys' prior), so that 0 of 16 is no certainty.
        """
        where = slice(None) if tasks is None else list(tasks)
        passes_M, samples_M = self.passes_M[where], self.samples_M[where]
        seen = samples_M > 0
        rate_M = (passes_M[seen] + 0.5) / (samples_M[seen] + 1)
        return _mean(rate_M * (1 - rate_M) / samples_M[seen]) / int(seen.sum())

    def to_json(self) -> dict[str, Any]:
        return {"passes": self.passes_M.tolist(), "samples": self.samples_M.tolist()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Counts:
        return cls(np.asarray(data["passes"], dtype=np.int64), np.asarray(data["samples"], dtype=np.int64))


@dataclass(frozen=True)
class Fall:
    """drop: pass@1 of the reference minus that of the other, on tasks both have; se: its standard error.

    reference: pass@1 of the reference on these tasks.
    """

    drop: float
    se: float
    reference: float

    def z(self, margin: float = 0.0) -> float:
        """Standard errors by which the drop exceeds ``margin``."""
        return (self.drop - margin) / self.se

    def lower(self, z: float) -> float:
        """The drop that is at least there, ``z`` standard errors below the one seen."""
        return self.drop - z * self.se


def fall(reference: Counts, other: Counts) -> Fall:
    """How far ``other`` lies below ``reference``, paired by task.

    The variance is the larger of two: sampling noise on these very tasks, as if both were drawn independently, and the
    spread of the per-task differences, which also knows that other tasks could have been drawn. Samples drawn with the
    same random numbers differ by less, but tasks of one kind rise and fall together, which neither knows.
    """
    both = np.flatnonzero((reference.samples_M > 0) & (other.samples_M > 0))
    if both.size == 0:
        raise MonitorError("fall: the two evaluations share no task; evaluate some of the same tasks")
    differences_M = reference.passes_M[both] / reference.samples_M[both] - other.passes_M[both] / other.samples_M[both]
    variance = reference.variance_on(both.tolist()) + other.variance_on(both.tolist())
    drop = _mean(differences_M)
    if both.size > 1:
        variance = max(variance, _mean((differences_M - drop) ** 2) / (both.size - 1))
    return Fall(drop, math.sqrt(variance), reference.pass1_on(both.tolist()))


def _mean(values_M: NDArray[np.float64]) -> float:
    return math.fsum(values_M.tolist()) / len(values_M)
