from __future__ import annotations

import copy
import math
from dataclasses import replace

import hypothesis.strategies as st
import pytest
import torch
from gradients import OPTIM, assert_same, completion_scores, graded, gradients, plain_gradients, roll, verdicts
from hypothesis import given, settings
from tiny import ARCHITECTURES, SIZE, make_policy
from transformers import Gemma2Config

from sr_core.algorithms import ALGORITHMS, Algorithm, Grpo, Gspo, LossOutputs, Reinforce, make_algorithm
from sr_core.batch import Rollout
from sr_core.config import ALGORITHM, OptimConfig
from sr_core.engine import Engine, scoring
from sr_core.engine.scoring import nucleus
from sr_core.optim.objective import Objective
from sr_core.optim.update import UpdateResult, update
from sr_core.policy import Policy


def off_policy(rollout: Rollout) -> Rollout:
    """As if an earlier policy had drawn it: ratios between 0.7 and 1.4, some of them clipped."""
    rng = torch.Generator().manual_seed(9)
    shifts = [(torch.rand(len(old), generator=rng) - 0.5) * 0.7 for old in rollout.logprobs]
    return replace(rollout, logprobs=[old + shift for old, shift in zip(rollout.logprobs, shifts, strict=True)])


def descend(policy: Policy, algorithm: Algorithm, optim: OptimConfig) -> UpdateResult:
    """An update of ``policy`` on samples of its own, by plain descent."""
    sgd = torch.optim.SGD(policy.model.parameters(), lr=0.05)
    objective = Objective(algorithm=algorithm, temperature=0.8)
    return update(Engine(policy), sgd, graded(roll(policy), *verdicts()), objective, optim)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_gradients_of_samples_of_an_older_policy_equal_the_textbook_ones(policy: Policy, name: str) -> None:
    rollout = off_policy(roll(policy))
    algorithm = make_algorithm(ALGORITHM[name](), max_tokens=7)
    ours, _ = gradients(policy, rollout, algorithm, on_policy=False)
    assert_same(ours, plain_gradients(policy, rollout, algorithm), 1e-5)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_ratios_of_own_samples_are_1_whatever_the_sampler_rounded(name: str) -> None:
    policy = make_policy(dtype=torch.bfloat16)
    rollout = roll(policy)
    algorithm = make_algorithm(ALGORITHM[name](), max_tokens=7)
    ours, _ = gradients(policy, rollout, algorithm)
    theirs, _ = gradients(policy, off_policy(rollout), algorithm)
    assert all(torch.equal(ours[i], theirs[i]) for i in theirs)


def test_later_epochs_compare_each_sequence_with_the_first_epoch() -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    class Watched(Grpo):
        def loss(self, inputs):
            seen.append((inputs.logprobs_NT.detach().clone(), inputs.old_logprobs_NT.clone()))
            return super().loss(inputs)

    descend(make_policy(dtype=torch.bfloat16), Watched(), replace(OPTIM, epochs=3, micro_batch_tokens=20))
    batches = len(seen) // 3
    assert batches > 1
    for i, (now, old) in enumerate(seen):
        assert torch.equal(old, seen[i % batches][0])
        assert torch.equal(now, old) == (i < batches)


