"""REINFORCE++ (arXiv 2501.03262, version 9, "with baseline"): centred by prompt, scaled by the whole batch.

    a_i  = r_i - mean_g
    A_i  = a_i / (std of all a of the step + 1e-4)      (std with n - 1; the a have mean 0 already)
    loss = - sum_i sum_t min(rho_it A_i, clip(rho_it, 1 - clip, 1 + clip_high) A_i) / tokens of the step

rho as in ``grpo``; defaults: ``clip`` 0.2, ``clip_high`` as ``clip``. One deviation for the whole step, so a prompt
with one lucky sample is not blown up as its own deviation would. Left out: the variant without groups (one sample
per prompt), statistics over tokens instead of sequences (a group of equal rewards would then have a gradient whenever
lengths differ), and the k2 penalty, which is one of its own (``penalty.estimator``).
"""

from __future__ import annotations

from torch import Tensor

from sr_core.algorithms.dapo import Dapo
from sr_core.algorithms.grpo import EPSILON
from sr_core.algorithms.parts import centred_by_group, std_of


class ReinforcePlusPlus(Dapo):
    """REINFORCE++ with baseline; its loss is DAPO's with a symmetric clip."""

    def __init__(self, *, clip: float = 0.2, clip_high: float | None = None) -> None:
        super().__init__(clip=clip, clip_high=clip_high)

    def advantages(self, rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
        """P x G rewards, centred by group and scaled by the step."""
        centred = centred_by_group(rewards_PG, valid_PG)
        return centred / (std_of(centred, valid_PG, (0, 1)) + EPSILON)
