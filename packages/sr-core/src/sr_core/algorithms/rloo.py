"""RLOO (arXiv 2402.14740): every sample is compared with the others of its prompt; the ratio is the whole sequence's.

    A_i  = r_i - mean of the other samples' rewards
    loss = - sum_i min(rho_i A_i, clip(rho_i, 1 - clip, 1 + clip_high) A_i) / sequences of the step
    rho  = exp(sum_t (log pi - log pi_old)), the exponent clamped to [-20, 20] before exp

Defaults: ``clip`` 0.2, ``clip_high`` as ``clip``. With one update per batch this is ``reinforce`` with the baseline
``leave_one_out``, divided by sequences instead of tokens. The paper has neither ratio nor clip, which later practice
added for several updates per batch. Left out: the KL term inside the reward (see ``penalty.estimator`` "k1").
"""

from __future__ import annotations

from torch import Tensor

from sr_core.algorithms.base import LossInputs, LossOutputs, Stateless
from sr_core.algorithms.parts import clipped, less_the_others, sequence_ratio


class Rloo(Stateless):
    """RLOO."""

    def __init__(self, *, clip: float = 0.2, clip_high: float | None = None) -> None:
        self.clip = clip
        self.clip_high = clip if clip_high is None else clip_high

    def advantages(self, rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
        """P x G rewards less the mean of the other judged samples of their prompt; a lone verdict teaches nothing."""
        return less_the_others(rewards_PG, valid_PG)

    def loss(self, inputs: LossInputs) -> LossOutputs:
        """N losses, one clipped objective per sequence."""
        ratio_N1 = sequence_ratio(inputs)[:, None]
        objective_N1, clipped_N1 = clipped(ratio_N1, inputs, low=self.clip, high=self.clip_high)
        return LossOutputs(losses_N=-objective_N1[:, 0] / inputs.counts.sequences, clipped_NT=clipped_N1)
