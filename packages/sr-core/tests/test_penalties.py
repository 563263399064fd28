from __future__ import annotations

import copy
import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from gradients import OPTIM, TEMPERATURE, Catcher, assert_same, graded, roll, sample
from hypothesis import given, settings
from tiny import LetterGrader, make_config, make_policy, make_tasks

from sr_core import CampaignTasks, Trainer, run_campaign
from sr_core.algorithms import Grpo
from sr_core.batch import Rollout
from sr_core.config import EwcConfig, KlConfig, NoPenaltyConfig, PenaltyConfig, ReinforceConfig
from sr_core.engine import Engine
from sr_core.errors import ConfigError
from sr_core.optim.objective import Objective
from sr_core.optim.update import UpdateResult, update
from sr_core.penalties import Anchor, diagonal_fisher, kl_per_token
from sr_core.penalties.control import BONUS_STEP, adapted_bonus, adapted_coefficient
from sr_core.penalties.ewc import trainable
from sr_core.policy import Policy

TASKS = CampaignTasks(train=make_tasks(7), heldout=make_tasks(3, 10))


def step(
    policy: Policy, rollout: Rollout, rewards: torch.Tensor, **options: Any
) -> tuple[dict[int, Any], UpdateResult]:
    policy = Policy(copy.deepcopy(policy.model), policy.tokenizer)
    optimizer = Catcher(policy.model.parameters(), lr=0.0)
    valid = torch.ones_like(rewards, dtype=torch.bool)
    objective = Objective(algorithm=Grpo(), temperature=TEMPERATURE, **options)
    result = update(Engine(policy), optimizer, graded(rollout, rewards, valid), objective, OPTIM)
    return optimizer.seen, result


# --- KL ---


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        ("k1", [math.log(2), -math.log(4), 0]),
        ("k2", [math.log(2) ** 2 / 2, math.log(4) ** 2 / 2, 0]),
        ("k3", [0.5 + math.log(2) - 1, 4 - math.log(4) - 1, 0]),
    ],
)
def test_estimates_by_hand(estimator: Any, expected: list[float]) -> None:
    policy = torch.tensor([[0.5, 0.2, 0.9]]).log()
    reference = torch.tensor([[0.25, 0.8, 0.1]]).log()
    value = kl_per_token(policy, reference, torch.tensor([[1.0, 1.0, 0.0]]), estimator)
    torch.testing.assert_close(value, torch.tensor([expected]))


