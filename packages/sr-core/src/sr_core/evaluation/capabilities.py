"""What a policy can do, as a vector, and how well a change of it is known.

Every capability is a mean over tasks of a value per task, all from the same samples, at no cost beyond the evaluation:

- ``pass1``: share of samples that passed; ``hard``: the same on the tasks whose ``tier`` is "hard";
- ``pass16``: the chance that one of 16 samples passes, unbiased (Chen et al., arXiv 2107.03374), from 16 samples up;
- ``diversity``: share of different answers among a task's samples; it falls with the number of samples, so a change is
  given only between evaluations with equally many;
- ``well_formed``: share of samples that hold a program which Python can parse.

``ood`` is ``pass1`` on tasks of families that are never trained on, where there are such tasks: the one capability that
takes samples of its own. What fewer than two tasks measure is left out.

Axes: N tasks, C capabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sr_core.evaluation.evaluate import HeldOut
from sr_core.protocols import Task

__all__ = ["CAPABILITIES", "CapabilityChange", "task_values"]

CAPABILITIES = ("pass1", "pass16", "hard", "diversity", "well_formed")
_BY_SAMPLES = ("diversity",)  # values that depend on the number of samples
_K = 16

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class CapabilityChange:
    """The vectors ``before`` and ``after``, and the ``covariance`` of the error of after minus before, by names.

    Both were measured on the same tasks, so the error is that of a mean of paired differences: it holds the noise of
    the samples and how differently tasks react, not how hard the drawn tasks are. It is a sum of squares over tasks,
    hence positive semi-definite.
    """

    before: dict[str, float]
    after: dict[str, float]
    covariance: dict[str, dict[str, float]]

    @classmethod
    def between(cls, tasks: Sequence[Task], before: HeldOut, after: HeldOut) -> CapabilityChange:
        """From one evaluation of all ``tasks`` to another; only what both measured in the same way."""
        names = [n for n in CAPABILITIES if before.samples == after.samples or n not in _BY_SAMPLES]
        columns = [CAPABILITIES.index(name) for name in names]
        return cls.of(task_values(tasks, before)[:, columns], task_values(tasks, after)[:, columns], names)

    @classmethod
    def of(cls, before_NC: Floats, after_NC: Floats, names: Sequence[str]) -> CapabilityChange:
        """From values per task (NaN where a task does not count), of the capabilities ``names``."""
        counted = ~(np.isnan(before_NC) | np.isnan(after_NC))
        counts = counted.sum(axis=0)
        seen = np.flatnonzero(counts >= 2)
        before, after = (np.where(counted, values, np.nan)[:, seen] for values in (before_NC, after_NC))
        n = counts[seen]
        difference = after - before
        centred = np.nan_to_num(difference - np.nanmean(difference, axis=0)) / np.sqrt(n * (n - 1))
        covariance = centred.T @ centred
        known = [names[int(i)] for i in seen]

        def named(values: Any) -> dict[str, Any]:
            return dict(zip(known, values, strict=True))

        return cls(
            before=named(np.nanmean(before, axis=0).tolist()),
            after=named(np.nanmean(after, axis=0).tolist()),
            covariance=named([named(row) for row in covariance.tolist()]),
        )

    def joined(self, other: CapabilityChange) -> CapabilityChange:
        """With the capabilities of ``other``, whose error is independent of this one's."""
        return CapabilityChange(
            before=self.before | other.before,
            after=self.after | other.after,
            covariance=self.covariance | other.covariance,
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def task_values(tasks: Sequence[Task], measured: HeldOut) -> Floats:
    """The values (N, C) of an evaluation of all ``tasks``; NaN where a task does not count."""
    assert measured.passes is not None, "counts of some of the tasks cannot be compared task by task"
    assert measured.samples is not None
    samples = measured.samples
    pass1 = np.array(measured.passes) / samples
    hard = np.array([getattr(task, "tier", "") == "hard" for task in tasks])
    if samples >= _K:
        failing = [comb(samples - passed, _K) / comb(samples, _K) for passed in measured.passes]
        pass16 = 1 - np.array(failing)
    else:
        pass16 = np.full(len(pass1), np.nan)
    shares = [np.array(counts) / samples for counts in (measured.unique, measured.well_formed)]
    return np.stack([pass1, pass16, np.where(hard, pass1, np.nan), *shares], axis=1)
