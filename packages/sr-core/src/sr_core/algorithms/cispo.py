"""CISPO (arXiv 2506.13585): the importance weight is clipped and held constant, so that no token loses its gradient.

    A_i  = (r_i - mean_g) / (std_g + 1e-4)
    loss = - sum_i sum_t stop(min(rho_it, 1 + clip_high)) A_i log pi(y_it) / tokens of the step

rho as in ``grpo``. Default ``clip_high`` 4, a weight of at most 5 (ScaleRL, arXiv 2510.13786). Left out: the lower
clip, which the paper does not use either, and its variant that masks tokens.
"""

from __future__ import annotations

from sr_core.algorithms.base import LossInputs, LossOutputs
from sr_core.algorithms.grpo import Grpo
from sr_core.algorithms.parts import token_ratio


class Cispo(Grpo):
    """CISPO."""

    def __init__(self, *, clip_high: float = 4.0) -> None:
        super().__init__(clip_high=clip_high)

    def loss(self, inputs: LossInputs) -> LossOutputs:
        """N losses, each a weighted log-likelihood."""
        ratio_NT = token_ratio(inputs).detach()
        weight_NT = ratio_NT.clamp(max=1 + self.clip_high)
        losses_N = -inputs.advantages_N * inputs.sums(weight_NT * inputs.logprobs_NT) / inputs.counts.tokens
        return LossOutputs(losses_N=losses_N, clipped_NT=ratio_NT > 1 + self.clip_high)