def divergences(first: torch.Tensor, second: torch.Tensor, other: tuple[torch.Tensor, torch.Tensor]) -> Any:
    """All 9 answers of two tokens of a policy over three, given by its scores: log pi and log ref, 9 x 2, exactly."""
    pairs = [(a, b) for a in range(3) for b in range(3)]

    def logprobs(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
        one, two = one.log_softmax(0), two.log_softmax(1)
        return torch.stack([torch.stack([one[a], two[a, b]]) for a, b in pairs])

    return logprobs(first, second), logprobs(*other)


@pytest.mark.parametrize("tokens", [1, 2])
@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_the_expected_gradient_is_the_one_that_is_claimed(estimator: Any, tokens: int) -> None:
    torch.manual_seed(0)
    scores = [torch.randn(3, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64)]
    other = (torch.randn(3, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64))
    for parameter in scores:
        parameter.requires_grad_()
    ours, reference = divergences(*scores, other)
    if tokens == 1:  # the second token is as the reference has it
        ours, reference = ours * torch.tensor([1, 0]), reference * torch.tensor([1, 0])
        chance = ours[:, 0].detach().exp() / 3
    else:
        chance = ours.sum(1).detach().exp()
    estimate = (chance * kl_per_token(ours, reference, torch.ones_like(ours), estimator).sum(1)).sum()
    (got,) = torch.autograd.grad(estimate, scores[0], retain_graph=True)
    weight = ours.sum(1).exp() / (3 if tokens == 1 else 1)
    exact = (weight * (ours - reference).sum(1)).sum()  # KL(pi || ref)
    if estimator == "k3" and tokens == 1:
        log_ref = other[0].log_softmax(0)
        exact = (log_ref.exp() * (log_ref - scores[0].log_softmax(0))).sum()  # KL(ref || pi)
    (expected,) = torch.autograd.grad(exact, scores[0])
    if tokens == 1 or estimator == "k1":
        torch.testing.assert_close(got, expected)
    else:  # of more than one token, the others see each token's own part only
        assert not torch.allclose(got, expected)


@given(st.floats(-1e4, 0), st.floats(-1e4, 0), st.sampled_from(["k2", "k3"]))
def test_estimates_are_finite_and_never_negative(a: float, b: float, estimator: Any) -> None:
    logprobs = torch.tensor([[a]], requires_grad=True)
    value = kl_per_token(logprobs, torch.tensor([[b]]), torch.ones(1, 1), estimator)
    (gradient,) = torch.autograd.grad(value.sum(), logprobs)
    assert torch.isfinite(value).all()
    assert torch.isfinite(gradient).all()
    assert float(value) >= -1e-6


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_a_pull_towards_the_reference_lowers_the_divergence(estimator: Any) -> None:
    policy, other = make_policy(seed=0), make_policy(seed=1)
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=3e-3)
    objective = Objective(
        algorithm=Grpo(), temperature=TEMPERATURE, coefficient=50.0, estimator=estimator, reference=Engine(other)
    )
    rng = torch.Generator().manual_seed(0)
    seen = []
    for _ in range(25):
        prompts = [policy.prompt_ids(p) for p in ("a:", "bcde:")]
        rollout = sample(policy, prompts, 16, temperature=TEMPERATURE, max_new_tokens=5, rng=rng)
        rewards, valid = torch.randint(0, 2, (2, 16), generator=rng).float(), torch.ones(2, 16, dtype=torch.bool)
        seen.append(update(Engine(policy), optimizer, graded(rollout, rewards, valid), objective, OPTIM).kl)
    assert sum(seen[-5:]) < 0.7 * sum(seen[:5])


@pytest.mark.parametrize("term", ["kl", "entropy"])
def test_a_group_of_equal_rewards_feels_no_penalty(term: str) -> None:
    policy, rollout = make_policy(), roll(make_policy())
    rewards = torch.tensor([[1.0] * 5, [1.0, 0, 0, 1, 0]])
    equal = torch.ones(2, 5)
    kl = {"reference": Engine(make_policy(seed=1)), "coefficient": 0.5}
    pull: dict[str, Any] = kl if term == "kl" else {"entropy_bonus": 0.5}
    silent, result = step(policy, rollout, equal, **pull)
    assert all((g == 0).all() for g in silent.values())
    assert result.kl is None
    second = Rollout(
        prompts=rollout.prompts[1:],
        group_size=5,
        tokens=rollout.tokens[5:],
        logprobs=rollout.logprobs[5:],
        truncated=rollout.truncated[5:],
        entropy=0.0,
    )
    mixed, _ = step(policy, rollout, rewards, **pull)
    alone, _ = step(policy, second, rewards[1:], **pull)
    # the same direction as without the silent group; only the means are over more tokens (GRPO's over sequences)
    free_mixed, _ = step(policy, rollout, rewards)
    free_alone, _ = step(policy, second, rewards[1:])
    share = sum(map(len, rollout.tokens[5:])) / sum(map(len, rollout.tokens))
    assert_same(
        {i: mixed[i] - free_mixed[i] for i in mixed}, {i: share * (alone[i] - free_alone[i]) for i in mixed}, 1e-4
    )


def test_the_papers_anchor_is_the_default_of_kl() -> None:
    anchor, twentieth, free = (
        trained(penalty)[1].weights()
        for penalty in (KlConfig(), KlConfig(coefficient=0.05, reference="base"), NoPenaltyConfig())
    )
    assert all(torch.equal(anchor[i], twentieth[i]) for i in anchor)
    assert any(not torch.equal(anchor[i], free[i]) for i in free)


# --- Fisher and elastic weights ---


