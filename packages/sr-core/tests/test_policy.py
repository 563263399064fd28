from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from gradients import completion_scores, sample
from tiny import ARCHITECTURES, SIZE, make_policy
from transformers import CohereConfig, Gemma2Config, GraniteConfig

from sr_core.config import PolicyConfig
from sr_core.errors import PolicyError
from sr_core.policy import Policy
from sr_core.policy import model as policies


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


SCALED: dict[str, Any] = {
    "granite": lambda: GraniteConfig(**without_head_dim(), logits_scaling=8.0),
    "cohere": lambda: CohereConfig(**without_head_dim(), logit_scale=0.0625),
    "gemma2": lambda: Gemma2Config(**SIZE, final_logit_softcapping=3.0, query_pre_attn_scalar=8),
}


def without_head_dim() -> dict[str, Any]:
    return {key: value for key, value in SIZE.items() if key != "head_dim"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES | SCALED))
def test_the_scores_of_a_loaded_policy_are_its_models_own(tmp_path: Path, architecture: str, dtype: Any) -> None:
    make_policy((ARCHITECTURES | SCALED)[architecture]()).save(tmp_path)
    ids = torch.tensor([[2, 5, 9, 3, 11, 4]])
    for head_dtype in ("same", "float32"):
        policy = Policy.load(PolicyConfig(path=str(tmp_path), device="cpu", dtype=dtype, head_dtype=head_dtype))
        with torch.no_grad():
            own = policy.model(input_ids=ids).logits.float()
            ours = policy.logits(policy.read(input_ids=ids).last_hidden_state)
        tolerance = 1e-5 if dtype == "float32" else 1e-2
        assert float((ours - own).abs().max()) <= tolerance * float(own.abs().max())


@pytest.mark.parametrize("architecture", ["granite", "cohere"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_whose_scores_are_not_known_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str, dtype: Any
) -> None:
    make_policy(SCALED[architecture]()).save(tmp_path)
    monkeypatch.setattr(policies, "SCALINGS", {})
    with pytest.raises(PolicyError, match=f"those of the architecture '{architecture}' differ"):
        Policy.load(PolicyConfig(path=str(tmp_path), device="cpu", dtype=dtype))


def test_weights_that_are_not_finite_are_no_matter_of_the_architecture(tmp_path: Path) -> None:
    policy = make_policy()
    policy.model.get_output_embeddings().weight.data[3] = torch.nan
    policy.save(tmp_path)
    assert Policy.load(tmp_path).size == policy.size
