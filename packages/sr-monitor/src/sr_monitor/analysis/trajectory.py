"""A campaign as a curve of held-out pass@1, and the paper's quantities of it. E evaluations, M tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sr_monitor.errors import MonitorError

# A campaign whose pass@1 ends more than this below its peak has collapsed (the paper's definition).
COLLAPSE_GAP = 0.20


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Held-out pass@1 at E evaluated steps, with counts per task where they are known.

    steps: strictly increasing. pass1_E: in [0, 1]. passes_EM of samples_E: passing samples per task, or None.
    se_E: standard errors, where they are known and the counts are not.
    """

    steps: tuple[int, ...]
    pass1_E: NDArray[np.float64]
    passes_EM: NDArray[np.int64] | None = None
    samples_E: NDArray[np.int64] | None = None
    se_E: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if not self.steps:
            raise MonitorError("trajectory: at least one evaluation is needed, got none")
        if any(later <= earlier for earlier, later in zip(self.steps, self.steps[1:], strict=False)):
            raise MonitorError(f"trajectory: steps must increase, got {list(self.steps)}; sort and drop repeats")
        if self.pass1_E.shape != (len(self.steps),):
            raise MonitorError(f"trajectory: one pass@1 per step, got {self.pass1_E.shape} for {len(self.steps)} steps")
        if not ((self.pass1_E >= 0) & (self.pass1_E <= 1)).all():
            raise MonitorError(
                f"trajectory: pass@1 must lie in [0, 1], got {self.pass1_E.min()}..{self.pass1_E.max()}; "
                "leave out what was not measured, divide percentages by 100"
            )

    @classmethod
    def from_counts(
        cls, steps: Sequence[int], passes: Sequence[Sequence[int]], samples: int | Sequence[int]
    ) -> Trajectory:
        """From passing samples per task at every step, of ``samples`` each (one number, or one per step)."""
        try:
            passes_EM = np.array([list(row) for row in passes], dtype=np.int64)
        except ValueError as error:
            raise MonitorError(
                "trajectory: every step must count the same tasks; got rows of unequal length"
            ) from error
        samples_E = np.broadcast_to(np.asarray(samples, dtype=np.int64), (len(passes_EM),)).copy()
        if passes_EM.ndim != 2 or (passes_EM < 0).any() or (passes_EM > samples_E[:, None]).any():
            raise MonitorError(f"trajectory: counts must lie in 0..{samples}, one row per step and one column per task")
        return cls(tuple(steps), (passes_EM / samples_E[:, None]).mean(axis=1), passes_EM, samples_E)

    @classmethod
    def from_rates(
        cls,
        steps: Sequence[int],
        pass1: Sequence[float],
        *,
        se: Sequence[float] | None = None,
        total_samples: int | None = None,
    ) -> Trajectory:
        """From pass@1 alone, with its standard errors or the samples (tasks x samples per task) behind each.

        From ``total_samples`` the noise is that of equally hard tasks, the largest it can be.
        """
        pass1_E = np.asarray(pass1, dtype=np.float64)
        se_E = None if se is None else np.asarray(se, dtype=np.float64)
        if se_E is None and total_samples is not None:
            smooth_E = (pass1_E * total_samples + 0.5) / (total_samples + 1)
            se_E = np.sqrt(smooth_E * (1 - smooth_E) / total_samples)
        return cls(tuple(steps), pass1_E, se_E=se_E)

    @property
    def start(self) -> float:
        return float(self.pass1_E[0])

    @property
    def end(self) -> float:
        return float(self.pass1_E[-1])

    @property
    def peak(self) -> float:
        return float(self.pass1_E.max())

    @property
    def peak_step(self) -> int:
        """The first step at which the highest pass@1 was seen."""
        return self.steps[int(self.pass1_E.argmax())]

    @property
    def gap(self) -> float:
        return peak_end_gap(self.pass1_E)

    @property
    def collapsed(self) -> bool:
        return self.gap > COLLAPSE_GAP

    @property
    def one_step_share(self) -> float | None:
        return one_step_share(self.pass1_E)

    @property
    def onset(self) -> int | None:
        """The step at which the fall sets in, or None for a campaign that did not collapse."""
        where = onset(self.pass1_E)
        return self.steps[where] if where is not None and self.collapsed else None

    @property
    def pass1_per_100_steps(self) -> float | None:
        """Points of pass@1 (0 to 100) gained from start to end, per 100 steps; None for a single step."""
        length = self.steps[-1] - self.steps[0]
        return 100 * 100 * (self.end - self.start) / length if length else None

    def standard_errors_E(self) -> NDArray[np.float64]:
        """Sampling noise of every pass@1 on these tasks; NaN where it is not known."""
        if self.passes_EM is None or self.samples_E is None:
            return np.full(len(self.steps), math.nan) if self.se_E is None else self.se_E
        samples_E1 = self.samples_E[:, None]
        rate_EM = (self.passes_EM + 0.5) / (samples_E1 + 1)
        variance_E: NDArray[np.float64] = (rate_EM * (1 - rate_EM) / samples_E1).mean(axis=1) / rate_EM.shape[1]
        return np.sqrt(variance_E)


def peak_end_gap(pass1_E: NDArray[np.float64]) -> float:
    """Highest minus last pass@1: never negative."""
    return float(pass1_E.max() - pass1_E[-1])


def one_step_share(pass1_E: NDArray[np.float64]) -> float | None:
    """The largest fall between neighbouring evaluations after the peak, as a share of the gap; None without.

    It exceeds 1 where the curve fell further than its end.
    """
    gap = peak_end_gap(pass1_E)
    if gap <= 0:
        return None
    after = pass1_E[int(pass1_E.argmax()) :]
    return float(-np.diff(after).min() / gap)


def onset(pass1_E: NDArray[np.float64]) -> int | None:
    """Index from which on pass@1 stays in the lower half between end and peak; None without a gap.

    Our definition (the paper gives none): the last crossing of the middle, so that a dip that recovers is no
    onset.
    """
    if peak_end_gap(pass1_E) <= 0:
        return None
    middle = (pass1_E.max() + pass1_E[-1]) / 2
    return int(np.flatnonzero(pass1_E > middle)[-1]) + 1


def collapse_rate(trajectories: Sequence[Trajectory]) -> float:
    """Share of campaigns that collapsed."""
    if not trajectories:
        raise MonitorError("collapse rate: at least one campaign is needed, got none")
    return sum(t.collapsed for t in trajectories) / len(trajectories)
