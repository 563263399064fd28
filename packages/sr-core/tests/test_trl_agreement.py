"""The losses of TRL's own trainers, on samples that they drew themselves, and ours on the same samples."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from gradients import Catcher, graded
from tiny import make_policy

pytest.importorskip("trl", reason="compares with TRL's trainers; install the dependency group 'bench'")
pytest.importorskip("datasets", reason="TRL's trainers take their prompts from it")

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from sr_core.algorithms import make_algorithm
from sr_core.batch import Rollout
from sr_core.config import ALGORITHM, OptimConfig
from sr_core.engine import Engine
from sr_core.optim.objective import Objective
from sr_core.optim.update import update
from sr_core.policy import Policy

PROMPTS, GROUP, LONGEST, TEMPERATURE = ("a:", "bcde:", "cc:"), 6, 7, 0.8


def make_trainer(kind: str, policy: Policy, rewards: list[float], folder: Path, **options: Any) -> Any:
    """A trainer of TRL on our policy; ``rewards`` is what its reward function gives, sample by sample."""
    trainer, settings = (RLOOTrainer, RLOOConfig) if kind == "rloo" else (GRPOTrainer, GRPOConfig)
    args = settings(
        output_dir=str(folder),
        per_device_train_batch_size=len(rewards),
        num_generations=GROUP,
        max_completion_length=LONGEST,
        temperature=TEMPERATURE,
        use_cpu=True,
        bf16=False,
        report_to=[],
        seed=3,
        **options,
    )
    return trainer(
        model=policy.model,
        processing_class=policy.tokenizer,
        reward_funcs=lambda completions, **_: rewards[: len(completions)],
        args=args,
        train_dataset=Dataset.from_dict({"prompt": list(PROMPTS)}),
    )


def as_rollout(batch: dict[str, torch.Tensor], old_NT: torch.Tensor) -> Rollout:
    """TRL's batch (prompts padded left, completions right) as we know it."""

    def kept(ids: torch.Tensor, mask: torch.Tensor) -> list[list[int]]:
        return [row[keep.bool()].tolist() for row, keep in zip(ids, mask, strict=True)]

    tokens = kept(batch["completion_ids"], batch["completion_mask"])
    return Rollout(
        prompts=kept(batch["prompt_ids"], batch["prompt_mask"])[::GROUP],
        group_size=GROUP,
        tokens=tokens,
        logprobs=[old[: len(t)].clone() for old, t in zip(old_NT, tokens, strict=True)],
        truncated=[False] * len(tokens),
        entropy=0.0,
    )


CASES = [
    ("grpo", {"clip": 0.2, "clip_high": 0.3}, {"loss_type": "grpo", "epsilon": 0.2, "epsilon_high": 0.3}),
    ("dr_grpo", {}, {"loss_type": "dr_grpo", "epsilon": 0.2, "scale_rewards": "none"}),
    ("dapo", {}, {"loss_type": "dapo", "epsilon": 0.2, "epsilon_high": 0.28}),
    (
        "gspo",
        {"clip": 0.05, "clip_high": 0.1},
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.05, "epsilon_high": 0.1},
    ),
    ("cispo", {"clip_high": 0.2}, {"loss_type": "cispo", "epsilon_high": 1.2}),  # TRL gives the bound itself
    ("rloo", {}, {"epsilon": 0.2}),
]


@pytest.mark.parametrize("on_policy", [True, False])
@pytest.mark.parametrize(("name", "ours", "theirs"), CASES, ids=[case[0] for case in CASES])
def test_loss_and_gradients_agree_with_trl(
    tmp_path: Path, name: str, ours: dict[str, Any], theirs: dict[str, Any], on_policy: bool
) -> None:
    policy = make_policy()
    mine = Policy(copy.deepcopy(policy.model), policy.tokenizer)
    rng = torch.Generator().manual_seed(5)
    rewards = torch.randint(0, 2, (len(PROMPTS), GROUP), generator=rng).float()
    rewards[1] = 1.0  # a group of equal rewards
    trainer = make_trainer(name, policy, rewards.flatten().tolist(), tmp_path, beta=0.0, **theirs)
    trainer.model.train()
    batch = trainer._generate_and_score_completions([{"prompt": p} for p in PROMPTS for _ in range(GROUP)])
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    with torch.no_grad():
        old = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, batch["completion_ids"].shape[1])[0]
    if not on_policy:
        old = old + (torch.rand(old.shape, generator=rng) - 0.5) * 0.7
    batch["old_per_token_logps"] = old
    batch["old_logps"] = (old * batch["completion_mask"]).sum(1)
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.zero_grad()
    their_loss = trainer._compute_loss(trainer.model, batch)
    their_loss.backward()

    algorithm = make_algorithm(ALGORITHM[name](**ours), max_tokens=LONGEST)
    optimizer = Catcher(mine.model.parameters(), lr=0.0)
    valid = torch.ones_like(rewards, dtype=torch.bool)
    objective = Objective(algorithm=algorithm, temperature=TEMPERATURE, on_policy=on_policy)
    samples = graded(as_rollout(batch, old), rewards, valid)
    result = update(Engine(mine), optimizer, samples, objective, OptimConfig(max_grad_norm=1e9))
    torch.testing.assert_close(algorithm.advantages(rewards, valid).flatten(), batch["advantages"])
    gradients = [p.grad for p in trainer.model.parameters()]
    scale = max(float(g.abs().max()) for g in gradients)
    assert scale > 1e-3
    for our, their in zip(optimizer.seen.values(), gradients, strict=True):
        assert float((our - their).abs().max()) <= 1e-5 * scale
    assert result.loss == pytest.approx(float(their_loss.detach()), abs=1e-5)
