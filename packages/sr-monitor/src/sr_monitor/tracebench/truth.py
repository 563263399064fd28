"""What a run truly did, on the audit set, which no rule is given. E steps, A audit tasks.

A fall is a pass@1 below an earlier one by more than sr-monitor's tolerance (10 points, or half of the earlier one where
that is less), both smoothed by running medians of three steps, which keep a sudden fall where it is and drop a single
stray value. Its onset is the first such step.

The oracle's step is chosen on nine tenths of the audit tasks, and it and the kept step are measured on the tenth that
is left, ten times over: different samples choose and judge, so audit noise biases neither upward.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sr_monitor.analysis.margin import MARGIN, margin_at
from sr_monitor.tracebench.trace import Trace

FOLDS = 10


def audited(trace: Trace) -> NDArray[np.float64]:
    """(E, A) pass rates; a step that was not audited is taken as the one before it."""
    rates_EA: NDArray[np.float64] = trace.audit_EA.copy()
    for step in np.flatnonzero(np.isnan(rates_EA).any(axis=1)):
        rates_EA[step] = rates_EA[step - 1]
    return rates_EA


def onset(trace: Trace, margin: float = MARGIN) -> int | None:
    """The first step that lies more than the tolerance below an earlier level, or None for a run without a fall."""
    smooth_E = np.median(_threes(audited(trace).mean(axis=1)), axis=1)
    peak_E = np.maximum.accumulate(smooth_E)
    fallen_E = peak_E - smooth_E > np.array([margin_at(peak, margin) for peak in peak_E.tolist()])
    return int(fallen_E.argmax()) if fallen_E.any() else None


def regret(trace: Trace, kept: int) -> float:
    """Points of audited pass@1 between the oracle's step and ``kept``; slightly negative by chance where they tie."""
    rates_EA = audited(trace)
    fold_A = np.arange(rates_EA.shape[1]) % FOLDS
    lost_A = np.empty(rates_EA.shape[1])
    for fold in range(FOLDS):
        judging_A = fold_A == fold
        best = int(_lightly_smoothed(rates_EA[:, ~judging_A].mean(axis=1)).argmax())
        lost_A[judging_A] = rates_EA[best, judging_A] - rates_EA[kept, judging_A]
    return 100 * float(lost_A.mean())


def _lightly_smoothed(values_E: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights 1, 2, 1: of the raw and the smoothed curves tried, the one by which the oracle chooses best."""
    return np.asarray(_threes(values_E) @ np.array([0.25, 0.5, 0.25]))


def _threes(values_E: NDArray[np.float64]) -> NDArray[np.float64]:
    """(E, 3): each value between its neighbours; the ends are repeated."""
    return np.lib.stride_tricks.sliding_window_view(np.concatenate([values_E[:1], values_E, values_E[-1:]]), 3)
