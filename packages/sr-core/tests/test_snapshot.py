from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tiny import LetterGrader, make_config, make_policy, make_tasks

from sr_core import Trainer
from sr_core.config import KlConfig, OptimConfig, ReinforceConfig
from sr_core.runs.snapshot import HostCopy

TASKS = make_tasks(6)


def make_trainer() -> Trainer:
    """Everything that has a state: moments, warm-up, running baseline, and two coefficients that adapt."""
    config = make_config(
        optim=OptimConfig(lr=1e-2, warmup_steps=5),
        algorithm=ReinforceConfig(baseline="ema", entropy_bonus=0.01, entropy_target=1.0),
        penalty=KlConfig(target=1e-4),
    )
    return Trainer(make_policy(), LetterGrader(), config)


def train(trainer: Trainer, steps: range) -> None:
    for step in steps:
        batch = TASKS[:3]
        trainer.update(trainer.grade(batch, trainer.rollout(batch, campaign=0, step=step)))


def everything(trainer: Trainer) -> dict[str, Any]:
    reference = trainer.penalty.reference
    assert reference is not None
    state = {
        "weights": trainer.weights(),
        "trainer": trainer.state_dict(),
        "reference": reference.policy.model.state_dict(),
    }
    return copy.deepcopy(state)


def assert_equal(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for key in theirs:
            assert_equal(ours[key], theirs[key])
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for our, their in zip(ours, theirs, strict=True):
            assert_equal(our, their)
    elif isinstance(theirs, torch.Tensor):
        assert torch.equal(ours, theirs)
    else:
        assert ours == theirs


def test_the_state_after_a_roll_back_is_exactly_the_peaks_every_time() -> None:
    trainer = make_trainer()
    train(trainer, range(1, 4))
    peak, snapshot = everything(trainer), trainer.snapshot(moments=True)
    ends = []
    for _ in range(3):
        train(trainer, range(4, 7))
        ends.append(everything(trainer))
        trainer.roll_back(snapshot, lr_factor=1.0, reset_optimizer=False)
        for group in trainer.optimizer.param_groups:  # the rate is set anew by every update
            group["lr"] = peak["trainer"]["optimizer"]["param_groups"][0]["lr"]
        assert_equal(everything(trainer), peak)
    # what follows is what followed: nothing else was kept from the detour, and the snapshot is not used up
    assert_equal(ends[1], ends[0])
    assert_equal(ends[2], ends[0])
    assert not torch.equal(next(iter(ends[0]["weights"].values())), next(iter(peak["weights"].values())))


def test_a_roll_back_that_forgets_starts_the_moments_and_the_warm_up_anew() -> None:
    trainer = make_trainer()
    train(trainer, range(1, 4))
    peak, snapshot = everything(trainer), trainer.snapshot(moments=False)
    train(trainer, range(4, 6))
    trainer.roll_back(snapshot, lr_factor=0.5, reset_optimizer=True)
    now = everything(trainer)
    assert_equal(now["weights"], peak["weights"])
    assert (trainer.lr, trainer.updates) == (0.005, 0)
    assert now["trainer"]["optimizer"]["state"] == {}
    for name in ("penalty", "entropy_bonus", "algorithm"):
        assert_equal(now["trainer"][name], peak["trainer"][name])


def test_a_copy_does_not_follow_its_original() -> None:
    tree = {"a": torch.ones(3), "b": [torch.zeros(2), 5, {"c": (torch.ones(1), "word")}]}
    copied = HostCopy(tree).read()
    assert_equal(copied, tree)
    tree["a"].add_(1)  # type: ignore[attr-defined]
    tree["b"][2]["c"][0].mul_(7)  # type: ignore[index]
    assert torch.equal(copied["a"], torch.ones(3))
    assert torch.equal(copied["b"][2]["c"][0], torch.ones(1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_copy_is_of_the_moment_it_was_asked_for() -> None:
    weight = torch.zeros(64_000_000, device="cuda")
    for value in range(5):
        weight.fill_(value)
        taken = HostCopy({"w": weight})
        taken.hold_device()
        weight.fill_(-1.0)
        assert (taken.read()["w"] == value).all()
        assert taken.read()["w"].is_pinned()
