from __future__ import annotations

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from sr_core.algorithms import Counts, Grpo, Reinforce

REWARDS = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]])
ALL = torch.ones(2, 4, dtype=torch.bool)
shapes = st.tuples(st.integers(1, 5), st.integers(2, 6))


@st.composite
def verdicts(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    prompts, group = draw(shapes)
    flags = st.lists(st.booleans(), min_size=prompts * group, max_size=prompts * group)
    rewards = torch.tensor(draw(flags)).float().view(prompts, group)
    return rewards, torch.tensor(draw(flags)).view(prompts, group)


@pytest.mark.parametrize(
    ("baseline", "expected"),
    [
        ("none", [[1, 0, 0, 1], [0, 0, 0, 1]]),
        ("batch_mean", [[0.625, -0.375, -0.375, 0.625], [-0.375, -0.375, -0.375, 0.625]]),
        ("leave_one_out", [[2 / 3, -2 / 3, -2 / 3, 2 / 3], [-1 / 3, -1 / 3, -1 / 3, 1]]),
    ],
)
def test_reinforce_advantages_by_hand(baseline: str, expected: list[list[float]]) -> None:
    advantages = Reinforce(baseline=baseline).advantages(REWARDS, ALL)
    torch.testing.assert_close(advantages, torch.tensor(expected, dtype=torch.float32))


def test_ema_baseline_is_the_past_and_survives_a_round_trip() -> None:
    algorithm = Reinforce(baseline="ema", ema_decay=0.9)
    torch.testing.assert_close(algorithm.advantages(REWARDS, ALL), REWARDS)
    twin = Reinforce(baseline="ema", ema_decay=0.9)
    twin.load_state_dict(algorithm.state_dict())
    expected = REWARDS - 0.1 * 0.375
    torch.testing.assert_close(algorithm.advantages(REWARDS, ALL), expected)
    torch.testing.assert_close(twin.advantages(REWARDS, ALL), expected)


def test_grpo_advantages_by_hand() -> None:
    advantages = Grpo().advantages(REWARDS, ALL)
    first, second = math.sqrt(1 / 3) + 1e-4, 0.5 + 1e-4
    expected = [[0.5 / first, -0.5 / first, -0.5 / first, 0.5 / first], [-0.25 / second] * 3 + [0.75 / second]]
    torch.testing.assert_close(advantages, torch.tensor(expected))


@given(verdicts(), st.sampled_from(["none", "batch_mean", "leave_one_out", "ema", "grpo"]))
@settings(max_examples=80, deadline=None)
def test_a_sample_without_a_verdict_has_no_advantage(verdict: tuple[torch.Tensor, torch.Tensor], name: str) -> None:
    rewards, valid = verdict
    algorithm = Grpo() if name == "grpo" else Reinforce(baseline=name)
    advantages = algorithm.advantages(rewards, valid)
    assert torch.isfinite(advantages).all()
    assert (advantages[~valid] == 0).all()


@given(verdicts(), st.sampled_from(["batch_mean", "leave_one_out", "grpo"]))
@settings(max_examples=80, deadline=None)
def test_advantages_sum_to_zero(verdict: tuple[torch.Tensor, torch.Tensor], name: str) -> None:
    rewards, valid = verdict
    algorithm = Grpo() if name == "grpo" else Reinforce(baseline=name)
    advantages = algorithm.advantages(rewards, valid)
    sums = advantages.sum() if name == "batch_mean" else advantages.sum(1)
    torch.testing.assert_close(sums, torch.zeros_like(sums), atol=1e-4, rtol=0)


@given(verdicts(), st.sampled_from(["leave_one_out", "grpo"]))
@settings(max_examples=80, deadline=None)
def test_a_group_of_equal_rewards_teaches_nothing(verdict: tuple[torch.Tensor, torch.Tensor], name: str) -> None:
    rewards, valid = verdict
    rewards[0] = rewards[0, 0]
    algorithm = Grpo() if name == "grpo" else Reinforce(baseline=name)
    assert (algorithm.advantages(rewards, valid)[0] == 0).all()


def test_reinforce_loss_by_hand() -> None:
    logprobs = torch.tensor([[-1.0, -2.0, 9.0], [-0.5, 9.0, 9.0]])
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    loss = Reinforce().loss(logprobs, logprobs, torch.tensor([0.5, -2.0]), mask, Counts(sequences=2, tokens=3))
    torch.testing.assert_close(loss, torch.tensor([0.5 * 3 / 3, -2.0 * 0.5 / 3]))


def test_grpo_loss_by_hand_clips_only_where_that_lowers_the_objective() -> None:
    old = torch.zeros(2, 2)
    logprobs = torch.tensor([[math.log(1.5), math.log(0.5)], [math.log(1.5), math.log(0.5)]])
    loss = Grpo(clip=0.2).loss(
        logprobs, old, torch.tensor([1.0, -1.0]), torch.ones(2, 2), Counts(sequences=2, tokens=4)
    )
    # A > 0: min(1.5, 1.2) and min(0.5, 0.8); A < 0: min(-1.5, -1.2) and min(-0.5, -0.8)
    torch.testing.assert_close(loss, torch.tensor([-(1.2 + 0.5) / 2 / 2, (1.5 + 0.8) / 2 / 2]))


def test_grpo_ratio_does_not_overflow_at_padding() -> None:
    logprobs = torch.tensor([[0.0, 500.0]], requires_grad=True)
    loss = Grpo().loss(
        logprobs, torch.zeros(1, 2), torch.ones(1), torch.tensor([[1.0, 0.0]]), Counts(sequences=1, tokens=1)
    )
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert logprobs.grad is not None
    assert torch.isfinite(logprobs.grad).all()
