"""An architecture is computed exactly, with shared prompts or without, or it is refused; contexts have an end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from gradients import completion_scores
from tiny import SIZE, make_policy, make_tasks
from transformers import (
    BloomConfig,
    DiffLlamaConfig,
    GPT2Config,
    Lfm2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    Olmo2Config,
    Phi3Config,
    Qwen2Config,
)

from sr_core.config import SamplingConfig
from sr_core.engine import Engine
from sr_core.errors import PolicyError
from sr_core.evaluation.grading import find_too_long

PLAIN = {key: value for key, value in SIZE.items() if key != "head_dim"}
SMALL = {"vocab_size": 16, "bos_token_id": None, "eos_token_id": 0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LONG = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [3.0] * 4}
ROPE = {"rope_theta": 10000.0, "original_max_position_embeddings": 32}
# architecture -> whether its prompts can be shared
EXACT: dict[str, tuple[Callable[[], Any], bool]] = {
    "mistral, window": (lambda: MistralConfig(**SIZE, sliding_window=5), True),
    "qwen2, windows in some layers": (
        lambda: Qwen2Config(**PLAIN, use_sliding_window=True, sliding_window=5, max_window_layers=1),
        True,
    ),
    "llama 3": (lambda: LlamaConfig(**SIZE, rope_parameters=LLAMA3 | ROPE), True),
    "llama, untied, with biases": (
        lambda: LlamaConfig(**SIZE | {"tie_word_embeddings": False}, attention_bias=True, mlp_bias=True),
        True,
    ),
    "phi3, longrope and window": (
        lambda: Phi3Config(**PLAIN, sliding_window=5, original_max_position_embeddings=32, rope_parameters=LONG | ROPE),
        True,
    ),
    "olmo2": (lambda: Olmo2Config(**PLAIN), True),
    "gpt2": (lambda: GPT2Config(**SMALL, n_embd=16, n_layer=2, n_head=2, n_positions=64), True),
    "bloom": (lambda: BloomConfig(**SMALL, hidden_size=16, n_layer=2, n_head=2), False),
    "diffllama": (lambda: DiffLlamaConfig(**PLAIN | {"num_key_value_heads": 2}), False),
}
REFUSED: dict[str, Callable[[], Any]] = {
    "lfm2": lambda: Lfm2Config(**PLAIN, layer_types=["conv", "full_attention"]),
    "mamba": lambda: MambaConfig(vocab_size=16, hidden_size=16, state_size=4, num_hidden_layers=2, eos_token_id=0),
}


@pytest.mark.parametrize("name", EXACT)
def test_samples_and_scores_are_those_of_the_model_on_each_sequence_alone(name: str) -> None:
    config, shares = EXACT[name]
    policy = make_policy(config())
    engine = Engine(policy)
    assert engine.shares_prompts == shares
    prompts = [[2, 5, 9, 3, 11, 4, 7, 8, 6], [3, 2]]
    sampling = SamplingConfig(temperature=1.0, max_new_tokens=10)
    rollout = engine.sample(prompts, 3, sampling, torch.Generator().manual_seed(1))
    owners = [prompt for prompt in prompts for _ in range(3)]
    with torch.no_grad():
        scores = completion_scores(policy, owners, rollout.tokens, temperature=1.0)
        for i, (prompt, tokens) in enumerate(zip(owners, rollout.tokens, strict=True)):
            ids = torch.tensor([prompt + tokens])
            logprobs = policy.model(input_ids=ids, use_cache=False).logits[0].log_softmax(1)
            alone = logprobs[len(prompt) - 1 : -1].gather(1, torch.tensor(tokens)[:, None])[:, 0]
            torch.testing.assert_close(rollout.logprobs[i].clone(), alone, atol=1e-4, rtol=0)
            torch.testing.assert_close(scores.logprobs_NT[i, : len(tokens)], alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_be_read_in_neither_way_is_refused(name: str) -> None:
    with pytest.raises(PolicyError, match=f"architecture '{name}' does not .recurrent"):
        _ = Engine(make_policy(REFUSED[name]())).shares_prompts


def test_a_wide_window_takes_no_longer_and_stays_as_wide() -> None:
    policy = make_policy(Phi3Config(**PLAIN, sliding_window=262_144))
    began = time.process_time()
    assert Engine(policy).shares_prompts
    assert time.process_time() - began < 20
    assert policy.decoder.config.sliding_window == 262_144


def test_positions_that_change_with_the_batch_end_the_context() -> None:
    assert make_policy(EXACT["phi3, longrope and window"][0]()).context == 32
    assert make_policy("llama").context == 128
    assert make_policy(EXACT["bloom"][0]()).context is None


def test_no_more_is_sampled_than_the_context_holds() -> None:
    policy = make_policy()
    sampling = SamplingConfig(temperature=1.0, max_new_tokens=120)
    Engine(policy).sample([[2] * 8], 1, sampling, torch.Generator())
    with pytest.raises(PolicyError, match=r"at most 128 tokens.*longest prompt has 9.*max_new_tokens is 120"):
        Engine(policy).sample([[2] * 3, [2] * 9], 1, sampling, torch.Generator())
    tasks = [replace(task, prompt="a" * (7 + i)) for i, task in enumerate(make_tasks(3))]
    assert list(find_too_long(policy, tasks, sampling)) == ["t2"]
