"""GRPO (arXiv 2402.03300): rewards normalised within the samples of one prompt, clipped ratio, mean per sequence.

    A_i  = (r_i - mean_g) / (std_g + 1e-4)          over the samples g of one prompt (std with G - 1)
    loss = - sum_i 1/|y_i| sum_t min(rho_it A_i, clip(rho_it, 1 - clip, 1 + clip) A_i) / sequences of the step
    rho  = exp(log pi - log pi_old), the exponent clamped to [-20, 20] before exp

A prompt whose samples all have one reward has advantage 0 and so no gradient. Left out: the KL term, which is a
penalty of its own (``sr_core.penalty``), and the clip's second bound for negative advantages (dual clip).
"""

from __future__ import annotations

import torch
from torch import Tensor

from sr_core.algorithms.base import Counts

EPSILON = 1e-4


class Grpo:
    """GRPO with a symmetric ``clip``; with one update per batch the ratio is 1 and the clip idle."""

    def __init__(self, *, clip: float = 0.2) -> None:
        self.clip = clip

    def advantages(self, rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
        """P x G rewards, centred and scaled by group; 0 where there was no verdict."""
        valid = valid_PG.to(rewards_PG.dtype)
        count = valid.sum(1, keepdim=True)
        mean = (rewards_PG * valid).sum(1, keepdim=True) / count.clamp(min=1)
        centred = (rewards_PG - mean) * valid
        std = (centred.square().sum(1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
        # an all-equal group must be exactly 0, not rounding noise over epsilon
        return torch.where(std > EPSILON / 10, centred / (std + EPSILON), torch.zeros_like(centred))

    def loss(
        self,
        logprobs_NT: Tensor,
        old_logprobs_NT: Tensor,
        advantages_N: Tensor,
        mask_NT: Tensor,
        counts: Counts,
    ) -> Tensor:
        """N losses, each the clipped objective's mean over its tokens."""
        log_ratio = ((logprobs_NT - old_logprobs_NT) * mask_NT).clamp(-20, 20)
        ratio = log_ratio.exp()
        advantages = advantages_N[:, None]
        objective = torch.minimum(ratio * advantages, ratio.clamp(1 - self.clip, 1 + self.clip) * advantages)
        per_sequence = (objective * mask_NT).sum(1) / mask_NT.sum(1).clamp(min=1)
        return -per_sequence / counts.sequences

    def state_dict(self) -> dict[str, float]:
        return {}

    def load_state_dict(self, state: dict[str, float]) -> None:
        del state
