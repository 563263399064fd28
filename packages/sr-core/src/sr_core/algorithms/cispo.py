"""CISPO (arXiv 2506.13585): the importance weight is clipped and held constant, so that no token loses its gradient.

    A_i  = (r_i - mean_g) / (std_g + 1e-4)
    loss = - sum_i sum_t stop(min(rho_it, 1 + clip_high)) A_i log pi(y_it) / tokens of the step

rho as in ``grpo``. Default ``clip_high`` 4, a weight of at most 5 (ScaleRL, arXiv 2510.13786). Left out: the lower
clip, which the paper does not use either, and its variant that masks tokens.
"""

from __future__ import annotations

from torch import Tensor

from sr_core.algorithms.base import Counts
from sr_core.algorithms.grpo import Grpo
from sr_core.algorithms.parts import token_ratio


class Cispo(Grpo):
    """CISPO."""

    def __init__(self, *, clip_high: float = 4.0) -> None:
        super().__init__(clip_high=clip_high)

    def loss(
        self,
        logprobs_NT: Tensor,
        old_logprobs_NT: Tensor,
        advantages_N: Tensor,
        mask_NT: Tensor,
        counts: Counts,
    ) -> Tensor:
        """N losses, each a weighted log-likelihood."""
        weight = token_ratio(logprobs_NT.detach(), old_logprobs_NT, mask_NT).clamp(max=1 + self.clip_high)
        return -advantages_N * (weight * logprobs_NT * mask_NT).sum(1) / counts.tokens
