"""TOPR (arXiv 2503.14286): right answers are learnt as in fine-tuning, wrong ones only while still likely.

    A_i  = +1 for reward 1, -1 for reward 0              (2 r - 1), 0 in a group of equal rewards
    w_i  = 1 if A_i >= 0, else stop(min(rho_i, 1))       rho_i = exp(sum_t (log pi - log pi_old)) of the sequence
    loss = - sum_i w_i A_i sum_t log pi(y_it) / tokens of the step

As a wrong answer becomes unlikely its weight fades, so it is not pushed down without end. With one update per batch all
weights are 1; set ``optim.epochs`` above 1 for the taper to act. Left out: the constant baseline, which only changes
the share of right answers, the choice of what to keep of a fixed data set, and (a rule of this package) groups of
equal rewards, which the paper trains on.
"""

from __future__ import annotations

from torch import Tensor

from sr_core.algorithms.base import LossInputs, LossOutputs, Stateless
from sr_core.algorithms.parts import equal_groups, sequence_ratio


class Topr(Stateless):
    """TOPR."""

    def advantages(self, rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
        """P x G signs of the rewards; 0 where there was no verdict, or only one kind of it."""
        signs = (2 * rewards_PG - 1) * valid_PG
        return signs.masked_fill(equal_groups(rewards_PG, valid_PG), 0.0)

    def loss(self, inputs: LossInputs) -> LossOutputs:
        """N losses, each a tapered log-likelihood."""
        taper_N = sequence_ratio(inputs).detach().clamp(max=1)
        weight_N = taper_N.masked_fill(inputs.advantages_N >= 0, 1.0)
        losses_N = -weight_N * inputs.advantages_N * inputs.sums(inputs.logprobs_NT) / inputs.counts.tokens
        return LossOutputs(losses_N=losses_N)
