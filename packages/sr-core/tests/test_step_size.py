"""Steps of a measured size: the limit holds whatever the rate, and a shortened step is one of a smaller rate."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from gradients import roll
from hypothesis import given, settings
from tiny import LetterGrader, make_config, make_policy, make_tasks

from sr_core import CampaignTasks, Trainer
from sr_core.batch import Batch, Rollout
from sr_core.config import CampaignConfig, OptimConfig, SamplingConfig
from sr_core.engine import Engine
from sr_core.errors import ConfigError
from sr_core.optim import movement
from sr_core.optim.movement import Probe, probe_rows
from sr_core.optim.step_size import AIM, FALL, RISE, Step, StepSize
from sr_core.optim.update import UpdateResult
from sr_core.policy import Policy, lora

TASKS = CampaignTasks(train=make_tasks(6), heldout=make_tasks(4, 100))
MEASURED = OptimConfig(lr=1e-2, step="measured")
KINDS = ["float32", "float64", "bfloat16", *(["lora"] if importlib.util.find_spec("peft") else [])]


def policy_of(kind: str) -> Policy:
    policy = make_policy(dtype=torch.float32 if kind == "lora" else getattr(torch, kind))
    return Policy(lora.add_adapters(policy.model, 3), policy.tokenizer) if kind == "lora" else policy


def trainer_of(optim: OptimConfig, kind: str = "float32", **sections: Any) -> Trainer:
    return Trainer(policy_of(kind), LetterGrader(), make_config(optim=optim, **sections))


def samples(trainer: Trainer, step: int) -> Batch:
    batch = TASKS.draw(trainer.config, 0, step)
    return trainer.grade(batch, trainer.rollout(batch, campaign=0, step=step))


def step_of(result: UpdateResult) -> Step:
    """What an update reports of its step; a fixed one has no limit."""
    assert result.step_kl is not None
    assert result.step_scale is not None
    assert result.step_shortened is not None
    limit = math.inf if result.step_limit is None else result.step_limit
    return Step(moved=result.step_kl, limit=limit, scale=result.step_scale, shortened=result.step_shortened)


def train(trainer: Trainer, steps: range) -> list[Step]:
    return [step_of(trainer.update(samples(trainer, step))) for step in steps]


def textbook_movement(old: Policy, new: Policy, graded: Batch, temperature: float) -> float:
    """KL(old || new) per token over the measured rows, a sequence at a time, through transformers' own forward pass."""
    rollout = graded.rollout
    total, count = 0.0, 0
    for row in probe_rows(rollout):
        prompt, tokens = rollout.prompts[row // rollout.group_size], rollout.tokens[row]
        ids, places = torch.tensor([prompt + tokens]), slice(len(prompt) - 1, len(prompt) + len(tokens) - 1)
        with torch.no_grad():
            before, after = (
                (p.model(input_ids=ids).logits[0, places].double() / temperature).log_softmax(1) for p in (old, new)
            )
        total += float((before.exp() * (before - after)).sum())
        count += len(tokens)
    return total / count


@given(st.floats(-6, 2), st.integers(1, 100))
@settings(max_examples=5, deadline=None)
def test_no_step_moves_the_policy_further_than_its_limit_whatever_the_rate(exponent: float, number: int) -> None:
    trainer = trainer_of(replace(MEASURED, lr=10**exponent))
    for step in range(number, number + 3):
        before = trainer.policy.frozen_copy()
        graded = samples(trainer, step)
        taken = step_of(trainer.update(graded))
        assert taken.limit == pytest.approx(0.03 * graded.rollout.entropy * min(1, max(0.01, graded.failing) / 0.2))
        assert taken.moved <= taken.limit
        assert textbook_movement(before, trainer.policy, graded, 1.0) == pytest.approx(taken.moved, rel=1e-3, abs=1e-7)


def test_rates_a_factor_1e6_apart_become_one() -> None:
    rates, moved = [], []
    for lr in (1e-5, 1e-2, 1e1):
        trainer = trainer_of(replace(MEASURED, lr=lr))
        moved.append([step.moved for step in train(trainer, range(1, 7))])
        rates.append(trainer.step_size.rate)
    assert max(rates) < 1.5 * min(rates)
    for steps in moved:
        assert steps[0] > 0  # from the smallest rate, too, the first step is a step
        assert sum(steps) == pytest.approx(sum(moved[0]), rel=0.5)


@pytest.mark.parametrize("lr", [1e10, 1e38])
def test_the_first_step_of_an_absurd_rate_leaves_finite_weights_within_the_limit(lr: float) -> None:
    trainer = trainer_of(replace(MEASURED, lr=lr))
    taken = train(trainer, range(1, 4))
    assert all(step.moved <= step.limit for step in taken)
    assert all(torch.isfinite(weight).all() for weight in trainer.weights().values())
    assert trainer.step_size.rate < lr / 100


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("epochs", [1, 3])
def test_the_limit_holds_for_every_kind_of_weights_and_over_epochs(kind: str, epochs: int) -> None:
    trainer = trainer_of(replace(MEASURED, lr=1.0, epochs=epochs, average=True), kind)
    taken = train(trainer, range(1, 4))
    assert all(0 < step.moved <= step.limit for step in taken)
    assert taken[0].shortened >= 1
    if kind == "bfloat16":
        for parameter in trainer.policy.model.parameters():
            assert torch.equal(parameter, trainer._master_weights.of(parameter.detach()).to(torch.bfloat16))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind in ("float64", "lora")])
