"""DAPO (arXiv 2503.14476): GRPO's advantages, a higher upper clip, a loss that weighs every token the same.

    A_i  = (r_i - mean_g) / (std_g + 1e-4)
    loss = - sum_i sum_t min(rho_it A_i, clip(rho_it, 1 - clip, 1 + clip_high) A_i) / tokens of the step

Defaults: ``clip`` 0.2, ``clip_high`` 0.28. Its dynamic sampling, which replaces prompts whose samples have equal
rewards, is ``sr_core.dynamic_sampling``. Left out: the soft punishment of overlong answers (a reward of the task's, not
of the update) and sampling until the batch is full (``algorithm.resample`` bounds the tries).
"""

from __future__ import annotations

from sr_core.algorithms.base import LossInputs, LossOutputs
from sr_core.algorithms.grpo import Grpo
from sr_core.algorithms.parts import clipped, token_ratio


class Dapo(Grpo):
    """DAPO's update."""

    def __init__(self, *, clip: float = 0.2, clip_high: float | None = 0.28) -> None:
        super().__init__(clip=clip, clip_high=clip_high)

    def loss(self, inputs: LossInputs) -> LossOutputs:
        """N losses, each a sum over tokens by the step's tokens."""
        objective_NT, clipped_NT = clipped(token_ratio(inputs), inputs, low=self.clip, high=self.clip_high)
        return LossOutputs(losses_N=-inputs.sums(objective_NT) / inputs.counts.tokens, clipped_NT=clipped_NT)
