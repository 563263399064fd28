"""What a policy can do, as a vector, and how well a change of it is known.

Every capability is a mean over tasks of a value per task, all from the same samples, at no cost beyond the evaluation:

- ``pass1``: share of samples that passed; ``hard``: the same on the tasks whose ``tier`` is "hard";
- ``pass16``: the chance that one of 16 samples passes, unbiased (Chen et al., arXiv 2107.03374), from 16 samples up;
- ``diversity``: share of different answers among a task's samples; it falls with the number of samples, so only
  evaluations with equally many compare;
- ``well_formed``: share of samples that hold a program which Python can parse.

``ood`` is ``pass1`` on tasks of families that are never trained on, where there are such tasks: the one capability that
takes samples of its own. What fewer than two tasks measure is left out.

Axes: N tasks, C capabilities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sr_core.protocols import Task

__all__ = ["CAPABILITIES", "capability_change", "task_values"]

CAPABILITIES = ("pass1", "pass16", "hard", "diversity", "well_formed")
_K = 16

Floats = NDArray[np.float64]


def task_values(tasks: Sequence[Task], row: Mapping[str, Any]) -> Floats:
    """The values (N, C) of the evaluation that a metrics row holds; NaN where a task does not count."""
    samples = row["heldout_samples"]
    pass1 = np.array(row["heldout_passes"]) / samples
    hard = np.array([getattr(task, "tier", "") == "hard" for task in tasks])
    if samples >= _K:
        failing = [comb(samples - passed, _K) / comb(samples, _K) for passed in row["heldout_passes"]]
        pass16 = 1 - np.array(failing)
    else:
        pass16 = np.full(len(pass1), np.nan)
    shares = [np.array(row[name]) / samples for name in ("heldout_unique", "heldout_well_formed")]
    return np.stack([pass1, pass16, np.where(hard, pass1, np.nan), *shares], axis=1)


def capability_change(
    before_NC: Floats, after_NC: Floats, names: Sequence[str] = CAPABILITIES
) -> dict[str, dict[str, Any]]:
    """The vectors ``before`` and ``after``, and the ``covariance`` of the error of after minus before, by names.

    Both were measured on the same tasks, so the error is that of a mean of paired differences: it holds the noise of
    the samples and how differently tasks react, not how hard the drawn tasks are. It is a sum of squares over tasks,
    hence positive semi-definite.
    """
    counts = (~np.isnan(before_NC)).sum(axis=0)
    seen = np.flatnonzero(counts >= 2)
    before, after, n = before_NC[:, seen], after_NC[:, seen], counts[seen]
    difference = after - before
    centred = np.nan_to_num(difference - np.nanmean(difference, axis=0)) / np.sqrt(n * (n - 1))
    covariance = centred.T @ centred
    known = [names[int(i)] for i in seen]

    def named(values: Any) -> dict[str, Any]:
        return dict(zip(known, values, strict=True))

    return {
        "before": named(np.nanmean(before, axis=0).tolist()),
        "after": named(np.nanmean(after, axis=0).tolist()),
        "covariance": named([named(row) for row in covariance.tolist()]),
    }