def test_a_shortened_step_is_the_step_of_a_smaller_rate(kind: str) -> None:
    measured = trainer_of(replace(MEASURED, lr=1.0, weight_decay=0.1), kind)
    first = samples(measured, 1)
    taken = step_of(measured.update(first))
    assert taken.scale < 0.1
    fixed = trainer_of(OptimConfig(lr=taken.scale, weight_decay=0.1), kind)
    moved = step_of(fixed.update(first))
    assert moved.moved == pytest.approx(taken.moved, rel=1e-4)
    for name, weight in fixed.weights().items():
        torch.testing.assert_close(measured.weights()[name], weight, rtol=1e-5, atol=1e-7)
    ours, theirs = (t.optimizer.state_dict()["state"] for t in (measured, fixed))
    for number, moments in theirs.items():
        assert all(torch.equal(ours[number][name], value) for name, value in moments.items())


def test_measuring_the_steps_of_a_fixed_rate_changes_nothing() -> None:
    one, other = trainer_of(OptimConfig(lr=1e-2)), trainer_of(OptimConfig(lr=1e-2))
    other._stepper = lambda graded: Untouched(other)  # type: ignore[assignment,method-assign]
    for step in range(1, 4):
        result = one.update(samples(one, step))
        other.update(samples(other, step))
        assert step_of(result).scale == 1
        assert step_of(result).moved > 0
    assert all(torch.equal(one.weights()[name], weight) for name, weight in other.weights().items())


class Untouched:
    """Steps without a measurement."""

    result = None

    def __init__(self, trainer: Trainer) -> None:
        self.step, self.zero_grad = trainer.optimizer.step, trainer.optimizer.zero_grad
        self.param_groups = trainer.optimizer.param_groups


@pytest.mark.parametrize("micro_batch_tokens", [8, 50])
def test_micro_batches_make_the_same_steps_as_one_batch(micro_batch_tokens: int) -> None:
    whole = trainer_of(replace(MEASURED, lr=1.0), "float64")
    parts = trainer_of(replace(MEASURED, lr=1.0, micro_batch_tokens=micro_batch_tokens), "float64")
    for one, other in zip(train(whole, range(1, 4)), train(parts, range(1, 4)), strict=True):
        assert vars(one) == pytest.approx(vars(other), rel=1e-6)


def test_a_restored_trainer_takes_the_same_steps_to_the_last_bit() -> None:
    config = replace(MEASURED, lr=1.0, average=True)
    whole, half, other = trainer_of(config), trainer_of(config), trainer_of(config)
    train(whole, range(1, 7))
    train(half, range(1, 4))
    other.load_state_dict(half.state_dict())
    other.load_weights(half.weights())
    train(other, range(4, 7))
    assert other.step_size.state_dict() == whole.step_size.state_dict()
    assert all(torch.equal(whole.weights()[name], weight) for name, weight in other.weights().items())


