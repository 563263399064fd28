"""Samples, verdicts and the gradients of one update, for the tests of what goes into them."""

from __future__ import annotations

import torch

from sr_core.config import OptimConfig, PenaltyConfig
from sr_core.policy import Policy
from sr_core.rollout import Rollout, sample

TEMPERATURE = 0.8
OPTIM = OptimConfig(lr=1e-3, max_grad_norm=1e9)
NO_PENALTY = PenaltyConfig()


def roll(policy: Policy, seed: int = 0) -> Rollout:
    prompts = [policy.prompt_ids(p) for p in ("a:", "bcde:")]
    rng = torch.Generator().manual_seed(seed)
    return sample(policy, prompts, 5, temperature=TEMPERATURE, max_new_tokens=7, rng=rng)


def verdicts(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, (2, 5), generator=rng).float(), torch.rand(2, 5, generator=rng) > 0.2


class Catcher(torch.optim.SGD):
    """Plain descent that remembers the last gradient it was given."""

    def step(self, closure=None):  # type: ignore[no-untyped-def]
        self.seen = {i: p.grad.clone() for i, p in enumerate(self.param_groups[0]["params"]) if p.grad is not None}
        return super().step(closure)


def assert_same(ours: dict[int, torch.Tensor], theirs: dict[int, torch.Tensor], tolerance: float) -> None:
    scale = max(float(g.abs().max()) for g in theirs.values())
    assert scale > 0
    for i, grad in theirs.items():
        assert float((ours[i] - grad).abs().max()) <= tolerance * scale
