"""A recorded curve of one held-out metric, on the metric's own scale. E evaluations.

Pass rates lie in 0..1; a mean reward is unbounded; a loss falls when things improve. ``peak`` is the best value of
either, ``gap`` how much worse the last one is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sr_monitor.analysis.trajectory import Trajectory, one_step_share, onset, peak_end_gap

Kind = Literal["pass_rate", "score", "loss"]
OURS = "heldout_pass1"
_LONGEST_LABEL = 60


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What a log's held-out values are.

    columns: the log's names, averaged if several. percent: logged as 0..100, divided by 100 when read.
    samples_per_task: as the name says (``mean@16``), None if it does not.
    """

    columns: tuple[str, ...] = (OURS,)
    kind: Kind = "pass_rate"
    percent: bool = False
    samples_per_task: int | None = None

    @property
    def column(self) -> str:
        return ", ".join(self.columns)

    @property
    def label(self) -> str:
        """The metric's name in a sentence: only pass@1 is called pass@1."""
        if len(self.columns) == 1 and self.column.endswith(OURS):
            return "held-out pass@1"
        if len(self.column) <= _LONGEST_LABEL:
            return self.column if len(self.columns) == 1 else f"the mean of {self.column}"
        return f"the mean of {self.columns[0]} and {len(self.columns) - 1} more"

    @property
    def sign(self) -> int:
        """-1 where lower is better."""
        return -1 if self.kind == "loss" else 1

    def show(self, value: float) -> str:
        return f"{value:.1%}" if self.kind == "pass_rate" else f"{value:.4g}"

    def show_difference(self, value: float) -> str:
        return f"{100 * value:.1f} points" if self.kind == "pass_rate" else f"{value:.4g}"


PASS_AT_1 = Metric()


@dataclass(frozen=True, eq=False, kw_only=True)
class Curve:
    """values_E of ``metric`` at increasing ``steps``, with standard errors where known (NaN elsewhere).

    trajectory: the same as pass@1 with counts per task, for pass rates only.
    """

    steps: tuple[int, ...]
    values_E: NDArray[np.float64]
    se_E: NDArray[np.float64]
    metric: Metric = field(default=PASS_AT_1)
    trajectory: Trajectory | None = None

    @classmethod
    def of(cls, trajectory: Trajectory, metric: Metric = PASS_AT_1) -> Curve:
        """The curve of a pass rate."""
        return cls(
            steps=trajectory.steps,
            values_E=trajectory.pass1_E,
            se_E=trajectory.standard_errors_E(),
            metric=metric,
            trajectory=trajectory,
        )

    @classmethod
    def from_values(
        cls, steps: Sequence[int], values: Sequence[float], se: Sequence[float] | None, metric: Metric
    ) -> Curve:
        """The curve of any other metric; ``se``: standard errors, None if unknown."""
        values_E = np.asarray(values, dtype=np.float64)
        se_E = np.full(len(values_E), np.nan) if se is None else np.asarray(se, dtype=np.float64)
        return cls(steps=tuple(steps), values_E=values_E, se_E=se_E, metric=metric)

    @property
    def rising_E(self) -> NDArray[np.float64]:
        """The values turned so that higher is better."""
        return self.metric.sign * self.values_E

    @property
    def start(self) -> float:
        return float(self.values_E[0])

    @property
    def end(self) -> float:
        return float(self.values_E[-1])

    @property
    def peak(self) -> float:
        """The best value: the lowest of a loss."""
        return float(self.values_E[self.rising_E.argmax()])

    @property
    def peak_step(self) -> int:
        """The first step with the best value."""
        return self.steps[int(self.rising_E.argmax())]

    @property
    def gap(self) -> float:
        """How much worse than the best the last value is; never negative."""
        return peak_end_gap(self.rising_E)

    @property
    def onset_step(self) -> int | None:
        """The step from which on the values stay in the worse half between best and last; None without a gap."""
        where = onset(self.rising_E)
        return None if where is None else self.steps[where]

    @property
    def one_step_share(self) -> float | None:
        return one_step_share(self.rising_E)
