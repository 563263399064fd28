from __future__ import annotations

import pytest
import torch
from gradients import completion_scores, sample
from hypothesis import given
from hypothesis import strategies as st

from sr_core.batch import Rollout
from sr_core.engine.kv_cache import find_forks
from sr_core.engine.sampling import _draw
from sr_core.errors import NonFiniteError
from sr_core.policy import Policy

PROMPTS = ["a:", "abcdefghij:", "ccc:"]


def roll(policy: Policy, *, seed: int = 0, max_new_tokens: int = 12, batch_size: int = 512) -> Rollout:
    prompts = [policy.prompt_ids(p) for p in PROMPTS]
    rng = torch.Generator().manual_seed(seed)
    return sample(policy, prompts, 6, temperature=0.9, max_new_tokens=max_new_tokens, rng=rng, batch_size=batch_size)


def test_cached_logprobs_equal_those_of_a_full_forward(any_policy: Policy) -> None:
    rollout = roll(any_policy)
    prompts = [p for p in rollout.prompts for _ in range(rollout.group_size)]
    with torch.no_grad():
        scores = completion_scores(any_policy, prompts, rollout.tokens, temperature=0.9)
    for i, cached in enumerate(rollout.logprobs):
        torch.testing.assert_close(
            scores.logprobs_NT[i][scores.mask_NT[i].bool()], cached.clone(), atol=2e-4, rtol=2e-4
        )


def test_a_completion_ends_at_its_first_end_token_or_is_truncated(policy: Policy) -> None:
    rollout = roll(policy, max_new_tokens=5)
    for tokens, truncated in zip(rollout.tokens, rollout.truncated, strict=True):
        assert policy.eos_id not in tokens[:-1]
        assert truncated == (tokens[-1] != policy.eos_id)
        assert len(tokens) == 5 or not truncated
    assert any(rollout.truncated)
    assert not all(rollout.truncated)


def test_a_completion_ends_at_whichever_end_token_of_the_model_comes_first(policy: Policy) -> None:
    made = policy.model
    made.generation_config.eos_token_id = [policy.eos_id, 7, 10**6]  # the last one has no embedding
    several = Policy(made, policy.tokenizer)
    assert several.end_ids == [policy.eos_id, 7]
    rollout = roll(several, max_new_tokens=12)
    finished = [tokens for tokens, cut in zip(rollout.tokens, rollout.truncated, strict=True) if not cut]
    ends = {tokens[-1] for tokens in finished}
    assert ends == {policy.eos_id, 7}
    assert not any(set(tokens[:-1]) & ends for tokens in rollout.tokens)
    assert several.decode([[7], [5, 7]]) == several.decode([[], [5]])


def test_the_same_seed_draws_the_same_and_another_does_not(policy: Policy) -> None:
    assert roll(policy, seed=1).tokens == roll(policy, seed=1).tokens
    assert roll(policy, seed=1).tokens != roll(policy, seed=2).tokens


def test_samples_depend_neither_on_the_batch_nor_on_when_others_end(policy: Policy) -> None:
    together, apart = roll(policy), roll(policy, batch_size=6)
    assert apart.tokens == together.tokens
    assert len(set(together.lengths)) > 2  # some ended early, so the batch shrank
    prompts = [policy.prompt_ids(p) for p in PROMPTS[:2]]
    rng = torch.Generator().manual_seed(0)
    fewer = sample(policy, prompts, 6, temperature=0.9, max_new_tokens=12, rng=rng)
    assert fewer.tokens == together.tokens[:12]


def test_draws_follow_the_policy_at_its_temperature(policy: Policy) -> None:
    rng = torch.Generator().manual_seed(0)
    prompt = policy.prompt_ids("ab:")
    rollout = sample(policy, [prompt], 4000, temperature=0.7, max_new_tokens=1, rng=rng, batch_size=4000)
    seen = torch.bincount(torch.tensor([t[0] for t in rollout.tokens]), minlength=16) / 4000
    with torch.no_grad():
        out = policy.decoder(input_ids=torch.tensor([prompt]))
        expected = torch.softmax(policy.logits(out.last_hidden_state[0, -1]) / 0.7, -1)
    assert float((seen - expected).abs().max()) < 0.03  # four standard errors of a share of 4000 draws
    assert rollout.entropy == pytest.approx(float(-(expected * expected.log()).sum()), abs=1e-4)


def test_scores_that_are_not_finite_are_an_error(policy: Policy) -> None:
    with torch.no_grad():
        next(policy.model.parameters()).fill_(float("nan"))
    with pytest.raises(NonFiniteError, match=r"lower optim\.lr"):
        roll(policy)


def test_a_token_of_probability_zero_is_never_drawn() -> None:
    probs = torch.tensor([[0.0, 0.3, 0.0, 0.7, 0.0]]).expand(3, -1)
    almost_one = 1 - 2.0**-24  # the largest number that torch.rand gives
    assert _draw(probs, torch.arange(3), torch.tensor([0.0, 0.5, almost_one])).tolist() == [1, 3, 3]


def test_samples_that_share_their_beginning_are_those_drawn_one_by_one(any_policy: Policy) -> None:
    together = roll(any_policy)
    alone = [any_policy.prompt_ids(p) for p in PROMPTS for _ in range(6)]
    rng = torch.Generator().manual_seed(0)
    apart = sample(any_policy, alone, 1, temperature=0.9, max_new_tokens=12, rng=rng)
    assert apart.tokens == together.tokens
    assert len({tuple(t[:2]) for t in together.tokens}) < len(together.tokens)  # some did share theirs
    assert apart.entropy == pytest.approx(together.entropy, rel=1e-5)


@given(st.data())
def test_branches_are_the_distinct_histories(data: st.DataObject) -> None:
    samples = data.draw(st.integers(1, 12))
    branches = data.draw(st.integers(1, 4))
    branch_S = torch.tensor([data.draw(st.integers(0, branches - 1)) for _ in range(samples)])
    histories: list[tuple[int, ...]] = [(int(branch),) for branch in branch_S]
    number = list(range(samples))
    of_branch: dict[int, tuple[int, ...]] = {branch: (branch,) for branch in range(branches)}
    for _ in range(4):
        drawn = [data.draw(st.integers(0, 2)) for _ in number]
        forks = find_forks(branch_S, torch.tensor(drawn), len(of_branch))
        for source, target in zip(forks.sources.tolist(), forks.targets.tolist(), strict=True):
            assert source not in forks.targets.tolist()
            of_branch[target] = of_branch[source]
        if forks.keep is not None:
            of_branch = {new: of_branch[old] for new, old in enumerate(forks.keep.tolist())}
        assert len(forks.tokens) == len(of_branch)
        of_branch = {branch: (*past, int(forks.tokens[branch])) for branch, past in of_branch.items()}
        histories = [(*histories[i], token) for i, token in enumerate(drawn)]
        assert [of_branch[branch] for branch in forks.branch_S.tolist()] == histories
        assert len(set(forks.branch_S.tolist())) == len(set(histories))
        going = [i for i in range(len(histories)) if data.draw(st.booleans())] or [0]
        branch_S = forks.branch_S[going]
        histories, number = [histories[i] for i in going], going
