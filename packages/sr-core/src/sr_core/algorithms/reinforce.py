"""REINFORCE (Williams 1992) with a choice of baseline.

    loss = - sum_i (r_i - b_i) sum_t log pi(y_it | y_i<t) / tokens of the step

The baseline b_i is ``none`` (0), ``batch_mean`` (mean reward of the step's samples), ``leave_one_out`` (mean reward of
the *other* samples of the same prompt; RLOO, arXiv 2402.14740) or ``ema`` (running mean of earlier steps' mean rewards,
0 before the first). Left out: importance weights and clipping, so it is meant for one update per batch. Dividing by
tokens, not sequences, only rescales a step; under Adam it changes next to nothing.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from sr_core.algorithms.base import LossInputs, LossOutputs
from sr_core.algorithms.parts import less_the_others


class Reinforce:
    """REINFORCE; ``ema_decay`` is read by the ``ema`` baseline only."""

    def __init__(
        self,
        *,
        baseline: Literal["none", "batch_mean", "leave_one_out", "ema"] = "batch_mean",
        ema_decay: float = 0.9,
    ) -> None:
        self.baseline = baseline
        self.ema_decay = ema_decay
        self._ema = 0.0

    def advantages(self, rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
        """P x G rewards less their baseline; 0 where there was no verdict."""
        if self.baseline == "leave_one_out":
            return less_the_others(rewards_PG, valid_PG)
        valid = valid_PG.to(rewards_PG.dtype)
        rewards = rewards_PG * valid
        mean = rewards.sum() / valid.sum().clamp(min=1)
        if self.baseline == "none":
            base = torch.zeros_like(rewards)
        elif self.baseline == "batch_mean":
            base = mean.expand_as(rewards)
        else:
            base = torch.full_like(rewards, self._ema)
            self._ema = self.ema_decay * self._ema + (1 - self.ema_decay) * float(mean)
        return (rewards - base) * valid

    def loss(self, inputs: LossInputs) -> LossOutputs:
        """N losses; the old log-probabilities are not used."""
        return LossOutputs(losses_N=-inputs.advantages_N * inputs.sums(inputs.logprobs_NT) / inputs.counts.tokens)

    def state_dict(self) -> dict[str, float]:
        return {"ema": self._ema}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self._ema = state["ema"]
