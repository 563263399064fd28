"""Low-rank adapters: exact gradients through every path, only they are trained, and they can be loaded again."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from gradients import assert_same, completion_scores, gradients, plain_gradients, roll
from safetensors.torch import load_file, save_file
from tiny import ARCHITECTURES, LetterGrader, make_config, make_policy, make_tasks

from sr_core import CampaignTasks, RunStore, Trainer, run_chain
from sr_core.algorithms import Grpo
from sr_core.config import CampaignConfig, KlConfig, OptimConfig, PolicyConfig
from sr_core.engine import Engine
from sr_core.errors import PolicyError
from sr_core.policy import Policy, lora

pytest.importorskip("peft", reason="adapters need peft: install sr-core[lora]")

TASKS = CampaignTasks(train=make_tasks(6), heldout=make_tasks(4, 100))


def adapted(architecture: str = "qwen2", dtype: torch.dtype = torch.float32) -> Policy:
    """A policy whose adapters have been somewhere already."""
    policy = make_policy(architecture, dtype=dtype)
    policy = Policy(lora.add_adapters(policy.model, 3), policy.tokenizer)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=rng))
    return policy


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model on disk."""
    make_policy().save(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_gradients_of_adapters_equal_the_textbook_ones(architecture: str) -> None:
    policy = adapted(architecture, torch.float64)
    assert Engine(policy).shares_prompts
    rollout = roll(policy)
    ours, _ = gradients(policy, rollout, Grpo())
    theirs = plain_gradients(policy, rollout, Grpo())
    trained = [i for i, p in enumerate(policy.model.parameters()) if p.requires_grad]
    assert sorted(ours) == sorted(theirs) == trained
    assert_same(ours, theirs, 1e-10)


def test_samples_are_drawn_from_the_adapted_policy() -> None:
    policy = adapted(dtype=torch.float64)
    rollout = roll(policy)
    prompts = [prompt for prompt in rollout.prompts for _ in range(rollout.group_size)]
    with torch.no_grad():
        scores = completion_scores(policy, prompts, rollout.tokens, temperature=0.8)
        base = completion_scores(make_policy(dtype=torch.float64), prompts, rollout.tokens, temperature=0.8)
    for i, drawn in enumerate(rollout.logprobs):
        torch.testing.assert_close(scores.logprobs_NT[i, : len(drawn)], drawn.clone(), atol=1e-10, rtol=0)
    assert not torch.allclose(scores.logprobs_NT, base.logprobs_NT)


def test_only_adapters_are_trained_saved_and_handed_on(folder: Path, tmp_path: Path) -> None:
    policy = Policy.load(PolicyConfig(path=str(folder), lora_rank=2))
    base = {n: p.detach().clone() for n, p in policy.model.named_parameters() if "lora" not in n}
    config = make_config(campaign=CampaignConfig(steps=3), optim=OptimConfig(lr=0.1))
    store = RunStore.create(tmp_path / "run", {})
    trainer = Trainer(policy, LetterGrader(), config)
    before = trainer.weights()
    run_chain(trainer, lambda _: TASKS, store=store)
    assert any(not torch.equal(before[name], weight) for name, weight in trainer.weights().items())
    for path in store.checkpoints.rglob("weights.safetensors"):
        assert all("lora" in name for name in load_file(path))
    for name, weight in policy.model.named_parameters():
        assert "lora" in name or torch.equal(weight, base[name])
    policy.save(tmp_path / "kept")
    again = Policy.load(tmp_path / "kept")
    probe = roll(policy)
    prompts = [probe.prompts[0]] * 5
    with torch.no_grad():
        ours, theirs = (completion_scores(p, prompts, probe.tokens[:5], temperature=1.0) for p in (policy, again))
    assert torch.equal(ours.logprobs_NT, theirs.logprobs_NT)
    assert [p.requires_grad for p in again.model.parameters()] == [p.requires_grad for p in policy.model.parameters()]


def test_the_reference_is_the_model_without_its_adapters_and_shares_its_weights(folder: Path) -> None:
    config = make_config(penalty=KlConfig(), optim=OptimConfig(lr=0.1))
    policy = Policy.load(PolicyConfig(path=str(folder), lora_rank=2))
    trainer = Trainer(policy, LetterGrader(), config)
    for step in range(1, 4):
        batch = TASKS.draw(config, 0, step)
        trainer.update(trainer.grade(batch, trainer.rollout(batch, campaign=0, step=step)))
    reference = trainer.penalty.reference
    assert reference is not None
    probe = roll(policy)
    prompts = [prompt for prompt in probe.prompts for _ in range(5)]
    with torch.no_grad():
        said, plain, now = (
            completion_scores(p, prompts, probe.tokens, temperature=1.0).logprobs_NT
            for p in (reference.policy, Policy.load(folder), policy)
        )
    torch.testing.assert_close(said, plain)
    assert not torch.allclose(said, now, atol=1e-3)
    frozen = {p.data_ptr() for p in policy.model.parameters() if not p.requires_grad}
    own = [p for p in reference.policy.model.parameters() if p.data_ptr() not in frozen]
    assert sum(p.numel() for p in own) == sum(p.numel() for p in policy.model.parameters() if p.requires_grad)


def test_a_roll_back_restores_the_adapters() -> None:
    trainer = Trainer(adapted(), LetterGrader(), make_config())
    snapshot = trainer.snapshot(moments=False)
    before = trainer.weights()
    with torch.no_grad():
        for parameter in trainer.policy.model.parameters():
            if parameter.requires_grad:
                parameter.add_(1.0)
    trainer.roll_back(snapshot, lr_factor=1.0, reset_optimizer=True)
    assert all(torch.equal(before[name], weight) for name, weight in trainer.weights().items())


def test_fresh_adapters_are_the_same_every_time_and_change_nothing(folder: Path) -> None:
    first, second = (Policy.load(PolicyConfig(path=str(folder), lora_rank=4)) for _ in range(2))
    pairs = zip(first.model.parameters(), second.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    ids = torch.tensor([[2, 3, 4]])
    assert torch.equal(first.model(ids).logits, Policy.load(folder).model(ids).logits)


def test_adapters_whose_model_is_gone_say_so(folder: Path, tmp_path: Path) -> None:
    Policy.load(PolicyConfig(path=str(folder), lora_rank=2)).save(tmp_path / "kept")
    folder.rename(tmp_path / "moved")
    with pytest.raises(PolicyError, match=f"no model .{folder}. here.*are not downloaded"):
        Policy.load(tmp_path / "kept")


BROKEN: dict[str, Callable[[Path], object]] = {
    "must hold a JSON object": lambda folder: (folder / lora.CONFIG).write_text("{"),
    "no model 'Some/Hub-Model' here": lambda folder: (folder / lora.CONFIG).write_text(
        json.dumps({"base_model_name_or_path": "Some/Hub-Model"})
    ),
    "holds no adapter weights": lambda folder: (folder / "adapter_model.safetensors").unlink(),
    "cannot be loaded": lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"cut off"),
    "are not those of the model": lambda folder: save_file(
        {n.replace("layers.1", "layers.7"): w for n, w in load_file(folder / "adapter_model.safetensors").items()},
        folder / "adapter_model.safetensors",
    ),
}


@pytest.mark.parametrize("says", BROKEN)
def test_adapters_that_are_broken_or_anothers_are_refused(folder: Path, tmp_path: Path, says: str) -> None:
    Policy.load(PolicyConfig(path=str(folder), lora_rank=2)).save(tmp_path / "kept")
    BROKEN[says](tmp_path / "kept")
    with pytest.raises(PolicyError, match=says):
        Policy.load(tmp_path / "kept")


def test_saving_adapters_asks_no_network(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import peft.utils.save_and_load as saving

    def ask(*_: object, **__: object) -> None:
        raise AssertionError("asked the hub")

    monkeypatch.setattr(saving, "check_file_exists_on_hf_hub", ask)
    policy = Policy.load(PolicyConfig(path=str(folder), lora_rank=2))
    policy.model.peft_config["default"].base_model_name_or_path = "smollm2-135m"  # as of a known name
    policy.save(tmp_path / "kept")
    assert (tmp_path / "kept" / lora.CONFIG).exists()


def test_without_peft_the_way_out_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(PolicyError, match=r"not installed: pip install peft"):
        Policy.load(PolicyConfig(path=str(folder), lora_rank=2))


def test_adapters_of_a_bfloat16_model_are_float32(folder: Path) -> None:
    policy = Policy.load(replace(PolicyConfig(path=str(folder), lora_rank=2), dtype="bfloat16"))
    assert {p.dtype for p in policy.model.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in policy.model.parameters() if not p.requires_grad} == {torch.bfloat16}
    assert all(torch.isfinite(values).all() for values in roll(policy).logprobs)
