from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from sr_core.algorithms import (
    ALGORITHMS,
    Algorithm,
    AsymRE,
    Cispo,
    Counts,
    Dapo,
    DrGrpo,
    Grpo,
    Gspo,
    LossInputs,
    LossOutputs,
    Reinforce,
    ReinforcePlusPlus,
    Rloo,
    Topr,
    Wapo,
    make_algorithm,
)
from sr_core.config import ALGORITHM, SamplingConfig, TrainConfig
from sr_core.errors import ConfigError
from sr_core.sections import build

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


THIRD = math.sqrt(1 / 3)


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        (Rloo(), [[2 / 3, -2 / 3, -2 / 3, 2 / 3], [-1 / 3, -1 / 3, -1 / 3, 1]]),
        (DrGrpo(max_tokens=9), [[0.5, -0.5, -0.5, 0.5], [-0.25, -0.25, -0.25, 0.75]]),
        (Wapo(max_tokens=9), [[0.5, 0, 0, 0.5], [0, 0, 0, 0.75]]),
        (AsymRE(baseline_shift=-0.1), [[0.6, -0.4, -0.4, 0.6], [-0.15, -0.15, -0.15, 0.85]]),
        (Topr(), [[1, -1, -1, 1], [-1, -1, -1, 1]]),
        # squares of the centred rewards: 4 / 4, then 3 / 16 + 9 / 16; by 8 - 1
        (
            ReinforcePlusPlus(),
            [[x / (0.5 + 1e-4) for x in row] for row in ([0.5, -0.5, -0.5, 0.5], [-0.25, -0.25, -0.25, 0.75])],
        ),
        (
            Dapo(),
            [[0.5 / (THIRD + 1e-4) * s for s in (1, -1, -1, 1)], [x / 0.5001 for x in (-0.25, -0.25, -0.25, 0.75)]],
        ),
    ],
)
def test_advantages_by_hand(algorithm: Algorithm, expected: list[list[float]]) -> None:
    torch.testing.assert_close(algorithm.advantages(REWARDS, ALL), torch.tensor(expected, dtype=torch.float32))


def test_advantages_by_hand_where_verdicts_are_missing() -> None:
    valid = torch.tensor([[True, True, False, False], [False, True, True, True]])
    expected = {
        "grpo": [
            [0.5 / (math.sqrt(0.5) + 1e-4) * s for s in (1, -1, 0, 0)],
            [0] + [x / (THIRD + 1e-4) for x in THIRDS],
        ],
        "rloo": [[1, -1, 0, 0], [0, -0.5, -0.5, 1]],
        "dr_grpo": [[0.5, -0.5, 0, 0], [0, *THIRDS]],
        "wapo": [[0.5, 0, 0, 0], [0, 0, 0, 2 / 3]],
        "topr": [[1, -1, 0, 0], [0, -1, -1, 1]],
        "asymre": [[0.6, -0.4, 0, 0], [0, *(x + 0.1 for x in THIRDS)]],
        # squares 1/4 + 1/4 + 1/9 + 1/9 + 4/9 = 7/6, of five verdicts
        "reinforce++": [[x / (math.sqrt(7 / 24) + 1e-4) for x in row] for row in ([0.5, -0.5, 0, 0], [0, *THIRDS])],
    }
    for name, rows in expected.items():
        advantages = make(name).advantages(REWARDS, valid)
        torch.testing.assert_close(advantages, torch.tensor(rows, dtype=torch.float32), msg=name)


THIRDS = (-1 / 3, -1 / 3, 2 / 3)
BATCH_WIDE = ("none", "batch_mean", "ema")  # baselines for which a group of equal rewards may differ from the rest
EVERY = [*(name for name in ALGORITHMS if name != "reinforce"), *BATCH_WIDE, "leave_one_out"]


def make(name: str) -> Algorithm:
    if name in ALGORITHMS:
        return make_algorithm(ALGORITHM[name](), max_tokens=10)
    return Reinforce(baseline=name)