def test_samples_that_teach_nothing_leave_the_rate_as_it_is() -> None:
    trainer = trainer_of(MEASURED)
    train(trainer, range(1, 4))
    rate = trainer.step_size.rate
    for step in range(4, 9):
        graded = samples(trainer, step)
        trainer.update(replace(graded, rewards_PG=torch.ones_like(graded.rewards_PG)))
        assert trainer.step_size.rate == rate


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_a_first_batch_that_teaches_nothing_is_not_searched(weight_decay: float) -> None:
    trainer = trainer_of(replace(MEASURED, weight_decay=weight_decay))
    rate = trainer.step_size.rate
    for step in range(1, 3):
        graded = samples(trainer, step)
        taken = step_of(trainer.update(replace(graded, rewards_PG=torch.ones_like(graded.rewards_PG))))
        assert taken.scale <= 1
    assert (trainer.step_size.found, trainer.step_size.rate) == (False, rate)
    found = train(trainer, range(3, 4))[0]
    assert trainer.step_size.found
    assert 0 < found.moved <= found.limit


@given(st.floats(1e-9, 1e3), st.floats(1e-9, 1.0), st.floats(0, 1), st.floats(1e-10, 1e2))
def test_the_rate_follows_by_small_factors_towards_what_would_have_met_the_limit(
    moved_over_limit: float, scale: float, taught: float, rate: float
) -> None:
    size = StepSize(rate, None)
    size.found = True
    size.follow(Step(moved=1e-2 * moved_over_limit, limit=1e-2, scale=scale, shortened=0), taught)
    change = size.rate / rate
    assert FALL * (1 - 1e-9) <= change <= RISE * (1 + 1e-9)
    would_have_met = scale * math.sqrt(AIM / moved_over_limit)
    assert (change - 1) * (would_have_met - 1) >= -1e-12
    if change > 1:
        assert math.log(change) <= taught * math.log(RISE) + 1e-12


def test_a_step_that_cannot_be_measured_is_not_taken() -> None:
    trainer = trainer_of(MEASURED)
    train(trainer, range(1, 3))
    before, rate = trainer.weights(), trainer.step_size.rate
    graded = samples(trainer, 3)
    hook = trainer.optimizer.register_step_post_hook(lambda *_: spoil(trainer))
    taken = step_of(trainer.update(graded))
    hook.remove()
    assert taken.scale == taken.moved == 0
    assert all(torch.equal(before[name], weight) for name, weight in trainer.weights().items())
    assert trainer.step_size.rate < rate


@torch.no_grad()
def spoil(trainer: Trainer) -> None:
    next(iter(trainer.policy.model.parameters())).fill_(torch.nan)


def test_the_limit_is_a_share_of_the_entropy_or_a_given_number_and_never_nothing() -> None:
    assert StepSize(1e-3, None).limit(0.5) == pytest.approx(0.015)
    assert StepSize(1e-3, 0.002).limit(0.5) == 0.002
    assert StepSize(1e-3, None).limit(0.0) > 0
    assert StepSize(1e-3, None).limit(0.0) == StepSize(1e-3, None).limit(1e-5)


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.floats(0.01, 100), st.floats(-10, 10))
def test_fewer_failures_leave_less_of_the_limit_in_whatever_units_rewards_are(
    passed: list[bool], unit: float, shift: float
) -> None:
    graded = batch_of([unit * reward + shift for reward in passed])
    wrong = 1 - sum(passed) / len(passed)
    assert graded.failing == pytest.approx(wrong if 0 < wrong < 1 else 0)
    size = StepSize(1e-3, None)
    part = size.limit(0.5, graded.failing) / size.limit(0.5)
    assert part == pytest.approx(min(1, 5 * max(graded.failing, 0.01)))
    assert size.rate_for(graded.failing) == pytest.approx(1e-3 * math.sqrt(part))
    given_limit = StepSize(1e-3, 0.002)
    assert (given_limit.limit(0.5, graded.failing), given_limit.rate_for(graded.failing)) == (0.002, 1e-3)


def test_a_sample_that_was_not_judged_counts_neither_as_failed_nor_as_passed() -> None:
    graded = batch_of([1.0, 0.0, 0.0, 1.0])
    invalid = torch.tensor([[True, True, False, True]])
    assert replace(graded, valid_PG=invalid).failing == pytest.approx(1 / 3)
    assert replace(graded, valid_PG=torch.zeros_like(invalid)).failing == 0


def batch_of(rewards: list[float]) -> Batch:
    count = len(rewards)
    rollout = Rollout(
        prompts=[[1]],
        group_size=count,
        tokens=[[2]] * count,
        logprobs=[torch.zeros(1)] * count,
        truncated=[False] * count,
        entropy=0.5,
    )
    valid = torch.ones((1, count), dtype=torch.bool)
    return Batch(rollout=rollout, rewards_PG=torch.tensor([rewards]), valid_PG=valid, sampled_tokens=count)


