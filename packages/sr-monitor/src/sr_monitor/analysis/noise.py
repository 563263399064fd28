"""The noise null: the curves of a policy that never changes. D draws, E evaluations.

The best of many noisy evaluations lies above the last one even then (the winner's curse), and most of that "fall"
happens in a single step. A fall counts as real when the null seldom shows one as large.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sr_monitor.analysis.curve import Curve
from sr_monitor.analysis.trajectory import Trajectory, one_step_share, onset
from sr_monitor.errors import MonitorError

# The least standard error assumed where it is estimated from the curve: of a pass rate, and of another metric as a
# share of its range.
LEAST_SE = 0.01
# Share of a curve's second differences that its scatter leaves out, the largest ones: a real jump makes two of them.
_JUMPS = 0.25
# Below this many samples in an evaluation the exact distribution of pass@1 is drawn, above it a normal one.
_EXACT_BELOW = 400


@dataclass(frozen=True, eq=False)
class NoiseNull:
    """D campaigns of a policy that never changes; every row of ``pass1_DE`` is one campaign's curve."""

    pass1_DE: NDArray[np.float64]

    @property
    def peak_D(self) -> NDArray[np.float64]:
        return np.asarray(self.pass1_DE.max(axis=1))

    @property
    def gap_D(self) -> NDArray[np.float64]:
        """Peak minus end."""
        return self.peak_D - self.pass1_DE[:, -1]

    @property
    def one_step_share_D(self) -> NDArray[np.float64]:
        """Largest one-step fall after the peak over the gap; NaN where there is no gap."""
        shares = [one_step_share(row) for row in self.pass1_DE]
        return np.array([math.nan if share is None else share for share in shares])

    @property
    def onset_D(self) -> NDArray[np.float64]:
        """Index of the evaluation at which the "fall" sets in; NaN where there is none."""
        onsets = [onset(row) for row in self.pass1_DE]
        return np.array([math.nan if where is None else where for where in onsets])

    def p_value(self, gap: float) -> float:
        """Probability that a policy that never changes shows a gap at least this large."""
        # equal gaps computed in different ways may differ by rounding
        return float((1 + (self.gap_D >= gap - 1e-12).sum()) / (1 + len(self.pass1_DE)))


