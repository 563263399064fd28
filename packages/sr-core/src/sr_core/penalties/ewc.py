"""Elastic weight consolidation (Kirkpatrick et al. 2017, arXiv 1612.00796) with a true diagonal Fisher information.

    penalty = coefficient / 2 * sum_j F_j (theta_j - theta*_j)^2
    F_j     = mean over prompts x and y ~ pi*(. | x) of (d log pi*(y | x) / d theta_j)^2

The samples are the anchor's own and each sequence's gradient is squared by itself: the *true* Fisher, neither the
empirical one (gradients at given answers) nor the square of a batch's gradient, which vanishes in expectation. Left
out: everything off the diagonal, and adding up Fishers of several campaigns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sr_core.engine import Engine
from sr_core.policy import Policy

__all__ = ["Anchor", "diagonal_fisher", "trainable"]


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """Where EWC pulls to: ``weights`` and their ``fisher`` information, by parameter name."""

    weights: dict[str, Tensor]
    fisher: dict[str, Tensor]

    @torch.no_grad()
    def pull(self, policy: Policy, coefficient: float, gradients: Sequence[Tensor]) -> float:
        """Add the penalty's gradient to ``gradients``, those of the policy's trained parameters in their order; return
        the penalty. It needs no samples, so no backward pass."""
        total = 0.0
        for (name, parameter), gradient in zip(trainable(policy).items(), gradients, strict=True):
            difference = parameter.float() - self.weights[name]
            force = coefficient * self.fisher[name] * difference
            total += float((force * difference).sum()) / 2
            gradient.add_(force)
        return total


def trainable(policy: Policy) -> dict[str, nn.Parameter]:
    """The policy's trained parameters by name, tied ones once."""
    return {name: p for name, p in policy.model.named_parameters() if p.requires_grad}


def diagonal_fisher(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    tokens: Sequence[Sequence[int]],
    *,
    temperature: float,
    top_p: float = 1.0,
    count: int | None = None,
) -> dict[str, Tensor]:
    """Mean over the samples ``tokens[i]`` of ``prompts[i]`` of their squared score, by parameter name, float32.

    ``count``: how many there are in all, where these are only some; the means of the parts then add up to the mean. The
    samples must be the policy's own, drawn at ``temperature`` and ``top_p``. One backward pass per sequence.
    """
    parameters = trainable(engine.policy)
    count = len(tokens) if count is None else count
    fisher = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in parameters.items()}
    for prompt, completion in zip(prompts, tokens, strict=True):
        scores = engine.score([prompt], [completion], temperature=temperature, top_p=top_p)
        gradients = torch.autograd.grad(scores.logprobs_NT.sum(), list(parameters.values()), allow_unused=True)
        for name, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                fisher[name] += gradient.float().square() / count
    return fisher