def score(policy: Policy, prompt: list[int], tokens: list[int]) -> dict[str, torch.Tensor]:
    """Gradient of one answer's log-likelihood, the textbook way."""
    parameters = trainable(policy)
    logits = policy.model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1] / TEMPERATURE
    total = torch.log_softmax(logits, -1).gather(1, torch.tensor(tokens)[:, None]).sum()
    return dict(zip(parameters, torch.autograd.grad(total, list(parameters.values())), strict=True))


def test_the_fisher_information_squares_each_sequence_by_itself(policy: Policy) -> None:
    rollout = roll(policy)
    prompts = [rollout.prompts[i // 5] for i in range(10)]
    ours = diagonal_fisher(Engine(policy), prompts, rollout.tokens, temperature=TEMPERATURE)
    scores = [score(policy, p, t) for p, t in zip(prompts, rollout.tokens, strict=True)]
    for name, values in ours.items():
        each = torch.stack([s[name] for s in scores])
        torch.testing.assert_close(values, each.square().mean(0), rtol=1e-3, atol=1e-6)
    batch = sum(float(torch.stack([s[n] for s in scores]).mean(0).square().sum()) for n in ours)
    assert batch < 0.7 * sum(float(v.sum()) for v in ours.values())  # the square of the mean is another number


def test_the_fisher_information_of_own_samples_is_the_true_one(policy: Policy) -> None:
    prompt = policy.prompt_ids("ab:")
    with torch.no_grad():
        chances = (policy.model(torch.tensor([prompt])).logits[0, -1] / TEMPERATURE).softmax(-1)
    names = [n for n in trainable(policy) if n.endswith("norm.weight")]
    exact = {n: sum(float(c) * score(policy, prompt, [t])[n].square() for t, c in enumerate(chances)) for n in names}
    rng = torch.Generator().manual_seed(0)
    rollout = sample(policy, [prompt], 1500, temperature=TEMPERATURE, max_new_tokens=1, rng=rng, batch_size=1500)
    counts = torch.bincount(torch.tensor([t[0] for t in rollout.tokens]), minlength=16).tolist()
    each = [diagonal_fisher(Engine(policy), [prompt], [[t]], temperature=TEMPERATURE) for t in range(16)]
    for n in names:
        drawn = sum(count * fisher[n] for count, fisher in zip(counts, each, strict=True)) / 1500
        assert float((drawn - exact[n]).norm() / exact[n].norm()) < 0.15


def test_the_elastic_pull_is_the_gradient_of_its_penalty(policy: Policy) -> None:
    torch.manual_seed(1)
    parameters = trainable(policy)
    weights = {n: p.detach() + torch.randn_like(p) * 0.1 for n, p in parameters.items()}
    fisher = {n: torch.rand_like(p) for n, p in parameters.items()}
    penalty = sum((fisher[n] * (p - weights[n]).square()).sum() for n, p in parameters.items()) * 3.0 / 2
    expected = torch.autograd.grad(penalty, list(parameters.values()))
    got = [torch.ones_like(p) for p in parameters.values()]  # it adds to what is there
    value = Anchor(weights=weights, fisher=fisher).pull(policy, 3.0, got)
    assert value == pytest.approx(float(penalty.detach()), rel=1e-5)
    for ours, gradient in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, gradient + 1)


def trained(penalty: PenaltyConfig, **sections: Any) -> tuple[Trainer, Trainer, list[dict[str, Any]]]:
    """A trainer before and after a campaign, and its rows."""
    config = make_config(penalty=penalty, **sections)
    start, trainer = (Trainer(make_policy(), LetterGrader(), config) for _ in range(2))
    rows: list[dict[str, Any]] = []
    run_campaign(trainer, TASKS, on_row=rows.append)
    return start, trainer, rows


def test_elastic_weights_stay_nearer_where_the_information_is(policy: Policy) -> None:
    def moved(coefficient: float) -> float:
        """How far the campaign went, each parameter weighed by its information at the start."""
        penalty = EwcConfig(coefficient=coefficient, fisher_samples=12)
        start, trainer, _ = trained(penalty, campaign=replace(make_config().campaign, steps=8))
        anchor = trainer.penalty.anchor
        assert anchor is not None
        now, then = trainable(trainer.policy), trainable(start.policy)
        return sum(float((anchor.fisher[n] * (now[n] - then[n]).square()).sum()) for n in now)

    assert moved(1000.0) < 0.5 * moved(0.0)


def test_elastic_weights_without_their_information_are_an_error() -> None:
    trainer = Trainer(make_policy(), LetterGrader(), make_config(penalty=EwcConfig()))
    graded = trainer.grade(TASKS.train[:3], trainer.rollout(TASKS.train[:3], campaign=0, step=1))
    with pytest.raises(ConfigError, match=r"Trainer\.prepare"):
        trainer.update(graded)


# --- coefficients that follow a target ---


def test_coefficients_by_hand() -> None:
    assert adapted_coefficient(0.1, 0.03, target=0.02, rate=0.1) == pytest.approx(0.1 * 1.02)  # 0.5 is held to 0.2
    assert adapted_coefficient(0.1, 0.018, target=0.02, rate=0.1) == pytest.approx(0.1 * 0.99)
    assert adapted_coefficient(0.1, 0.0, target=0.02, rate=0.5) == pytest.approx(0.1 * 0.9)
    assert adapted_bonus(0.01, 0.3, target=0.5, rate=0.005) == pytest.approx(0.015)
    assert adapted_bonus(0.01, 0.6, target=0.5, rate=0.005) == pytest.approx(0.005)
    assert adapted_bonus(0.003, 0.6, target=0.5, rate=0.005) == 0.0


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(1e-6, 1e3), st.floats(1e-3, 1))
@settings(max_examples=100)
def test_a_coefficient_stays_positive_and_moves_towards_its_target(
    coefficient: float, kl: float, target: float, rate: float
) -> None:
    new = adapted_coefficient(coefficient, kl, target=target, rate=rate)
    assert 0.8 * coefficient <= new <= 1.2 * coefficient
    assert (new >= coefficient) if kl >= target else (new <= coefficient)