@given(verdicts(), st.sampled_from(EVERY))
@settings(max_examples=200, deadline=None)
def test_a_sample_without_a_verdict_has_no_advantage(verdict: tuple[torch.Tensor, torch.Tensor], name: str) -> None:
    rewards, valid = verdict
    advantages = make(name).advantages(rewards, valid)
    assert torch.isfinite(advantages).all()
    assert (advantages[~valid] == 0).all()


@given(verdicts(), st.sampled_from(EVERY))
@settings(max_examples=100, deadline=None)
def test_what_the_grader_did_not_judge_has_no_say(verdict: tuple[torch.Tensor, torch.Tensor], name: str) -> None:
    rewards, valid = verdict
    other = torch.where(valid, rewards, 1 - rewards)
    assert torch.equal(make(name).advantages(rewards, valid), make(name).advantages(other, valid))


@given(verdicts(), st.sampled_from(sorted(set(EVERY) - {"none", "ema", "wapo", "topr", "asymre"})))
@settings(max_examples=100, deadline=None)
def test_advantages_sum_to_zero(verdict: tuple[torch.Tensor, torch.Tensor], name: str) -> None:
    advantages = make(name).advantages(*verdict)
    sums = advantages.sum() if name == "batch_mean" else advantages.sum(1)
    torch.testing.assert_close(sums, torch.zeros_like(sums), atol=1e-4, rtol=0)


@given(verdicts(), st.floats(0, 1, width=32), st.sampled_from(sorted(set(EVERY) - set(BATCH_WIDE))))
@settings(max_examples=200, deadline=None)
def test_a_group_of_equal_rewards_teaches_nothing(
    verdict: tuple[torch.Tensor, torch.Tensor], reward: float, name: str
) -> None:
    rewards, valid = verdict
    rewards[0] = reward  # any number: a mean of equal ones need not be exactly that one
    assert (make(name).advantages(rewards, valid)[0] == 0).all()


@given(verdicts(), st.sampled_from(EVERY), st.permutations(range(4)))
@settings(max_examples=100, deadline=None)
def test_the_order_of_the_prompts_does_not_matter(
    verdict: tuple[torch.Tensor, torch.Tensor], name: str, order: list[int]
) -> None:
    rewards, valid = verdict
    rows = [i for i in order if i < len(rewards)]
    if len(rows) == len(rewards):
        moved = make(name).advantages(rewards[rows], valid[rows])
        torch.testing.assert_close(moved, make(name).advantages(rewards, valid)[rows])


def evaluated(algorithm: Algorithm, logprobs, old, advantages: Sequence[float], mask, counts: Counts) -> LossOutputs:
    return algorithm.loss(
        LossInputs(
            logprobs_NT=logprobs,
            old_logprobs_NT=old,
            advantages_N=torch.tensor([float(a) for a in advantages]),
            mask_NT=mask,
            counts=counts,
        )
    )


def losses(*arguments: Any) -> torch.Tensor:
    return evaluated(*arguments).losses_N


def test_reinforce_loss_by_hand() -> None:
    logprobs = torch.tensor([[-1.0, -2.0, 9.0], [-0.5, 9.0, 9.0]])
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    loss = losses(Reinforce(), logprobs, logprobs, [0.5, -2.0], mask, Counts(sequences=2, tokens=3))
    torch.testing.assert_close(loss, torch.tensor([0.5 * 3 / 3, -2.0 * 0.5 / 3]))


def test_grpo_loss_by_hand_clips_only_where_that_lowers_the_objective() -> None:
    old = torch.zeros(2, 2)
    logprobs = torch.tensor([[math.log(1.5), math.log(0.5)], [math.log(1.5), math.log(0.5)]])
    loss = losses(Grpo(clip=0.2), logprobs, old, [1.0, -1.0], torch.ones(2, 2), Counts(sequences=2, tokens=4))
    # A > 0: min(1.5, 1.2) and min(0.5, 0.8); A < 0: min(-1.5, -1.2) and min(-0.5, -0.8)
    torch.testing.assert_close(loss, torch.tensor([-(1.2 + 0.5) / 2 / 2, (1.5 + 0.8) / 2 / 2]))


