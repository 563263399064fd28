"""A bfloat16 policy is trained in steps far below its own precision, and saved and restored with all of them."""

from __future__ import annotations

from dataclasses import replace

import torch
from gradients import OPTIM, Catcher, graded, roll, verdicts
from tiny import LetterGrader, make_config, make_policy, make_tasks

from sr_core import CampaignTasks, Trainer
from sr_core.algorithms import Reinforce
from sr_core.config import OptimConfig
from sr_core.engine import Engine
from sr_core.optim.gradients import Gradients
from sr_core.optim.master_weights import MasterWeights
from sr_core.optim.objective import Objective
from sr_core.optim.update import update

TASKS = CampaignTasks(train=make_tasks(6), heldout=make_tasks(4, 100))


def trained(steps: range, trainer: Trainer | None = None, lr: float = 1e-6) -> Trainer:
    config = make_config(optim=OptimConfig(lr=lr), seed=1)
    trainer = trainer or Trainer(make_policy(dtype=torch.bfloat16), LetterGrader(), config)
    for step in steps:
        batch = TASKS.draw(config, 0, step)
        trainer.update(trainer.grade(batch, trainer.rollout(batch, campaign=0, step=step)))
    return trainer


def test_a_step_below_bfloat16s_precision_is_kept() -> None:
    start, trainer = trained(range(1, 1)), trained(range(1, 4))
    moved = max(float((weight - start.weights()[name]).abs().max()) for name, weight in trainer.weights().items())
    assert 5e-7 < moved < 4e-6
    assert {weight.dtype for weight in trainer.weights().values()} == {torch.float32}
    assert {p.dtype for p in trainer.policy.model.parameters()} == {torch.bfloat16}


def test_small_steps_add_up_until_the_policy_moves() -> None:
    start, trainer = trained(range(1, 1), lr=1e-4), trained(range(1, 40), lr=1e-4)
    pairs = zip(start.policy.model.parameters(), trainer.policy.model.parameters(), strict=True)
    assert any(not torch.equal(before, after) for before, after in pairs)


def test_a_restored_trainer_goes_on_as_if_nothing_had_happened() -> None:
    whole = trained(range(1, 7))
    half = trained(range(1, 4))
    other = trained(range(1, 1))
    other.load_state_dict(half.state_dict())
    other.load_weights(half.weights())
    other = trained(range(4, 7), other)
    assert all(torch.equal(whole.weights()[name], weight) for name, weight in other.weights().items())


def test_a_roll_back_restores_what_the_optimizer_had() -> None:
    trainer = trained(range(1, 4))
    snapshot, before = trainer.snapshot(moments=True), trainer.weights()
    trained(range(4, 6), trainer)
    trainer.roll_back(snapshot, lr_factor=1.0, reset_optimizer=False)
    assert all(torch.equal(before[name], weight) for name, weight in trainer.weights().items())


def test_narrow_gradients_of_many_parts_are_summed_in_float32() -> None:
    rng = torch.Generator().manual_seed(0)
    parts = [torch.randn(500, generator=rng).bfloat16() + 1 for _ in range(50)]
    parameter = torch.nn.Parameter(torch.zeros(500, dtype=torch.bfloat16))
    gradients = Gradients([parameter])
    for part in parts:
        (parameter * part).sum().backward()
        gradients.collect()
    master = torch.zeros(500, requires_grad=True)
    gradients.tensors()
    gradients.give([master])
    exact = torch.stack([part.double() for part in parts]).sum(0)
    narrow = torch.zeros(500, dtype=torch.bfloat16)
    for part in parts:
        narrow += part
    assert master.grad is not None
    assert parameter.grad is None
    error = float((master.grad.double() - exact).norm() / exact.norm())
    assert error < 1e-6 < 1e-3 < float((narrow.double() - exact).norm() / exact.norm())


def test_master_weights_get_gradients_that_bfloat16_cannot_hold() -> None:
    policy = make_policy(dtype=torch.bfloat16)
    masters = MasterWeights(policy.model)
    optimizer = Catcher(masters.parameters, lr=0.0)
    objective = Objective(algorithm=Reinforce(), temperature=0.8)
    batch = graded(roll(policy), *verdicts())
    update(Engine(policy), optimizer, batch, objective, replace(OPTIM, micro_batch_tokens=8))
    assert {gradient.dtype for gradient in optimizer.seen.values()} == {torch.float32}
    assert any(not torch.equal(gradient, gradient.bfloat16().float()) for gradient in optimizer.seen.values())
