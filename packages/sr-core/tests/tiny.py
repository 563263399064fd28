"""Tiny real policies and a scripted grader: nothing is mocked, everything is small."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from sr_core.config import CampaignConfig, EvaluateConfig, OptimConfig, SamplingConfig, TrainConfig
from sr_core.policy import Policy

LETTERS = "abcdefghij"
SIZE = {
    "vocab_size": 16,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 1,
}
ARCHITECTURES: dict[str, Callable[[], Any]] = {
    "qwen2": lambda: Qwen2Config(**{k: v for k, v in SIZE.items() if k != "head_dim"}),
    "qwen3": lambda: Qwen3Config(**SIZE),
    "llama": lambda: LlamaConfig(**SIZE),
    "gemma3": lambda: Gemma3TextConfig(
        **SIZE, sliding_window=6, layer_types=["sliding_attention", "full_attention"], query_pre_attn_scalar=8
    ),
}


@dataclass(frozen=True)
class LetterTask:
    """Answer with ``letter``, somewhere."""

    task_id: str
    prompt: str
    letter: str


@dataclass(frozen=True)
class LetterGrade:
    reward: float | None

    @property
    def outcome(self) -> str:
        return {1.0: "passed", 0.0: "failed", None: "infra_error"}[self.reward]


class LetterGrader:
    """Passes a completion that contains the task's letter; ``failing`` names calls on which it gives no verdict."""

    def __init__(self, failing: Callable[[int], bool] = lambda _: False) -> None:
        self.failing = failing
        self.calls = 0

    def grade(self, tasks: Sequence[LetterTask], completions: Sequence[str]) -> list[LetterGrade]:
        grades = []
        for task, text in zip(tasks, completions, strict=True):
            self.calls += 1
            grades.append(LetterGrade(None if self.failing(self.calls) else float(task.letter in text)))
        return grades


def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {"<eos>": 0, "<pad>": 1, **{c: i + 2 for i, c in enumerate(LETTERS + ":=.,")}}
    plain = Tokenizer(models.WordLevel(vocabulary, unk_token="."))
    plain.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    plain.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<eos>", pad_token="<pad>")


def make_policy(architecture: str | Any = "qwen2", seed: int = 0, dtype: torch.dtype = torch.float32) -> Policy:
    """``architecture``: a name from ``ARCHITECTURES``, or a configuration of transformers."""
    torch.manual_seed(seed)
    config = ARCHITECTURES[architecture]() if isinstance(architecture, str) else architecture
    model = AutoModelForCausalLM.from_config(config).to(dtype)
    with torch.no_grad():  # the default initialisation is so small that every token is equally likely
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    if dtype == torch.float64:
        for module in model.modules():
            _normalise_in_its_own_precision(module)
    return Policy(model.eval(), tokenizer())


def _normalise_in_its_own_precision(module: Any) -> None:
    """transformers' norms compute in float32 whatever they are given, which would hide what float64 is to show."""
    kind = type(module)
    if not kind.__name__.endswith("RMSNorm"):
        return
    shift = 1.0 if kind.__name__.startswith("Gemma") else 0.0

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        eps = getattr(self, "variance_epsilon", None) or self.eps
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * (shift + self.weight)

    module.__class__ = type(f"Exact{kind.__name__}", (kind,), {"forward": forward})


def make_tasks(count: int, start: int = 0) -> list[LetterTask]:
    return [
        LetterTask(f"t{i}", LETTERS[i % 10] * (1 + i % 4) + ":", LETTERS[(i * 3) % 10])
        for i in range(start, start + count)
    ]


def make_config(**sections: Any) -> TrainConfig:
    small = TrainConfig(
        sampling=SamplingConfig(prompts=3, group_size=4, temperature=1.0, max_new_tokens=6),
        optim=OptimConfig(lr=1e-2),
        campaign=CampaignConfig(count=1, steps=4, checkpoint_every=1),
        evaluate=EvaluateConfig(samples=4, audit_samples=4),
    )
    return replace(small, **sections)
