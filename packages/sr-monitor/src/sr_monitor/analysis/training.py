"""What a log without held-out values still shows: the course of the training reward, and which signals moved.

Training reward is no verdict: it is measured on other tasks every step, and it can stay high while held-out results
fall. But a fall of it beyond batch noise says where to look for a better checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sr_monitor.analysis.noise import draws_for
from sr_monitor.analysis.runs import Campaign

FEWEST_STEPS = 12
# Steps in a smoothing window: a twentieth of the run, within these.
WINDOWS = (5, 50)
SIGNIFICANCE = 0.05
# A signal moved when its mean changed by so many standard errors, and by this share of its larger mean.
MOVED_Z, MOVED_SHARE = 4.0, 0.25
SIGNS: Mapping[str, str] = {
    "zero_std_groups": "equal-reward groups",
    "entropy": "entropy",
    "length": "length",
    "truncated": "truncated share",
    "grad_norm": "gradient norm",
    "kl": "KL to the reference",
}


@dataclass(frozen=True, kw_only=True)
class Course:
    """The training reward, smoothed over ``window`` logged steps: its peak, its last value.

    p_value: how often a reward with the same batch noise and no trend shows as large a fall.
    """

    window: int
    peak: float
    peak_step: int
    now: float
    last_step: int
    p_value: float

    @property
    def fell(self) -> bool:
        return self.p_value <= SIGNIFICANCE and self.now < self.peak


@dataclass(frozen=True, kw_only=True)
class Move:
    """The mean of a signal around the peak of the training reward, and over the last window."""

    name: str
    before: float
    now: float


def course_of(steps: Sequence[int], rewards: Sequence[float], *, seed: int = 0) -> Course | None:
    """The course of a training reward; None for fewer than ``FEWEST_STEPS`` finite values.

    Batch noise is half the mean squared change from step to step, which a trend hardly touches. The null draws
    rewards without trend from it, smooths them alike, and compares the falls from their best window.
    """
    pairs = [(s, r) for s, r in zip(steps, rewards, strict=True) if math.isfinite(r)]
    if len(pairs) < FEWEST_STEPS:
        return None
    steps_T, rewards_T = [s for s, _ in pairs], np.array([r for _, r in pairs])
    window = window_of(len(pairs))
    smooth = _smoothed(rewards_T, window)
    at = int(smooth.argmax())
    noise = math.sqrt(float((np.diff(rewards_T) ** 2).mean()) / 2)
    draws = min(1000, draws_for(len(pairs)))
    drawn = noise * np.random.default_rng(seed).standard_normal((draws, len(pairs)))
    smooth_D = _smoothed(drawn, window)
    gap, gap_D = smooth[at] - smooth[-1], smooth_D.max(axis=1) - smooth_D[:, -1]
    return Course(
        window=window,
        peak=float(smooth[at]),
        peak_step=steps_T[at + window // 2],
        now=float(smooth[-1]),
        last_step=steps_T[-1],
        p_value=float((1 + (gap_D >= gap - 1e-12).sum()) / (1 + draws)),
    )


def moves_of(campaign: Campaign, peak_step: int) -> list[Move]:
    """The signals whose mean over the last window differs from that around ``peak_step`` by more than their noise."""
    moves = []
    for name in SIGNS:
        found = [(r.step, r.signals[name]) for r in campaign.records if math.isfinite(r.signals.get(name, math.nan))]
        if len(found) < FEWEST_STEPS:
            continue
        values = np.array([value for _, value in found])
        window = window_of(len(found))
        nearest = min(range(len(found)), key=lambda i: abs(found[i][0] - peak_step))
        begin = min(max(0, nearest - window // 2), len(found) - window)
        before, now = float(values[begin : begin + window].mean()), float(values[-window:].mean())
        se = math.sqrt(float((np.diff(values) ** 2).mean()) / 2 * 2 / window)
        if abs(now - before) > max(MOVED_Z * se, MOVED_SHARE * max(abs(now), abs(before))):
            moves.append(Move(name=name, before=before, now=now))
    return moves


def window_of(count: int) -> int:
    """Logged steps to smooth over."""
    return min(max(count // 20, WINDOWS[0]), WINDOWS[1])


def _smoothed(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Moving averages over the last axis."""
    return np.asarray(sliding_window_view(values, window, axis=-1).mean(axis=-1))