def test_grpo_ratio_does_not_overflow_at_padding() -> None:
    logprobs = torch.tensor([[0.0, 500.0]], requires_grad=True)
    mask = torch.tensor([[1.0, 0.0]])
    loss = losses(Grpo(), logprobs, torch.zeros(1, 2), [1.0], mask, Counts(sequences=1, tokens=1))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert logprobs.grad is not None
    assert torch.isfinite(logprobs.grad).all()


# two sequences of two tokens and one; the ratios to the old policy are 1.5 and 0.5, and 2
LOGPROBS = torch.tensor([[-1.0, -2.0], [-0.5, 7.0]])
RATIOS = torch.tensor([[1.5, 0.5], [2.0, 3.0]])
MASK = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
COUNTS = Counts(sequences=4, tokens=8)


@pytest.mark.parametrize(
    ("algorithm", "advantages", "expected"),
    [
        (Grpo(clip=0.2, clip_high=0.4), (1, -1), (-(1.4 + 0.5) / 2 / 4, 2.0 / 4)),
        (DrGrpo(max_tokens=10), (1, -1), (-(1.2 + 0.5) / 40, 2.0 / 40)),
        (Dapo(), (1, 1), (-(1.28 + 0.5) / 8, -1.28 / 8)),
        (Dapo(), (-1, -1), ((1.5 + 0.8) / 8, 2.0 / 8)),
        (ReinforcePlusPlus(), (2, -1), (-(2.4 + 1.0) / 8, 2.0 / 8)),
        # the geometric means of the ratios: sqrt(0.75) and 2
        (Gspo(clip=0.1, clip_high=0.2), (1, 1), (-math.sqrt(0.75) / 4, -1.2 / 4)),
        (Gspo(clip=0.1, clip_high=0.2), (-1, -1), (0.9 / 4, 2.0 / 4)),
        # the ratios of the whole sequences: 0.75 and 2
        (Rloo(), (1, 1), (-0.75 / 4, -1.2 / 4)),
        (Rloo(), (-1, -1), (0.8 / 4, 2.0 / 4)),
        (Cispo(clip_high=0.2), (1, -1), ((1.2 * 1 + 0.5 * 2) / 8, -1.2 * 0.5 / 8)),
        (Wapo(max_tokens=10, clip_high=0.6), (1, 2), (-(1.5 + 0.5) / 40, -2 * 1.6 / 40)),
        # a right answer counts in full; a wrong one by its ratio, at most 1
        (Topr(), (1, 1), (3.0 / 8, 0.5 / 8)),
        (Topr(), (-1, -1), (-0.75 * 3.0 / 8, -0.5 / 8)),
        (AsymRE(), (0.6, -0.4), (0.6 * 3.0 / 8, -0.4 * 0.5 / 8)),
    ],
)
def test_losses_by_hand(algorithm: Algorithm, advantages: tuple[float, float], expected: tuple[float, float]) -> None:
    loss = losses(algorithm, LOGPROBS, LOGPROBS - RATIOS.log(), advantages, MASK, COUNTS)
    torch.testing.assert_close(loss, torch.tensor(expected))


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [  # by each log-probability, at advantages 1 and -1: what the clip holds has no gradient, CISPO's keeps its weight
        (Grpo(), [[0, -0.5 / 8], [2 / 4, 0]]),
        (Dapo(), [[0, -0.5 / 8], [2 / 8, 0]]),
        (Gspo(clip=0.2), [[-math.sqrt(0.75) / 8] * 2, [2 / 4, 0]]),
        (Rloo(), [[-0.75 / 4] * 2, [2 / 4, 0]]),
        (Cispo(clip_high=0.2), [[-1.2 / 8, -0.5 / 8], [1.2 / 8, 0]]),
        (Wapo(max_tokens=10, clip_high=0.2), [[0, -0.5 / 40], [0, 0]]),
        (Topr(), [[-1 / 8, -1 / 8], [1 / 8, 0]]),
    ],
)
def test_gradients_by_hand(algorithm: Algorithm, expected: list[list[float]]) -> None:
    logprobs = LOGPROBS.clone().requires_grad_()
    losses(algorithm, logprobs, LOGPROBS - RATIOS.log(), [1.0, -1.0], MASK, COUNTS).sum().backward()
    torch.testing.assert_close(logprobs.grad, torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [  # at advantages 1 and -1: a ratio above the clip counts where more is rewarded, one below where less is
        (Grpo(clip=0.2), [[True, False], [False, False]]),
        (Grpo(clip=0.6), [[False, False], [False, False]]),
        (Dapo(), [[True, False], [False, False]]),
        (Gspo(clip=0.2, clip_high=0.2), [[False], [False]]),
        (Rloo(clip=0.2), [[False], [False]]),
        (Cispo(clip_high=0.2), [[True, False], [True, True]]),
        (Wapo(max_tokens=10, clip_high=0.6), [[False, False], [True, False]]),
        (Topr(), None),
        (Reinforce(), None),
    ],
)
def test_tokens_that_the_clip_decides_by_hand(algorithm: Algorithm, expected: list[list[bool]] | None) -> None:
    old = (LOGPROBS - RATIOS.log()).masked_fill(MASK == 0, 3.0)  # padding does not count, whatever stands there
    clipped = evaluated(algorithm, LOGPROBS, old, [1.0, -1.0], MASK, COUNTS).clipped_NT
    if expected is None or clipped is None:
        assert clipped is expected
        return
    real = MASK.bool() if clipped.shape[1] == 2 else torch.ones(2, 1, dtype=torch.bool)
    assert (clipped & real).tolist() == (torch.tensor(expected) & real).tolist()


