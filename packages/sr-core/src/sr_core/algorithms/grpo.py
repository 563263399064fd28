"""GRPO (arXiv 2402.03300): rewards normalised within the samples of one prompt, clipped ratio, mean per sequence.

    A_i  = (r_i - mean_g) / (std_g + 1e-4)          over the samples g of one prompt (std with G - 1)
    loss = - sum_i 1/|y_i| sum_t min(rho_it A_i, clip(rho_it, 1 - clip, 1 + clip_high) A_i) / sequences of the step
    rho  = exp(log pi - log pi_old), the exponent clamped to [-20, 20] before exp

A prompt whose samples all have one reward has advantage 0 and so no gradient. Defaults: ``clip`` 0.2, ``clip_high`` as
``clip``. Left out: the KL term, which is a penalty of its own (``sr_core.penalties``), and the clip's second bound for
negative advantages (dual clip).
"""

from __future__ import annotations

from torch import Tensor

from sr_core.algorithms.base import LossInputs, LossOutputs, Stateless
from sr_core.algorithms.parts import centred_by_group, clipped, std_of, token_ratio

EPSILON = 1e-4


class Grpo(Stateless):
    """GRPO; with one update per batch the ratio is 1 and the clip idle."""

    def __init__(self, *, clip: float = 0.2, clip_high: float | None = None) -> None:
        self.clip = clip
        self.clip_high = clip if clip_high is None else clip_high

    def advantages(self, rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
        """P x G rewards, centred and scaled by group; 0 where there was no verdict."""
        centred = centred_by_group(rewards_PG, valid_PG)
        return centred / (std_of(centred, valid_PG, (1,)) + EPSILON)

    def loss(self, inputs: LossInputs) -> LossOutputs:
        """N losses, each the clipped objective's mean over its tokens."""
        objective_NT, clipped_NT = clipped(token_ratio(inputs), inputs, low=self.clip, high=self.clip_high)
        losses_N = -inputs.sums(objective_NT) / inputs.lengths_N / inputs.counts.sequences
        return LossOutputs(losses_N=losses_N, clipped_NT=clipped_NT)