def draws_for(evaluations: int) -> int:
    """Campaigns to simulate by default: 4,000, fewer for very long ones, which bounds memory and time."""
    return max(400, min(4000, 4_000_000 // evaluations))


def noise_null(
    rates: ArrayLike, samples: int, evaluations: int, *, draws: int | None = None, seed: int = 0
) -> NoiseNull:
    """Simulate an evaluation design: true pass ``rates`` of the tasks, ``samples`` per task, ``evaluations``.

    Deterministic from ``seed``.
    """
    rates_M = np.atleast_1d(np.asarray(rates, dtype=np.float64))
    if rates_M.ndim != 1 or not ((rates_M >= 0) & (rates_M <= 1)).all() or rates_M.size == 0:
        raise MonitorError("noise null: rates must be one number in [0, 1] per task")
    if samples < 1 or evaluations < 1:
        raise MonitorError(f"noise null: samples and evaluations must be positive, got {samples} and {evaluations}")
    draws = draws or draws_for(evaluations)
    rng = np.random.default_rng(seed)
    tasks = len(rates_M)
    if tasks * samples < _EXACT_BELOW:
        passes_DE = np.zeros((draws, evaluations))
        for rate in rates_M:
            passes_DE += rng.binomial(samples, rate, (draws, evaluations))
        return NoiseNull(passes_DE / (tasks * samples))
    se = math.sqrt((rates_M * (1 - rates_M)).sum() / samples) / tasks
    return NoiseNull(np.clip(rates_M.mean() + se * rng.standard_normal((draws, evaluations)), 0, 1))


def null_of(trajectory: Trajectory, *, draws: int | None = None, seed: int = 0) -> NoiseNull | None:
    """The null for a recorded campaign's own design, at its pass rates pooled over all evaluations.

    Pooling gives tasks that were learned a rate near one half, the noisiest there is, so p-values err upwards.
    None where neither counts nor standard errors are known.
    """
    evaluations = len(trajectory.steps)
    if trajectory.passes_EM is not None and trajectory.samples_E is not None:
        rates_M = trajectory.passes_EM.sum(axis=0) / trajectory.samples_E.sum()
        return noise_null(rates_M, int(trajectory.samples_E.min()), evaluations, draws=draws, seed=seed)
    se_E = trajectory.standard_errors_E()
    if not np.isfinite(se_E).any():
        return None
    draws = draws or draws_for(evaluations)
    noise_DE = float(np.nanmax(se_E)) * np.random.default_rng(seed).standard_normal((draws, evaluations))
    return NoiseNull(np.clip(trajectory.pass1_E.mean() + noise_DE, 0, 1))


def null_of_curve(curve: Curve, *, draws: int | None = None, seed: int = 0) -> NoiseNull | None:
    """The null for a curve on any scale, turned so that higher is better; None where the noise is not known."""
    if curve.trajectory is not None:
        return null_of(curve.trajectory, draws=draws, seed=seed)
    if not np.isfinite(curve.se_E).any():
        return None
    evaluations = len(curve.steps)
    noise_DE = np.random.default_rng(seed).standard_normal((draws or draws_for(evaluations), evaluations))
    return NoiseNull(curve.rising_E.mean() + float(np.nanmax(curve.se_E)) * noise_DE)


def scatter(values_DE: NDArray[np.float64]) -> NDArray[np.float64]:
    """The standard error of single evaluations as curves (rows, of at least three values) show it by their zigzag.

    The root mean square of the second differences, without the largest ones: a trend hardly touches it.
    """
    squares = np.sort(np.diff(values_DE, n=2, axis=-1) ** 2, axis=-1)
    kept = max(1, math.floor((1 - _JUMPS) * squares.shape[-1]))
    return np.asarray(np.sqrt(squares[..., :kept].mean(axis=-1) / 6))


def p_value_by_scatter(curve: Curve) -> float:
    """How often a policy that never changes shows as large a gap, in units of its curve's own scatter.

    For evaluations of unknown size. Few evaluations say little about their noise; as the null estimates its noise from
    as few, the p-value holds for any number of them. It assumes normal noise of one size.
    """
    least = LEAST_SE * (1.0 if curve.metric.kind == "pass_rate" else float(np.ptp(curve.values_E)))
    noise = max(least, float(scatter(curve.values_E)))
    if curve.gap == 0 or noise == 0:
        return 1.0
    null_D = _gaps_over_scatter(len(curve.steps))
    return float((1 + (null_D >= curve.gap / noise).sum()) / (1 + len(null_D)))


@lru_cache(maxsize=64)
def _gaps_over_scatter(evaluations: int) -> NDArray[np.float64]:
    """Gap over scatter of the curves of a policy that never changes: the size of the noise cancels out."""
    draws = draws_for(evaluations)
    null = NoiseNull(np.random.default_rng(0).standard_normal((draws, evaluations)))
    return null.gap_D / scatter(null.pass1_DE)


def corrected_peak(trajectory: Trajectory, *, draws: int | None = None, seed: int = 0) -> float | None:
    """The peak without the winner's curse: its height minus the mean upward bias of the maximum.

    The bias is measured on simulated campaigns around the curve smoothed by medians of three. None where the noise is
    not known. It corrects the mean, not the single case.
    """
    se_E = trajectory.standard_errors_E()
    if not np.isfinite(se_E).all():
        return None
    draws = draws or draws_for(len(trajectory.steps))
    padded = np.concatenate([trajectory.pass1_E[:1], trajectory.pass1_E, trajectory.pass1_E[-1:]])
    smooth_E = np.median(np.lib.stride_tricks.sliding_window_view(padded, 3), axis=1)
    seen_DE = smooth_E + se_E * np.random.default_rng(seed).standard_normal((draws, len(smooth_E)))
    bias_D = seen_DE.max(axis=1) - smooth_E[seen_DE.argmax(axis=1)]
    return float(np.clip(trajectory.peak - bias_D.mean(), 0, 1))