@given(st.lists(st.floats(-1e30, 0), min_size=4, max_size=4), st.sampled_from(EVERY))
@settings(max_examples=200, deadline=None)
def test_no_ratio_overflows(numbers: list[float], name: str) -> None:
    logprobs = torch.tensor(numbers[:2]).view(1, 2).clamp(min=-1e6).requires_grad_()
    old = torch.tensor(numbers[2:]).view(1, 2)
    for advantage in (1.0, -1.0):
        loss = losses(make(name), logprobs, old, [advantage], torch.tensor([[1.0, 0.0]]), COUNTS)
        (gradient,) = torch.autograd.grad(loss.sum(), logprobs)
        assert torch.isfinite(loss).all()
        assert torch.isfinite(gradient).all()
        assert float(gradient[0, 1]) == 0


BASELINES = [("reinforce", baseline) for baseline in ("none", "leave_one_out", "ema")]


@pytest.mark.parametrize(("name", "baseline"), [*((name, "batch_mean") for name in ALGORITHMS), *BASELINES])
def test_one_sample_per_prompt_is_refused_exactly_where_it_teaches_nothing(name: str, baseline: str) -> None:
    config = build(ALGORITHM, {"name": name} | ({"baseline": baseline} if name == "reinforce" else {}), "algorithm")
    one_each, valid = torch.tensor([[1.0], [0.0], [0.0]]), torch.ones(3, 1, dtype=torch.bool)
    teaches = bool(make_algorithm(config, max_tokens=5).advantages(one_each, valid).any())
    assert config.compares_samples == (not teaches)
    TrainConfig(algorithm=config, sampling=SamplingConfig(group_size=2))
    if teaches:
        TrainConfig(algorithm=config, sampling=SamplingConfig(group_size=1))
        return
    rule = f"sampling.group_size must be at least 2 for algorithm.name '{name}'"
    with pytest.raises(ConfigError, match=re.escape(rule) + ".*one sample is enough for 'reinforce'.*, got 1"):
        TrainConfig(algorithm=config, sampling=SamplingConfig(group_size=1))