@pytest.mark.parametrize("micro_batch_tokens", [8, 20, 50])
def test_micro_batches_equal_one_batch_in_later_epochs(micro_batch_tokens: int) -> None:
    optim = replace(OPTIM, epochs=3)
    whole, parts = make_policy(dtype=torch.float64), make_policy(dtype=torch.float64)
    descend(whole, Gspo(clip=0.1, clip_high=0.1), optim)
    descend(parts, Gspo(clip=0.1, clip_high=0.1), replace(optim, micro_batch_tokens=micro_batch_tokens))
    for ours, theirs in zip(parts.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("algorithm", [Reinforce(), Reinforce(baseline="leave_one_out"), Grpo()])
def test_gradients_equal_the_textbook_ones(any_policy: Policy, algorithm) -> None:
    rollout = roll(any_policy)
    ours, _ = gradients(any_policy, rollout, algorithm)
    assert_same(ours, plain_gradients(any_policy, rollout, algorithm), 1e-5)


@given(st.integers(8, 200), st.integers(0, 3))
@settings(max_examples=15, deadline=None)
def test_micro_batches_equal_one_batch(micro_batch_tokens: int, seed: int) -> None:
    policy = make_policy(dtype=torch.float64)
    rollout = roll(policy, seed)
    whole, _ = gradients(policy, rollout, Reinforce())
    parts, _ = gradients(policy, rollout, Reinforce(), optim=replace(OPTIM, micro_batch_tokens=micro_batch_tokens))
    assert_same(parts, whole, 1e-10)


@pytest.mark.parametrize("chunk", [1, 3, 10_000])
def test_scores_taken_in_chunks_equal_the_textbook(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    policy = make_policy(dtype=torch.float64)
    rollout = roll(policy)
    monkeypatch.setattr(scoring, "LOGIT_CHUNK", chunk)
    ours, _ = gradients(policy, rollout, Reinforce())
    assert_same(ours, plain_gradients(policy, rollout, Reinforce()), 1e-10)


def test_a_step_that_is_not_finite_is_not_taken(policy: Policy) -> None:
    before = copy.deepcopy(policy.model.state_dict())
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=1.0)

    class Broken(Reinforce):
        def loss(self, inputs):
            return LossOutputs(losses_N=super().loss(inputs).losses_N * float("nan"))

    objective = Objective(algorithm=Broken(), temperature=0.8)
    result = update(Engine(policy), optimizer, graded(roll(policy), *verdicts()), objective, OPTIM)
    assert not result.finite
    assert result.steps == 0
    for name, tensor in policy.model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_an_epoch_that_is_not_finite_ends_the_update_and_those_before_it_count() -> None:
    class BrokenLater(Reinforce):
        calls = 0

        def loss(self, inputs):
            self.calls += 1
            broken = float("nan") if self.calls == 2 else 1.0
            return LossOutputs(losses_N=super().loss(inputs).losses_N * broken)

    once, broken = make_policy(), make_policy()
    one = descend(once, Reinforce(), OPTIM)
    result = descend(broken, BrokenLater(), replace(OPTIM, epochs=3))
    assert (one.finite, one.steps) == (True, 1)
    assert result == one
    for ours, theirs in zip(broken.model.parameters(), once.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_gradient_is_clipped_to_its_norm(policy: Policy) -> None:
    seen, result = gradients(policy, roll(policy), Reinforce(), optim=replace(OPTIM, max_grad_norm=1e-3))
    assert result.grad_norm > 1e-3
    assert sum(float(g.square().sum()) for g in seen.values()) ** 0.5 == pytest.approx(1e-3, rel=1e-3)


def test_the_penalty_is_zero_at_its_reference_and_pulls_towards_it() -> None:
    policy, other = make_policy(seed=0), make_policy(seed=1)
    rollout = roll(policy)
    _, same = gradients(policy, rollout, Reinforce(), coefficient=0.5, reference=Engine(policy))
    pulled, apart = gradients(policy, rollout, Reinforce(), coefficient=0.5, reference=Engine(other))
    free, _ = gradients(policy, rollout, Reinforce())
    assert same.kl == pytest.approx(0, abs=1e-5)
    assert apart.kl is not None
    assert apart.kl > 0.1
    assert any(not torch.allclose(pulled[i], free[i]) for i in free)


def test_training_on_a_reward_raises_it(policy: Policy) -> None:
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=3e-3)
    engine, objective = Engine(policy), Objective(algorithm=Reinforce(baseline="ema"), temperature=0.8)
    shares = []
    for step in range(30):
        rollout = roll(policy, step)
        rewards = torch.tensor([float(t[0] == 4) for t in rollout.tokens]).view(2, 5)
        shares.append(float(rewards.mean()))
        update(engine, optimizer, graded(rollout, rewards, torch.ones(2, 5, dtype=torch.bool)), objective, OPTIM)
    assert sum(shares[-5:]) > sum(shares[:5]) + 1


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_shared_prompts_equal_the_textbook_in_double_precision(architecture: str) -> None:
    policy = make_policy(architecture, dtype=torch.float64)
    assert Engine(policy).shares_prompts
    rollout = roll(policy)
    ours, _ = gradients(policy, rollout, Reinforce())
    assert_same(ours, plain_gradients(policy, rollout, Reinforce()), 1e-10)


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=8),
    st.sampled_from(sorted(ARCHITECTURES)),
)
@settings(max_examples=25, deadline=None)
def test_any_packing_gives_the_scores_of_each_sequence_alone(
    prompt_lengths: list[int], completions: list[tuple[int, int]], architecture: str
) -> None:
    policy = make_policy(architecture, dtype=torch.float64)
    rng = torch.Generator().manual_seed(len(completions))

    def draw(length: int) -> list[int]:
        return torch.randint(0, 16, (length,), generator=rng).tolist()

    unique = [draw(n) for n in prompt_lengths]
    prompts = [unique[owner % len(unique)] for owner, _ in completions]
    tokens = [draw(n) for _, n in completions]
    with torch.no_grad():
        packed = completion_scores(policy, prompts, tokens, temperature=0.8, top_p=0.9, entropy=True)
        for i, (prompt, completion) in enumerate(zip(prompts, tokens, strict=True)):
            hidden = policy.decoder(input_ids=torch.tensor([prompt + completion])).last_hidden_state
            logits = nucleus(
                policy.logits(hidden[0, len(prompt) - 1 : -1]) / 0.8, 0.9, keep=torch.tensor(completion)[:, None]
            )
            logprobs = logits.log_softmax(1)
            alone = logprobs.gather(1, torch.tensor(completion)[:, None])[:, 0]
            length = len(completion)
            torch.testing.assert_close(packed.logprobs_NT[i, :length], alone, atol=1e-10, rtol=0)
            assert packed.entropy_NT is not None
            entropy = torch.distributions.Categorical(logits=logits).entropy()
            torch.testing.assert_close(packed.entropy_NT[i, :length], entropy, atol=1e-8, rtol=0)
            assert not packed.mask_NT[i, length:].any()


