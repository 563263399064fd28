"""Intervals for shares and for differences between arms. S seeds, M tasks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sr_monitor.errors import MonitorError

# Resamples per block: bounds memory at some megabytes whatever the number of draws.
_BLOCK = 1000


@dataclass(frozen=True)
class Interval:
    """An estimate and the bounds of its confidence interval."""

    estimate: float
    low: float
    high: float


def wilson(passed: int, total: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval for a share; it also covers at 0 and at 1, where the usual interval has no width.

    Wilson, J. Am. Stat. Assoc. 22 (1927) 209.
    """
    if not 0 <= passed <= total or total < 1:
        raise MonitorError(f"interval: need 0 <= passed <= total and total >= 1, got {passed} of {total}")
    z2 = _z(confidence) ** 2
    share = passed / total
    centre = (passed + z2 / 2) / (total + z2)
    half = math.sqrt(z2 * (share * (1 - share) * total + z2 / 4)) / (total + z2)
    # rounding must not push the bound past the share itself at 0 and at 1
    return Interval(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)))


def bootstrap(values: ArrayLike, *, confidence: float = 0.95, draws: int = 10_000, seed: int = 0) -> Interval:
    """Percentile interval of the mean. ``values``: (S,) one per seed, or (S, M) per seed and task.

    With two axes both are resampled (the tasks are the same for every seed), so that the interval
    holds for other seeds and other tasks. Deterministic from ``seed``. Five values make a rough interval at best.
    """
    values_SM = np.asarray(values, dtype=np.float64)
    if values_SM.ndim == 1:
        values_SM = values_SM[:, None]
    if values_SM.ndim != 2 or values_SM.size == 0 or not np.isfinite(values_SM).all():
        raise MonitorError(
            f"bootstrap: need finite values of shape (seeds,) or (seeds, tasks), got {np.shape(values)}; leave "
            "out what was not measured"
        )
    _z(confidence)
    means_D = _resampled_means(values_SM, draws, np.random.default_rng(seed))
    low, high = np.quantile(means_D, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(values_SM.mean()), float(low), float(high))


def paired_bootstrap(
    ours: ArrayLike, theirs: ArrayLike, *, confidence: float = 0.95, draws: int = 10_000, seed: int = 0
) -> Interval:
    """Interval of the mean of ours - theirs, both measured on the same seeds (and the same tasks)."""
    a, b = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if a.shape != b.shape:
        raise MonitorError(f"paired bootstrap: shapes must be equal, got {a.shape} and {b.shape}; pair by seed")
    return bootstrap(a - b, confidence=confidence, draws=draws, seed=seed)


def _resampled_means(values_SM: NDArray[np.float64], draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    seeds, tasks = values_SM.shape
    blocks = []
    for done in range(0, draws, _BLOCK):
        size = min(_BLOCK, draws - done)
        weights_DS = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size) / seeds
        weights_DM = rng.multinomial(tasks, np.full(tasks, 1 / tasks), size) / tasks
        blocks.append(((weights_DS @ values_SM) * weights_DM).sum(axis=1))
    return np.concatenate(blocks)


def _z(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise MonitorError(f"interval: confidence must lie in (0, 1), got {confidence}")
    return NormalDist().inv_cdf((1 + confidence) / 2)