def test_an_adaptive_coefficient_follows_what_each_step_measured() -> None:
    _, trainer, rows = trained(KlConfig(coefficient=1.0, target=1e-4), seed=1)
    for before, after in pairwise(rows[1:]):
        expected = adapted_coefficient(before["penalty"], before["kl"], target=1e-4)
        assert after["penalty"] == expected
    assert trainer.penalty.coefficient != 1.0
    trainer.begin_campaign(lr=0.1)
    assert trainer.penalty.coefficient == 1.0


def test_an_entropy_target_raises_the_bonus_only_below_it() -> None:
    for target, rises in ((1e-3, False), (1e3, True)):
        algorithm = ReinforceConfig(entropy_bonus=0.01, entropy_target=target)
        _, _, rows = trained(NoPenaltyConfig(), algorithm=algorithm)
        bonuses = [row["entropy_bonus"] for row in rows]
        step = BONUS_STEP if rises else -BONUS_STEP
        assert bonuses == pytest.approx([0.01, *(max(0.01 + step * i, 0) for i in range(4))])


def test_the_entropy_bonus_is_the_gradient_of_the_entropy(policy: Policy) -> None:
    rollout = roll(policy)
    rewards = torch.tensor([[1.0, 0, 0, 1, 0], [0, 1, 0, 0, 0]])
    with_bonus, _ = step(policy, rollout, rewards, entropy_bonus=0.7)
    without, _ = step(policy, rollout, rewards)
    copied = Policy(copy.deepcopy(policy.model), policy.tokenizer)
    entropy = torch.zeros(())
    for i, tokens in enumerate(rollout.tokens):
        prompt = rollout.prompts[i // 5]
        logits = copied.model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1] / TEMPERATURE
        entropy = entropy - (logits.softmax(-1) * logits.log_softmax(-1)).sum()
    (-0.7 * entropy / sum(map(len, rollout.tokens))).backward()
    expected = {i: p.grad for i, p in enumerate(copied.model.parameters())}
    assert_same({i: with_bonus[i] - without[i] for i in without}, expected, 1e-4)
