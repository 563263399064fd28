"""Flex attention uncompiled, on a CPU: torch refuses its gradients there, though it computes them."""

from __future__ import annotations

import pytest
import torch
from gradients import assert_same, gradients, plain_gradients, roll
from tiny import ARCHITECTURES, make_policy
from torch.nn.attention import flex_attention as torchs

from sr_core.algorithms import Grpo
from sr_core.engine import Engine
from sr_core.engine import flex_attention as flex
from sr_core.engine.flex_attention import can_flex
from sr_core.policy import Policy

CPU = torch.device("cpu")


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchs, "_validate_device", lambda *tensors: None)
    monkeypatch.setattr(torchs, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    monkeypatch.setattr(flex, "_attention", lambda: torchs.flex_attention)
    monkeypatch.setattr(Engine, "uses_flex", True)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_gradients_equal_the_textbook_ones(uncompiled: None, architecture: str) -> None:
    policy = make_policy(architecture, dtype=torch.float64)
    rollout = roll(policy)
    ours, _ = gradients(policy, rollout, Grpo())
    assert_same(ours, plain_gradients(policy, rollout, Grpo()), 1e-10)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_an_architecture_is_checked_before_it_is_used(uncompiled: None, architecture: str) -> None:
    assert can_flex(make_policy(architecture).decoder, CPU)


def test_every_layer_attends_through_it(uncompiled: None, policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(flex, "_attention", lambda: lambda *a, **k: calls.append(1) or torchs.flex_attention(*a, **k))
    gradients(policy, roll(policy), Grpo())
    assert len(calls) >= policy.model.config.num_hidden_layers


def test_other_numbers_are_noticed(uncompiled: None, policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*tensors, scale, **others):
        return torchs.flex_attention(*tensors, scale=1.1 * scale, **others)

    monkeypatch.setattr(flex, "_attention", lambda: wrong)
    with pytest.warns(UserWarning, match=r"without flex attention: its results differ by"):
        assert not can_flex(policy.decoder, CPU)


def test_where_it_cannot_be_used_that_is_said(policy: Policy) -> None:
    with pytest.warns(UserWarning, match="without flex attention: it cannot be used here"):
        assert not can_flex(policy.decoder, CPU)  # torch has no gradients of it on a CPU


def test_without_a_gpu_it_is_not_asked() -> None:
    policy = make_policy()
    assert Engine(policy, flex_attention=True).uses_flex == (policy.device.type == "cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_computes_the_same() -> None:
    from transformers import Qwen2Config

    config = Qwen2Config(
        vocab_size=16, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, bos_token_id=None, eos_token_id=0, pad_token_id=1,
    )  # fmt: skip
    policy = make_policy(config)
    policy.model.to("cuda")
    assert can_flex(policy.decoder, policy.device)
