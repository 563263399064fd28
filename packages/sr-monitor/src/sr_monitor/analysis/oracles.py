"""Upper bounds: the best choice made after the run, by the paper's definitions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sr_monitor.analysis.trajectory import Trajectory
from sr_monitor.errors import MonitorError


def trace_oracle(campaigns: Sequence[Trajectory]) -> float:
    """Mean over the recorded campaigns of the pass@1 at the best stop chosen afterwards on each."""
    return float(np.mean([t.peak for t in _some(campaigns)]))


def hindsight_oracle(campaigns: Sequence[Trajectory]) -> float:
    """pass@1 of the best checkpoint of the whole chain."""
    return max(t.peak for t in _some(campaigns))


def regret(trajectory: Trajectory, kept: int) -> float:
    """How far the policy of step ``kept`` lies below the best of the campaign; use a curve on the audit set.

    ``trajectory`` must hold an evaluation at ``kept``.
    """
    if kept not in trajectory.steps:
        raise MonitorError(f"regret: step {kept} was not evaluated; steps with a value are {trajectory.steps}")
    return trajectory.peak - float(trajectory.pass1_E[trajectory.steps.index(kept)])


def _some(campaigns: Sequence[Trajectory]) -> Sequence[Trajectory]:
    if not campaigns:
        raise MonitorError("oracle: at least one campaign is needed, got none")
    return campaigns
