from __future__ import annotations

import pytest
import torch
from tiny import make_policy

from sr_core.config import PolicyConfig
from sr_core.errors import PolicyError
from sr_core.forward import completion_scores
from sr_core.policy import Policy
from sr_core.rollout import sample


def test_a_float32_head_rounds_less_than_a_bfloat16_one_and_passes_gradients_on() -> None:
    policy = make_policy(dtype=torch.bfloat16)
    hidden = torch.randn(200, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    exact = hidden.double() @ policy.model.get_output_embeddings().weight.double().T
    errors = {}
    for head_dtype in ("same", "float32"):
        logits = Policy(policy.model, policy.tokenizer, head_dtype=head_dtype).logits(hidden)
        assert logits.dtype == torch.float32
        errors[head_dtype] = float((logits - exact).abs().max())
    assert errors["float32"] < 1e-4 < errors["same"]
    with_head = Policy(policy.model, policy.tokenizer, head_dtype="float32")
    with_head.logits(hidden).sum().backward()
    gradient = policy.model.get_output_embeddings().weight.grad
    torch.testing.assert_close(gradient[0].float(), hidden.float().sum(0), rtol=1e-2, atol=1e-1)


def test_sampler_and_update_agree_under_a_float32_head() -> None:
    policy = Policy(make_policy(dtype=torch.bfloat16).model, make_policy().tokenizer, head_dtype="float32")
    prompts = [policy.prompt_ids(p) for p in ("a:", "bcde:")]
    rng = torch.Generator().manual_seed(0)
    rollout = sample(policy, prompts, 8, temperature=0.9, max_new_tokens=8, rng=rng)
    with torch.no_grad():
        scores = completion_scores(policy, [p for p in prompts for _ in range(8)], rollout.tokens, temperature=0.9)
    for i, drawn in enumerate(rollout.logprobs):
        again = scores.logprobs_NT[i][scores.mask_NT[i].bool()]
        assert float((again - drawn.clone()).abs().max()) < 0.3  # hidden states are still bfloat16


def test_float32_policies_are_the_same_under_either_head() -> None:
    policy = make_policy()
    hidden = torch.randn(5, 16)
    assert torch.equal(
        Policy(policy.model, policy.tokenizer, head_dtype="float32").logits(hidden), policy.logits(hidden)
    )


def test_a_head_that_is_no_plain_layer_is_refused() -> None:
    policy = make_policy(dtype=torch.bfloat16)
    policy.model.set_output_embeddings(torch.nn.Sequential(policy.model.get_output_embeddings()))
    broken = Policy(policy.model, policy.tokenizer, head_dtype="float32")
    with pytest.raises(PolicyError, match="plain linear output layer, got Sequential: use 'same'"):
        broken.logits(torch.zeros(1, 16).bfloat16())


def test_the_configured_head_reaches_the_policy_and_its_copies() -> None:
    policy = Policy.load(PolicyConfig(dtype="bfloat16", head_dtype="float32"))
    assert policy.head_dtype == policy.frozen_copy().head_dtype == "float32"
