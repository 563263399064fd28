"""GSPO (arXiv 2507.18071): GRPO with one ratio per sequence, the geometric mean of its tokens' ratios.

    A_i  = (r_i - mean_g) / (std_g + 1e-4)
    s_i  = exp(1/|y_i| sum_t (log pi - log pi_old)), the exponent clamped to [-20, 20] before exp
    loss = - sum_i min(s_i A_i, clip(s_i, 1 - clip, 1 + clip_high) A_i) / sequences of the step

Such a ratio stays close to 1, so the clip is narrow: defaults 3e-4 and 4e-4, the paper's. Left out: GSPO-token, whose
value and gradient are the same when all tokens of a sequence share one advantage, as here.
"""

from __future__ import annotations

from torch import Tensor

from sr_core.algorithms.base import Counts
from sr_core.algorithms.grpo import Grpo
from sr_core.algorithms.parts import LOG_RATIO_LIMIT, clipped


class Gspo(Grpo):
    """GSPO."""

    def __init__(self, *, clip: float = 3e-4, clip_high: float | None = 4e-4) -> None:
        super().__init__(clip=clip, clip_high=clip_high)

    def loss(
        self,
        logprobs_NT: Tensor,
        old_logprobs_NT: Tensor,
        advantages_N: Tensor,
        mask_NT: Tensor,
        counts: Counts,
    ) -> Tensor:
        """N losses, one clipped objective per sequence."""
        mean_N = ((logprobs_NT - old_logprobs_NT) * mask_NT).sum(1) / mask_NT.sum(1).clamp(min=1)
        ratio_N = mean_N.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()
        return -clipped(ratio_N, advantages_N, low=self.clip, high=self.clip_high) / counts.sequences
