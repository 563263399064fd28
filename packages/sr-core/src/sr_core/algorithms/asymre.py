"""AsymRE (arXiv 2506.20520): REINFORCE whose baseline lies below the mean, so that successes weigh more than failures.

    A_i  = r_i - (mean_g + baseline_shift)              baseline_shift <= 0; 0 in a group of equal rewards
    loss = - sum_i A_i sum_t log pi(y_it) / tokens of the step

With shift 0 it is ``reinforce`` by group means; the paper finds a phase change there and takes -0.1, the default. No
ratio, no clip, by design: it is meant for samples of an older policy, too. Left out: groups of equal rewards, which the
paper trains on with the advantage -shift (a rule of this package: they contribute nothing).
"""

from __future__ import annotations

from torch import Tensor

from sr_core.algorithms.base import LossInputs, LossOutputs, Stateless
from sr_core.algorithms.parts import centred_by_group, equal_groups


class AsymRE(Stateless):
    """AsymRE."""

    def __init__(self, *, baseline_shift: float = -0.1) -> None:
        self.baseline_shift = baseline_shift

    def advantages(self, rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
        """P x G rewards less a baseline ``-baseline_shift`` below their group's mean."""
        advantages = (centred_by_group(rewards_PG, valid_PG) - self.baseline_shift) * valid_PG
        return advantages.masked_fill(equal_groups(rewards_PG, valid_PG), 0.0)

    def loss(self, inputs: LossInputs) -> LossOutputs:
        """N losses; the old log-probabilities are not used."""
        return LossOutputs(losses_N=-inputs.advantages_N * inputs.sums(inputs.logprobs_NT) / inputs.counts.tokens)
