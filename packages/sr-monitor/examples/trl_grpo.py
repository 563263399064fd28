"""A real ``GRPOTrainer`` run that over-optimizes, without and with the guard. No download, a minute on a CPU.

    pip install './packages/sr-monitor[transformers]' trl && python packages/sr-monitor/examples/trl_grpo.py

The policy is a tiny Qwen2 made here. Training rewards the share of the letter "a"; what is wanted, and measured on
held-out prompts, is a word with some of them but not only. So the held-out pass rate first rises, then collapses.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from trl import GRPOConfig, GRPOTrainer

from sr_monitor import CollapseGuard
from sr_monitor.integrations.transformers import CollapseGuardCallback, GenerationEvaluator

LETTERS = "abcdefgh"
LENGTH = 8
PROMPTS = [f"{first}{second}" for first in LETTERS for second in LETTERS]
TRAIN, HELDOUT = PROMPTS[::2], PROMPTS[1::2][:24]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {token: number for number, token in enumerate(["<pad>", "<eos>", *LETTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")


def tiny_policy(seed: int = 0) -> Qwen2ForCausalLM:
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=2 + len(LETTERS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=32,
        pad_token_id=0,
        eos_token_id=1,
    )
    return Qwen2ForCausalLM(config)


def share_of_a(completions: Sequence[str], **_: Any) -> list[float]:
    """The reward of training, which is not quite what is wanted."""
    return [text.count("a") / LENGTH for text in completions]


def wanted(_task: int, completions: Sequence[str]) -> list[bool]:
    """What is wanted: two to five letters "a"."""
    return [2 <= text.count("a") <= 5 for text in completions]


def heldout_rate(model: Any, evaluator: GenerationEvaluator, samples: int = 64) -> float:
    torch.manual_seed(1)
    counts = evaluator(model.eval(), samples, range(len(HELDOUT)))
    return sum(counts) / (samples * len(counts))


def train(folder: Path, *, guarded: bool, steps: int = 40) -> tuple[float, CollapseGuardCallback | None]:
    """Trains; returns the held-out pass rate of the kept policy, and the callback with its decisions."""
    tokenizer = tiny_tokenizer()
    evaluator = GenerationEvaluator(
        tokenizer=tokenizer, prompts=HELDOUT, passed=wanted, max_new_tokens=LENGTH, temperature=1.0, batch=512
    )
    # the one line a user adds, and its callback
    callback = CollapseGuardCallback(evaluate=evaluator, tasks=len(HELDOUT), guard=CollapseGuard()) if guarded else None
    trainer = GRPOTrainer(
        model=tiny_policy(),
        reward_funcs=share_of_a,
        args=GRPOConfig(
            output_dir=str(folder),
            max_steps=steps,
            learning_rate=1e-2,
            lr_scheduler_type="constant",
            per_device_train_batch_size=32,
            num_generations=8,
            max_completion_length=LENGTH,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            bf16=False,
        ),
        train_dataset=Dataset.from_dict({"prompt": TRAIN}),
        processing_class=tokenizer,
        callbacks=[callback] if callback else [],
    )
    trainer.train()
    return heldout_rate(trainer.model, evaluator), callback


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as folder:
        free, _ = train(Path(folder) / "free", guarded=False, steps=steps)
        kept, callback = train(Path(folder) / "guarded", guarded=True, steps=steps)
    assert callback is not None
    for step, decision in callback.decisions:
        if decision.action != "continue":
            print(f"step {step}: {decision.action}. {decision.reason}")
    print(f"held-out pass@1 without the guard {free:.1%}, with it {kept:.1%}")


if __name__ == "__main__":
    main()
