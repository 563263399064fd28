"""Dr. GRPO (arXiv 2503.20783): GRPO without its two biases, the deviation of the group and the length of the sequence.

    A_i  = r_i - mean_g
    loss = - sum_i sum_t min(rho_it A_i, clip(rho_it, 1 - clip, 1 + clip_high) A_i) / (sequences * max_tokens)

``max_tokens`` is the generation budget (``sampling.max_new_tokens``), a constant, so that a long wrong answer is
not diluted. Ratio and clip as in ``grpo``. Left out: the scaling G / (G - 1) that would make it leave-one-out.
"""

from __future__ import annotations

from torch import Tensor

from sr_core.algorithms.base import LossInputs, LossOutputs
from sr_core.algorithms.grpo import Grpo
from sr_core.algorithms.parts import centred_by_group, clipped, token_ratio


class DrGrpo(Grpo):
    """Dr. GRPO; ``max_tokens``: the most tokens a completion may have."""

    def __init__(self, *, max_tokens: int, clip: float = 0.2, clip_high: float | None = None) -> None:
        super().__init__(clip=clip, clip_high=clip_high)
        self.max_tokens = max_tokens

    def advantages(self, rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
        """P x G rewards less their group's mean."""
        return centred_by_group(rewards_PG, valid_PG)

    def loss(self, inputs: LossInputs) -> LossOutputs:
        """N losses, each a sum over tokens by a constant."""
        objective_NT, clipped_NT = clipped(token_ratio(inputs), inputs, low=self.clip, high=self.clip_high)
        losses_N = -inputs.sums(objective_NT) / (inputs.counts.sequences * self.max_tokens)
        return LossOutputs(losses_N=losses_N, clipped_NT=clipped_NT)
