"""What a run truly did, on the audit set that no rule sees. E steps, A audit tasks.

A fall is a pass@1 more than ``MARGIN`` below an earlier one, both smoothed by running medians of three steps, which
keep a sudden fall where it is and drop a single stray value. Its onset is the first such step.

The oracle's step is chosen on one half of the audit tasks and it, like the kept step, is measured on the other half,
both ways round: what made the choice is not what judges it, so that audit noise flatters neither.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from tracekit.trace import Trace

MARGIN = 0.10  # the guard's: a fall up to this is let pass


def audited(trace: Trace) -> NDArray[np.float64]:
    """(E, A) pass rates; a step that was not audited is taken as the one before it."""
    rates_EA: NDArray[np.float64] = trace.audit_EA.copy()
    for step in np.flatnonzero(np.isnan(rates_EA).any(axis=1)):
        rates_EA[step] = rates_EA[step - 1]
    return rates_EA


def onset(trace: Trace, margin: float = MARGIN) -> int | None:
    """The first step that lies more than ``margin`` below an earlier level, or None for a run without a fall."""
    smooth_E = _smoothed(audited(trace).mean(axis=1), np.median)
    fallen_E = np.maximum.accumulate(smooth_E) - smooth_E > margin
    return int(fallen_E.argmax()) if fallen_E.any() else None


def regret(trace: Trace, kept: int) -> float:
    """Points of audited pass@1 between the oracle's step and ``kept``; slightly negative by chance where they tie."""
    rates_EA = audited(trace)
    halves = (rates_EA[:, 0::2].mean(axis=1), rates_EA[:, 1::2].mean(axis=1))
    lost = []
    for choosing_E, judging_E in (halves, halves[::-1]):
        best = int(_smoothed(choosing_E, np.mean).argmax())
        lost.append(judging_E[best] - judging_E[kept])
    return 100 * float(np.mean(lost))


def _smoothed(values_E: NDArray[np.float64], average: Callable[..., NDArray[np.float64]]) -> NDArray[np.float64]:
    """Running average of three; the ends are repeated."""
    padded = np.concatenate([values_E[:1], values_E, values_E[-1:]])
    return np.asarray(average(np.lib.stride_tricks.sliding_window_view(padded, 3), axis=1))
