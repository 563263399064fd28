"""WAPO (arXiv 2606.16154): only answers better than their group's mean are learnt from; nothing is pushed down.

    A_i  = max(r_i - mean_g, 0)
    loss = - sum_i sum_t min(rho_it, 1 + clip_high) A_i / (sequences * max_tokens)

rho as in ``grpo``; ``max_tokens`` is ``sampling.max_new_tokens``. A group with few winners weighs less, as the count of
all its samples divides. Default ``clip_high`` 9 (a ratio of at most 10), as in the configurations of the authors' code.
Left out: dividing by the winners' tokens instead, and training on chosen token classes.
"""

from __future__ import annotations

from torch import Tensor

from sr_core.algorithms.base import LossInputs, LossOutputs
from sr_core.algorithms.dr_grpo import DrGrpo
from sr_core.algorithms.parts import token_ratio


class Wapo(DrGrpo):
    """WAPO, positive-only."""

    def __init__(self, *, max_tokens: int, clip_high: float = 9.0) -> None:
        super().__init__(max_tokens=max_tokens, clip_high=clip_high)

    def advantages(self, rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
        """P x G rewards less their group's mean, where that is positive."""
        return super().advantages(rewards_PG, valid_PG).clamp(min=0)

    def loss(self, inputs: LossInputs) -> LossOutputs:
        """N losses, none of them above 0."""
        ratio_NT = token_ratio(inputs)
        weights_N = inputs.sums(ratio_NT.clamp(max=1 + self.clip_high))
        losses_N = -inputs.advantages_N * weights_N / (inputs.counts.sequences * self.max_tokens)
        return LossOutputs(losses_N=losses_N, clipped_NT=ratio_NT > 1 + self.clip_high)
