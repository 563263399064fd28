"""What a run takes on the disk, as it is estimated before it starts and as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import SIZE, LetterGrader, make_config, make_policy, make_tasks
from transformers import Qwen2Config

from sr_core import CampaignTasks, RunStore, Trainer, run_chain
from sr_core.config import CampaignConfig, EvaluateConfig, OptimConfig, SamplingConfig
from sr_core.runs.disk import run_bytes
from sr_core.unguarded import Unguarded

TASKS = CampaignTasks(train=make_tasks(7), heldout=make_tasks(3, 10), audit=make_tasks(2, 20))
WIDE = SIZE | {"hidden_size": 128, "intermediate_size": 512}  # its tensors outweigh what is written around them
del WIDE["head_dim"]


class Climber(Unguarded):
    """Retains the first policy and the newest one, as at a peak after every step."""

    def __init__(self, moments: bool) -> None:
        super().__init__(samples=1)
        self.reset_optimizer = not moments

    def retained(self) -> frozenset[int]:
        return frozenset({0, self._step})


@pytest.mark.parametrize(("average", "moments"), [(False, False), (True, True)])
def test_a_run_takes_what_was_estimated(tmp_path: Path, average: bool, moments: bool) -> None:
    config = make_config(
        sampling=SamplingConfig(prompts=2, group_size=2, temperature=1.0, max_new_tokens=2),
        optim=OptimConfig(lr=1e-3, average=average),
        campaign=CampaignConfig(steps=4, checkpoint_every=1),
        evaluate=EvaluateConfig(samples=1, audit_samples=1),
    )
    trainer = Trainer(make_policy(Qwen2Config(**WIDE)), LetterGrader(), config)
    store = RunStore.create(tmp_path / "run", {})
    sizes: list[int] = []
    plain = store._prune

    def pruning() -> None:
        sizes.append(sum(path.stat().st_size for path in store.checkpoints.rglob("*") if path.is_file()))
        plain()

    store._prune = pruning  # type: ignore[method-assign]
    run_chain(trainer, lambda _: TASKS, Climber(moments), store=store)
    kept = sum(p.numel() * p.element_size() for p in trainer.policy.model.parameters())
    assert max(sizes) + kept == pytest.approx(run_bytes(trainer.policy.model, config, moments=moments), rel=0.1)
