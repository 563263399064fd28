"""What the loss of a step is made of: the algorithm's loss, a penalty towards an earlier policy, an entropy bonus.

loss = algorithm + coefficient * KL to the reference / tokens - bonus * entropy / tokens + the anchor's penalty
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sr_core.algorithms import Algorithm, Counts, LossInputs
from sr_core.engine import Engine, Scores
from sr_core.penalties import Anchor, Estimator, kl_per_token

__all__ = ["Losses", "Objective"]


@dataclass(frozen=True, kw_only=True)
class Losses:
    """For N sequences: the loss to differentiate, their KL to the reference (a sum over tokens), tokens the clip
    decided."""

    losses_N: Tensor
    kl_N: Tensor
    clipped_N: Tensor


@dataclass(frozen=True, kw_only=True)
class Objective:
    """``temperature`` and ``top_p`` are those of the samples.

    ``reference``: the policy of the KL penalty, estimated on the samples by ``estimator``; ``anchor``: what elastic
    weights pull to; either weighs ``coefficient``. ``entropy_bonus``: its weight, per nat and token.
    Neither acts on prompts without any advantage.

    ``on_policy``: the policy drew the samples as it is now. Ratios then compare with the first epoch's own
    log-probabilities, so that they are exactly 1 there: the sampler's differ from them by rounding, in bfloat16 by more
    than a narrow clip allows. Where an earlier policy drew the samples (False), ratios compare with the rollout's.
    """

    algorithm: Algorithm
    temperature: float
    top_p: float = 1.0
    coefficient: float = 0.0
    reference: Engine | None = None
    estimator: Estimator = "k3"
    anchor: Anchor | None = None
    entropy_bonus: float = 0.0
    on_policy: bool = True

    @property
    def acts_without_advantage(self) -> bool:
        """Whether a sequence without advantage has a gradient."""
        return self.reference is not None or self.entropy_bonus > 0

    def score(self, engine: Engine, prompts: list[list[int]], tokens: list[list[int]]) -> Scores:
        """The policy quantities in ``engine`` that the losses need."""
        return engine.score(
            prompts, tokens, temperature=self.temperature, top_p=self.top_p, entropy=self.entropy_bonus > 0
        )

    def losses(
        self,
        scores: Scores,
        prompts: list[list[int]],
        tokens: list[list[int]],
        old_logprobs_NT: Tensor,
        advantages_N: Tensor,
        counts: Counts,
    ) -> Losses:
        """The losses of a micro-batch that ``score`` has scored, divided by the ``counts`` of the whole step."""
        logprobs_NT, mask_NT = scores.logprobs_NT, scores.mask_NT
        outputs = self.algorithm.loss(
            LossInputs(
                logprobs_NT=logprobs_NT,
                old_logprobs_NT=old_logprobs_NT,
                advantages_N=advantages_N,
                mask_NT=mask_NT,
                counts=counts,
            )
        )
        losses_N = outputs.losses_N
        kl_N = clipped_N = torch.zeros_like(losses_N.detach())
        if self.reference is not None:
            with torch.no_grad():
                reference = self.reference.score(prompts, tokens, temperature=self.temperature, top_p=self.top_p)
            divergence_N = kl_per_token(logprobs_NT, reference.logprobs_NT, mask_NT, self.estimator).sum(1)
            losses_N = losses_N + self.coefficient * divergence_N / counts.tokens
            kl_N = divergence_N.detach()
        if scores.entropy_NT is not None:
            losses_N = losses_N - self.entropy_bonus * (scores.entropy_NT * mask_NT).sum(1) / counts.tokens
        if outputs.clipped_NT is not None:
            clipped_N = (outputs.clipped_NT * mask_NT).sum(1)
        return Losses(losses_N=losses_N, kl_N=kl_N, clipped_N=clipped_N)