def test_a_policy_that_cannot_share_prompts_is_computed_the_plain_way(policy: Policy) -> None:
    rollout = roll(policy)
    shared, _ = gradients(policy, rollout, Grpo())
    policy.decoder.config._attn_implementation = "eager"
    for layer in policy.decoder.layers:  # an attention that no backend reaches
        layer.self_attn.config = copy.copy(layer.self_attn.config)
    assert not Engine(policy).shares_prompts
    again = roll(policy)
    assert again.tokens == rollout.tokens
    plain, _ = gradients(policy, rollout, Grpo())
    assert_same(plain, shared, 1e-5)


@pytest.mark.parametrize(("cap", "dtype"), [(1.0, torch.float32), (50.0, torch.bfloat16)])
def test_soft_capped_attention_is_computed_the_plain_way(cap: float, dtype: torch.dtype) -> None:
    config = Gemma2Config(**SIZE, attn_logit_softcapping=cap, query_pre_attn_scalar=8, sliding_window=6)
    policy = make_policy(config, dtype=dtype)
    assert not Engine(policy).shares_prompts  # in bfloat16 a cap that is rarely reached looks like rounding
    if dtype == torch.float32:
        rollout = roll(policy)
        ours, _ = gradients(policy, rollout, Grpo())
        assert_same(ours, plain_gradients(policy, rollout, Grpo()), 1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_mismatch_is_the_divergence_of_the_sampler_from_the_trainer(dtype: torch.dtype) -> None:
    policy = make_policy(dtype=dtype)
    rollout = roll(policy)
    _, same = gradients(policy, rollout, Reinforce(baseline="none"))
    assert same.mismatch_kl == pytest.approx(0.0, abs=1e-12 if dtype == torch.float64 else 1e-2)
    shifted = replace(rollout, logprobs=[values + 0.3 for values in rollout.logprobs])
    _, apart = gradients(policy, shifted, Reinforce(baseline="none"))
    exact = math.exp(-0.3) - 1 + 0.3  # E[r - 1 - log r] for a ratio r of trainer to sampler of exp(-0.3) at every token
    assert apart.mismatch_kl == pytest.approx(exact, abs=1e-9 if dtype == torch.float64 else 1e-2)
    _, older = gradients(policy, shifted, Reinforce(baseline="none"), on_policy=False)
    assert older.mismatch_kl is None
