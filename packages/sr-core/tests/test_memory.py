"""What training holds in memory, as multiples of the trained weights: every live tensor is counted."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from tiny import SIZE, LetterGrader, make_config, make_policy, make_tasks
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import Qwen2Config

from sr_core import CampaignTasks, RunStore, Trainer, run_chain
from sr_core.config import CampaignConfig, EvaluateConfig, OptimConfig, SamplingConfig

TASKS = CampaignTasks(train=make_tasks(7), heldout=make_tasks(3, 10), audit=make_tasks(2, 20))
WIDE = SIZE | {"hidden_size": 256, "intermediate_size": 1024}  # weights outweigh samples and activations
del WIDE["head_dim"]


def live_bytes() -> int:
    """Bytes of all tensors that the process can reach, shared storage once."""
    found: dict[int, int] = {}
    for thing in gc.get_objects():
        if type(thing) in (torch.Tensor, torch.nn.Parameter):
            storage = thing.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values())


@pytest.mark.parametrize(
    ("optim", "most"),
    [
        # weights, gradients and two moments; the first policy and the peak
        ({}, 4 + 2),
        # the mean of the iterates, and the weights before a measured step
        pytest.param({"average": True, "step": "measured"}, 4 + 2 + 2, marks=pytest.mark.nightly),
    ],
)
def test_training_holds_no_more_than_a_stated_multiple_of_its_weights(
    tmp_path: Path, optim: dict[str, object], most: int
) -> None:
    config = make_config(
        sampling=SamplingConfig(prompts=2, group_size=2, temperature=1.0, max_new_tokens=2),
        optim=OptimConfig(**{"lr": 1e-3, **optim}),  # type: ignore[arg-type]
        campaign=CampaignConfig(steps=2, checkpoint_every=1),
        evaluate=EvaluateConfig(samples=1, audit_samples=1),
    )
    before = live_bytes()
    trainer = Trainer(make_policy(Qwen2Config(**WIDE)), LetterGrader(), config)
    weights = sum(p.numel() * p.element_size() for p in trainer.policy.model.parameters())
    store, held = RunStore.create(tmp_path / "run", {}), {"update": [0.0], "save": [0.0], "evaluate": [0.0]}

    def note(moment: str) -> None:
        held[moment].append((live_bytes() - before) / weights)

    hook = register_optimizer_step_post_hook(lambda *_: note("update"))
    save, grade = store.save, trainer.grader.grade

    def saving(checkpoint):  # type: ignore[no-untyped-def]
        note("save")
        save(checkpoint)

    def grading(tasks, texts):  # type: ignore[no-untyped-def]
        note("evaluate")
        return grade(tasks, texts)

    store.save = saving  # type: ignore[method-assign]
    trainer.grader.grade = grading  # type: ignore[method-assign]
    try:
        run_chain(trainer, lambda _: TASKS, store=store)
    finally:
        hook.remove()
    assert len(held["update"]) == 3
    assert 3 < max(map(max, held.values())) <= most * 1.01