def test_a_roll_back_lowers_the_limit_and_a_campaign_begins_with_the_planned_one() -> None:
    trainer = trainer_of(MEASURED)
    train(trainer, range(1, 3))
    snapshot, gone, rate = trainer.snapshot(moments=False), trainer.step_size.total, trainer.step_size.rate
    train(trainer, range(3, 5))
    assert trainer.step_size.total > gone > 0
    found = trainer.step_size.rate
    trainer.roll_back(snapshot, lr_factor=0.5, reset_optimizer=True)
    assert (trainer.step_size.total, trainer.step_size.limit_factor) == (gone, 0.5)
    graded = samples(trainer, 5)
    taken = step_of(trainer.update(graded))
    assert taken.limit == pytest.approx(0.5 * 0.03 * graded.rollout.entropy * min(1, max(0.01, graded.failing) / 0.2))
    trainer.begin_campaign(lr=MEASURED.lr * 0.25)
    assert (trainer.step_size.total, trainer.step_size.limit_factor) == (0.0, 0.25)
    assert trainer.step_size.rate > 0.1 * min(found, rate)  # what was found is not forgotten


def test_rewards_that_come_in_a_burst_after_quiet_steps_move_no_further() -> None:
    trainer = trainer_of(replace(MEASURED, beta2=0.9))
    train(trainer, range(1, 3))
    for step in range(3, 12):
        graded = samples(trainer, step)
        quiet = torch.ones_like(graded.rewards_PG)
        quiet[0, 0] = 0.999
        trainer.update(replace(graded, rewards_PG=quiet))
    graded = samples(trainer, 12)
    taken = step_of(trainer.update(replace(graded, rewards_PG=graded.rewards_PG * 1000)))
    assert 0 < taken.moved <= taken.limit


@given(st.integers(1, 7), st.integers(1, 5), st.floats(0.01, 1), st.integers(0, 1000))
def test_measured_rows_spread_over_the_prompts(prompts: int, group: int, share: float, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 9, (prompts * group,), generator=rng).tolist()
    rollout = Rollout(
        prompts=[[2] * 5] * prompts,
        group_size=group,
        tokens=[[3] * length for length in lengths],
        logprobs=[],
        truncated=[],
        entropy=0.0,
    )
    rows = probe_rows(rollout, share, least=1)
    taken = [sum(row // group == prompt for row in rows) for prompt in range(prompts)]
    assert 1 <= len(rows) <= len(lengths)
    assert max(taken) - min(taken) <= 1
    if share == 1:
        assert len(rows) == len(lengths)


def test_tokens_outside_the_kept_ones_lower_the_movement_at_most_a_little(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for kept in (4, 256):
        monkeypatch.setattr(movement, "KEPT", kept)
        policy = make_policy()
        probe = Probe(Engine(policy), roll(policy), temperature=0.8)
        with torch.no_grad():
            for parameter in policy.model.parameters():
                parameter.mul_(1.05)
        found[kept] = probe.moved()
    assert 0.5 * found[256] < found[4] <= found[256]


def test_a_rare_token_that_takes_over_is_noticed_though_it_was_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(movement, "KEPT", 2)
    logits = torch.tensor([[8.0, 7.0, 1.0, 0.0, -9.0]])
    kept = movement._Kept(logits.log_softmax(1))
    logits[0, 4] = 12.0
    assert float(kept.divergence(logits.log_softmax(1))) > 3


def test_a_target_goes_with_measured_steps_only() -> None:
    with pytest.raises(ConfigError, match=r"optim\.step_kl goes with optim\.step 'measured' only"):
        OptimConfig(step_kl=0.01)
    with pytest.raises(ConfigError, match=r"optim\.step_kl must be above 0"):
        OptimConfig(step="measured", step_kl=0.0)


def test_long_prompts_leave_some_out() -> None:
    sampling = SamplingConfig(prompts=4, group_size=4, temperature=1.0, max_new_tokens=4)
    trainer = trainer_of(MEASURED, sampling=sampling, campaign=CampaignConfig(steps=1))
    rollout = replace(samples(trainer, 1).rollout, prompts=[[2] * 1000] * 4)
    assert len(probe_rows(rollout)) == 1
