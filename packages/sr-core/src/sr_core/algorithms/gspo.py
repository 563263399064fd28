"""GSPO (arXiv 2507.18071): GRPO with one ratio per sequence, the geometric mean of its tokens' ratios.

    A_i  = (r_i - mean_g) / (std_g + 1e-4)
    s_i  = exp(1/|y_i| sum_t (log pi - log pi_old)), the exponent clamped to [-20, 20] before exp
    loss = - sum_i min(s_i A_i, clip(s_i, 1 - clip, 1 + clip_high) A_i) / sequences of the step

Such a ratio stays close to 1, so the clip is narrow: defaults 3e-4 and 4e-4, the paper's. Left out: GSPO-token, whose
value and gradient are the same when all tokens of a sequence share one advantage, as here.
"""

from __future__ import annotations

from sr_core.algorithms.base import LossInputs, LossOutputs
from sr_core.algorithms.grpo import Grpo
from sr_core.algorithms.parts import LOG_RATIO_LIMIT, clipped


class Gspo(Grpo):
    """GSPO."""

    def __init__(self, *, clip: float = 3e-4, clip_high: float | None = 4e-4) -> None:
        super().__init__(clip=clip, clip_high=clip_high)

    def loss(self, inputs: LossInputs) -> LossOutputs:
        """N losses, one clipped objective per sequence."""
        mean_N = inputs.sums(inputs.logprobs_NT - inputs.old_logprobs_NT) / inputs.lengths_N
        ratio_N1 = mean_N.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()[:, None]
        objective_N1, clipped_N1 = clipped(ratio_N1, inputs, low=self.clip, high=self.clip_high)
        return LossOutputs(losses_N=-objective_N1[:, 0] / inputs.counts.sequences, clipped_NT=clipped_N1)
