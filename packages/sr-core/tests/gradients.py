"""Samples, verdicts and the gradients of one update, for the tests of what goes into them."""

from __future__ import annotations

import copy

import torch

from sr_core.algorithms import Counts, LossInputs
from sr_core.batch import Batch, Rollout
from sr_core.config import OptimConfig, SamplingConfig
from sr_core.engine import Engine, Scores
from sr_core.optim.objective import Objective
from sr_core.optim.update import UpdateResult, update
from sr_core.policy import Policy

TEMPERATURE = 0.8
OPTIM = OptimConfig(lr=1e-3, max_grad_norm=1e9)


def sample(
    policy: Policy | Engine, prompts, samples: int, *, temperature: float, max_new_tokens: int, rng, **others
) -> Rollout:
    """Completions of ``policy``; a policy given directly gets an engine of its own."""
    engine = policy if isinstance(policy, Engine) else Engine(policy)
    config = SamplingConfig(temperature=temperature, max_new_tokens=max_new_tokens, **others)
    return engine.sample(prompts, samples, config, rng)


def completion_scores(policy: Policy, prompts, tokens, **options) -> Scores:
    return Engine(policy).score(prompts, tokens, **options)


def graded(rollout: Rollout, rewards_PG: torch.Tensor, valid_PG: torch.Tensor) -> Batch:
    return Batch(rollout=rollout, rewards_PG=rewards_PG, valid_PG=valid_PG, sampled_tokens=sum(rollout.lengths))


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


def gradients(
    policy: Policy, rollout: Rollout, algorithm, *, optim=OPTIM, **objective
) -> tuple[dict[int, torch.Tensor], UpdateResult]:
    policy = Policy(copy.deepcopy(policy.model), policy.tokenizer)
    optimizer = Catcher(policy.model.parameters(), lr=0.0)
    aim = Objective(algorithm=algorithm, temperature=0.8, **objective)
    result = update(Engine(policy), optimizer, graded(rollout, *verdicts()), aim, optim)
    return optimizer.seen, result


def plain_gradients(policy: Policy, rollout: Rollout, algorithm) -> dict[int, torch.Tensor]:
    """The textbook way: one unpadded forward per sample, no sharing, no chunks."""
    policy = Policy(copy.deepcopy(policy.model), policy.tokenizer)
    rewards, valid = verdicts()
    advantages = algorithm.advantages(rewards, valid).flatten()
    keep = valid.flatten().tolist()
    counts = Counts(sequences=sum(keep), tokens=sum(len(t) for t, k in zip(rollout.tokens, keep, strict=True) if k))
    for i, tokens in enumerate(rollout.tokens):
        if not keep[i]:
            continue
        prompt = rollout.prompts[i // rollout.group_size]
        logits = policy.model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1] / 0.8
        logprobs = torch.log_softmax(logits, -1).gather(1, torch.tensor(tokens)[:, None])[:, 0][None]
        old = rollout.logprobs[i].clone()[None]
        inputs = LossInputs(
            logprobs_NT=logprobs,
            old_logprobs_NT=old,
            advantages_N=advantages[i : i + 1],
            mask_NT=torch.ones_like(logprobs),
            counts=counts,
        )
        algorithm.loss(inputs).losses_N.sum().backward()
    return {i: p.grad for i, p in enumerate(policy.model.parameters()) if p.grad is not None}
